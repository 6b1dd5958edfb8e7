//! The update as a table, for shards, for what is marked beyond what is here, and for sorting.

use super::other_samples;
use super::playing::{asked, order, play, query, typed, typical};
use super::samples::{self, NOON, key, press, state, told};
use crate::domain::{JobState, RunState};
use crate::tui::msg::{Body, Code, Effect, JobsPart, Key, Msg, Notice, Order, Overview, Query, Subject, Target, Verb};
use crate::tui::once::frame;
use crate::tui::rows::Rows;
use crate::tui::state::Overlay;
use crate::tui::update::update;
use crate::tui::views::View;

#[test]
fn shards_are_spoken_of_only_where_there_are_some() {
    let mut state = typical(View::Queues);
    assert!(!frame(&state).contains("9 Shards"));
    assert_eq!(query(&play(&mut state, [key('9')])), None);
    assert!(state.flash.as_ref().is_some_and(|flash| flash.text.contains("goflow shard add")));
    play(&mut state, [key('?')]);
    assert!(!frame(&state).contains("go to the shards"));
    play(&mut state, [press(Code::Esc)]);
    state.about.sharded = true;
    assert!(frame(&state).contains("9 Shards"));
    let wanted = Query::Shards { filter: String::new() };
    assert_eq!(query(&play(&mut state, [key('9')])), Some(&wanted));
    // The tab to the right of the last is the first.
    play(&mut state, [press(Code::Right)]);
    assert_eq!(state.page().view, View::Overview);
}

#[test]
fn all_tabs_are_named_on_the_narrowest_screen() {
    for columns in 60..=120 {
        // What is said beside them takes its part.
        for read_only in [false, true].into_iter().filter(|read_only| !read_only || columns >= 72) {
            for view in View::TABS {
                let mut state = told(state(*view, (columns, 24)), samples::empty(*view));
                (state.about.sharded, state.about.read_only) = (true, read_only);
                let line = frame(&state).lines().nth(1).unwrap_or_default().to_owned();
                for tab in View::TABS {
                    let number = tab.number().expect("a tab has a number");
                    let name = if tab == view { tab.title() } else { tab.title().get(..3).expect("three letters") };
                    assert!(line.contains(&format!("{number} {name}")), "{columns} {view:?}: {line}");
                }
            }
        }
    }
}

#[test]
fn a_shard_is_drained_to_where_the_least_waits_and_removed_after_a_question() {
    let mut state = typical(View::Shards);
    play(&mut state, [key('d')]);
    let Some(Overlay::Form(form)) = &state.overlay else { panic!("a form") };
    // Of three, 0 is drained here, 1 is away, and 2 drains itself.
    assert_eq!((form.title.as_str(), form.fields[0].text.as_str()), ("drain shard 0: it takes no new work", ""));
    let effects = play(&mut state, [press(Code::Enter)]);
    let wanted = Order { verb: Verb::Drain, target: Target::DrainShard { id: 0, into: None } };
    assert_eq!(order(&effects), Some(&wanted));
    let mut state = told(state_of_shards(), other_samples::some(View::Shards, 8));
    let effects = play(&mut state, [key('d'), press(Code::Enter)]);
    assert_eq!(order(&effects).map(|order| &order.target), Some(&Target::DrainShard { id: 0, into: Some(3) }));
    // What was begun goes on to where it went.
    let effects = play(&mut state, typed("jjd").chain([press(Code::Enter)]));
    assert_eq!(order(&effects).map(|order| &order.target), Some(&Target::DrainShard { id: 2, into: Some(0) }));
    play(&mut state, [key('d'), press(Code::Backspace), key('2'), press(Code::Enter)]);
    assert!(matches!(&state.overlay, Some(Overlay::Form(form)) if form.error.is_some()), "not to itself");
    let effects = play(&mut state, [press(Code::Esc), key('D')]);
    assert_eq!(order(&effects), None);
    assert!(frame(&state).contains("remove shard 2?") && frame(&state).contains(" remove "), "{}", frame(&state));
    let effects = play(&mut state, [key('y')]);
    assert_eq!(order(&effects), Some(&Order { verb: Verb::Delete, target: Target::Shard(2) }));
    // One that is gone is gone.
    play(&mut state, typed("jjd"));
    assert!(state.overlay.is_none() && state.flash.as_ref().is_some_and(|flash| flash.bad));
}

