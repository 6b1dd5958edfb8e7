//! New work: one call of `goflow.enqueue` a batch; runs follow in the same transaction.

use std::collections::BTreeSet;

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use super::columns::{EffectColumns, Jobs, job_id, number, packed, placeholders, run_uuid};
use super::errors::Fault;
use super::pool::{Connection, DEADLINE, Param, again};
use super::{PostgresStore, WAKE};
use crate::domain::EventKind;
use crate::domain::time::millis;
use crate::store::contract::{Enqueue, EnqueueAnswer, Enqueued, NewJob, Result, Start, StoreError};

const ENQUEUE: &str = "SELECT * FROM goflow.enqueue($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, \
                       $16, $17, $18)";

/// A batch of jobs as columns.
#[derive(Default)]
struct Batch {
    producer: Uuid,
    sequence: i64,
    plain: bool,
    last: bool,
    lane_queues: Vec<i32>,
    lanes: Vec<i16>,
    jobs: Jobs,
    starts: Vec<i64>,
    created: Vec<Vec<u8>>,
    scheduled: Vec<Vec<u8>>,
}

impl Batch {
    fn params(&self) -> Vec<Param<'_>> {
        let [ids, queues, types, lanes, revs, timeouts, runs, keys, bodies] = self.jobs.params();
        vec![
            (&self.producer, Type::UUID),
            (&self.sequence, Type::INT8),
            (&self.plain, Type::BOOL),
            (&self.last, Type::BOOL),
            (&self.lane_queues, Type::INT4_ARRAY),
            (&self.lanes, Type::INT2_ARRAY),
            ids,
            queues,
            types,
            lanes,
            (&self.starts, Type::INT8_ARRAY),
            revs,
            timeouts,
            runs,
            keys,
            bodies,
            (&self.created, Type::BYTEA_ARRAY),
            (&self.scheduled, Type::BYTEA_ARRAY),
        ]
    }
}

/// The start as `goflow.enqueue` takes it: a moment is negative.
fn start(new: &NewJob) -> i64 {
    match new.start {
        Start::Now => 0,
        Start::After(delay) => millis(delay).min(i64::MAX / 4),
        Start::At(at) => -at.0.clamp(0, i64::MAX / 4),
    }
}

impl PostgresStore {
    pub(super) async fn enqueue_batch(&self, batch: &Enqueue) -> Result<EnqueueAnswer> {
        let mut connection = Connection::take(&self.pool, DEADLINE).await?;
        let answer = again!(self.try_enqueue(&mut connection, batch))?;
        self.hint();
        Ok(answer)
    }

    async fn try_enqueue(&self, connection: &mut Connection, batch: &Enqueue) -> Result<EnqueueAnswer, Fault> {
        let of_runs = batch.runs.iter().flat_map(|new| &new.effects.jobs);
        let queues = batch.jobs.iter().map(|new| &new.job).chain(of_runs).map(|job| &job.queue);
        self.names.make(connection, queues).await?;
        let columns = self.columns(batch)?;
        if batch.runs.is_empty() {
            // The notification is a transaction of its own behind the first, in the same flight: those
            // that notify hold a lock of the whole server while they commit.
            let row = connection
                .run(async |client| {
                    let params = columns.params();
                    let (row, _) = tokio::join!(client.query_typed_one(ENQUEUE, &params), client.simple_query(WAKE));
                    Ok(row?)
                })
                .await?;
            return read_answer(&row, batch);
        }
        let mut runs = EffectColumns::default();
        for new in &batch.runs {
            runs.push(Some(&new.effects), &self.names)?;
        }
        connection
            .run(async |client| {
                client.simple_query("BEGIN").await?;
                let done = with_runs(client, &columns, &runs, batch).await;
                client.simple_query(if done.is_ok() { "COMMIT" } else { "ROLLBACK" }).await?;
                let _ = client.simple_query(WAKE).await;
                done
            })
            .await
    }

