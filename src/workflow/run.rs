//! A run as it is stored: a small header with one record a step. Large values lie outside it, under
//! keys of their own, immutable once written. The serialised names are the storage format: short,
//! never reused, unknown ones are ignored, absent ones have their default.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::record::{Slot, StepRecord, is_default};
use crate::domain::job::JobError;
use crate::domain::run::RunState;
use crate::domain::{Epoch, JobId, Json, Ms, Name, RunId};

/// Values up to this many bytes of JSON text lie in the header.
pub const INLINE_BYTES: usize = 1 << 10;

/// How the keys of values begin that hold a part of the undo log.
pub(super) const UNDO_KEYS: &str = "u/";

/// The class of a run's error when an undo is owed.
pub const UNDO_OWED: &str = "undo_owed";

/// One execution of a definition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    #[serde(rename = "i")]
    pub id: RunId,
    #[serde(rename = "w")]
    pub workflow: Name,
    /// The hash of the definition it started with.
    #[serde(rename = "v")]
    pub version: String,
    #[serde(rename = "s")]
    pub state: RunState,
    /// Rises by one with every advance.
    #[serde(rename = "r")]
    pub rev: u64,
    /// Where steps wait that name no queue; none: on `default`.
    #[serde(rename = "j", default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<Name>,
    #[serde(rename = "n")]
    pub input: Slot,
    /// In the order of the definition, those of `finally` last. Of a run that waits for its turn, none.
    #[serde(rename = "t")]
    pub steps: Vec<StepRecord>,
    #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Slot>,
    /// Why it failed: set with the first failure, while it may still be compensating.
    #[serde(rename = "x", default, skip_serializing_if = "Option::is_none")]
    pub error: Option<JobError>,
    /// While `error` says which undo is owed: what made it fail, if it did.
    #[serde(rename = "xf", default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<JobError>,
    /// Somebody cancelled it, and whether what was done is to be undone.
    #[serde(rename = "k", default, skip_serializing_if = "Option::is_none")]
    pub cancel: Option<bool>,
    /// Steps whose undo could not be done, in the order of the attempts.
    #[serde(rename = "d", default, skip_serializing_if = "Vec::is_empty")]
    pub owed: Vec<String>,
    /// Steps that began and ended so far: the last order number.
    #[serde(rename = "e", default, skip_serializing_if = "is_default")]
    pub ended: u32,
    #[serde(rename = "c")]
    pub created_at: Ms,
    #[serde(rename = "b", default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Ms>,
    #[serde(rename = "f", default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Ms>,
    /// Who called it.
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    /// Its concurrency key.
    #[serde(rename = "q", default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The concurrency keys of the runs above it, as [`Run::gate_key`] gives them.
    #[serde(rename = "qa", default, skip_serializing_if = "Vec::is_empty")]
    pub above: Vec<String>,
    /// The versions of the workflows that it and its children call: the latest when the root began.
    #[serde(rename = "l", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pins: BTreeMap<Name, String>,
    /// How often an operator has tried it again.
    #[serde(rename = "y", default, skip_serializing_if = "is_default")]
    pub life: u32,
    /// A step of its own has ended it early, as completed.
    #[serde(rename = "z", default, skip_serializing_if = "is_default")]
    pub finished: bool,
    /// How it will end, once the steps of `finally` have.
    #[serde(rename = "g", default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<RunState>,
    #[serde(rename = "u", default, skip_serializing_if = "is_default")]
    pub undo: UndoLog,
    /// Signals that nobody has waited for yet.
    #[serde(rename = "m", default, skip_serializing_if = "Vec::is_empty")]
    pub signals: Vec<KeptSignal>,
    /// Signals that came so far.
    #[serde(rename = "a", default, skip_serializing_if = "is_default")]
    pub signalled: u32,
    /// It was called by a run that is paused, and its turn has not come yet.
    #[serde(rename = "hp", default, skip_serializing_if = "is_default")]
    pub paused_early: bool,
    /// Keys of facts that came under one, the latest last.
    #[serde(rename = "ak", default, skip_serializing_if = "Vec::is_empty")]
    pub heard: Vec<String>,
    /// The trace that it belongs to, as whoever started it said: a W3C traceparent.
    #[serde(rename = "tp", default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// Timers that came while it was paused.
    #[serde(rename = "h", default, skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<String>,
}

/// Whether a run still wants a step of its own to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    Now,
    /// Once the run goes on: it is paused.
    Later,
    /// It has asked for the end of the job.
    NoMore,
}

/// The step that called a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Parent {
    #[serde(rename = "r")]
    pub run: RunId,
    #[serde(rename = "s")]
    pub step: String,
    /// How many runs are above it.
    #[serde(rename = "d")]
    pub depth: u8,
}

/// A signal that came before anybody waited for it, or after the end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeptSignal {
    #[serde(rename = "n")]
    pub name: Name,
    #[serde(rename = "a")]
    pub at: Ms,
    #[serde(rename = "d")]
    pub data: Slot,
    /// It came after the end of the run.
    #[serde(rename = "l", default, skip_serializing_if = "is_default")]
    pub late: bool,
}

