//! What a step does: the verbs. Plain data; what each means over time is `advance`'s business.

use std::time::Duration;

use super::{HttpSpec, Outputs, Quorum, Rest, StepSpec};
use crate::domain::Name;
use crate::domain::retry::RetryPolicy;
use crate::workflow::expr::{Expr, Template};

/// What a step does.
#[derive(Clone, Debug, PartialEq)]
pub enum Verb {
    /// A command of its own.
    Run(CommandSpec),
    /// An HTTP request of its own.
    Http(HttpSpec),
    /// A job of a type that a handler or a built-in does.
    Job {
        kind: Name,
        with: Option<Template>,
        outputs: Option<Outputs>,
    },
    /// `call: NAME` with `with:`: another workflow, in the version that was the latest when the root run started. Its output
    /// is the step's.
    Call {
        workflow: Name,
        with: Option<Template>,
    },
    /// An inline group. Its output: `outputs` if there are any, which see the steps inside; else an
    /// object with the outputs of the steps inside, by id.
    Steps {
        steps: Vec<StepSpec>,
        outputs: Vec<(String, Template)>,
    },
    /// The output is an object `{branch: {step: outputs}}` with the branches that ran.
    Switch {
        mode: SwitchMode,
        cases: Vec<Case>,
        otherwise: Vec<StepSpec>,
    },
    /// The output is an object `{branch: {step: outputs}}`.
    Parallel {
        branches: Vec<Branch>,
        wait: Quorum,
        rest: Rest,
    },
    Wait(WaitSpec),
    Approval(ApprovalSpec),
    /// Gives a duration as text (`5m`) or a number of milliseconds.
    Sleep(Template),
    /// The output is the object that is given.
    Set(Vec<(String, Template)>),
    /// Ends the run at once, as completed or failed. What is under way is cancelled.
    End(EndSpec),
}

/// A command, its environment and how its output is read.
#[derive(Clone, Debug, PartialEq)]
pub struct CommandSpec {
    pub program: ProgramSpec,
    /// With the variables of the groups around it.
    pub env: Vec<(String, Template)>,
    pub outputs: Option<Outputs>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ProgramSpec {
    /// The program and its arguments; no shell sees them.
    Argv(Vec<Template>),
    /// A line for `sh -c`; never holds an expression.
    Shell(String),
}

/// How many branches of a `switch` run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SwitchMode {
    /// The first whose condition holds.
    #[default]
    First,
    /// Every one whose condition holds.
    All,
}

impl SwitchMode {
    pub const WORDS: [(&str, SwitchMode); 2] = [("first", SwitchMode::First), ("all", SwitchMode::All)];
}

/// A case of a `switch`. The branch that runs when no case holds is called [`ELSE`].
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    pub name: String,
    pub when: Expr,
    pub steps: Vec<StepSpec>,
}

/// The name of the branch without a condition.
pub const ELSE: &str = "else";

/// A branch of a `parallel`: `{branches: [{name, steps}], wait, rest}`.
#[derive(Clone, Debug, PartialEq)]
pub struct Branch {
    pub name: String,
    pub steps: Vec<StepSpec>,
}

/// `wait`: holds until a signal comes. The output is the signal's data.
#[derive(Clone, Debug, PartialEq)]
pub struct WaitSpec {
    pub signal: Name,
    /// Sees `signal` (the data) beside the usual names; where it does not hold the signal is kept for others.
    pub matching: Option<Expr>,
    pub timeout: Option<Duration>,
    pub on_timeout: OnTimeout,
}

/// `approval`: holds until somebody who may says yes or no. The output is
/// `{approved, by, comment}`; a no fails the step with the class `rejected`.
#[derive(Clone, Debug, PartialEq)]
pub struct ApprovalSpec {
    /// Texts such as `ann` or `group:finance`; none lets anybody.
    pub approvers: Vec<Template>,
    pub timeout: Option<Duration>,
    pub on_timeout: OnTimeout,
}

/// What the end of the time means. `wait` takes `fail`, `continue` or steps; `approval` takes `fail`,
/// `approve`, `reject` or steps.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum OnTimeout {
    /// The step fails with the class `timeout`.
    #[default]
    Fail,
    /// The step completes; its output is null.
    Continue,
    Approve,
    Reject,
    /// `on_timeout: {steps: […]}`: these are done, and with them the step.
    Steps(Vec<StepSpec>),
}

