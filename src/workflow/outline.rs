//! What is inside of a workflow as a tree of plain words: its steps in the order of the manifest, what
//! each does and needs, and the branches inside. For faces that draw a run; knows nothing of runs.

use super::definition::Definition;
use super::draw::does;
use super::spec::{StepSpec, Verb};

/// One step, as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outline {
    pub id: String,
    /// `run ./bin/ship`, `wait for paid, at most 3d`.
    pub does: String,
    /// Ids of steps beside it.
    pub needs: Vec<String>,
    /// It is done for each item of a list, and again while a condition holds.
    pub each: bool,
    pub repeats: bool,
    /// It stands in `finally`.
    pub last: bool,
    /// The signal that it waits for.
    pub signal: Option<String>,
    /// The lists of steps inside; one that is named is a branch.
    pub inside: Vec<(Option<String>, Vec<Outline>)>,
}

/// The steps of a workflow, those of `finally` last.
pub fn outline(def: &Definition) -> Vec<Outline> {
    let spec = def.spec();
    let main = spec.steps.iter().map(|step| of(step, false));
    main.chain(spec.finally.iter().map(|step| of(step, true))).collect()
}

fn of(step: &StepSpec, last: bool) -> Outline {
    let inner = step.verb.inner().into_iter().filter(|inner| !inner.steps.is_empty());
    Outline {
        id: step.id.clone(),
        does: does(step),
        needs: step.needs.clone(),
        each: step.foreach.is_some(),
        repeats: step.repeat.is_some(),
        last,
        signal: match &step.verb {
            Verb::Wait(wait) => Some(wait.signal.to_string()),
            _ => None,
        },
        inside: inner
            .map(|inner| {
                let steps = inner.steps.iter().map(|step| of(step, false)).collect();
                (inner.branch.map(ToString::to_string), steps)
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workflow::{Manifest, parse};

    #[test]
    fn it_holds_every_step_with_what_is_inside() {
        let text = r#"
name: outlined
steps:
  - {id: a, job: noop, foreach: "[1, 2]"}
  - id: b
    needs: [a]
    switch: {cases: [{name: big, when: "true", steps: [{id: c, wait: {signal: paid}}]}]}
finally: [{id: z, job: log}]
"#;
        let found = parse("t.yaml", text).unwrap_or_else(|problems| panic!("{}", problems.render())).remove(0);
        let Manifest::Workflow(definition) = found else { panic!("a workflow") };
        let steps = outline(&definition);
        let ids: Vec<(&str, bool, bool)> = steps.iter().map(|s| (s.id.as_str(), s.each, s.last)).collect();
        assert_eq!(ids, [("a", true, false), ("b", false, false), ("z", false, true)]);
        assert_eq!(steps[1].needs, ["a"]);
        let (branch, inside) = &steps[1].inside[0];
        assert_eq!((branch.as_deref(), inside[0].signal.as_deref()), (Some("big"), Some("paid")));
        assert_eq!(steps[1].inside.len(), 1, "an `else` without steps is none");
    }
}
