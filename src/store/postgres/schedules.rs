//! Schedules: a change and what it starts are one transaction, made by whoever saw the schedule last.

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use super::columns::{job_uuid, number, packed};
use super::enqueue::Batch;
use super::errors::Fault;
use super::pool::{Connection, DEADLINE, Param, again};
use super::{PostgresStore, WAKE, starts};
use crate::domain::{Ms, Name};
use crate::store::contract::*;

impl PostgresStore {
    pub(super) async fn list_schedules(&self) -> Result<(Ms, Vec<ScheduleRecord>)> {
        let mut connection = Connection::take(&self.pool, DEADLINE).await?;
        // The clock is told also where there is no schedule.
        let sql = "SELECT c.now, s.name, s.rev, s.due, s.body FROM (SELECT goflow.now_ms() AS now) c
                   LEFT JOIN goflow.schedule s ON true ORDER BY s.name";
        let rows = connection.rows(sql, &[]).await.map_err(StoreError::from)?;
        let now = rows.first().map_or(0, |row| row.get(0));
        let schedules = rows.iter().filter_map(|row| Some((row.get::<_, Option<&str>>(1)?, row)));
        let schedules = schedules.map(|(name, row)| record(name, row)).collect::<Result<_>>()?;
        Ok((Ms(now), schedules))
    }

    pub(super) async fn change_schedule(&self, commit: &ScheduleCommit) -> Result<Option<EnqueueAnswer>> {
        let mut connection = Connection::take(&self.pool, DEADLINE).await?;
        let answer = again!(self.try_schedule(&mut connection, commit))?;
        if answer.is_some() {
            self.hint();
        }
        Ok(answer)
    }

    async fn try_schedule(
        &self,
        connection: &mut Connection,
        commit: &ScheduleCommit,
    ) -> Result<Option<EnqueueAnswer>, Fault> {
        let mut queues: Vec<&Name> = commit.jobs.iter().map(|new| &new.job.queue).collect();
        commit.runs.iter().for_each(|new| starts::queues(&new.effects, &mut queues));
        self.names.make(connection, queues.into_iter()).await?;
        let batch = Batch::of(&commit.jobs, &self.names)?;
        connection
            .run(async |client| {
                client.simple_query("BEGIN").await?;
                let done = self.in_one(client, commit, &batch).await;
                client.simple_query(if matches!(done, Ok(Some(_))) { "COMMIT" } else { "ROLLBACK" }).await?;
                if matches!(done, Ok(Some(_))) {
                    let _ = client.simple_query(WAKE).await;
                }
                done
            })
            .await
    }

    async fn in_one(
        &self,
        client: &Client,
        commit: &ScheduleCommit,
        batch: &Batch,
    ) -> Result<Option<EnqueueAnswer>, Fault> {
        if !change(client, commit).await? {
            return Ok(None);
        }
        let mut answer = EnqueueAnswer::default();
        if !commit.jobs.is_empty() {
            answer.jobs = batch.send(client).await?.answers();
        }
        for new in &commit.runs {
            answer.runs.push(starts::start(client, new, &self.names).await?);
        }
        if !commit.cancel.is_empty() {
            let ids: Vec<Uuid> = commit.cancel.iter().copied().map(job_uuid).collect();
            client.query_typed("SELECT goflow.ask($1)", &[(&ids, Type::UUID_ARRAY)]).await?;
        }
        if !commit.tell.is_empty() {
            starts::tell(client, &commit.tell).await?;
        }
        Ok(Some(answer))
    }
}

async fn change(client: &Client, commit: &ScheduleCommit) -> Result<bool, Fault> {
    let due = commit.next.as_ref().and_then(|(due, _)| *due).map(|due| due.0);
    let body = commit.next.as_ref().map(|(_, body)| body.as_slice());
    let events = if commit.events.is_empty() { None } else { Some(packed(&commit.events)?) };
    let (name, from) = (commit.name.as_str(), number(commit.from_rev));
    let params: [Param<'_>; 5] =
        [(&name, Type::TEXT), (&from, Type::INT8), (&due, Type::INT8), (&body, Type::BYTEA), (&events, Type::BYTEA)];
    Ok(client.query_typed_one("SELECT goflow.set_schedule($1, $2, $3, $4, $5)", &params).await?.get(0))
}

fn record(name: &str, row: &Row) -> Result<ScheduleRecord> {
    let name = name.parse().map_err(|error| StoreError::Corrupt(format!("a schedule has a bad name: {error}")))?;
    let rev: i64 = row.get(2);
    Ok(ScheduleRecord { name, rev: rev as u64, due: row.get::<_, Option<i64>>(3).map(Ms), body: row.get(4) })
}