/// `end: completed | failed`, or `end: {state, message}`.
#[derive(Clone, Debug, PartialEq)]
pub struct EndSpec {
    pub state: EndState,
    /// Why, for people; the error of a run that fails.
    pub message: Option<Template>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EndState {
    #[default]
    Completed,
    Failed,
}

impl EndState {
    pub const WORDS: [(&str, EndState); 2] = [("completed", EndState::Completed), ("failed", EndState::Failed)];
}

/// Steps inside of a step, and the name of the branch they are in.
#[derive(Clone, Copy, Debug)]
pub struct Inner<'a> {
    /// None for an inline group and for the steps of a time-out.
    pub branch: Option<&'a str>,
    pub steps: &'a [StepSpec],
}

impl Verb {
    /// Whether the verb is done as one job.
    pub fn is_job(&self) -> bool {
        matches!(self, Verb::Run(_) | Verb::Http(_) | Verb::Job { .. })
    }

    /// Its key in a manifest.
    pub fn word(&self) -> &'static str {
        match self {
            Verb::Run(_) => "run",
            Verb::Http(_) => "http",
            Verb::Job { .. } => "job",
            Verb::Call { .. } => "call",
            Verb::Steps { .. } => "steps",
            Verb::Switch { .. } => "switch",
            Verb::Parallel { .. } => "parallel",
            Verb::Wait(_) => "wait",
            Verb::Approval(_) => "approval",
            Verb::Sleep(_) => "sleep",
            Verb::Set(_) => "set",
            Verb::End(_) => "end",
        }
    }

    /// What holds for a step that names no `retry`: only jobs are tried again by themselves.
    pub fn usual_retry(&self) -> RetryPolicy {
        let max = if self.is_job() { RetryPolicy::default().max } else { 0 };
        RetryPolicy { max, ..RetryPolicy::default() }
    }

    /// The lists of steps inside, in a fixed order: its cases and then `else`, its branches, its
    /// steps, or those of its time-out.
    pub fn inner(&self) -> Vec<Inner<'_>> {
        let group = |steps| vec![Inner { branch: None, steps }];
        match self {
            Verb::Steps { steps, .. } => group(steps.as_slice()),
            Verb::Switch { cases, otherwise, .. } => {
                let cases = cases.iter().map(|case| Inner { branch: Some(&case.name), steps: &case.steps });
                cases.chain([Inner { branch: Some(ELSE), steps: otherwise }]).collect()
            }
            Verb::Parallel { branches, .. } => {
                branches.iter().map(|branch| Inner { branch: Some(&branch.name), steps: &branch.steps }).collect()
            }
            Verb::Wait(WaitSpec { on_timeout: OnTimeout::Steps(steps), .. })
            | Verb::Approval(ApprovalSpec { on_timeout: OnTimeout::Steps(steps), .. }) => group(steps.as_slice()),
            _ => Vec::new(),
        }
    }

    /// The templates of the verb itself, without those of steps inside and without bare expressions.
    pub fn templates(&self) -> Vec<&Template> {
        match self {
            Verb::Run(command) => command.templates(),
            Verb::Http(http) => http.templates(),
            Verb::Job { with, .. } | Verb::Call { with, .. } => with.iter().collect(),
            Verb::Steps { outputs, .. } => outputs.iter().map(|(_, output)| output).collect(),
            Verb::Approval(approval) => approval.approvers.iter().collect(),
            Verb::Sleep(length) => vec![length],
            Verb::Set(values) => values.iter().map(|(_, value)| value).collect(),
            Verb::End(end) => end.message.iter().collect(),
            Verb::Switch { .. } | Verb::Parallel { .. } | Verb::Wait(_) => Vec::new(),
        }
    }

    /// The bare expressions of the verb itself: `when` and `match`.
    pub fn exprs(&self) -> Vec<&Expr> {
        match self {
            Verb::Switch { cases, .. } => cases.iter().map(|case| &case.when).collect(),
            Verb::Wait(wait) => wait.matching.iter().collect(),
            _ => Vec::new(),
        }
    }

    pub fn outputs(&self) -> Option<&Outputs> {
        match self {
            Verb::Run(command) => command.outputs.as_ref(),
            Verb::Http(http) => http.outputs.as_ref(),
            Verb::Job { outputs, .. } => outputs.as_ref(),
            _ => None,
        }
    }
}

impl CommandSpec {
    pub fn templates(&self) -> Vec<&Template> {
        let argv = match &self.program {
            ProgramSpec::Argv(argv) => argv.as_slice(),
            ProgramSpec::Shell(_) => &[],
        };
        argv.iter().chain(self.env.iter().map(|(_, value)| value)).collect()
    }
}
