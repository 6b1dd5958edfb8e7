//! A workflow that was read, checked and compiled: what `advance` works with. Immutable, shared,
//! and named by the hash of its content, so that a run keeps the version it started with.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use super::graph::Graph;
use super::manifest::Manifest;
use super::problem::{Problem, Problems, Source};
use super::spec::{StepSpec, Verb, WorkflowSpec};
use crate::domain::Name;

/// A checked workflow. Cloning copies the graph; share it in an `Arc`.
#[derive(Clone, Debug)]
pub struct Definition {
    spec: WorkflowSpec,
    text: String,
    hash: String,
    graph: Graph,
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

    /// Loads what a store keeps under this hash. To whoever may not see its secrets it is shown without
    /// them: that text has another hash, and is still this version.
    ///
    /// # Errors
    /// As [`Definition::load`].
    pub fn kept(text: &str, hash: &str) -> Result<Definition, Problems> {
        Ok(Definition { hash: hash.to_owned(), ..Definition::load(text)? })
    }

    fn compile(spec: WorkflowSpec, text: String) -> Definition {
        let hash = Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        let graph = Graph::new(&spec);
        Definition { spec, text, hash, graph }
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
        self.graph.compensates
    }

    /// The workflows that its steps call.
    pub fn calls(&self) -> BTreeSet<Name> {
        let called = |step: &StepSpec| match &step.verb {
            Verb::Call { workflow, .. } => Some(workflow.clone()),
            _ => None,
        };
        self.spec.all_steps().into_iter().filter_map(called).collect()
    }

    pub(super) fn graph(&self) -> &Graph {
        &self.graph
    }
}

/// Two definitions are the same when their content is.
impl PartialEq for Definition {
    fn eq(&self, other: &Definition) -> bool {
        self.hash == other.hash
    }
}
