//! What every worker does for all, over shards: heartbeats, lapsed leases, timers, inboxes, trims, notes,
//! asks, permits. A shard that is away is left out and waits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::shard::Slot;
use super::transit::{self, Side};
use super::work::bucket_home;
use super::{Inner, PATIENT, PROMPT, every, good, nobody};
use crate::domain::{JobId, JobState, RunId, Shard, WorkerId};
use crate::store::contract::*;

/// How long upkeep waits for a shard: there is a next time, and the others' upkeep waits as well.
const UPKEEP: Duration = Duration::from_secs(3);
/// Removing many records may take longer.
const TRIM: Duration = Duration::from_secs(10);

/// Whether the second place of a record is asked as well.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Both {
    IfUnknown,
    Always,
}

impl Inner {
    /// One shard hears that a worker lives.
    pub(super) async fn beat_one(&self, slot: &Slot, beat: &Heartbeat) -> Result<Beat> {
        let asked = Instant::now();
        // Less than the worker's own patience, so that it hears of the others in time.
        let limit = PROMPT.min(beat.lease / 6).max(Duration::from_millis(50));
        let answer = slot.call(limit, |store| async move { store.heartbeat(beat).await }).await?;
        slot.saw_clock(answer.now, self.now());
        self.leases.beaten(beat.info.id, slot.id, asked, beat.lease, &answer.held);
        Ok(answer)
    }

    pub(super) async fn heartbeat(&self, beat: &Heartbeat) -> Result<Beat> {
        self.leases.beats(beat);
        let slots: Vec<Arc<Slot>> = self.slots().into_iter().filter(|slot| self.is_ours(slot.id)).collect();
        let answers = join_all(slots.iter().map(|slot| self.beat_one(slot, beat))).await;
        let mut all = Beat { now: self.now(), ..Beat::default() };
        let (mut answered, mut first) = (false, None);
        for (slot, answer) in slots.iter().zip(answers) {
            match answer {
                Ok(answer) => {
                    answered = true;
                    all.held.extend(answer.held);
                    all.drain |= answer.drain;
                }
                Err(error) => {
                    all.held.extend(self.leases.held_on(beat.info.id, slot.id));
                    first.get_or_insert(error);
                }
            }
        }
        if answered { Ok(all) } else { Err(first.unwrap_or_else(nobody)) }
    }

    pub(super) async fn farewell(&self, worker: WorkerId) -> Result<()> {
        let said = self.ask_all(self.awake(), PROMPT, |store| async move { store.farewell(worker).await }).await;
        self.leases.forget(worker);
        good(said).map(drop)
    }

    pub(super) async fn overdue(&self, parked: Duration, limit: usize) -> Result<Overdue> {
        // Whoever was cut off from a shard cannot tell dead workers from others that were cut off as well.
        let slots = self.ours().into_iter().filter(|slot| !slot.is_spared()).collect();
        let found = self.ask_all(slots, UPKEEP, |store| async move { store.overdue(parked, limit).await }).await;
        let mut all = Overdue { now: self.now(), ..Overdue::default() };
        if found.is_empty() && !self.ours().is_empty() {
            return Ok(all);
        }
        for (slot, Overdue { now, lapsed, unhandled }) in good(found)? {
            slot.saw_clock(now, all.now);
            self.leases.saw(slot.id, &lapsed);
            all.lapsed.extend(lapsed);
            all.unhandled.extend(unhandled);
        }
        all.lapsed.truncate(limit);
        all.unhandled.truncate(limit);
        Ok(all)
    }

    pub(super) async fn tick(&self, limit: usize) -> Result<Ticked> {
        let ticked = self.ask_all(self.ours(), UPKEEP, |store| async move { store.tick(limit).await }).await;
        let mut all = Ticked::default();
        for (slot, Ticked { fired, next_due }) in good(ticked)? {
            all.fired += fired;
            all.next_due = [all.next_due, next_due.map(|due| slot.to_ours(due))].into_iter().flatten().min();
        }
        Ok(all)
    }

