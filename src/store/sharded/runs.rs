//! Carries runs from a draining shard to another, with their histories, values, timers and inboxes.
//!
//! # How runs go over
//!
//! 0. Their steps that nobody runs are set aside, as other jobs are, and land after their runs.
//! 1. A *mark* is made where they are, and a *copy* of the runs is written where they go, as documents. It says
//!    of which state it is, and of which revision the mark.
//! 2. The runs are *taken out* where they are, if they still are in that state; in the same step the mark, if it
//!    still has that revision, becomes one that says so. From now on the copy counts.
//! 3. The runs are *put in* from the copy, which goes in the same step: once.
//! 4. The mark goes.
//!
//! [`transit::next`] decides each step from what is seen on both shards, as with jobs. What is to be told
//! to a run that has been taken out lands it first. A copy is discarded if its state is over, or if the shard does
//! not give the runs: the mark goes first, and from then on nobody can take them out for this copy, however
//! late. So there is at most one copy of a run for each that carries it, whatever is refused and however often.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::Instant;

use super::carry::{all_in, get};
use super::copies::{Came, LARGE, Packed, all_documents};
use super::groups::{self, Group};
use super::shard::Slot;
use super::transit::{self, Side};
use super::{Inner, PATIENT, notices};
use crate::domain::{JobId, Place, RunId, Shard, limits};
use crate::store::contract::*;

/// Groups that one call carries at most.
const GROUPS: usize = 100;
/// How long one call goes on, so that whoever watches hears of it.
const SLICE: Duration = Duration::from_secs(3);
/// What could not be carried is looked at again after so long.
const STUCK: Duration = Duration::from_secs(30);
/// What became of a group in one go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Went {
    Over(u64),
    /// A step of it runs, or it has changed: another time.
    NotYet,
    /// It is too large, or cannot be given away.
    Stuck,
}

pub(super) async fn whole(slot: &Slot, id: RunId) -> Result<Option<WholeRun>> {
    slot.call(LARGE, |store| async move { store.whole_run(id).await }).await
}

impl Inner {
    /// Carries some of the runs that lie on a shard, and tells whether none was left.
    pub(super) async fn carry_runs(&self, from: &Slot, to: &Slot) -> Result<(Carried, bool)> {
        // First what was begun: its copies are in the way of nothing, but they cost room.
        let mut carried = 0;
        for document in all_documents(to, &groups::copies(from.id)).await? {
            if let Some(carry) = groups::carry_of(&document.name) {
                carried += self.step_runs(from, to, carry).await?.landed();
            }
        }
        carried += self.land_marked(from, to).await?;
        self.end_what_was_cut(from, to).await?;
        let jobs = self.land_steps(from, to).await?;
        let records = self.all_runs(from).await?;
        let gates = gates_of_unreadable(from, &records).await?;
        let (mut stuck, mut gone, begun) = (0, 0, Instant::now());
        for bundle in groups::bundles(groups::groups(&records, &gates)) {
            if gone >= GROUPS || begun.elapsed() > SLICE {
                break;
            }
            let mut went = vec![(self.carry_group(from, to, &groups::together(&bundle)).await?, &bundle[..])];
            if went[0].0 == Went::Stuck && bundle.len() > 1 {
                // Together they are too much, or one of them is.
                went.clear();
                for group in &bundle {
                    went.push((self.carry_group(from, to, group).await?, std::slice::from_ref(group)));
                }
            }
            for (went, groups) in went {
                let runs: u64 = groups.iter().map(|group| group.runs.len() as u64).sum();
                match went {
                    Went::Over(landed) => {
                        carried += landed;
                        gone += groups.len();
                    }
                    Went::NotYet => {}
                    Went::Stuck => {
                        stuck += runs;
                        self.stick(groups);
                    }
                }
            }
        }
        Ok((Carried { jobs, runs: carried, stuck, ..Carried::default() }, records.is_empty()))
    }

    /// Steps that were set aside, and whose runs are there by now: their carrier was cut.
    async fn land_steps(&self, from: &Slot, to: &Slot) -> Result<u64> {
        let (_, records) = from.call(PATIENT, |store| async move { store.schedules().await }).await?;
        let mut jobs = 0;
        for intent in notices::intents(&records)?.into_iter().filter(|intent| !intent.runs.is_empty()) {
            let (landed, is_over) = self.go_on(from, to, &intent.jobs).await?;
            jobs += landed;
            if is_over {
                let intent = &intent;
                from.call(PATIENT, |store| async move { notices::drop_intent(&*store, intent).await }).await?;
            }
        }
        Ok(jobs)
    }

