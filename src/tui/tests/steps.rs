//! The update as a table: what each message makes of a state, and what it asks for.

use super::playing::{asked, order, play, typed, typical};
use super::samples::{self, key, press, state, told};
use crate::domain::{JobState, Ms};
use crate::tui::msg::{
    Acted, Answer, Ask, Body, Code, Effect, JobsPart, Key, Mouse, Msg, Order, Query, Reply, Target, Verb,
};
use crate::tui::rows::Rows;
use crate::tui::state::{Link, State};
use crate::tui::update::update;
use crate::tui::views::View;

#[test]
fn a_tick_asks_again_only_when_that_is_of_use() {
    let tick = || Msg::Tick(Ms(samples::NOON.0 + 1_000));
    let mut state = typical(View::Queues);
    assert!(asked(&update(&mut state, tick())).is_some());
    assert_eq!(update(&mut state, tick()), [], "a question is open");
    let mut state = typical(View::Queues);
    assert_eq!(play(&mut state, [key('z'), tick()]), [], "it is frozen");
    let mut state = typical(View::Queues);
    let lost = Answer::Lost { why: "away".to_owned(), retry_at: samples::NOON };
    let lost = Msg::Reply(Reply { generation: state.generation, at: samples::NOON, answer: lost });
    assert_eq!(play(&mut state, [lost, tick()]), [], "the data task asks by itself");
}

#[test]
fn a_list_that_fills_again_does_not_shrink_and_is_not_filled_all_the_time() {
    let part = |rows: u64, filling| {
        let rows = (0..rows).map(|n| samples::job(n, JobState::Dead)).collect();
        Body::Jobs(JobsPart { rows, filling, looked: Some(100_000), ..JobsPart::default() })
    };
    let mut state = told(state(View::Jobs, (100, 30)), part(3, true));
    assert!(state.asked.is_some(), "the rest is still to come");
    state = told(state, part(9, false));
    assert_eq!((state.page().len(), state.asked), (9, None));
    // 100,000 records were looked at: that is not done again each second.
    let tick = |ms: i64| Msg::Tick(Ms(samples::NOON.0 + ms));
    assert_eq!(asked(&update(&mut state, tick(1_000))), None);
    assert!(asked(&update(&mut state, tick(6_000))).is_some());
    state = told(state, part(2, true));
    assert_eq!(state.page().len(), 9);
    state = told(state, part(2, false));
    assert_eq!(state.page().len(), 2);
    // A new question has nothing to do with what was shown.
    play(&mut state, [key('!')]);
    state = told(state, part(1, true));
    assert_eq!(state.page().len(), 1);
}

#[test]
fn a_late_answer_is_dropped_and_nothing_blanks() {
    let mut state = typical(View::Queues);
    let before = state.generation;
    play(&mut state, [key('3')]);
    let late = Reply { generation: before, at: samples::NOON, answer: Answer::Body(samples::full(View::Jobs)) };
    play(&mut state, [Msg::Reply(late)]);
    assert_eq!(state.page().body, None);
    // Back where one was, what was shown is there at once.
    play(&mut state, [key('2')]);
    assert_eq!(state.page().len(), 3);
}

#[test]
fn the_selection_follows_the_id() {
    let mut state = typical(View::Queues);
    play(&mut state, [key('j'), key('j')]);
    assert_eq!(state.page().subject(), Some("mail"));
    let Body::List(Rows::Queues(mut rows)) = samples::typical(View::Queues) else { panic!("queues") };
    rows.rotate_right(1);
    let mut state = told(state, Body::List(Rows::Queues(rows.clone())));
    assert_eq!((state.page().subject(), state.page().cursor.at), (Some("mail"), 0));
    // One that is gone leaves its place to the next.
    rows.remove(0);
    state = told(state, Body::List(Rows::Queues(rows)));
    assert_eq!(state.page().subject(), Some("default"));
}