    /// One shard after the other, because what is taken is hidden from others: no more than asked for.
    pub(super) async fn take_dirty(&self, limit: usize, hold: Duration) -> Result<Vec<RunWork>> {
        let mut work: Vec<RunWork> = Vec::new();
        let (mut answered, mut first) = (false, None);
        for slot in self.ours() {
            let left = limit - work.len();
            if left == 0 {
                break;
            }
            match slot.call(PROMPT, |store| async move { store.take_dirty(left, hold).await }).await {
                Ok(more) => {
                    answered = true;
                    self.inboxes.read(&more, slot.id);
                    work.extend(more);
                    work.truncate(limit);
                }
                Err(error) => drop(first.get_or_insert(error)),
            }
        }
        if answered { Ok(work) } else { Err(first.unwrap_or_else(nobody)) }
    }

    pub(super) async fn trim(&self, retention: Retention, limit: usize) -> Result<Trimmed> {
        let slots = self.ours();
        // What is kept of a queue is kept in all.
        let share = Retention { count: retention.count.div_ceil(self.map().active().len().max(1)), ..retention };
        let mut all = Trimmed::default();
        let (mut answered, mut first) = (false, None);
        // One after the other, because the limit is that of all together.
        for slot in slots {
            let left = limit.saturating_sub(all.jobs.max(all.runs));
            match slot.call(TRIM, |store| async move { store.trim(share, left).await }).await {
                Ok(Trimmed { jobs, runs }) => {
                    answered = true;
                    all.jobs += jobs;
                    all.runs += runs;
                }
                Err(error) => drop(first.get_or_insert(error)),
            }
        }
        if answered { Ok(all) } else { Err(first.unwrap_or_else(nobody)) }
    }

    /// Asks the places of records, in groups, one request a shard; what was not known at one place
    /// (`is_known` says so) is asked for at the next, or everything is.
    async fn grouped<I, T, F>(
        &self,
        items: &[I],
        born: impl Fn(&I) -> Shard,
        is_known: impl Fn(&T) -> bool,
        both: Both,
        ask: impl Fn(Arc<dyn Store>, Vec<I>) -> F + Sync,
    ) -> Result<Vec<Option<T>>>
    where
        I: Clone + Send + Sync,
        T: Send,
        F: Future<Output = Result<Vec<T>>> + Send,
    {
        let mut answers: Vec<Option<T>> = items.iter().map(|_| None).collect();
        for place in 0.. {
            let mut is_last = true;
            let mut groups: BTreeMap<u16, (Arc<Slot>, Vec<usize>)> = BTreeMap::new();
            for (nth, item) in items.iter().enumerate() {
                let is_known = answers.get(nth).is_some_and(|answer| answer.as_ref().is_some_and(&is_known));
                if is_known && both == Both::IfUnknown {
                    continue;
                }
                match self.places(born(item)) {
                    Ok(places) => {
                        is_last &= places.len() <= place + 1;
                        if let Some(slot) = places.get(place) {
                            groups.entry(slot.id).or_insert_with(|| (slot.clone(), Vec::new())).1.push(nth);
                        }
                    }
                    // What was never there is simply not known.
                    Err(StoreError::Refused(_)) => {}
                    Err(error) => return Err(error),
                }
            }
            let ask = &ask;
            let asked = groups.into_values().map(|(slot, nth)| async move {
                let part: Vec<I> = nth.iter().filter_map(|nth| items.get(*nth).cloned()).collect();
                let answer = slot.call(PATIENT, |store| ask(store, part)).await?;
                Ok::<_, StoreError>((nth, answer))
            });
            for answered in join_all(asked).await {
                let (nth, found): (Vec<usize>, Vec<T>) = answered?;
                for (nth, answer) in nth.into_iter().zip(found) {
                    // What the first place said stands, unless a later one knows better.
                    if answers[nth].is_none() || is_known(&answer) {
                        answers[nth] = Some(answer);
                    }
                }
            }
            if is_last {
                break;
            }
        }
        Ok(answers)
    }

