//! Laws over arbitrary graphs, outcomes, orders, repetitions and batches of facts. The judge is a
//! witness beside the run: what was started and ended, in the order in which it happened.

use std::fmt::Write;

use proptest::prelude::*;

use super::tests::{Bench, done, failed};
use super::*;

#[derive(Clone, Debug)]
struct Plan {
    steps: Vec<PlannedStep>,
    /// Which open job ends next, how many facts go in one batch, and what else happens then.
    turns: Vec<(u16, u8, u8)>,
}

#[derive(Clone, Debug)]
struct PlannedStep {
    needs: u16,
    condition: u8,
    continues: bool,
    /// 0 none, 1 completed, 2 attempted.
    compensate: u8,
    /// 0 fails, 1 is cancelled, else completes.
    outcome: u8,
    undo_fails: bool,
    /// An expression that fails when the step starts.
    broken: bool,
}

fn planned_step() -> impl Strategy<Value = PlannedStep> {
    (
        any::<u16>(),
        0..6u8,
        prop::bool::weighted(0.15),
        0..3u8,
        0..12u8,
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.05),
    )
        .prop_map(|(needs, condition, continues, compensate, outcome, undo_fails, broken)| PlannedStep {
            needs,
            condition,
            continues,
            compensate,
            outcome,
            undo_fails,
            broken,
        })
}

fn plan() -> impl Strategy<Value = Plan> {
    let turns = prop::collection::vec((any::<u16>(), 0..4u8, 0..40u8), 60);
    (prop::collection::vec(planned_step(), 1..9), turns).prop_map(|(steps, turns)| Plan { steps, turns })
}

impl Plan {
    fn needs(&self, at: usize) -> Vec<usize> {
        // Few needs are likelier than many, so that there are wide graphs and long ones.
        let mask = self.steps[at].needs & (self.steps[at].needs >> 8 | 0b1001_0010);
        (0..at).filter(|need| mask & (1 << need) != 0).collect()
    }

    fn manifest(&self) -> String {
        let mut text = "name: plan\nsteps:\n".to_owned();
        for (at, step) in self.steps.iter().enumerate() {
            let needs = self.needs(at);
            let names: Vec<String> = needs.iter().map(|need| format!("s{need}")).collect();
            let _ = write!(text, "  - {{id: s{at}, needs: [{}]", names.join(", "));
            match (step.condition, needs.first()) {
                (0, _) => text.push_str(", if: 1 > 2"),
                (1, Some(need)) => {
                    let _ = write!(text, ", if: steps.s{need}.state == 'completed'");
                }
                _ => {}
            }
            if step.broken {
                text.push_str(", job: echo, with: \"${{ [1].nothing }}\"");
            } else {
                text.push_str(", job: echo");
            }
            if step.continues {
                text.push_str(", continue_on_error: true");
            }
            match step.compensate {
                1 => text.push_str(", compensate: {job: echo}"),
                2 => text.push_str(", compensate: {scope: attempted, job: echo}"),
                _ => {}
            }
            text.push_str("}\n");
        }
        text
    }

    fn what(&self, step: &str, undo: bool) -> What {
        let step = &self.steps[number(step)];
        match (undo, step.outcome) {
            (true, _) if step.undo_fails => failed(),
            (true, _) => done(),
            (false, 0) => failed(),
            (false, 1) => What::Cancelled,
            _ => What::Completed { output: Some(Json::parse("{\"n\":1}", 99).expect("JSON")) },
        }
    }
}

fn number(step: &str) -> usize {
    step[1..].parse().expect("a number")
}

/// What was seen from outside: ends of jobs as their facts were given, and starts.
#[derive(Default)]
struct Witness {
    started: Vec<(String, bool)>,
    ended: Vec<(String, bool, What)>,
}