#[test]
fn enter_goes_in_and_esc_comes_out_and_never_quits() {
    let mut state = typical(View::Queues);
    let effects = play(&mut state, [press(Code::Enter)]);
    let Some(Ask { query: Query::Jobs(query), .. }) = asked(&effects) else { panic!("{effects:?}") };
    assert_eq!(query.filter, "queue:default");
    state = told(state, samples::typical(View::Jobs));
    play(&mut state, [press(Code::Enter)]);
    assert_eq!((state.page().view, state.stack.len()), (View::Job, 3));
    for _ in 0..9 {
        assert!(!play(&mut state, [press(Code::Esc)]).contains(&Effect::Quit));
    }
    assert_eq!((state.page().view, state.stack.len()), (View::Queues, 1));
    assert_eq!(play(&mut state, [key('q')]), [Effect::Quit]);
}

#[test]
fn a_filter_is_applied_as_it_is_typed_and_once_it_can_be_read() {
    let mut state = typical(View::Queues);
    let effects = play(&mut state, typed("/dead>"));
    assert_eq!(asked(&effects), None);
    let effects = play(&mut state, typed("1"));
    assert_eq!(asked(&effects).map(|ask| &ask.query), Some(&Query::Queues { filter: "dead>1".to_owned() }));
    // Enter keeps it, Esc would have brought back what was before.
    play(&mut state, [press(Code::Enter)]);
    assert_eq!((state.overlay.is_none(), state.page().filter.as_str()), (true, "dead>1"));
    play(&mut state, typed("/ pen").chain([press(Code::Esc)]));
    assert_eq!(state.page().filter, "dead>1");
    play(&mut state, typed("/ nope:1").chain([press(Code::Enter)]));
    assert!(state.overlay.is_some(), "a filter that cannot be read is not taken");
}

#[test]
fn dangerous_verbs_ask_and_cancel_has_the_focus() {
    let mut state = typical(View::Jobs);
    let effects = play(&mut state, [key('x'), press(Code::Enter)]);
    assert_eq!((order(&effects), state.overlay.is_none()), (None, true));
    let effects = play(&mut state, [key('x'), press(Code::Tab), press(Code::Enter)]);
    let wanted = Order { verb: Verb::Cancel, target: Target::Jobs(vec![samples::id(0)]) };
    assert_eq!(order(&effects), Some(&wanted));
    // One job is retried without a question.
    let effects = play(&mut state, [key('r')]);
    assert_eq!(order(&effects).map(|order| order.verb), Some(Verb::Retry));
}

#[test]
fn marks_are_what_verbs_act_on() {
    let mut state = typical(View::Jobs);
    let effects = play(&mut state, typed("  ry"));
    let wanted = Target::Jobs(vec![samples::id(0), samples::id(1)]);
    assert_eq!(order(&effects).map(|order| &order.target), Some(&wanted));
    let mut state = typical(View::Jobs);
    let effects = play(&mut state, typed(" jvDy"));
    assert_eq!(order(&effects).map(|order| &order.target), Some(&Target::Jobs((0..3).map(samples::id).collect())));
    // All that match are meant by the filter, not by what is here.
    let mut state = typical(View::Jobs);
    play(&mut state, [press(Code::Left)]);
    state = told(state, samples::typical(View::Jobs));
    let effects = play(&mut state, typed("*xy"));
    let wanted = Target::Matching { states: vec![JobState::Cancelled], filter: String::new() };
    assert_eq!(order(&effects).map(|order| &order.target), Some(&wanted));
}

#[test]
fn a_verb_that_may_not_be_says_why() {
    let mut state = typical(View::Queues);
    state.about.read_only = true;
    let effects = play(&mut state, [key('p')]);
    assert_eq!(effects, []);
    assert!(state.flash.as_ref().is_some_and(|flash| flash.bad && flash.text.contains("read-only")));
    let mut state = typical(View::Queues);
    state.link = Link::Lost { since: samples::NOON, retry_at: samples::NOON, why: "away".to_owned() };
    assert_eq!(play(&mut state, [key('p')]), []);
    assert!(state.flash.as_ref().is_some_and(|flash| flash.text.contains("no connection")));
}

#[test]
fn what_was_done_is_told_with_its_command_and_leaves_no_marks() {
    let mut state = typical(View::Jobs);
    play(&mut state, typed("  "));
    let told = |failed| {
        let (sentence, command) = ("retried 2 jobs".to_owned(), "goflow job retry a b".to_owned());
        let answer = Answer::Acted(Acted { sentence, command, failed });
        Msg::Reply(Reply { generation: 0, at: samples::NOON, answer })
    };
    play(&mut state, [told(true)]);
    assert_eq!(state.page().marks.len(), 2, "what failed may be tried again");
    let effects = play(&mut state, [told(false)]);
    assert!(asked(&effects).is_some() && state.page().marks.is_empty());
    let flash = state.flash.as_ref().and_then(|flash| flash.command.as_deref());
    assert_eq!(flash, Some("goflow job retry a b"));
}