    pub(super) async fn get(&self, ids: &[JobId]) -> Result<Vec<Option<Stored>>> {
        let ask = |store: Arc<dyn Store>, ids: Vec<JobId>| async move { store.get(&ids).await };
        // What is set aside may be there already; what is on its way there is not there yet.
        let is_itself = |found: &Option<Stored>| found.as_ref().is_some_and(|found| transit::side(found).is_none());
        let found = self.grouped(ids, |id| id.shard(), is_itself, Both::IfUnknown, ask).await?;
        Ok(found.into_iter().map(|found| self.on_our_clock(found.flatten())).collect())
    }

    fn on_our_clock(&self, stored: Option<Stored>) -> Option<Stored> {
        let stored = stored?;
        let slot = self.places(stored.job.id.shard()).ok()?.into_iter().next()?;
        match transit::side(&stored) {
            // Of a job that is gone.
            Some(Side::Copy { .. }) => None,
            Some(Side::Left(_)) => Some(transit::as_it_was(stored)),
            None => Some(Stored { at: slot.to_ours(stored.at), ..stored }),
        }
    }

    pub(super) async fn ask(&self, ids: &[JobId]) -> Result<Vec<bool>> {
        let ask = |store: Arc<dyn Store>, ids: Vec<JobId>| async move { store.ask(&ids).await };
        // Asked where it is and where it goes, so that it hears of it wherever it arrives.
        let asked = self.grouped(ids, |id| id.shard(), |lives| *lives, Both::Always, ask).await?;
        Ok(asked.into_iter().map(|lives| lives == Some(true)).collect())
    }

    pub(super) async fn inform(&self, facts: &[(RunId, Vec<u8>)]) -> Result<Vec<bool>> {
        let ask = |store: Arc<dyn Store>, facts: Vec<(RunId, Vec<u8>)>| async move { store.inform(&facts).await };
        let told = self.grouped(facts, |(run, _)| run.shard(), |known| *known, Both::IfUnknown, ask).await?;
        let mut told: Vec<bool> = told.into_iter().map(|known| known == Some(true)).collect();
        // What is unknown may be on its way: once it has landed, it can be told.
        let mut landed = Vec::new();
        for (nth, (run, _)) in facts.iter().enumerate().filter(|(nth, _)| !told[*nth]) {
            if self.land_what_is_on_its_way(run.shard()).await? {
                landed.push(nth);
            }
        }
        if !landed.is_empty() {
            let again: Vec<(RunId, Vec<u8>)> = landed.iter().map(|nth| facts[*nth].clone()).collect();
            let known = self.grouped(&again, |(run, _)| run.shard(), |known| *known, Both::IfUnknown, ask).await?;
            landed.into_iter().zip(known).for_each(|(nth, known)| told[nth] = known == Some(true));
        }
        Ok(told)
    }

    pub(super) async fn asked(&self, worker: WorkerId, limit: usize) -> Result<Vec<Stored>> {
        let found = self.ask_all(self.ours(), PROMPT, |store| async move { store.asked(worker, limit).await }).await;
        let mut all: Vec<Stored> = Vec::new();
        for (slot, asked) in good(found)? {
            self.leases.saw(slot.id, &asked);
            all.extend(asked);
        }
        all.retain(|stored| transit::side(stored).is_none());
        all.truncate(limit);
        Ok(all)
    }

