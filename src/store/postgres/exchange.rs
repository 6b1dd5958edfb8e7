//! The core verb. A batch of settles, of jobs and of steps with the advances of their runs, and a claim
//! are one statement; as soon as one commit is anything else, all commits go one by one through
//! `goflow.commit`, in one transaction whose statements are sent in one flight.

use std::sync::atomic::Ordering;

use futures_util::future::join_all;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use super::columns::*;
use super::errors::Fault;
use super::floors::{Lane, Sight};
use super::pool::{Connection, DEADLINE, Param, again};
use super::steps::Settles;
use super::{PostgresStore, WAKE};
use crate::domain::time::millis;
use crate::domain::{Epoch, Ms, Name, RunId, RunState, To, limits};
use crate::store::codec::decode_job;
use crate::store::contract::*;

/// A claim as columns.
#[derive(Default)]
struct Wish {
    worker: Option<Uuid>,
    queues: Vec<i32>,
    want: i32,
    alone: bool,
    grace: i64,
    floors: (Vec<i32>, Vec<i16>, Vec<i64>),
}

impl Wish {
    fn params(&self) -> [Param<'_>; 8] {
        [
            (&self.worker, Type::UUID),
            (&self.queues, Type::INT4_ARRAY),
            (&self.want, Type::INT4),
            (&self.alone, Type::BOOL),
            (&self.grace, Type::INT8),
            (&self.floors.0, Type::INT4_ARRAY),
            (&self.floors.1, Type::INT2_ARRAY),
            (&self.floors.2, Type::INT8_ARRAY),
        ]
    }
}

async fn ask(client: &Client, settles: &Settles, wish: &Wish) -> Result<Row, Fault> {
    let mut params: Vec<Param<'_>> = settles.params().into();
    params.extend(wish.params());
    let sql = format!("SELECT * FROM goflow.exchange({})", placeholders(1, params.len()));
    Ok(client.query_typed_one(&sql, &params).await?)
}

/// Both calls as one statement, and so one transaction. The second takes something from the first, so
/// that it cannot come before it.
async fn ask_with_steps(client: &Client, settles: &Settles, wish: &Wish) -> Result<Row, Fault> {
    let mut params = settles.step_params();
    let given = params.len();
    params.extend(wish.params());
    let sql = format!(
        "SELECT s.moved AS settled, s.parts, s.woke, e.* FROM goflow.settle_steps({}) s,
         LATERAL goflow.exchange('{{}}', '{{}}', '{{}}', '{{}}', '{{}}', '{{}}', '{{}}',
             CASE WHEN s.woke IS NOT NULL THEN ${} END, {}) e",
        placeholders(1, given),
        given + 1,
        placeholders(given + 2, params.len()),
    );
    Ok(client.query_typed_one(&sql, &params).await?)
}

impl PostgresStore {
    pub(super) async fn exchange_batch(&self, exchange: &Exchange) -> Result<Exchanged> {
        let mut connection = Connection::take(&self.pool, DEADLINE).await?;
        let answer = again!(self.try_exchange(&mut connection, exchange))?;
        self.look_after(&mut connection, answer.claimed.len()).await;
        Ok(answer)
    }

    async fn try_exchange(&self, connection: &mut Connection, exchange: &Exchange) -> Result<Exchanged, Fault> {
        let wish = self.wish(connection, exchange.claim.as_ref()).await?;
        let advances = exchange.commits.iter().filter_map(|commit| commit.run.as_ref()?.advance.as_ref());
        self.names.make(connection, advances.flat_map(|advance| &advance.effects.jobs).map(|job| &job.queue)).await?;
        let Some(settles) = Settles::new(&exchange.commits, &self.names)? else {
            return self.one_by_one(connection, exchange, &wish).await;
        };
        let is_suspect = |commit: &Commit| commit.moves.iter().any(|step| step.to == To::Suspect);
        let sure = settles.brings_work() || exchange.commits.iter().any(is_suspect);
        let with_steps = settles.has_runs();
        let row = connection
            .run(async |client| {
                // The notification is a transaction of its own behind the first, in the same flight.
                let call = async {
                    if with_steps {
                        ask_with_steps(client, &settles, &wish).await
                    } else {
                        ask(client, &settles, &wish).await
                    }
                };
                let notify = async {
                    if sure {
                        let _ = client.simple_query(WAKE).await;
                    }
                };
                let (row, ()) = tokio::join!(biased; call, notify);
                row
            })
            .await?;
        let (moved, parts): (Vec<i64>, Vec<i16>) =
            if with_steps { (row.get("settled"), row.get("parts")) } else { (row.get("moved"), Vec::new()) };
        if sure {
            self.hint();
        } else if with_steps && row.get("woke") {
            self.wake(connection).await;
        }
        self.read_exchanged(&row, Settles::answers(&exchange.commits, &moved, &parts))
    }

