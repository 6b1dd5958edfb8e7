//! Jobs in the reference store: enqueue, the lines of the queues, claims, leases, lists, counters.

use std::ops::Bound;
use std::time::Duration;

use super::*;
use crate::domain::Epoch;

impl State {
    /// The order of a job within a place: by priority and turn where jobs wait to be claimed, by
    /// time elsewhere, by epoch while they run.
    pub(super) fn key(&mut self, to: To, job: &Job, now: Ms) -> (i64, i64) {
        let turn = if to == To::Front {
            self.seq_front -= 1;
            self.seq_front
        } else {
            self.seq_back += 1;
            self.seq_back
        };
        match to {
            To::Pending | To::Front => (-i64::from(job.priority), turn),
            To::Suspect => (0, turn),
            To::Scheduled(delay) | To::Retrying(delay) => (now.after(delay).0, turn),
            To::Held | To::Parked | To::Dead | To::Completed | To::Cancelled | To::Gone => (now.0, turn),
        }
    }

    /// Puts a job that is nowhere into a place.
    pub(super) fn put(&mut self, job: Job, to: To, now: Ms) {
        let to = if matches!(to, To::Pending | To::Front) && job.is_suspect() { To::Suspect } else { to };
        let Some(place) = to.place() else { return self.forget(job.id) };
        let key = self.key(to, &job, now);
        let at = match to {
            To::Scheduled(delay) | To::Retrying(delay) => now.after(delay),
            _ => now,
        };
        if let Some(unique) = job.unique_key.clone().filter(|_| !to.frees_unique()) {
            let until = self.unique.get(&unique).filter(|taken| taken.by == job.id).and_then(|taken| taken.until);
            self.unique.insert(unique, Taken { by: job.id, until });
        }
        if place == Place::Held {
            self.ties.extend(job.after.iter().map(|parent| (*parent, job.id)));
        }
        if place.state().is_terminal() {
            self.asks.remove(&job.id);
        }
        self.place(job, place, key, at);
    }

    pub(super) fn place(&mut self, job: Job, place: Place, key: (i64, i64), at: Ms) {
        self.know_queue(&job.queue);
        self.index.insert((job.queue.clone(), place, key.0, key.1), job.id);
        self.jobs.insert(job.id, Kept { job, place, at, key, lease: None, expires: None });
    }

    /// What is kept beside a job goes with it.
    fn forget(&mut self, id: JobId) {
        self.asks.remove(&id);
        self.logs.remove(&id);
    }

    /// Takes a job out of its place and out of the store.
    pub(super) fn remove(&mut self, id: JobId, now: Ms) -> Option<Kept> {
        let kept = self.jobs.remove(&id)?;
        self.index.remove(&(kept.job.queue.clone(), kept.place, kept.key.0, kept.key.1));
        self.progress.remove(&id);
        if let Some(unique) = &kept.job.unique_key
            && self
                .unique
                .get(unique)
                .is_some_and(|taken| taken.by == id && taken.until.is_none_or(|until| until <= now))
        {
            self.unique.remove(unique);
        }
        if kept.place == Place::Held {
            for parent in &kept.job.after {
                self.ties.remove(&(*parent, id));
            }
        }
        Some(kept)
    }

    /// Who holds a unique key at this moment.
    pub(super) fn holder(&self, key: &str, now: Ms) -> Option<JobId> {
        let taken = self.unique.get(key)?;
        let lives = self.jobs.get(&taken.by).is_some_and(|kept| !kept.place.state().is_terminal());
        (lives || taken.until.is_some_and(|until| until > now)).then_some(taken.by)
    }

    pub(super) fn enqueue(&mut self, batch: &Enqueue, now: Ms) -> Result<EnqueueAnswer> {
        match self.producers.get(&batch.producer) {
            Some((last, _, answer)) if *last == batch.sequence => return Ok(answer.clone()),
            Some((last, _, _)) if *last > batch.sequence => {
                return Err(StoreError::Refused(format!(
                    "batch {} of producer {} came after batch {last}",
                    batch.sequence, batch.producer
                )));
            }
            _ => {}
        }
        let mut events = Vec::new();
        let answer = self.add(&batch.jobs, &batch.runs, now, &mut events);
        self.producers.insert(batch.producer, (batch.sequence, now, answer.clone()));
        self.log(now, events);
        Ok(answer)
    }

