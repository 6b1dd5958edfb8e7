//! The update as a table, for runs, dead jobs, schedules, events and what the overview leads to.

use super::other_samples;
use super::playing::{order, play, query, typed, typical};
use super::samples::{self, NOON, key, press, state, told};
use crate::domain::Ms;
use crate::tui::msg::{Body, Code, Effect, Msg, Order, Query, Target, Verb};
use crate::tui::once::frame;
use crate::tui::rows::Rows;
use crate::tui::state::{Overlay, State};
use crate::tui::views::View;

fn selected(state: &State) -> &str {
    state.page().id_at(state.page().cursor.at).unwrap_or_default()
}

/// Moves down until a row is selected.
fn down_to(state: &mut State, id: &str) -> Vec<Effect> {
    let mut effects = play(state, [key('g')]);
    for _ in 0..state.page().len() {
        if selected(state) == id {
            return effects;
        }
        effects = play(state, [key('j')]);
    }
    panic!("{id} is no row: {}", frame(state));
}

#[test]
fn a_list_of_runs_is_narrowed_by_state_filter_and_trouble() {
    let mut state = typical(View::Runs);
    let effects = play(&mut state, [press(Code::Right), press(Code::Right)]);
    let Some(Query::Runs(runs)) = query(&effects) else { panic!("{effects:?}") };
    assert_eq!((runs.states.as_slice(), runs.problems), (&[crate::domain::RunState::Running][..], false));
    let effects = play(&mut state, [key('!')]);
    assert!(matches!(query(&effects), Some(Query::Runs(runs)) if runs.problems));
    let effects = play(&mut state, typed("/workflow:order* age<1h"));
    assert!(matches!(query(&effects), Some(Query::Runs(runs)) if runs.filter == "workflow:order* age<1h"));
    play(&mut state, typed(" nonsense:1").chain([press(Code::Enter)]));
    assert!(matches!(&state.overlay, Some(Overlay::Filter { error: Some(_), .. })));
}

#[test]
fn enter_opens_a_run_and_folds_what_is_inside() {
    let mut state = typical(View::Runs);
    let effects = play(&mut state, [press(Code::Enter)]);
    assert_eq!(query(&effects), Some(&Query::Run { id: samples::id(3_000), log_of: None }));
    state = told(state, samples::typical(View::Run));
    let whole = state.page().len();
    down_to(&mut state, "reserve");
    play(&mut state, [press(Code::Enter)]);
    assert_eq!((state.page().len(), selected(&state)), (whole - 3, "reserve"));
    play(&mut state, [press(Code::Enter)]);
    assert_eq!(state.page().len(), whole);
    // What comes next keeps the folds and the selection.
    play(&mut state, [press(Code::Enter)]);
    state = told(state, samples::typical(View::Run));
    assert_eq!((state.page().len(), selected(&state)), (whole - 3, "reserve"));
    // A step that is a job leads to it.
    down_to(&mut state, "validate");
    let effects = play(&mut state, [press(Code::Enter)]);
    assert_eq!(query(&effects), Some(&Query::Job { id: samples::id(77) }));
}

#[test]
fn the_log_is_that_of_the_selected_step() {
    let mut state = typical(View::Run);
    let effects = down_to(&mut state, "reserve[1]");
    let wanted = Query::Run { id: samples::id(3_000), log_of: Some(samples::id(101)) };
    assert_eq!(query(&effects), Some(&wanted));
    assert_eq!(query(&play(&mut state, [Msg::Tick(Ms(NOON.0 + 100))])), None, "it is asked for once");
    assert!(!frame(&state).contains("checking o-1"), "the log of another step is not shown as its own");
    down_to(&mut state, "validate");
    assert!(frame(&state).contains("checking o-1"));
    let effects = play(&mut state, [key('L')]);
    assert_eq!((query(&effects), state.page().follow), (Some(&Query::Job { id: samples::id(77) }), true));
}

#[test]
fn a_runs_past_is_a_key_away() {
    let mut state = typical(View::Run);
    play(&mut state, [key('[')]);
    let before = frame(&state);
    assert!(before.contains("in the past: event 9 of 10") && before.contains("step.started reserve[1]"), "{before}");
    play(&mut state, (0..20).map(|_| key('[')));
    let began = frame(&state);
    assert!(began.contains("event 0 of 10") && began.contains("this is where it began"), "{began}");
    assert!(!began.contains("✓ completed"), "{began}");
    play(&mut state, typed("]]]"));
    let later = frame(&state);
    assert!(later.contains("event 3 of 10") && later.contains("validate") && later.contains("✓ completed"), "{later}");
    // What comes meanwhile does not move the moment; Esc leads back to now, and only then out.
    state = told(state, samples::typical(View::Run));
    assert_eq!(state.page().moment, Some(3));
    play(&mut state, [press(Code::Esc)]);
    assert_eq!((state.page().moment, state.page().view), (None, View::Run));
    play(&mut state, [key('[')]);
    play(&mut state, [key(']')]);
    assert_eq!(state.page().moment, None);
}

