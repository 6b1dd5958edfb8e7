//! Steps that wait: for a signal, for somebody's answer, for a time. They hold no worker. The first
//! committed of {answer, time-out, cancel} wins; a signal that nobody waits for is kept and shown.

use serde_json::json;

use super::end::End;
use super::{Addr, Advance, NeedValues};
use crate::domain::event::{Event, EventKind};
use crate::domain::job::JobError;
use crate::domain::run::{StepEvent, StepState};
use crate::domain::{Json, Ms, Name};
use crate::workflow::expr::Template;
use crate::workflow::graph::{Layer, Node};
use crate::workflow::record::{Body, Slot, StepRecord};
use crate::workflow::run::KeptSignal;
use crate::workflow::spec::{ApprovalSpec, OnTimeout, Verb, WaitSpec};

/// Signals of one run that are kept without anybody waiting for them.
const KEPT_SIGNALS: usize = 500;
/// Keys of signals that a run remembers, the latest: each costs the header its length.
const KEPT_KEYS: usize = 200;

impl Advance<'_> {
    pub(super) fn begin_wait(&mut self, addr: &Addr) -> Result<(), NeedValues> {
        let Verb::Wait(wait) = &self.node(addr).spec.verb else { return Ok(()) };
        self.step_event(addr, StepEvent::Wait, None);
        let kept = self.out.run.signals.clone();
        for (nth, signal) in kept.iter().enumerate() {
            if signal.name == wait.signal && self.matches(addr, &signal.data)? {
                self.out.run.signals.remove(nth);
                return self.end(addr, End::Completed(Some(signal.data.clone())), self.now);
            }
        }
        self.set_wait_timer(addr, wait.timeout);
        Ok(())
    }

    /// Whether a waiting step takes a signal. One whose expression fails on it does not.
    fn matches(&self, addr: &Addr, data: &Slot) -> Result<bool, NeedValues> {
        let node = self.node(addr);
        let Verb::Wait(WaitSpec { matching: Some(matching), .. }) = &node.spec.verb else { return Ok(true) };
        let mut missing = Vec::new();
        let signal = self.value(Some(data), &mut missing);
        if !missing.is_empty() {
            return Err(NeedValues(missing));
        }
        let scope = self.scope_with(&node.choice, &addr.hops, Some(addr), |roots| {
            roots.push(("signal".into(), signal));
        })?;
        Ok(matching.eval_bool(&scope).unwrap_or(false))
    }

    /// Notes the key of a fact; false if one came under it before.
    pub(super) fn hears(&mut self, key: &str) -> bool {
        let heard = &mut self.out.run.heard;
        if heard.iter().any(|other| other == key) {
            return false;
        }
        if heard.len() >= KEPT_KEYS {
            heard.remove(0);
        }
        heard.push(key.to_owned());
        true
    }

    /// A signal goes to the first step that waits for it; else it is kept.
    pub(super) fn signal(&mut self, name: &Name, data: &Json, at: Ms) -> Result<bool, NeedValues> {
        let over = self.out.run.state.is_terminal();
        self.out.run.signalled += 1;
        let key = format!("g/{}", self.out.run.signalled);
        // Kept signals are many and seldom looked at: only the smallest lie in the header.
        let data = match data.as_str().len() {
            0..=256 => Slot::Inline(data.clone()),
            size => {
                self.out.values.push((key.clone(), data.clone()));
                Slot::Stored { key, size: size as u64 }
            }
        };
        self.tell(Event { data: Some(name.to_string()), ..Event::new(EventKind::RunSignalled) });
        if !over {
            let waits =
                |node: &Node, _: &StepRecord| matches!(&node.spec.verb, Verb::Wait(wait) if wait.signal == *name);
            for addr in self.waiting(&waits) {
                if self.matches(&addr, &data)? {
                    self.end(&addr, End::Completed(Some(data)), at)?;
                    return Ok(true);
                }
            }
        }
        if self.out.run.signals.len() >= KEPT_SIGNALS {
            let lost = self.out.run.signals.remove(0);
            let told = format!("{}: dropped, more than {KEPT_SIGNALS} wait for nobody", lost.name);
            self.tell(Event { data: Some(told), ..Event::new(EventKind::RunSignalled) });
        }
        self.out.run.signals.push(KeptSignal { name: name.clone(), at, data, late: over });
        Ok(true)
    }

    /// The waiting steps of a kind, in the order of the definition.
    fn waiting(&self, wanted: &dyn Fn(&Node, &StepRecord) -> bool) -> Vec<Addr> {
        let mut found = Vec::new();
        let mut next: Vec<Addr> = (0..self.out.run.steps.len()).rev().map(Addr::root).collect();
        while let Some(addr) = next.pop() {
            let Some(record) = self.record(&addr) else { continue };
            let node = self.node(&addr);
            if record.state == StepState::Waiting && node.layer == Layer::Verb && wanted(node, record) {
                found.push(addr);
                continue;
            }
            let inner = record.frames().flat_map(|(key, steps)| (0..steps.len()).map(move |pos| (key, pos)));
            let inner: Vec<Addr> = inner.map(|(key, pos)| addr.inner(key, pos)).collect();
            next.extend(inner.into_iter().rev());
        }
        found
    }

    pub(super) fn begin_approval(&mut self, addr: &Addr, approval: &ApprovalSpec) -> Result<(), NeedValues> {
        let scope = self.scope(&self.node(addr).work, &addr.hops, Some(addr))?;
        let approvers: Result<Vec<String>, _> =
            approval.approvers.iter().map(|approver| approver.render_text(&scope)).collect();
        self.step_event(addr, StepEvent::Wait, None);
        match approvers {
            Ok(approvers) => {
                if let Some(record) = self.record_mut(addr) {
                    record.body = Some(Box::new(Body::Approval(approvers)));
                }
                self.set_wait_timer(addr, approval.timeout);
                Ok(())
            }
            Err(error) => self.end(addr, End::Failed(super::render::expression("approvers", &error)), self.now),
        }
    }

    /// Whether it is an approval that was open once, and is not any more.
    fn was_answerable(&self, addr: &Addr) -> bool {
        let begun = self.record(addr).is_some_and(|record| record.started_at.is_some());
        begun && matches!(self.node(addr).spec.verb, Verb::Approval(_)) && self.state(addr) != StepState::Waiting
    }

    /// Somebody says yes or no. Who may not is not heard; who comes too late is told of, and changes nothing.
    pub(super) fn answer(
        &mut self,
        step: &str,
        approved: bool,
        by: &[String],
        comment: Option<&str>,
        at: Ms,
    ) -> Result<bool, NeedValues> {
        let may = |_: &Node, record: &StepRecord| match record.body.as_deref() {
            Some(Body::Approval(approvers)) => approvers.is_empty() || approvers.iter().any(|name| by.contains(name)),
            _ => false,
        };
        let mut waiting = self.waiting(&may);
        if !step.is_empty() {
            waiting.retain(|addr| self.path(addr) == step);
        }
        let said = if approved { "approved" } else { "rejected" };
        let who = by.first().map_or(String::new(), |by| format!(" by {by}"));
        let told = |path: &str, late: &str| Event {
            step: Some(path.to_owned()),
            data: Some(format!("{said}{who}{late}")),
            ..Event::new(EventKind::RunAnswered)
        };
        let Some(addr) = waiting.first() else {
            let late = self.parse(step).is_some_and(|addr| self.was_answerable(&addr));
            if late {
                self.tell(told(step, ", too late"));
            }
            return Ok(late);
        };
        self.tell(told(&self.path(addr), ""));
        self.answered(addr, approved, by.first().map(String::as_str), comment, at)?;
        Ok(true)
    }

    fn answered(
        &mut self,
        addr: &Addr,
        approved: bool,
        by: Option<&str>,
        comment: Option<&str>,
        at: Ms,
    ) -> Result<(), NeedValues> {
        if let Some(record) = self.record_mut(addr) {
            record.body = None;
        }
        let how = if approved {
            let output = json!({"approved": true, "by": by, "comment": comment});
            self.completed(addr, Json::from_value(&output))
        } else {
            let message = match (by, comment) {
                (Some(by), Some(comment)) => format!("{by} said no: {comment}"),
                (Some(by), None) => format!("{by} said no"),
                (None, Some(comment)) => comment.to_owned(),
                (None, None) => "it was not approved".to_owned(),
            };
            End::Failed(JobError::new("rejected", message))
        };
        self.end(addr, how, at)
    }

    pub(super) fn begin_sleep(&mut self, addr: &Addr, length: &Template) -> Result<(), NeedValues> {
        let scope = self.scope(&self.node(addr).work, &addr.hops, Some(addr))?;
        let length = match length.render(&scope) {
            Ok(value) => super::timers::length(&value),
            Err(error) => Err(super::render::expression("sleep", &error)),
        };
        self.step_event(addr, StepEvent::Wait, None);
        match length {
            Ok(length) => {
                self.set_wait_timer(addr, Some(length));
                Ok(())
            }
            Err(error) => self.end(addr, End::Failed(error), self.now),
        }
    }

    /// The time of a wait is over.
    pub(super) fn wait_is_over(&mut self, addr: &Addr, at: Ms) -> Result<(), NeedValues> {
        let spec = self.node(addr).spec.clone();
        let on_timeout = match &spec.verb {
            Verb::Wait(wait) => &wait.on_timeout,
            Verb::Approval(approval) => &approval.on_timeout,
            _ => &OnTimeout::Continue,
        };
        match on_timeout {
            OnTimeout::Fail => self.end(addr, End::Failed(JobError::new("timeout", "nothing came in time")), at),
            OnTimeout::Continue => self.end(addr, End::Completed(None), at),
            OnTimeout::Approve => self.answered(addr, true, None, Some("nobody answered in time"), at),
            OnTimeout::Reject => self.answered(addr, false, None, Some("nobody approved in time"), at),
            OnTimeout::Steps(_) => self.open(addr, &[0]),
        }
    }
}
