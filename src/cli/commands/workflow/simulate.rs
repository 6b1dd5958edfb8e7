//! `goflow workflow simulate`.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;

use super::source::SourceArgs;
use crate::api::EventView;
use crate::api::wire::{ErrorView, Value};
use crate::cli::codes::Code;
use crate::cli::commands::enqueue;
use crate::cli::context::Context;
use crate::cli::error::{CommandError, Result, fail};
use crate::cli::ui::Ui;
use crate::domain::text::{display_safe, nearest};
use crate::domain::time::format_duration;
use crate::domain::{Event, Json, Ms, Name, RunState};
use crate::workflow::Definition;
use crate::workflow::simulate::{Failure, Script, SimulateError, Simulated, simulate};
use crate::workflow::spec::{StepSpec, Verb};

/// Tell what a run would do, without doing anything: its events, branches and compensations
///
/// The same rules as in a real run, with outcomes that you give and a time that passes by itself.
/// Steps complete unless told otherwise; signals come when somebody waits for them; approvals are
/// given. Nothing is executed and nothing is stored.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  Does a refused payment undo the order?
    goflow workflow simulate workflows/order-saga.yaml --fail pay
  A payment that goes through at the third attempt, and an approval that nobody gives:
    goflow workflow simulate order.yaml -i @order.json --fail 'pay=http:503*2' --timeout approve
  What comes from outside:
    goflow workflow simulate order.yaml --signal payment_settled='{\"order_id\": \"o-1\"}' --given check='{\"ok\": true}'")]
pub struct SimulateArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// The input: JSON, @FILE, or - for standard input
    #[arg(short, long, value_name = "JSON")]
    input: Option<String>,
    /// This step fails: always, by a class, or so many times (STEP, STEP=CLASS, STEP*2)
    #[arg(long, value_name = "STEP")]
    fail: Vec<String>,
    /// This step runs out of time; a wait or an approval gets no answer
    #[arg(long, value_name = "STEP")]
    timeout: Vec<String>,
    /// A signal comes when a step waits for it, with what it carries
    #[arg(long, value_name = "NAME=JSON")]
    signal: Vec<String>,
    /// What a step gives
    #[arg(long, value_name = "STEP=JSON")]
    given: Vec<String>,
    /// This approval is refused
    #[arg(long, value_name = "STEP")]
    reject: Vec<String>,
}

/// What would happen, for programs.
#[derive(serde::Serialize)]
struct Outcome {
    workflow: String,
    version: String,
    state: RunState,
    /// From the start to the end, in the time of the simulation.
    took_ms: u64,
    output: Option<Value>,
    error: Option<ErrorView>,
    branches: BTreeMap<String, Vec<String>>,
    undone: Vec<String>,
    /// Steps that wait for what was not given: the run does not end.
    waiting: Vec<String>,
    /// Signals that no step has taken.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unheard: Vec<String>,
    events: Vec<EventView>,
}

pub fn run(context: &Context, args: &SimulateArgs) -> Result {
    let input = enqueue::input(args.input.as_deref())?;
    context.block_on(async {
        let (definition, others) = args.source.load(context).await?;
        let script = script(args, &definition, &others)?;
        let begun = context.clock.now();
        let told = simulate(&definition, &others, input, &script, begun)?;
        let lines = lines(&context.ui, &told, begun);
        context.ui.result_lines(&outcome(&definition, &told), &lines)
    })
}

fn script(args: &SimulateArgs, definition: &Definition, others: &[Definition]) -> Result<Script> {
    let mut script = Script::default();
    let known = Known::of(definition, others);
    for text in &args.fail {
        let (step, failure) = Failure::parse(text).ok_or_else(|| {
            fail(Code::Usage, format!("--fail: `{text}` is not a step and how it fails"))
                .hint("write STEP, STEP=CLASS, STEP*2 or STEP=CLASS*2, as in pay=http:503*2")
        })?;
        known.step("--fail", &step)?;
        known.may_fail(&step)?;
        script.failures.insert(step, failure);
    }
    for (flag, steps, into) in
        [("--timeout", &args.timeout, &mut script.timeouts), ("--reject", &args.reject, &mut script.rejections)]
    {
        for step in steps {
            known.step(flag, step)?;
            if flag == "--reject" {
                known.may_be_refused(step)?;
            }
            into.insert(step.clone());
        }
    }
    for text in &args.given {
        let (step, output) = pair("--given", text)?;
        known.step("--given", step)?;
        script.outputs.insert(step.to_owned(), output);
    }
    for text in &args.signal {
        let (name, data) = pair("--signal", text)?;
        let name: Name = name.parse().map_err(|error| fail(Code::Usage, format!("--signal: {error}")))?;
        known.signal(&name)?;
        script.signals.push((name, data));
    }
    Ok(script)
}