    pub(super) fn add(&mut self, jobs: &[NewJob], runs: &[NewRun], now: Ms, events: &mut Vec<Event>) -> EnqueueAnswer {
        let jobs = jobs.iter().map(|new| self.enqueue_job(new, now, events)).collect();
        let runs = runs.iter().map(|new| self.start_run(new, now, events)).collect();
        EnqueueAnswer { jobs, runs }
    }

    fn enqueue_job(&mut self, new: &NewJob, now: Ms, events: &mut Vec<Event>) -> Enqueued {
        if self.jobs.contains_key(&new.job.id) {
            return Enqueued::Exists;
        }
        if let Some(holder) = new.job.unique_key.as_ref().and_then(|key| self.holder(key, now)) {
            return Enqueued::Conflict(holder);
        }
        if let Some(unknown) = new.job.after.iter().find(|parent| !self.jobs.contains_key(parent)) {
            return Enqueued::NoParent(*unknown);
        }
        let delay = match new.start {
            Start::Now => Duration::ZERO,
            Start::After(delay) => delay,
            Start::At(at) => at.since(now),
        };
        let (to, kind) = if !new.job.after.is_empty() {
            (To::Held, EventKind::JobScheduled)
        } else if delay.is_zero() {
            (To::Pending, EventKind::JobCreated)
        } else {
            (To::Scheduled(delay), EventKind::JobScheduled)
        };
        events.push(new.log_entry(kind));
        self.put(new.job.clone(), to, now);
        if let (Some(key), Some(least)) = (&new.job.unique_key, new.unique_for) {
            self.unique.insert(key.clone(), Taken { by: new.job.id, until: Some(now.after(least)) });
        }
        Enqueued::Created
    }

    pub(super) fn exchange(&mut self, exchange: &Exchange, now: Ms) -> Exchanged {
        let mut events = Vec::new();
        let commits = exchange.commits.iter().map(|commit| self.commit(commit, now, &mut events)).collect();
        let mut answer = Exchanged { now, commits, ..Exchanged::default() };
        if let Some(claim) = &exchange.claim {
            for queue in &claim.queues {
                self.promote(queue, now);
            }
            answer.claimed = self.claim(claim, now);
            for claimed in &answer.claimed {
                let queue = Some(claimed.job.queue.clone());
                let started = Event { job: Some(claimed.job.id), queue, ..Event::new(EventKind::JobStarted) };
                events.push(Event { worker: Some(claim.worker), ..started });
            }
            let suspect = |queue| self.room(queue) > 0 && self.first(queue, Place::Suspect).is_some();
            answer.suspects = claim.queues.iter().any(suspect);
            let delayed = |queue| [Place::Scheduled, Place::Retrying].map(|place| self.first(queue, place));
            let jobs = claim.queues.iter().flat_map(delayed).flatten().map(|(at, _)| Ms(at));
            answer.next_due = jobs.chain(self.next_timer()).min();
        }
        answer.asked = !self.asks.is_empty();
        answer.freed = self.ties.iter().any(|(parent, _)| self.has_ended(*parent));
        answer.dirty = self.dirty.values().any(|hidden_until| *hidden_until <= now);
        self.log(now, events);
        answer
    }

    /// The head of a place: its first sort key and its job.
    pub(super) fn first(&self, queue: &Name, place: Place) -> Option<(i64, JobId)> {
        let from = (queue.clone(), place, i64::MIN, i64::MIN);
        let to = (queue.clone(), place, i64::MAX, i64::MAX);
        self.index.range(from..=to).next().map(|(key, id)| (key.2, *id))
    }

    /// Moves what is due to the end of the line, in the order of due time.
    fn promote(&mut self, queue: &Name, now: Ms) {
        loop {
            let heads = [self.first(queue, Place::Scheduled), self.first(queue, Place::Retrying)];
            let Some((_, id)) = heads.into_iter().flatten().min().filter(|(at, _)| *at <= now.0) else { return };
            if let Some(kept) = self.remove(id, now) {
                self.put(kept.job, To::Pending, now);
            }
        }
    }

