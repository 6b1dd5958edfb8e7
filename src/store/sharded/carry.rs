//! Carries what lies on a draining shard to another, a batch at a time, through the contract alone.
//!
//! # How a job goes over
//!
//! 0. An *intent* is noted where the jobs are: so that others find what a carrier that was cut has left.
//! 1. A *copy* is enqueued on the other shard, due in a far year, so that nobody runs it. It bears the
//!    number of this carrying.
//! 2. The job is set aside where it is, if it still has the revision that was copied; what is left of it
//!    names the carrying. From now on its copy counts.
//! 3. The copy becomes the job, by the right of the copy's own revision: once.
//! 4. What is left goes, and in the end the intent.
//!
//! The job is run from one shard or the other, never from both, whoever dies wherever and however late a
//! carrier goes on: [`transit::next`] decides every step from what is seen on both shards, and each step has
//! the right to be done once. A job that changes, or is deleted, between 1 and 2 leaves a copy that nobody
//! can land any more, and that is discarded.
//!
//! What a job has printed goes to the copy just before it becomes the job. Steps of runs go with these:
//! see `runs`. Jobs that wait for others go with those they wait for, once none of them runs; a parent that is on
//! the other shard already, or still here, is waited for all the same, by its id. The time of what has ended in its
//! line begins anew.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::shard::Slot;
use super::transit::{self, Carry, Seen, Step, is_copy, seen, unmarked, way};
use super::{Inner, PATIENT, notices};
use crate::domain::{EventKind, Job, JobId, Place, ProducerId, RunId, Shard, To};
use crate::store::contract::*;

/// Jobs carried at once.
pub(super) const BATCH: usize = 200;
/// Logs read at once.
const LOGS: usize = 16;
/// Rounds of steps that a batch gets: each job needs three.
const ROUNDS: usize = 4;
/// Between two looks for what carriers have left.
pub(super) const FINISH: Duration = Duration::from_secs(5);
/// A carrier that has not ended a batch by then was cut.
const CUT: Duration = Duration::from_secs(10);
/// Places that are carried, what waits first.
const PLACES: [Place; 9] = [
    Place::Pending,
    Place::Suspect,
    Place::Parked,
    Place::Blocked,
    Place::Retrying,
    Place::Scheduled,
    Place::Dead,
    Place::Cancelled,
    Place::Completed,
];

/// One move of a job that nobody runs.
fn step(place: Place, rev: u32, to: To, job: Job) -> Commit {
    let step = Move { expect: Expect::Idle(place, rev), to, job, event: EventKind::JobMoved };
    Commit { moves: vec![step], run: None }
}

async fn commit(slot: &Slot, commits: Vec<Commit>) -> Result<Vec<Moved>> {
    if commits.is_empty() {
        return Ok(Vec::new());
    }
    let exchange = Exchange { commits, claim: None };
    let exchange = &exchange;
    let answer = slot.call(PATIENT, |store| async move { store.exchange(exchange).await }).await?;
    Ok(answer.commits.into_iter().filter_map(|one| one.moves.into_iter().next()).collect())
}

pub(super) async fn get(slot: &Slot, ids: &[JobId]) -> Result<Vec<Option<Stored>>> {
    slot.call(PATIENT, |store| async move { store.get(ids).await }).await
}

/// All jobs in a place of a shard.
pub(super) async fn all_in(slot: &Slot, place: Place) -> Result<Vec<Stored>> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let query = ListQuery { place, queue: None, after, budget: crate::domain::limits::LIST_BUDGET };
        let query = &query;
        let page = slot.call(PATIENT, |store| async move { store.list(query).await }).await?;
        all.extend(page.items);
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(all),
        }
    }
}

/// Jobs that wait for others, each with those that it goes with.
async fn families_on(from: &Slot) -> Result<Vec<Vec<JobId>>> {
    let held = all_in(from, Place::Held).await?;
    let held: Vec<(JobId, Vec<JobId>)> = held.into_iter().map(|stored| (stored.job.id, stored.job.after)).collect();
    Ok(super::groups::families(&held))
}

