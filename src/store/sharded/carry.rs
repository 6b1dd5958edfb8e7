//! Carries what lies on a draining shard to another, a batch at a time, through the contract alone.
//!
//! # How a job goes over
//!
//! 1. A *copy* is enqueued on the other shard, due in a far year, so that nobody runs it. It says in its
//!    metadata where the job was.
//! 2. The job is deleted where it is, if it still is where it was seen, with the revision it had.
//! 3. The copy is moved to where the job was, with the next revision.
//!
//! The job counts as long as it is there; the copy counts as soon as it is not. So a job is run from one
//! shard or the other, never from both, whoever dies wherever: before 2 the copy is nothing, after 2 anybody
//! who finds it finishes it (3 names the copy's revision, so it is done once). A copy is deleted only by
//! whoever has seen that the job is still there and has changed: then the revision in the copy can never
//! again be the job's. Two carriers at once do no harm for the same reasons.
//!
//! Steps stay with their runs, which end where they began; jobs that wait for others, and those they wait
//! for, stay until that is over. What a job has printed stays behind, and its time in the line of finished
//! jobs begins anew.
//!
//! A schedule goes over in the same way: a note of it on the other shard, its end here by who saw its
//! revision, its beginning there, the end of the note.

use std::collections::BTreeSet;
use std::time::Duration;

use super::map::Entry;
use super::shard::Slot;
use super::{Inner, PATIENT, notices};
use crate::domain::{EventKind, Job, JobId, Ms, Place, ProducerId, Shard, To};
use crate::store::contract::*;

/// When a copy is due: in the year 9892.
pub(super) const FAR: Ms = Ms(250_000_000_000_000);
/// Where a job was, in the metadata of its copy.
const WAS: &str = "goflow:was";
/// Jobs carried at once.
const BATCH: usize = 200;
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

/// Where a job was: its place, and when it is due there.
fn write_was(stored: &Stored) -> String {
    format!("{} {}", char::from(stored.place.code()), stored.at.0)
}

fn read_was(text: &str) -> Option<(Place, Ms)> {
    let (code, at) = text.split_once(' ')?;
    let place = Place::from_code(*code.as_bytes().first()?)?;
    Some((place, Ms(at.parse().ok()?)))
}

/// Whether a job is a copy on its way.
pub(super) fn is_copy(stored: &Stored) -> bool {
    stored.place == Place::Scheduled && stored.job.metadata.contains_key(WAS)
}

/// The copy of a job. What has ended holds no unique key, and its copy must not take one.
fn copy(stored: &Stored) -> NewJob {
    let mut job = stored.job.clone();
    job.metadata.insert(WAS.to_owned(), write_was(stored));
    if stored.place.state().is_terminal() {
        job.unique_key = None;
    }
    NewJob { job, start: Start::At(FAR), unique_for: None }
}

/// Where a place leads that was left at a moment of our clock.
fn way(place: Place, at: Ms, now: Ms) -> To {
    match place {
        Place::Scheduled => To::Scheduled(at.since(now)),
        Place::Retrying => To::Retrying(at.since(now)),
        Place::Suspect => To::Suspect,
        Place::Parked => To::Parked,
        Place::Held => To::Held,
        Place::Dead => To::Dead,
        Place::Completed => To::Completed,
        Place::Cancelled => To::Cancelled,
        // What a key has blocked waits in line until it is blocked there.
        Place::Pending | Place::Blocked | Place::Running => To::Pending,
    }
}

fn delete(place: Place, job: &Job) -> Commit {
    let step =
        Move { expect: Expect::Idle(place, job.rev), to: To::Gone, job: job.clone(), event: EventKind::JobMoved };
    Commit { moves: vec![step], run: None }
}

