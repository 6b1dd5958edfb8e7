//! A run as it is stored: a small header with one record a step. Large values lie outside it, under
//! keys of their own, immutable once written. The serialised names are the storage format: short,
//! never reused, unknown ones are ignored, absent ones have their default.

use serde::{Deserialize, Serialize};

use crate::domain::job::JobError;
use crate::domain::run::{RunState, StepState};
use crate::domain::{Epoch, JobId, Json, Ms, Name, RunId};

/// Values up to this many bytes of JSON text lie in the header.
pub const INLINE_BYTES: usize = 1 << 10;

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
    #[serde(rename = "q", default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<Name>,
    #[serde(rename = "n")]
    pub input: Slot,
    /// In the order of the definition.
    #[serde(rename = "t")]
    pub steps: Vec<StepRecord>,
    #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Slot>,
    /// Why it failed: set with the first failure, while it may still be compensating.
    #[serde(rename = "x", default, skip_serializing_if = "Option::is_none")]
    pub error: Option<JobError>,
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
}

/// One step of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    #[serde(rename = "i")]
    pub id: String,
    #[serde(rename = "s")]
    pub state: StepState,
    /// Attempts that its last job took, once it has ended.
    #[serde(rename = "a", default, skip_serializing_if = "is_default")]
    pub attempt: u32,
    #[serde(rename = "j", default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobId>,
    #[serde(rename = "u", default, skip_serializing_if = "Option::is_none")]
    pub undo_job: Option<JobId>,
    /// The lease under which it ended, and the one under which its undo did.
    #[serde(rename = "e", default, skip_serializing_if = "is_default")]
    pub epoch: Epoch,
    #[serde(rename = "h", default, skip_serializing_if = "is_default")]
    pub undo_epoch: Epoch,
    #[serde(rename = "x", default, skip_serializing_if = "Option::is_none")]
    pub error: Option<JobError>,
    /// Why its undo is owed.
    #[serde(rename = "z", default, skip_serializing_if = "Option::is_none")]
    pub undo_error: Option<JobError>,
    #[serde(rename = "b", default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Ms>,
    #[serde(rename = "f", default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Ms>,
    /// Its place among the steps that began and ended, from 1; 0 for one that did not.
    #[serde(rename = "o", default, skip_serializing_if = "is_default")]
    pub order: u32,
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Slot>,
}

/// A value of a run, or where it lies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Slot {
    #[serde(rename = "i")]
    Inline(Json),
    /// Under `key` among the values of the run; `size` in bytes of JSON text.
    #[serde(rename = "s")]
    Stored {
        #[serde(rename = "k")]
        key: String,
        #[serde(rename = "n")]
        size: u64,
    },
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A record that is not a run, or one of a later version that this one cannot read.
#[derive(Debug, thiserror::Error)]
#[error("a run's record cannot be read: {0}")]
pub struct BadRecord(String);

impl Run {
    /// The header as a store keeps it.
    ///
    /// # Errors
    /// Only if the encoder itself fails.
    pub fn encode(&self) -> Result<Vec<u8>, BadRecord> {
        rmp_serde::to_vec_named(self).map_err(|error| BadRecord(error.to_string()))
    }

    /// # Errors
    /// Bytes that are not a run's header.
    pub fn decode(bytes: &[u8]) -> Result<Run, BadRecord> {
        rmp_serde::from_slice(bytes).map_err(|error| BadRecord(error.to_string()))
    }

    pub fn step(&self, id: &str) -> Option<&StepRecord> {
        self.steps.iter().find(|step| step.id == id)
    }

    /// Whether it has failed or was cancelled: nothing new starts.
    pub fn is_stopping(&self) -> bool {
        self.error.is_some() || self.cancel.is_some()
    }
}

impl StepRecord {
    pub fn new(id: String) -> StepRecord {
        StepRecord {
            id,
            state: StepState::Pending,
            attempt: 0,
            job: None,
            undo_job: None,
            epoch: Epoch(0),
            undo_epoch: Epoch(0),
            error: None,
            undo_error: None,
            started_at: None,
            finished_at: None,
            order: 0,
            output: None,
        }
    }

    /// Whether a job of the step is under way.
    pub fn is_active(&self) -> bool {
        matches!(self.state, StepState::Running | StepState::Retrying | StepState::Waiting)
    }
}