    async fn wish(&self, connection: &mut Connection, claim: Option<&Claim>) -> Result<Wish, Fault> {
        let Some(claim) = claim else { return Ok(Wish::default()) };
        self.names.learn(connection, claim.queues.iter()).await?;
        let queues: Vec<i32> = claim.queues.iter().filter_map(|queue| self.names.number(queue)).collect();
        Ok(Wish {
            worker: Some(worker_uuid(claim.worker)),
            want: claim.want.min(limits::CLAIM_BATCH) as i32,
            alone: claim.alone,
            grace: millis(limits::LEASE_GRACE),
            floors: self.floors.of(&queues),
            queues,
        })
    }

    /// The general way. Statements of a transaction, sent without waiting for each other.
    async fn one_by_one(
        &self,
        connection: &mut Connection,
        exchange: &Exchange,
        wish: &Wish,
    ) -> Result<Exchanged, Fault> {
        let moved = exchange.commits.iter().flat_map(|commit| &commit.moves).map(|step| &step.job.queue);
        let advances = exchange.commits.iter().filter_map(|commit| commit.run.as_ref()?.advance.as_ref());
        let effects = advances.flat_map(|advance| &advance.effects.jobs).map(|job| &job.queue);
        let queues: Vec<&Name> = moved.chain(effects).collect();
        self.names.make(connection, queues.iter().copied()).await?;
        let commits = exchange.commits.iter().map(|commit| super::commit::Columns::new(commit, &self.names));
        let commits = commits.collect::<Result<Vec<_>, Fault>>()?;
        // Runs first and in the order of their ids: whoever needs several takes them like this.
        let mut runs: Vec<Uuid> =
            exchange.commits.iter().filter_map(|commit| commit.run.as_ref()).map(|part| run_uuid(part.run)).collect();
        runs.sort();
        runs.dedup();
        let (rows, last, woke) = connection
            .run(async |client| {
                let lock: Param<'_> = (&runs, Type::UUID_ARRAY);
                let none = Settles::default();
                let (begun, locked, rows, last, ended) = tokio::join!(
                    biased;
                    client.simple_query("BEGIN"),
                    client.query_typed(
                        "SELECT FROM goflow.run WHERE id = ANY ($1) ORDER BY id FOR UPDATE",
                        std::slice::from_ref(&lock)
                    ),
                    join_all(commits.iter().map(|commit| commit.send(client))),
                    ask(client, &none, wish),
                    client.simple_query("COMMIT"),
                );
                begun?;
                locked?;
                let rows = rows.into_iter().collect::<Result<Vec<Row>, Fault>>()?;
                let last = last?;
                ended?;
                let woke = rows.iter().any(|row| row.get::<_, bool>("woke"));
                if woke {
                    let _ = client.simple_query(WAKE).await;
                }
                Ok((rows, last, woke))
            })
            .await?;
        if woke {
            self.hint();
        }
        let committed =
            rows.iter().zip(&exchange.commits).map(|(row, commit)| super::commit::read(row, commit)).collect();
        self.read_exchanged(&last, committed)
    }