#[test]
fn a_shard_is_drained_to_one_that_the_filter_leaves_out() {
    let alone = crate::tui::rows::ShardRow { carried_to: Some(7), ..other_samples::shard(0) };
    let mut state = told(state_of_shards(), Body::List(Rows::Shards(vec![alone])));
    let effects = play(&mut state, [key('d'), press(Code::Enter)]);
    assert_eq!(order(&effects).map(|order| &order.target), Some(&Target::DrainShard { id: 0, into: Some(7) }));
}

fn state_of_shards() -> crate::tui::state::State {
    state(View::Shards, (120, 30))
}

#[test]
fn a_shard_is_added_by_its_url_or_beside_the_others() {
    let mut state = told(state_of_shards(), other_samples::some(View::Shards, 5));
    play(&mut state, typed("Anonsense").chain([press(Code::Enter)]));
    assert!(matches!(&state.overlay, Some(Overlay::Form(form)) if form.error.is_some()));
    let ctrl_u = crate::tui::msg::Msg::Key(crate::tui::msg::Key { code: Code::Char('u'), ctrl: true });
    let effects = play(&mut state, [ctrl_u].into_iter().chain(typed("redis://r:1")).chain([press(Code::Enter)]));
    let add = |url: Option<&str>| Target::AddShard { url: url.map(str::to_owned) };
    assert_eq!(order(&effects), Some(&Order { verb: Verb::Add, target: add(Some("redis://r:1")) }));
    assert!(state.flash.as_ref().is_some_and(|flash| flash.text.contains("adding")));
    let effects = play(&mut state, [key('A'), press(Code::Enter)]);
    assert_eq!(order(&effects).map(|order| &order.target), Some(&add(None)));
}

#[test]
fn a_shard_in_trouble_is_a_line_of_the_overview_that_leads_to_it() {
    let notice = Notice {
        id: "away/1".to_owned(),
        subject: Some(Subject::Shard("1".to_owned())),
        text: "shard 1 does not answer: connection refused".to_owned(),
        since: None,
        bad: true,
    };
    let overview = Overview { notices: vec![notice], ..Overview::default() };
    let mut state = told(state(View::Overview, (100, 30)), Body::Overview(Box::new(overview)));
    assert!(frame(&state).contains("✗ shard 1 does not answer"), "{}", frame(&state));
    let effects = play(&mut state, [press(Code::Enter)]);
    assert_eq!(query(&effects), Some(&Query::Shards { filter: String::new() }));
    state = told(state, samples::typical(View::Shards));
    assert_eq!(state.page().subject(), Some("1"));
}

#[test]
fn all_runs_that_match_are_more_than_are_here() {
    let mut state = typical(View::Runs);
    play(&mut state, typed("/workflow:order*").chain([press(Code::Enter), press(Code::Right), press(Code::Right)]));
    state = told(state, samples::typical(View::Runs));
    let effects = play(&mut state, typed("*x"));
    let target =
        Target::RunsMatching { states: vec![RunState::Running], filter: "workflow:order*".to_owned(), problems: false };
    let wanted = Order { verb: Verb::Cancel, target };
    assert!(effects.contains(&Effect::Survey(wanted.clone())), "{effects:?}");
    assert!(frame(&state).contains("cancel every running run that matches workflow:order*?"), "{}", frame(&state));
    assert_eq!(order(&play(&mut state, [key('y')])), Some(&wanted));
    // Again: none; then the letters are for the selected one.
    let effects = play(&mut state, typed("*p"));
    assert!(matches!(order(&effects).map(|order| &order.target), Some(Target::Runs(runs)) if runs.len() == 1));
}

#[test]
fn what_is_narrowed_to_problems_is_acted_on_no_wider() {
    let mut state = typical(View::Jobs);
    play(&mut state, [key('!')]);
    state = told(state, samples::typical(View::Jobs));
    let effects = play(&mut state, typed("*Dy"));
    let states = vec![JobState::Retrying, JobState::Dead];
    let wanted = Target::Matching { states, filter: String::new() };
    assert_eq!(order(&effects).map(|order| &order.target), Some(&wanted));
}

