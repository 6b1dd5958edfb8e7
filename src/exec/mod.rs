//! Does one piece of work: runs a command, asks a pool of processes, sends an HTTP request or does a
//! built-in, and says how it ended. Knows no queue, no store and no expressions: what is run comes
//! ready, values filled in. Reads neither the environment nor the machine's clock; what a worker
//! gives comes in a [`Context`].
//!
//! ```text
//!  perform ── Builtin ─→ Outcome
//!     ├────── Http ────→ address checked, circuit asked → request → status, body → Outcome
//!     ├────── Pool ────→ a process that is free ← line of JSON; lines of JSON → Outcome
//!     └────── Command ─→ spawn in a tree of its own ─→ exit | time-out | stop
//!                           stdin ← payload                    │
//!                           stdout, stderr → sink, capture     ↓
//!                                                      end the whole tree
//!                                                      status, outputs → Outcome
//! ```
//!
//! When [`perform`] returns, no process that the command started lives, after a normal exit too: a
//! job that wants a daemon asks the system's service manager for one. Whoever drops the future
//! before its end kills the tree without waiting for it.
//!
//! If this process is killed with -9, the kernel kills each command's first process with it. What
//! that one had started lives on until [`Context::sweep_stale`] of a later worker on the machine.

mod batch;
mod builtin;
mod cgroup;
mod command;
mod foreground;
mod http;
mod job_text;
pub mod notify;
mod output;
mod own_dir;
mod pipes;
mod pool;
mod spawn_error;
mod tree;
mod verdict;
mod walk;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use crate::domain::job::Outcome;
use crate::domain::secret::Secrets;
use crate::domain::{Clock, Epoch, JobId, Json, Name, Progress, RunId};
use crate::workflow::{Command, Request};

pub use batch::perform_batch;
pub use builtin::Builtin;
pub use foreground::Foreground;
pub use output::Captured;
pub use pool::Pool;
pub use tree::Swept;

use own_dir::OwnDir;
use tree::Grounds;

/// The variables of the worker's own environment that a command sees; the rest is declared.
pub const KEPT_VARIABLES: [&str; 3] = ["PATH", "HOME", "LANG"];

/// One execution of a job, as far as whoever does it must know.
#[derive(Clone, Debug)]
pub struct Work {
    pub job: JobId,
    /// The job type.
    pub kind: Name,
    pub queue: Name,
    /// 1 is the first.
    pub attempt: u32,
    /// The fence of the lease this is done under.
    pub epoch: Epoch,
    /// The run it is a step of.
    pub run: Option<RunId>,
    /// The same over all attempts of a step: what makes the step's own effects idempotent.
    pub step_key: Option<String>,
    /// It undoes the step.
    pub undo: bool,
    pub payload: Json,
    /// Limit of this attempt; none means no limit, but for an HTTP call: see [`http::USUAL_TIMEOUT`].
    pub timeout: Option<Duration>,
    /// What must not be shown of what it prints and answers.
    pub secrets: Arc<Secrets>,
    /// Takes what the job tells of itself while it runs.
    pub notes: Arc<dyn Notes>,
    /// The trace that what it does belongs to: a W3C traceparent.
    pub trace: Option<String>,
}

/// What a job tells of itself while it runs, to be kept with it. Called while it runs, so it must not
/// block.
pub trait Notes: fmt::Debug + Send + Sync {
    fn progress(&self, progress: Progress);

    /// What it printed, as far as somebody keeps that: see [`LogSink`].
    fn log(&self, _text: &[u8]) {}
}

/// For those who keep nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoNotes;

impl Notes for NoNotes {
    fn progress(&self, _progress: Progress) {}
}

/// What is to be done.
#[derive(Clone, Debug)]
pub enum Action {
    Builtin(Builtin),
    Command(Command),
    Http(Request),
    Pool(Arc<Pool>),
}

/// How it ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Ended {
    /// Completed, failed or, by a pool's process, snoozed; never another outcome.
    Outcome(Outcome),
    /// Ended because it was told to. What it had done by then is unknown; its output is dropped.
    Stopped,
}

/// Where a piece of output came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// Takes what a command prints. Called while the command runs, so it must not block; it takes all
/// bytes as they come, uncapped, cut anywhere, and not always UTF-8.
pub trait LogSink: Send + Sync {
    fn chunk(&self, work: &Work, stream: Stream, bytes: &[u8]);

    /// What was kept of a stream, once at the end, and whether it was truncated.
    fn captured(&self, _work: &Work, _stream: Stream, _output: &Captured) {}

    /// A line by goflow itself, such as what the command left behind and was ended.
    fn note(&self, _work: &Work, _text: &str) {}
}

/// A sink for those who do not want to know.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoLog;

impl LogSink for NoLog {
    fn chunk(&self, _work: &Work, _stream: Stream, _bytes: &[u8]) {}
}

