//! Simulations of whole runs, with children, signals, approvals, retries and virtual time.

use super::advance::tests::definition;
use super::*;
use crate::domain::run::RunState;
use crate::domain::{EventKind, Json, Ms};

fn play(text: &str, input: &str, script: &Script) -> Simulated {
    let input = Json::parse(input, 1 << 20).expect("JSON");
    simulate(&definition(text), &[], input, script, Ms(1_000)).unwrap_or_else(|error| panic!("{error}"))
}

const ORDER: &str = "
name: order
input: {amount: {type: number, required: true}}
steps:
  - {id: validate, run: [./validate], outputs: json}
  - {id: charge, needs: [validate], job: pay, retry: {max: 2, initial: 1s, jitter: 0}, compensate: {job: refund}}
  - {id: reserve, needs: [charge], foreach: {items: \"['a', 'b']\"}, job: hold, compensate: {job: free}}
  - id: route
    needs: [reserve]
    switch:
      cases:
        - {name: high, when: input.amount > 1000, steps: [{id: ok, approval: {approvers: [ann], timeout: 24h, on_timeout: reject}}]}
  - {id: paid, needs: [route], wait: {signal: paid, timeout: 3d}}
  - {id: ship, needs: [paid], job: echo, with: {n: \"${{ steps.paid.outputs.n }}\"}}
outputs: {n: \"${{ steps.ship.outputs.n }}\"}
";

#[test]
fn an_order_goes_through_with_what_people_do() {
    let mut script = Script::default();
    script.signals.push(("paid".parse().expect("a name"), Json::parse("{\"n\":7}", 99).expect("JSON")));
    let done = play(ORDER, "{\"amount\": 5000}", &script);
    assert_eq!(
        (done.run.state, done.output.map(|output| output.to_string())),
        (RunState::Completed, Some("{\"n\":7}".into()))
    );
    assert_eq!(done.branches, [("route".to_owned(), vec!["high".to_owned()])]);
    assert!(done.waiting.is_empty() && done.undone.is_empty());
    assert!(done.took < std::time::Duration::from_secs(60));
    // Without the signal the time of the wait passes, and the failure undoes what was done.
    let late = play(ORDER, "{\"amount\": 5}", &Script::default());
    assert_eq!(
        (late.run.state, late.undone.as_slice()),
        (RunState::Compensated, &["reserve[1]".to_owned(), "reserve[0]".into(), "charge".into(), "reserve".into()][..])
    );
    assert!(late.took > std::time::Duration::from_secs(3 * 86_400));
    assert_eq!(history::fold(&late.events).expect("a history").run, RunState::Compensated);
}

#[test]
fn scripted_failures_retries_and_time_outs_happen() {
    let mut twice = Script::default();
    let (step, failure) = Failure::parse("charge=timeout*2").expect("a failure");
    twice.failures.insert(step, failure);
    twice.timeouts.insert("ok".into());
    let played = play(ORDER, "{\"amount\": 5000}", &twice);
    let retried = played.events.iter().filter(|event| event.kind == EventKind::JobRetried).count();
    assert_eq!((retried, played.run.step("charge").map(|step| step.attempt)), (2, Some(3)));
    assert_eq!(played.run.error.map(|error| error.class), Some("rejected".into()));
    let mut dies = Script::default();
    dies.failures.extend(Failure::parse("charge"));
    dies.failures.extend(Failure::parse("undo:charge"));
    let played = play(ORDER, "{\"amount\": 5}", &dies);
    assert_eq!((played.run.state, played.undone.len()), (RunState::Compensated, 0));
    assert_eq!(Failure::parse("=x"), None);
    assert_eq!(Failure::parse("a*x"), None);
}

#[test]
fn children_are_played_too_and_what_never_comes_is_told() {
    let child = definition(
        "name: child\nsteps: [{id: c, job: echo, with: 3, compensate: {job: noop}}]\noutputs: {x: \"${{ steps.c.outputs }}\"}\n",
    );
    let parent = definition(
        "name: parent\nsteps: [{id: sub, call: child}, {id: b, needs: [sub], job: fail, retry: {max: 0}}]\n",
    );
    let played =
        simulate(&parent, std::slice::from_ref(&child), Json::null(), &Script::default(), Ms(1)).expect("plays");
    assert_eq!((played.run.state, played.undone), (RunState::Compensated, vec!["c".to_owned(), "sub".to_owned()]));
    let unknown = simulate(&parent, &[], Json::null(), &Script::default(), Ms(1));
    assert!(matches!(unknown, Err(SimulateError::NoWorkflow(name)) if name.as_str() == "child"));
    let stuck = play("name: w\nsteps: [{id: w, wait: {signal: never}}]\n", "null", &Script::default());
    assert_eq!((stuck.run.state, stuck.waiting), (RunState::Running, vec!["w".to_owned()]));
}
