//! Times: of an attempt, of all attempts, of a wait, before another attempt, of the whole run. A
//! timer's key names the step, the attempt and the life of the run it was set for, so that one that
//! comes late finds nothing to do.

use std::time::Duration;

use super::end::End;
use super::{Addr, Advance, MORE_TIMER, NeedValues, TIMEOUT_TIMER, Todo};
use crate::domain::job::JobError;
use crate::domain::run::{RunState, StepState};
use crate::domain::{Ms, time};
use crate::workflow::fact::{Fact, What};
use crate::workflow::graph::{Layer, Node};
use crate::workflow::record::{Body, Stop};
use crate::workflow::spec::Verb;

impl Advance<'_> {
    /// The key of a timer of a step: `t` of an attempt, `d` of all, `w` of a wait, `r` of a retry.
    pub(super) fn timer_key(&self, kind: char, addr: &Addr) -> String {
        let attempt = self.record(addr).map_or(0, |record| if kind == 'd' { 0 } else { record.attempt });
        format!("{kind}/{}!{attempt}.{}", self.path(addr), self.out.run.life)
    }

    fn set(&mut self, kind: char, addr: &Addr, length: Option<Duration>) {
        if let Some(length) = length {
            let key = self.timer_key(kind, addr);
            self.out.timers.push((key, length));
        }
    }

    pub(super) fn set_deadline(&mut self, addr: &Addr, node: &Node) {
        if has_deadline(node) {
            self.set('d', addr, node.spec.deadline);
        }
    }

    pub(super) fn set_attempt_timer(&mut self, addr: &Addr, node: &Node) {
        if has_attempt_timer(node) {
            self.set('t', addr, node.spec.timeout);
        }
    }

    pub(super) fn set_wait_timer(&mut self, addr: &Addr, length: Option<Duration>) {
        self.set('w', addr, length);
    }

    /// The timers of a step that has ended.
    pub(super) fn drop_timers_of(&mut self, addr: &Addr, node: &Node) {
        if has_deadline(node) && node.spec.deadline.is_some() && self.state(addr) != StepState::Pending {
            let key = self.timer_key('d', addr);
            self.out.drop_timers.push(key);
        }
        self.drop_attempt_timers(addr, node);
    }

    pub(super) fn drop_attempt_timers(&mut self, addr: &Addr, node: &Node) {
        let state = self.state(addr);
        let kind = match (&node.spec.verb, state) {
            (_, StepState::Retrying) => 'r',
            (Verb::Wait(_) | Verb::Approval(_) | Verb::Sleep(_), StepState::Waiting) => 'w',
            _ if state == StepState::Running && has_attempt_timer(node) && node.spec.timeout.is_some() => 't',
            _ => return,
        };
        let key = self.timer_key(kind, addr);
        self.out.drop_timers.push(key);
    }

    /// A timer is due.
    pub(super) fn timer(&mut self, key: &str, at: Ms) -> Result<bool, NeedValues> {
        match key {
            TIMEOUT_TIMER => return self.run_timeout(),
            MORE_TIMER => {
                self.sweep();
                return Ok(true);
            }
            _ => {}
        }
        let Some((kind, rest)) = key.split_once('/') else { return Ok(false) };
        let Some(addr) = rest.rsplit_once('!').and_then(|(path, _)| self.parse(path)) else { return Ok(false) };
        let Some(kind) = kind.chars().next().filter(|kind| self.timer_key(*kind, &addr) == key) else {
            return Ok(false);
        };
        match (kind, self.state(&addr)) {
            ('r', StepState::Retrying) if self.out.run.state == RunState::Paused => {
                self.out.run.held.push(key.to_owned());
                Ok(true)
            }
            ('r', StepState::Retrying) => {
                self.attempt(&addr)?;
                Ok(true)
            }
            ('w', StepState::Waiting) => {
                self.wait_is_over(&addr, at)?;
                Ok(true)
            }
            ('t', StepState::Running) => self.expire(&addr, Stop::Failed, "an attempt took longer than its `timeout`"),
            ('d', state) if !state.has_ended() && state != StepState::Pending => {
                self.expire(&addr, Stop::Expired, "its attempts took longer than its `deadline`")
            }
            _ => Ok(false),
        }
    }

    /// A step is out of time: what runs for it is stopped, and then it fails.
    fn expire(&mut self, addr: &Addr, stop: Stop, why: &str) -> Result<bool, NeedValues> {
        let error = JobError::new("timeout", why);
        let state = self.state(addr);
        let Some(record) = self.record_mut(addr) else { return Ok(false) };
        if record.stop.is_some_and(Stop::closes) {
            // It is ending already; with its deadline it is not tried again.
            if stop == Stop::Expired && record.stop == Some(Stop::Failed) {
                record.stop = Some(stop);
            }
            return Ok(true);
        }
        record.stop = Some(stop);
        record.error = Some(error.clone());
        if state != StepState::Running {
            self.end(addr, End::Failed(error), self.now)?;
            return Ok(true);
        }
        if let Some(Body::Call(run)) = record.body.as_deref() {
            let run = *run;
            self.out.tell.push((run, Fact::of_run(What::Cancel { compensate: true }, self.now)));
            return Ok(true);
        }
        let node = self.node(addr);
        if node.layer == Layer::Verb && node.spec.verb.is_job() {
            let job = self.record(addr).and_then(|record| record.job);
            self.out.cancel_jobs.extend(job);
            return Ok(true);
        }
        self.halt_inside(addr, true, Stop::Cancelled)?;
        self.drained(addr)?;
        Ok(true)
    }

    /// Looks at everything that may have been held up.
    pub(super) fn sweep(&mut self) {
        for pos in 0..self.out.run.steps.len() {
            self.sweep_step(Addr::root(pos));
        }
    }

    fn sweep_step(&mut self, addr: Addr) {
        let Some(record) = self.record(&addr) else { return };
        if record.state == StepState::Pending {
            self.agenda.push_back(Todo::Look(addr));
            return;
        }
        let todo = match record.body.as_deref() {
            Some(Body::Frames(_)) => Todo::Branches(addr.clone()),
            Some(Body::Each(_)) => Todo::Fill(addr.clone()),
            Some(Body::Loop { .. }) => Todo::Round(addr.clone()),
            _ => {
                if self.node(&addr).layer == Layer::Loop && record.is_active() {
                    self.agenda.push_back(Todo::Round(addr));
                }
                return;
            }
        };
        let item = matches!(todo, Todo::Fill(_));
        for key in self.insides(&addr) {
            for pos in 0..self.steps(&addr.inside(key)).len() {
                self.sweep_step(addr.inner(key, pos));
            }
        }
        // A loop looks after its round itself, and a list after its items.
        debug_assert!(item || matches!(todo, Todo::Branches(_) | Todo::Round(_)));
        self.agenda.push_back(todo);
    }
}

/// The outermost of what is done for one item.
fn has_deadline(node: &Node) -> bool {
    match node.layer {
        Layer::Each => false,
        Layer::Loop => true,
        Layer::Verb => node.spec.repeat.is_none(),
    }
}

/// A job's attempts are timed where it runs, a wait's by its own time.
fn has_attempt_timer(node: &Node) -> bool {
    let verb = &node.spec.verb;
    node.layer == Layer::Verb && !verb.is_job() && !matches!(verb, Verb::Wait(_) | Verb::Approval(_) | Verb::Sleep(_))
}

/// A duration as a step gives it: text such as `5m`, or a number of milliseconds.
pub(super) fn length(value: &serde_json::Value) -> Result<Duration, JobError> {
    let wrong = |why: String| JobError::new("sleep", why);
    match value {
        serde_json::Value::String(text) => {
            time::parse_duration(text).map_err(|error| wrong(format!("{text:?}: {error}")))
        }
        serde_json::Value::Number(number) => match number.as_f64() {
            Some(ms) if ms >= 0.0 => Ok(Duration::from_millis(ms as u64)),
            _ => Err(wrong(format!("{number} is no number of milliseconds"))),
        },
        other => Err(wrong(format!("{other} is no duration"))),
    }
}