    pub(super) async fn all_runs(&self, slot: &Slot) -> Result<Vec<RunRecord>> {
        let mut all = Vec::new();
        for finished in [false, true] {
            let mut after = None;
            loop {
                let query = RunQuery { finished, after, budget: limits::LIST_BUDGET };
                let query = &query;
                let page = slot.call(PATIENT, |store| async move { store.runs(query).await }).await?;
                all.extend(page.items);
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
        }
        // One may have ended between the two lists.
        all.sort_by_key(|record| (record.id, std::cmp::Reverse(record.rev)));
        all.dedup_by_key(|record| record.id);
        Ok(all)
    }

    async fn carry_group(&self, from: &Slot, to: &Slot, group: &Group) -> Result<Went> {
        let Some(first) = group.runs.first().copied() else { return Ok(Went::NotYet) };
        if self.is_stuck(first, group) {
            return Ok(Went::Stuck);
        }
        // What cannot go keeps its steps.
        if !(group.jobs.is_empty() && group.undos.is_empty())
            && let Err(went) = self.read_group(from, group).await?
        {
            return Ok(went);
        }
        let Some(steps) = self.set_steps_aside(from, to, group).await? else { return Ok(Went::NotYet) };
        let packed = match self.read_group(from, group).await? {
            Ok(packed) => packed,
            Err(went) => return Ok(went),
        };
        let carry = self.copy_runs(from, to, packed).await?;
        let landed = match self.step_runs(from, to, carry).await? {
            Came::Landed(landed) => landed,
            Came::Nothing => return Ok(Went::NotYet),
            Came::Refused => return Ok(self.refuse(first, group)),
        };
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).remove(&first);
        // Their steps may go on now. What is cut here is finished by the intents.
        let mut is_over = true;
        for steps in steps.chunks(super::carry::BATCH) {
            is_over &= self.go_on(from, to, steps).await?.1;
        }
        if is_over && !steps.is_empty() {
            let (_, records) = from.call(PATIENT, |store| async move { store.schedules().await }).await?;
            for intent in notices::intents(&records)?.into_iter().filter(|intent| intent.runs == group.runs) {
                let intent = &intent;
                from.call(PATIENT, |store| async move { notices::drop_intent(&*store, intent).await }).await?;
            }
        }
        Ok(Went::Over(landed))
    }

    /// The runs of a group as they are now, if they can go.
    async fn read_group(&self, from: &Slot, group: &Group) -> Result<Result<Packed, Went>> {
        let mut runs = Vec::with_capacity(group.runs.len());
        for id in &group.runs {
            match whole(from, *id).await {
                Ok(Some(run)) => runs.push(run),
                Ok(None) => return Ok(Err(Went::NotYet)),
                Err(StoreError::Refused(why)) => {
                    tracing::warn!(run = %id, why, "a run cannot be carried");
                    return Ok(Err(Went::Stuck));
                }
                Err(error) => return Err(error),
            }
        }
        // The steps are those of the headers that were listed: others may have others.
        if runs.iter().any(|run| group.revs.get(&run.record.id) != Some(&run.record.rev)) {
            return Ok(Err(Went::NotYet));
        }
        Ok(Packed::of(runs)?.ok_or(Went::Stuck))
    }

    fn is_stuck(&self, first: RunId, group: &Group) -> bool {
        let mut stuck = self.stuck.lock().unwrap_or_else(PoisonError::into_inner);
        stuck.retain(|_, since| since.elapsed() < STUCK);
        group.stuck || stuck.contains_key(&first)
    }

    /// A group was not given away as it was. That is so while another comes to its gate, who goes with it by the
    /// next look; if it is as it was then, it cannot go.
    fn refuse(&self, first: RunId, group: &Group) -> Went {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.insert(first, group.revs.clone()).is_some_and(|before| before == group.revs) {
            tracing::warn!(run = %first, "runs cannot be carried: their shard does not let them go");
            return Went::Stuck;
        }
        Went::NotYet
    }

    fn stick(&self, groups: &[Group]) {
        let mut stuck = self.stuck.lock().unwrap_or_else(PoisonError::into_inner);
        for first in groups.iter().filter_map(|group| group.runs.first()) {
            stuck.entry(*first).or_insert(Instant::now());
        }
    }

