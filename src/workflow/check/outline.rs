//! The steps of a workflow as they were read, at every depth, with the places that mistakes are told
//! at. Only what the checks of the whole graph need; what a step does is in its spec.

use crate::domain::problem::Place;
use crate::domain::yaml::Node;
use crate::workflow::expr::Expr;
use crate::workflow::spec::{Outputs, Verb};

/// Every step that was read, and the lists they stand in.
#[derive(Debug, Default)]
pub struct Outline {
    pub drafts: Vec<Draft>,
    pub scopes: Vec<Scope>,
}

/// One list of steps: ids, `needs` and their circles are its own.
#[derive(Debug)]
pub struct Scope {
    /// The step that the list stands in; none for `steps` and `finally` of the workflow.
    pub owner: Option<usize>,
    pub kind: ScopeKind,
    pub steps: Vec<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScopeKind {
    Main,
    /// Sees every step of the main list: it begins when they have ended.
    Finally,
    Inner,
}

/// A step as it was read.
#[derive(Debug)]
pub struct Draft {
    pub id: String,
    pub place: Place,
    pub scope: usize,
    pub needs: Vec<(String, Place)>,
    pub needs_place: Place,
    /// The name under which the steps inside see the item.
    pub item: Option<String>,
    /// `while`: expressions see `loop`.
    pub repeats: bool,
    pub shape: Shape,
}

/// What is known of a value before a run: which names can be asked of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Shape {
    #[default]
    Any,
    Text,
    Fields(Vec<(String, Shape)>),
}

/// The part of a manifest that an expression belongs to: it decides which names are in scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whereabouts {
    /// A part of the step of this index.
    Step(usize, Part),
    /// The outputs of the whole workflow.
    Outputs,
    /// `concurrency.key`.
    Concurrency,
    Handler,
    /// `transform` of a webhook, and the run that its signal goes to.
    Webhook,
}

/// Parts of a step, by what they can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// `if`, and the items of `foreach`: there is no item yet.
    Before,
    /// `key` of `foreach`.
    Key,
    While,
    Work,
    /// `match` of a `wait`.
    Match,
    /// `env` of a group, which the steps inside take over.
    GroupEnv,
    /// `outputs` of a group: the steps inside have ended.
    Inside,
    Undo,
}

/// An expression and the scalar it stands in.
#[derive(Clone, Debug)]
pub struct Site {
    pub expr: Expr,
    pub node: Node,
    pub at: Whereabouts,
}

impl Outline {
    /// Opens a list of steps; its steps are added as they are read.
    pub fn open(&mut self, owner: Option<usize>, kind: ScopeKind) -> usize {
        self.scopes.push(Scope { owner, kind, steps: Vec::new() });
        self.scopes.len() - 1
    }

    /// Makes room for a step, so that what is read inside of it comes after it.
    pub fn add(&mut self, scope: usize, place: Place) -> usize {
        let at = self.drafts.len();
        self.drafts.push(Draft {
            id: String::new(),
            place,
            scope,
            needs: Vec::new(),
            needs_place: place,
            item: None,
            repeats: false,
            shape: Shape::Any,
        });
        self.scopes[scope].steps.push(at);
        at
    }

    /// The step around a step.
    pub fn owner(&self, of: usize) -> Option<usize> {
        self.scopes[self.drafts[of].scope].owner
    }

    /// The steps around a step, the nearest first.
    pub fn owners(&self, of: usize) -> impl Iterator<Item = usize> + '_ {
        std::iter::successors(self.owner(of), |at| self.owner(*at))
    }

    /// The step of this id in a list.
    pub fn find(&self, scope: usize, id: &str) -> Option<usize> {
        self.scopes[scope].steps.iter().copied().find(|at| self.drafts[*at].id == id)
    }
}

impl Shape {
    /// What a step publishes, as far as its manifest tells.
    pub fn of(verb: &Verb) -> Shape {
        let names = |names: &[String]| Shape::Fields(names.iter().map(|name| (name.clone(), Shape::Any)).collect());
        let inner = |steps: &[crate::workflow::spec::StepSpec]| {
            Shape::Fields(steps.iter().map(|step| (step.id.clone(), Shape::of_step(step))).collect())
        };
        match verb {
            Verb::Steps { outputs, .. } if !outputs.is_empty() => {
                Shape::Fields(outputs.iter().map(|(name, _)| (name.clone(), Shape::Any)).collect())
            }
            Verb::Steps { steps, .. } => inner(steps),
            Verb::Switch { .. } | Verb::Parallel { .. } => Shape::Fields(
                verb.inner()
                    .iter()
                    .filter_map(|scope| {
                        Some((scope.branch.filter(|name| !name.is_empty())?.to_owned(), inner(scope.steps)))
                    })
                    .collect(),
            ),
            Verb::Approval(_) => names(&["approved", "by", "comment"].map(str::to_owned)),
            Verb::Set(values) => Shape::Fields(values.iter().map(|(name, _)| (name.clone(), Shape::Any)).collect()),
            _ => match verb.outputs() {
                Some(Outputs::Names(given)) => names(given),
                Some(Outputs::Text) => Shape::Text,
                _ => Shape::Any,
            },
        }
    }

    fn of_step(step: &crate::workflow::spec::StepSpec) -> Shape {
        // A list, or an object by the keys of a map.
        if step.foreach.is_some() { Shape::Any } else { Shape::of(&step.verb) }
    }
}
