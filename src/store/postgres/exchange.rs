//! The core verb. A batch of settles, of jobs and of steps with the advances of their runs, and a claim
//! are one statement. A commit that is anything else goes through `goflow.commit` by itself, and what is before and
//! after it as batches, in one transaction whose statements are sent in one flight.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::future::join_all;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use super::columns::*;
use super::errors::Fault;
use super::floors::{Lane, Sight};
use super::names::Names;
use super::pool::{Connection, DEADLINE, Param, again};
use super::steps::{Settles, plain_ones, reaches_out};
use super::{CLAIM, PostgresStore, WAKE, starts};
use crate::domain::time::millis;
use crate::domain::{Epoch, Ms, Name, Place, RunId, RunState, limits};
use crate::store::codec::read_job;
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
    /// Whether the claim may be given all that the settles before it bring.
    fn may_take(&self, settles: &Settles) -> bool {
        self.worker.is_some()
            && settles.brings(|queue| self.queues.contains(&queue)).is_some_and(|n| n < self.want as usize)
    }

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

/// Both calls as one statement, and so one transaction. The second takes the log from the first, and so
/// comes after it.
async fn ask_with_steps(client: &Client, settles: &Settles, wish: &Wish) -> Result<Row, Fault> {
    let mut params = settles.step_params();
    let given = params.len();
    params.extend(wish.params());
    let sql = format!(
        "SELECT s.moved AS settled, s.parts, s.woke, e.* FROM goflow.settle_steps({}) s,
         LATERAL goflow.exchange('{{}}', '{{}}', '{{}}', '{{}}', '{{}}', '{{}}', '{{}}', s.logged, {}) e",
        placeholders(1, given),
        placeholders(given + 1, params.len()),
    );
    Ok(client.query_typed_one(&sql, &params).await?)
}

/// A claim after settles, of steps or of jobs alone.
async fn ask_for(client: &Client, settles: &Settles, wish: &Wish) -> Result<Row, Fault> {
    if settles.has_runs() { ask_with_steps(client, settles, wish).await } else { ask(client, settles, wish).await }
}

fn effects_of(commit: &Commit) -> Option<&Effects> {
    Some(&commit.run.as_ref()?.advance.as_ref()?.effects)
}

/// The runs of commits and those that they tell something, in the order of their ids: whoever needs
/// several takes them like this, before anything else.
fn runs_of(commits: &[Commit]) -> Vec<Uuid> {
    let parts = commits.iter().filter_map(|commit| commit.run.as_ref()).map(|part| part.run);
    let told = commits.iter().filter_map(effects_of).flat_map(|effects| &effects.tell).map(|(run, _)| *run);
    let runs: BTreeSet<Uuid> = parts.chain(told).map(run_uuid).collect();
    runs.into_iter().collect()
}

/// What a transaction of several commits takes before anything else, in one order: whoever needs several of
/// the same then does not wait for another in a ring.
struct Holds {
    runs: Vec<Uuid>,
    epochs: Vec<i64>,
    line: Vec<Uuid>,
}

impl Holds {
    fn of(commits: &[Commit]) -> Holds {
        let moves = || commits.iter().flat_map(|commit| &commit.moves);
        let epoch = |step: &Move| match step.expect {
            Expect::Lease(epoch) | Expect::Lapsed(epoch) => Some(number(epoch.0)),
            Expect::Idle(..) => None,
        };
        let waits = |step: &&Move| matches!(step.expect, Expect::Idle(Place::Pending, _));
        Holds {
            runs: runs_of(commits),
            epochs: moves().filter_map(epoch).collect(),
            line: moves().filter(waits).map(|step| job_uuid(step.job.id)).collect(),
        }
    }

    async fn take(&self, client: &Client) -> Result<(), Fault> {
        let params: [Param<'_>; 3] =
            [(&self.runs, Type::UUID_ARRAY), (&self.epochs, Type::INT8_ARRAY), (&self.line, Type::UUID_ARRAY)];
        client.query_typed("SELECT goflow.hold($1, $2, $3)", &params).await?;
        Ok(())
    }
}

/// Commits that are carried out by one call, in their order with the others.
struct Part<'a> {
    commits: &'a [Commit],
    way: Way,
}

enum Way {
    Batch(Box<Settles>),
    Alone(Box<super::commit::Columns>),
}