/// `NAME=JSON`; a name alone carries null.
fn pair<'a>(flag: &str, text: &'a str) -> Result<(&'a str, Json)> {
    let (name, data) = text.split_once('=').unwrap_or((text, "null"));
    Ok((name, enqueue::payload(Some(data)).map_err(|error| error.after(&format!("it stands in {flag} {name}")))?))
}

/// What a script may name: the ids of steps, and the verb of each where only what it needs can make it fail;
/// and the signals that they wait for.
struct Known {
    steps: Vec<(String, Option<&'static str>)>,
    signals: BTreeSet<Name>,
}

impl Known {
    fn of(definition: &Definition, others: &[Definition]) -> Known {
        let all = || [definition].into_iter().chain(others).flat_map(|one| one.spec().all_steps());
        let verb = |step: &StepSpec| (!step.verb.is_job()).then(|| step.verb.word());
        let signals = all().filter_map(|step| match &step.verb {
            Verb::Wait(wait) => Some(wait.signal.clone()),
            _ => None,
        });
        Known { steps: all().map(|step| (step.id.clone(), verb(step))).collect(), signals: signals.collect() }
    }

    /// That some step waits for it: else it would silently be passed over.
    fn signal(&self, name: &Name) -> Result {
        if self.signals.contains(name) {
            return Ok(());
        }
        let told = fail(Code::Usage, format!("--signal: no step waits for `{name}`"));
        let all: Vec<&str> = self.signals.iter().map(Name::as_str).collect();
        Err(match nearest(name.as_str(), all.iter().copied()) {
            Some(near) => told.hint(format!("did you mean `{near}`?")),
            None if all.is_empty() => told.hint("no step of it waits for a signal"),
            None => told.hint(format!("its steps wait for {}", all.join(", "))),
        })
    }

    /// That a step exists: a misspelt one would silently do nothing. A path (`a/b`, `a[3]`) ends in its id.
    fn step(&self, flag: &str, name: &str) -> Result {
        let id = id_of(name);
        if self.steps.iter().any(|(known, _)| known == id) {
            return Ok(());
        }
        let told = fail(Code::Usage, format!("{flag}: there is no step `{name}`"));
        Err(match nearest(id, self.steps.iter().map(|(known, _)| known.as_str())) {
            Some(near) => told.hint(format!("did you mean `{near}`?")),
            None => {
                let all: Vec<&str> = self.steps.iter().map(|(known, _)| known.as_str()).collect();
                told.hint(format!("the steps are {}", all.join(", ")))
            }
        })
    }

    /// That somebody does the step, who can fail: else the flag would silently do nothing.
    fn may_fail(&self, name: &str) -> Result {
        let id = id_of(name);
        let verbs: Vec<Option<&str>> =
            self.steps.iter().filter(|(known, _)| known == id).map(|(_, verb)| *verb).collect();
        // What undoes a step is a job whatever the step is.
        if name.starts_with("undo:") || verbs.iter().any(Option::is_none) {
            return Ok(());
        }
        let verb = verbs.into_iter().flatten().next().unwrap_or("step");
        let told = fail(Code::Usage, format!("--fail: `{name}` is a `{verb}`, which nobody does who could fail"));
        Err(told.hint(match verb {
            "steps" | "switch" | "parallel" | "call" => "let a step inside of it fail",
            "approval" => "--reject answers with no, --timeout lets nobody answer",
            "wait" => "--timeout lets nobody send the signal",
            _ => "steps that `run`, `http` or `job` does can be made to fail",
        }))
    }

