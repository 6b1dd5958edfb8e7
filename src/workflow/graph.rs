//! A checked workflow, compiled: every list of steps is a scope, every layer of a step (its
//! `foreach`, its `while`, its verb) a node of one, and every name in an expression a place relative to
//! where it stands. Worked out once a definition; knows nothing of runs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::expr::{Expr, Template};
use super::spec::{StepSpec, Verb, WorkflowSpec};

/// The scope of the steps of the workflow itself; those of `finally` are its last.
pub const ROOT: usize = 0;

#[derive(Clone, Debug)]
pub struct Graph {
    pub nodes: Vec<Node>,
    pub scopes: Vec<ScopeDef>,
    /// How many steps of the root are not those of `finally`.
    pub main: usize,
    pub outputs: Uses,
    /// Whether any step says how it is undone.
    pub compensates: bool,
}

/// A list of steps.
#[derive(Clone, Debug)]
pub struct ScopeDef {
    pub nodes: Vec<usize>,
    pub by_id: BTreeMap<String, usize>,
    /// The node these steps are inside of.
    pub owner: Option<usize>,
    pub branch: Option<String>,
}

/// What of a step a node stands for. A step with `foreach` and `while` is three nodes, each the only
/// one in the scope of the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    Each,
    Loop,
    Verb,
}

#[derive(Clone, Debug)]
pub struct Node {
    pub spec: Arc<StepSpec>,
    pub layer: Layer,
    /// It is the outermost layer of its step: the one that has needs and a condition.
    pub outer: bool,
    pub scope: usize,
    pub pos: usize,
    /// Positions in the same scope.
    pub needs: Vec<usize>,
    pub dependents: Vec<usize>,
    /// The scopes inside, in the order of [`Verb::inner`].
    pub inner: Vec<usize>,
    /// Whether what stands around goes on when this has failed.
    pub continues: bool,
    pub condition: Uses,
    /// What the layer itself looks at: `items`, the condition of `while`, or the verb's own templates.
    pub work: Uses,
    /// What `when`, `match` and the `key` of items look at.
    pub choice: Uses,
    pub undo: Uses,
}

/// The names that templates look at, relative to the steps they stand among: only what is used is
/// loaded and built. `up` counts the scopes outwards.
#[derive(Clone, Debug, Default)]
pub struct Uses {
    pub any: bool,
    pub input: bool,
    pub run: bool,
    pub step: bool,
    pub signal: bool,
    /// Steps that are read, by (up, position), and whether their outputs are.
    pub steps: BTreeMap<(usize, usize), bool>,
    /// The needs, if `needs` is read.
    pub needs: Vec<(usize, usize)>,
    /// Names of items; the frame so many scopes up is an item's.
    pub items: Vec<(String, usize)>,
    /// The frame so many scopes up is an item's or a round's.
    pub looped: Option<usize>,
}

impl Graph {
    pub fn new(spec: &WorkflowSpec) -> Graph {
        let mut graph = Graph {
            nodes: Vec::new(),
            scopes: Vec::new(),
            main: spec.steps.len(),
            outputs: Uses::default(),
            compensates: false,
        };
        let steps: Vec<&StepSpec> = spec.steps.iter().chain(&spec.finally).collect();
        graph.add_scope(&steps, None, None);
        for pos in graph.main..steps.len() {
            let at = graph.scopes[ROOT].nodes[pos];
            graph.nodes[at].continues = true;
        }
        for at in 0..graph.nodes.len() {
            graph.compile(at);
        }
        let outputs: Vec<&Expr> = exprs_of(spec.outputs.iter().map(|(_, template)| template));
        graph.outputs = graph.uses(&outputs, ROOT, None);
        graph.compensates = spec.all_steps().iter().any(|step| step.compensate.is_some());
        graph
    }

