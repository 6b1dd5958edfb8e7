//! Runs in the reference store: effects, inboxes, dirty marks, timers.

use std::ops::Bound;
use std::time::Duration;

use super::*;

impl State {
    pub(super) fn start_run(&mut self, effects: &Effects, now: Ms, events: &mut Vec<Event>) -> Enqueued {
        if self.runs.contains_key(&effects.record.id) {
            return Enqueued::Exists;
        }
        let kept = KeptRun {
            record: effects.record.clone(),
            inbox: BTreeMap::new(),
            values: BTreeMap::new(),
            timers: BTreeMap::new(),
            history: Vec::new(),
            finished: None,
        };
        self.runs.insert(effects.record.id, kept);
        self.apply(effects, now, events);
        Enqueued::Created
    }

    pub(super) fn apply(&mut self, effects: &Effects, now: Ms, events: &mut Vec<Event>) {
        let Some(kept) = self.runs.get_mut(&effects.record.id) else { return };
        kept.record = effects.record.clone();
        for (key, value) in &effects.values {
            kept.values.entry(key.clone()).or_insert_with(|| value.clone());
        }
        for key in &effects.drop_timers {
            kept.timers.remove(key);
        }
        for timer in &effects.timers {
            kept.timers.insert(timer.key.clone(), (now.after(timer.delay), timer.fact.clone()));
        }
        if effects.record.state.is_terminal() {
            kept.timers.clear();
            kept.finished.get_or_insert(now);
        } else {
            kept.finished = None;
        }
        kept.history.extend(effects.events.iter().map(|event| Event { at: now, ..event.clone() }));
        events.extend(effects.events.iter().cloned());
        for job in &effects.jobs {
            if !self.jobs.contains_key(&job.id) {
                self.put(job.clone(), To::Pending, now);
            }
        }
    }

    pub(super) fn inbox(&mut self, run: RunId, fact: Vec<u8>, now: Ms) {
        if let Some(kept) = self.runs.get_mut(&run) {
            self.inbox_next += 1;
            kept.inbox.insert(self.inbox_next, fact);
            self.dirty.entry(run).or_insert(now);
        }
    }

    pub(super) fn take_dirty(&mut self, limit: usize, hold: Duration, now: Ms) -> Vec<RunWork> {
        let ready = self.dirty.iter().filter(|(_, until)| **until <= now);
        let mut ready: Vec<(Ms, RunId)> = ready.map(|(run, until)| (*until, *run)).collect();
        ready.sort();
        let mut work = Vec::new();
        for (_, run) in ready.into_iter().take(limit) {
            let Some(kept) = self.runs.get(&run) else {
                self.dirty.remove(&run);
                continue;
            };
            let inbox = kept.inbox.iter().take(limits::DRAIN_BATCH).map(|(seq, fact)| (*seq, fact.clone())).collect();
            work.push(RunWork { record: kept.record.clone(), inbox });
            self.dirty.insert(run, now.after(hold));
        }
        work
    }

    pub(super) fn next_timer(&self) -> Option<Ms> {
        self.runs.values().flat_map(|kept| kept.timers.values()).map(|(due, _)| *due).min()
    }

    pub(super) fn tick(&mut self, limit: usize, now: Ms) -> Ticked {
        let timers = self
            .runs
            .values()
            .flat_map(|kept| kept.timers.iter().map(|(key, (due, _))| (*due, kept.record.id, key.clone())));
        let mut due: Vec<_> = timers.filter(|(due, _, _)| *due <= now).collect();
        due.sort();
        due.truncate(limit);
        for (_, run, key) in &due {
            let fact = self.runs.get_mut(run).and_then(|kept| kept.timers.remove(key));
            if let Some((_, fact)) = fact {
                self.inbox(*run, fact, now);
            }
        }
        Ticked { fired: due.len(), next_due: self.next_timer() }
    }

    pub(super) fn list_runs(&self, query: &RunQuery) -> Result<Page<RunRecord>> {
        let before = match &query.after {
            None => Bound::Unbounded,
            Some(Cursor(text)) => {
                let bad = |_| StoreError::Refused(format!("`{text}` is not a cursor of this store"));
                Bound::Excluded(text.parse::<RunId>().map_err(bad)?)
            }
        };
        let budget = query.budget.clamp(1, limits::LIST_BUDGET);
        let runs = self.runs.range((Bound::Unbounded, before)).rev();
        let mut items: Vec<RunRecord> = runs
            .filter(|(_, kept)| kept.record.state.is_terminal() == query.finished)
            .map(|(_, kept)| kept.record.clone())
            .take(budget + 1)
            .collect();
        let more = items.len() > budget;
        items.truncate(budget);
        let next = items.last().filter(|_| more).map(|record| Cursor(record.id.to_string()));
        Ok(Page { items, next })
    }
}