    fn claim(&mut self, claim: &Claim, now: Ms) -> Vec<Claimed> {
        let open = |state: &State, queue: &Name| state.queues.get(queue).is_some_and(|settings| !settings.paused);
        let queues: Vec<Name> = claim.queues.iter().filter(|queue| open(self, queue)).cloned().collect();
        let mut claimed = Vec::new();
        if claim.alone && claim.want > 0 {
            for queue in &queues {
                claimed.extend(self.claim_from(queue, Place::Suspect, 1, claim.worker, now));
                if !claimed.is_empty() {
                    return claimed;
                }
            }
        }
        for queue in &queues {
            let want = claim.want.saturating_sub(claimed.len());
            claimed.extend(self.claim_from(queue, Place::Pending, want, claim.worker, now));
        }
        claimed
    }

    /// Leases from the head of one line; what its concurrency key does not let run is set aside.
    fn claim_from(&mut self, queue: &Name, line: Place, want: usize, worker: WorkerId, now: Ms) -> Vec<Claimed> {
        let want = want.min(self.room(queue));
        let mut claimed = Vec::new();
        while claimed.len() < want {
            let Some((_, id)) = self.first(queue, line) else { break };
            if self.key_is_full(id) {
                self.block(id, now);
            } else {
                claimed.extend(self.lease(id, worker, now));
            }
        }
        claimed
    }

    fn lease(&mut self, id: JobId, worker: WorkerId, now: Ms) -> Option<Claimed> {
        let kept = self.jobs.get_mut(&id)?;
        self.epoch += 1;
        let epoch = Epoch(self.epoch);
        let queue = kept.job.queue.clone();
        self.index.remove(&(queue.clone(), kept.place, kept.key.0, kept.key.1));
        kept.place = Place::Running;
        kept.key = (self.epoch as i64, 0);
        kept.at = now;
        kept.lease = Some(Lease { worker, epoch, since: now });
        kept.expires = kept.job.timeout_ms.map(|ms| now.after(Duration::from_millis(ms)).after(limits::LEASE_GRACE));
        let job = kept.job.clone();
        self.index.insert((queue, Place::Running, self.epoch as i64, 0), id);
        let run = job.link.as_ref().and_then(|link| self.runs.get(&link.run)).map(|kept| Arc::new(kept.record.clone()));
        Some(Claimed { job, epoch, run })
    }

    pub(super) fn heartbeat(&mut self, beat: &Heartbeat, now: Ms) -> (Beat, bool) {
        let expires = now.after(beat.lease);
        if self.workers.insert(beat.info.id, (beat.info.clone(), expires)).is_none() {
            let started = Event { worker: Some(beat.info.id), ..Event::new(EventKind::WorkerStarted) };
            self.log(now, vec![started]);
        }
        let of_type = |kept: &&Kept| kept.place == Place::Parked && beat.info.types.contains(&kept.job.kind);
        let mut parked: Vec<_> = self.jobs.values().filter(of_type).map(|kept| (kept.key, kept.job.id)).collect();
        parked.sort();
        // The one parked first shall be the first out, so it is the last one put in front.
        for (_, id) in parked.iter().rev() {
            if let Some(kept) = self.remove(*id, now) {
                self.put(kept.job, To::Front, now);
            }
        }
        let lease = |kept: &Kept| kept.lease.clone().map(|lease| (kept.job.id, lease));
        let mine = self.jobs.values().filter_map(lease).filter(|(_, lease)| lease.worker == beat.info.id);
        let held = mine.map(|(id, lease)| (id, lease.epoch)).collect();
        let drain = self.draining.contains(&beat.info.id);
        (Beat { now, held, drain }, !parked.is_empty())
    }

    pub(super) fn lapsed(&self, kept: &Kept, now: Ms) -> bool {
        let Some(lease) = &kept.lease else { return false };
        let silent = self.workers.get(&lease.worker).is_none_or(|(_, expires)| *expires < now);
        silent || kept.expires.is_some_and(|expires| expires < now)
    }

