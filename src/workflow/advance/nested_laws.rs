//! Laws over arbitrary nested graphs: needs, joins, conditions, groups, branches, lists and loops,
//! with random failures, orders, batches, pauses, cancels and new lives. W1 to W3, W5, W7, and that a
//! batch equals its facts.

use std::collections::BTreeMap;
use std::fmt::Write;

use proptest::prelude::*;

use super::tests::{Bench, done, failed};
use super::*;
use crate::domain::run::StepState;
use crate::workflow::history;

/// A step: what it is, and what is inside.
#[derive(Clone, Debug)]
struct Tree {
    kind: u8,
    needs: u8,
    traits: u16,
    inner: Vec<Tree>,
}

fn tree() -> impl Strategy<Value = Tree> {
    let make = |(kind, needs, traits): (u8, u8, u16), inner| Tree { kind, needs, traits, inner };
    let leaf = (0..3u8, any::<u8>(), any::<u16>()).prop_map(move |head| make(head, Vec::new()));
    leaf.prop_recursive(3, 14, 3, move |inner| {
        ((3..8u8, any::<u8>(), any::<u16>()), prop::collection::vec(inner, 1..4))
            .prop_map(move |(head, inner)| make(head, inner))
    })
}

#[derive(Clone)]
struct Plan {
    steps: Vec<Tree>,
    turns: Vec<(u16, u8, u8)>,
    outcomes: Vec<u8>,
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}\nturns {:?}\noutcomes {:?}", self.manifest(), self.turns, self.outcomes)
    }
}

fn plan() -> impl Strategy<Value = Plan> {
    let turns = prop::collection::vec((any::<u16>(), 0..4u8, 0..60u8), 200);
    let outcomes = prop::collection::vec(0..30u8, 97);
    (prop::collection::vec(tree(), 1..5), turns, outcomes).prop_map(|(steps, turns, outcomes)| Plan {
        steps,
        turns,
        outcomes,
    })
}

/// The steps of a list as flow YAML. Ids are unique over the whole.
fn write_steps(steps: &[Tree], next: &mut usize, text: &mut String) {
    text.push('[');
    let first = *next;
    *next += steps.len();
    for (nth, step) in steps.iter().enumerate() {
        let _ = write!(text, "{}{{id: s{}", if nth > 0 { ", " } else { "" }, first + nth);
        let needs: Vec<String> =
            (0..nth).filter(|need| step.needs & (1 << need) != 0).map(|need| format!("s{}", first + need)).collect();
        if !needs.is_empty() {
            let _ = write!(text, ", needs: [{}]", needs.join(", "));
            if needs.len() > 1 && step.traits & 0x300 == 0 {
                let rest = if step.traits & 1 == 0 { "cancel" } else { "ignore" };
                let _ = write!(text, ", join: any, rest: {rest}");
            }
        }
        if step.traits & 0x7 == 7 {
            text.push_str(", if: 1 > 2");
        }
        if step.traits & 0x38 == 0x38 {
            text.push_str(", continue_on_error: true");
        }
        match step.traits >> 6 & 3 {
            1 => text.push_str(", compensate: {job: echo}"),
            2 => text.push_str(", compensate: {scope: attempted, job: echo}"),
            _ => {}
        }
        verb(step, next, text);
        text.push('}');
    }
    text.push(']');
}

