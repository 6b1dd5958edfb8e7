//! Runs that call others, told step by step: how a child begins and ends, what it owes, and whose turn
//! it is under a concurrency key.

use super::tests::{Bench, definition, done, run_id};
use super::*;
use crate::domain::run::{RunState, StepState};

fn states(bench: &Bench) -> String {
    bench.check_history();
    bench.states()
}

const CALL: &str = "
name: parent
steps:
  - {id: a, job: noop, compensate: {job: noop}}
  - {id: sub, needs: [a], call: child, with: {n: 1}}
  - {id: b, needs: [sub], job: echo, with: \"${{ steps.sub.outputs.x }}\"}
";

fn parent() -> Bench {
    parent_of(CALL)
}

fn parent_of(text: &str) -> Bench {
    let def = definition(text);
    let pins = BTreeMap::from([("child".parse().expect("a name"), "v1".to_owned())]);
    let started = start_pinned(&def, run_id(), Json::null(), Ms(2_000), pins, None).expect("starts");
    let mut bench = Bench::start("name: t\nsteps: [{id: a, job: noop}]", "null");
    bench.def = def;
    (bench.open, bench.jobs, bench.events) = (Vec::new(), Vec::new(), Vec::new());
    bench.commit(started);
    bench.completes("a", "null");
    bench
}

fn ends(bench: &mut Bench, state: RunState, undoable: bool) -> u32 {
    let output = Some(Json::parse("{\"x\":9}", 99).expect("JSON")).filter(|_| state == RunState::Completed);
    let error = (state == RunState::Failed).then(|| JobError::new("exit:3", "child broke"));
    let what = What::Ended { run: bench.runs[0].id, state, output, error, undoable };
    bench.take(&[Fact::of_step("sub", false, Epoch(0), 0, Ms(5), what)])
}

#[test]
fn a_call_is_done_by_a_run_of_the_pinned_version() {
    let mut bench = parent();
    let child = bench.runs[0].clone();
    assert_eq!((child.version.as_str(), child.state, child.rev), ("v1", RunState::Pending, 1));
    assert_eq!(child.parent.as_ref().map(|parent| (parent.run, parent.step.as_str())), Some((run_id(), "sub")));
    assert_eq!(bench.told, [(child.id, Fact::of_run(What::Go, Ms(3_000)))]);
    assert_eq!(child.id.shard(), run_id().shard());
    assert_eq!(ends(&mut bench, RunState::Completed, true), 0);
    assert_eq!((bench.open().as_str(), bench.jobs[1].payload.as_str()), ("b", "9"));
    assert_eq!(ends(&mut bench, RunState::Completed, true), 1, "told twice");
    // What the child did is undone by the child, in its turn.
    bench.fails("b");
    assert_eq!(bench.told[1].1.what, What::Undo);
    assert_eq!(bench.open(), "");
    assert_eq!(ends(&mut bench, RunState::Compensated, false), 0);
    assert_eq!(bench.open(), "-a");
    bench.undone("a", done());
    assert_eq!(states(&bench), "compensated a:compensated sub:compensated b:failed");
}

#[test]
fn a_child_that_fails_fails_its_step_and_a_cancel_goes_down() {
    let mut fails = parent();
    assert_eq!(ends(&mut fails, RunState::Failed, false), 0);
    assert_eq!(fails.open(), "-a");
    assert_eq!(
        fails.run().error.expect("why").message,
        "step `sub` failed: the run of `child` ended failed: child broke"
    );
    let mut cancel = parent();
    cancel.tells(What::Cancel { compensate: true });
    assert_eq!(cancel.told[1].1.what, What::Cancel { compensate: true });
    assert_eq!(cancel.open(), "");
    assert_eq!(ends(&mut cancel, RunState::Cancelled, false), 0);
    assert_eq!(cancel.open(), "-a");
    let mut pause = parent();
    pause.tells(What::Pause).tells(What::Resume);
    assert_eq!(pause.told[1].1.what, What::Pause);
    assert_eq!(pause.told[2].1.what, What::Resume);
}

/// The end of a child whose undo of `x` failed.
fn ends_owing(bench: &mut Bench) -> u32 {
    let error = Some(JobError::new("undo_owed", "the undo of `x` is owed; exit:3: step `y` failed: child broke"));
    let what = What::Ended { run: bench.runs[0].id, state: RunState::Failed, output: None, error, undoable: true };
    bench.take(&[Fact::of_step("sub", false, Epoch(0), 0, Ms(5), what)])
}

#[test]
fn what_a_child_owes_its_parent_owes_too() {
    let mut bench = parent();
    assert_eq!(ends_owing(&mut bench), 0);
    // The others are undone all the same.
    assert_eq!(bench.open(), "-a");
    bench.undone("a", done());
    assert_eq!(states(&bench), "failed a:compensated sub:failed b:cancelled");
    let error = bench.run().error.expect("an error");
    assert_eq!(error.class, "undo_owed");
    assert!(error.message.starts_with("the undo of `sub` is owed; undo_owed: step `sub` failed"), "{error}");
    assert!(error.message.contains("the undo of `x` is owed"), "{error}");
    // Tried again: the child undoes what it owes, and fails to once more.
    bench.tells(What::Retry);
    assert_eq!(bench.told.last().map(|(_, fact)| &fact.what), Some(&What::Undo));
    assert_eq!((bench.run().state, bench.open().as_str()), (RunState::Compensating, ""));
    assert_eq!(ends_owing(&mut bench), 0);
    assert_eq!(bench.run().error.map(|error| error.message), Some(error.message.clone()), "no longer and no shorter");
    bench.tells(What::Retry);
    assert_eq!(ends(&mut bench, RunState::Compensated, false), 0);
    assert_eq!(states(&bench), "compensated a:compensated sub:compensated b:cancelled");
    let error = bench.run().error.expect("why it was undone");
    assert!(error.message.starts_with("step `sub` failed"), "{error}");
}

#[test]
fn a_cancelled_parent_of_a_child_that_owes_fails_and_is_cancelled_once_nothing_is_owed() {
    let mut bench = parent();
    bench.tells(What::Cancel { compensate: false });
    assert_eq!(ends_owing(&mut bench), 0);
    assert_eq!(states(&bench), "failed a:completed sub:failed b:cancelled");
    assert!(bench.run().error.expect("an error").message.ends_with("is owed; the run was cancelled"));
    bench.tells(What::Retry);
    assert_eq!(ends(&mut bench, RunState::Compensated, false), 0);
    // `a` was not to be undone, and is not.
    assert_eq!(states(&bench), "cancelled a:completed sub:compensated b:cancelled");
    assert_eq!(bench.run().error, None);
}

#[test]
fn a_call_whose_run_owes_an_undo_is_not_tried_again() {
    let mut bench = parent_of(&CALL.replace("call: child,", "call: child, retry: {max: 3},"));
    assert_eq!(ends_owing(&mut bench), 0);
    assert_eq!(bench.state_of("sub"), StepState::Failed);
}

#[test]
fn a_child_begins_when_told_and_tells_its_end() {
    let def = definition(
        "name: child\ninput: {n: {type: integer, required: true}}\nsteps: [{id: x, job: noop, compensate: {job: noop}}]\noutputs: {x: 9}",
    );
    let child = |input: &str| {
        let input = Slot::Inline(Json::parse(input, 99).expect("JSON"));
        let mut run = Run::pending(run_id(), def.name().clone(), def.hash().into(), input, Ms(1));
        run.rev = 1;
        run.parent = Some(crate::workflow::run::Parent { run: RunId::default(), step: "sub".into(), depth: 1 });
        let mut bench = Bench::start("name: t\nsteps: [{id: a, job: noop}]", "null");
        bench.def = def.clone();
        (bench.open, bench.jobs, bench.events) = (Vec::new(), Vec::new(), Vec::new());
        bench.header = run.encode().expect("encodes");
        bench.tells(What::Go);
        bench
    };
    let mut good = child("{\"n\": 1}");
    assert_eq!(good.open(), "x");
    good.completes("x", "1");
    let told = good.told.pop().expect("its parent is told");
    assert_eq!((told.0, told.1.step.as_str()), (RunId::default(), "sub"));
    let What::Ended { state, output, undoable, .. } = told.1.what else { panic!("another fact") };
    assert_eq!(
        (state, output.map(|output| output.to_string()), undoable),
        (RunState::Completed, Some("{\"x\":9}".into()), true)
    );
    good.tells(What::Undo);
    assert_eq!((good.open().as_str(), good.run().state), ("-x", RunState::Compensating));
    good.undone("x", done());
    assert_eq!(states(&good), "compensated x:compensated");
    assert!(matches!(good.told[0].1.what, What::Ended { state: RunState::Compensated, .. }));
    // Asked once more, it says once more that nothing is left of it.
    assert_eq!(good.told.len(), 1);
    good.tells(What::Undo);
    assert!(matches!(good.told[1].1.what, What::Ended { state: RunState::Compensated, .. }));
    let bad = child("{\"m\": 1}");
    assert!(bad.run().state.is_terminal());
    assert_eq!(bad.run().error.expect("why").class, "input");
    bad.check_history();
}

#[test]
fn a_run_under_a_key_waits_to_be_let_in() {
    let text = "name: k\ninput: {id: {type: integer, default: 3}}\nconcurrency: {key: \"order-${{ input.id }}\", limit: 1}\nsteps: [{id: a, job: noop}]\n";
    let mut bench = Bench::start(text, "null");
    assert_eq!(
        (bench.run().state, bench.run().key.as_deref(), bench.open().as_str()),
        (RunState::Pending, Some("order-3"), "")
    );
    bench.tells(What::Go);
    assert_eq!(bench.open(), "a");
    assert_eq!(bench.take(&[Fact::of_run(What::Go, Ms(1))]), 1);
    let mut cancelled = Bench::start(text, "null");
    cancelled.tells(What::Cancel { compensate: true });
    assert_eq!(states(&cancelled), "cancelled a:cancelled");
}

#[test]
fn a_called_run_comes_under_the_key_of_its_workflow_unless_it_is_held_above() {
    let text = "name: k\ninput: {id: {type: integer, default: 3}}\nconcurrency: {key: \"order-${{ input.id }}\", limit: 1}\nsteps: [{id: a, job: noop}]\n";
    let def = definition(text);
    let mut child = Run::pending(run_id(), def.name().clone(), def.hash().into(), Slot::Inline(Json::null()), Ms(1));
    enter(&def, &mut child);
    assert_eq!(child.gate_key().as_deref(), Some("k/order-3"));
    child.above = vec!["k/order-3".to_owned()];
    enter(&def, &mut child);
    assert_eq!(child.key, None, "it would wait for its own parent for ever");
    // Not let in, the step fails like another and may be tried again.
    let mut bench = parent_of(&CALL.replace("call: child,", "call: child, retry: {max: 1, errors: [conflict]},"));
    let error = Some(JobError::new("conflict", "as many runs of `child` as may be"));
    let what = What::Ended { run: bench.runs[0].id, state: RunState::Cancelled, output: None, error, undoable: false };
    assert_eq!(bench.take(&[Fact::of_step("sub", false, Epoch(0), 0, Ms(5), what)]), 0);
    assert_eq!(bench.state_of("sub"), StepState::Retrying);
    bench.fires("r/sub");
    assert_ne!(bench.runs[0].id, bench.runs[1].id);
}

#[test]
fn a_called_run_that_waits_for_its_turn_begins_paused_if_its_parent_is() {
    let def = definition("name: child\nsteps: [{id: x, job: noop}]");
    let mut run = Run::pending(run_id(), def.name().clone(), def.hash().into(), Slot::Inline(Json::null()), Ms(1));
    run.rev = 1;
    run.parent = Some(crate::workflow::run::Parent { run: RunId::default(), step: "sub".into(), depth: 1 });
    let mut bench = Bench::start("name: t\nsteps: [{id: a, job: noop}]", "null");
    bench.def = def;
    (bench.open, bench.jobs, bench.events) = (Vec::new(), Vec::new(), Vec::new());
    bench.header = run.encode().expect("encodes");
    bench.tells(What::Pause).tells(What::Go);
    assert_eq!((bench.run().state, bench.open().as_str()), (RunState::Paused, ""));
    bench.tells(What::Resume);
    assert_eq!((bench.run().state, bench.open().as_str()), (RunState::Running, "x"));
    bench.check_history();
}
