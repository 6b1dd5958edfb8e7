//! A schedule's record, and what it owes at an hour. What the next record is and what is started is
//! decided here; a store only keeps the record, and commits it together with what it starts.

use serde::{Deserialize, Serialize};

use super::policy::{Admit, Catchup, Late, Overlap, admit, turn};
use super::{BadRule, BadZone, Ms, Rule, Zone};
use crate::domain::{JobId, Json, Name, RunId};

/// What a tick starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    #[serde(rename = "w")]
    Workflow(Name),
    #[serde(rename = "j")]
    Job {
        #[serde(rename = "t")]
        kind: Name,
        #[serde(rename = "q")]
        queue: Name,
    },
}

/// What a tick has started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Work {
    #[serde(rename = "j")]
    Job(JobId),
    #[serde(rename = "r")]
    Run(RunId),
}

/// What was started last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Last {
    /// The tick it was started for; none if somebody triggered it.
    #[serde(rename = "t", default, skip_serializing_if = "Option::is_none")]
    pub tick: Option<Ms>,
    #[serde(rename = "a")]
    pub at: Ms,
    #[serde(rename = "w")]
    pub work: Work,
}

/// A schedule as it is kept. The serialised names are the storage format: short, never reused. When
/// it is due next the store keeps beside it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// As [`Rule::parse`] reads it.
    #[serde(rename = "r")]
    pub rule: String,
    #[serde(rename = "z")]
    pub timezone: String,
    #[serde(rename = "g")]
    pub target: Target,
    /// The payload of the job, or the input of the run.
    #[serde(rename = "i")]
    pub input: Json,
    #[serde(rename = "o", default)]
    pub overlap: Overlap,
    #[serde(rename = "c", default)]
    pub catchup: Catchup,
    /// When this rule was set: `@every` counts from here.
    #[serde(rename = "a")]
    pub anchor: Ms,
    #[serde(rename = "p", default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    #[serde(rename = "l", default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Last>,
    /// Ticks in line for the end of what was started last.
    #[serde(rename = "w", default, skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<Ms>,
    /// Ticks that have started something, were skipped, were missed: since its creation.
    #[serde(rename = "t", default)]
    pub ticked: u64,
    #[serde(rename = "s", default)]
    pub skipped: u64,
    #[serde(rename = "m", default)]
    pub missed: u64,
}

/// What is to be told of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    Skipped { tick: Ms, why: &'static str },
    Missed(Late),
}

/// One thing that a schedule owes; it is carried out in one commit.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The record from then on, but for what is started.
    pub next: Schedule,
    /// When it is due next.
    pub due: Option<Ms>,
    /// Work is started for this tick.
    pub start: Option<Ms>,
    /// Is asked to end.
    pub cancel: Option<Work>,
    pub notes: Vec<Note>,
}

const GOES_ON: &str = "what the last tick started goes on";
const LINE_IS_FULL: &str = "too many ticks wait in line";
const REPLACED: &str = "a later tick took its place in line";