    pub(super) fn overdue(&mut self, parked: Duration, limit: usize, now: Ms) -> Overdue {
        let lapsed: Vec<_> = self.jobs.values().filter(|kept| self.lapsed(kept, now)).take(limit).collect();
        let too_long = |kept: &&Kept| kept.place == Place::Parked && kept.at.after(parked) <= now;
        let unhandled = self.jobs.values().filter(too_long).take(limit);
        let overdue = Overdue {
            now,
            lapsed: lapsed.into_iter().map(|kept| self.stored(kept)).collect(),
            unhandled: unhandled.map(|kept| self.stored(kept)).collect(),
        };
        let lost: Vec<_> = self.workers.iter().filter(|(_, (_, expires))| *expires < now).map(|(id, _)| *id).collect();
        for worker in lost {
            self.workers.remove(&worker);
            self.draining.remove(&worker);
            self.log(now, vec![Event { worker: Some(worker), ..Event::new(EventKind::WorkerLost) }]);
        }
        overdue
    }

    pub(super) fn trim(&mut self, retention: Retention, limit: usize, now: Ms) -> Trimmed {
        let mut trimmed = Trimmed::default();
        let own = |(queue, settings): (&Name, &QueueSettings)| (queue.clone(), settings.retention.unwrap_or(retention));
        let queues: Vec<(Name, Retention)> = self.queues.iter().map(own).collect();
        for (queue, keep) in queues {
            let mut dropped = 0;
            for place in [Place::Completed, Place::Cancelled] {
                let mut kept = self.of(&queue, place).count();
                while trimmed.jobs < limit {
                    let Some((at, id)) = self.first(&queue, place) else { break };
                    if kept <= keep.count && Ms(at).after(keep.age) > now {
                        break;
                    }
                    self.remove(id, now);
                    self.forget(id);
                    kept -= 1;
                    dropped += 1;
                    trimmed.jobs += 1;
                }
            }
            if dropped > 0 {
                let event = Event { queue: Some(queue), ..Event::new(EventKind::QueueTrimmed) };
                self.log(now, vec![Event { data: Some(format!("{dropped} finished jobs")), ..event }]);
            }
        }
        let old = |kept: &&KeptRun| kept.finished.is_some_and(|at| at.after(retention.age) <= now);
        let runs: Vec<RunId> = self.runs.values().filter(old).map(|kept| kept.record.id).take(limit).collect();
        trimmed.runs = runs.len();
        for run in runs {
            self.runs.remove(&run);
        }
        let jobs = &self.jobs;
        let lives = |id: &JobId| jobs.get(id).is_some_and(|kept: &Kept| !kept.place.state().is_terminal());
        self.unique.retain(|_, taken| lives(&taken.by) || taken.until.is_some_and(|until| until > now));
        self.producers.retain(|_, (_, at, _)| at.after(limits::PRODUCER_MEMORY) > now);
        while self.log.len() > limits::EVENT_RECORDS {
            self.log.pop_first();
        }
        self.documents.retain(|_, document| document.until.is_none_or(|until| until > now));
        self.locks.retain(|_, lock| lock.holders.iter().any(|holder| holder.until > now));
        trimmed
    }

    pub(super) fn of(
        &self,
        queue: &Name,
        place: Place,
    ) -> impl DoubleEndedIterator<Item = (&(Name, Place, i64, i64), &JobId)> {
        let from = (queue.clone(), place, i64::MIN, i64::MIN);
        let to = (queue.clone(), place, i64::MAX, i64::MAX);
        self.index.range(from..=to)
    }