#[test]
fn jobs_are_sorted_where_all_of_them_are_here_and_only_there() {
    let ids = |state: &crate::tui::state::State| match &state.page().body {
        Some(Body::Jobs(part)) => part.rows.iter().map(|row| row.kind.clone()).collect::<Vec<_>>(),
        _ => Vec::new(),
    };
    let part = |more| {
        let rows = (0..3).map(|n| samples::job(n, JobState::Dead)).collect();
        Body::Jobs(JobsPart { rows, more, ..JobsPart::default() })
    };
    let mut state = told(state(View::Jobs, (100, 30)), part(false));
    assert_eq!(ids(&state), ["send_email", "resize-image", "invoice"]);
    play(&mut state, [key('s')]);
    assert_eq!(ids(&state), ["invoice", "resize-image", "send_email"]);
    assert!(frame(&state).contains("TYPE↑"));
    play(&mut state, [key('S')]);
    assert_eq!(ids(&state), ["send_email", "resize-image", "invoice"]);
    // The part of a longer list stays as it came, and says why.
    state = told(state, part(true));
    assert!(!frame(&state).contains("TYPE↓"));
    assert_eq!(query(&play(&mut state, [key('s')])), None);
    assert!(state.flash.as_ref().is_some_and(|flash| flash.text.contains("only a part")));
}

#[test]
fn the_queues_of_the_overview_are_sorted_and_then_as_they_came() {
    let mut state = typical(View::Overview);
    let names = |state: &crate::tui::state::State| match &state.page().body {
        Some(Body::Overview(overview)) => overview.queues.iter().map(|queue| queue.name.clone()).collect::<Vec<_>>(),
        _ => Vec::new(),
    };
    play(&mut state, [key('s')]);
    assert_eq!(names(&state), ["default", "mail", "reports"]);
    let mut presses = 0;
    while asked(&update(&mut state, key('s'))).is_none() {
        presses += 1;
        assert!(presses < 20, "after the last column the order is as it came");
    }
    state = told(state, samples::typical(View::Overview));
    assert_eq!(names(&state), ["default", "reports", "mail"]);
}

#[test]
fn runs_that_failed_are_among_the_latest_failures_and_lead_there() {
    let failures = vec![samples::job(1, JobState::Dead), samples::job(9, JobState::Dead)];
    let failed_runs = vec![other_samples::run(4, RunState::Failed)];
    let overview = Overview { failures, failed_runs, ..Overview::default() };
    let ids: Vec<&str> = overview.latest().iter().map(crate::tui::msg::Failure::id).collect();
    assert_eq!(ids, [samples::id(1), samples::id(3_004), samples::id(9)]);
    let mut state = told(state(View::Overview, (100, 30)), Body::Overview(Box::new(overview)));
    let effects = play(&mut state, [key('j'), press(Code::Enter)]);
    assert_eq!(query(&effects), Some(&Query::Run { id: samples::id(3_004), log_of: None }));
    assert!(state.now >= NOON && matches!(state.page().rows(), None | Some(Rows::Runs(_))));
}

#[test]
fn esc_and_a_key_that_came_as_one_do_nothing_to_the_work() {
    let esc_and = |c| Msg::EscAnd(Key { code: Code::Char(c), ctrl: false });
    // In a form it is Esc, and not a verb on the page below.
    let mut state = told(state_of_shards(), other_samples::some(View::Shards, 8));
    for (opens, with_alt) in [('A', 'd'), ('d', 'D'), ('d', 'A'), ('A', '1')] {
        play(&mut state, [key(opens)]);
        assert!(matches!(state.overlay, Some(Overlay::Form(_))));
        assert_eq!(play(&mut state, [esc_and(with_alt)]), []);
        assert!(state.overlay.is_none() && state.page().view == View::Shards, "{opens} {with_alt}");
    }
    // On a page the second key looks elsewhere, and does no verb, edits nothing and leaves nothing.
    let mut state = typical(View::Jobs);
    for verb in ['r', 'x', 'D', 'e', 'q', ':'] {
        assert_eq!(play(&mut state, [esc_and(verb)]), [], "{verb}");
        assert!(state.overlay.is_none() && !state.has_quit, "{verb}");
    }
    let mut state = typical(View::Queues);
    assert_eq!(order(&play(&mut state, [esc_and('p')])), None);
    play(&mut state, [esc_and('j')]);
    assert_eq!(state.page().cursor.at, 1);
    play(&mut state, [esc_and('3')]);
    assert_eq!(state.page().view, View::Jobs);
    let ctrl_c = Msg::EscAnd(Key { code: Code::Char('c'), ctrl: true });
    assert_eq!(play(&mut state, [key('?'), ctrl_c]), [Effect::Quit]);
}
