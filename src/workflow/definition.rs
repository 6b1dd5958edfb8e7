//! A workflow that was read, checked and compiled: what `advance` works with. Immutable, shared,
//! and named by the hash of its content, so that a run keeps the version it started with.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

use super::expr::{Expr, Template};
use super::manifest::Manifest;
use super::problem::{Problem, Problems, Source};
use super::spec::{StepSpec, WorkflowSpec};
use crate::domain::Name;

/// A checked workflow. Cloning copies the graph; share it in an `Arc`.
#[derive(Clone, Debug)]
pub struct Definition {
    spec: WorkflowSpec,
    text: String,
    hash: String,
    steps: Vec<Step>,
    by_id: BTreeMap<String, usize>,
    outputs: Uses,
    compensates: bool,
}

/// What is worked out once about a step.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub needs: Vec<usize>,
    /// The steps that need this one.
    pub dependents: Vec<usize>,
    /// What its condition looks at, its own work, and its undoing.
    pub condition: Uses,
    pub work: Uses,
    pub undo: Uses,
}

/// The names that templates look at: only what is used is loaded and built.
#[derive(Clone, Debug, Default)]
pub(super) struct Uses {
    pub input: bool,
    pub run: bool,
    pub step: bool,
    pub needs: bool,
    /// Steps that are read, and whether their outputs are.
    pub steps: BTreeMap<usize, bool>,
    /// `steps` as a whole, or by a name that is worked out.
    pub dynamic: bool,
    pub any: bool,
}

impl Definition {
    /// Compiles a spec that was checked.
    pub(super) fn new(spec: WorkflowSpec) -> Definition {
        let text = spec.canonical().to_string();
        Definition::compile(spec, text)
    }

    /// Loads what [`Definition::text`] gave, exactly.
    ///
    /// # Errors
    /// Text that is not the stored form of one workflow, or that this version refuses.
    pub fn load(text: &str) -> Result<Definition, Problems> {
        match Manifest::load(text)? {
            // The text stays what it was, so that the hash does.
            Manifest::Workflow(definition) => Ok(Definition::compile(definition.spec, text.to_owned())),
            _ => {
                let source = Source { file: "stored definition", text: "" };
                Err(Problems(vec![Problem::new(source, Default::default(), "it is not a workflow", None)]))
            }
        }
    }

    fn compile(spec: WorkflowSpec, text: String) -> Definition {
        let hash = Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        let by_id: BTreeMap<String, usize> =
            spec.steps.iter().enumerate().map(|(at, step)| (step.id.clone(), at)).collect();
        let mut steps: Vec<Step> = spec.steps.iter().map(|step| Step::new(step, &by_id)).collect();
        for at in 0..steps.len() {
            for need in steps[at].needs.clone() {
                steps[need].dependents.push(at);
            }
        }
        for at in 0..steps.len() {
            let needs = steps[at].needs.clone();
            let dynamic = [&steps[at].condition, &steps[at].work, &steps[at].undo].iter().any(|uses| uses.dynamic);
            let before = if dynamic { ancestors(&steps, at) } else { BTreeSet::new() };
            let step = &mut steps[at];
            for (uses, own) in [(&mut step.condition, None), (&mut step.work, None), (&mut step.undo, Some(at))] {
                if uses.needs {
                    uses.steps.extend(needs.iter().map(|need| (*need, true)));
                }
                if uses.dynamic {
                    uses.steps.extend(before.iter().copied().chain(own).map(|at| (at, true)));
                }
            }
        }
        let mut outputs = Uses::of(spec.outputs.iter().map(|(_, template)| template), None, &by_id);
        if outputs.dynamic {
            outputs.steps.extend((0..steps.len()).map(|at| (at, true)));
        }
        let compensates = spec.steps.iter().any(|step| step.compensate.is_some());
        Definition { spec, text, hash, steps, by_id, outputs, compensates }
    }

    pub fn name(&self) -> &Name {
        &self.spec.name
    }

    /// SHA-256 of the canonical form, 64 hexadecimal digits. People are shown [`Definition::short_hash`].
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The first 16 digits of the hash.
    pub fn short_hash(&self) -> &str {
        &self.hash[..16]
    }

    /// The canonical form: JSON, and a manifest too.
    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn spec(&self) -> &WorkflowSpec {
        &self.spec
    }

    /// Whether any step says how it is undone.
    pub fn compensates(&self) -> bool {
        self.compensates
    }

    pub(super) fn step(&self, at: usize) -> (&StepSpec, &Step) {
        (&self.spec.steps[at], &self.steps[at])
    }

    pub(super) fn outputs(&self) -> &Uses {
        &self.outputs
    }

    pub(super) fn index(&self, id: &str) -> Option<usize> {
        self.by_id.get(id).copied()
    }
}

/// Two definitions are the same when their content is.
impl PartialEq for Definition {
    fn eq(&self, other: &Definition) -> bool {
        self.hash == other.hash
    }
}

impl Step {
    fn new(spec: &StepSpec, by_id: &BTreeMap<String, usize>) -> Step {
        let needs: Vec<usize> = spec.needs.iter().filter_map(|id| by_id.get(id).copied()).collect();
        let condition = Uses::of([], spec.condition.as_ref(), by_id);
        let work = Uses::of(spec.templates(), None, by_id);
        let undo = spec.compensate.iter().flat_map(|compensate| compensate.verb.templates());
        let undo = Uses::of(undo, None, by_id);
        Step { needs, dependents: Vec::new(), condition, work, undo }
    }
}

/// Every step that has ended before this one starts.
fn ancestors(steps: &[Step], of: usize) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    let mut next = steps[of].needs.clone();
    while let Some(at) = next.pop() {
        if found.insert(at) {
            next.extend(&steps[at].needs);
        }
    }
    found
}

impl Uses {
    fn of<'a>(
        templates: impl IntoIterator<Item = &'a Template>,
        expr: Option<&'a Expr>,
        by_id: &BTreeMap<String, usize>,
    ) -> Uses {
        let mut exprs: Vec<&Expr> = expr.into_iter().collect();
        templates.into_iter().for_each(|template| template.exprs(&mut exprs));
        let mut uses = Uses { any: !exprs.is_empty(), ..Uses::default() };
        for found in exprs.iter().flat_map(|expr| expr.refs()) {
            match found.path[0].as_str() {
                "input" => uses.input = true,
                "run" => uses.run = true,
                "step" => uses.step = true,
                "needs" => uses.needs = true,
                "steps" => match found.path.get(1).map(|id| by_id.get(id)) {
                    Some(Some(at)) => {
                        let outputs = found.path.get(2).is_none_or(|part| part == "outputs");
                        *uses.steps.entry(*at).or_default() |= outputs;
                    }
                    _ => uses.dynamic = true,
                },
                _ => {}
            }
        }
        uses
    }
}
