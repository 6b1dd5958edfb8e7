//! How a step begins: whether it may, whether it is skipped, and what its verb does first.

use serde_json::{Map, Value};

use super::end::End;
use super::{Addr, Advance, NeedValues, Todo};
use crate::domain::Json;
use crate::domain::job::JobError;
use crate::domain::run::{StepEvent, StepState};
use crate::workflow::graph::{Layer, Node};
use crate::workflow::record::{Body, Frame, StepRecord, Stop};
use crate::workflow::spec::{EndState, Quorum, Rest, Verb};

/// What a step that has not started is to do.
enum Ready {
    Start,
    Skip,
    Wait,
}

/// Whether a step has ended in a way that what is around it cannot pass over.
pub(super) fn is_bad(node: &Node, record: &StepRecord) -> bool {
    matches!(record.state, StepState::Failed | StepState::Cancelled)
        && !node.continues
        && record.stop.is_none_or(|stop| !stop.is_neutral())
}

impl Advance<'_> {
    /// Starts or skips a step if the time has come.
    pub(super) fn look(&mut self, addr: &Addr) -> Result<(), NeedValues> {
        if self.state(addr) != StepState::Pending || self.record(addr).is_none() || !self.may_start(addr) {
            return Ok(());
        }
        match self.ready(addr) {
            Ready::Wait => Ok(()),
            Ready::Skip => self.end(addr, End::Skipped, self.now),
            Ready::Start => {
                self.drop_rest(addr)?;
                match self.condition(addr)? {
                    Ok(true) => self.begin(addr),
                    Ok(false) => self.end(addr, End::Skipped, self.now),
                    Err(error) => self.end(addr, End::Failed(error), self.now),
                }
            }
        }
    }

    /// Every need has ended, none failed, and at least one completed; or, with `join`, enough of them
    /// completed.
    fn ready(&self, addr: &Addr) -> Ready {
        let node = self.node(addr);
        let steps = self.steps(&addr.hops);
        let scope = &self.def.graph().scopes[node.scope];
        let (mut good, mut ended, mut blocked) = (0, 0, false);
        for need in &node.needs {
            let Some(record) = steps.get(*need) else { continue };
            let needed = &self.def.graph().nodes[scope.nodes[*need]];
            ended += usize::from(record.state.has_ended());
            blocked |= is_bad(needed, record);
            good += usize::from(match record.state {
                StepState::Completed => true,
                // It may fail, and what follows it goes on.
                StepState::Failed | StepState::Cancelled => {
                    needed.continues && record.stop.is_none_or(|stop| !stop.is_neutral())
                }
                _ => false,
            });
        }
        let all = ended == node.needs.len();
        let enough = match node.spec.join {
            Quorum::All => all && !blocked && (good > 0 || node.needs.is_empty()),
            Quorum::Any => good >= 1,
            Quorum::Count(count) => good >= count as usize,
        };
        match (enough, all && !blocked) {
            (true, _) => Ready::Start,
            (false, true) => Ready::Skip,
            (false, false) => Ready::Wait,
        }
    }

    /// The needs that a join did not wait for.
    fn drop_rest(&mut self, addr: &Addr) -> Result<(), NeedValues> {
        let node = self.node(addr);
        if node.spec.join == Quorum::All {
            return Ok(());
        }
        for need in &node.needs {
            let need = addr.beside(*need);
            if self.state(&need).has_ended() {
                continue;
            }
            match node.spec.rest {
                Rest::Ignore => {
                    if let Some(record) = self.record_mut(&need) {
                        record.stop.get_or_insert(Stop::Ignored);
                    }
                }
                Rest::Cancel => {
                    self.halt_step(&need, true, Stop::Dropped)?;
                    if self.state(&need).has_ended() {
                        self.after_end(&need)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Begins a step that is to be done.
    pub(super) fn begin(&mut self, addr: &Addr) -> Result<(), NeedValues> {
        let node = self.node(addr);
        self.set_deadline(addr, node);
        match node.layer {
            Layer::Each => self.begin_each(addr),
            Layer::Loop => self.begin_loop(addr),
            Layer::Verb => self.attempt(addr),
        }
    }

    /// The first attempt at a verb, or another one.
    pub(super) fn attempt(&mut self, addr: &Addr) -> Result<(), NeedValues> {
        let node = self.node(addr);
        let verb = &node.spec.verb;
        if !verb.is_job()
            && let Some(record) = self.record_mut(addr)
        {
            record.attempt += 1;
        }
        match verb {
            Verb::Run(_) | Verb::Http(_) | Verb::Job { .. } => match self.job(addr)? {
                Ok(job) => {
                    if let Some(record) = self.record_mut(addr) {
                        record.job = Some(job.id);
                    }
                    self.out.jobs.push(job);
                    self.step_event(addr, StepEvent::Start, None);
                    Ok(())
                }
                Err(error) => self.end(addr, End::Failed(error), self.now),
            },
            Verb::Steps { .. } => self.open(addr, &[0]),
            Verb::Parallel { branches, .. } => self.open(addr, &(0..branches.len() as u32).collect::<Vec<_>>()),
            Verb::Switch { .. } => match self.choose(addr)? {
                Ok(chosen) => self.open(addr, &chosen),
                Err(error) => self.end(addr, End::Failed(error), self.now),
            },
            Verb::Call { .. } => self.begin_call(addr),
            Verb::Wait(_) => self.begin_wait(addr),
            Verb::Approval(approval) => self.begin_approval(addr, approval),
            Verb::Sleep(length) => self.begin_sleep(addr, length),
            Verb::Set(values) => {
                self.step_event(addr, StepEvent::Start, None);
                let scope = self.scope(&node.work, &addr.hops, Some(addr))?;
                let fields = values.iter().map(|(name, value)| Ok((name.clone(), value.render(&scope)?)));
                let how = match fields.collect::<Result<Map<String, Value>, _>>() {
                    Ok(fields) => self.completed(addr, Json::from_value(&Value::Object(fields))),
                    Err(error) => End::Failed(super::render::expression("set", &error)),
                };
                self.end(addr, how, self.now)
            }
            Verb::End(end) => {
                self.step_event(addr, StepEvent::Start, None);
                let scope = self.scope(&node.work, &addr.hops, Some(addr))?;
                let message = end.message.as_ref().map(|message| message.render_text(&scope)).transpose();
                let message = match message {
                    Ok(message) => message,
                    Err(error) => {
                        return self.end(addr, End::Failed(super::render::expression("end", &error)), self.now);
                    }
                };
                if end.state == EndState::Failed {
                    let message = message.unwrap_or_else(|| "the workflow says so".to_owned());
                    let error = JobError::new("end", message);
                    // First the step itself, so that it does not stop with the others.
                    self.close(addr, End::Failed(error.clone()), self.now)?;
                    self.stop(error)?;
                    self.halt_all(true)?;
                    return self.after_end(addr);
                }
                self.end(addr, End::Completed(message.map(|text| super::Slot::Inline(Json::string(&text)))), self.now)?;
                self.finish_early()
            }
        }
    }

    /// Starts the steps inside of some branches.
    pub(super) fn open(&mut self, addr: &Addr, branches: &[u32]) -> Result<(), NeedValues> {
        let node = self.node(addr);
        let graph = self.def.graph();
        let mut frames = Vec::with_capacity(branches.len());
        for branch in branches {
            let scope = graph.scope_of(&addr.inside(*branch));
            let steps = graph.scopes[scope].nodes.iter();
            let steps = steps.map(|at| StepRecord::new(graph.nodes[*at].spec.id.clone())).collect();
            frames.push(Frame { branch: *branch, steps });
        }
        if let Some(record) = self.record_mut(addr) {
            record.body = Some(Box::new(Body::Frames(frames)));
        }
        self.step_event(addr, StepEvent::Start, None);
        self.set_attempt_timer(addr, node);
        for branch in branches {
            self.open_frame(&addr.inside(*branch));
        }
        self.agenda.push_back(Todo::Branches(addr.clone()));
        Ok(())
    }

    /// The steps of a list that wait for nothing.
    pub(super) fn open_frame(&mut self, hops: &[super::place::Hop]) {
        let graph = self.def.graph();
        for at in &graph.scopes[graph.scope_of(hops)].nodes {
            let node = &graph.nodes[*at];
            if node.needs.is_empty() {
                self.agenda.push_back(Todo::Look(Addr { hops: hops.to_vec(), pos: node.pos }));
            }
        }
    }
}