/// Takes along what jobs have printed, to the copies that become them; each with the revision it lands with.
async fn carry_logs(from: &Slot, to: &Slot, landing: &[(JobId, u32)]) -> Result<()> {
    for some in landing.chunks(LOGS) {
        let sent = some.iter().map(|(id, rev)| carry_log(from, to, *id, rev.saturating_sub(1)));
        futures_util::future::try_join_all(sent).await?;
    }
    Ok(())
}

async fn carry_log(from: &Slot, to: &Slot, id: JobId, rev: u32) -> Result<()> {
    let mut log = from.call(PATIENT, |store| async move { store.log(id, 0).await }).await?;
    if log.chunks.is_empty() {
        return Ok(());
    }
    log.chunks.iter_mut().for_each(|chunk| chunk.at = to.to_theirs(from.to_ours(chunk.at)));
    let log = &log;
    // A copy that has landed meanwhile has it already.
    to.call(PATIENT, |store| async move { store.keep_log(id, rev, log).await }).await.map(drop)
}

impl Inner {
    /// The shards between which a draining shard is carried.
    fn way_of(&self, id: u16) -> Result<(std::sync::Arc<Slot>, std::sync::Arc<Slot>)> {
        let map = self.map();
        let entry = map.entry(id).ok_or_else(|| StoreError::Refused(format!("there is no shard {id}")))?;
        let to = entry.moved_to.ok_or_else(|| StoreError::Refused(format!("shard {id} is not carried anywhere")))?;
        Ok((self.slot(id)?, self.slot(map.route(Shard(to))?)?))
    }

    pub(super) async fn carry_batch(&self, id: u16) -> Result<Carried> {
        let (from, to) = self.way_of(id)?;
        self.see_clocks(&from, &to).await?;
        let families = families_on(&from).await?;
        let entangled: BTreeSet<JobId> = families.iter().flatten().copied().collect();
        let jobs = self.carry_some(&from, &to, &entangled, false).await?;
        if jobs > 0 {
            return Ok(Carried { jobs, ..Carried::default() });
        }
        let (jobs, held) = self.carry_families(&from, &to, families).await?;
        if jobs > 0 {
            return Ok(Carried { jobs, held, ..Carried::default() });
        }
        let (mut carried, none_left) = self.carry_runs(&from, &to).await?;
        carried.held = held;
        if carried.is_nothing() && none_left {
            // A step whose run is not kept any more is a job as any other.
            carried.jobs = self.carry_some(&from, &to, &entangled, true).await?;
        }
        if carried.is_nothing() {
            carried.schedules = self.carry_schedules(&from, &to).await?;
        }
        Ok(carried)
    }

    /// What is due goes over by the clocks of both; who only carries has not seen them yet.
    pub(super) async fn see_clocks(&self, from: &Slot, to: &Slot) -> Result<()> {
        for slot in [from, to] {
            slot.saw_clock(slot.clock().await?, self.now());
        }
        Ok(())
    }

    /// Carries a batch of jobs.
    async fn carry_some(&self, from: &Slot, to: &Slot, entangled: &BTreeSet<JobId>, steps: bool) -> Result<u64> {
        for place in PLACES {
            let batch = self.movable(from, place, entangled, steps).await?;
            if !batch.is_empty() {
                let jobs = self.carry_jobs(from, to, batch, &[]).await?;
                if jobs > 0 {
                    return Ok(jobs);
                }
            }
        }
        Ok(0)
    }

