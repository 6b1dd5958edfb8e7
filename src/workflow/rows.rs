//! The steps of a run as a list: each step, and below it what is inside of it as far as the run's
//! header knows it. For faces; decides nothing.

use super::advance::place::{self, Addr};
use super::definition::Definition;
use super::graph::Layer;
use super::record::StepRecord;
use super::run::Run;
use super::spec::StepSpec;

/// One step, item or round of a run.
#[derive(Clone, Debug)]
pub struct Row<'a> {
    /// The id of the step in the definition.
    pub id: &'a str,
    /// Where it is: `route/high/approve`, `reserve[3]`.
    pub path: String,
    /// How many steps it is inside of.
    pub depth: usize,
    /// Which item of the nearest list around it, from 0.
    pub item: Option<u32>,
    pub record: &'a StepRecord,
    pub spec: &'a StepSpec,
}

/// Every step of a run that has a record, in the order of the definition, each before what is inside
/// of it. Of a list, the items that are under way, or failed it.
pub fn rows<'a>(def: &'a Definition, run: &'a Run) -> Vec<Row<'a>> {
    let graph = def.graph();
    let mut rows = Vec::with_capacity(run.steps.len());
    let roots = (0..run.steps.len().min(def.graph().scopes[0].nodes.len())).rev();
    let mut next: Vec<(Addr, Option<u32>)> = roots.map(|pos| (Addr::root(pos), None)).collect();
    while let Some((addr, item)) = next.pop() {
        let Some(record) = place::frame(run, &addr.hops).and_then(|steps| steps.get(addr.pos)) else { continue };
        let node = graph.node(&addr);
        rows.push(Row {
            id: &node.spec.id,
            path: place::path(graph, run, &addr),
            depth: addr.hops.len(),
            item,
            record,
            spec: &node.spec,
        });
        let inner = record.frames().flat_map(|(key, steps)| {
            let item = if node.layer == Layer::Each { Some(key) } else { item };
            (0..steps.len()).map(move |pos| (key, pos, item))
        });
        let inner: Vec<_> = inner.map(|(key, pos, item)| (addr.inner(key, pos), item)).collect();
        next.extend(inner.into_iter().rev());
    }
    rows
}