/// Why a record names no ticks any more: it was written by a goflow that knows other rules.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSchedule {
    #[error(transparent)]
    Rule(#[from] BadRule),
    #[error(transparent)]
    Zone(#[from] BadZone),
}

impl Schedule {
    /// Its rule, ready to be asked.
    ///
    /// # Errors
    /// [`BadSchedule`].
    pub fn parsed(&self) -> Result<Rule, BadSchedule> {
        Ok(Rule::parse(&self.rule, &Zone::parse(&self.timezone)?)?)
    }

    /// Whether what it owes at `now` depends on what was started last.
    pub fn must_look(&self, due: Option<Ms>, now: Ms) -> bool {
        let owes = due.is_some_and(|due| due <= now) || !self.waiting.is_empty();
        owes && !self.paused && self.overlap != Overlap::Allow && self.last.is_some()
    }

    /// What it owes at `now`, one thing at a time; none while nothing is due. `live`: what was started
    /// last has not ended.
    pub fn step(&self, rule: &Rule, due: Option<Ms>, now: Ms, live: bool) -> Option<Step> {
        if self.paused {
            return None;
        }
        let mut step = Step { next: self.clone(), due, start: None, cancel: None, notes: Vec::new() };
        if !self.waiting.is_empty() && !live {
            step.start = Some(step.next.waiting.remove(0));
            return Some(step);
        }
        let turn = turn(rule, self.anchor, due?, now, self.catchup)?;
        step.due = turn.next;
        if let Some(late) = turn.missed {
            step.next.missed += late.count;
            step.notes.push(Note::Missed(late));
        }
        if let Some(tick) = turn.tick {
            step.admit(self, tick, live);
        }
        Some(step)
    }
}

impl Step {
    fn admit(&mut self, before: &Schedule, tick: Ms, live: bool) {
        match admit(before.overlap, live, before.waiting.len()) {
            Admit::Start => self.start = Some(tick),
            Admit::Skip => {
                let full = before.overlap == Overlap::Queue;
                self.skip(tick, if full { LINE_IS_FULL } else { GOES_ON });
            }
            Admit::Wait => self.next.waiting.push(tick),
            Admit::Replace => {
                for earlier in std::mem::take(&mut self.next.waiting) {
                    self.skip(earlier, REPLACED);
                }
                self.next.waiting.push(tick);
                self.cancel = before.last.map(|last| last.work);
            }
        }
    }

    fn skip(&mut self, tick: Ms, why: &'static str) {
        self.next.skipped += 1;
        self.notes.push(Note::Skipped { tick, why });
    }

    /// Notes what was started.
    pub fn started(&mut self, at: Ms, work: Work) {
        self.next.last = Some(Last { tick: self.start, at, work });
        self.next.ticked += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Shard;

    fn schedule(overlap: Overlap) -> Schedule {
        let name = |text: &str| text.parse().expect("a name");
        Schedule {
            rule: "@every 1m".to_owned(),
            timezone: "UTC".to_owned(),
            target: Target::Job { kind: name("report"), queue: name("default") },
            input: Json::null(),
            overlap,
            catchup: Catchup::None,
            anchor: Ms(0),
            paused: false,
            last: None,
            waiting: Vec::new(),
            ticked: 0,
            skipped: 0,
            missed: 0,
        }
    }

    fn job(n: u64) -> Work {
        Work::Job(JobId::from_parts(Ms(0), Shard(0), n))
    }

    /// Plays minutes 1 to `n`, in each of which what was started last is or is not still alive.
    fn play(overlap: Overlap, alive: &[bool]) -> (Schedule, Vec<Ms>, Vec<Work>) {
        let mut now = schedule(overlap);
        let rule = now.parsed().expect("a rule");
        let mut due = Some(Ms(60_000));
        let (mut started, mut cancelled) = (Vec::new(), Vec::new());
        for (nth, live) in alive.iter().enumerate() {
            let mut live = *live;
            while let Some(mut step) = now.step(&rule, due, Ms((nth as i64 + 1) * 60_000), live) {
                if let Some(tick) = step.start {
                    started.push(tick);
                    step.started(Ms(0), job(started.len() as u64));
                    // What has just begun is alive.
                    live = true;
                }
                cancelled.extend(step.cancel);
                (now, due) = (step.next, step.due);
            }
        }
        (now, started, cancelled)
    }

    fn minutes(minutes: &[i64]) -> Vec<Ms> {
        minutes.iter().map(|minute| Ms(minute * 60_000)).collect()
    }

    #[test]
    fn each_overlap_policy_over_five_minutes() {
        let alive = [false, true, true, false, false];
        let (now, started, cancelled) = play(Overlap::Skip, &alive);
        assert_eq!((started, now.skipped, cancelled), (minutes(&[1, 4, 5]), 2, vec![]));
        let (now, started, _) = play(Overlap::Allow, &alive);
        assert_eq!((started, now.skipped), (minutes(&[1, 2, 3, 4, 5]), 0));
        let (now, started, cancelled) = play(Overlap::Queue, &alive);
        assert_eq!((started, now.waiting, cancelled), (minutes(&[1, 2, 3]), minutes(&[4, 5]), vec![]));
        let (now, started, cancelled) = play(Overlap::Replace, &alive);
        assert_eq!(started, minutes(&[1, 3, 4]));
        // The second tick lost its place to the third; the fourth and the fifth each had to wait.
        assert_eq!((now.skipped, cancelled.len()), (1, 4));
    }

    #[test]
    fn a_paused_schedule_owes_nothing_and_a_record_reads_back() {
        let mut paused = Schedule { paused: true, ..schedule(Overlap::Queue) };
        paused.waiting = minutes(&[1]);
        let rule = paused.parsed().expect("a rule");
        assert_eq!(paused.step(&rule, Some(Ms(60_000)), Ms(60_000), false), None);
        assert!(!paused.must_look(Some(Ms(0)), Ms(1)));
        paused.last = Some(Last { tick: None, at: Ms(5), work: job(7) });
        let bytes = rmp_serde::to_vec_named(&paused).expect("encodes");
        assert_eq!(rmp_serde::from_slice::<Schedule>(&bytes).expect("decodes"), paused);
    }

    #[test]
    fn what_was_missed_is_noted_with_the_tick_that_is_on_time() {
        let late = schedule(Overlap::Skip);
        let rule = late.parsed().expect("a rule");
        let step = late.step(&rule, Some(Ms(60_000)), Ms(630_000), false).expect("it is due");
        assert_eq!((step.start, step.due, step.next.missed), (Some(Ms(600_000)), Some(Ms(660_000)), 9));
        assert!(matches!(step.notes[..], [Note::Missed(Late { count: 9, .. })]));
    }
}
