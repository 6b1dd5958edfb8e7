//! Runs in the reference store: effects, inboxes, dirty marks, timers.

use std::ops::Bound;
use std::time::Duration;

use super::*;

pub(super) fn work(kept: &KeptRun) -> RunWork {
    let inbox = kept.inbox.iter().take(limits::DRAIN_BATCH).map(|(seq, fact)| (*seq, fact.clone())).collect();
    RunWork { record: kept.record.clone(), inbox }
}

impl State {
    pub(super) fn start_run(&mut self, new: &NewRun, now: Ms, events: &mut Vec<Event>) -> Enqueued {
        let id = new.effects.record.id;
        if self.runs.contains_key(&id) {
            return Enqueued::Exists;
        }
        let admitted = new.gate.as_ref().is_some_and(|gate| self.has_room(gate));
        if new.gate.as_ref().is_some_and(|gate| gate.reject.is_some() && !admitted) {
            return Enqueued::Busy;
        }
        let kept = KeptRun {
            record: new.effects.record.clone(),
            inbox: BTreeMap::new(),
            values: BTreeMap::new(),
            timers: BTreeMap::new(),
            history: Vec::new(),
            finished: None,
            gate: new.gate.clone(),
        };
        self.runs.insert(id, kept);
        if let Some(gate) = &new.gate {
            self.gates.entry(gate.key.clone()).or_default().waiting.push(id);
        }
        self.apply(&new.effects, now, events);
        if let Some(gate) = &new.gate {
            self.admit(&gate.key, now);
        }
        Enqueued::Created
    }

    fn has_room(&self, gate: &Gate) -> bool {
        let (inside, waiting) =
            self.gates.get(&gate.key).map_or((0, 0), |gated| (gated.inside.len(), gated.waiting.len()));
        waiting == 0 && inside < gate.limit as usize
    }

    /// Lets runs in, first come first in, as long as the first one waiting has room.
    pub(super) fn admit(&mut self, key: &str, now: Ms) {
        while let Some(gated) = self.gates.get_mut(key) {
            let Some(first) = gated.waiting.first().copied() else { break };
            let gate = self.runs.get(&first).and_then(|kept| kept.gate.as_ref());
            let Some(gate) = gate.filter(|gate| gated.inside.len() < gate.limit as usize) else { break };
            let go = gate.go.clone();
            gated.waiting.remove(0);
            gated.inside.insert(first);
            self.inbox(first, go, now);
        }
        if self.gates.get(key).is_some_and(|gated| gated.inside.is_empty() && gated.waiting.is_empty()) {
            self.gates.remove(key);
        }
    }

    /// A run that has ended holds no place under its key, and waits for none.
    fn leave_gate(&mut self, run: RunId, now: Ms) {
        let Some(key) = self.runs.get(&run).and_then(|kept| kept.gate.as_ref()).map(|gate| gate.key.clone()) else {
            return;
        };
        if let Some(gated) = self.gates.get_mut(&key) {
            gated.inside.remove(&run);
            gated.waiting.retain(|waiting| *waiting != run);
            self.admit(&key, now);
        }
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
        self.ask(&effects.cancel);
        for new in &effects.runs {
            let refused = new.gate.as_ref().and_then(|gate| gate.reject.clone());
            if self.start_run(new, now, events) == Enqueued::Busy
                && let Some(fact) = refused
            {
                self.inbox(effects.record.id, fact, now);
            }
        }
        for (run, fact) in &effects.tell {
            self.inbox(*run, fact.clone(), now);
        }
        if effects.record.state.is_terminal() {
            self.leave_gate(effects.record.id, now);
        }
    }

    pub(super) fn inbox(&mut self, run: RunId, fact: Vec<u8>, now: Ms) -> bool {
        let Some(kept) = self.runs.get_mut(&run) else { return false };
        self.inbox_next += 1;
        kept.inbox.insert(self.inbox_next, fact);
        self.dirty.entry(run).or_insert(now);
        true
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
            work.push(self::work(kept));
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
