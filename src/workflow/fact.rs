//! What can happen to a run, as its inbox keeps it. The serialised names are a storage format.

use serde::{Deserialize, Serialize};

use super::record::is_default;
use super::run::BadRecord;
use crate::domain::job::JobError;
use crate::domain::run::RunState;
use crate::domain::{Epoch, Json, Ms, Name, RunId};

/// Something that happened to a run.
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
    /// Its sender's name for it: under one key a run takes one fact.
    #[serde(rename = "k", default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
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
    /// The step's job was cancelled or deleted.
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
    /// The run may begin: its turn has come, or its parent has made it.
    #[serde(rename = "g")]
    Go,
    #[serde(rename = "p")]
    Pause,
    #[serde(rename = "r")]
    Resume,
    /// An operator tries a failed run again, where it failed; or its owed undos.
    #[serde(rename = "y")]
    Retry,
    #[serde(rename = "s")]
    Signal {
        #[serde(rename = "n")]
        name: Name,
        #[serde(rename = "d")]
        data: Json,
        /// The sender's name for it: under one key a run hears a signal once.
        #[serde(rename = "k", default, skip_serializing_if = "Option::is_none")]
        key: Option<String>,
    },
    /// Somebody answers an approval: of the step, or, if it names none, the first that waits.
    #[serde(rename = "a")]
    Answer {
        #[serde(rename = "y")]
        approved: bool,
        /// Who it is: a name first, then groups such as `group:finance`.
        #[serde(rename = "b")]
        by: Vec<String>,
        #[serde(rename = "m", default, skip_serializing_if = "Option::is_none")]
        comment: Option<String>,
    },
    /// A run that a step called has ended.
    #[serde(rename = "e")]
    Ended {
        #[serde(rename = "r")]
        run: RunId,
        #[serde(rename = "s")]
        state: RunState,
        #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
        output: Option<Json>,
        #[serde(rename = "x", default, skip_serializing_if = "Option::is_none")]
        error: Option<JobError>,
        /// There is something to be undone in it.
        #[serde(rename = "u", default, skip_serializing_if = "is_default")]
        undoable: bool,
    },
    /// The parent compensates, and this run with it.
    #[serde(rename = "u")]
    Undo,
}

impl Fact {
    /// The outcome of a step's job, or of the job that undoes it.
    pub fn of_step(step: impl Into<String>, undo: bool, epoch: Epoch, attempt: u32, at: Ms, what: What) -> Fact {
        Fact { step: step.into(), undo, epoch, attempt, at, what, key: None }
    }

    /// What concerns the run as a whole.
    pub fn of_run(what: What, at: Ms) -> Fact {
        Fact::of_step(String::new(), false, Epoch(0), 0, at, what)
    }

    pub fn timer(key: impl Into<String>, at: Ms) -> Fact {
        Fact::of_run(What::Timer { key: key.into() }, at)
    }

    pub fn cancel(compensate: bool, at: Ms) -> Fact {
        Fact::of_run(What::Cancel { compensate }, at)
    }

    pub fn signal(name: Name, data: Json, at: Ms) -> Fact {
        Fact::of_run(What::Signal { name, data, key: None }, at)
    }

    /// A signal that may be sent more than once, and is heard once.
    pub fn signal_once(name: Name, data: Json, key: String, at: Ms) -> Fact {
        Fact::of_run(What::Signal { name, data, key: Some(key) }, at)
    }

    /// The same, to be taken once however often it is sent under this key.
    #[must_use]
    pub fn once(self, key: Option<String>) -> Fact {
        Fact { key, ..self }
    }

    /// The answer to an approval; an empty `step` means the first that waits.
    pub fn answer(step: impl Into<String>, approved: bool, by: Vec<String>, comment: Option<String>, at: Ms) -> Fact {
        Fact::of_step(step, false, Epoch(0), 0, at, What::Answer { approved, by, comment })
    }

    /// The fact as an inbox keeps it.
    ///
    /// # Errors
    /// Only if the encoder itself fails.
    pub fn encode(&self) -> Result<Vec<u8>, BadRecord> {
        rmp_serde::to_vec_named(self).map_err(BadRecord::of)
    }

    /// # Errors
    /// Bytes that are not a fact.
    pub fn decode(bytes: &[u8]) -> Result<Fact, BadRecord> {
        rmp_serde::from_slice(bytes).map_err(BadRecord::of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Shard;

    #[test]
    fn facts_read_back() {
        let at = Ms(4);
        let name: Name = "paid".parse().expect("a name");
        let run = RunId::from_parts(Ms(5), Shard(3), 9);
        let ended = What::Ended {
            run,
            state: RunState::Failed,
            output: None,
            error: Some(JobError::new("exit:1", "m")),
            undoable: true,
        };
        for fact in [
            Fact::timer("timeout", at),
            Fact::cancel(true, at),
            Fact::signal(name.clone(), Json::string("x"), at),
            Fact::signal_once(name, Json::string("x"), "k".into(), at),
            Fact::answer("a", false, vec!["ann".into()], Some("no".into()), at),
            Fact::of_run(What::Go, at),
            Fact::of_run(What::Pause, at).once(Some("k".into())),
            Fact::of_run(What::Pause, at),
            Fact::of_run(What::Resume, at),
            Fact::of_run(What::Retry, at),
            Fact::of_run(What::Undo, at),
            Fact::of_step("call", false, Epoch(0), 0, at, ended),
            Fact::of_step("a", true, Epoch(9), 2, at, What::Failed { error: JobError::new("exit:1", "m") }),
            Fact::of_step("a", false, Epoch(9), 1, at, What::Completed { output: Some(Json::string("x")) }),
            Fact::of_step("a", false, Epoch(9), 1, at, What::Completed { output: None }),
            Fact::of_step("a", false, Epoch(9), 1, at, What::Cancelled),
        ] {
            assert_eq!(Fact::decode(&fact.encode().expect("encodes")).expect("decodes"), fact);
        }
    }
}
