//! One commit in its general form, as columns for `goflow.commit`.

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use super::columns::*;
use super::errors::Fault;
use super::names::Names;
use super::pool::Param;
use crate::domain::To;
use crate::store::contract::{Commit, Committed, Expect, Moved, RunAnswer};

#[derive(Default)]
pub(super) struct Columns {
    rights: Vec<i8>,
    numbers: Vec<i64>,
    froms: Vec<i8>,
    tos: Vec<i8>,
    delays: Vec<i64>,
    events: Vec<Vec<u8>>,
    after_moves: Vec<i32>,
    after: Vec<Uuid>,
    jobs: Jobs,
    run: Option<Uuid>,
    facts: Vec<Vec<u8>>,
    from_rev: Option<i64>,
    drained: Option<i64>,
    effects: EffectColumns,
}

impl Columns {
    pub fn new(commit: &Commit, names: &Names) -> Result<Columns, Fault> {
        let mut columns = Columns::default();
        for (nth, step) in (1..).zip(&commit.moves) {
            let (right, number, from) = match step.expect {
                Expect::Lease(epoch) => (b'l', number(epoch.0), b'r'),
                Expect::Lapsed(epoch) => (b'e', number(epoch.0), b'r'),
                Expect::Idle(place, rev) => (b'i', i64::from(rev), place.code()),
            };
            let (to, delay) = destination(step.to, &step.job);
            columns.rights.push(code(right));
            columns.numbers.push(number);
            columns.froms.push(code(from));
            columns.tos.push(to);
            columns.delays.push(delay);
            columns.events.push(packed(&[step.log_entry()])?);
            if step.to == To::Held {
                columns.after.extend(step.job.after.iter().copied().map(job_uuid));
                columns.after_moves.resize(columns.after.len(), nth);
            }
            columns.jobs.push(&step.job, names)?;
        }
        if let Some(part) = &commit.run {
            columns.run = Some(run_uuid(part.run));
            columns.facts = part.facts.clone();
            if let Some(advance) = &part.advance {
                columns.from_rev = Some(number(advance.from_rev));
                columns.drained = advance.drained.map(number);
                columns.effects.push(Some(&advance.effects), names)?;
            }
        }
        Ok(columns)
    }

    pub async fn send(&self, client: &Client) -> Result<Row, Fault> {
        let [ids, jobs @ ..] = self.jobs.params();
        let mut params: Vec<Param<'_>> = vec![
            ids,
            (&self.rights, Type::CHAR_ARRAY),
            (&self.numbers, Type::INT8_ARRAY),
            (&self.froms, Type::CHAR_ARRAY),
            (&self.tos, Type::CHAR_ARRAY),
            (&self.delays, Type::INT8_ARRAY),
        ];
        params.extend(jobs);
        params.extend::<[Param<'_>; 7]>([
            (&self.events, Type::BYTEA_ARRAY),
            (&self.after_moves, Type::INT4_ARRAY),
            (&self.after, Type::UUID_ARRAY),
            (&self.run, Type::UUID),
            (&self.facts, Type::BYTEA_ARRAY),
            (&self.from_rev, Type::INT8),
            (&self.drained, Type::INT8),
        ]);
        params.extend(self.effects.params());
        let sql = format!("SELECT * FROM goflow.commit({})", placeholders(1, params.len()));
        Ok(client.query_typed_one(&sql, &params).await?)
    }
}

pub(super) fn read(row: &Row, commit: &Commit) -> Committed {
    let moved: Vec<i16> = row.get("moved");
    let holders: Vec<Option<Uuid>> = row.get("holders");
    let told = |place: usize| match (moved.get(place), holders.get(place).copied().flatten()) {
        (Some(0), _) => Moved::Applied,
        (Some(2), Some(holder)) => Moved::Conflict(job_id(holder)),
        _ => Moved::Stale,
    };
    Committed { moves: (0..commit.moves.len()).map(told).collect(), run: run_answer(row.get("part")) }
}

/// What became of a run's part, in the numbers of the functions.
pub(super) fn run_answer(part: i16) -> RunAnswer {
    match part {
        1 => RunAnswer::Advanced { more: false },
        2 => RunAnswer::Advanced { more: true },
        3 => RunAnswer::Inboxed,
        4 => RunAnswer::Contended,
        5 => RunAnswer::Gone,
        _ => RunAnswer::None,
    }
}