    /// Carries jobs that wait for others, with those they wait for: how many have gone, and how many of them wait
    /// for one that runs.
    async fn carry_families(&self, from: &Slot, to: &Slot, families: Vec<Vec<JobId>>) -> Result<(u64, u64)> {
        let (mut gone, mut held) = (0, 0);
        for family in families {
            let mut kept = Vec::with_capacity(family.len());
            for ids in family.chunks(BATCH) {
                kept.extend(get(from, ids).await?.into_iter().flatten());
            }
            if kept.iter().any(|stored| stored.lease.is_some()) {
                held += kept.iter().filter(|stored| stored.place == Place::Held).count() as u64;
                continue;
            }
            // A step goes with its run, and what is on its way here goes when it has come.
            let goes = |stored: &Stored| {
                (stored.job.link.is_none() || stored.place.state().is_terminal()) && transit::side(stored).is_none()
            };
            let mut batch: Vec<Stored> = kept.into_iter().filter(goes).collect();
            batch.iter_mut().for_each(|stored| stored.at = from.to_ours(stored.at));
            while !batch.is_empty() {
                let rest = batch.split_off(batch.len().min(BATCH));
                gone += self.carry_jobs(from, to, batch, &[]).await?;
                batch = rest;
            }
            if gone >= BATCH as u64 {
                break;
            }
        }
        Ok((gone, held))
    }

    /// Steps that have ended go by themselves, others with their runs (`steps` says that no run is left).
    async fn movable(
        &self,
        from: &Slot,
        place: Place,
        entangled: &BTreeSet<JobId>,
        steps: bool,
    ) -> Result<Vec<Stored>> {
        let mut after = None;
        let steps = steps || place.state().is_terminal();
        loop {
            let query = ListQuery { place, queue: None, after, budget: BATCH };
            let query = &query;
            let page = from.call(PATIENT, |store| async move { store.list(query).await }).await?;
            let fits = |stored: &Stored| {
                (steps || stored.job.link.is_none()) && !entangled.contains(&stored.job.id) && !is_copy(stored)
            };
            let mut batch: Vec<Stored> = page.items.into_iter().filter(fits).collect();
            if matches!(place, Place::Dead | Place::Completed | Place::Cancelled) {
                // The list begins with the latest; the latest is to be the last to come.
                batch.reverse();
            }
            for stored in &mut batch {
                stored.at = from.to_ours(stored.at);
            }
            match page.next {
                _ if !batch.is_empty() => return Ok(batch),
                Some(next) => after = Some(next),
                None => return Ok(batch),
            }
        }
    }

    /// `runs`: whose steps these are.
    pub(super) async fn carry_jobs(&self, from: &Slot, to: &Slot, batch: Vec<Stored>, runs: &[RunId]) -> Result<u64> {
        let ids: Vec<JobId> = batch.iter().map(|stored| stored.job.id).collect();
        let carry = Carry(self.options.entropy.next());
        let at = from.to_theirs(self.now());
        let intent = notices::Intent { carry: carry.0, to: to.id, at: at.0, jobs: ids.clone(), runs: runs.to_vec() };
        let kept = &intent;
        from.call(PATIENT, |store| async move { notices::keep_intent(&*store, kept).await }).await?;
        let keys = self.held_keys(from, &batch).await?;
        let unmoved = batch.iter().filter(|stored| transit::side(stored).is_none());
        let copies = unmoved.map(|stored| {
            let rest = keys.get(&stored.job.id).copied();
            transit::copy(stored, carry, from.id, rest.is_some(), rest)
        });
        let producer = ProducerId::from_parts(self.now(), Shard::default(), self.options.entropy.next());
        let copies = Enqueue { producer, sequence: 1, jobs: copies.collect(), runs: Vec::new() };
        if !copies.jobs.is_empty() {
            let copies = &copies;
            to.call(PATIENT, |store| async move { store.enqueue(copies).await }).await?;
        }
        let (landed, is_over) = self.go_on(from, to, &ids).await?;
        if is_over {
            from.call(PATIENT, |store| async move { notices::drop_intent(&*store, kept).await }).await?;
        }
        Ok(landed)
    }