    pub(super) async fn freed(&self, limit: usize) -> Result<Vec<Freed>> {
        let freed = self.ask_all(self.ours(), UPKEEP, |store| async move { store.freed(limit).await }).await;
        let mut freed: Vec<Freed> = good(freed)?.into_iter().flat_map(|(_, freed)| freed).collect();
        // A parent that is not kept where its children are may have been carried away, and live on there.
        let unkept: Vec<JobId> = freed.iter().filter(|one| one.state.is_none()).map(|one| one.parent).collect();
        if unkept.is_empty() {
            return Ok(freed);
        }
        let found = self.get(&unkept).await?;
        let states: BTreeMap<JobId, JobState> =
            found.into_iter().flatten().map(|stored| (stored.job.id, stored.place.state())).collect();
        freed.retain_mut(|one| {
            one.state = one.state.or_else(|| states.get(&one.parent).copied());
            one.state.is_none_or(JobState::is_terminal)
        });
        Ok(freed)
    }

    /// What is meant for a shard that is away waits for it, and its leases are taken to hold.
    pub(super) async fn note(&self, notes: &[Note]) -> Result<Vec<bool>> {
        if let Some(slot) = self.only_one() {
            return slot.call(PATIENT, |store| async move { store.note(notes).await }).await;
        }
        let mut groups: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
        let map = self.map();
        for (nth, note) in notes.iter().enumerate() {
            let shard = match self.leases.shard_of(note.id, note.epoch) {
                Some(shard) => shard,
                None => map.route(note.id.shard())?,
            };
            groups.entry(shard).or_default().push(nth);
        }
        let mut holds = vec![false; notes.len()];
        let sent = join_all(groups.into_iter().map(|(shard, nth)| async move {
            let part: Vec<Note> = nth.iter().filter_map(|nth| notes.get(*nth).cloned()).collect();
            let Ok(slot) = self.slot(shard) else { return Ok((nth, Vec::new())) };
            match slot
                .call(PROMPT, |store| {
                    let part = &part;
                    async move { store.note(part).await }
                })
                .await
            {
                Ok(holds) => Ok((nth, holds)),
                Err(error) if error.is_transient() && self.only_one().is_none() => {
                    let held = vec![true; part.len()];
                    slot.keep_notes(part);
                    Ok((nth, held))
                }
                Err(error) => Err(error),
            }
        }))
        .await;
        for answer in sent {
            let (nth, part) = answer?;
            nth.into_iter().zip(part).for_each(|(nth, held)| holds[nth] = held);
        }
        Ok(holds)
    }

    pub(super) async fn permits(&self, requests: &[PermitRequest]) -> Result<Vec<Vec<Duration>>> {
        if let Some(slot) = self.only_one() {
            return slot.call(PATIENT, |store| async move { store.permits(requests).await }).await;
        }
        let map = self.map();
        let awake: Vec<u16> = self.awake().iter().map(|slot| slot.id).collect();
        let mut groups: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
        for (nth, request) in requests.iter().enumerate() {
            groups.entry(bucket_home(&map, &awake, &request.bucket)?).or_default().push(nth);
        }
        let mut all = vec![Vec::new(); requests.len()];
        let given = join_all(groups.into_iter().map(|(shard, nth)| async move {
            let part: Vec<PermitRequest> = nth.iter().filter_map(|nth| requests.get(*nth).cloned()).collect();
            let slot = self.slot(shard)?;
            let given = slot.call(PROMPT, |store| {
                let part = &part;
                async move { store.permits(part).await }
            });
            Ok::<_, StoreError>((nth, given.await?))
        }))
        .await;
        for answer in given {
            let (nth, waits): (Vec<usize>, Vec<Vec<Duration>>) = answer?;
            nth.into_iter().zip(waits).for_each(|(nth, waits)| all[nth] = waits);
        }
        Ok(all)
    }

    pub(super) async fn verify(&self) -> Result<Vec<String>> {
        const LONG: Duration = Duration::from_secs(3_600);
        let found = self.ask_all(self.slots(), LONG, |store| async move { store.verify().await }).await;
        let mut all = Vec::new();
        for (slot, differences) in every(found)? {
            all.extend(differences.into_iter().map(|difference| format!("shard {}: {difference}", slot.id)));
        }
        all.extend(self.verify_maps().await?);
        Ok(all)
    }
}