/// What is to be undone, the last first: a stack whose top is here and whose rest lies outside, each
/// part naming the one below it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UndoLog {
    #[serde(rename = "t", default, skip_serializing_if = "Vec::is_empty")]
    pub top: Vec<UndoEntry>,
    /// The part below, under `u/NUMBER`.
    #[serde(rename = "b", default, skip_serializing_if = "Option::is_none")]
    pub below: Option<u32>,
    /// The number of the next part.
    #[serde(rename = "n", default, skip_serializing_if = "is_default")]
    pub next: u32,
    /// The one that is being undone.
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    pub current: Option<UndoEntry>,
    /// Those that could not be undone.
    #[serde(rename = "o", default, skip_serializing_if = "Vec::is_empty")]
    pub owed: Vec<UndoEntry>,
}

/// One thing to undo.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UndoEntry {
    /// The path of the step, item or round.
    #[serde(rename = "s")]
    pub step: String,
    /// Its place in the order of completion, which tells it from others.
    #[serde(rename = "o")]
    pub order: u32,
    #[serde(rename = "w")]
    pub what: UndoWhat,
    /// The lease under which it ended last.
    #[serde(rename = "e", default, skip_serializing_if = "is_default")]
    pub epoch: Epoch,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum UndoWhat {
    /// A job with this payload.
    #[serde(rename = "p")]
    Job(Json),
    /// The expressions failed when it was rendered.
    #[serde(rename = "x")]
    Broken(JobError),
    /// A run that compensates itself.
    #[serde(rename = "r")]
    Run(RunId),
}

/// A part of the undo log as it lies outside the header.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct UndoPart {
    #[serde(rename = "b", default, skip_serializing_if = "Option::is_none")]
    pub below: Option<u32>,
    #[serde(rename = "e")]
    pub entries: Vec<UndoEntry>,
}

impl UndoLog {
    /// Whether nothing is left to be undone.
    pub fn is_empty(&self) -> bool {
        self.top.is_empty() && self.below.is_none() && self.current.is_none()
    }

    /// What is owed is to be tried again, before everything else.
    pub fn take_up_owed(&mut self) {
        let owed = std::mem::take(&mut self.owed);
        self.top.extend(owed.into_iter().rev());
    }
}

/// A record that is not a run, or one of a later version that this one cannot read.
#[derive(Debug, thiserror::Error)]
#[error("a run's record cannot be read: {0}")]
pub struct BadRecord(String);

impl BadRecord {
    pub(super) fn of(error: impl std::fmt::Display) -> BadRecord {
        BadRecord(error.to_string())
    }
}

impl Run {
    /// A run that has not begun: it waits for [`super::What::Go`].
    pub fn pending(id: RunId, workflow: Name, version: String, input: Slot, now: Ms) -> Run {
        Run {
            id,
            workflow,
            version,
            state: RunState::Pending,
            rev: 0,
            queue: None,
            input,
            steps: Vec::new(),
            output: None,
            error: None,
            cause: None,
            cancel: None,
            owed: Vec::new(),
            ended: 0,
            created_at: now,
            started_at: None,
            finished_at: None,
            parent: None,
            key: None,
            above: Vec::new(),
            pins: BTreeMap::new(),
            life: 0,
            finished: false,
            outcome: None,
            undo: UndoLog::default(),
            signals: Vec::new(),
            signalled: 0,
            paused_early: false,
            heard: Vec::new(),
            trace: None,
            held: Vec::new(),
        }
    }

    /// The header as a store keeps it.
    ///
    /// # Errors
    /// Only if the encoder itself fails.
    pub fn encode(&self) -> Result<Vec<u8>, BadRecord> {
        rmp_serde::to_vec_named(self).map_err(BadRecord::of)
    }

    /// # Errors
    /// Bytes that are not a run's header.
    pub fn decode(bytes: &[u8]) -> Result<Run, BadRecord> {
        let mut run: Run = rmp_serde::from_slice(bytes).map_err(BadRecord::of)?;
        run.find_cause();
        Ok(run)
    }

    /// Headers of before there was a `cause` have it in the text of their error alone.
    fn find_cause(&mut self) {
        if self.state != RunState::Failed || self.undo.owed.is_empty() || self.cause.is_some() {
            return;
        }
        let error = self.error.as_ref().filter(|error| error.class == UNDO_OWED);
        let first = error.and_then(|error| error.message.split_once("is owed; ")).map(|(_, first)| first);
        let first = first.and_then(|first| first.split_once(": ")).filter(|(class, _)| !class.contains(' '));
        self.cause = first.map(|(class, message)| JobError::new(class, message));
    }

    pub fn step(&self, id: &str) -> Option<&StepRecord> {
        self.steps.iter().find(|step| step.id == id)
    }

    /// The jobs that its records name, whether they have ended or not. Everything that is under way for it is
    /// among them, but for what [`Run::unnamed_undo`] tells of.
    pub fn jobs(&self) -> Vec<JobId> {
        let mut jobs = Vec::new();
        self.steps.iter().for_each(|step| step.jobs(&mut jobs));
        jobs
    }