#[test]
fn verbs_on_runs_ask_where_they_must() {
    let mut state = typical(View::Runs);
    let effects = play(&mut state, [key('p')]);
    let target = |paused| Target::Runs(vec![(samples::id(3_000 + u64::from(paused)), paused)]);
    assert_eq!(order(&effects), Some(&Order { verb: Verb::Pause, target: target(false) }));
    let effects = play(&mut state, [key('j'), key('p')]);
    assert_eq!(order(&effects), Some(&Order { verb: Verb::Pause, target: target(true) }));
    let effects = play(&mut state, [key('x'), press(Code::Enter)]);
    assert_eq!((order(&effects), state.overlay.is_none()), (None, true), "Cancel has the focus");
    let effects = play(&mut state, [key('x'), press(Code::Tab), press(Code::Enter)]);
    assert_eq!(order(&effects), Some(&Order { verb: Verb::Cancel, target: target(true) }));
    let mut state = typical(View::Run);
    let effects = play(&mut state, typed("ry"));
    assert_eq!(order(&effects), Some(&Order { verb: Verb::Retry, target: target(false) }));
    state.about.read_only = true;
    for verb in ["p", "x", "r", "a", "X", "n"] {
        assert_eq!(order(&play(&mut state, typed(verb))), None);
        assert!(state.overlay.is_none() && state.flash.as_ref().is_some_and(|flash| flash.text.contains("read-only")));
    }
}

#[test]
fn an_approval_is_answered_by_a_name() {
    let mut state = typical(View::Run);
    play(&mut state, [key('a')]);
    let shown = frame(&state);
    assert!(shown.contains("approve route/high/approve of run") && shown.contains("ann group:finance"), "{shown}");
    let effects =
        play(&mut state, [press(Code::Tab)].into_iter().chain(typed("as agreed")).chain([press(Code::Enter)]));
    let target = Target::Answer {
        run: samples::id(3_000),
        step: Some("route/high/approve".to_owned()),
        by: vec!["ann".to_owned(), "group:finance".to_owned()],
        comment: Some("as agreed".to_owned()),
    };
    assert_eq!(order(&effects), Some(&Order { verb: Verb::Approve, target }));
    assert_eq!(state.overlay, None);
    play(&mut state, [key('X'), press(Code::Esc)]);
    assert_eq!(state.overlay, None);
    // Where nothing waits, that is said.
    let mut state = typical(View::Runs);
    play(&mut state, [key('a')]);
    assert!(state.flash.as_ref().is_some_and(|flash| flash.bad && flash.text.contains("nothing waits")));
}

#[test]
fn a_signal_is_checked_before_it_is_sent() {
    let mut state = typical(View::Run);
    // Nothing waits for one yet, so it is named by hand.
    play(&mut state, [key('n')].into_iter().chain(typed("go")).chain([press(Code::Tab)]));
    let effects = play(&mut state, typed("{\"n\": ").chain([press(Code::Enter)]));
    assert_eq!(order(&effects), None);
    assert!(matches!(&state.overlay, Some(Overlay::Form(form)) if form.error.is_some()), "{:?}", state.overlay);
    let effects = play(&mut state, typed("1}").chain([press(Code::Enter)]));
    let target = Target::Signal { run: samples::id(3_000), name: "go".to_owned(), data: "{\"n\": 1}".to_owned() };
    assert_eq!(order(&effects), Some(&Order { verb: Verb::Signal, target }));
    assert_eq!(order(&play(&mut state, [key('n'), press(Code::Enter)])), None, "a signal has a name");
    play(&mut state, [press(Code::Esc)]);
    // Where a step waits for one, that is what is proposed.
    let mut detail = other_samples::run_detail(1);
    detail.steps.push(crate::tui::run_page::StepNow::new("paid", crate::domain::StepState::Waiting));
    let mut state = told(state, Body::Run(Box::new(detail)));
    let effects = play(&mut state, [key('n'), press(Code::Enter)]);
    let target = Target::Signal { run: samples::id(3_000), name: "paid".to_owned(), data: "null".to_owned() };
    assert_eq!(order(&effects), Some(&Order { verb: Verb::Signal, target }));
}

