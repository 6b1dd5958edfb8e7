//! Random sagas for the simulation, and the books of a run: W1 to W3 and W5, checked from outside.

use goflow::domain::{Entropy, Json, Ms, RunId, RunState, Shard, StepState};
use goflow::store::advanced::effects;
use goflow::store::{Definition, Effects, Store};
use goflow::workflow::history::fold;
use goflow::workflow::{self, Manifest};

use super::world::{Execution, Seeded, Witness};

/// A workflow of one to six steps with random needs, failures and undos.
pub fn random_definition(dice: &Seeded, nth: u64) -> workflow::Definition {
    let mut text = format!("name: saga-{nth}\nsteps:\n");
    for step in 0..1 + dice.below(6) {
        let needs: Vec<String> = (0..step).filter(|_| dice.chance(2)).map(|need| format!("s{need}")).collect();
        let script = |fail: u64| format!("{{ms: {}, fail: {fail}, final: {}}}", dice.below(400), dice.chance(4));
        let fail = [0, 0, 0, 0, 1, 2, 9][dice.below(7) as usize];
        text += &format!("  - id: s{step}\n    job: work\n    queue: a\n    with: {}\n", script(fail));
        text += &format!("    needs: [{}]\n    retry: {{max: {}, initial: 200ms}}\n", needs.join(", "), dice.below(3));
        if dice.chance(2) {
            let fail = [0, 0, 1, 99][dice.below(4) as usize];
            // Without its own policy an undo is tried for half an hour, in which nothing else happens.
            let retry = format!("{{max: {}, initial: 200ms}}", 1 + dice.below(3));
            text += &format!("    compensate: {{job: work, with: {}, retry: {retry}}}\n", script(fail));
        }
    }
    let parsed = workflow::parse("saga.yaml", &text);
    let mut manifests = parsed.unwrap_or_else(|problems| panic!("{}\n{text}", problems.render()));
    match manifests.remove(0) {
        Manifest::Workflow(definition) => definition,
        _ => panic!("a workflow was written"),
    }
}

pub fn stored(definition: &workflow::Definition) -> Definition {
    Definition {
        kind: "workflow".into(),
        name: definition.name().clone(),
        hash: definition.hash().to_owned(),
        text: definition.text().to_owned(),
    }
}

/// The first effects of a run.
pub fn begin(definition: &workflow::Definition, dice: &Seeded, now: Ms) -> (RunId, Effects) {
    let id = RunId::from_parts(now, Shard(0), dice.next());
    let input = Json::parse("{}", 9).expect("JSON");
    let advanced = workflow::start(definition, id, input, now).expect("no input is asked for");
    (id, effects(advanced, now).expect("encodes"))
}

/// Whether the run is over.
pub async fn is_over(store: &dyn Store, run: RunId) -> bool {
    let record = store.run(run).await.expect("run").expect("the run is kept");
    record.state.is_terminal()
}

/// The books of a run that is over.
pub async fn check(store: &dyn Store, witness: &Witness, definition: &workflow::Definition, id: RunId) -> RunState {
    let record = store.run(id).await.expect("run").expect("the run is kept");
    let run = record.header().expect("a header");
    let context = || format!("run {id}: {run:#?}\n{}", definition.text());
    assert!(run.state.is_terminal(), "{}", context());
    for (spec, step) in definition.spec().steps.iter().zip(&run.steps) {
        let done = witness.of_step(id, &step.id, false);
        let recorded = |executions: &[Execution], epoch| {
            executions.iter().find(|one| one.epoch == epoch).and_then(|one| one.ended).expect("it ended")
        };
        // W1: no step before its needs.
        for need in &spec.needs {
            let needed = run.step(need).expect("a need is a step");
            let Some(first) = done.first() else { continue };
            let end = recorded(&witness.of_step(id, need, false), needed.epoch);
            assert!(end <= first.begun, "{} began before {need} had ended: {}", step.id, context());
        }
        // W2: a completed step is recorded once and never run again.
        if matches!(step.state, StepState::Completed | StepState::Compensated) {
            let end = recorded(&done, step.epoch);
            assert!(done.iter().all(|one| one.begun <= end), "{} ran again: {}\n{done:#?}", step.id, context());
        }
        // W3: none for a step that never completed; never before it was done.
        let undone = witness.of_step(id, &step.id, true);
        if !undone.is_empty() {
            assert!(spec.compensate.is_some() && step.order > 0, "{}: {}", step.id, context());
        }
        if matches!(step.state, StepState::Pending | StepState::Skipped) {
            assert!(done.is_empty() && undone.is_empty(), "{}: {}", step.id, context());
        }
    }
    check_undos(witness, id, &run, &context);
    // W5: the folded history is the stored state.
    let history = store.history(id, None, 100_000).await.expect("history").0;
    let folded = fold(&history).unwrap_or_else(|bad| panic!("{bad:?}: {}", context()));
    assert_eq!(folded.run, run.state, "{}", context());
    for step in &run.steps {
        let state = folded.steps.get(&step.id).copied().unwrap_or(StepState::Pending);
        assert_eq!(state, step.state, "{}: {}", step.id, context());
    }
    run.state
}

/// W3: compensations in reverse order of completion, one at a time, and each recorded once.
fn check_undos(witness: &Witness, id: RunId, run: &workflow::Run, context: &dyn Fn() -> String) {
    let mut undone: Vec<_> = run
        .steps
        .iter()
        .map(|step| (step, witness.of_step(id, &step.id, true)))
        .filter(|(_, executions)| !executions.is_empty())
        .collect();
    undone.sort_by_key(|(_, executions)| executions[0].begun);
    for pair in undone.windows(2) {
        let ((first, executions), (second, next)) = (&pair[0], &pair[1]);
        assert!(first.order > second.order, "{} was undone before {}: {}", first.id, second.id, context());
        let end = executions.iter().filter_map(|one| one.ended).max().expect("an undo ended");
        assert!(end <= next[0].begun, "two undos at a time: {}", context());
    }
    for (step, executions) in undone {
        let completed = executions.iter().filter(|one| one.ended.is_some() && !one.failed).count();
        let expected = usize::from(step.state == StepState::Compensated);
        assert!(completed >= expected, "{}: {}\n{executions:#?}", step.id, context());
        assert_eq!(run.owed.contains(&step.id), step.state != StepState::Compensated, "{}: {}", step.id, context());
    }
}