    /// Which jobs hold their unique keys, and for how long at least.
    async fn held_keys(&self, from: &Slot, batch: &[Stored]) -> Result<BTreeMap<JobId, Duration>> {
        let with_key: Vec<&Stored> = batch.iter().filter(|stored| stored.job.unique_key.is_some()).collect();
        if with_key.is_empty() {
            return Ok(BTreeMap::new());
        }
        let keys: Vec<String> = with_key.iter().filter_map(|stored| stored.job.unique_key.clone()).collect();
        let keys = &keys;
        let holders = from.call(PATIENT, |store| async move { store.holders(keys).await }).await?;
        let own = with_key.iter().zip(holders).filter_map(|(stored, holder)| {
            holder.filter(|holder| holder.job == stored.job.id).map(|holder| (holder.job, holder.rest))
        });
        Ok(own.collect())
    }

    /// Takes every step that these jobs need, whoever has begun; how many have landed, and whether
    /// none of them is on its way any more.
    pub(super) async fn go_on(&self, from: &Slot, to: &Slot, ids: &[JobId]) -> Result<(u64, bool)> {
        let mut landed = 0;
        for _ in 0..ROUNDS {
            // First where they were: what is not there any more has landed, or never will.
            let mut here = get(from, ids).await?;
            let there = get(to, ids).await?;
            let stale = |(here, there): (&Option<Stored>, &Option<Stored>)| {
                transit::next(seen(here.as_ref(), from.id), seen(there.as_ref(), from.id)) == Step::Discard
            };
            let stale: Vec<usize> =
                here.iter().zip(&there).enumerate().filter(|(_, pair)| stale(*pair)).map(|(nth, _)| nth).collect();
            if !stale.is_empty() {
                // A copy may be of what came to be between the two looks: a third one decides.
                let again: Vec<JobId> = stale.iter().map(|nth| ids[*nth]).collect();
                for (nth, stored) in stale.into_iter().zip(get(from, &again).await?) {
                    here[nth] = stored;
                }
            }
            let (mut at_home, mut away, mut lands, mut asked) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
            let owners = here.iter().flatten().filter_map(|here| transit::waits_for_run(&here.job)).collect();
            let waits = self.runs_to_wait_for(from, to, owners).await?;
            let mut is_over = true;
            for (here, there) in here.iter().zip(&there) {
                let next = transit::next(seen(here.as_ref(), from.id), seen(there.as_ref(), from.id));
                match (next, here, there) {
                    (Step::Land, Some(here), _)
                        if transit::waits_for_run(&here.job).is_some_and(|run| waits.contains(&run)) =>
                    {
                        is_over = false;
                    }
                    (Step::SetAside(carry), Some(here), _) => {
                        let holds = there.as_ref().is_some_and(|there| there.job.unique_key.is_some());
                        let stored = Stored { at: from.to_ours(here.at), ..here.clone() };
                        let delay = transit::FAR.since(from.to_theirs(self.now()));
                        let aside = transit::left(&stored, carry, holds);
                        at_home.push(step(here.place, here.job.rev, To::Scheduled(delay), aside));
                    }
                    (Step::Land, Some(here), Some(there)) => {
                        lands.push(away.len());
                        away.extend(self.landing(here, there)?);
                    }
                    (Step::Discard, _, Some(there)) => {
                        away.push(step(Place::Scheduled, there.job.rev, To::Gone, there.job.clone()));
                    }
                    (Step::Leave, Some(here), _) => {
                        if here.asked {
                            asked.push(here.job.id);
                        }
                        at_home.push(step(Place::Scheduled, here.job.rev, To::Gone, here.job.clone()));
                    }
                    _ => {}
                }
            }
            // Each side that is seen asks for a step.
            if at_home.is_empty() && away.is_empty() {
                return Ok((landed, is_over));
            }
            let logs = lands.iter().filter_map(|nth| away.get(*nth)).flat_map(|commit: &Commit| &commit.moves);
            let logs: Vec<(JobId, u32)> = logs.map(|step| (step.job.id, step.job.rev)).collect();
            carry_logs(from, to, &logs).await?;
            let moved = commit(to, away).await?;
            landed += lands.iter().filter(|nth| moved.get(**nth) == Some(&Moved::Applied)).count() as u64;
            if !asked.is_empty() {
                let asked = &asked;
                to.call(PATIENT, |store| async move { store.ask(asked).await }).await?;
            }
            commit(from, at_home).await?;
        }
        Ok((landed, false))
    }

