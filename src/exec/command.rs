//! A command: what it is, and one run of it from spawn to outcome. Its argv, environment and input
//! come ready and are passed on byte for byte; nothing in them is looked into.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::output::{self, Captured};
use super::pipes::Pipes;
use super::spawn_error::{self, Cause};
use super::tree::{Stuck, Tree};
use super::verdict::{failed, judge, timed_out};
use super::{Context, Ended, Place, Settings, Work};
use crate::domain::job::{Outcome, RetryHint};
use crate::domain::text::count;
use crate::sys::process::{self, Child, SpawnError};
use crate::workflow::Command;

/// How long a pipe may stay silent after the command has exited before it is closed, and how long
/// it is read at most. Only what a process that was left behind holds open is still open by then;
/// a `tee` on the way out gets its last words in.
pub(super) const LINGER: Duration = Duration::from_millis(100);
pub(super) const LINGER_LIMIT: Duration = Duration::from_secs(1);
/// From TERM to KILL for what a command that exited has left behind.
pub(super) const LEFTOVER_GRACE: Duration = Duration::from_millis(500);

/// What begins the variable that marks a command's processes.
pub(super) const MARK: &str = "GOFLOW_OUTPUT=";

/// Why a command ended.
enum Cut {
    Exited,
    Stopped,
    TimedOut(Duration),
}

/// Runs a command for a job; for several at once when `batch` says how many, `work` being the first
/// and `input` what it reads.
pub(super) async fn perform(
    command: &Command,
    work: &Work,
    input: String,
    batch: Option<usize>,
    context: &Context,
    stop: &CancellationToken,
) -> Ended {
    let place = match context.place().await {
        Ok(place) => place,
        Err(error) => return temp_failed(&context.settings.temp, &error),
    };
    let file = match OutputFile::create(place.folder.path(), work) {
        Ok(file) => file,
        Err(error) => return temp_failed(place.folder.path(), &error),
    };
    let environment = environment(command, work, batch, &context.settings.environment, file.path());
    let mut mark = MARK.as_bytes().to_vec();
    mark.extend_from_slice(file.path().as_os_str().as_encoded_bytes());
    let (mut child, tree) = match start(command, &environment, &mark, place).await {
        Ok(started) => started,
        Err(cause) => return Ended::Outcome(spawn_error::explain(command, &cause)),
    };
    // On failure the tree is killed as it is dropped.
    let mut pipes = match Pipes::new(&mut child, input, work, &*context.settings.sink) {
        Ok(pipes) => pipes,
        Err(error) => return Ended::Outcome(spawn_error::explain(command, &Cause::Start(error))),
    };

    let cut = pipes.serve_until(first_end(&child, work.timeout, stop)).await;
    if matches!(cut, Cut::Exited) {
        pipes.drain(LINGER, LINGER_LIMIT).await;
    }
    end_tree(tree, &cut, &mut pipes, work, context).await;
    pipes.drain(LINGER, LINGER_LIMIT).await;
    let (stdout, stderr) = pipes.close();
    // Only now: as long as the tree was looked for, the leader's number had to be its own.
    let status = status(child);
    match cut {
        Cut::Stopped => Ended::Stopped,
        Cut::TimedOut(limit) => Ended::Outcome(timed_out(limit, Some(&stderr))),
        Cut::Exited => Ended::Outcome(outcome(command, status, &stdout, &stderr, file.path())),
    }
}

/// Ends what lives of the tree. The pipes are still served meanwhile: whoever is asked to end may
/// have something to say first.
async fn end_tree(tree: Tree, cut: &Cut, pipes: &mut Pipes<'_>, work: &Work, context: &Context) {
    let Settings { sink, grace, .. } = &context.settings;
    let living = tree.members();
    let grace = match cut {
        Cut::Exited if !living.is_empty() => {
            sink.note(work, &format!("ended {} that the command left behind", processes(living.len())));
            LEFTOVER_GRACE.min(*grace)
        }
        _ => *grace,
    };
    if !tree.is_over(&living)
        && let Err(Stuck(pids)) = pipes.serve_until(tree.end(grace)).await
    {
        sink.note(work, &format!("{} outlived KILL, hanging in the kernel: {pids:?}", processes(pids.len())));
    }
    tree.close();
}

pub(super) fn processes(number: usize) -> String {
    count(number as u64, "process")
}