#[test]
fn a_queue_is_paused_and_resumed_by_the_same_key() {
    let mut state = typical(View::Queues);
    let effects = play(&mut state, [key('p')]);
    let target = |name: &str, paused| Some(Target::Queues(vec![(name.to_owned(), paused)]));
    assert_eq!(order(&effects).map(|order| order.target.clone()), target("default", false));
    let effects = play(&mut state, [key('j'), key('p')]);
    assert_eq!(order(&effects).map(|order| order.target.clone()), target("reports", true));
}

#[test]
fn a_long_list_is_asked_for_in_parts() {
    let mut state = told(state(View::Jobs, (100, 30)), samples::full(View::Jobs));
    let before = state.generation;
    let last = press(Code::End);
    let effects = play(&mut state, [last]);
    let Some(Ask { generation, query: Query::Jobs(query) }) = asked(&effects) else { panic!("{effects:?}") };
    assert_eq!((query.from.as_deref(), *generation), (Some("2/a"), before + 1));
    assert_eq!(state.page().subject(), Some(samples::id(149).as_str()));
    assert_eq!(state.page().len(), 110, "what is above the new part is not kept");
    // Up again, the part before is asked for.
    let rows = (40..190).map(|n| samples::job(n, JobState::Pending)).collect();
    state = told(state, Body::Jobs(JobsPart { rows, more: false, ..JobsPart::default() }));
    assert_eq!(state.page().subject(), Some(samples::id(149).as_str()));
    let effects = play(&mut state, (0..20).map(|_| press(Code::PageUp)));
    let again: Vec<&Query> = asked(&effects).map(|ask| &ask.query).into_iter().collect();
    assert!(again.is_empty() && state.page().window.from.is_none(), "{again:?}");
    assert!(state.page().window.before.is_empty());
}

#[test]
fn the_mouse_selects_opens_and_goes() {
    let mut state = typical(View::Queues);
    let list = crate::tui::layout::of(&state).list;
    play(&mut state, [Msg::Mouse(Mouse::Click(5, list.y + 1))]);
    assert_eq!(state.page().subject(), Some("reports"));
    play(&mut state, [Msg::Mouse(Mouse::Click(5, list.y + 1))]);
    assert_eq!(state.page().filter, "queue:reports");
    let mut state = typical(View::Queues);
    play(&mut state, [Msg::Mouse(Mouse::Click(2, 1))]);
    assert_eq!(state.page().view, View::Overview);
    play(&mut state, [Msg::Mouse(Mouse::Click(41, 1))]);
    assert_eq!(state.page().view, View::Workers);
}

#[test]
fn rows_are_sorted_by_each_column_in_turn() {
    let mut state = typical(View::Queues);
    let names = |state: &State| state.page().rows().map(Rows::ids).unwrap_or_default();
    play(&mut state, [key('s')]);
    assert_eq!(names(&state), ["default", "mail", "reports"]);
    play(&mut state, [key('s'), key('s')]);
    assert_eq!(names(&state), ["mail", "reports", "default"], "by what waits, most first");
    play(&mut state, [key('S')]);
    assert_eq!(names(&state), ["default", "reports", "mail"]);
    // What comes next is sorted too.
    let state = told(state, samples::typical(View::Queues));
    assert_eq!(names(&state), ["default", "reports", "mail"]);
}

#[test]
fn the_palette_finds_and_does() {
    let mut state = typical(View::Queues);
    let effects = play(&mut state, typed(":workers").chain([press(Code::Enter)]));
    assert_eq!((state.page().view, asked(&effects).is_some()), (View::Workers, true));
    let mut state = typical(View::Queues);
    let ctrl = |c| Msg::Key(Key { code: Code::Char(c), ctrl: true });
    assert_eq!(play(&mut state, typed(":x").chain([ctrl('c')])), [Effect::Quit], "whatever is open");
}