    /// The move by which a copy becomes the job that was set aside.
    fn landing(&self, here: &Stored, there: &Stored) -> Result<Option<Commit>> {
        let odd = || StoreError::Corrupt(format!("job {} is on its way, and does not say whence", here.job.id));
        let (place, at, job) = unmarked(&here.job).ok_or_else(odd)?;
        let job = Job { rev: there.job.rev.saturating_add(1), ..job };
        Ok(Some(step(Place::Scheduled, there.job.rev, way(place, at, self.now()), job)))
    }

    async fn carry_schedules(&self, from: &Slot, to: &Slot) -> Result<u64> {
        let mut carried = 0;
        for _ in 0..ROUNDS {
            let (_, here) = from.call(PATIENT, |store| async move { store.schedules().await }).await?;
            let (_, there) = to.call(PATIENT, |store| async move { store.schedules().await }).await?;
            let copies = there.iter().filter(|record| {
                transit::seen_schedule(Some(record), from.id).is_ok_and(|seen| matches!(seen, Seen::Copy(..)))
            });
            let names: BTreeSet<_> = here.iter().chain(copies).map(|record| record.name.clone()).collect();
            let mut is_over = true;
            for name in names.into_iter().filter(|name| !notices::is_notice(name)) {
                let find = |records: &[ScheduleRecord]| records.iter().find(|record| record.name == name).cloned();
                let (mut home, copy) = (find(&here), find(&there));
                let sides =
                    (transit::seen_schedule(home.as_ref(), from.id)?, transit::seen_schedule(copy.as_ref(), from.id)?);
                if transit::next(sides.0, sides.1) == Step::Discard {
                    // As with jobs: the copy may be of what came to be between the two looks.
                    home = find(&from.call(PATIENT, |store| async move { store.schedules().await }).await?.1);
                }
                let (took, has_landed) = self.step_schedule(from, to, home, copy).await?;
                is_over &= !took;
                carried += u64::from(has_landed);
                if has_landed {
                    let mut known = self.schedules.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    known.insert(name, to.id);
                }
            }
            if is_over {
                break;
            }
        }
        Ok(carried)
    }

    fn schedule_copy(&self, from: &Slot, here: &ScheduleRecord, of: u64) -> Result<Vec<u8>> {
        let side = transit::Side::Copy { carry: Carry(self.options.entropy.next()), origin: from.id, of };
        transit::MovingSchedule { side, due: here.due, body: here.body.clone() }.write()
    }

