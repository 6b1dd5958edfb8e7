//! What manifests name that is not in them, and what they give it: whether it is there, and takes that, is
//! known once they are applied.

use std::collections::BTreeMap;

use super::definition::Definition;
use super::expr::Template;
use super::input::misfits;
use super::manifest::Kind;
use super::problem::{Place, Problem};
use super::read::Reader;
use super::yaml::Node;
use crate::domain::Name;

/// Something that a manifest names and that must be there when it is applied.
#[derive(Clone, Debug)]
pub struct Reference {
    pub kind: Kind,
    pub name: Name,
    /// What is to be told where it is not.
    pub missing: Problem,
    /// What a workflow is given there.
    pub input: Option<Given>,
}

/// The input that a manifest gives a workflow, as far as it is known before anything runs.
#[derive(Clone, Debug)]
pub struct Given {
    /// By name; of one that is an expression, nothing.
    pub fields: BTreeMap<String, Option<serde_json::Value>>,
    /// Where it is told what does not fit.
    pub place: Problem,
}

impl Given {
    /// What does not fit into what a workflow declares.
    pub fn misfits(&self, workflow: &Definition) -> Vec<Problem> {
        let Some(declared) = &workflow.spec().input else { return Vec::new() };
        let given = self.fields.iter().map(|(name, value)| (name.as_str(), value.as_ref())).collect();
        let problem = |why| Problem {
            message: format!("`{}` cannot begin with this: {why}", workflow.name()),
            ..self.place.clone()
        };
        misfits(declared, &given).into_iter().map(problem).collect()
    }
}

/// What is known of an input; nothing of one that is an expression as a whole. Without any it is empty.
pub fn given(reader: &Reader<'_>, place: Place, input: Option<&Template>) -> Option<Given> {
    let known = |template: &Template| match template {
        Template::Literal(value) => Some(value.clone()),
        _ => None,
    };
    let fields = match input {
        None | Some(Template::Literal(serde_json::Value::Null)) => BTreeMap::new(),
        Some(Template::Literal(serde_json::Value::Object(fields))) => {
            fields.iter().map(|(name, value)| (name.clone(), Some(value.clone()))).collect()
        }
        Some(Template::Map(fields)) => fields.iter().map(|(name, value)| (name.clone(), known(value))).collect(),
        Some(_) => return None,
    };
    Some(Given { fields, place: Problem::new(reader.source(), place, String::new(), None) })
}

/// Notes that a workflow must be there when this is applied.
pub fn refer(reader: &mut Reader<'_>, node: &Node, kind: Kind, name: &Name, input: Option<Given>) {
    let message = format!("there is no {} `{name}`", kind.stored());
    let hint = "apply it together with this one, or before".to_owned();
    let missing = Problem::new(reader.source(), node.place, message, Some(hint));
    reader.refers(Reference { kind, name: name.clone(), missing, input });
}
