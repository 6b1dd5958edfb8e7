//! What would happen: the same `advance`, against scripted outcomes and over a virtual time. Nothing is
//! executed and nothing is stored. People act when nothing else is to be done: signals are sent to those
//! who wait for them, and approvals are given, before any time-out is let pass.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::time::Duration;

use super::advance::{Advanced, NeedValues, advance, start_pinned};
use super::definition::Definition;
use super::fact::{Fact, What};
use super::input::InputError;
use super::record::{Body, StepRecord};
use super::rows::rows;
use super::run::Run;
use super::spec::{Outputs, StepSpec, Verb};
use crate::domain::event::{Event, EventKind};
use crate::domain::job::JobError;
use crate::domain::run::StepState;
use crate::domain::{Epoch, Job, JobId, Json, Ms, Name, RunId, Shard};

/// How long every job takes.
const JOB: Duration = Duration::from_millis(100);
/// What happens in one simulation at most.
const STEPS: usize = 200_000;

/// The outcomes of what would be executed. Steps are named by id, or by path for one item or round; an
/// undo is the name of its step behind `undo:`.
#[derive(Clone, Debug, Default)]
pub struct Script {
    pub failures: BTreeMap<String, Failure>,
    /// Jobs that run out of time, and waits and approvals that nobody answers.
    pub timeouts: BTreeSet<String>,
    pub outputs: BTreeMap<String, Json>,
    /// In their order, each when somebody waits for it.
    pub signals: Vec<(Name, Json)>,
    /// Approvals that are refused; all others are given.
    pub rejections: BTreeSet<String>,
}

/// How a step's job fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// `exit:1` where nothing is said.
    pub class: String,
    /// How many attempts fail; `None` means all.
    pub times: Option<u32>,
}

impl Failure {
    /// `STEP`, `STEP=CLASS`, `STEP*2`, `STEP=CLASS*2`: the step, and how it fails.
    pub fn parse(text: &str) -> Option<(String, Failure)> {
        let (rest, times) = match text.rsplit_once('*') {
            Some((rest, times)) => (rest, Some(times.parse().ok()?)),
            None => (text, None),
        };
        let (step, class) = rest.split_once('=').unwrap_or((rest, "exit:1"));
        let fits = !step.is_empty() && !class.is_empty();
        fits.then(|| (step.to_owned(), Failure { class: class.to_owned(), times }))
    }
}

/// What would happen.
#[derive(Clone, Debug)]
pub struct Simulated {
    /// Of the run and the runs that it calls, in order, each with its virtual time.
    pub events: Vec<Event>,
    pub run: Run,
    pub output: Option<Json>,
    /// Branches that were taken: the path of the step, and their names.
    pub branches: Vec<(String, Vec<String>)>,
    /// Steps that were undone, in that order.
    pub undone: Vec<String>,
    /// Steps that wait for what the script does not give; then the run has not ended.
    pub waiting: Vec<String>,
    /// Signals of the script that no step has taken.
    pub unheard: Vec<Name>,
    pub took: Duration,
    values: BTreeMap<String, Json>,
}

