//! A batch of commits whose moves are plain settles, each with at most a part for a run of its own: what
//! a worker sends when all goes well. As columns for `goflow.settle` and `goflow.settle_steps`.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::columns::*;
use super::commit::run_answer;
use super::errors::Fault;
use super::names::Names;
use super::pool::Param;
use crate::domain::{Epoch, JobId, RunId, To};
use crate::store::codec::encode;
use crate::store::contract::*;

/// Plain settles as columns, and the parts of runs.
#[derive(Default)]
pub(super) struct Settles {
    ids: Vec<Uuid>,
    epochs: Vec<i64>,
    places: Vec<i8>,
    delays: Vec<i64>,
    revs: Vec<i64>,
    suspects: Vec<Option<bool>>,
    bodies: Vec<Vec<u8>>,
    events: Vec<Vec<u8>>,
    /// The part, from 1, that each settle belongs to.
    parts: Vec<i32>,
    facts: Vec<Vec<u8>>,
    runs: Vec<Uuid>,
    given: Vec<i32>,
    from_revs: Vec<Option<i64>>,
    drained: Vec<Option<i64>>,
    effects: EffectColumns,
    /// One of them waits to be leased alone now.
    suspect: bool,
}

/// The epoch of a move that is a plain settle: a lease ends outside the line, and no key is concerned.
fn plain(step: &Move) -> Option<Epoch> {
    let Expect::Lease(epoch) = step.expect else { return None };
    let outside = !matches!(goal(step.to, &step.job), To::Pending | To::Front | To::Held | To::Gone);
    (outside && step.job.unique_key.is_none()).then_some(epoch)
}

/// Which of these can be carried out as one batch, at any time beside the others: the order says nothing of those whose
/// jobs and runs no other is about. None, if one touches other runs: who that may be is not looked for.
pub(super) fn plain_ones(commits: &[Commit]) -> Vec<bool> {
    let (mut jobs, mut runs) = (BTreeMap::<JobId, usize>::new(), BTreeMap::<RunId, usize>::new());
    let mut reaches = false;
    for commit in commits {
        commit.moves.iter().for_each(|step| *jobs.entry(step.job.id).or_default() += 1);
        if let Some(part) = &commit.run {
            *runs.entry(part.run).or_default() += 1;
            reaches |= part.advance.as_ref().is_some_and(|advance| reaches_out(&advance.effects));
        }
    }
    let is_plain = |commit: &Commit| {
        let whole =
            commit.run.as_ref().is_none_or(|part| part.facts.len() == commit.moves.len() && runs[&part.run] == 1);
        !reaches && whole && commit.moves.iter().all(|step| plain(step).is_some() && jobs[&step.job.id] == 1)
    };
    commits.iter().map(is_plain).collect()
}

/// Whether effects touch runs beside their own.
pub(super) fn reaches_out(effects: &Effects) -> bool {
    !effects.runs.is_empty() || !effects.tell.is_empty()
}

impl Settles {
    /// Of [`plain_ones`].
    pub fn new(commits: &[Commit], names: &Names) -> Result<Settles, Fault> {
        let mut settles = Settles::default();
        for commit in commits {
            let part = commit.run.as_ref().map_or(0, |_| settles.runs.len() as i32 + 1);
            for step in &commit.moves {
                let Some(epoch) = plain(step) else { continue };
                let (place, delay) = destination(step.to, &step.job);
                settles.suspect |= goal(step.to, &step.job) == To::Suspect;
                settles.ids.push(job_uuid(step.job.id));
                settles.epochs.push(number(epoch.0));
                settles.places.push(place);
                settles.delays.push(delay);
                settles.revs.push(i64::from(step.job.rev));
                settles.suspects.push(suspect(&step.job));
                settles.bodies.push(encode(&step.job)?);
                settles.events.push(packed(&[step.log_entry()])?);
                settles.parts.push(part);
            }
            match &commit.run {
                Some(part) => settles.push_run(part, names)?,
                None => settles.facts.resize(settles.ids.len(), Vec::new()),
            }
        }
        Ok(settles)
    }

    fn push_run(&mut self, part: &RunCommit, names: &Names) -> Result<(), Fault> {
        self.facts.extend(part.facts.iter().cloned());
        self.runs.push(run_uuid(part.run));
        self.given.push(part.facts.len() as i32);
        let advance = part.advance.as_ref();
        self.from_revs.push(advance.map(|advance| number(advance.from_rev)));
        self.drained.push(advance.and_then(|advance| advance.drained).map(number));
        self.effects.push(advance.map(|advance| &advance.effects), names)
    }

    pub fn has_runs(&self) -> bool {
        !self.runs.is_empty()
    }

    /// Whether there is something that somebody has to know, if everything applies.
    pub fn brings_work(&self) -> bool {
        self.suspect || self.effects.is_news()
    }

    /// How many jobs these put into lines, if they bring nothing else and all of these are such queues.
    pub fn brings(&self, queue: impl Fn(i32) -> bool) -> Option<usize> {
        if self.suspect { None } else { self.effects.brings(queue) }
    }

    /// What `goflow.exchange` takes first.
    pub fn params(&self) -> [Param<'_>; 8] {
        [
            (&self.ids, Type::UUID_ARRAY),
            (&self.epochs, Type::INT8_ARRAY),
            (&self.places, Type::CHAR_ARRAY),
            (&self.delays, Type::INT8_ARRAY),
            (&self.revs, Type::INT8_ARRAY),
            (&self.suspects, Type::BOOL_ARRAY),
            (&self.bodies, Type::BYTEA_ARRAY),
            (&self.events, Type::BYTEA_ARRAY),
        ]
    }

    /// What `goflow.settle_steps` takes.
    pub fn step_params(&self) -> Vec<Param<'_>> {
        let mut params: Vec<Param<'_>> = self.params().into();
        params.extend::<[Param<'_>; 6]>([
            (&self.parts, Type::INT4_ARRAY),
            (&self.facts, Type::BYTEA_ARRAY),
            (&self.runs, Type::UUID_ARRAY),
            (&self.given, Type::INT4_ARRAY),
            (&self.from_revs, Type::INT8_ARRAY),
            (&self.drained, Type::INT8_ARRAY),
        ]);
        params.extend(self.effects.params());
        params
    }

    /// Whether somebody has to know of what came of them, by the same answer.
    pub fn woke(&self, row: &Row) -> bool {
        row.get("let_go") || self.has_runs() && row.get("woke")
    }

    /// What became of the commits that these are of, by the answer to the claim after them.
    pub fn read(&self, row: &Row, commits: &[Commit]) -> Vec<Committed> {
        let (moved, parts): (Vec<i64>, Vec<i16>) =
            if self.has_runs() { (row.get("settled"), row.get("parts")) } else { (row.get("moved"), Vec::new()) };
        Settles::answers(commits, &moved, &parts)
    }

    /// What became of the commits: `moved` numbers the settles that applied, from 1.
    fn answers(commits: &[Commit], moved: &[i64], parts: &[i16]) -> Vec<Committed> {
        let moved: BTreeSet<i64> = moved.iter().copied().collect();
        let (mut nth, mut parts) = (0, parts.iter());
        let mut told = |_: &Move| {
            nth += 1;
            if moved.contains(&nth) { Moved::Applied } else { Moved::Stale }
        };
        let mut answer = |commit: &Commit| {
            let moves = commit.moves.iter().map(&mut told).collect();
            let run = commit.run.as_ref().and_then(|_| parts.next()).map_or(RunAnswer::None, |part| run_answer(*part));
            Committed { moves, run }
        };
        commits.iter().map(&mut answer).collect()
    }
}
