//! Each construct of the language once, told step by step: groups, branches, joins, loops, waits
//! and what comes last. Calls are in `calls`.

use super::tests::{Bench, done, failed};
use super::*;
use crate::domain::run::{RunState, StepState};

fn bench(steps: &str) -> Bench {
    Bench::start(&format!("name: t\nsteps:\n{steps}"), "null")
}

fn states(bench: &Bench) -> String {
    bench.check_history();
    bench.states()
}

#[test]
fn a_group_is_done_when_its_steps_are_and_gives_their_outputs() {
    let mut bench = bench(
        "
  - id: g
    steps:
      - {id: a, job: noop}
      - {id: b, needs: [a], job: echo, with: \"${{ steps.a.outputs }}\"}
  - {id: after, needs: [g], job: echo, with: \"${{ steps.g.outputs.b }}\"}
",
    );
    assert_eq!(bench.open(), "g/a");
    bench.completes("g/a", "7");
    assert_eq!((bench.open().as_str(), bench.jobs[1].payload.as_str()), ("g/b", "7"));
    bench.completes("g/b", "[1]");
    assert_eq!((bench.open().as_str(), bench.jobs[2].payload.as_str()), ("after", "[1]"));
    bench.completes("after", "null");
    assert_eq!(states(&bench), "completed g:completed after:completed");
    assert_eq!(bench.output_of("g"), serde_json::json!({"a": 7, "b": [1]}));
}

#[test]
fn a_group_that_fails_is_tried_again_as_a_whole() {
    let mut bench = bench(
        "
  - id: g
    retry: {max: 1, initial: 2s, jitter: 0}
    steps:
      - {id: a, job: noop, compensate: {job: noop}}
      - {id: b, needs: [a], job: noop}
",
    );
    bench.completes("g/a", "1").fails("g/b");
    assert_eq!((bench.state_of("g"), bench.open()), (StepState::Retrying, String::new()));
    assert_eq!(bench.timers.values().next(), Some(&Duration::from_secs(2)));
    bench.fires("r/g");
    assert_eq!(bench.open(), "g~2/a");
    assert_ne!(bench.jobs[0].id, bench.jobs[2].id);
    bench.completes("g~2/a", "1").fails("g~2/b");
    // Both attempts at `a` had completed: both are undone, the last first.
    assert_eq!(bench.open(), "-g~2/a");
    bench.undone("g~2/a", done());
    assert_eq!(bench.open(), "-g/a");
    bench.undone("g/a", done());
    assert_eq!(bench.run().state, RunState::Compensated);
    bench.check_history();
}

const SWITCH: &str = "
name: t
input: {amount: {type: number, default: 0}}
steps:
  - id: route
    switch:
      mode: MODE
      cases:
        - {name: high, when: input.amount > 100, steps: [{id: h, job: noop}]}
        - {name: some, when: input.amount > 10, steps: [{id: s, job: noop}, {id: s2, needs: [s], job: noop}]}
      else: ELSE
  - {id: after, needs: [route], job: echo, with: \"${{ steps.route.outputs }}\"}
";

#[test]
fn a_switch_takes_the_first_case_or_all_or_none() {
    let start = |mode: &str, other: &str, amount: u32| {
        let text = SWITCH.replace("MODE", mode).replace("ELSE", other);
        Bench::start(&text, &format!("{{\"amount\": {amount}}}"))
    };
    let mut first = start("first", "[]", 500);
    assert_eq!(first.open(), "route/high/h");
    first.completes("route/high/h", "1");
    assert_eq!(first.jobs[1].payload.as_str(), "{\"high\":{\"h\":1}}");
    let mut all = start("all", "[]", 500);
    assert_eq!(all.open(), "route/high/h route/some/s");
    all.completes("route/some/s", "1").completes("route/high/h", "2");
    assert_eq!(all.open(), "route/some/s2");
    all.completes("route/some/s2", "3").completes("after", "null");
    assert_eq!(all.jobs[3].payload.as_str(), "{\"high\":{\"h\":2},\"some\":{\"s\":1,\"s2\":3}}");
    // Without a matching case it completes, empty, and what follows it goes on.
    let mut none = start("first", "[]", 5);
    assert_eq!((none.open().as_str(), none.jobs[0].payload.as_str()), ("after", "{}"));
    none.completes("after", "null");
    assert_eq!(states(&none), "completed route:completed after:completed");
    let other = start("all", "[{id: e, job: noop}]", 5);
    assert_eq!(other.open(), "route/else/e");
}

#[test]
fn a_join_of_any_starts_once_and_cancels_the_rest() {
    let text = "
  - {id: a, job: noop}
  - {id: b, job: noop}
  - {id: c, wait: {signal: never}}
  - {id: j, needs: [a, b, c], join: any, job: noop}
";
    let mut any = bench(text);
    any.completes("b", "1");
    assert_eq!(any.open(), "a j");
    assert_eq!(any.cancelled, [any.jobs[0].id]);
    any.completes("j", "null");
    // `a` was asked to stop, and the run waits for its end.
    assert_eq!(any.run().state, RunState::Running);
    any.stops("a");
    assert_eq!(states(&any), "completed a:cancelled b:completed c:cancelled j:completed");

    let mut ignore =
        bench(&text.replace("join: any", "join: 1, rest: ignore").replace(", wait: {signal: never}", ", job: noop"));
    ignore.completes("b", "1").completes("j", "null");
    assert!(ignore.cancelled.is_empty());
    // Nobody waits for it any more: its failure is none of the run.
    ignore.fails("a").completes("c", "null");
    assert_eq!(states(&ignore), "completed a:failed b:completed c:completed j:completed");
}

#[test]
fn a_join_of_n_that_cannot_be_reached_is_skipped() {
    let mut bench = bench(
        "
  - {id: a, job: noop}
  - {id: b, if: \"false\", job: noop}
  - {id: c, if: \"false\", job: noop}
  - {id: j, needs: [a, b, c], join: 2, job: noop}
  - {id: k, needs: [j], job: noop}
",
    );
    bench.completes("a", "null");
    assert_eq!(states(&bench), "completed a:completed b:skipped c:skipped j:skipped k:skipped");
}

#[test]
fn parallel_branches_wait_for_all_or_any() {
    let text = "
  - id: p
    parallel:
      branches:
        - {name: x, steps: [{id: a, job: noop}]}
        - {name: y, steps: [{id: b, job: noop}, {id: c, needs: [b], job: noop}]}
      WAIT
";
    let mut all = bench(&text.replace("WAIT", ""));
    assert_eq!(all.open(), "p/x/a p/y/b");
    all.completes("p/x/a", "1").completes("p/y/b", "2");
    assert_eq!(all.open(), "p/y/c");
    all.completes("p/y/c", "3");
    assert_eq!(all.output_of("p"), serde_json::json!({"x": {"a": 1}, "y": {"b": 2, "c": 3}}));
    assert_eq!(states(&all), "completed p:completed");

    let mut fails = bench(&text.replace("WAIT", ""));
    fails.fails("p/x/a");
    // The other branch is waited for, and nothing more of it starts.
    assert_eq!((fails.open().as_str(), fails.run().state), ("p/y/b", RunState::Running));
    fails.completes("p/y/b", "1");
    assert_eq!(states(&fails), "failed p:failed");
    assert_eq!(fails.run().error.expect("why").message, "step `p` failed: step `a` failed: it broke");

    let mut any = bench(&text.replace("WAIT", "wait: any"));
    any.fails("p/x/a").completes("p/y/b", "1").completes("p/y/c", "1");
    assert_eq!(states(&any), "completed p:completed");
    let mut first = bench(&text.replace("WAIT", "wait: any"));
    first.completes("p/x/a", "1");
    assert_eq!((first.state_of("p"), first.cancelled.len()), (StepState::Completed, 1));
    first.stops("p/y/b");
    assert_eq!(states(&first), "completed p:completed");
}

#[test]
fn a_while_repeats_until_its_condition_fails() {
    let text = "
  - id: poll
    while: {condition: \"loop.index == 0 or not steps.poll.outputs.ready\", max: 3}
    job: noop
    compensate: {job: echo, with: \"${{ loop.index }}\"}
  - {id: after, needs: [poll], job: echo, with: \"${{ steps.poll.outputs.n }}\"}
";
    let mut bench1 = bench(text);
    assert_eq!(bench1.open(), "poll#0");
    bench1.completes("poll#0", "{\"ready\": false, \"n\": 1}");
    assert_eq!(bench1.open(), "poll#1");
    bench1.completes("poll#1", "{\"ready\": true, \"n\": 2}");
    assert_eq!((bench1.open().as_str(), bench1.jobs[2].payload.as_str()), ("after", "2"));
    bench1.fails("after");
    assert_eq!((bench1.open().as_str(), bench1.jobs[3].payload.as_str()), ("-poll#1", "1"));
    bench1.undone("poll#1", done());
    assert_eq!((bench1.open().as_str(), bench1.jobs[4].payload.as_str()), ("-poll#0", "0"));
    bench1.undone("poll#0", failed());
    assert_eq!((bench1.run().state, bench1.run().owed), (RunState::Failed, vec!["poll#0".to_owned()]));
    bench1.check_history();

    let mut never = bench(text);
    for round in 0..3 {
        never.completes(&format!("poll#{round}"), "{\"ready\": false, \"n\": 1}");
    }
    let error = never.run().step("poll").and_then(|step| step.error.clone()).expect("why");
    assert_eq!((error.class.as_str(), error.message.as_str()), ("while", "the condition still holds after 3 rounds"));
}

#[test]
fn a_while_over_a_group_sees_its_last_round() {
    let mut bench = bench(
        "
  - id: g
    while: {condition: \"loop.index < 2\", max: 5}
    steps:
      - {id: a, job: echo, with: \"${{ loop.index }}\"}
",
    );
    bench.completes("g#0/a", "0");
    assert_eq!((bench.open().as_str(), bench.jobs[1].payload.as_str()), ("g#1/a", "1"));
    bench.completes("g#1/a", "\"x\"");
    assert_eq!(states(&bench), "completed g:completed");
    assert_eq!(bench.output_of("g"), serde_json::json!({"a": "x"}));
}

const WAIT: &str = "
name: t
input: {id: {type: integer, default: 5}}
steps:
  - {id: a, job: noop}
  - id: paid
    needs: [a]
    wait: {signal: paid, match: signal.order == input.id, timeout: 3d, on_timeout: OUT}
  - {id: b, needs: [paid], job: echo, with: \"${{ steps.paid.outputs }}\"}
";

#[test]
fn a_wait_takes_the_signal_that_matches_and_early_ones_are_kept() {
    let mut bench = Bench::start(&WAIT.replace("OUT", "fail"), "null");
    bench
        .signals("paid", "{\"order\": 5}")
        .signals("paid", "{\"order\": 4}")
        .signals("other", "1")
        .signals("paid", "7");
    assert_eq!(bench.run().signals.len(), 4);
    bench.completes("a", "null");
    assert_eq!((bench.open().as_str(), bench.jobs[1].payload.as_str()), ("b", "{\"order\":5}"));
    assert_eq!((bench.run().signals.len(), bench.timers.len()), (3, 0));
    bench.completes("b", "null").signals("paid", "{\"order\": 5}");
    let run = bench.run();
    assert_eq!((run.state, run.signals.len(), run.signals[3].late), (RunState::Completed, 4, true));

    let mut later = Bench::start(&WAIT.replace("OUT", "fail"), "null");
    later.completes("a", "null");
    assert_eq!((later.state_of("paid"), later.open()), (StepState::Waiting, String::new()));
    assert_eq!(later.timers.values().next(), Some(&Duration::from_secs(3 * 86_400)));
    later.signals("paid", "{\"order\": 4}").signals("paid", "{\"order\": 5}");
    assert_eq!((later.open().as_str(), later.timers.len()), ("b", 0));
    later.completes("b", "null");
    states(&later);
}

#[test]
fn a_wait_that_is_over_does_what_its_time_out_says() {
    let waits = |out: &str| {
        let mut bench = Bench::start(&WAIT.replace("OUT", out), "null");
        bench.completes("a", "null").fires("w/paid");
        bench
    };
    let fails = waits("fail");
    assert_eq!(states(&fails), "failed a:completed paid:failed b:cancelled");
    assert_eq!(fails.run().error.expect("why").class, "timeout");
    let goes_on = waits("continue");
    assert_eq!((goes_on.open().as_str(), goes_on.jobs[1].payload.as_str()), ("b", "null"));
    let mut steps = waits("{steps: [{id: remind, job: noop}]}");
    assert_eq!((steps.open().as_str(), steps.state_of("paid")), ("paid/remind", StepState::Running));
    // The answer came too late: it is kept.
    steps.signals("paid", "{\"order\": 5}");
    assert_eq!(steps.run().signals.len(), 1);
    steps.completes("paid/remind", "1").completes("b", "null");
    assert_eq!(states(&steps), "completed a:completed paid:completed b:completed");
}

const APPROVAL: &str = "
name: t
steps:
  - {id: ok, approval: {approvers: [ann, \"group:finance\"], timeout: 24h, on_timeout: OUT}}
  - {id: b, needs: [ok], job: echo, with: \"${{ steps.ok.outputs }}\"}
";

#[test]
fn an_approval_is_answered_by_those_who_may() {
    let start = |out: &str| Bench::start(&APPROVAL.replace("OUT", out), "null");
    let answer = |approved: bool, by: &[&str]| {
        let by = by.iter().map(|name| (*name).to_owned()).collect();
        Fact::answer("", approved, by, Some("well".into()), Ms(1))
    };
    let mut bench = start("reject");
    assert_eq!(bench.take(&[answer(true, &["bob", "group:sales"])]), 1);
    assert_eq!(bench.take(&[answer(true, &["bob", "group:finance"]), answer(false, &["ann"])]), 1);
    assert_eq!(bench.jobs[0].payload.as_str(), "{\"approved\":true,\"by\":\"bob\",\"comment\":\"well\"}");
    let mut no = start("reject");
    no.take(&[answer(false, &["ann"])]);
    assert_eq!(states(&no), "failed ok:failed b:cancelled");
    let error = no.run().step("ok").and_then(|step| step.error.clone()).expect("why");
    assert_eq!((error.class.as_str(), error.message.as_str()), ("rejected", "ann said no: well"));
    let mut late = start("reject");
    late.fires("w/ok");
    assert_eq!(late.run().error.expect("why").class, "rejected");
    let mut silent = start("approve");
    silent.fires("w/ok");
    assert_eq!(silent.open(), "b");
    let mut escalates = start("{steps: [{id: boss, approval: {}}]}");
    escalates.fires("w/ok");
    assert_eq!(escalates.state_of("ok/boss"), StepState::Waiting);
    escalates.take(&[answer(true, &["anybody"])]);
    assert_eq!(escalates.open(), "b");
}

#[test]
fn sleep_set_and_end_hold_no_job() {
    let mut bench = bench(
        "
  - {id: nap, sleep: \"${{ 1500 }}\"}
  - {id: s, needs: [nap], set: {n: \"${{ 1 + 1 }}\", t: \"a\"}}
  - {id: other, job: noop}
  - {id: stop, needs: [s], if: steps.s.outputs.n == 2, end: {state: completed, message: enough}}
  - {id: never, needs: [stop], job: noop}
",
    );
    assert_eq!(bench.timers.values().next(), Some(&Duration::from_millis(1_500)));
    bench.fires("w/nap");
    // The run ends early, and waits for what it has asked to stop.
    assert_eq!((bench.open().as_str(), bench.cancelled.len()), ("other", 1));
    bench.stops("other");
    assert_eq!(states(&bench), "completed nap:completed s:completed other:cancelled stop:completed never:cancelled");
    let mut fails = self::bench("  - {id: stop, end: {state: failed, message: \"no good\"}}\n");
    assert_eq!(states(&fails), "failed stop:failed");
    assert_eq!(fails.run().error.expect("why").to_string(), "end: no good");
    assert_eq!(fails.take(&[Fact::timer("w/nap!1.0", Ms(1))]), 1);
}

#[test]
fn finally_comes_last_however_the_run_ends() {
    let text = "
name: t
steps:
  - {id: a, job: noop, compensate: {job: noop}}
  - {id: b, needs: [a], job: noop}
finally:
  - {id: tell, job: echo, with: \"${{ run.state }} ${{ steps.b.state }}\"}
  - {id: more, needs: [tell], job: noop}
outputs: {b: \"${{ steps.b.outputs }}\"}
";
    let mut good = Bench::start(text, "null");
    good.completes("a", "1").completes("b", "2");
    assert_eq!((good.open().as_str(), good.run().state), ("tell", RunState::Running));
    assert_eq!(good.jobs[2].payload.as_str(), "\"completed completed\"");
    // It is known how it ends: too late to cancel.
    assert_eq!(good.take(&[Fact::cancel(true, Ms(1))]), 1);
    good.fails("tell");
    assert_eq!(good.open(), "more");
    good.completes("more", "null");
    assert_eq!(states(&good), "failed a:completed b:completed tell:failed more:completed");

    let mut bad = Bench::start(text, "null");
    bad.completes("a", "1").fails("b");
    assert_eq!(bad.open(), "-a");
    bad.undone("a", done());
    assert_eq!((bad.open().as_str(), bad.jobs[3].payload.as_str()), ("tell", "\"compensated failed\""));
    bad.completes("tell", "null").completes("more", "null");
    assert_eq!(states(&bad), "compensated a:compensated b:failed tell:completed more:completed");
}

#[test]
fn a_deadline_ends_all_attempts_and_a_timeout_one() {
    let mut bench = bench(
        "
  - id: g
    retry: {max: 5, initial: 1s}
    timeout: 1m
    deadline: 5m
    steps: [{id: a, job: noop}]
",
    );
    assert_eq!(bench.timers.keys().collect::<Vec<_>>(), ["d/g!0.0", "t/g!1.0"]);
    bench.fires("t/g");
    assert_eq!((bench.cancelled.len(), bench.state_of("g")), (1, StepState::Running));
    bench.stops("g/a");
    assert_eq!(bench.state_of("g"), StepState::Retrying);
    bench.fires("r/g").fires("d/g");
    assert_eq!(bench.open(), "g~2/a");
    // It had completed, and the deadline was over before.
    bench.completes("g~2/a", "1");
    assert_eq!(states(&bench), "failed g:failed");
    assert_eq!(bench.run().error.expect("why").class, "timeout");

    let mut job = self::bench("  - {id: a, job: noop, deadline: 5m}\n");
    job.fires("d/a");
    assert_eq!(job.cancelled, [job.jobs[0].id]);
    job.stops("a");
    let error = job.run().step("a").and_then(|step| step.error.clone()).expect("why");
    assert_eq!(error.to_string(), "timeout: its attempts took longer than its `deadline`");
}