impl Simulated {
    /// A value that lies outside the header.
    pub fn value(&self, key: &str) -> Option<&Json> {
        self.values.get(key)
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SimulateError {
    #[error(transparent)]
    Input(#[from] InputError),
    #[error("the workflow `{0}` is called and is not known")]
    NoWorkflow(Name),
    #[error("it does not end within {STEPS} steps")]
    Endless,
    #[error(transparent)]
    Lost(#[from] NeedValues),
}

/// Plays a run of `def` that begins at `now`. `others` are the workflows that may be called.
///
/// # Errors
/// An input that does not fit, a workflow that is not among `others`, a run without end.
pub fn simulate(
    def: &Definition,
    others: &[Definition],
    input: Json,
    script: &Script,
    now: Ms,
) -> Result<Simulated, SimulateError> {
    let mut pins = BTreeMap::new();
    let mut next = def.calls();
    while let Some(name) = next.pop_first() {
        let found = [def].into_iter().chain(others).find(|other| *other.name() == name);
        let Some(found) = found else { return Err(SimulateError::NoWorkflow(name)) };
        if pins.insert(name, found.hash().to_owned()).is_none() {
            next.extend(found.calls().into_iter().filter(|name| !pins.contains_key(name)));
        }
    }
    let id = RunId::from_parts(now, Shard::default(), 1);
    let mut world = World {
        defs: [def].into_iter().chain(others).map(|def| (def.hash(), def)).collect(),
        script,
        now,
        begun: now,
        seq: 0,
        epoch: 0,
        runs: BTreeMap::new(),
        facts: VecDeque::new(),
        agenda: BinaryHeap::new(),
        timers: BTreeMap::new(),
        jobs: BTreeMap::new(),
        events: Vec::new(),
        signals: script.signals.iter().cloned().collect(),
    };
    let advanced = start_pinned(def, id, input, now, pins, None)?;
    let waits = advanced.run.key.is_some();
    world.commit(advanced);
    if waits {
        world.facts.push_back((id, Fact::of_run(What::Go, now)));
    }
    world.play()?;
    world.tell(def, id)
}

struct World<'a> {
    defs: BTreeMap<&'a str, &'a Definition>,
    script: &'a Script,
    now: Ms,
    begun: Ms,
    seq: u64,
    epoch: u64,
    runs: BTreeMap<RunId, Kept>,
    /// What happens now, in its order.
    facts: VecDeque<(RunId, Fact)>,
    /// What happens later.
    agenda: BinaryHeap<Reverse<(Ms, u64, Later)>>,
    /// Timers that are set, and the number of the entry that counts.
    timers: BTreeMap<(RunId, String), u64>,
    /// Jobs under way.
    jobs: BTreeMap<JobId, Job>,
    events: Vec<Event>,
    signals: VecDeque<(Name, Json)>,
}

struct Kept {
    run: Run,
    values: BTreeMap<String, Json>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Later {
    Job(JobId),
    /// An attempt at a job fails, and there is another one.
    Retry(JobId, u32),
    Timer(RunId, String),
}

impl World<'_> {
    fn play(&mut self) -> Result<(), SimulateError> {
        for _ in 0..STEPS {
            if let Some((run, fact)) = self.facts.pop_front() {
                self.take(run, &fact)?;
                continue;
            }
            if self.jobs.is_empty() && self.people_act() {
                continue;
            }
            let Some(Reverse((at, seq, later))) = self.agenda.pop() else { return Ok(()) };
            match later {
                Later::Job(id) => {
                    let Some(job) = self.jobs.remove(&id) else { continue };
                    self.now = self.now.max(at);
                    self.job_ends(job);
                }
                Later::Retry(id, attempt) => {
                    if let Some(job) = self.jobs.get(&id) {
                        let told = retried(job, attempt, self.failure(job).map(|(failure, _)| failure.class));
                        self.now = self.now.max(at);
                        self.events.push(Event { at: self.now, ..told });
                    }
                }
                Later::Timer(run, key) => {
                    if self.timers.get(&(run, key.clone())) != Some(&seq) {
                        continue;
                    }
                    self.timers.remove(&(run, key.clone()));
                    self.now = self.now.max(at);
                    self.facts.push_back((run, Fact::timer(key, self.now)));
                }
            }
        }
        Err(SimulateError::Endless)
    }

    fn take(&mut self, id: RunId, fact: &Fact) -> Result<(), SimulateError> {
        let Some(kept) = self.runs.get(&id) else { return Ok(()) };
        let Some(def) = self.defs.get(kept.run.version.as_str()) else { return Ok(()) };
        let load = |key: &str| kept.values.get(key).cloned();
        let advanced = advance(def, &kept.run, std::slice::from_ref(fact), self.now, &load)?;
        self.commit(advanced);
        Ok(())
    }

    fn commit(&mut self, advanced: Advanced) {
        let id = advanced.run.id;
        let now = self.now;
        self.events.extend(advanced.events.into_iter().map(|event| Event { at: now, ..event }));
        for key in advanced.drop_timers {
            self.timers.remove(&(id, key));
        }
        for (key, delay) in advanced.timers {
            self.seq += 1;
            self.timers.insert((id, key.clone()), self.seq);
            self.agenda.push(Reverse((now.after(delay), self.seq, Later::Timer(id, key))));
        }
        let over = advanced.run.state.is_terminal();
        if over {
            self.timers.retain(|(run, _), _| *run != id);
        }
        for job in advanced.jobs {
            self.begin(job);
        }
        for job in advanced.cancel_jobs {
            if let Some(job) = self.jobs.remove(&job) {
                self.job_fact(&job, 1, What::Cancelled);
            }
        }
        for run in advanced.runs {
            self.runs.insert(run.id, Kept { run, values: BTreeMap::new() });
        }
        self.facts.extend(advanced.tell);
        let kept = self.runs.entry(id).or_insert_with(|| Kept { run: advanced.run.clone(), values: BTreeMap::new() });
        kept.run = advanced.run;
        kept.values.extend(advanced.values);
    }

    /// Plans the end of a job: after all attempts that fail, and the delays between them.
    fn begin(&mut self, job: Job) {
        let mut at = self.now.after(JOB);
        if let Some((failure, _)) = self.failure(&job) {
            let most = failure.times.unwrap_or(u32::MAX);
            let retries = if job.retry.covers(&failure.class) { job.retry.max } else { 0 };
            for retry in 1..=retries.min(most) {
                self.seq += 1;
                self.agenda.push(Reverse((at, self.seq, Later::Retry(job.id, retry))));
                at = at.after(job.retry.delay(retry, 0.5)).after(JOB);
            }
        }
        self.seq += 1;
        self.agenda.push(Reverse((at, self.seq, Later::Job(job.id))));
        self.jobs.insert(job.id, job);
    }

    /// How a job fails, and whether it does after all its retries.
    fn failure(&self, job: &Job) -> Option<(Failure, bool)> {
        let link = job.link.as_ref()?;
        let name = |text: &str| if link.undo { format!("undo:{text}") } else { text.to_owned() };
        let names = [name(&link.step), name(id_of(&link.step))];
        let scripted = names.iter().find_map(|name| self.script.failures.get(name)).cloned();
        let timed = names.iter().any(|name| self.script.timeouts.contains(name));
        let timed = timed.then(|| Failure { class: "timeout".into(), times: None });
        let built_in = (job.kind.as_str() == "fail").then(|| Failure { class: "fail".into(), times: None });
        let failure = scripted.or(timed).or(built_in)?;
        let attempts = if job.retry.covers(&failure.class) { job.retry.max + 1 } else { 1 };
        let dies = failure.times.is_none_or(|times| times >= attempts);
        Some((failure, dies))
    }

    fn job_ends(&mut self, job: Job) {
        let failure = self.failure(&job);
        let attempts = match &failure {
            None => 1,
            Some((failure, true)) if job.retry.covers(&failure.class) => job.retry.max + 1,
            Some((_, true)) => 1,
            Some((failure, false)) => failure.times.unwrap_or(0) + 1,
        };
        let what = match failure {
            Some((failure, true)) => {
                What::Failed { error: JobError::new(failure.class, "the script says that it fails") }
            }
            _ => What::Completed { output: self.output(&job) },
        };
        self.job_fact(&job, attempts, what);
    }

    fn job_fact(&mut self, job: &Job, attempts: u32, what: What) {
        let Some(link) = &job.link else { return };
        self.epoch += 1;
        let fact = Fact::of_step(link.step.clone(), link.undo, Epoch(self.epoch), attempts, self.now, what);
        self.facts.push_back((link.run, fact));
    }

    /// What a job gives: what the script says, or something of the declared shape.
    fn output(&self, job: &Job) -> Option<Json> {
        let link = job.link.as_ref()?;
        if link.undo {
            return None;
        }
        let scripted = self.script.outputs.get(&link.step).or_else(|| self.script.outputs.get(id_of(&link.step)));
        if let Some(output) = scripted {
            return Some(output.clone());
        }
        let run = &self.runs.get(&link.run)?.run;
        let def = self.defs.get(run.version.as_str())?;
        let spec: &StepSpec = rows(def, run).into_iter().find(|row| row.path == link.step).map(|row| row.spec)?;
        match (spec.verb.outputs(), &spec.verb) {
            (None, Verb::Job { kind, .. }) if kind.as_str() == "echo" => Some(job.payload.clone()),
            (Some(Outputs::Text), _) => Some(Json::string("")),
            (Some(Outputs::Names(names)), _) => {
                let fields = names.iter().map(|name| (name.clone(), serde_json::Value::from("")));
                Some(Json::from_value(&serde_json::Value::Object(fields.collect())))
            }
            _ => None,
        }
    }

    /// Somebody does what the script says. Answers whether anybody did.
    fn people_act(&mut self) -> bool {
        let waiting: Vec<(RunId, String, Person)> = self
            .runs
            .iter()
            .filter(|(_, kept)| !kept.run.state.is_terminal())
            .filter_map(|(id, kept)| Some((*id, &kept.run, *self.defs.get(kept.run.version.as_str())?)))
            .flat_map(|(id, run, def)| {
                let waits = rows(def, run).into_iter().filter(|row| row.record.state == StepState::Waiting);
                waits.filter_map(|row| Some((id, row.path.clone(), person(row.spec, row.record)?))).collect::<Vec<_>>()
            })
            .collect();
        for (run, path, person) in waiting {
            if self.says(&self.script.timeouts, &path) {
                continue;
            }
            match person {
                Person::Answers(by) => {
                    let approved = !self.says(&self.script.rejections, &path);
                    let fact = Fact::answer(path, approved, by.into_iter().collect(), None, self.now);
                    self.facts.push_back((run, fact));
                    return true;
                }
                Person::Signals(name) => {
                    let found = self.signals.iter().position(|(signal, _)| *signal == name);
                    if let Some((name, data)) = found.and_then(|at| self.signals.remove(at)) {
                        self.facts.push_back((run, Fact::signal(name, data, self.now)));
                        return true;
                    }
                }
            }
        }
        false
    }

    fn says(&self, names: &BTreeSet<String>, path: &str) -> bool {
        names.contains(path) || names.contains(id_of(path))
    }

    fn tell(mut self, def: &Definition, id: RunId) -> Result<Simulated, SimulateError> {
        let Some(Kept { run, values }) = self.runs.remove(&id) else { return Err(SimulateError::Endless) };
        let rows = rows(def, &run);
        let mut branches = Vec::new();
        for row in &rows {
            let names = row.spec.verb.inner();
            if let (Some(Body::Frames(frames)), Verb::Switch { .. }) = (row.record.body.as_deref(), &row.spec.verb) {
                let taken =
                    frames.iter().filter_map(|frame| names.get(frame.branch as usize)?.branch.map(str::to_owned));
                branches.push((row.path.clone(), taken.collect()));
            }
        }
        let waiting = rows.iter().filter(|row| row.record.state == StepState::Waiting).map(|row| row.path.clone());
        let waiting = if run.state.is_terminal() { Vec::new() } else { waiting.collect() };
        let undone = self.events.iter().filter(|event| event.kind == EventKind::StepCompensated);
        let undone = undone.filter_map(|event| event.step.clone()).collect();
        let load = |key: &str| values.get(key).map(Json::to_value);
        let output = run.output.as_ref().map(|output| Json::from_value(&output.resolve(&mut |key| load(key))));
        let took = self.now.since(self.begun);
        // Sent to the run and kept there, or to one that it has called, or never sent.
        let kept = self.runs.into_values().flat_map(|kept| kept.run.signals).chain(run.signals.clone());
        let unheard = kept.map(|kept| kept.name).chain(self.signals.into_iter().map(|(name, _)| name)).collect();
        Ok(Simulated { events: self.events, output, branches, undone, waiting, unheard, took, values, run })
    }
}

fn retried(job: &Job, attempt: u32, class: Option<String>) -> Event {
    Event {
        run: job.link.as_ref().map(|link| link.run),
        step: job.link.as_ref().map(|link| link.step.clone()),
        attempt: Some(attempt),
        data: class,
        ..Event::new(EventKind::JobRetried)
    }
}

/// Who is needed for a step to go on.
enum Person {
    /// The approver that is named first.
    Answers(Option<String>),
    Signals(Name),
}

fn person(spec: &StepSpec, record: &StepRecord) -> Option<Person> {
    match (&spec.verb, record.body.as_deref()) {
        (Verb::Approval(_), Some(Body::Approval(approvers))) => Some(Person::Answers(approvers.first().cloned())),
        (Verb::Wait(wait), _) => Some(Person::Signals(wait.signal.clone())),
        _ => None,
    }
}

/// The id of the step at a path.
fn id_of(path: &str) -> &str {
    let last = path.rsplit('/').next().unwrap_or(path);
    last.split(['[', '#', '~']).next().unwrap_or(last)
}