impl Part<'_> {
    fn all<'a>(commits: &'a [Commit], names: &Names) -> Result<Vec<Part<'a>>, Fault> {
        let plain = plain_ones(commits);
        let (mut parts, mut at) = (Vec::new(), 0);
        while at < commits.len() {
            let batch = plain[at..].iter().take_while(|is_plain| **is_plain).count();
            let commits = &commits[at..at + batch.max(1)];
            let way = match batch {
                0 => Way::Alone(Box::new(super::commit::Columns::new(&commits[0], names)?)),
                _ => Way::Batch(Box::new(Settles::new(commits, names)?)),
            };
            at += commits.len();
            parts.push(Part { commits, way });
        }
        Ok(parts)
    }

    /// The last one claims as well; it is a batch, of nothing at least.
    async fn send(&self, client: &Client, wish: &Wish) -> Result<Row, Fault> {
        match &self.way {
            Way::Batch(settles) => ask_for(client, settles, wish).await,
            Way::Alone(columns) => columns.send(client).await,
        }
    }

    fn read(&self, row: &Row) -> Vec<Committed> {
        match &self.way {
            Way::Batch(settles) => settles.read(row, self.commits),
            Way::Alone(_) => self.commits.iter().map(|commit| super::commit::read(row, commit)).collect(),
        }
    }

    fn woke(&self, row: &Row) -> bool {
        match &self.way {
            Way::Batch(settles) => settles.brings_work() || settles.woke(row),
            Way::Alone(_) => row.get("woke"),
        }
    }
}

type Carried = (Vec<Committed>, Row, bool);