    fn columns(&self, batch: &Enqueue) -> Result<Batch, Fault> {
        let mut columns = Batch {
            producer: Uuid::from_bytes(*batch.producer.as_bytes()),
            sequence: number(batch.sequence),
            plain: true,
            last: batch.runs.is_empty(),
            ..Batch::default()
        };
        let mut seen = BTreeSet::new();
        let mut lanes = BTreeSet::new();
        for new in &batch.jobs {
            columns.jobs.push(&new.job, &self.names)?;
            let start = start(new);
            columns.starts.push(start);
            columns.created.push(packed(&[new.log_entry(EventKind::JobCreated)])?);
            columns.scheduled.push(match start {
                0 => Vec::new(),
                _ => packed(&[new.log_entry(EventKind::JobScheduled)])?,
            });
            columns.plain &= new.job.unique_key.is_none() && seen.insert(new.job.id);
        }
        lanes.extend(columns.jobs.queues.iter().copied().zip(columns.jobs.lanes.iter().copied()));
        (columns.lane_queues, columns.lanes) = lanes.into_iter().unzip();
        Ok(columns)
    }
}

/// Jobs, then runs and the answer for the one who asks again; in an open transaction.
async fn with_runs(
    client: &Client,
    columns: &Batch,
    runs: &EffectColumns,
    batch: &Enqueue,
) -> Result<EnqueueAnswer, Fault> {
    let row = client.query_typed_one(ENQUEUE, &columns.params()).await?;
    if row.get::<_, bool>("again") {
        return read_answer(&row, batch);
    }
    let states: Vec<i16> = row.get("states");
    let mut holders: Vec<Option<Uuid>> = row.get("holders");
    let ids: Vec<Uuid> = batch.runs.iter().map(|new| run_uuid(new.effects.record.id)).collect();
    let mut params: Vec<Param<'_>> = vec![
        (&columns.producer, Type::UUID),
        (&columns.sequence, Type::INT8),
        (&states, Type::INT2_ARRAY),
        (&holders, Type::UUID_ARRAY),
        (&ids, Type::UUID_ARRAY),
    ];
    params.extend(runs.params());
    let sql = format!("SELECT goflow.start_runs({})", placeholders(1, params.len()));
    let states: Vec<i16> = client.query_typed_one(&sql, &params).await?.get(0);
    holders.resize(states.len(), None);
    answer(&states, &holders, batch)
}

fn read_answer(row: &Row, batch: &Enqueue) -> Result<EnqueueAnswer, Fault> {
    let newest: i64 = row.get("newest");
    if newest > number(batch.sequence) {
        let text = format!("batch {} of producer {} came after batch {newest}", batch.sequence, batch.producer);
        return Err(StoreError::Refused(text).into());
    }
    answer(&row.get::<_, Vec<i16>>("states"), &row.get::<_, Vec<Option<Uuid>>>("holders"), batch)
}

fn answer(states: &[i16], holders: &[Option<Uuid>], batch: &Enqueue) -> Result<EnqueueAnswer, Fault> {
    let mut all = Vec::with_capacity(states.len());
    for (place, state) in states.iter().enumerate() {
        all.push(match (state, holders.get(place).copied().flatten()) {
            (0, _) => Enqueued::Created,
            (2, Some(holder)) => Enqueued::Conflict(job_id(holder)),
            _ => Enqueued::Exists,
        });
    }
    if all.len() != batch.jobs.len() + batch.runs.len() {
        let text = format!("batch {} of producer {} was sent again with other work", batch.sequence, batch.producer);
        return Err(StoreError::Refused(text).into());
    }
    let runs = all.split_off(batch.jobs.len());
    Ok(EnqueueAnswer { jobs: all, runs })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::{Job, JobId, Json, Ms};

    #[test]
    fn moments_and_delays_cannot_be_mixed_up() {
        let name = |text: &str| text.parse().expect("a name");
        let job = Job::new(JobId::default(), name("a"), name("b"), Json::null());
        let start_of = |at| start(&NewJob { start: at, ..NewJob::now(job.clone()) });
        assert_eq!(start_of(Start::Now), 0);
        assert_eq!(start_of(Start::After(Duration::from_secs(2))), 2_000);
        assert_eq!(start_of(Start::At(Ms(5_000))), -5_000);
        assert_eq!(start_of(Start::At(Ms(-7))), 0, "long ago is now");
    }
}