    /// The runs that it has called, as far as its records name them.
    pub fn calls(&self, into: &mut Vec<RunId>) {
        self.steps.iter().for_each(|step| step.calls(into));
    }

    /// The path of a step that a job undoes now, of which perhaps no record is left.
    pub fn unnamed_undo(&self) -> Option<&str> {
        let current = self.undo.current.as_ref()?;
        matches!(current.what, UndoWhat::Job(_)).then_some(current.step.as_str())
    }

    /// Its concurrency key, apart from those of other workflows.
    pub fn gate_key(&self) -> Option<String> {
        self.key.as_ref().map(|key| format!("{}/{key}", self.workflow))
    }

    /// Whether it is paused and nobody has cancelled it since.
    pub fn is_held(&self) -> bool {
        self.state == RunState::Paused && self.cancel.is_none()
    }

    /// Whether a job that it has made, and that has not begun, is to begin. Undos always are: nothing holds up
    /// a run that compensates.
    pub fn wants(&self, job: JobId, undo: bool) -> Wanted {
        let stop = if undo { None } else { self.steps.iter().find_map(|step| step.of_job(job)).and_then(|of| of.stop) };
        match stop {
            Some(stop) if stop.closes() => Wanted::NoMore,
            _ if self.is_held() && !undo => Wanted::Later,
            _ => Wanted::Now,
        }
    }

    /// Whether it has failed, was cancelled or has ended itself: nothing new starts but what ends it.
    pub fn is_stopping(&self) -> bool {
        self.error.is_some() || self.cancel.is_some() || self.finished
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Shard;
    use crate::domain::run::StepState;
    use crate::workflow::record::{Body, Each, Frame, Items, Stop};

    #[test]
    fn a_header_of_before_there_was_a_cause_has_it_in_its_text() {
        let id = RunId::from_parts(Ms(5), Shard(3), 9);
        let entry = UndoEntry { step: "a".into(), order: 1, what: UndoWhat::Run(id), epoch: Epoch(0) };
        let run = Run {
            state: RunState::Failed,
            error: Some(JobError::new(UNDO_OWED, "the undo of `a` is owed; exit:1: step `b` failed: no")),
            owed: vec!["a".into()],
            undo: UndoLog { owed: vec![entry], ..UndoLog::default() },
            ..Run::pending(id, "w".parse().expect("a name"), "ab".into(), Slot::Inline(Json::null()), Ms(1))
        };
        let cause = |run: &Run| Run::decode(&run.encode().expect("encodes")).expect("decodes").cause;
        assert_eq!(cause(&run), Some(JobError::new("exit:1", "step `b` failed: no")));
        let error = Some(JobError::new(UNDO_OWED, "the undo of `a` is owed; the run was cancelled"));
        assert_eq!(cause(&Run { error, cancel: Some(true), ..run }), None);
    }

    #[test]
    fn a_header_reads_back_and_ignores_what_a_later_version_adds() {
        let id = RunId::from_parts(Ms(5), Shard(3), 9);
        let mut step = StepRecord::new("charge".into());
        step.output = Some(Slot::Stored { key: "s/charge".into(), size: 2_000 });
        step.error = Some(JobError::new("exit:1", "no"));
        let mut each = Each::new(Items { count: 9, map: true, inline: None, path: "e".into() });
        each.live.push((3, StepRecord { state: StepState::Running, ..StepRecord::new(String::new()) }));
        each.failed.insert(2);
        let mut list = StepRecord::new("e".into());
        list.body = Some(Box::new(Body::Each(each)));
        let mut group = StepRecord::new("g".into());
        group.stop = Some(Stop::Failed);
        let inner = StepRecord { body: Some(Box::new(Body::Call(id))), ..StepRecord::new("c".into()) };
        group.body = Some(Box::new(Body::Frames(vec![Frame { branch: 1, steps: vec![inner] }])));
        group.output = Some(Slot::Map(vec![("c".into(), Slot::Inline(Json::null()))]));
        let undo = UndoEntry { step: "a".into(), order: 1, what: UndoWhat::Job(Json::null()), epoch: Epoch(0) };
        let run = Run {
            state: RunState::Compensating,
            rev: 7,
            steps: vec![StepRecord::new("a-b".into()), step, list, group],
            error: Some(JobError::new("step", "x")),
            cancel: Some(false),
            owed: vec!["charge".into()],
            ended: 2,
            started_at: Some(Ms(2)),
            parent: Some(Parent { run: id, step: "call".into(), depth: 1 }),
            undo: UndoLog { top: vec![undo], ..UndoLog::default() },
            ..Run::pending(id, "w".parse().expect("a name"), "ab".into(), Slot::Inline(Json::null()), Ms(1))
        };
        let bytes = run.encode().expect("encodes");
        assert_eq!(Run::decode(&bytes).expect("decodes"), run);
        #[derive(Serialize)]
        struct Later<'a> {
            #[serde(flatten)]
            run: &'a Run,
            zz: u8,
        }
        let later = rmp_serde::to_vec_named(&Later { run: &run, zz: 1 }).expect("encodes");
        assert_eq!(Run::decode(&later).expect("decodes"), run);
        assert!(Run::decode(b"not a run").is_err());
    }
}
