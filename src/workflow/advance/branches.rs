//! Steps with lists of steps inside: groups, the branches of `switch` and `parallel`, and what a
//! time-out leads to. Which branches run, when they have done enough, and what they give.

use serde_json::{Map, Value};

use super::begin::is_bad;
use super::end::{End, too_large};
use super::{Addr, Advance, NeedValues, slot};
use crate::domain::Json;
use crate::domain::job::JobError;
use crate::domain::limits::VALUE_BYTES;
use crate::domain::run::StepState;
use crate::workflow::expr::ExprError;
use crate::workflow::record::{Body, Slot, Stop};
use crate::workflow::spec::{Quorum, Rest, SwitchMode, Verb};

/// How far a branch is.
struct Branch {
    key: u32,
    over: bool,
    /// Why it cannot end well.
    bad: Option<(String, JobError)>,
}

impl Advance<'_> {
    /// The branches of a `switch` whose time has come.
    pub(super) fn choose(&self, addr: &Addr) -> Result<Result<Vec<u32>, JobError>, NeedValues> {
        let node = self.node(addr);
        let Verb::Switch { mode, cases, otherwise } = &node.spec.verb else { return Ok(Ok(Vec::new())) };
        let scope = self.scope(&node.choice, &addr.hops, Some(addr))?;
        let mut chosen = Vec::new();
        for (nth, case) in cases.iter().enumerate() {
            match case.when.eval_bool(&scope) {
                Ok(true) => chosen.push(nth as u32),
                Ok(false) => continue,
                Err(error) => return Ok(Err(super::render::expression("when", &error))),
            }
            if *mode == SwitchMode::First {
                break;
            }
        }
        if chosen.is_empty() && !otherwise.is_empty() {
            chosen.push(cases.len() as u32);
        }
        Ok(Ok(chosen))
    }

    /// Looks whether a step with branches is over.
    pub(super) fn check_branches(&mut self, addr: &Addr) -> Result<(), NeedValues> {
        if self.state(addr) != StepState::Running {
            self.poke_around(addr);
            return Ok(());
        }
        if self.drained(addr)? {
            return Ok(());
        }
        let branches = self.branches(addr);
        let (quorum, rest) = match &self.node(addr).spec.verb {
            Verb::Parallel { wait, rest, .. } => (*wait, *rest),
            _ => (Quorum::All, Rest::Cancel),
        };
        let need = needed(quorum, branches.len());
        let good = branches.iter().filter(|branch| branch.over && branch.bad.is_none()).count();
        if good >= need {
            let how = self.branch_output(addr, &branches)?;
            self.end(addr, how, self.now)?;
            if rest == Rest::Cancel {
                self.halt_inside(addr, true, Stop::Dropped)?;
            }
            return Ok(());
        }
        let lost = branches.iter().filter(|branch| branch.bad.is_some()).count();
        if lost > branches.len() - need {
            let bad = branches.into_iter().find_map(|branch| branch.bad);
            let error = bad.map(|(id, error)| {
                JobError::new(error.class.clone(), format!("step `{id}` failed: {}", error.message))
            });
            return self.fail_inside(addr, Stop::Failed, error, false);
        }
        // The others may still be enough; in a branch that is lost nothing more starts.
        for branch in branches.iter().filter(|branch| branch.bad.is_some() && !branch.over) {
            self.halt(&addr.inside(branch.key), false, Stop::Cancelled)?;
        }
        Ok(())
    }

    /// A step cannot end well: what is inside comes to an end, and then the step does.
    pub(super) fn fail_inside(
        &mut self,
        addr: &Addr,
        stop: Stop,
        error: Option<JobError>,
        hard: bool,
    ) -> Result<(), NeedValues> {
        if let Some(record) = self.record_mut(addr) {
            record.stop = Some(stop);
            record.error = error.map(super::told);
        }
        self.halt_inside(addr, hard, Stop::Cancelled)?;
        self.drained(addr)?;
        Ok(())
    }

    fn branches(&self, addr: &Addr) -> Vec<Branch> {
        let graph = self.def.graph();
        let Some(record) = self.record(addr) else { return Vec::new() };
        let branch = |(key, steps): (u32, &[crate::workflow::record::StepRecord])| {
            let scope = &graph.scopes[graph.scope_of(&addr.inside(key))];
            let bad = steps.iter().zip(&scope.nodes).find(|(step, at)| is_bad(&graph.nodes[**at], step));
            let bad = bad.map(|(step, _)| {
                let error = step.error.clone().unwrap_or_else(|| JobError::new("cancelled", "it was cancelled"));
                (step.id.clone(), error)
            });
            let over = steps.iter().all(|step| step.state.has_ended() && !step.is_alive());
            Branch { key, over, bad }
        };
        record.frames().map(branch).collect()
    }

    /// What a step with branches gives: what its `outputs` say, or what the steps inside gave.
    fn branch_output(&mut self, addr: &Addr, branches: &[Branch]) -> Result<End, NeedValues> {
        let node = self.node(addr);
        match &node.spec.verb {
            Verb::Steps { outputs, .. } if !outputs.is_empty() => {
                let scope = self.scope(&node.work, &addr.inside(0), Some(addr))?;
                let fields = outputs.iter().map(|(name, output)| Ok((name.clone(), output.render(&scope)?)));
                Ok(match fields.collect::<Result<Map<String, Value>, ExprError>>() {
                    Ok(fields) => self.completed(addr, Json::from_value(&Value::Object(fields))),
                    Err(error) => End::Failed(super::render::expression("outputs", &error)),
                })
            }
            Verb::Switch { .. } | Verb::Parallel { .. } => {
                let graph = self.def.graph();
                let good = branches.iter().filter(|branch| branch.over && branch.bad.is_none());
                let fields = good.map(|branch| {
                    let scope = &graph.scopes[graph.scope_of(&addr.inside(branch.key))];
                    (scope.branch.clone().unwrap_or_default(), self.gathered(addr, branch.key))
                });
                Ok(End::Completed(Some(Slot::Map(fields.collect()))))
            }
            _ => Ok(End::Completed(Some(self.gathered(addr, 0)))),
        }
    }

    /// What the steps of one branch gave, by id.
    fn gathered(&self, addr: &Addr, key: u32) -> Slot {
        let steps = self.record(addr).and_then(|record| record.frame(key)).unwrap_or_default();
        let ended = steps.iter().filter(|step| step.state == StepState::Completed);
        let null = || Slot::Inline(Json::null());
        Slot::Map(ended.map(|step| (step.id.clone(), step.output.clone().unwrap_or_else(null))).collect())
    }

    /// A value in one piece, for where it is kept on its own.
    pub(super) fn flat(&self, value: &Slot) -> Result<Result<Json, JobError>, NeedValues> {
        if let Slot::Inline(json) = value {
            return Ok(Ok(json.clone()));
        }
        let mut missing = Vec::new();
        let json = Json::from_value(&self.value(Some(value), &mut missing));
        if !missing.is_empty() {
            return Err(NeedValues(missing));
        }
        if json.as_str().len() > VALUE_BYTES {
            return Ok(Err(too_large(json.as_str().len())));
        }
        Ok(Ok(json))
    }

    /// Keeps an output beside the header if it is large.
    pub(super) fn keep(&mut self, key: String, value: Json) -> Slot {
        slot(key, value, &mut self.out.values)
    }

    /// Whether a step waits for the end of a run.
    pub(super) fn called(&self, addr: &Addr) -> Option<crate::domain::RunId> {
        match self.record(addr)?.body.as_deref() {
            Some(Body::Call(run)) => Some(*run),
            _ => None,
        }
    }
}

/// How many of so many must go well.
pub(super) fn needed(quorum: Quorum, of: usize) -> usize {
    match quorum {
        Quorum::All => of,
        Quorum::Any => of.min(1),
        Quorum::Count(count) => of.min(count as usize),
    }
}