impl Inner {
    pub(super) async fn carry_batch(&self, id: u16) -> Result<Carried> {
        let map = self.map();
        let entry = map.entry(id).ok_or_else(|| StoreError::Refused(format!("there is no shard {id}")))?;
        let to = entry.moved_to.ok_or_else(|| StoreError::Refused(format!("shard {id} is not carried anywhere")))?;
        let (from, to) = (self.slot(id)?, self.slot(map.route(Shard(to))?)?);
        let entangled = self.entangled(&from).await?;
        for place in PLACES {
            let batch = self.movable(&from, place, &entangled).await?;
            if !batch.is_empty() {
                let jobs = self.carry_jobs(&from, &to, batch).await?;
                if jobs > 0 {
                    return Ok(Carried { jobs, schedules: 0 });
                }
            }
        }
        let jobs = self.finish_copies(&from, &to).await?;
        Ok(Carried { jobs, schedules: self.carry_schedules(&from, &to).await? })
    }

    /// Jobs that wait for others, and those they wait for.
    async fn entangled(&self, from: &Slot) -> Result<BTreeSet<JobId>> {
        let mut entangled = BTreeSet::new();
        let mut after = None;
        loop {
            let query =
                ListQuery { place: Place::Held, queue: None, after, budget: crate::domain::limits::LIST_BUDGET };
            let query = &query;
            let page = from.call(PATIENT, |store| async move { store.list(query).await }).await?;
            for stored in page.items {
                entangled.extend(stored.job.after.iter().copied());
                entangled.insert(stored.job.id);
            }
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(entangled),
            }
        }
    }

    async fn movable(&self, from: &Slot, place: Place, entangled: &BTreeSet<JobId>) -> Result<Vec<Stored>> {
        let mut after = None;
        loop {
            let query = ListQuery { place, queue: None, after, budget: BATCH };
            let query = &query;
            let page = from.call(PATIENT, |store| async move { store.list(query).await }).await?;
            let fits =
                |stored: &Stored| stored.job.link.is_none() && !entangled.contains(&stored.job.id) && !is_copy(stored);
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

    async fn carry_jobs(&self, from: &Slot, to: &Slot, batch: Vec<Stored>) -> Result<u64> {
        let batch = self.make_copies(to, batch).await?;
        if batch.is_empty() {
            return Ok(0);
        }
        let commits = batch.iter().map(|stored| delete(stored.place, &stored.job)).collect();
        let exchange = Exchange { commits, claim: None };
        let answer = from.call(PATIENT, |store| {
            let exchange = &exchange;
            async move { store.exchange(exchange).await }
        });
        let answer = answer.await?;
        let (mut gone, mut doubtful) = (Vec::new(), Vec::new());
        for (stored, committed) in batch.into_iter().zip(&answer.commits) {
            match committed.moves.first() {
                Some(Moved::Applied) => gone.push(stored),
                _ => doubtful.push(stored),
            }
        }
        self.take_back(from, to, doubtful).await?;
        let asked: Vec<JobId> = gone.iter().filter(|stored| stored.asked).map(|stored| stored.job.id).collect();
        let count =
            self.land(to, gone.into_iter().map(|stored| (stored.place, stored.at, stored.job)).collect()).await?;
        if !asked.is_empty() {
            let asked = &asked;
            to.call(PATIENT, |store| async move { store.ask(asked).await }).await?;
        }
        Ok(count)
    }

    /// Step 1; the jobs that have a copy now which is theirs.
    async fn make_copies(&self, to: &Slot, batch: Vec<Stored>) -> Result<Vec<Stored>> {
        let producer = ProducerId::from_parts(self.now(), Shard::default(), self.options.entropy.next());
        let copies = Enqueue { producer, sequence: 1, jobs: batch.iter().map(copy).collect(), runs: Vec::new() };
        let answer = to.call(PATIENT, |store| {
            let copies = &copies;
            async move { store.enqueue(copies).await }
        });
        let answer = answer.await?;
        let (mut ready, mut there) = (Vec::new(), Vec::new());
        for (stored, answer) in batch.into_iter().zip(answer.jobs) {
            match answer {
                Enqueued::Created => ready.push(stored),
                Enqueued::Exists => there.push(stored),
                // Its key is held there by another: it stays until that one has ended.
                Enqueued::Conflict(_) | Enqueued::NoParent(_) | Enqueued::Busy => {}
            }
        }
        if !there.is_empty() {
            let ids: Vec<JobId> = there.iter().map(|stored| stored.job.id).collect();
            let ids = &ids;
            let found = to.call(PATIENT, |store| async move { store.get(ids).await }).await?;
            let mut old = Vec::new();
            for (stored, found) in there.into_iter().zip(found) {
                match found.filter(is_copy) {
                    Some(found)
                        if found.job.metadata.get(WAS) == Some(&write_was(&stored))
                            && found.job.rev == stored.job.rev =>
                    {
                        ready.push(stored);
                    }
                    // Of an earlier try, and not what the job is now: away with it, and again next time.
                    Some(found) if found.job.rev != stored.job.rev => old.push(delete(Place::Scheduled, &found.job)),
                    // Due at another moment, or in another place at the same revision: the same job all the same.
                    Some(_) => ready.push(stored),
                    None => {}
                }
            }
            if !old.is_empty() {
                let exchange = Exchange { commits: old, claim: None };
                let exchange = &exchange;
                to.call(PATIENT, |store| async move { store.exchange(exchange).await }).await?;
            }
        }
        Ok(ready)
    }

    /// The job was not where it was seen. If it is still there, its copy is deleted; if it is gone, somebody
    /// else has carried it, and the copy is all there is.
    async fn take_back(&self, from: &Slot, to: &Slot, doubtful: Vec<Stored>) -> Result<()> {
        if doubtful.is_empty() {
            return Ok(());
        }
        let ids: Vec<JobId> = doubtful.iter().map(|stored| stored.job.id).collect();
        let ids = &ids;
        let found = from.call(PATIENT, |store| async move { store.get(ids).await }).await?;
        let mut commits = Vec::new();
        for (stored, found) in doubtful.iter().zip(found) {
            let has_changed = found.is_some_and(|found| found.place != stored.place || found.job.rev != stored.job.rev);
            if has_changed {
                let NewJob { job, .. } = copy(stored);
                commits.push(delete(Place::Scheduled, &job));
            }
        }
        if !commits.is_empty() {
            let exchange = Exchange { commits, claim: None };
            let exchange = &exchange;
            to.call(PATIENT, |store| async move { store.exchange(exchange).await }).await?;
        }
        Ok(())
    }

    /// Step 3.
    async fn land(&self, to: &Slot, jobs: Vec<(Place, Ms, Job)>) -> Result<u64> {
        let now = self.now();
        let land = |(place, at, mut job): (Place, Ms, Job)| {
            let expect = Expect::Idle(Place::Scheduled, job.rev);
            job.rev += 1;
            let step = Move { expect, to: way(place, at, now), job, event: EventKind::JobMoved };
            Commit { moves: vec![step], run: None }
        };
        let exchange = Exchange { commits: jobs.into_iter().map(land).collect(), claim: None };
        if exchange.commits.is_empty() {
            return Ok(0);
        }
        let answer = to.call(PATIENT, |store| {
            let exchange = &exchange;
            async move { store.exchange(exchange).await }
        });
        let answer = answer.await?;
        let landed = |committed: &&Committed| committed.moves.first() == Some(&Moved::Applied);
        Ok(answer.commits.iter().filter(landed).count() as u64)
    }

    /// Copies whose jobs are gone, left by a carrier that was cut: they are all there is.
    pub(super) async fn finish_copies(&self, from: &Slot, to: &Slot) -> Result<u64> {
        let (mut copies, mut after) = (Vec::new(), None);
        loop {
            let budget = crate::domain::limits::LIST_BUDGET;
            let query = ListQuery { place: Place::Scheduled, queue: None, after, budget };
            let query = &query;
            let page = to.call(PATIENT, |store| async move { store.list(query).await }).await?;
            let born_there = |stored: &Stored| is_copy(stored);
            copies.extend(page.items.into_iter().filter(born_there));
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        let mut finished = 0;
        for copies in copies.chunks(BATCH) {
            let ids: Vec<JobId> = copies.iter().map(|stored| stored.job.id).collect();
            let mut there = vec![false; ids.len()];
            // Another shard may be carried to the same one: its copies are its own to finish.
            let carried = |entry: &&Entry| entry.id != to.id && (entry.id == from.id || entry.moved_to.is_some());
            let map = self.map();
            for entry in map.there().filter(carried) {
                let (slot, ids) = (self.slot(entry.id)?, &ids);
                let found = slot.call(PATIENT, |store| async move { store.get(ids).await }).await?;
                there.iter_mut().zip(found).for_each(|(seen, one)| *seen |= one.is_some());
            }
            let gone = copies.iter().zip(there).filter(|(_, there)| !*there);
            let jobs = gone.filter_map(|(stored, _)| {
                let mut job = stored.job.clone();
                let (place, at) = read_was(&job.metadata.remove(WAS)?)?;
                Some((place, at, job))
            });
            finished += self.land(to, jobs.collect()).await?;
        }
        Ok(finished)
    }

    async fn carry_schedules(&self, from: &Slot, to: &Slot) -> Result<u64> {
        let theirs = to.call(PATIENT, |store| async move { notices::moving(&*store).await }).await?;
        for note in theirs {
            // Its end here may have been the last that a carrier did.
            self.land_schedule(from, to, note).await?;
        }
        let (_, records) = from.call(PATIENT, |store| async move { store.schedules().await }).await?;
        let mut carried = 0;
        for record in records.into_iter().filter(|record| !notices::is_notice(&record.name)) {
            let due = record.due.map(|due| to.to_theirs(from.to_ours(due)));
            let note =
                notices::Moving { name: record.name.clone(), due: due.map(|due| due.0), body: record.body.clone() };
            let kept = &note;
            to.call(PATIENT, |store| async move { notices::note_moving(&*store, kept).await }).await?;
            let end = ScheduleCommit::deleting(&record.name, record.rev);
            let end = &end;
            if from.call(PATIENT, |store| async move { store.set_schedule(end).await }).await?.is_some() {
                self.land_schedule(from, to, note).await?;
                carried += 1;
            }
        }
        Ok(carried)
    }

    /// A schedule that is noted there and is not here any more begins there.
    async fn land_schedule(&self, from: &Slot, to: &Slot, note: notices::Moving) -> Result<()> {
        let (_, here) = from.call(PATIENT, |store| async move { store.schedules().await }).await?;
        if here.iter().any(|record| record.name == note.name) {
            return Ok(());
        }
        let note = &note;
        to.call(PATIENT, |store| async move {
            let begin = ScheduleCommit {
                next: Some((note.due.map(Ms), note.body.clone())),
                ..ScheduleCommit::deleting(&note.name, 0)
            };
            store.set_schedule(&begin).await?;
            notices::forget_moving(&*store, note).await
        })
        .await?;
        self.schedules.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(note.name.clone(), to.id);
        Ok(())
    }

    /// What a carrier that was cut has left is finished by any process, now and then.
    pub(super) async fn finish_carrying(&self) -> Result<()> {
        let map = self.map();
        for entry in map.there() {
            if let Some(to) = entry.moved_to {
                let (from, to) = (self.slot(entry.id)?, self.slot(map.route(Shard(to))?)?);
                if !from.is_away() && !to.is_away() {
                    self.finish_copies(&from, &to).await?;
                }
            }
        }
        Ok(())
    }
}

/// Between two looks for what carriers have left.
pub(super) const FINISH: Duration = Duration::from_secs(15);
