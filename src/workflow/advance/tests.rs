//! Runs told step by step, and the bench that does around `advance` what an engine does.

use std::collections::BTreeMap;

use super::*;
use crate::domain::limits::VALUE_BYTES;
use crate::domain::{Shard, StepState};
use crate::workflow::{Command, Manifest, Program, history, parse};

pub fn definition(text: &str) -> Definition {
    match parse("t.yaml", text).unwrap_or_else(|problems| panic!("{}", problems.render())).remove(0) {
        Manifest::Workflow(definition) => definition,
        other => panic!("{other:?}"),
    }
}

pub fn run_id() -> RunId {
    RunId::from_parts(Ms(1_000), Shard(2), 77)
}

/// What an engine does around `advance`: keeps the header as bytes, the values, the open jobs and
/// every event, and gives values only when asked.
pub struct Bench {
    pub def: Definition,
    pub header: Vec<u8>,
    pub values: BTreeMap<String, Json>,
    /// Open jobs: (step, undo).
    pub open: Vec<(String, bool)>,
    pub jobs: Vec<Job>,
    pub events: Vec<Event>,
    pub cancelled: Vec<JobId>,
    pub epoch: u64,
    /// How often values had to be loaded.
    pub loads: usize,
    /// Timers that are set.
    pub timers: BTreeMap<String, Duration>,
    pub told: Vec<(RunId, Fact)>,
    pub runs: Vec<Run>,
    /// The largest header so far, in bytes.
    pub largest: usize,
}

impl Bench {
    pub fn start(text: &str, input: &str) -> Bench {
        let def = definition(text);
        let input = Json::parse(input, 1 << 20).expect("JSON");
        let started = start(&def, run_id(), input, Ms(2_000)).expect("starts");
        let mut bench = Bench {
            def,
            header: Vec::new(),
            values: BTreeMap::new(),
            open: Vec::new(),
            jobs: Vec::new(),
            events: Vec::new(),
            cancelled: Vec::new(),
            epoch: 0,
            loads: 0,
            timers: BTreeMap::new(),
            told: Vec::new(),
            runs: Vec::new(),
            largest: 0,
        };
        bench.commit(started);
        bench
    }

    pub fn run(&self) -> Run {
        Run::decode(&self.header).expect("a header")
    }

    pub fn commit(&mut self, next: Advanced) {
        for job in &next.jobs {
            let link = job.link.as_ref().expect("a link");
            self.open.push((link.step.clone(), link.undo));
        }
        for (key, value) in &next.values {
            assert!(self.values.insert(key.clone(), value.clone()).is_none(), "{key} is written twice");
        }
        self.jobs.extend(next.jobs);
        self.events.extend(next.events);
        self.cancelled.extend(next.cancel_jobs);
        next.drop_timers.iter().for_each(|key| {
            self.timers.remove(key);
        });
        self.timers.extend(next.timers);
        self.told.extend(next.tell);
        self.runs.extend(next.runs);
        if next.run.state.is_terminal() {
            self.timers.clear();
        }
        self.header = next.run.encode().expect("encodes");
        self.largest = self.largest.max(self.header.len());
    }

    /// Lets the timer pass whose key begins like this.
    pub fn fires(&mut self, start: &str) -> &mut Bench {
        let keys: Vec<String> = self.timers.keys().filter(|key| key.starts_with(start)).cloned().collect();
        assert_eq!(keys.len(), 1, "{start} among {:?}", self.timers);
        self.timers.remove(&keys[0]);
        assert_eq!(self.take(&[Fact::timer(keys[0].clone(), Ms(9_000))]), 0);
        self
    }

    pub fn tells(&mut self, what: What) -> &mut Bench {
        assert_eq!(self.take(&[Fact::of_run(what, Ms(9_000))]), 0);
        self
    }

    pub fn signals(&mut self, name: &str, data: &str) -> &mut Bench {
        let data = Json::parse(data, 1 << 20).expect("JSON");
        assert_eq!(self.take(&[Fact::signal(name.parse().expect("a name"), data, Ms(9_000))]), 0);
        self
    }

    /// The end of a job that was asked to stop.
    pub fn stops(&mut self, step: &str) -> &mut Bench {
        let fact = self.fact(step, false, What::Cancelled);
        assert_eq!(self.take(&[fact]), 0);
        self
    }

    pub fn state_of(&self, path: &str) -> StepState {
        let run = self.run();
        let found = crate::workflow::rows(&self.def, &run).into_iter().find(|row| row.path == path);
        found.unwrap_or_else(|| panic!("no {path} in {}", self.states())).record.state
    }

