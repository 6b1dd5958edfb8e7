//! What waits for a person: approvals, and undos that could not be done. Looks at headers only, and at
//! the latest runs.

use std::collections::BTreeMap;

use serde::Serialize;

use super::run_list::RunBrief;
use super::wire::Time;
use super::{Client, Result};
use crate::domain::RunState;
use crate::store::RunQuery;
use crate::workflow::{self, Body, Definition, Run};

/// Runs that are looked at: so many that live, and so many that ended last.
const LOOKED_AT: usize = 100;

/// Something that goes on only when somebody does something.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Wanted {
    pub run_id: String,
    pub workflow: String,
    pub what: Want,
    pub since: Option<Time>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Want {
    /// The approval at this path waits for an answer.
    Answer(String),
    /// A failed run owes so many undos.
    Undo(usize),
}

impl Client {
    /// What waits for a person, of the latest runs; and those of them that failed, the latest first.
    ///
    /// # Errors
    /// The store's.
    pub async fn looked_over(&self) -> Result<(Vec<Wanted>, Vec<RunBrief>)> {
        let (mut wanted, mut failed) = (Vec::new(), Vec::new());
        let mut definitions: BTreeMap<String, Definition> = BTreeMap::new();
        for finished in [false, true] {
            let page = self.store().runs(&RunQuery { finished, after: None, budget: LOOKED_AT }).await?;
            for record in page.items.iter().filter(|record| !finished || record.state == RunState::Failed) {
                let run = record.header()?;
                if finished {
                    wanted.extend(owed(&run));
                    failed.push(RunBrief::from(&run));
                    continue;
                }
                if !definitions.contains_key(&run.version) {
                    definitions.insert(run.version.clone(), self.definition_of(&run.version).await?);
                }
                if let Some(definition) = definitions.get(&run.version) {
                    wanted.extend(approvals(definition, &run));
                }
            }
        }
        failed.sort_by_key(|run| std::cmp::Reverse(run.finished_at));
        Ok((wanted, failed))
    }
}

fn of(run: &Run, what: Want, since: Option<crate::domain::Ms>) -> Wanted {
    Wanted { run_id: run.id.to_string(), workflow: run.workflow.to_string(), what, since: since.map(Time) }
}

fn owed(run: &Run) -> Option<Wanted> {
    (!run.owed.is_empty()).then(|| of(run, Want::Undo(run.owed.len()), run.finished_at))
}

fn approvals(definition: &Definition, run: &Run) -> Vec<Wanted> {
    let rows = workflow::rows(definition, run);
    let waits = |row: &&workflow::Row<'_>| {
        row.record.is_active() && matches!(row.record.body.as_deref(), Some(Body::Approval(_)))
    };
    rows.iter().filter(waits).map(|row| of(run, Want::Answer(row.path.clone()), row.record.started_at)).collect()
}