/// All parts and a claim as one transaction, sent without waiting for each other.
async fn at_once(client: &Client, parts: &[Part<'_>], holds: &Holds, wish: &Wish) -> Result<Carried, Fault> {
    let none = Part { commits: &[], way: Way::Batch(Box::default()) };
    let (last, before) = match parts.split_last() {
        Some((last @ Part { way: Way::Batch(_), .. }, before)) => (last, before),
        _ => (&none, parts),
    };
    let nothing = Wish::default();
    let (begun, locked, rows, claimed, ended) = tokio::join!(
        biased;
        client.simple_query("BEGIN"),
        holds.take(client),
        join_all(before.iter().map(|part| part.send(client, &nothing))),
        last.send(client, wish),
        client.simple_query("COMMIT"),
    );
    begun?;
    locked?;
    let rows = rows.into_iter().collect::<Result<Vec<Row>, Fault>>()?;
    let claimed = claimed?;
    ended?;
    let all = || before.iter().zip(&rows).chain([(last, &claimed)]);
    let committed = all().flat_map(|(part, row)| part.read(row)).collect();
    let woke = all().any(|(part, row)| part.woke(row));
    Ok((committed, claimed, woke))
}

/// The same in an open transaction, where what an advance does to other runs follows it.
async fn in_turn(
    client: &Client,
    parts: &[Part<'_>],
    holds: &Holds,
    wish: &Wish,
    names: &Names,
) -> Result<Carried, Fault> {
    holds.take(client).await?;
    let (mut answers, mut woke) = (Vec::new(), false);
    for part in parts {
        let row = part.send(client, &Wish::default()).await?;
        woke |= part.woke(&row);
        for (commit, mut answer) in part.commits.iter().zip(part.read(&row)) {
            let effects = effects_of(commit).filter(|effects| reaches_out(effects));
            if let (RunAnswer::Advanced { .. }, Some(effects)) = (answer.run, effects) {
                starts::reach_out(client, effects, names).await?;
                answer.run = RunAnswer::Advanced { more: starts::look_again(client, effects.record.id).await? };
                woke = true;
            }
            answers.push(answer);
        }
    }
    let last = ask(client, &Settles::default(), wish).await?;
    Ok((answers, last, woke))
}

impl PostgresStore {
    pub(super) async fn exchange_batch(&self, exchange: &Exchange) -> Result<Exchanged> {
        let mut connection = Connection::take(&self.pool, DEADLINE).await?;
        let (mut answer, mut more) = again!(self.try_exchange(&mut connection, exchange))?;
        let only_claims = exchange.commits.is_empty() && answer.claimed.is_empty();
        if let (true, Some(claim)) = (more && only_claims, &exchange.claim) {
            // All that waits is in others' hands, who may take only some of it. (What has been committed is not put
            // at risk by a second call: its answer goes out, and a hint.)
            again!(self.await_line(&mut connection, claim))?;
            (answer, more) = again!(self.try_exchange(&mut connection, exchange))?;
        }
        if more {
            self.hint();
        }
        self.find_claimed(&mut connection, &mut answer.claimed).await?;
        self.look_after(&mut connection, answer.claimed.len()).await;
        Ok(answer)
    }

    async fn await_line(&self, connection: &mut Connection, claim: &Claim) -> Result<(), Fault> {
        let queues: Vec<i32> = claim.queues.iter().filter_map(|queue| self.names.number(queue)).collect();
        connection.rows("SELECT goflow.await_line($1)", &[(&queues, Type::INT4_ARRAY)]).await?;
        Ok(())
    }

    /// Whether something waits that a claim has left, because others had their hands on it.
    async fn try_exchange(&self, connection: &mut Connection, exchange: &Exchange) -> Result<(Exchanged, bool), Fault> {
        let wish = self.wish(connection, exchange.claim.as_ref()).await?;
        self.make_queues(connection, &exchange.commits).await?;
        let parts = Part::all(&exchange.commits, &self.names)?;
        let none = Box::default();
        let settles = match parts.as_slice() {
            [] => &none,
            [Part { way: Way::Batch(settles), .. }] => settles,
            parts => return self.in_parts(connection, exchange, parts, &wish).await,
        };
        // What this claim may be given whole need not wake anybody: its answer says.
        let sure = settles.brings_work() && !wish.may_take(settles);
        let row = connection
            .run(async |client| {
                // The notification is a transaction of its own behind the first, in the same flight.
                let notify = async {
                    if sure {
                        let _ = client.simple_query(WAKE).await;
                    }
                };
                let (row, ()) = tokio::join!(biased; ask_for(client, settles, &wish), notify);
                row
            })
            .await?;
        // What was committed is told of, also if the answer cannot be read.
        let answer = self.read_exchanged(&row, settles.read(&row, &exchange.commits));
        let more: bool = row.get("more");
        let took_all =
            answer.as_ref().is_ok_and(|answer| Claimed::is_all(&answer.claimed, wish.want as usize)) && !more;
        if sure {
            self.hint();
        } else if settles.woke(&row) || settles.brings_work() && !took_all {
            self.wake(connection).await;
        }
        Ok((answer?, more))
    }

    async fn wish(&self, connection: &mut Connection, claim: Option<&Claim>) -> Result<Wish, Fault> {
        let Some(claim) = claim else { return Ok(Wish::default()) };
        self.names.learn(connection, claim.queues.iter()).await?;
        let queues: Vec<i32> = claim.queues.iter().filter_map(|queue| self.names.number(queue)).collect();
        Ok(Wish {
            worker: Some(worker_uuid(claim.worker)),
            want: claim.want.min(CLAIM) as i32,
            alone: claim.alone,
            grace: millis(limits::LEASE_GRACE),
            floors: self.floors.of(&queues),
            queues,
        })
    }

    /// Makes the queues known that commits name.
    async fn make_queues(&self, connection: &mut Connection, commits: &[Commit]) -> Result<(), Fault> {
        let mut queues: Vec<&Name> =
            commits.iter().flat_map(|commit| &commit.moves).map(|step| &step.job.queue).collect();
        commits.iter().filter_map(effects_of).for_each(|effects| starts::queues(effects, &mut queues));
        self.names.make(connection, queues.into_iter()).await
    }

    /// The general way. Statements of a transaction, sent without waiting for each other where that can be.
    async fn in_parts(
        &self,
        connection: &mut Connection,
        exchange: &Exchange,
        parts: &[Part<'_>],
        wish: &Wish,
    ) -> Result<(Exchanged, bool), Fault> {
        let holds = Holds::of(&exchange.commits);
        let reaches_out = exchange.commits.iter().filter_map(effects_of).any(reaches_out);
        let (committed, last, woke) = connection
            .run(async |client| {
                let (committed, last, woke) = if reaches_out {
                    client.simple_query("BEGIN").await?;
                    let done = in_turn(client, parts, &holds, wish, &self.names).await;
                    client.simple_query(if done.is_ok() { "COMMIT" } else { "ROLLBACK" }).await?;
                    done?
                } else {
                    at_once(client, parts, &holds, wish).await?
                };
                if woke {
                    let _ = client.simple_query(WAKE).await;
                }
                Ok((committed, last, woke))
            })
            .await?;
        if woke {
            self.hint();
        }
        Ok((self.read_exchanged(&last, committed)?, last.get("more")))
    }

    fn read_exchanged(&self, row: &Row, commits: Vec<Committed>) -> Result<Exchanged, Fault> {
        let mut answer = Exchanged {
            now: Ms(row.get("now")),
            commits,
            claimed: Vec::new(),
            suspects: row.get("suspects"),
            asked: row.get("asked"),
            freed: row.get("freed"),
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
            let job = read_job(job_id(id), body);
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
fn read_runs(row: &Row) -> Result<Vec<Arc<RunRecord>>, Fault> {
    let Some(ids) = row.get::<_, Option<Vec<Uuid>>>("r_ids") else { return Ok(Vec::new()) };
    let revs: Vec<i64> = row.get("r_revs");
    let workflows: Vec<&str> = row.get("r_workflows");
    let states: Vec<&str> = row.get("r_states");
    let bodies: Vec<&[u8]> = row.get("r_bodies");
    let mut runs = Vec::with_capacity(ids.len());
    for (place, id) in ids.into_iter().enumerate() {
        runs.push(Arc::new(record(run_id(id), revs[place], workflows[place], states[place], bodies[place])?));
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
