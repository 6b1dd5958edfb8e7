//! Records that cannot be read at all: what the columns beside them tell. One more look-up for those
//! alone, so that the others cost nothing.

use std::sync::Arc;

use tokio_postgres::types::Type;
use uuid::Uuid;

use super::PostgresStore;
use super::columns::{job_uuid, run_id};
use super::errors::Fault;
use super::pool::{Connection, Param};
use crate::domain::{Job, Name, RunId};
use crate::store::codec::is_lost;
use crate::store::contract::*;

fn name(text: &str) -> Result<Name> {
    text.parse().map_err(|error| StoreError::Corrupt(format!("a kept name: {error}")))
}

impl PostgresStore {
    /// Fills in the queue and the `rev` of a job whose record tells neither; gives its run.
    async fn find_again(&self, connection: &mut Connection, job: &mut Job) -> Result<Option<RunId>, Fault> {
        let id = job_uuid(job.id);
        let params: [Param<'_>; 1] = [(&id, Type::UUID)];
        let sql = "SELECT q.name, j.rev, j.run_id FROM goflow.job j JOIN goflow.queue q ON q.id = j.queue
                   WHERE j.id = $1";
        let rows = connection.rows(sql, &params).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        (job.queue, job.rev) = (name(row.get(0))?, row.get::<_, i64>(1) as u32);
        Ok(row.get::<_, Option<Uuid>>(2).map(run_id))
    }

    pub(super) async fn find_stored(
        &self,
        connection: &mut Connection,
        mut jobs: Vec<Stored>,
    ) -> Result<Vec<Stored>, Fault> {
        for stored in jobs.iter_mut().filter(|stored| is_lost(&stored.job)) {
            self.find_again(connection, &mut stored.job).await?;
        }
        Ok(jobs)
    }

    pub(super) async fn find_claimed(&self, connection: &mut Connection, claimed: &mut [Claimed]) -> Result<()> {
        for one in claimed.iter_mut().filter(|one| is_lost(&one.job)) {
            if let Some(run) = self.find_again(connection, &mut one.job).await.map_err(StoreError::from)? {
                one.run = self.run(run).await?.map(Arc::new);
            }
        }
        Ok(())
    }
}
