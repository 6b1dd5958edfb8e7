//! Schedules in the reference store: a change and what it starts are one.

use super::*;

impl State {
    pub(super) fn set_schedule(&mut self, commit: &ScheduleCommit, now: Ms) -> Option<EnqueueAnswer> {
        let rev = self.schedules.get(&commit.name).map_or(0, |record| record.rev);
        if rev != commit.from_rev {
            return None;
        }
        match &commit.next {
            Some((due, body)) => {
                let record = ScheduleRecord { name: commit.name.clone(), rev: rev + 1, due: *due, body: body.clone() };
                self.schedules.insert(commit.name.clone(), record);
            }
            None => {
                self.schedules.remove(&commit.name);
            }
        }
        let mut events = commit.events.clone();
        let answer = self.add(&commit.jobs, &commit.runs, now, &mut events);
        self.ask(&commit.cancel);
        for (run, fact) in &commit.tell {
            self.inbox(*run, fact.clone(), now);
        }
        self.log(now, events);
        Some(answer)
    }
}
