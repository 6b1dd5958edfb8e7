//! Pause, cancel, time-outs and new lives: what an operator does to a run, whatever it is doing.

use super::tests::{Bench, done, failed};
use super::*;
use crate::domain::run::{RunState, StepState};
use crate::workflow::Wanted;

const MIX: &str = "
name: t
steps:
  - {id: a, job: noop, compensate: {job: noop}}
  - id: g
    needs: [a]
    steps:
      - {id: x, job: noop}
      - {id: y, needs: [x], job: noop}
      - {id: w, wait: {signal: s}}
  - {id: each, needs: [a], foreach: {items: \"[1, 2, 3]\", max_parallel: 1}, job: noop, compensate: {job: noop}}
  - {id: b, needs: [g, each], job: noop}
";

#[test]
fn a_paused_run_starts_nothing_and_goes_on_where_it_was() {
    let mut bench = Bench::start(MIX, "null");
    bench.completes("a", "null").tells(What::Pause);
    assert_eq!(bench.run().state, RunState::Paused);
    assert_eq!(bench.take(&[Fact::of_run(What::Pause, Ms(1))]), 1);
    bench.completes("g/x", "1").completes("each[0]", "1").signals("s", "7");
    assert_eq!((bench.open().as_str(), bench.state_of("g/w")), ("", StepState::Completed));
    bench.tells(What::Resume);
    assert_eq!(bench.open(), "g/y each[1]");
    bench.tells(What::Pause).completes("each[1]", "1").tells(What::Resume).completes("each[2]", "1");
    bench.completes("g/y", "1").completes("b", "1");
    assert_eq!(bench.states(), "completed a:completed g:completed each:completed b:completed");
    bench.check_history();
}

#[test]
fn a_failure_while_paused_compensates_when_it_is_resumed() {
    let mut bench = Bench::start(MIX, "null");
    bench.completes("a", "null").tells(What::Pause).fails("g/x").completes("each[0]", "1");
    assert_eq!((bench.open().as_str(), bench.run().state), ("", RunState::Paused));
    bench.tells(What::Resume);
    assert_eq!((bench.open().as_str(), bench.run().state), ("-each[0]", RunState::Compensating));
    bench.undone("each[0]", done()).undone("a", done());
    assert_eq!(bench.run().state, RunState::Compensated);
    bench.check_history();
}

#[test]
fn a_paused_run_can_be_cancelled() {
    let mut bench = Bench::start(MIX, "null");
    bench.completes("a", "null").tells(What::Pause).tells(What::Cancel { compensate: true });
    assert_eq!((bench.cancelled.len(), bench.run().state), (2, RunState::Compensating));
    bench.stops("g/x").stops("each[0]");
    assert_eq!(bench.open(), "-a");
    bench.undone("a", done());
    assert_eq!(bench.states(), "cancelled a:compensated g:cancelled each:cancelled b:cancelled");
    bench.check_history();
    assert!(bench.told().iter().all(|told| !told.starts_with("run.resumed")), "nobody has resumed it");
    let mut quiet = Bench::start(&MIX.replace(", compensate: {job: noop}", ""), "null");
    quiet.completes("a", "null").tells(What::Pause).tells(What::Cancel { compensate: true });
    assert_eq!(quiet.take(&[Fact::of_run(What::Resume, Ms(1))]), 1, "it is about to end");
    quiet.stops("g/x").stops("each[0]");
    assert_eq!(quiet.states(), "cancelled a:completed g:cancelled each:cancelled b:cancelled");
    quiet.check_history();
    let mut plain = Bench::start(MIX, "null");
    plain.completes("a", "null").tells(What::Cancel { compensate: false }).stops("g/x").stops("each[0]");
    assert_eq!(plain.states(), "cancelled a:completed g:cancelled each:cancelled b:cancelled");
    plain.check_history();
}

#[test]
fn a_failed_run_is_tried_again_where_it_failed() {
    let text = "
name: t
steps:
  - {id: a, job: noop}
  - id: g
    needs: [a]
    steps:
      - {id: x, job: noop}
      - {id: y, needs: [x], job: noop}
      - {id: z, needs: [y], job: noop}
  - id: each
    needs: [g]
    foreach: {items: \"[1, 2, 3]\", max_parallel: 2}
    steps: [{id: p, job: noop}, {id: q, needs: [p], job: noop}]
finally:
  - {id: f, job: echo, with: \"${{ run.state }}\"}
";
    let mut bench = Bench::start(text, "null");
    bench.completes("a", "1").completes("g/x", "1").fails("g/y").completes("f", "null");
    assert_eq!(bench.states(), "failed a:completed g:failed each:cancelled f:completed");
    assert_eq!(bench.take(&[Fact::of_run(What::Resume, Ms(1))]), 1);
    bench.tells(What::Retry);
    assert_eq!((bench.open().as_str(), bench.run().state), ("g/y", RunState::Running));
    let again: Vec<_> = bench.jobs.iter().filter(|job| job.link.as_ref().is_some_and(|l| l.step == "g/y")).collect();
    assert_ne!(again[0].id, again[1].id);
    bench.completes("g/y", "1").completes("g/z", "1");
    bench.completes("each[0]/p", "1").fails("each[0]/q").completes("each[1]/p", "1");
    // The list has failed: `q` of the other item does not start.
    assert_eq!(bench.open(), "f");
    bench.completes("f", "null").tells(What::Retry);
    // Nothing that has completed runs again.
    assert_eq!(bench.open(), "each[0]/q each[1]/q");
    bench
        .completes("each[0]/q", "1")
        .completes("each[1]/q", "1")
        .completes("each[2]/p", "1")
        .completes("each[2]/q", "1");
    assert_eq!((bench.open().as_str(), bench.jobs[bench.jobs.len() - 1].payload.as_str()), ("f", "\"completed\""));
    bench.completes("f", "null");
    assert_eq!(bench.states(), "completed a:completed g:completed each:completed f:completed");
    bench.check_history();
    assert_eq!(bench.take(&[Fact::of_run(What::Retry, Ms(1))]), 1);
}

#[test]
fn an_owed_undo_is_tried_again() {
    let text = "
name: t
steps:
  - {id: a, job: noop, compensate: {job: echo, with: a}}
  - {id: e, needs: [a], foreach: {items: \"[1, 2]\"}, job: noop, compensate: {job: echo, with: \"${{ item }}\"}}
  - {id: b, needs: [e], job: noop}
";
    let mut bench = Bench::start(text, "null");
    bench.completes("a", "1").completes("e[0]", "1").completes("e[1]", "1").fails("b");
    bench.undone("e[1]", failed()).undone("e[0]", done()).undone("a", failed());
    let run = bench.run();
    assert_eq!((run.state, run.owed), (RunState::Failed, vec!["e[1]".to_owned(), "a".to_owned()]));
    bench.check_history();
    bench.tells(What::Retry);
    assert_eq!((bench.open().as_str(), bench.run().state), ("-e[1]", RunState::Compensating));
    bench.undone("e[1]", done()).undone("a", failed());
    assert_eq!((bench.run().state, bench.run().owed), (RunState::Failed, vec!["a".to_owned()]));
    let error = bench.run().error.expect("why").message;
    assert!(error.starts_with("the undo of `a` is owed; exit:1: step `b` failed"), "{error}");
    bench.tells(What::Retry).undone("a", done());
    assert_eq!(bench.states(), "compensated a:compensated e:compensated b:failed");
    bench.check_history();
}

#[test]
fn a_wait_is_tried_again_and_stale_timers_find_nothing() {
    let text = "name: t\nsteps: [{id: w, wait: {signal: s, timeout: 1h}, retry: {max: 1, initial: 1s}}]\n";
    let mut bench = Bench::start(text, "null");
    let first = bench.timers.keys().next().expect("a timer").clone();
    bench.fires("w/w").fires("r/w");
    assert_eq!(bench.state_of("w"), StepState::Waiting);
    assert_eq!(bench.take(&[Fact::timer(first, Ms(1))]), 1);
    bench.signals("s", "1");
    assert_eq!(bench.states(), "completed w:completed");
    bench.check_history();
}

#[test]
fn a_job_in_its_line_is_wanted_now_or_later_or_no_more() {
    let mut bench = Bench::start(MIX, "null");
    bench.completes("a", "null");
    let job = |bench: &Bench, step: &str| {
        let of = |job: &&Job| job.link.as_ref().is_some_and(|link| link.step == step);
        bench.jobs.iter().rfind(of).expect("it was started").id
    };
    let (x, item) = (job(&bench, "g/x"), job(&bench, "each[0]"));
    assert_eq!((bench.run().wants(x, false), bench.run().wants(item, false)), (Wanted::Now, Wanted::Now));
    bench.tells(What::Pause);
    assert_eq!((bench.run().wants(x, false), bench.run().wants(item, true)), (Wanted::Later, Wanted::Now));
    bench.tells(What::Resume);
    assert_eq!(bench.run().wants(x, false), Wanted::Now);
    bench.tells(What::Cancel { compensate: true });
    assert_eq!((bench.run().wants(x, false), bench.run().wants(item, false)), (Wanted::NoMore, Wanted::NoMore));
    bench.stops("g/x").stops("each[0]");
    let undo = job(&bench, "a");
    assert_eq!((bench.open().as_str(), bench.run().wants(undo, true)), ("-a", Wanted::Now));
}

#[test]
fn an_answer_that_comes_too_late_is_told_and_changes_nothing() {
    let mut bench = Bench::start("name: t\nsteps: [{id: ok, approval: {}}, {id: b, needs: [ok], job: noop}]", "null");
    let answer = |step: &str, approved| Fact::answer(step, approved, vec!["ann".into()], None, Ms(1));
    assert_eq!(bench.take(&[answer("ok", true), answer("ok", false), answer("b", false), answer("nowhere", true)]), 2);
    let said = |bench: &Bench| {
        let answers = bench.events.iter().filter(|event| event.kind == EventKind::RunAnswered);
        answers.filter_map(|event| event.data.clone()).collect::<Vec<_>>().join("; ")
    };
    assert_eq!(said(&bench), "approved by ann; rejected by ann, too late");
    bench.completes("b", "null");
    assert_eq!(bench.take(&[answer("ok", false)]), 0, "after the end too");
    assert_eq!(said(&bench), "approved by ann; rejected by ann, too late; rejected by ann, too late");
    assert_eq!(bench.states(), "completed ok:completed b:completed");
    bench.check_history();
}

#[test]
fn what_was_left_to_itself_is_not_wanted_either_once_the_run_is_cancelled() {
    let text = "
name: t
steps:
  - {id: a, job: noop}
  - {id: b, job: noop}
  - {id: j, needs: [a, b], join: any, rest: ignore, job: noop}
";
    let mut bench = Bench::start(text, "null");
    bench.completes("a", "null");
    let b = bench.run().step("b").and_then(|step| step.job).expect("it was started");
    assert_eq!(bench.run().wants(b, false), Wanted::Now);
    bench.tells(What::Cancel { compensate: true });
    assert_eq!(bench.run().wants(b, false), Wanted::NoMore);
}
