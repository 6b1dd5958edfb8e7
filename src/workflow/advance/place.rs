//! Where a step is inside of a run: addresses, the paths that stand for them outside, and the way
//! from one to the other. A path reads `reserve[3]/pick`: the item of a list in brackets, the round of a
//! loop behind `#`, a second attempt at a group behind `~`, a branch between slashes.

use super::Advance;
use crate::workflow::graph::{Graph, Layer, Node, ROOT};
use crate::workflow::record::StepRecord;
use crate::workflow::run::Run;
use crate::workflow::spec::Verb;

/// One step inwards: into the branch, item or round `key` of the step at `pos`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    pub pos: usize,
    pub key: u32,
}

/// A step of a run, an item or a round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addr {
    pub hops: Vec<Hop>,
    pub pos: usize,
}

impl Addr {
    pub fn root(pos: usize) -> Addr {
        Addr { hops: Vec::new(), pos }
    }

    /// The steps inside of this one.
    pub fn inside(&self, key: u32) -> Vec<Hop> {
        let mut hops = Vec::with_capacity(self.hops.len() + 1);
        hops.extend_from_slice(&self.hops);
        hops.push(Hop { pos: self.pos, key });
        hops
    }

    pub fn inner(&self, key: u32, pos: usize) -> Addr {
        Addr { hops: self.inside(key), pos }
    }

    /// The step that this one is inside of, and in which branch, item or round.
    pub fn owner(&self) -> Option<(Addr, u32)> {
        let (last, hops) = self.hops.split_last()?;
        Some((Addr { hops: hops.to_vec(), pos: last.pos }, last.key))
    }

    pub fn beside(&self, pos: usize) -> Addr {
        Addr { hops: self.hops.clone(), pos }
    }

    /// The position of the step of the workflow itself that this one is inside of, or is.
    pub fn outermost(&self) -> usize {
        self.hops.first().map_or(self.pos, |hop| hop.pos)
    }
}

impl Graph {
    pub fn at(&self, scope: usize, pos: usize) -> &Node {
        &self.nodes[self.scopes[scope].nodes[pos]]
    }

    /// The scope of the steps that a way leads to.
    pub fn scope_of(&self, hops: &[Hop]) -> usize {
        hops.iter().fold(ROOT, |scope, hop| {
            let node = self.at(scope, hop.pos);
            let branch = if is_branching(node) { hop.key as usize } else { 0 };
            node.inner.get(branch).copied().unwrap_or(ROOT)
        })
    }

    pub fn node(&self, addr: &Addr) -> &Node {
        self.at(self.scope_of(&addr.hops), addr.pos)
    }
}

fn is_branching(node: &Node) -> bool {
    node.layer == Layer::Verb && matches!(node.spec.verb, Verb::Switch { .. } | Verb::Parallel { .. })
}

/// The records that a way leads to.
pub fn frame<'a>(run: &'a Run, hops: &[Hop]) -> Option<&'a [StepRecord]> {
    let mut steps = run.steps.as_slice();
    for hop in hops {
        steps = steps.get(hop.pos)?.frame(hop.key)?;
    }
    Some(steps)
}

/// The path of a step.
pub fn path(graph: &Graph, run: &Run, addr: &Addr) -> String {
    let mut text = String::new();
    let name = |text: &mut String, node: &Node| {
        if node.outer {
            if !text.is_empty() {
                text.push('/');
            }
            text.push_str(&node.spec.id);
        }
    };
    let mut scope = ROOT;
    let mut steps = Some(run.steps.as_slice());
    for hop in &addr.hops {
        let node = graph.at(scope, hop.pos);
        let record = steps.and_then(|steps| steps.get(hop.pos));
        name(&mut text, node);
        match node.layer {
            Layer::Each => text.push_str(&format!("[{}]", hop.key)),
            Layer::Loop => text.push_str(&format!("#{}", hop.key)),
            Layer::Verb => {
                if let Some(attempt) = record.map(|record| record.attempt).filter(|attempt| *attempt > 1) {
                    text.push_str(&format!("~{attempt}"));
                }
            }
        }
        scope = graph.scope_of_inner(scope, hop);
        if let Some(branch) = &graph.scopes[scope].branch {
            text.push('/');
            text.push_str(branch);
        }
        steps = record.and_then(|record| record.frame(hop.key));
    }
    name(&mut text, graph.at(scope, addr.pos));
    text
}