#[test]
fn a_group_of_dead_jobs_is_opened_and_acted_on_as_a_whole() {
    let mut state = typical(View::Dlq);
    let filter = selected(&state).to_owned();
    assert!(filter.starts_with("type:resize-0 error:"), "{filter}");
    let effects = play(&mut state, [key('r')]);
    let target = Target::Dead(vec![filter.clone()]);
    let wanted = Order { verb: Verb::Retry, target };
    assert!(effects.contains(&Effect::Survey(wanted.clone())), "{effects:?}");
    let effects = play(&mut state, [press(Code::Tab), press(Code::Enter)]);
    assert_eq!(order(&effects), Some(&wanted));
    let effects = play(&mut state, typed("*Dy"));
    let Some(Order { verb: Verb::Delete, target: Target::Dead(all) }) = order(&effects) else { panic!("{effects:?}") };
    assert_eq!(all.len(), 3);
    play(&mut state, [press(Code::Esc)]);
    assert_eq!(play(&mut state, [key('e')]), [Effect::Edit(samples::id(0))], "the one that died last");
    let effects = play(&mut state, [press(Code::Enter)]);
    let Some(Query::Jobs(jobs)) = query(&effects) else { panic!("{effects:?}") };
    assert_eq!((jobs.states.as_slice(), &jobs.filter), (&[crate::domain::JobState::Dead][..], &filter));
    assert_eq!(crate::tui::update::first(&mut state).len(), 1);
}

#[test]
fn a_schedule_is_triggered_and_paused() {
    let mut state = typical(View::Schedules);
    let one = |n: u64, paused| Target::Schedules(vec![(format!("nightly-{n}"), paused)]);
    let effects = play(&mut state, typed("ty"));
    assert_eq!(order(&effects), Some(&Order { verb: Verb::Trigger, target: one(0, false) }));
    let effects = play(&mut state, typed("jp"));
    assert_eq!(order(&effects), Some(&Order { verb: Verb::Pause, target: one(1, true) }));
    let effects = play(&mut state, [press(Code::Enter)]);
    assert!(matches!(query(&effects), Some(Query::Run { .. })), "to what it started last: {effects:?}");
}

#[test]
fn events_are_followed_until_somebody_reads() {
    let events = |n| other_samples::some(View::Events, n);
    let mut state = told(state(View::Events, (100, 30)), events(50));
    assert_eq!(selected(&state), samples::id(9_049));
    state = told(state, events(60));
    assert_eq!(selected(&state), samples::id(9_059));
    play(&mut state, [key('k')]);
    state = told(state, events(70));
    assert_eq!((selected(&state), state.page().follow), (samples::id(9_058).as_str(), false));
    play(&mut state, [key('f')]);
    assert_eq!(selected(&state), samples::id(9_069));
    // An event leads to what it is about.
    let effects = play(&mut state, [key('g'), press(Code::Enter)]);
    assert_eq!(query(&effects), Some(&Query::Job { id: samples::id(0) }));
}

#[test]
fn lines_of_the_overview_lead_to_what_they_are_about() {
    let mut state = typical(View::Overview);
    let Some(Body::Overview(overview)) = &state.page().body else { panic!("the overview") };
    let (notices, failures) = overview.starts();
    assert_eq!((notices, failures, overview.len()), (3, 4, 8));
    let effects = play(&mut state, (0..3).map(|_| key('j')).chain([press(Code::Enter)]));
    assert_eq!(query(&effects), Some(&Query::Run { id: samples::id(3_000), log_of: None }));
    assert_eq!(state.page().cursor.id.as_deref(), Some("sign"));
    play(&mut state, [press(Code::Esc)]);
    play(&mut state, [key('X')]);
    assert!(matches!(&state.overlay, Some(Overlay::Form(form)) if form.title.starts_with("reject sign")));
    play(&mut state, [press(Code::Esc), key('j')]);
    let effects = play(&mut state, [key('r')]);
    assert_eq!(order(&effects), Some(&Order { verb: Verb::Retry, target: Target::Jobs(vec![samples::id(0)]) }));
    let effects = play(&mut state, [key('p')]);
    assert_eq!((order(&effects), state.flash.as_ref().map(|flash| flash.bad)), (None, Some(true)));
    let effects = play(&mut state, [press(Code::Enter)]);
    assert_eq!(query(&effects), Some(&Query::Job { id: samples::id(0) }));
}

#[test]
fn a_recording_goes_by_single_looks() {
    let mut state = typical(View::Runs);
    assert_eq!(play(&mut state, [key('.')]), []);
    state.about.is_recording = true;
    assert!(play(&mut state, [key('.')]).contains(&Effect::Step(1)));
    assert!(play(&mut state, [key(',')]).contains(&Effect::Step(-1)));
    assert!(play(&mut state, [key('R')]).contains(&Effect::Step(0)));
    assert_eq!(order(&play(&mut state, [key('p')])), None);
}

#[test]
fn runs_come_in_parts() {
    let Body::Part(part) = other_samples::some(View::Runs, 150) else { panic!("runs") };
    let body = Body::Part(crate::tui::msg::Part { second: Some((40, "0/x".to_owned())), more: true, ..part });
    let mut state = told(state(View::Runs, (100, 30)), body);
    let effects = play(&mut state, [press(Code::End)]);
    let Some(Query::Runs(runs)) = query(&effects) else { panic!("{effects:?}") };
    assert_eq!((runs.from.as_deref(), state.page().len()), (Some("0/x"), 110));
    assert!(matches!(state.page().rows(), Some(Rows::Runs(_))));
}
