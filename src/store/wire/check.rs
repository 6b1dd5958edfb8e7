//! What a message may hold. On this side of the wire the types of a goflow caller have kept limits that
//! bytes do not keep: sizes, texts that must be JSON, numbers that nobody could have typed. Whatever
//! breaks one is refused whole, before anything is stored.

use std::time::Duration;

use crate::domain::job::Progress;
use crate::domain::limits::*;
use crate::domain::secret;
use crate::domain::{HolderId, Job, JobId, Json, Ms, Name, QueueSettings, Rate, RunId, WorkerId};
use crate::store::contract::*;

/// Records asked for in one call.
const MOST_IDS: usize = 10_000;
/// Moves, notes, permits or facts in one call.
const MOST_ITEMS: usize = 10_000;
/// Texts that are neither keys nor payloads: cursors, keys of values and timers, paths of steps.
const TEXT_BYTES: usize = 8 << 10;
/// A run's header, a fact or a schedule's record, in bytes.
const BODY_BYTES: usize = 16 << 20;
/// Runs that a run starts may start others, so deep.
const RUNS_DEEP: usize = 4;
/// A log's text in one note, in bytes.
const NOTE_BYTES: usize = 64 << 10;
/// What [`crate::domain::text::clip`] adds to a text that it cuts.
const CUT_MARK: usize = 64;

type Checked = Result<(), String>;

pub(super) trait Check {
    /// # Errors
    /// What is wrong, in a few words.
    fn check(&self) -> Checked;
}

fn within(what: &str, is: usize, most: usize) -> Checked {
    if is > most { Err(format!("{what} is {is}, and may be {most}")) } else { Ok(()) }
}

fn all<'a, T: Check + 'a>(items: impl IntoIterator<Item = &'a T>) -> Checked {
    items.into_iter().try_for_each(Check::check)
}

fn json(what: &str, json: &Json, most: usize) -> Checked {
    match Json::parse(json.as_str(), most) {
        // What is kept is the text as it came: it must be what was looked at.
        Ok(parsed) if parsed.as_str() == json.as_str() => Ok(()),
        Ok(_) => Err(format!("{what} has blanks around it")),
        Err(error) => Err(format!("{what}: {error}")),
    }
}

macro_rules! anything {
    ($($type:ty),*) => {
        $(impl Check for $type {
            fn check(&self) -> Checked {
                Ok(())
            }
        })*
    };
}

// Their own reading has checked them, or any value will do.
anything!(WorkerId, HolderId, JobId, RunId, Name, Duration, Ms, u64, Retention);

impl Check for usize {
    fn check(&self) -> Checked {
        within("a limit", *self, 100_000)
    }
}

impl Check for String {
    fn check(&self) -> Checked {
        within("a text's length", self.len(), TEXT_BYTES)
    }
}

impl Check for ShardVerb {
    fn check(&self) -> Checked {
        match self {
            ShardVerb::Add(url) => url.check(),
            _ => Ok(()),
        }
    }
}

impl Check for Cursor {
    fn check(&self) -> Checked {
        self.0.check()
    }
}

impl<T: Check> Check for Option<T> {
    fn check(&self) -> Checked {
        self.as_ref().map_or(Ok(()), Check::check)
    }
}

impl<T: Check> Check for Vec<T> {
    fn check(&self) -> Checked {
        within("the number of items", self.len(), MOST_ITEMS)?;
        all(self)
    }
}

impl Check for (RunId, Vec<u8>) {
    fn check(&self) -> Checked {
        within("a fact's length", self.1.len(), BODY_BYTES)
    }
}

impl Check for Rate {
    fn check(&self) -> Checked {
        // Its text knows the bounds.
        self.to_string().parse::<Rate>().map(drop).map_err(|error| error.to_string())
    }
}

impl Check for Progress {
    fn check(&self) -> Checked {
        within("a message of progress", self.message.len(), PROGRESS_BYTES)?;
        match self.percent {
            Some(percent) if !(0.0..=100.0).contains(&percent) => Err(format!("{percent} is no percentage")),
            _ => Ok(()),
        }
    }
}

