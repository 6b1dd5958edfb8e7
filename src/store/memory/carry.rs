//! Runs and logs that come from another store or go to one, in the reference store.

use super::*;
use crate::domain::Epoch;
use crate::domain::limits::LOG_BYTES;

impl State {
    fn last_in_inbox(&self, run: RunId) -> Option<(u64, u64)> {
        let kept = self.runs.get(&run)?;
        Some((kept.record.rev, kept.inbox.keys().last().copied().unwrap_or(0)))
    }

    fn gate_place(&self, kept: &KeptRun) -> Option<GatePlace> {
        let Gate { key, limit, go, reject: _ } = kept.gate.clone()?;
        let (gated, id) = (self.gates.get(&key)?, kept.record.id);
        let inside = gated.inside.contains(&id);
        let turn = gated.waiting.iter().position(|waiting| *waiting == id);
        if !inside && turn.is_none() {
            return None;
        }
        Some(GatePlace { key, limit, go, inside, turn: turn.map_or(0, |turn| turn as i64) })
    }

    pub(super) fn whole_run(&self, id: RunId) -> Option<WholeRun> {
        let kept = self.runs.get(&id)?;
        let mut whole = WholeRun {
            record: kept.record.clone(),
            finished: kept.finished,
            gate: self.gate_place(kept),
            inbox: kept.inbox.iter().map(|(seq, fact)| (*seq, fact.clone())).collect(),
            timers: kept.timers.iter().map(|(key, (due, fact))| (key.clone(), *due, fact.clone())).collect(),
            values: kept.values.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
            history: Vec::new(),
        };
        for event in &kept.history {
            whole.tell(event.at, Event { at: Ms(0), ..event.clone() });
        }
        Some(whole)
    }

    pub(super) fn take_runs(&mut self, take: &TakeRuns, mark: &DocumentChange, now: Ms) -> bool {
        let as_seen = |seen: &SeenRun| self.last_in_inbox(seen.id) == Some((seen.rev, seen.last));
        let taken: BTreeSet<RunId> = take.runs.iter().map(|seen| seen.id).collect();
        let places = taken.iter().filter_map(|id| self.gate_place(self.runs.get(id)?));
        let keys: BTreeSet<String> = places.map(|place| place.key).collect();
        let is_all = |key: &String| {
            self.gates
                .get(key)
                .is_none_or(|gated| gated.inside.iter().chain(&gated.waiting).all(|id| taken.contains(id)))
        };
        if !take.runs.iter().all(as_seen) || !keys.iter().all(is_all) {
            return false;
        }
        if matches!(self.set_document(mark, now), DocumentSet::Changed(_)) {
            return false;
        }
        for id in taken {
            self.runs.remove(&id);
            self.dirty.remove(&id);
        }
        self.gates.retain(|key, _| !keys.contains(key));
        true
    }

    pub(super) fn put_runs(&mut self, put: &PutRuns, now: Ms) -> bool {
        let is_kept = put.runs.iter().any(|run| self.runs.contains_key(&run.record.id));
        if is_kept || matches!(self.set_document(&put.unmark(), now), DocumentSet::Changed(_)) {
            return false;
        }
        self.epoch = self.epoch.max(Epoch::above_others(now).0);
        for whole in &put.runs {
            let id = whole.record.id;
            let gate = whole.gate.clone().map(|GatePlace { key, limit, go, inside, turn: _ }| {
                let gated = self.gates.entry(key.clone()).or_default();
                if inside {
                    gated.inside.insert(id);
                } else {
                    gated.waiting.push(id);
                }
                Gate { key, limit, go, reject: None }
            });
            let events = whole
                .history
                .iter()
                .flat_map(|(at, events)| events.iter().map(|event| Event { at: *at, ..event.clone() }));
            let kept = KeptRun {
                record: whole.record.clone(),
                inbox: BTreeMap::new(),
                values: whole.values.iter().cloned().collect(),
                timers: whole.timers.iter().map(|(key, due, fact)| (key.clone(), (*due, fact.clone()))).collect(),
                history: events.collect(),
                finished: whole.finished,
                gate,
            };
            self.runs.insert(id, kept);
            for (_, fact) in &whole.inbox {
                self.inbox(id, fact.clone(), now);
            }
        }
        let keys: BTreeSet<&String> = put.runs.iter().filter_map(|run| Some(&run.gate.as_ref()?.key)).collect();
        for key in keys {
            self.admit(key, now);
        }
        true
    }

    pub(super) fn keep_log(&mut self, id: JobId, rev: u32, log: &JobLog) -> bool {
        let has = self.jobs.get(&id).is_some_and(|kept| kept.place == Place::Scheduled && kept.job.rev == rev);
        if has {
            self.logs.insert(id, log.bounded(LOG_BYTES));
        }
        has
    }
}
