use std::sync::Arc;

use crate::domain::{Ms, RunId};
use crate::store::{Commit, Committed, Move, Result, RunCommit, RunRecord, RunWork, Store};

pub struct Definitions {
    store: Arc<dyn Store>,
}

impl Definitions {
    pub fn new(store: Arc<dyn Store>) -> Self {
        Definitions { store }
    }

    pub async fn advance_with(
        &self,
        run: RunId,
        _record: Option<RunRecord>,
        moves: &[Move],
        _now: Ms,
    ) -> Result<RunCommit> {
        let _ = &self.store;
        Ok(RunCommit { run, facts: moves.iter().map(|_| vec![]).collect(), advance: None })
    }

    pub async fn drain(&self, work: RunWork, _now: Ms) -> Result<RunCommit> {
        Ok(RunCommit { run: work.record.id, facts: vec![], advance: None })
    }

    pub fn learn(&self, _commits: &[Commit], _answers: &[Committed]) {}
}