    /// What a top step gave.
    pub fn output_of(&self, step: &str) -> serde_json::Value {
        let run = self.run();
        let slot = run.step(step).and_then(|step| step.output.clone()).unwrap_or_else(|| panic!("{step} gave nothing"));
        slot.resolve(&mut |key| self.values.get(key).map(Json::to_value))
    }

    pub fn advance(&self, facts: &[Fact]) -> (Advanced, usize) {
        let run = self.run();
        let mut loaded = BTreeMap::new();
        for round in 0..20 {
            match advance(&self.def, &run, facts, Ms(3_000), &|key| loaded.get(key).cloned()) {
                Ok(next) => {
                    assert_eq!(next.run.rev, run.rev + 1);
                    return (next, round);
                }
                Err(NeedValues(keys)) => {
                    for key in keys {
                        let value = self.values.get(&key).expect("only what was kept is asked for").clone();
                        assert!(loaded.insert(key, value).is_none(), "asked twice");
                    }
                }
            }
        }
        panic!("values are asked for without end");
    }

    pub fn take(&mut self, facts: &[Fact]) -> u32 {
        for fact in facts {
            let before = self.open.len();
            self.open.retain(|(step, undo)| !(*step == fact.step && *undo == fact.undo));
            assert!(before - self.open.len() <= 1);
        }
        let (next, loads) = self.advance(facts);
        self.loads += loads;
        let ignored = next.ignored;
        self.commit(next);
        ignored
    }

    pub fn fact(&mut self, step: &str, undo: bool, what: What) -> Fact {
        self.epoch += 1;
        Fact::of_step(step, undo, Epoch(self.epoch), 1, Ms(2_500), what)
    }

    pub fn completes(&mut self, step: &str, output: &str) -> &mut Bench {
        let output = Some(Json::parse(output, 1 << 20).expect("JSON"));
        let fact = self.fact(step, false, What::Completed { output });
        assert_eq!(self.take(&[fact]), 0);
        self
    }

    pub fn fails(&mut self, step: &str) -> &mut Bench {
        let fact = self.fact(step, false, failed());
        assert_eq!(self.take(&[fact]), 0);
        self
    }

    pub fn undone(&mut self, step: &str, what: What) -> &mut Bench {
        let fact = self.fact(step, true, what);
        assert_eq!(self.take(&[fact]), 0);
        self
    }

    pub fn open(&self) -> String {
        let names = self.open.iter().map(|(step, undo)| format!("{}{step}", if *undo { "-" } else { "" }));
        names.collect::<Vec<_>>().join(" ")
    }

    /// `completed a:completed b:skipped`.
    pub fn states(&self) -> String {
        let run = self.run();
        let steps = run.steps.iter().map(|step| format!(" {}:{}", step.id, step.state));
        format!("{}{}", run.state, steps.collect::<String>())
    }

    pub fn told(&self) -> Vec<String> {
        let tell = |event: &Event| format!("{} {}", event.kind.as_str(), event.step.as_deref().unwrap_or("-"));
        self.events.iter().map(tell).collect()
    }

    /// The events add up to what the header says.
    pub fn check_history(&self) {
        let run = self.run();
        let folded = history::fold(&self.events).unwrap_or_else(|bad| panic!("{bad}"));
        assert_eq!(folded.run, run.state);
        for row in crate::workflow::rows(&self.def, &run) {
            let state = folded.steps.get(&row.path).copied().unwrap_or(StepState::Pending);
            assert_eq!(state, row.record.state, "{}", row.path);
        }
    }
}

pub fn failed() -> What {
    What::Failed { error: JobError::new("exit:1", "it broke") }
}

pub fn done() -> What {
    What::Completed { output: None }
}