    pub(super) fn list(&self, query: &ListQuery) -> Result<Page<Stored>> {
        let latest_first = matches!(query.place, Place::Dead | Place::Completed | Place::Cancelled);
        let budget = query.budget.clamp(1, limits::LIST_BUDGET);
        let after = match &query.after {
            None => None,
            Some(Cursor(text)) => {
                let (queue, numbers) = text.split_once(' ').unwrap_or((text, ""));
                let queue: Name = queue
                    .parse()
                    .map_err(|_| StoreError::Refused(format!("`{text}` is not a cursor of this store")))?;
                let [a, b] = parse_cursor::<2>(Some(&Cursor(numbers.to_owned())))?.unwrap_or_default();
                Some((queue, query.place, a, b))
            }
        };
        let mut page = Page { items: Vec::new(), next: None };
        let mut last = None;
        for queue in self.queues.keys().filter(|queue| query.queue.as_ref().is_none_or(|only| only == *queue)) {
            let mut low = Bound::Included((queue.clone(), query.place, i64::MIN, i64::MIN));
            let mut high = Bound::Included((queue.clone(), query.place, i64::MAX, i64::MAX));
            match &after {
                Some(key) if key.0 > *queue => continue,
                Some(key) if key.0 == *queue && latest_first => high = Bound::Excluded(key.clone()),
                Some(key) if key.0 == *queue => low = Bound::Excluded(key.clone()),
                _ => {}
            }
            let range = self.index.range((low, high));
            let entries: Vec<_> = if latest_first { range.rev().collect() } else { range.collect() };
            for (key, id) in entries {
                if page.items.len() == budget {
                    page.next = last;
                    return Ok(page);
                }
                page.items.extend(self.jobs.get(id).map(|kept| self.stored(kept)));
                last = Some(Cursor(format!("{} {}.{}", key.0, key.2, key.3)));
            }
        }
        Ok(page)
    }

    pub(super) fn stats(&self, now: Ms) -> Vec<QueueStats> {
        let count = |queue: &Name, place| self.of(queue, place).count() as u64;
        let stats = |(queue, settings): (&Name, &QueueSettings)| {
            let parked = count(queue, Place::Parked);
            let oldest = self
                .first(queue, Place::Pending)
                .map(|(_, id)| crate::domain::time::millis(now.since(id.created_at())));
            QueueStats {
                paused: settings.paused,
                scheduled: count(queue, Place::Scheduled) + count(queue, Place::Held),
                pending: [Place::Pending, Place::Suspect, Place::Blocked]
                    .map(|place| count(queue, place))
                    .iter()
                    .sum::<u64>()
                    + parked,
                running: count(queue, Place::Running),
                retrying: count(queue, Place::Retrying),
                dead: count(queue, Place::Dead),
                completed: count(queue, Place::Completed),
                cancelled: count(queue, Place::Cancelled),
                parked,
                oldest_pending_ms: oldest,
                ..QueueStats::empty(queue.clone())
            }
        };
        self.queues.iter().map(stats).collect()
    }

    pub(super) fn verify(&self) -> Vec<String> {
        let mut differences = Vec::new();
        for (id, kept) in &self.jobs {
            let key = (kept.job.queue.clone(), kept.place, kept.key.0, kept.key.1);
            if self.index.get(&key) != Some(id) {
                differences.push(format!("job {id} is not in the index of its place"));
            }
            if (kept.place == Place::Running) != kept.lease.is_some() {
                differences.push(format!("job {id} is {} with lease {:?}", kept.place.state(), kept.lease));
            }
        }
        if self.index.len() != self.jobs.len() {
            differences.push(format!("{} index entries for {} jobs", self.index.len(), self.jobs.len()));
        }
        for (key, taken) in &self.unique {
            let id = taken.by;
            if taken.until.is_none() && self.jobs.get(&id).is_none_or(|kept| kept.place.state().is_terminal()) {
                differences.push(format!("unique key {key:?} is held by {id}, which is not live"));
            }
        }
        for lock in self.locks.values().filter(|lock| lock.holders.len() > lock.slots as usize) {
            differences.push(format!("lock {} has {} holders in {} slots", lock.name, lock.holders.len(), lock.slots));
        }
        let held = |id| self.jobs.get(id).filter(|kept| kept.place == Place::Held);
        for (parent, child) in &self.ties {
            if held(child).is_none_or(|kept| !kept.job.after.contains(parent)) {
                differences.push(format!("{child} is tied to {parent}, and does not wait for it"));
            }
        }
        for id in &self.asks {
            if self.jobs.get(id).is_none_or(|kept| kept.place.state().is_terminal()) {
                differences.push(format!("{id} is asked to end, and is not live"));
            }
        }
        differences
    }
}