impl Check for Job {
    fn check(&self) -> Checked {
        json("the payload", &self.payload, PAYLOAD_BYTES)?;
        if let Some(result) = &self.result {
            json("the result", result, PAYLOAD_BYTES)?;
        }
        if !(-PRIORITY..=PRIORITY).contains(&self.priority) {
            return Err(format!("the priority {} is out of range: -{PRIORITY} to {PRIORITY}", self.priority));
        }
        if !(0.0..=1.0).contains(&self.retry.jitter) {
            return Err(format!("the jitter {} is out of range: 0 to 1", self.retry.jitter));
        }
        within("the number of retry rules", self.retry.errors.len(), 100)?;
        all(&self.retry.errors)?;
        if let Some(key) = &self.unique_key {
            within("the unique key's length", key.len(), KEY_BYTES)?;
        }
        if let Some(concurrency) = &self.concurrency {
            within("the concurrency key's length", concurrency.key.len(), KEY_BYTES)?;
            if concurrency.limit == 0 {
                return Err("a concurrency limit is at least 1".to_owned());
            }
        }
        let metadata = self.metadata.iter().map(|(key, value)| key.len() + value.len()).sum();
        within("the metadata's length", metadata, METADATA_BYTES)?;
        within("the number of parents", self.after.len(), PARENTS)?;
        within("the number of crashes", self.crashes.len(), 1_000)?;
        within("the job's history", self.history.len(), HISTORY * 4)?;
        let errors = self.history.iter().map(|attempt| &attempt.error).chain(&self.error);
        for error in errors {
            within("an error's class", error.class.len(), TEXT_BYTES)?;
            within("an error's message", error.message.len(), ERROR_BYTES + CUT_MARK)?;
        }
        if let Some(link) = &self.link {
            link.step.check()?;
        }
        if let Some(raw) = &self.raw {
            within("an unreadable record", raw.len(), PAYLOAD_BYTES * 4)?;
        }
        self.progress.check()
    }
}

impl Check for NewJob {
    fn check(&self) -> Checked {
        self.job.check()
    }
}

impl Check for crate::domain::Event {
    fn check(&self) -> Checked {
        self.step.check()?;
        self.data.check()
    }
}

fn effects(effects: &Effects, depth: usize) -> Checked {
    if depth > RUNS_DEEP {
        return Err("runs start runs too deep".to_owned());
    }
    within("a run's header", effects.record.body.len(), BODY_BYTES)?;
    effects.jobs.check()?;
    within("the number of values", effects.values.len(), MOST_ITEMS)?;
    for (key, value) in &effects.values {
        key.check()?;
        json("a value", value, BODY_BYTES)?;
    }
    for timer in &effects.timers {
        timer.key.check()?;
        within("a timer's fact", timer.fact.len(), BODY_BYTES)?;
    }
    effects.drop_timers.check()?;
    effects.events.check()?;
    within("the number of jobs to end", effects.cancel.len(), MOST_IDS)?;
    effects.tell.check()?;
    within("the number of runs", effects.runs.len(), ENQUEUE_BATCH)?;
    effects.runs.iter().try_for_each(|run| new_run(run, depth + 1))
}

fn new_run(run: &NewRun, depth: usize) -> Checked {
    if let Some(gate) = &run.gate {
        within("a gate's key", gate.key.len(), KEY_BYTES + 129)?;
        within("a gate's fact", gate.go.len() + gate.reject.as_ref().map_or(0, Vec::len), BODY_BYTES)?;
        if gate.limit == 0 {
            return Err("a gate lets in at least 1".to_owned());
        }
    }
    if run.effects.record.rev != 1 {
        return Err("a new run has rev 1".to_owned());
    }
    effects(&run.effects, depth)
}

impl Check for NewRun {
    fn check(&self) -> Checked {
        new_run(self, 0)
    }
}

impl Check for Enqueue {
    fn check(&self) -> Checked {
        within("the number of jobs and runs", self.jobs.len() + self.runs.len(), ENQUEUE_BATCH)?;
        self.jobs.check()?;
        self.runs.check()
    }
}

