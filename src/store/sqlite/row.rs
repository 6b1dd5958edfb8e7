//! Contract types made ready for the writer thread: owned, and with their records already encoded, so
//! that the writer only moves bytes. It knows what the tables need of a record, and no SQL.

use crate::domain::To;
use crate::domain::{Concurrency, Event, Job, JobId, Json, Name, RunId};
use crate::store::codec;
use crate::store::{Commit, Effects, Expect, Gate, Move, NewRun, Result, RunRecord, Timer};

/// A job's record as bytes, and beside it what the indexes need.
pub(super) struct Row {
    pub id: JobId,
    pub kind: Name,
    pub queue: Name,
    pub priority: i8,
    pub rev: u32,
    pub timeout_ms: Option<i64>,
    pub run: Option<RunId>,
    pub unique: Option<String>,
    pub suspect: bool,
    pub concurrency: Option<Concurrency>,
    pub after: Vec<JobId>,
    pub body: Vec<u8>,
}

impl Row {
    pub(super) fn new(job: &Job) -> Result<Row> {
        Ok(Row {
            id: job.id,
            kind: job.kind.clone(),
            queue: job.queue.clone(),
            priority: job.priority,
            rev: job.rev,
            timeout_ms: job.timeout_ms.map(|ms| i64::try_from(ms).unwrap_or(i64::MAX)),
            run: job.link.as_ref().map(|link| link.run),
            unique: job.unique_key.clone(),
            suspect: job.is_suspect(),
            concurrency: job.concurrency.clone(),
            after: job.after.clone(),
            body: codec::encode(job)?,
        })
    }
}

pub(super) struct MoveRow {
    pub expect: Expect,
    pub to: To,
    pub row: Row,
    pub event: Event,
}

impl MoveRow {
    fn new(step: &Move) -> Result<MoveRow> {
        Ok(MoveRow { expect: step.expect, to: step.to, row: Row::new(&step.job)?, event: step.log_entry() })
    }
}

pub(super) struct EffectsRow {
    pub record: RunRecord,
    pub jobs: Vec<Row>,
    pub values: Vec<(String, Json)>,
    pub timers: Vec<Timer>,
    pub drop_timers: Vec<String>,
    pub events: Vec<Event>,
    /// The events once more, as the run's own history keeps them.
    pub history: Option<Vec<u8>>,
    pub cancel: Vec<JobId>,
    pub runs: Vec<NewRunRow>,
    pub tell: Vec<(RunId, Vec<u8>)>,
}

pub(super) struct NewRunRow {
    pub effects: EffectsRow,
    pub gate: Option<Gate>,
}

impl NewRunRow {
    pub(super) fn new(new: &NewRun) -> Result<NewRunRow> {
        Ok(NewRunRow { effects: EffectsRow::new(&new.effects)?, gate: new.gate.clone() })
    }
}

impl EffectsRow {
    pub(super) fn new(effects: &Effects) -> Result<EffectsRow> {
        let history = if effects.events.is_empty() { None } else { Some(codec::encode(&effects.events)?) };
        Ok(EffectsRow {
            record: effects.record.clone(),
            jobs: effects.jobs.iter().map(Row::new).collect::<Result<_>>()?,
            values: effects.values.clone(),
            timers: effects.timers.clone(),
            drop_timers: effects.drop_timers.clone(),
            events: effects.events.clone(),
            history,
            cancel: effects.cancel.clone(),
            runs: effects.runs.iter().map(NewRunRow::new).collect::<Result<_>>()?,
            tell: effects.tell.clone(),
        })
    }
}

pub(super) struct AdvanceRow {
    pub from_rev: u64,
    pub drained: u64,
    pub effects: EffectsRow,
}

pub(super) struct RunPart {
    pub run: RunId,
    pub facts: Vec<Vec<u8>>,
    pub advance: Option<AdvanceRow>,
}

pub(super) struct CommitRow {
    pub moves: Vec<MoveRow>,
    pub run: Option<RunPart>,
}

impl CommitRow {
    pub(super) fn new(commit: &Commit) -> Result<CommitRow> {
        let run = match &commit.run {
            None => None,
            Some(part) => Some(RunPart {
                run: part.run,
                facts: part.facts.clone(),
                advance: match &part.advance {
                    None => None,
                    Some(advance) => Some(AdvanceRow {
                        from_rev: advance.from_rev,
                        drained: advance.drained.unwrap_or(0),
                        effects: EffectsRow::new(&advance.effects)?,
                    }),
                },
            }),
        };
        Ok(CommitRow { moves: commit.moves.iter().map(MoveRow::new).collect::<Result<_>>()?, run })
    }
}