const SAGA: &str = "
name: saga
input: {amount: {type: number, default: 5}}
timeout: 1h
steps:
  - {id: create, job: echo, compensate: {job: echo, with: \"${{ steps.create.outputs.id }}\"}}
  - {id: pay, needs: [create], run: [pay, \"${{ input.amount }}\"], compensate: {scope: attempted, job: echo}}
  - {id: stock, needs: [pay], job: echo, compensate: {job: echo}}
  - {id: ship, needs: [stock], job: echo, with: {k: \"${{ step.key }}\"}}
outputs: {id: \"${{ steps.create.outputs.id }}\"}
";

#[test]
fn a_sequence_runs_to_its_end() {
    let mut bench = Bench::start(SAGA, "{\"amount\": 7}");
    assert_eq!(bench.open(), "create");
    bench.completes("create", "{\"id\": \"o-1\"}").completes("pay", "1").completes("stock", "null");
    assert_eq!(bench.open(), "ship");
    bench.completes("ship", "true");
    assert_eq!(bench.states(), "completed create:completed pay:completed stock:completed ship:completed");
    let run = bench.run();
    assert_eq!(run.output, Some(Slot::Inline(Json::parse("{\"id\":\"o-1\"}", 100).expect("JSON"))));
    assert_eq!((run.rev, run.finished_at), (5, Some(Ms(3_000))));
    let command = Command::from_json(&bench.jobs[1].payload.to_value()).expect("a command");
    assert_eq!(command.program, Program::Argv(vec!["pay".into(), "7".into()]));
    assert_eq!(bench.jobs[3].payload.as_str(), format!("{{\"k\":\"{}:ship\"}}", run.id));
    bench.check_history();
}

#[test]
fn a_failure_undoes_what_completed_in_reverse_order() {
    let mut bench = Bench::start(SAGA, "null");
    bench.completes("create", "{\"id\": \"o-1\"}").completes("pay", "1").fails("stock");
    assert_eq!((bench.open().as_str(), bench.run().state), ("-pay", RunState::Compensating));
    bench.undone("pay", done());
    assert_eq!(bench.open(), "-create");
    let undo = &bench.jobs[bench.jobs.len() - 1];
    assert_eq!((undo.payload.as_str(), undo.retry.max), ("\"o-1\"", 10));
    bench.undone("create", done());
    assert_eq!(bench.states(), "compensated create:compensated pay:compensated stock:failed ship:cancelled");
    assert_eq!(
        bench.told()[6..],
        [
            "step.failed stock",
            "step.cancelled ship",
            "run.compensating -",
            "step.compensating pay",
            "step.compensated pay",
            "step.compensating create",
            "step.compensated create",
            "run.compensated -"
        ]
    );
    bench.check_history();
}

#[test]
fn an_attempted_step_is_undone_though_it_failed() {
    let mut bench = Bench::start(SAGA, "null");
    bench.completes("create", "{\"id\": 1}").fails("pay");
    assert_eq!(bench.open(), "-pay");
    bench.undone("pay", done()).undone("create", done());
    assert_eq!(bench.run().state, RunState::Compensated);
}

#[test]
fn a_first_step_that_fails_ends_the_run_by_what_it_declares() {
    let mut bench = Bench::start(SAGA, "null");
    bench.fails("create");
    assert_eq!((bench.run().state, bench.open()), (RunState::Compensated, String::new()));
    bench.check_history();
    let mut plain = Bench::start("name: p\nsteps: [{id: a, job: noop}, {id: b, needs: [a], job: noop}]", "null");
    plain.fails("a");
    assert_eq!(plain.states(), "failed a:failed b:cancelled");
    let error = plain.run().error.expect("an error");
    assert_eq!(error.to_string(), "exit:1: step `a` failed: it broke");
    plain.check_history();
}

#[test]
fn an_undo_that_fails_is_owed_and_the_others_still_run() {
    let mut bench = Bench::start(SAGA, "null");
    bench.completes("create", "{\"id\": 1}").completes("pay", "1").fails("stock");
    bench.undone("pay", failed());
    assert_eq!(bench.open(), "-create");
    bench.undone("create", done());
    assert_eq!(bench.states(), "failed create:compensated pay:failed stock:failed ship:cancelled");
    let run = bench.run();
    assert_eq!(run.owed, ["pay"]);
    assert!(run.error.expect("an error").message.starts_with("the undo of `pay` is owed; exit:1: step `stock`"));
    bench.check_history();
    // An undo whose expression fails is owed as well: `create` gave nothing that has an id.
    let mut bench = Bench::start(SAGA, "null");
    bench.completes("create", "7").fails("pay").undone("pay", done());
    assert_eq!((bench.run().state, bench.run().owed), (RunState::Failed, vec!["create".to_owned()]));
    bench.check_history();
}

const FAN: &str = "
name: fan
steps:
  - {id: a, job: noop, compensate: {job: echo}}
  - {id: b, job: noop, compensate: {job: echo}}
  - {id: c, job: noop, continue_on_error: true}
  - {id: join, needs: [a, b, c], job: echo, with: \"${{ needs }}\"}
";

#[test]
fn running_steps_are_waited_for_and_undone_by_order_of_completion() {
    let mut bench = Bench::start(&FAN.replace("continue_on_error: true", "queue: slow"), "null");
    assert_eq!(bench.open(), "a b c");
    bench.fails("c");
    assert_eq!((bench.open().as_str(), bench.run().state), ("a b", RunState::Compensating));
    bench.completes("b", "1");
    assert_eq!(bench.open(), "a");
    bench.completes("a", "1");
    assert_eq!(bench.open(), "-a");
    bench.undone("a", done());
    assert_eq!(bench.open(), "-b");
    bench.undone("b", done());
    assert_eq!(bench.run().state, RunState::Compensated);
    bench.check_history();
}

#[test]
fn a_step_that_may_fail_lets_the_run_go_on() {
    let mut bench = Bench::start(FAN, "null");
    bench.fails("c").completes("a", "1").completes("b", "\"x\"");
    assert_eq!(bench.open(), "join");
    let payload = bench.jobs[3].payload.to_value();
    assert_eq!(payload["a"]["outputs"], 1);
    assert_eq!((&payload["c"]["state"], &payload["c"]["error"]["class"]), (&"failed".into(), &"exit:1".into()));
    bench.completes("join", "null");
    assert_eq!(bench.run().state, RunState::Completed);
}

#[test]
fn what_follows_only_skipped_steps_is_skipped() {
    let text = "
name: skip
input: {go: {type: boolean, default: false}}
steps:
  - {id: a, if: input.go, job: noop}
  - {id: b, needs: [a], job: noop}
  - {id: c, job: noop}
  - {id: d, needs: [b, c], if: \"${{ steps.b.state == 'skipped' }}\", job: echo, with: \"${{ steps.a.outputs }}\"}
";
    let mut bench = Bench::start(text, "null");
    assert_eq!(
        (bench.open().as_str(), bench.states().as_str()),
        ("c", "running a:skipped b:skipped c:running d:pending")
    );
    bench.completes("c", "1");
    assert_eq!((bench.open().as_str(), bench.jobs[1].payload.as_str()), ("d", "null"));
    bench.completes("d", "null");
    assert_eq!(bench.run().state, RunState::Completed);
    let all = Bench::start(&text.replace("{id: c, job: noop}", "{id: c, if: \"false\", job: noop}"), "null");
    assert_eq!(all.states(), "completed a:skipped b:skipped c:skipped d:skipped");
    all.check_history();
}

#[test]
fn an_expression_that_fails_is_the_failure_of_its_step() {
    let text =
        "name: e\nsteps:\n  - {id: a, job: noop}\n  - {id: b, needs: [a], run: [x, \"${{ steps.a.outputs.n }}\"]}\n";
    let mut bench = Bench::start(text, "null");
    bench.completes("a", "{\"m\": 1}");
    assert_eq!(bench.states(), "failed a:completed b:failed");
    let error = bench.run().steps[1].error.clone().expect("an error");
    assert_eq!(error.class, "expression");
    assert!(error.message.contains("there is no `n` in `steps.a.outputs`: there is `m`"), "{error}");
    bench.check_history();
}

#[test]
fn cancelling_waits_undoes_and_ends_cancelled() {
    let mut bench = Bench::start(SAGA, "null");
    bench.completes("create", "{\"id\": 1}");
    assert_eq!(bench.take(&[Fact::cancel(true, Ms(1)), Fact::cancel(false, Ms(1))]), 1);
    assert_eq!(bench.cancelled, [bench.jobs[1].id]);
    let fact = bench.fact("pay", false, What::Cancelled);
    bench.take(&[fact]);
    // `pay` was attempted: what it did is unknown.
    assert_eq!(bench.open(), "-pay");
    bench.undone("pay", done()).undone("create", done());
    assert_eq!(bench.states(), "cancelled create:compensated pay:compensated stock:cancelled ship:cancelled");
    bench.check_history();

    // Nobody had leased it: it did nothing.
    let mut bench = Bench::start(SAGA, "null");
    bench.completes("create", "{\"id\": 1}");
    let never = Fact::of_step("pay", false, Epoch(0), 0, Ms(1), What::Cancelled);
    bench.take(&[Fact::cancel(true, Ms(1)), never]);
    assert_eq!(bench.open(), "-create");

    let mut bench = Bench::start(SAGA, "null");
    bench.completes("create", "{\"id\": 1}");
    bench.take(&[Fact::cancel(false, Ms(1))]);
    assert_eq!(bench.run().state, RunState::Running);
    bench.completes("pay", "1");
    assert_eq!(bench.states(), "cancelled create:completed pay:completed stock:cancelled ship:cancelled");
    bench.check_history();
}

#[test]
fn a_run_out_of_time_fails_and_compensates() {
    let mut bench = Bench::start(SAGA, "null");
    bench.completes("create", "{\"id\": 1}");
    bench.take(&[Fact::timer(TIMEOUT_TIMER, Ms(1)), Fact::timer("other", Ms(1))]);
    assert_eq!((bench.open().as_str(), bench.cancelled.len()), ("pay", 1));
    bench.completes("pay", "1").undone("pay", done()).undone("create", done());
    assert_eq!(bench.run().state, RunState::Compensated);
    assert_eq!(bench.run().error.expect("an error").class, "timeout");
    let mut late = Bench::start(SAGA, "null");
    late.completes("create", "{\"id\":1}").completes("pay", "1").completes("stock", "1").completes("ship", "1");
    assert_eq!(late.take(&[Fact::timer(TIMEOUT_TIMER, Ms(1))]), 1);
    assert_eq!(late.run().state, RunState::Completed);
}

#[test]
fn late_and_unknown_facts_change_nothing() {
    let mut bench = Bench::start(SAGA, "null");
    bench.completes("create", "{\"id\": 1}");
    let before = bench.run();
    let stale = Fact::of_step("create", false, Epoch(99), 1, Ms(1), failed());
    let unknown = Fact::of_step("nobody", false, Epoch(98), 1, Ms(1), done());
    let not_yet = Fact::of_step("ship", false, Epoch(97), 1, Ms(1), done());
    let undo = Fact::of_step("create", true, Epoch(96), 1, Ms(1), done());
    assert_eq!(bench.take(&[stale, unknown, not_yet, undo]), 4);
    assert_eq!(bench.run(), Run { rev: before.rev + 1, ..before });
}

#[test]
fn large_values_lie_outside_the_header_and_are_loaded_when_used() {
    let text = "
name: large
steps:
  - {id: a, job: noop}
  - {id: b, needs: [a], job: echo, with: \"${{ input.big | length }} ${{ steps.a.outputs | length }}\"}
  - {id: c, needs: [b], job: noop}
outputs: {a: \"${{ steps.a.outputs }}\"}
";
    let big = format!("\"{}\"", "x".repeat(5_000));
    let mut bench = Bench::start(text, &format!("{{\"big\": {big}}}"));
    bench.completes("a", &big);
    assert_eq!(bench.jobs[1].payload.as_str(), "\"5000 5000\"");
    // The input was loaded; the output was at hand, in the same advance.
    assert_eq!(bench.loads, 1);
    assert!(bench.header.len() < 1_000);
    bench.completes("b", "null").completes("c", "null");
    assert_eq!(bench.values.keys().collect::<Vec<_>>(), ["i", "o", "s/a"]);
    assert_eq!(bench.run().output, Some(Slot::Stored { key: "o".into(), size: 5_008 }));
    let too_large = format!("\"{}\"", "x".repeat(VALUE_BYTES));
    let mut bench = Bench::start(text, "{\"big\": 1}");
    bench.completes("a", &too_large);
    assert_eq!(bench.run().steps[0].error.as_ref().map(|error| error.class.as_str()), Some("output"));
}

#[test]
fn all_that_is_missing_is_asked_for_at_once() {
    let text = "
name: many
steps:
  - {id: a, job: noop}
  - {id: b, job: noop}
  - {id: c, needs: [a, b], job: echo, with: \"${{ steps.a.outputs | length }}\"}
  - {id: d, needs: [a, b], job: echo, with: \"${{ steps.b.outputs | length }} ${{ input.x | length }}\"}
";
    let big = format!("\"{}\"", "x".repeat(2_000));
    let mut bench = Bench::start(text, &format!("{{\"x\": {big}}}"));
    bench.completes("a", &big);
    let run = bench.run();
    let output = Some(Json::parse(&big, 9_999).expect("JSON"));
    let fact = bench.fact("b", false, What::Completed { output });
    let missing = advance(&bench.def, &run, &[fact], Ms(3), &|_| None);
    assert_eq!(missing, Err(NeedValues(vec!["i".into(), "s/a".into()])));
}

#[test]
fn the_same_arguments_give_the_same_answer() {
    let bench = Bench::start(SAGA, "null");
    let facts = [Fact::of_step("create", false, Epoch(1), 1, Ms(1), done())];
    assert_eq!(bench.advance(&facts), bench.advance(&facts));
    let (first, second) = (&Bench::start(SAGA, "null").jobs[0], &bench.jobs[0]);
    assert_eq!(first.id, second.id);
    assert_eq!(first.id.shard(), run_id().shard());
}

#[test]
fn only_declared_names_are_published() {
    let text = "name: n\nsteps: [{id: a, run: ./x, outputs: [k]}]\n";
    let mut bench = Bench::start(text, "null");
    bench.completes("a", "{\"k\": \"v\", \"other\": 1}");
    assert_eq!(bench.run().steps[0].output, Some(Slot::Inline(Json::parse("{\"k\":\"v\"}", 99).expect("JSON"))));
}