    /// That somebody is asked: else the flag would silently do nothing.
    fn may_be_refused(&self, name: &str) -> Result {
        let id = id_of(name);
        let mut verbs = self.steps.iter().filter(|(known, _)| known == id).map(|(_, verb)| verb.unwrap_or("job"));
        if verbs.clone().any(|verb| verb == "approval") {
            return Ok(());
        }
        let told = fail(Code::Usage, format!("--reject: `{name}` is no approval, which somebody could refuse"));
        Err(told.hint(match verbs.next() {
            Some("job") => "--fail lets it fail",
            Some("wait") => "--timeout lets nobody send the signal",
            _ => "an approval inside of it may be refused",
        }))
    }
}

/// The id at the end of a path.
fn id_of(name: &str) -> &str {
    let bare = name.strip_prefix("undo:").unwrap_or(name);
    let id = bare.rsplit('/').next().unwrap_or(bare);
    id.split(['[', '#']).next().unwrap_or(id)
}

fn outcome(definition: &Definition, told: &Simulated) -> Outcome {
    Outcome {
        workflow: definition.name().to_string(),
        version: definition.hash().to_owned(),
        state: told.run.state,
        took_ms: u64::try_from(told.took.as_millis()).unwrap_or(u64::MAX),
        output: told.output.clone().map(Value),
        error: told
            .run
            .error
            .as_ref()
            .map(|error| ErrorView { class: error.class.clone(), message: error.message.clone() }),
        branches: told.branches.iter().cloned().collect(),
        undone: told.undone.clone(),
        waiting: told.waiting.clone(),
        unheard: told.unheard.iter().map(ToString::to_string).collect(),
        events: told.events.iter().map(EventView::from).collect(),
    }
}

fn lines(ui: &Ui, told: &Simulated, begun: Ms) -> Vec<String> {
    let mut lines: Vec<String> = told.events.iter().map(|event| line(told, event, begun)).collect();
    lines.push(String::new());
    let (on, off) = super::list::tone(told.run.state).map_or(("", ""), |tone| ui.ink(tone));
    lines.push(format!("would end {on}{}{off} after {}", told.run.state, format_duration(told.took)));
    if !told.waiting.is_empty() {
        lines.pop();
        let waits = display_safe(&told.waiting.join(", ")).into_owned();
        lines.push(format!("would wait, {on}{}{off}, for {waits}", told.run.state));
    }
    for (step, taken) in &told.branches {
        lines.push(display_safe(&format!("branch of {step}: {}", taken.join(", "))).into_owned());
    }
    if !told.undone.is_empty() {
        lines.push(display_safe(&format!("undone, in this order: {}", told.undone.join(", "))).into_owned());
    }
    for name in &told.unheard {
        lines
            .push(format!("no step has taken the signal {name}: none waited any more, or its `match` did not want it"));
    }
    lines.extend(told.output.as_ref().map(|output| display_safe(&format!("output: {output}")).into_owned()));
    lines.extend(told.run.error.as_ref().map(|error| display_safe(&format!("error: {error}")).into_owned()));
    lines
}

/// `+1.5s  step pay failed: exit:1`
fn line(told: &Simulated, event: &Event, begun: Ms) -> String {
    let kind = event.kind.as_str();
    let what = kind.split_once('.').map_or(kind, |(_, what)| what).replace('_', " ");
    let subject = match (&event.step, event.run) {
        (Some(step), _) => format!("step {step}"),
        (None, Some(run)) if run != told.run.id => "called run".to_owned(),
        _ => "run".to_owned(),
    };
    let why = event.data.as_ref().map_or_else(String::new, |why| format!(": {why}"));
    let at = format!("+{}", format_duration(event.at.since(begun)));
    display_safe(&format!("{at:>9}  {subject} {what}{why}")).into_owned()
}

impl From<SimulateError> for CommandError {
    fn from(error: SimulateError) -> Self {
        let message = error.to_string();
        match error {
            SimulateError::Input(_) => match message.split_once('\n') {
                None => fail(Code::RunInput, format!("the input does not fit: {message}")),
                Some(_) => fail(Code::RunInput, "the input does not fit").detail(message),
            },
            SimulateError::NoWorkflow(_) => fail(Code::NotFound, message).hint("give it in the same file, or apply it"),
            SimulateError::Endless => {
                fail(Code::Manifest, message).hint("a loop in it has no end that is sure to come")
            }
            SimulateError::Lost(_) => fail(Code::Bug, message),
        }
    }
}