fn verb(step: &Tree, next: &mut usize, text: &mut String) {
    match step.kind {
        3 => {
            text.push_str(", steps: ");
            write_steps(&step.inner, next, text);
        }
        4 => {
            let mode = if step.traits & 1 == 0 { "first" } else { "all" };
            let _ = write!(text, ", switch: {{mode: {mode}, cases: [");
            for (nth, _) in step.inner.iter().enumerate() {
                let holds = if step.traits >> nth & 0x10 != 0 { "1 > 0" } else { "1 > 2" };
                let _ = write!(text, "{}{{name: c{nth}, when: {holds}, steps: ", if nth > 0 { ", " } else { "" });
                write_steps(&step.inner[nth..=nth], next, text);
                text.push('}');
            }
            text.push_str("]}");
        }
        5 => {
            let wait = if step.traits & 1 == 0 { "" } else { ", wait: any" };
            text.push_str(", parallel: {branches: [");
            for (nth, _) in step.inner.iter().enumerate() {
                let _ = write!(text, "{}{{name: b{nth}, steps: ", if nth > 0 { ", " } else { "" });
                write_steps(&step.inner[nth..=nth], next, text);
                text.push('}');
            }
            let _ = write!(text, "]{wait}}}");
        }
        6 => {
            let error = if step.traits & 2 == 0 { "fail_fast" } else { "continue" };
            let wait = if step.traits & 5 == 5 { ", wait: any" } else { "" };
            let name = format!("i{next}");
            let _ = write!(
                text,
                ", foreach: {{items: \"[1, 2, 3]\", as: {name}, max_parallel: 2, on_error: {error}{wait}}}"
            );
            text.push_str(", steps: ");
            write_steps(&step.inner, next, text);
        }
        7 => {
            text.push_str(", while: {condition: loop.index < 2, max: 3}, steps: ");
            write_steps(&step.inner, next, text);
        }
        2 => text.push_str(", foreach: {items: \"[1, 2, 3, 4]\", as: leaf, max_parallel: 2}, job: echo"),
        _ => text.push_str(", job: echo"),
    }
}

impl Plan {
    fn manifest(&self) -> String {
        let mut text = "name: plan\nsteps: ".to_owned();
        write_steps(&self.steps, &mut 0, &mut text);
        text.push_str("\nfinally: [{id: last, job: noop}]\n");
        text
    }

    /// How a job ends: always the same for one path, and well for most.
    fn what(&self, step: &str, undo: bool) -> What {
        let sum: usize = step.bytes().map(usize::from).sum::<usize>() * 31 + step.len();
        match (undo, self.outcomes[sum % self.outcomes.len()]) {
            (true, 0) | (false, 1..=4) => failed(),
            (false, 5) => What::Cancelled,
            _ => done(),
        }
    }
}

/// What was seen from outside.
#[derive(Default)]
struct Witness {
    /// Each job in the order of its start, and how each ended, in that order.
    seen: usize,
    ended: Vec<(String, bool, What)>,
    undos: Vec<String>,
}

impl Witness {
    fn look(&mut self, bench: &Bench) {
        for job in &bench.jobs[self.seen..] {
            let link = job.link.as_ref().expect("a link");
            if link.undo {
                // W3: only what was done, after all that was done later.
                let own = self.ended.iter().rposition(|(step, undo, _)| *step == link.step && !undo);
                let own = own.unwrap_or_else(|| panic!("{} is undone and never ended", link.step));
                let before = self
                    .undos
                    .iter()
                    .filter_map(|other| self.ended.iter().rposition(|(step, undo, _)| step == other && !undo));
                assert!(before.min().is_none_or(|before| before > own), "{} is undone too late", link.step);
                let undone = |(step, undo, what): &(String, bool, What)| {
                    *step == link.step && *undo && matches!(what, What::Completed { .. })
                };
                assert!(!self.ended.iter().any(undone), "{} is undone twice", link.step);
                self.undos.push(link.step.clone());
            } else {
                // W2: what completed never runs again.
                let completed = |(step, undo, what): &(String, bool, What)| {
                    *step == link.step && !undo && matches!(what, What::Completed { .. })
                };
                let last = link.step == "last";
                assert!(last || !self.ended.iter().any(completed), "{} completed and runs again", link.step);
            }
        }
        self.seen = bench.jobs.len();
    }
}

/// Without compensations of steps with others inside: their order is not that of jobs.
fn leaves_compensate(mut tree: Tree) -> Tree {
    if tree.kind >= 3 {
        tree.traits &= !0xc0;
    }
    tree.inner = tree.inner.into_iter().map(leaves_compensate).collect();
    tree
}