    /// Sets the steps of a group aside that nobody runs; all that its headers name, if every one of them
    /// has ended or is set aside.
    async fn set_steps_aside(&self, from: &Slot, to: &Slot, group: &Group) -> Result<Option<Vec<JobId>>> {
        let mut ids: BTreeSet<JobId> = group.jobs.iter().copied().collect();
        for (run, step) in &group.undos {
            // The header may not name the job that undoes a step.
            let Some(job) = self.undo_of(from, *run, step).await? else { return Ok(None) };
            ids.insert(job);
        }
        let ids: Vec<JobId> = ids.into_iter().collect();
        let is_live = |stored: &Stored| !stored.place.state().is_terminal();
        let is_aside = |stored: &Stored| matches!(transit::side(stored), Some(Side::Left(_)));
        let kept = self.stored_on(from, &ids).await?;
        let live = || kept.iter().filter(|stored| is_live(stored));
        if live().any(|stored| stored.lease.is_some() || transit::is_copy(stored)) {
            return Ok(None);
        }
        let waiting: Vec<Stored> = live().filter(|stored| !is_aside(stored)).cloned().collect();
        if waiting.is_empty() {
            return Ok(Some(ids));
        }
        for batch in waiting.chunks(super::carry::BATCH) {
            let ours = |stored: &Stored| Stored { at: from.to_ours(stored.at), ..stored.clone() };
            self.carry_jobs(from, to, batch.iter().map(ours).collect(), &group.runs).await?;
        }
        let kept = self.stored_on(from, &ids).await?;
        Ok(kept.iter().all(|stored| !is_live(stored) || is_aside(stored)).then_some(ids))
    }

    async fn stored_on(&self, slot: &Slot, ids: &[JobId]) -> Result<Vec<Stored>> {
        let mut all = Vec::with_capacity(ids.len());
        for ids in ids.chunks(super::carry::BATCH) {
            all.extend(get(slot, ids).await?.into_iter().flatten());
        }
        Ok(all)
    }

    /// The live job that undoes a step.
    async fn undo_of(&self, slot: &Slot, run: RunId, step: &str) -> Result<Option<JobId>> {
        for place in Place::ALL.into_iter().filter(|place| !place.state().is_terminal()) {
            let all = all_in(slot, place).await?;
            let is_it = |stored: &&Stored| {
                stored.job.link.as_ref().is_some_and(|link| link.run == run && link.undo && link.step == step)
            };
            if let Some(stored) = all.iter().find(is_it) {
                return Ok(Some(stored.job.id));
            }
        }
        Ok(None)
    }

    /// Lands what is on its way from where something was born, or from where that goes; whether there is such
    /// a way: what was not found may have landed in between, and be found by another look.
    pub(super) async fn land_what_is_on_its_way(&self, born: Shard) -> Result<bool> {
        let places = match self.places(born) {
            Ok(places) => places,
            // What was never there is simply not known.
            Err(StoreError::Refused(_)) => return Ok(false),
            Err(error) => return Err(error),
        };
        for way in places.windows(2) {
            if let [from, to] = way {
                self.land_marked(from, to).await?;
            }
        }
        Ok(places.len() > 1)
    }

    /// Which of these runs have not left a shard, or have not landed on the other.
    pub(super) async fn runs_to_wait_for(
        &self,
        from: &Slot,
        to: &Slot,
        runs: BTreeSet<RunId>,
    ) -> Result<BTreeSet<RunId>> {
        let mut waits = BTreeSet::new();
        let mut any_on_its_way = false;
        for run in runs {
            let is_here = from.call(PATIENT, |store| async move { store.run(run).await }).await?.is_some();
            if is_here {
                waits.insert(run);
                continue;
            }
            let is_there = to.call(PATIENT, |store| async move { store.run(run).await }).await?.is_some();
            if is_there {
                continue;
            }
            // On its way; else it is not kept any more, and nobody waits for its steps. That nothing is on its
            // way may be over by the next one.
            if !any_on_its_way {
                any_on_its_way = self.marks_on(from).await? > 0;
            }
            if any_on_its_way {
                waits.insert(run);
            }
        }
        Ok(waits)
    }
}

/// The gates at which runs stand whose headers cannot be read: who stands there too cannot go without them.
async fn gates_of_unreadable(slot: &Slot, records: &[RunRecord]) -> Result<BTreeMap<RunId, String>> {
    let mut gates = BTreeMap::new();
    for record in records.iter().filter(|record| record.header().is_err()) {
        match whole(slot, record.id).await {
            Ok(run) => gates.extend(run.and_then(|run| run.gate).map(|gate| (record.id, gate.key))),
            // It tells nothing of itself.
            Err(StoreError::Refused(_) | StoreError::Corrupt(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(gates)
}
