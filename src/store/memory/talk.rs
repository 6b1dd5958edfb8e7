//! What is said to and by running jobs in the reference store: asks, notes, and the end of parents.

use super::*;
use crate::domain::limits::LOG_BYTES;

impl State {
    pub(super) fn ask(&mut self, ids: &[JobId]) -> Vec<bool> {
        let mut mark = |id: &JobId| {
            let lives = self.jobs.get(id).is_some_and(|kept| !kept.place.state().is_terminal());
            if lives {
                self.asks.insert(*id);
            }
            lives
        };
        ids.iter().map(&mut mark).collect()
    }

    pub(super) fn asked(&self, worker: WorkerId, limit: usize, now: Ms) -> Vec<Stored> {
        let can_end = |kept: &&Kept| match &kept.lease {
            Some(lease) => lease.worker == worker || self.lapsed(kept, now),
            None => true,
        };
        let asked = self.asks.iter().filter_map(|id| self.jobs.get(id));
        asked.filter(can_end).take(limit).map(|kept| self.stored(kept)).collect()
    }

    pub(super) fn note(&mut self, notes: &[Note], now: Ms) -> Vec<bool> {
        let mut events = Vec::new();
        let holds = notes.iter().map(|note| self.note_one(note, now, &mut events)).collect();
        self.log(now, events);
        holds
    }

    fn note_one(&mut self, note: &Note, now: Ms, events: &mut Vec<Event>) -> bool {
        let Some(kept) = self.jobs.get(&note.id) else { return false };
        let Some(lease) = kept.lease.as_ref().filter(|lease| lease.epoch == note.epoch) else { return false };
        if let Some(progress) = &note.progress {
            let told =
                Event { job: Some(note.id), queue: Some(kept.job.queue.clone()), ..Event::new(EventKind::JobProgress) };
            events.push(Event { worker: Some(lease.worker), data: Some(progress.to_string()), ..told });
            self.progress.insert(note.id, progress.clone());
        }
        if !note.log.is_empty() {
            let log = self.logs.entry(note.id).or_default();
            let seq = log.chunks.last().map_or(0, |chunk| chunk.seq) + 1;
            log.chunks.push(LogChunk { seq, at: now, epoch: note.epoch, text: note.log.clone() });
            while log.chunks.iter().map(|chunk| chunk.text.len()).sum::<usize>() > LOG_BYTES {
                log.chunks.remove(0);
                log.truncated = true;
            }
        }
        true
    }

    pub(super) fn has_ended(&self, parent: JobId) -> bool {
        self.jobs.get(&parent).is_none_or(|kept| kept.place.state().is_terminal())
    }

    pub(super) fn freed(&self, limit: usize) -> Vec<Freed> {
        let mut freed: Vec<Freed> = Vec::new();
        let loose = self.ties.iter().filter(|(parent, _)| self.has_ended(*parent)).take(limit);
        for (parent, child) in loose {
            if freed.last().is_none_or(|last| last.parent != *parent) {
                let state = self.jobs.get(parent).map(|kept| kept.place.state());
                freed.push(Freed { parent: *parent, state, children: Vec::new() });
            }
            let child = self.jobs.get(child).map(|kept| self.stored(kept));
            if let Some(last) = freed.last_mut() {
                last.children.extend(child);
            }
        }
        freed
    }

    pub(super) fn drain(&mut self, worker: WorkerId, now: Ms) -> bool {
        let known = self.workers.contains_key(&worker);
        if known && self.draining.insert(worker) {
            self.log(now, vec![Event { worker: Some(worker), ..Event::new(EventKind::WorkerDraining) }]);
        }
        known
    }
}