    /// The next step of a schedule, in the same way as a job's: whether there was one, and whether it has
    /// landed by it.
    async fn step_schedule(
        &self,
        from: &Slot,
        to: &Slot,
        here: Option<ScheduleRecord>,
        there: Option<ScheduleRecord>,
    ) -> Result<(bool, bool)> {
        use transit::{MovingSchedule, Side, seen_schedule};
        let (is_here, is_there) = (seen_schedule(here.as_ref(), from.id)?, seen_schedule(there.as_ref(), from.id)?);
        let change = |record: &ScheduleRecord, next| ScheduleCommit {
            next,
            ..ScheduleCommit::deleting(&record.name, record.rev)
        };
        let (slot, change) = match (transit::next(is_here, is_there), is_here, here, there) {
            (Step::Rest, Seen::Itself(Some(of)), Some(here), None) => {
                let body = self.schedule_copy(from, &here, of)?;
                (to, ScheduleCommit { next: Some((None, body)), ..ScheduleCommit::deleting(&here.name, 0) })
            }
            (Step::SetAside(carry), _, Some(here), _) => {
                let aside = MovingSchedule { side: Side::Left(carry), due: here.due, body: here.body.clone() };
                (from, change(&here, Some((None, aside.write()?))))
            }
            (Step::Land, _, Some(here), Some(there)) => {
                let Some(moving) = MovingSchedule::read(&here)? else { return Ok((false, false)) };
                let due = moving.due.map(|due| to.to_theirs(from.to_ours(due)));
                (to, change(&there, Some((due, moving.body))))
            }
            // Written over, so that its revision rises: whoever decided by the older copy has no right to this one.
            (Step::Discard, Seen::Itself(Some(of)), Some(here), Some(there)) => {
                (to, change(&there, Some((None, self.schedule_copy(from, &here, of)?))))
            }
            (Step::Discard, Seen::Nothing, _, Some(there)) => (to, change(&there, None)),
            (Step::Leave, _, Some(here), _) => (from, change(&here, None)),
            _ => return Ok((false, false)),
        };
        let has_landed = matches!(transit::next(is_here, is_there), Step::Land);
        let change = &change;
        let done = slot.call(PATIENT, |store| async move { store.set_schedule(change).await }).await?;
        Ok((true, has_landed && done.is_some()))
    }

    /// What a carrier that was cut has left is finished by any process, now and then. What cannot be done for
    /// one shard holds up no other; the first error is told.
    pub(super) async fn finish_carrying(&self) -> Result<()> {
        let mut first = Ok(());
        for entry in self.map().there().filter(|entry| entry.moved_to.is_some()) {
            let done = self.finish_one(entry.id).await;
            first = first.and(done);
        }
        first
    }

    async fn finish_one(&self, id: u16) -> Result<()> {
        let (from, to) = self.way_of(id)?;
        if from.is_away() || to.is_away() {
            return Ok(());
        }
        self.see_clocks(&from, &to).await?;
        let (now, records) = from.call(PATIENT, |store| async move { store.schedules().await }).await?;
        let is_old = |intent: &notices::Intent| now.0.saturating_sub(intent.at) > CUT.as_millis() as i64;
        let cut: Vec<notices::Intent> = notices::intents(&records)?.into_iter().filter(is_old).collect();
        if cut.iter().any(|intent| !intent.runs.is_empty()) {
            // Their steps are set aside, and wait for them.
            self.carry_runs(&from, &to).await?;
        }
        for intent in &cut {
            let (_, is_over) = self.go_on(&from, &to, &intent.jobs).await?;
            if is_over {
                from.call(PATIENT, |store| async move { notices::drop_intent(&*store, intent).await }).await?;
            }
        }
        self.land_marked(&from, &to).await?;
        self.end_what_was_cut(&from, &to).await?;
        let is_cut = |record: &ScheduleRecord| {
            transit::seen_schedule(Some(record), from.id).is_ok_and(|seen| matches!(seen, Seen::Left(_)))
        };
        if records.iter().any(is_cut) {
            self.carry_schedules(&from, &to).await?;
        }
        Ok(())
    }

    /// Before a shard goes: copies of its jobs that somebody has made too late are nobody's.
    pub(super) async fn sweep_copies(&self, id: u16) -> Result<()> {
        let Ok((from, to)) = self.way_of(id) else { return Ok(()) };
        let of_it = |stored: &Stored| matches!(seen(Some(stored), from.id), Seen::Copy(..));
        self.see_clocks(&from, &to).await?;
        self.sweep_runs(&from, &to).await?;
        let late = all_in(&to, Place::Scheduled).await?;
        let ids: Vec<JobId> = late.iter().filter(|stored| of_it(stored)).map(|stored| stored.job.id).collect();
        for ids in ids.chunks(BATCH) {
            self.go_on(&from, &to, ids).await?;
        }
        Ok(())
    }
}