    fn add_scope(&mut self, steps: &[&StepSpec], owner: Option<usize>, branch: Option<&str>) -> usize {
        let by_id = steps.iter().enumerate().map(|(pos, step)| (step.id.clone(), pos)).collect();
        let id = self.scopes.len();
        self.scopes.push(ScopeDef { nodes: Vec::new(), by_id, owner, branch: branch.map(str::to_owned) });
        for (pos, step) in steps.iter().enumerate() {
            let spec = Arc::new((*step).clone());
            self.add_node(&spec, first_layer(step), true, id, pos);
        }
        // A step may stand before those it needs: known are they all only now.
        for pos in 0..steps.len() {
            let at = self.scopes[id].nodes[pos];
            for need in self.nodes[at].needs.clone() {
                let need = self.scopes[id].nodes[need];
                self.nodes[need].dependents.push(pos);
            }
        }
        id
    }

    fn add_node(&mut self, spec: &Arc<StepSpec>, layer: Layer, outer: bool, scope: usize, pos: usize) -> usize {
        let at = self.nodes.len();
        let by_id = &self.scopes[scope].by_id;
        let needs = match outer {
            true => spec.needs.iter().filter_map(|id| by_id.get(id).copied()).collect(),
            false => Vec::new(),
        };
        self.nodes.push(Node {
            spec: spec.clone(),
            layer,
            outer,
            scope,
            pos,
            needs,
            dependents: Vec::new(),
            inner: Vec::new(),
            continues: outer && spec.continue_on_error,
            condition: Uses::default(),
            work: Uses::default(),
            choice: Uses::default(),
            undo: Uses::default(),
        });
        self.scopes[scope].nodes.push(at);
        let inner = match layer {
            Layer::Verb => spec
                .verb
                .inner()
                .into_iter()
                .map(|inner| self.add_scope(&inner.steps.iter().collect::<Vec<_>>(), Some(at), inner.branch))
                .collect(),
            Layer::Each | Layer::Loop => {
                let by_id = BTreeMap::from([(spec.id.clone(), 0)]);
                let id = self.scopes.len();
                self.scopes.push(ScopeDef { nodes: Vec::new(), by_id, owner: Some(at), branch: None });
                let next = if layer == Layer::Each && spec.repeat.is_some() { Layer::Loop } else { Layer::Verb };
                self.add_node(spec, next, false, id, 0);
                vec![id]
            }
        };
        self.nodes[at].inner = inner;
        at
    }

    fn compile(&mut self, at: usize) {
        let node = &self.nodes[at];
        let (spec, scope, own) = (node.spec.clone(), node.scope, Some(at));
        let condition: Vec<&Expr> = spec.condition.iter().filter(|_| node.outer).collect();
        let condition = self.uses(&condition, scope, own);
        let (work, choice, undo) = match node.layer {
            Layer::Each => {
                let each = spec.foreach.as_ref();
                let items = exprs_of(each.iter().map(|each| &each.items));
                let key: Vec<&Expr> = each.iter().filter_map(|each| each.key.as_ref()).collect();
                // The key sees the item: it is looked at from inside.
                let choice = self.uses(&key, self.nodes[at].inner[0], own);
                (self.uses(&items, scope, own), choice, Uses::default())
            }
            Layer::Loop => {
                let condition: Vec<&Expr> = spec.repeat.iter().map(|repeat| &repeat.condition).collect();
                let mut work = self.uses(&condition, scope, own);
                // `loop` is the loop's own, which is not entered yet.
                work.looped = None;
                (work, Uses::default(), Uses::default())
            }
            Layer::Verb => {
                let work = exprs_of(spec.verb.templates());
                let view = match &spec.verb {
                    Verb::Steps { .. } => self.nodes[at].inner[0],
                    _ => scope,
                };
                let undo = exprs_of(spec.compensate.iter().flat_map(|undo| undo.verb.templates()));
                (self.uses(&work, view, own), self.uses(&spec.verb.exprs(), scope, own), self.uses(&undo, scope, own))
            }
        };
        let node = &mut self.nodes[at];
        (node.condition, node.work, node.choice, node.undo) = (condition, work, choice, undo);
    }

    /// The scope itself and those around it, outwards.
    fn chain(&self, scope: usize) -> Vec<usize> {
        let mut chain = vec![scope];
        while let Some(owner) = chain.last().and_then(|scope| self.scopes[*scope].owner) {
            chain.push(self.nodes[owner].scope);
        }
        chain
    }

    fn resolve(&self, id: &str, chain: &[usize]) -> Option<(usize, usize)> {
        chain.iter().enumerate().find_map(|(up, scope)| Some((up, *self.scopes[*scope].by_id.get(id)?)))
    }