/// Waits for what ends the command first. What has happened already counts in this order.
async fn first_end(child: &Child, timeout: Option<Duration>, stop: &CancellationToken) -> Cut {
    let limit = async {
        match timeout {
            Some(limit) => {
                tokio::time::sleep(limit).await;
                limit
            }
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        () = child.exited() => Cut::Exited,
        () = stop.cancelled() => Cut::Stopped,
        limit = limit => Cut::TimedOut(limit),
    }
}

/// Reaps the child; `None` if it hangs in the kernel, or somebody else has reaped it.
pub(super) fn status(child: Child) -> Option<ExitStatus> {
    // Dropped, it is reaped whenever it ends.
    if child.has_exited() { child.reap().ok() } else { None }
}

fn outcome(
    command: &Command,
    status: Option<ExitStatus>,
    stdout: &Captured,
    stderr: &Captured,
    file: &Path,
) -> Outcome {
    let Some(status) = status else {
        let why = "its exit status was taken by other code of the worker's process";
        return failed("spawn", why, RetryHint::Policy);
    };
    if let Some(failure) = judge(status, stderr) {
        return failure;
    }
    match output::collect(command.outputs.as_ref(), stdout, file) {
        Ok(result) => Outcome::Completed { result },
        Err(error) => failed("output", error.to_string(), RetryHint::Never),
    }
}

pub(super) fn temp_failed(folder: &Path, error: &io::Error) -> Ended {
    let why = format!("no file could be made in {}: {error}; name another folder in TMPDIR", folder.display());
    Ended::Outcome(failed("spawn", why, RetryHint::Policy))
}

/// Starts a command in a tree of its own; without a control group, if it is refused there. `mark` is
/// a variable of its environment that no other tree has, as `NAME=value`.
pub(super) async fn start(
    command: &Command,
    environment: &BTreeMap<OsString, OsString>,
    mark: &[u8],
    place: &Place,
) -> Result<(Child, Tree), Cause> {
    spawn_error::check(command, environment)?;
    loop {
        let plot = place.grounds.plot();
        let entrance = plot.entrance().map_err(Cause::Start)?;
        let grouped = entrance.is_some();
        let mark = mark.to_vec();
        let tree = move |leader| plot.tree(leader, mark);
        match process::spawn(prepare(command, environment), entrance, tree).await {
            // Named in the order in which they must not be dropped.
            Ok((tree, child)) => return Ok((child, tree)),
            Err(SpawnError::Cgroup) if grouped => place.grounds.refuse(),
            Err(SpawnError::Cgroup) => return Err(Cause::Start(io::Error::other(SpawnError::Cgroup))),
            Err(SpawnError::Start(error)) => return Err(Cause::Start(error)),
        }
    }
}

fn prepare(command: &Command, environment: &BTreeMap<OsString, OsString>) -> std::process::Command {
    let argv = command.argv();
    // `check` has seen to it that there is a first.
    let mut prepared = std::process::Command::new(argv.first().unwrap_or(&""));
    prepared.args(argv.iter().skip(1)).env_clear().envs(environment);
    prepared.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    prepared
}

/// All that a command finds in its environment. `GOFLOW_RUN_ID` and `GOFLOW_STEP_KEY` are empty for
/// a job outside a run, not absent: a script under `set -u` must serve both.
fn environment(
    command: &Command,
    work: &Work,
    batch: Option<usize>,
    kept: &BTreeMap<OsString, OsString>,
    file: &Path,
) -> BTreeMap<OsString, OsString> {
    let mut environment = kept.clone();
    environment.extend(command.env.iter().map(|(name, value)| (name.into(), value.into())));
    let mut set = |name: &str, value: &dyn AsRef<OsStr>| {
        environment.insert(name.into(), value.as_ref().to_owned());
    };
    set("GOFLOW_JOB_ID", &work.job.to_string());
    set("GOFLOW_JOB_TYPE", &work.kind.as_str());
    set("GOFLOW_QUEUE", &work.queue.as_str());
    set("GOFLOW_ATTEMPT", &work.attempt.to_string());
    set("GOFLOW_EPOCH", &work.epoch.to_string());
    set("GOFLOW_RUN_ID", &work.run.map(|run| run.to_string()).unwrap_or_default());
    set("GOFLOW_STEP_KEY", &work.step_key.as_deref().unwrap_or_default());
    if let Some(size) = batch {
        set("GOFLOW_BATCH", &size.to_string());
    }
    set("GOFLOW_OUTPUT", &file);
    // The name that OpenTelemetry gives it: what the command starts belongs to the same trace.
    if let Some(trace) = &work.trace {
        set("TRACEPARENT", trace);
    }
    environment
}

/// The empty file that `$GOFLOW_OUTPUT` names, removed when it is dropped. Its path is unique among
/// all commands of the machine, and so marks the command's processes.
struct OutputFile(PathBuf);

impl OutputFile {
    fn create(folder: &Path, work: &Work) -> io::Result<OutputFile> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // The end keeps one path from being the beginning of another.
        let path = folder.join(format!("{number}-{}-{}.out", work.job, work.epoch));
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(OutputFile(path))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        // The command may have removed it; else it goes with the folder.
        let _ = std::fs::remove_file(&self.0);
    }
}