impl Witness {
    fn look(&mut self, plan: &Plan, bench: &Bench) {
        for job in &bench.jobs[self.started.len()..] {
            let link = job.link.clone().expect("a link");
            let key = (link.step.clone(), link.undo);
            // W2, W3: each is done once and undone once.
            assert!(!self.started.contains(&key), "{key:?} twice");
            if link.undo {
                self.look_at_undo(plan, bench, &link.step);
            } else {
                let run = bench.run();
                for need in plan.needs(number(&link.step)) {
                    // W1
                    assert!(run.steps[need].state.has_ended(), "{} before s{need}", link.step);
                }
                assert!(!self.started.iter().any(|(_, undo)| *undo), "a step was started after an undo");
            }
            self.started.push(key);
        }
    }

    fn look_at_undo(&self, plan: &Plan, bench: &Bench, step: &str) {
        assert_eq!(bench.open.len(), 1, "an undo runs alone");
        let own = self.ended.iter().find(|(ended, undo, _)| ended == step && !undo);
        let (_, _, what) = own.expect("what never started is not undone");
        let attempted = plan.steps[number(step)].compensate == 2;
        assert!(attempted || matches!(what, What::Completed { .. }), "{step} never completed");
        let place = |step: &str| self.ended.iter().position(|(ended, undo, _)| ended == step && !undo);
        for (before, undo) in &self.started {
            assert!(!undo || place(before) > place(step), "{before} was undone before {step}");
        }
    }

    fn judge(&self, plan: &Plan, bench: &Bench) {
        let run = bench.run();
        // A cancel that came after the first failure, or after the end, was too late.
        let cancelled = run.cancel;
        assert!(run.state.is_terminal(), "nothing is open and the run is {}", run.state);
        assert!(run.steps.iter().all(|step| step.state.has_ended()), "{}", bench.states());
        assert_eq!(self.started.len(), self.ended.len());
        let broke = |step: &StepRecord| step.error.is_some() && !plan.steps[number(&step.id)].continues;
        let failed = run.steps.iter().any(broke);
        let compensates = bench.def.compensates();
        let mut must: Vec<&str> = Vec::new();
        let expected = if !failed && cancelled.is_none() {
            RunState::Completed
        } else if cancelled.is_none() && !compensates {
            RunState::Failed
        } else if cancelled == Some(false) || !compensates {
            RunState::Cancelled
        } else {
            for (step, undo, what) in &self.ended {
                let compensate = plan.steps[number(step)].compensate;
                if !undo && (compensate == 2 || compensate == 1 && matches!(what, What::Completed { .. })) {
                    must.push(step);
                }
            }
            match (run.owed.is_empty(), cancelled) {
                (false, _) => RunState::Failed,
                (true, Some(_)) => RunState::Cancelled,
                (true, None) => RunState::Compensated,
            }
        };
        assert_eq!(run.state, expected, "{}", bench.states());
        let undone = self.started.iter().filter(|(_, undo)| *undo).map(|(step, _)| step.as_str());
        let undone: Vec<&str> = undone.collect();
        must.reverse();
        assert_eq!(undone, must, "everything that must be undone was, last first");
        let owed: Vec<&String> = self
            .ended
            .iter()
            .filter(|(_, undo, what)| *undo && *what == super::tests::failed())
            .map(|(s, _, _)| s)
            .collect();
        assert_eq!(run.owed.iter().collect::<Vec<_>>(), owed);
    }
}

/// Drives a plan to its end. Gives the bench and what was seen.
fn drive(plan: &Plan, single: bool) -> (Bench, Witness) {
    let mut bench = Bench::start(&plan.manifest(), "null");
    let mut witness = Witness::default();
    let mut cancelled = false;
    witness.look(plan, &bench);
    let mut given: Vec<Fact> = Vec::new();
    for (pick, size, extra) in &plan.turns {
        if bench.open.is_empty() {
            break;
        }
        let mut batch = Vec::new();
        let mut open = bench.open.clone();
        for nth in 0..=*size {
            if open.is_empty() {
                break;
            }
            let (step, undo) = open.remove((usize::from(*pick) + usize::from(nth) * 7) % open.len());
            let what = plan.what(&step, undo);
            witness.ended.push((step.clone(), undo, what.clone()));
            batch.push(bench.fact(&step, undo, what));
        }
        match extra {
            // Given again, with the same lease or another, changed or not.
            0..=9 => batch.extend(given.get(usize::from(*pick) % given.len().max(1)).cloned()),
            // Of a lease nobody had; while `s0` is open it would be a real end.
            10 if !bench.open.contains(&("s0".to_owned(), false)) => batch.push(bench.fact("s0", false, failed())),
            11 if !cancelled => {
                cancelled = true;
                batch.push(Fact::cancel(*pick % 2 == 0, Ms(1)));
            }
            _ => {}
        }
        let was_stopping = bench.run().is_stopping();
        let before = forward_jobs(&bench);
        give(&mut bench, &batch, single);
        // Nothing new starts once a step has failed.
        assert!(!was_stopping || forward_jobs(&bench) == before);
        given.extend(batch);
        witness.look(plan, &bench);
    }
    (bench, witness)
}