    fn uses(&self, exprs: &[&Expr], scope: usize, own: Option<usize>) -> Uses {
        let mut uses = Uses { any: !exprs.is_empty(), ..Uses::default() };
        if exprs.is_empty() {
            return uses;
        }
        let chain = self.chain(scope);
        for found in exprs.iter().flat_map(|expr| expr.refs()) {
            let name = found.path[0].as_str();
            match name {
                "input" => uses.input = true,
                "run" => uses.run = true,
                "step" => uses.step = true,
                "signal" => uses.signal = true,
                "loop" => uses.looped = self.frame_of(&chain, |node| node.layer != Layer::Verb),
                "needs" => {
                    let needs = own.map(|at| self.nodes[at].spec.needs.as_slice()).unwrap_or_default();
                    uses.needs = needs.iter().filter_map(|id| self.resolve(id, &chain)).collect();
                    uses.steps.extend(uses.needs.iter().map(|need| (*need, true)));
                }
                "steps" => match found.path.get(1).map(|id| self.resolve(id, &chain)) {
                    Some(Some(place)) => {
                        let outputs = found.path.get(2).is_none_or(|part| part == "outputs");
                        *uses.steps.entry(place).or_default() |= outputs;
                    }
                    _ => uses.steps.extend(self.visible(&chain, own).into_iter().map(|place| (place, true))),
                },
                _ => {
                    let named = |node: &Node| {
                        node.layer == Layer::Each && node.spec.foreach.as_ref().is_some_and(|each| each.name == name)
                    };
                    if let Some(up) = self.frame_of(&chain, named)
                        && !uses.items.iter().any(|(other, _)| other == name)
                    {
                        uses.items.push((name.to_owned(), up));
                    }
                }
            }
        }
        uses
    }

    /// The node of the root that a node is inside of, or is.
    fn outermost(&self, at: usize) -> usize {
        let mut here = at;
        while let Some(owner) = self.scopes[self.nodes[here].scope].owner {
            here = owner;
        }
        here
    }

    /// How many scopes up the steps are that stand inside of such a node.
    fn frame_of(&self, chain: &[usize], wanted: impl Fn(&Node) -> bool) -> Option<usize> {
        chain.iter().position(|scope| self.scopes[*scope].owner.is_some_and(|owner| wanted(&self.nodes[owner])))
    }

    /// Every step that has ended before this one starts, and the step itself; of outputs, every step.
    fn visible(&self, chain: &[usize], own: Option<usize>) -> BTreeSet<(usize, usize)> {
        let Some(own) = own else {
            return (0..self.scopes[chain[0]].nodes.len()).map(|pos| (0, pos)).collect();
        };
        let mut found = BTreeSet::new();
        let outermost = self.nodes[self.outermost(own)].pos;
        if outermost >= self.main {
            found.extend((0..self.main).map(|pos| (chain.len() - 1, pos)));
        }
        let mut inside = Some(own);
        for (up, scope) in chain.iter().enumerate() {
            let here = inside.filter(|at| self.nodes[*at].scope == *scope);
            match here {
                Some(at) => {
                    let mut next = vec![self.nodes[at].pos];
                    while let Some(pos) = next.pop() {
                        if found.insert((up, pos)) {
                            next.extend(&self.nodes[self.scopes[*scope].nodes[pos]].needs);
                        }
                    }
                }
                // The outputs of a group see all that is inside.
                None => found.extend((0..self.scopes[*scope].nodes.len()).map(|pos| (up, pos))),
            }
            if here.is_some() {
                inside = self.scopes[*scope].owner;
            }
        }
        found
    }
}

fn first_layer(spec: &StepSpec) -> Layer {
    match (&spec.foreach, &spec.repeat) {
        (Some(_), _) => Layer::Each,
        (None, Some(_)) => Layer::Loop,
        (None, None) => Layer::Verb,
    }
}

fn exprs_of<'a>(templates: impl IntoIterator<Item = &'a Template>) -> Vec<&'a Expr> {
    let mut exprs = Vec::new();
    templates.into_iter().for_each(|template| template.exprs(&mut exprs));
    exprs
}
