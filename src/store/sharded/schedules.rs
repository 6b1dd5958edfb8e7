//! Schedules over shards: each lies where it was made, and starts there what it starts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

use super::map::Map;
use super::transit::{MovingSchedule, Side};
use super::work::ENQUEUE;
use super::{Inner, PATIENT, good, notices};
use crate::domain::{JobId, Ms, Name, Shard};
use crate::store::contract::*;

impl Inner {
    /// The shard of a schedule: where it was seen last, else where it would be made.
    pub(super) fn schedule_home(&self, map: &Map, name: &Name) -> Result<u16> {
        let known = self.schedules.lock().unwrap_or_else(PoisonError::into_inner).get(name).copied();
        match known.filter(|shard| map.entry(*shard).is_some_and(|entry| entry.state.is_there())) {
            Some(shard) => Ok(shard),
            None => map.home(name.as_str()),
        }
    }

    pub(super) async fn schedules(&self) -> Result<(Ms, Vec<ScheduleRecord>)> {
        let read = self.ask_all(self.slots(), PATIENT, |store| async move { store.schedules().await }).await;
        let now = self.now();
        let mut answered = BTreeSet::new();
        let mut all: BTreeMap<Name, (u16, ScheduleRecord)> = BTreeMap::new();
        let mut set_aside = Vec::new();
        for (slot, (theirs, records)) in good(read)? {
            slot.saw_clock(theirs, now);
            answered.insert(slot.id);
            for record in records.into_iter().filter(|record| !notices::is_notice(&record.name)) {
                match MovingSchedule::read(&record)? {
                    None => {
                        let due = record.due.map(|due| slot.to_ours(due));
                        all.entry(record.name.clone()).or_insert((slot.id, ScheduleRecord { due, ..record }));
                    }
                    Some(MovingSchedule { side: Side::Left(_), due, body }) => {
                        // As it was, with a revision by which nobody can change it.
                        let (due, rev) = (due.map(|due| slot.to_ours(due)), record.rev.saturating_sub(1));
                        set_aside.push((slot.id, ScheduleRecord { rev, due, body, ..record }));
                    }
                    Some(MovingSchedule { side: Side::Copy { .. }, .. }) => {}
                }
            }
        }
        for (shard, record) in set_aside {
            all.entry(record.name.clone()).or_insert((shard, record));
        }
        let mut known = self.schedules.lock().unwrap_or_else(PoisonError::into_inner);
        // Of a shard that is away nothing was seen, and nothing is forgotten.
        known.retain(|_, shard| !answered.contains(shard));
        known.extend(all.iter().map(|(name, (shard, _))| (name.clone(), *shard)));
        Ok((now, all.into_values().map(|(_, record)| record).collect()))
    }

    pub(super) async fn set_schedule(&self, commit: &ScheduleCommit) -> Result<Option<EnqueueAnswer>> {
        let map = self.map();
        let is_known = || self.schedules.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&commit.name);
        // One that is new to this process may lie where its name was at home before.
        if commit.from_rev == 0 || !is_known() {
            self.schedules().await?;
        }
        if commit.from_rev == 0 {
            for before in map.homes_before(commit.name.as_str()) {
                if self.slot(before)?.is_away() {
                    return Err(StoreError::Unavailable(format!(
                        "the schedule {} may be on shard {before}, which does not answer",
                        commit.name
                    )));
                }
            }
        }
        // What is made on a shard that was removed meanwhile is never looked for.
        if commit.from_rev == 0 && self.is_outdated() {
            self.look_at_maps().await?;
            if self.map().epoch != map.epoch {
                return Err(StoreError::Unavailable("the shards have just changed".to_owned()));
            }
        }
        let here = self.schedule_home(&map, &commit.name)?;
        let slot = self.slot(here)?;
        let is_here = |born: Shard| map.route(born).is_ok_and(|shard| shard == here);
        // Made for another shard: whoever made it is to look again.
        let jobs_fit = commit.jobs.iter().all(|new| is_here(new.job.id.shard()));
        if !jobs_fit || !commit.runs.iter().all(|new| is_here(new.effects.record.id.shard())) {
            return Ok(None);
        }
        let (cancel, cancel_elsewhere): (Vec<JobId>, Vec<JobId>) =
            commit.cancel.iter().partition(|id| is_here(id.shard()));
        let (tell, tell_elsewhere): (Vec<_>, Vec<_>) =
            commit.tell.iter().cloned().partition(|(run, _)| is_here(run.shard()));
        let due = |due: Ms| slot.to_theirs(due);
        let next = commit.next.clone().map(|(at, body)| (at.map(due), body));
        let commit = ScheduleCommit { next, cancel, tell, ..commit.clone() };
        let limit = if commit.from_rev == 0 { ENQUEUE } else { PATIENT };
        let answer = slot.call(limit, |store| {
            let commit = &commit;
            async move { store.set_schedule(commit).await }
        });
        let answer = answer.await?;
        if answer.is_some() {
            self.note_schedule(&commit, here);
            // What was moved since it began is told where it is now.
            if !cancel_elsewhere.is_empty() {
                self.ask(&cancel_elsewhere).await?;
            }
            if !tell_elsewhere.is_empty() {
                self.inform(&tell_elsewhere).await?;
            }
        }
        Ok(answer)
    }

    fn note_schedule(&self, commit: &ScheduleCommit, here: u16) {
        let mut known = self.schedules.lock().unwrap_or_else(PoisonError::into_inner);
        match commit.next {
            Some(_) => drop(known.insert(commit.name.clone(), here)),
            None => drop(known.remove(&commit.name)),
        }
    }
}