fn forward_jobs(bench: &Bench) -> usize {
    bench.jobs.iter().filter(|job| job.link.as_ref().is_some_and(|link| !link.undo)).count()
}

fn give(bench: &mut Bench, batch: &[Fact], single: bool) {
    // As the inbox does: entries are taken in their order, many at once or one by one.
    if single {
        batch.iter().for_each(|fact| {
            bench.take(std::slice::from_ref(fact));
        });
    } else {
        bench.take(batch);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn runs_keep_the_laws_and_end(plan in plan()) {
        let (bench, witness) = drive(&plan, false);
        prop_assert!(bench.open.is_empty(), "60 turns are enough: {}", bench.open());
        witness.judge(&plan, &bench);
        bench.check_history();
    }

    #[test]
    fn a_batch_and_its_facts_singly_end_in_the_same_run(plan in plan()) {
        let (batched, _) = drive(&plan, false);
        let (single, _) = drive(&plan, true);
        let level = |bench: &Bench| Run { rev: 0, ..bench.run() };
        prop_assert_eq!(level(&batched), level(&single));
        prop_assert_eq!(&batched.jobs, &single.jobs);
        prop_assert_eq!(&batched.events, &single.events);
        prop_assert_eq!(&batched.values, &single.values);
    }

    #[test]
    fn a_run_that_is_over_stays_as_it_is(plan in plan(), nth in any::<prop::sample::Index>(), undo in any::<bool>()) {
        let (mut bench, _) = drive(&plan, false);
        let before = bench.run();
        prop_assert!(before.state.is_terminal());
        let step = format!("s{}", nth.index(plan.steps.len()));
        let fact = bench.fact(&step, undo, done());
        let facts = [fact, Fact::cancel(true, Ms(9)), Fact::timer(TIMEOUT_TIMER, Ms(9))];
        let (next, _) = bench.advance(&facts);
        prop_assert_eq!(next.ignored, 3);
        prop_assert!(next.jobs.is_empty() && next.events.is_empty() && next.values.is_empty());
        prop_assert_eq!(next.run, Run { rev: before.rev + 1, ..before });
    }
}

/// W7: n children, n results, one join, whatever the order in which they end.
#[test]
fn a_hundred_children_join_once() {
    let mut text = "name: wide\nsteps:\n  - {id: root, job: noop}\n".to_owned();
    let names: Vec<String> = (0..100).map(|nth| format!("c{nth}")).collect();
    for name in &names {
        let _ = writeln!(text, "  - {{id: {name}, needs: [root], job: echo}}");
    }
    let _ = writeln!(text, "  - {{id: join, needs: [{}], job: echo, with: \"${{{{ needs }}}}\"}}", names.join(", "));
    let mut bench = Bench::start(&text, "null");
    bench.completes("root", "null");
    assert_eq!(bench.open.len(), 100);
    for nth in 0..100 {
        assert!(!bench.jobs.iter().any(|job| job.link.as_ref().is_some_and(|link| link.step == "join")));
        bench.completes(&names[nth * 37 % 100], &nth.to_string());
    }
    assert_eq!(bench.open(), "join");
    let payload = bench.jobs[101].payload.to_value();
    assert_eq!(payload.as_object().map(serde_json::Map::len), Some(100));
    assert_eq!(payload["c37"]["outputs"], 1);
}