/// How process trees are kept together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Containment {
    /// Each command in a control group of its own, where the machine lets us make one: nothing
    /// escapes. Else as [`Containment::Walk`].
    #[default]
    Cgroup,
    /// Found by a walk of `/proc`, which something determined can escape.
    Walk,
}

/// Whether other code of this process starts children too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Parentage {
    /// Perhaps: an unknown child is left alone.
    #[default]
    Shared,
    /// No: an unknown child is a command's lost descendant, to be ended and reaped.
    Sole,
}

/// What a worker gives to all it runs.
#[derive(Clone)]
pub struct Settings {
    /// The worker's environment. Only [`KEPT_VARIABLES`] of it reach a command.
    pub environment: BTreeMap<OsString, OsString>,
    /// From TERM to KILL, after a time-out or a stop.
    pub grace: Duration,
    /// Where temporary files may be made; it must exist.
    pub temp: PathBuf,
    pub sink: Arc<dyn LogSink>,
    pub containment: Containment,
    pub parentage: Parentage,
    /// For times that others name, such as the date in `Retry-After`.
    pub clock: Arc<dyn Clock>,
    /// Processors of this machine: how many processes a pool has that names no number.
    pub processors: usize,
    /// What must not be shown of anything: secrets of the configuration.
    pub secrets: Arc<Secrets>,
}

/// A worker's settings and what was made for them: a private folder for outputs, a home for control
/// groups. Both are made with the first command, so that a worker of built-ins touches nothing.
pub struct Context {
    settings: Settings,
    place: OnceCell<Place>,
    caller: http::Caller,
}

struct Place {
    /// Holds each command's `$GOFLOW_OUTPUT`.
    folder: OwnDir,
    grounds: Grounds,
}

/// What the name of a worker's folder for outputs begins with.
const FOLDER: &str = "goflow-work";

impl Context {
    pub fn new(mut settings: Settings) -> Context {
        settings.environment.retain(|name, _| KEPT_VARIABLES.iter().any(|kept| name == kept));
        Context { settings, place: OnceCell::new(), caller: http::Caller::default() }
    }

    /// What must not be shown of anything.
    pub fn secrets(&self) -> &Arc<Secrets> {
        &self.settings.secrets
    }

    /// How trees are really kept together on this machine.
    ///
    /// # Errors
    /// The temp folder cannot be used.
    pub async fn containment(&self) -> io::Result<Containment> {
        Ok(self.place().await?.grounds.containment())
    }

    async fn place(&self) -> io::Result<&Place> {
        let make = || async {
            let folder = OwnDir::create(&self.settings.temp, FOLDER)?;
            Ok(Place { folder, grounds: Grounds::survey(self.settings.containment, self.settings.parentage) })
        };
        self.place.get_or_try_init(make).await
    }

    /// Ends what commands of workers that were killed have left on this machine, and removes their
    /// folders and control groups: to be called when a worker starts. Finds what lies beside this
    /// worker's own control group and temp folder, and is the same user's.
    ///
    /// # Errors
    /// The temp folder cannot be read.
    pub async fn sweep_stale(&self) -> io::Result<Swept> {
        let mut swept = tree::sweep_groups().await;
        for folder in OwnDir::stale(&self.settings.temp, FOLDER)? {
            let more = tree::sweep_marked(folder.path()).await;
            std::fs::remove_dir_all(folder.path())?;
            swept.processes += more.processes;
            swept.leftovers += more.leftovers;
        }
        Ok(swept)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What cannot be removed now is swept by a later worker.
        let _ = std::fs::remove_dir_all(self.folder.path());
    }
}

/// Does one piece of work to its end, to its time-out, or until it is told to stop.
///
/// Exit 0 completes; 65 (EX_DATAERR) fails for good; 75 (EX_TEMPFAIL) fails without counting; any
/// other fails by the job's policy, as do a signal, a time-out and a program that cannot be
/// started. A command that completes but does not deliver what its `outputs` promise fails for
/// good, class `output`: it has done its work, and would do it again only to say the same.
///
/// Classes of errors: `exit:N`, `signal:N`, `timeout`, `spawn`, `output`, `payload` (a built-in's),
/// `http:N`, `connection`, `circuit_open`, `url`, `address`, `header` (of an HTTP call), `pool`,
/// `protocol`, `error` (of a pool), and what `fail` or a pool's process was told.
///
/// Must be called within a Tokio runtime. If the work has ended by itself when it is told to stop,
/// the outcome counts.
pub async fn perform(action: &Action, work: &Work, context: &Context, stop: &CancellationToken) -> Ended {
    if stop.is_cancelled() {
        return Ended::Stopped;
    }
    match action {
        Action::Builtin(builtin) => builtin.perform(work, &*context.settings.sink, stop).await,
        Action::Command(command) => {
            command::perform(command, work, work.payload.as_str().to_owned(), None, context, stop).await
        }
        Action::Http(http) => {
            let body = || job_text::job(work);
            http::perform(http, work, body, None, context, stop).await
        }
        Action::Pool(pool) => pool.perform_one(work.clone(), stop).await,
    }
}