impl Check for Exchange {
    fn check(&self) -> Checked {
        within("the number of commits", self.commits.len(), MOST_ITEMS)?;
        for commit in &self.commits {
            within("the number of moves", commit.moves.len(), MOST_ITEMS)?;
            commit.moves.iter().try_for_each(|step| step.job.check())?;
            let Some(run) = &commit.run else { continue };
            if run.facts.len() > commit.moves.len() {
                return Err("there are more facts than moves".to_owned());
            }
            run.facts.iter().try_for_each(|fact| within("a fact's length", fact.len(), BODY_BYTES))?;
            if let Some(advance) = &run.advance {
                if advance.effects.record.id != run.run {
                    return Err("an advance is of the run of its commit".to_owned());
                }
                effects(&advance.effects, 0)?;
            }
        }
        match &self.claim {
            Some(claim) => {
                within("the jobs wanted", claim.want, CLAIM_BATCH)?;
                within("the number of queues", claim.queues.len(), MOST_ITEMS)
            }
            None => Ok(()),
        }
    }
}

impl Check for Heartbeat {
    fn check(&self) -> Checked {
        within("the host's name", self.info.host.len(), 256)?;
        within("the version", self.info.version.len(), 64)?;
        within("the number of queues", self.info.queues.len(), MOST_ITEMS)?;
        within("the number of types", self.info.types.len(), MOST_ITEMS)?;
        // Who names a day dies a day before anybody takes over.
        within("the lease's seconds", self.lease.as_secs() as usize, 24 * 3600)
    }
}

impl Check for Note {
    fn check(&self) -> Checked {
        within("a log's text", self.log.len(), NOTE_BYTES)?;
        self.progress.check()
    }
}

impl Check for PermitRequest {
    fn check(&self) -> Checked {
        within("a bucket's name", self.bucket.len(), KEY_BYTES)?;
        within("the permits wanted", self.count as usize, CLAIM_BATCH)?;
        self.rate.check()
    }
}

impl Check for ScheduleCommit {
    fn check(&self) -> Checked {
        if let Some((_, body)) = &self.next {
            within("a schedule's record", body.len(), BODY_BYTES)?;
        }
        self.jobs.check()?;
        self.runs.check()?;
        within("the number of jobs to end", self.cancel.len(), MOST_IDS)?;
        self.tell.check()?;
        self.events.check()
    }
}

// The stores judge these themselves, by the contract's own words.
impl Check for DocumentChange {
    fn check(&self) -> Checked {
        DocumentChange::check(self).map_err(|error| error.to_string())
    }
}

impl Check for LockRequest {
    fn check(&self) -> Checked {
        LockRequest::check(self).map_err(|error| error.to_string())
    }
}

impl Check for ListQuery {
    fn check(&self) -> Checked {
        self.budget.check()?;
        self.after.check()
    }
}

impl Check for RunQuery {
    fn check(&self) -> Checked {
        self.budget.check()?;
        self.after.check()
    }
}

impl Check for QueueSettings {
    fn check(&self) -> Checked {
        self.rate_limit.check()?;
        if self.weight.is_some_and(|weight| !(1..=1_000).contains(&weight)) {
            return Err("a queue's weight is 1 to 1000".to_owned());
        }
        if self.concurrency == Some(0) {
            return Err("a queue's concurrency is at least 1".to_owned());
        }
        Ok(())
    }
}

impl Check for Definition {
    fn check(&self) -> Checked {
        self.kind.parse::<Name>().map_err(|error| format!("the kind of a definition: {error}"))?;
        within("a hash's length", self.hash.len(), KEY_BYTES)?;
        let hidden = serde_json::from_str(&self.text).ok().and_then(|fields| secret::is_missing_in(&fields));
        if let Some(path) = hidden {
            return Err(format!("`{path}` is `***`, the sign of a secret that was not shown"));
        }
        within("a definition's length", self.text.len(), MANIFEST_BYTES * 4)
    }
}