/// Something that happened to a run, as its inbox keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fact {
    /// The step; empty for what concerns the run as a whole.
    #[serde(rename = "s", default, skip_serializing_if = "String::is_empty")]
    pub step: String,
    /// Whether it is about undoing the step.
    #[serde(rename = "u", default, skip_serializing_if = "is_default")]
    pub undo: bool,
    /// The lease under which the job ended; 0 if it never had one. Facts are unique by (step, undo, epoch).
    #[serde(rename = "e", default, skip_serializing_if = "is_default")]
    pub epoch: Epoch,
    /// Attempts that the job took; 0 when unknown.
    #[serde(rename = "n", default, skip_serializing_if = "is_default")]
    pub attempt: u32,
    /// When it happened, by the store's clock.
    #[serde(rename = "a")]
    pub at: Ms,
    #[serde(rename = "w")]
    pub what: What,
}

/// What happened. Only final outcomes of a job are facts: its retries are its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum What {
    #[serde(rename = "c")]
    Completed {
        #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
        output: Option<Json>,
    },
    #[serde(rename = "f")]
    Failed {
        #[serde(rename = "x")]
        error: JobError,
    },
    /// The step's job was cancelled or deleted by an operator.
    #[serde(rename = "x")]
    Cancelled,
    /// A timer of the run is due.
    #[serde(rename = "t")]
    Timer {
        #[serde(rename = "k")]
        key: String,
    },
    /// Somebody cancels the run.
    #[serde(rename = "k")]
    Cancel {
        #[serde(rename = "c")]
        compensate: bool,
    },
}

impl Fact {
    /// The outcome of a step's job, or of the job that undoes it.
    pub fn of_step(step: impl Into<String>, undo: bool, epoch: Epoch, attempt: u32, at: Ms, what: What) -> Fact {
        Fact { step: step.into(), undo, epoch, attempt, at, what }
    }

    pub fn timer(key: impl Into<String>, at: Ms) -> Fact {
        Fact {
            step: String::new(),
            undo: false,
            epoch: Epoch(0),
            attempt: 0,
            at,
            what: What::Timer { key: key.into() },
        }
    }

    pub fn cancel(compensate: bool, at: Ms) -> Fact {
        Fact { step: String::new(), undo: false, epoch: Epoch(0), attempt: 0, at, what: What::Cancel { compensate } }
    }

    /// The fact as an inbox keeps it.
    ///
    /// # Errors
    /// Only if the encoder itself fails.
    pub fn encode(&self) -> Result<Vec<u8>, BadRecord> {
        rmp_serde::to_vec_named(self).map_err(|error| BadRecord(error.to_string()))
    }

    /// # Errors
    /// Bytes that are not a fact.
    pub fn decode(bytes: &[u8]) -> Result<Fact, BadRecord> {
        rmp_serde::from_slice(bytes).map_err(|error| BadRecord(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Shard;

    #[test]
    fn a_header_reads_back_and_ignores_what_a_later_version_adds() {
        let id = RunId::from_parts(Ms(5), Shard(3), 9);
        let mut step = StepRecord::new("charge".into());
        step.output = Some(Slot::Stored { key: "s/charge".into(), size: 2_000 });
        step.error = Some(JobError::new("exit:1", "no"));
        let run = Run {
            id,
            workflow: "w".parse().expect("a name"),
            version: "ab".into(),
            state: RunState::Compensating,
            rev: 7,
            queue: None,
            input: Slot::Inline(Json::null()),
            steps: vec![StepRecord::new("a-b".into()), step],
            output: None,
            error: Some(JobError::new("step", "x")),
            cancel: Some(false),
            owed: vec!["charge".into()],
            ended: 2,
            created_at: Ms(1),
            started_at: Some(Ms(2)),
            finished_at: None,
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

    #[test]
    fn facts_read_back() {
        let at = Ms(4);
        for fact in [
            Fact::timer("timeout", at),
            Fact::cancel(true, at),
            Fact::of_step("a", true, Epoch(9), 2, at, What::Failed { error: JobError::new("exit:1", "m") }),
            Fact::of_step("a", false, Epoch(9), 1, at, What::Completed { output: Some(Json::string("x")) }),
            Fact::of_step("a", false, Epoch(9), 1, at, What::Completed { output: None }),
            Fact::of_step("a", false, Epoch(9), 1, at, What::Cancelled),
        ] {
            assert_eq!(Fact::decode(&fact.encode().expect("encodes")).expect("decodes"), fact);
        }
    }
}