impl Graph {
    fn scope_of_inner(&self, scope: usize, hop: &Hop) -> usize {
        let node = self.at(scope, hop.pos);
        let branch = if is_branching(node) { hop.key as usize } else { 0 };
        node.inner.get(branch).copied().unwrap_or(ROOT)
    }
}

/// The step that a path stands for; none if there is no such step, or the path is of an earlier
/// attempt.
pub fn parse(graph: &Graph, run: &Run, path: &str) -> Option<Addr> {
    if let Some(pos) = graph.scopes[ROOT].by_id.get(path) {
        return Some(Addr::root(*pos));
    }
    let (mut hops, mut scope) = (Vec::new(), ROOT);
    let mut segments = path.split('/').peekable();
    loop {
        let segment = segments.next()?;
        let end = segment.find(['[', '#', '~']).unwrap_or(segment.len());
        let pos = *graph.scopes[scope].by_id.get(&segment[..end])?;
        let mut addr = Addr { hops, pos };
        let mut attempt = 1;
        let mut rest = &segment[end..];
        while let Some((mark, number, after)) = suffix(rest) {
            let layer = graph.node(&addr).layer;
            match (mark, layer) {
                ('[', Layer::Each) | ('#', Layer::Loop) => addr = addr.inner(number, 0),
                ('~', Layer::Verb) => attempt = number,
                _ => return None,
            }
            rest = after;
        }
        if !rest.is_empty() {
            return None;
        }
        if segments.peek().is_none() {
            return Some(addr);
        }
        let node = graph.node(&addr);
        if node.layer != Layer::Verb || node.inner.is_empty() {
            return None;
        }
        let key = if is_branching(node) {
            let name = segments.next()?;
            node.inner.iter().position(|inner| graph.scopes[*inner].branch.as_deref() == Some(name))?
        } else {
            0
        };
        let record = frame(run, &addr.hops).and_then(|steps| steps.get(addr.pos));
        if record.is_some_and(|record| record.attempt.max(1) != attempt) {
            return None;
        }
        hops = addr.inside(u32::try_from(key).ok()?);
        scope = graph.scope_of(&hops);
    }
}

/// `[3]…`, `#3…` or `~3…`.
fn suffix(text: &str) -> Option<(char, u32, &str)> {
    let mark = text.chars().next()?;
    let digits = text[1..].find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len() - 1);
    let number = text[1..=digits].parse().ok()?;
    let rest = &text[1 + digits..];
    match mark {
        '[' => Some((mark, number, rest.strip_prefix(']')?)),
        '#' | '~' => Some((mark, number, rest)),
        _ => None,
    }
}

impl<'a> Advance<'a> {
    pub(super) fn node(&self, addr: &Addr) -> &'a Node {
        self.def.graph().node(addr)
    }

    pub(super) fn steps(&self, hops: &[Hop]) -> &[StepRecord] {
        frame(&self.out.run, hops).unwrap_or_default()
    }

    pub(super) fn record(&self, addr: &Addr) -> Option<&StepRecord> {
        frame(&self.out.run, &addr.hops)?.get(addr.pos)
    }

    pub(super) fn record_mut(&mut self, addr: &Addr) -> Option<&mut StepRecord> {
        let mut steps = self.out.run.steps.as_mut_slice();
        for hop in &addr.hops {
            steps = steps.get_mut(hop.pos)?.frame_mut(hop.key)?;
        }
        steps.get_mut(addr.pos)
    }

    pub(super) fn path(&self, addr: &Addr) -> String {
        path(self.def.graph(), &self.out.run, addr)
    }

    pub(super) fn parse(&self, path: &str) -> Option<Addr> {
        parse(self.def.graph(), &self.out.run, path)
    }

    /// The path as a key of what is written once: another life of the run has other keys.
    pub(super) fn value_path(&self, addr: &Addr) -> String {
        let path = self.path(addr);
        match self.out.run.life {
            0 => path,
            life => format!("{path}@{life}"),
        }
    }

    /// Where the steps inside of a step are, by branch, item or round.
    pub(super) fn insides(&self, addr: &Addr) -> Vec<u32> {
        self.record(addr).map(|record| record.frames().map(|(key, _)| key).collect()).unwrap_or_default()
    }

    /// Whether a step is one of `finally`, or inside of one.
    pub(super) fn is_final(&self, addr: &Addr) -> bool {
        addr.outermost() >= self.def.graph().main
    }
}