    fn read_exchanged(&self, row: &Row, commits: Vec<Committed>) -> Result<Exchanged, Fault> {
        let mut answer = Exchanged {
            now: Ms(row.get("now")),
            commits,
            claimed: Vec::new(),
            suspects: row.get("suspects"),
            asked: false,
            freed: false,
            dirty: row.get("dirty"),
            next_due: row.get::<_, Option<i64>>("due").map(Ms),
        };
        let ids: Vec<Uuid> = row.get("ids");
        if ids.is_empty() {
            return Ok(answer);
        }
        if self.note_taken(row, ids.len()) {
            self.probe_due.store(true, Ordering::Relaxed);
        }
        let runs = read_runs(row)?;
        let epochs: Vec<i64> = row.get("epochs");
        let bodies: Vec<&[u8]> = row.get("bodies");
        for ((id, epoch), body) in ids.into_iter().zip(epochs).zip(bodies) {
            let job = decode_job(job_id(id), body)?;
            let run = job.link.as_ref().and_then(|link| runs.iter().find(|run| run.id == link.run)).cloned();
            answer.claimed.push(Claimed { job, epoch: Epoch(epoch as u64), run });
        }
        Ok(answer)
    }

    /// After an answer that is already good: floors are looked after now and then. A failure here is
    /// nobody's loss.
    async fn look_after(&self, connection: &mut Connection, claimed: usize) {
        if claimed > 0 && self.upkeep_due() {
            let _ = self.upkeep(connection).await;
        }
    }

    fn note_taken(&self, row: &Row, claimed: usize) -> bool {
        let queues: Vec<i32> = row.get("t_queues");
        let lanes: Vec<i16> = row.get("t_lanes");
        let turns: Vec<i64> = row.get("t_turns");
        self.floors.taken(claimed, queues.into_iter().zip(lanes).zip(turns))
    }

    /// Looks how far the lanes have been consumed. The transaction draws its own number after its
    /// snapshot: so the number is above that of everybody who had begun.
    pub(super) async fn probe(&self, connection: &mut Connection) -> Result<(), Fault> {
        let (queues, lanes, floors, after) = self.floors.known();
        let sql = "SELECT l.queue, l.lane, coalesce((SELECT w.turn FROM goflow.waiting w
                       WHERE w.queue = l.queue AND w.lane = l.lane AND w.turn >= l.floor ORDER BY w.turn LIMIT 1), l.after),
                   pg_snapshot_xmin(pg_current_snapshot())::text::bigint,
                   pg_current_xact_id()::text::bigint
                   FROM unnest($1, $2, $3, $4) AS l(queue, lane, floor, after)";
        let params: [Param<'_>; 4] = [
            (&queues, Type::INT4_ARRAY),
            (&lanes, Type::INT2_ARRAY),
            (&floors, Type::INT8_ARRAY),
            (&after, Type::INT8_ARRAY),
        ];
        for row in connection.rows(sql, &params).await? {
            let lane: Lane = (row.get(0), row.get(1));
            self.floors.seen(&Sight { lane, lowest: row.get(2), ended: row.get(3), begun: row.get(4) });
        }
        Ok(())
    }
}

/// The runs of the claimed jobs.
fn read_runs(row: &Row) -> Result<Vec<RunRecord>, Fault> {
    let Some(ids) = row.get::<_, Option<Vec<Uuid>>>("r_ids") else { return Ok(Vec::new()) };
    let revs: Vec<i64> = row.get("r_revs");
    let workflows: Vec<&str> = row.get("r_workflows");
    let states: Vec<&str> = row.get("r_states");
    let bodies: Vec<&[u8]> = row.get("r_bodies");
    let mut runs = Vec::with_capacity(ids.len());
    for (place, id) in ids.into_iter().enumerate() {
        runs.push(record(run_id(id), revs[place], workflows[place], states[place], bodies[place])?);
    }
    Ok(runs)
}

/// A run's row as the record it is.
pub(super) fn record(id: RunId, rev: i64, workflow: &str, state: &str, body: &[u8]) -> Result<RunRecord> {
    let bad = |what: &str| StoreError::Corrupt(format!("run {id} has a bad {what}"));
    Ok(RunRecord {
        id,
        workflow: workflow.parse().map_err(|_| bad("workflow name"))?,
        state: RunState::parse(state).ok_or_else(|| bad("state"))?,
        rev: rev as u64,
        body: body.to_vec(),
    })
}