fn drive(plan: &Plan, single: bool) -> Bench {
    let mut bench = Bench::start(&plan.manifest(), "null");
    let mut witness = Witness::default();
    witness.look(&bench);
    let (mut retried, mut cancelled) = (0, false);
    for (pick, size, extra) in &plan.turns {
        let state = bench.run().state;
        if bench.open.is_empty() && state != RunState::Paused {
            if !state.is_terminal() || retried > 1 || *extra > 20 {
                break;
            }
            retried += 1;
            // What is owed is undone now, in an order of its own.
            witness.undos.clear();
        }
        let mut batch = Vec::new();
        if state.is_terminal() {
            batch.push(Fact::of_run(What::Retry, Ms(1)));
        }
        let mut open = bench.open.clone();
        for nth in 0..=*size {
            if open.is_empty() {
                break;
            }
            let (step, undo) = open.remove((usize::from(*pick) + usize::from(nth) * 7) % open.len());
            // In another life it goes better.
            let what = if retried > 0 && pick % 3 > 0 { done() } else { plan.what(&step, undo) };
            witness.ended.push((step.clone(), undo, what.clone()));
            batch.push(bench.fact(&step, undo, what));
        }
        match extra {
            0..=3 => batch.push(Fact::of_run(What::Pause, Ms(1))),
            4 if !cancelled => {
                cancelled = true;
                batch.push(Fact::cancel(pick % 4 > 0, Ms(1)));
            }
            _ if state == RunState::Paused => batch.push(Fact::of_run(What::Resume, Ms(1))),
            _ => {}
        }
        if single {
            for fact in &batch {
                bench.take(std::slice::from_ref(fact));
            }
        } else {
            bench.take(&batch);
        }
        witness.look(&bench);
        bench.check_history();
    }
    if bench.run().state == RunState::Paused {
        bench.take(&[Fact::of_run(What::Resume, Ms(1))]);
    }
    // What is left ends well.
    for _ in 0..2_000 {
        let Some((step, undo)) = bench.open.first().cloned() else { break };
        witness.ended.push((step.clone(), undo, done()));
        let fact = bench.fact(&step, undo, done());
        bench.take(&[fact]);
        witness.look(&bench);
    }
    bench
}

/// W1: a step began after its needs had ended, by the order of events.
fn needs_came_first(bench: &Bench) {
    let mut states: BTreeMap<&str, StepState> = BTreeMap::new();
    for event in &bench.events {
        let Some(step) = event.step.as_deref() else { continue };
        let (around, id) = step.rsplit_once('/').map_or(("", step), |(around, id)| (around, id));
        if event.kind == EventKind::StepStarted {
            let id = id.split(['[', '#', '~']).next().unwrap_or(id);
            let spec = bench.def.spec().all_steps().into_iter().find(|spec| spec.id == id).expect("a step");
            let ended = |need: &String| {
                let path = if around.is_empty() { need.clone() } else { format!("{around}/{need}") };
                states.get(path.as_str()).is_some_and(|state| state.has_ended())
            };
            if spec.join == crate::workflow::spec::Quorum::All {
                assert!(spec.needs.iter().all(ended), "{step} began before its needs ended");
            } else if !spec.needs.is_empty() {
                assert!(spec.needs.iter().any(ended), "{step} began before its needs ended");
            }
        }
        if let Some(next) = history::moved(states.get(step).copied(), event.kind) {
            states.insert(step, next);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn nested_runs_keep_the_laws_and_end(mut plan in plan()) {
        plan.steps = plan.steps.into_iter().map(leaves_compensate).collect();
        let bench = drive(&plan, false);
        prop_assert!(bench.run().state.is_terminal(), "{} with open {}\n{}", bench.states(), bench.open(), plan.manifest());
        prop_assert!(bench.run().steps.iter().all(|step| !step.is_alive()));
        bench.check_history();
        needs_came_first(&bench);
    }

    #[test]
    fn a_batch_of_a_nested_run_equals_its_facts(mut plan in plan()) {
        plan.steps = plan.steps.into_iter().map(leaves_compensate).collect();
        let (batched, single) = (drive(&plan, false), drive(&plan, true));
        let level = |bench: &Bench| Run { rev: 0, ..bench.run() };
        prop_assert_eq!(level(&batched), level(&single));
        prop_assert_eq!(&batched.jobs, &single.jobs);
        prop_assert_eq!(&batched.events, &single.events);
        prop_assert_eq!(&batched.values, &single.values);
    }
}
