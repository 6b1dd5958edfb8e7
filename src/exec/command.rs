//! A command: what it is, and one run of it from spawn to outcome. Its argv, environment and input
//! come ready and are passed on byte for byte; nothing in them is looked into.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::de::{Error as _, SeqAccess, Visitor, value::SeqAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio_util::sync::CancellationToken;

use super::output::{Captured, Outputs};
use super::pipes::Pipes;
use super::spawn_error::{self, Cause};
use super::tree::{Stuck, Tree};
use super::verdict::{failed, judge, timed_out};
use super::{Context, Ended, Place, Settings, Work};
use crate::domain::Json;
use crate::domain::job::{Outcome, RetryHint};
use crate::domain::text::count;
use crate::sys::process::{self, Child, SpawnError};

/// How long a pipe may stay silent after the command has exited before it is closed, and how long
/// it is read at most. Only what a process that was left behind holds open is still open by then;
/// a `tee` on the way out gets its last words in.
const LINGER: Duration = Duration::from_millis(100);
const LINGER_LIMIT: Duration = Duration::from_secs(1);
/// From TERM to KILL for what a command that exited has left behind.
const LEFTOVER_GRACE: Duration = Duration::from_millis(500);

/// A command to run. The form in which it is written, here and in a manifest:
/// `{"run": ["prog", "arg"] | "shell text", "env": {…}, "outputs": …, "dir": …, "shell": …}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Command {
    #[serde(rename = "run")]
    pub program: Program,
    /// Added to what [`KEPT_VARIABLES`](super::KEPT_VARIABLES) give, and stronger; `GOFLOW_…` of
    /// the work itself are stronger still.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// What it reads; the payload, if nothing is said. In records a value is kept as its text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<Json>,
    #[serde(default)]
    pub outputs: Outputs,
    /// Its working folder; the worker's own, if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
    /// What a shell text is given to, as `SHELL -c TEXT`; `/bin/sh`, if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shell: Option<String>,
}

/// What is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// A program and its arguments, as they are. Without a `/` it is looked for in the command's
    /// own PATH.
    Argv(Vec<String>),
    /// A text for a shell. Never holds data: that comes by environment or input.
    Shell(String),
}

impl Command {
    /// A command with everything else at its default.
    pub fn new(program: Program) -> Command {
        Command { program, env: BTreeMap::new(), stdin: None, outputs: Outputs::None, dir: None, shell: None }
    }

    pub(super) fn argv(&self) -> Vec<&str> {
        match &self.program {
            Program::Argv(argv) => argv.iter().map(String::as_str).collect(),
            Program::Shell(text) => vec![self.shell.as_deref().unwrap_or("/bin/sh"), "-c", text],
        }
    }
}

/// Why a command ended.
enum Cut {
    Exited,
    Stopped,
    TimedOut(Duration),
}

pub(super) async fn perform(command: &Command, work: &Work, context: &Context, stop: &CancellationToken) -> Ended {
    let place = match context.place().await {
        Ok(place) => place,
        Err(error) => return temp_failed(&context.settings.temp, &error),
    };
    let file = match OutputFile::create(place.folder.path(), work) {
        Ok(file) => file,
        Err(error) => return temp_failed(place.folder.path(), &error),
    };
    let (mut child, tree) = match start(command, work, context, place, &file).await {
        Ok(started) => started,
        Err(cause) => return Ended::Outcome(spawn_error::explain(command, &cause)),
    };
    let stdin = command.stdin.clone().unwrap_or_else(|| work.payload.clone());
    // On failure the tree is killed as it is dropped.
    let mut pipes = match Pipes::new(&mut child, stdin, work, &*context.settings.sink) {
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

fn processes(number: usize) -> String {
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
fn status(child: Child) -> Option<ExitStatus> {
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
    match command.outputs.collect(stdout, file) {
        Ok(result) => Outcome::Completed { result },
        Err(error) => failed("output", error.to_string(), RetryHint::Never),
    }
}

fn temp_failed(folder: &Path, error: &io::Error) -> Ended {
    let why = format!("no file could be made in {}: {error}; name another folder in TMPDIR", folder.display());
    Ended::Outcome(failed("spawn", why, RetryHint::Policy))
}

/// Starts the command in a tree of its own; without a control group, if it is refused there.
async fn start(
    command: &Command,
    work: &Work,
    context: &Context,
    place: &Place,
    file: &OutputFile,
) -> Result<(Child, Tree), Cause> {
    let environment = environment(command, work, &context.settings.environment, file.path());
    spawn_error::check(command, &environment)?;
    loop {
        let plot = place.grounds.plot();
        let entrance = plot.entrance().map_err(Cause::Start)?;
        let grouped = entrance.is_some();
        let mut mark = b"GOFLOW_OUTPUT=".to_vec();
        mark.extend_from_slice(file.path().as_os_str().as_encoded_bytes());
        let tree = move |leader| plot.tree(leader, mark);
        match process::spawn(prepare(command, &environment), entrance, tree).await {
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
    if let Some(dir) = &command.dir {
        prepared.current_dir(dir);
    }
    prepared
}

/// All that a command finds in its environment. `GOFLOW_RUN_ID` and `GOFLOW_STEP_KEY` are empty for
/// a job outside a run, not absent: a script under `set -u` must serve both.
fn environment(
    command: &Command,
    work: &Work,
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
    set("GOFLOW_OUTPUT", &file);
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

impl Serialize for Program {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Program::Argv(argv) => argv.serialize(to),
            Program::Shell(text) => to.serialize_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for Program {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Program, D::Error> {
        struct Form;
        impl<'de> Visitor<'de> for Form {
            type Value = Program;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of a program and its arguments, or a shell text")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Program, E> {
                Ok(Program::Shell(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Program, A::Error> {
                let argv = Vec::<String>::deserialize(SeqAccessDeserializer::new(list))?;
                match argv.first() {
                    Some(program) if !program.is_empty() => Ok(Program::Argv(argv)),
                    _ => Err(A::Error::custom("`run` names no program")),
                }
            }
        }
        from.deserialize_any(Form)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_reads_as_it_is_written() {
        let text =
            r#"{"run":["a","-rf"],"env":{"X":"1"},"stdin":"{\"a\":1}","outputs":["b"],"dir":"/d","shell":"bash"}"#;
        let command: Command = serde_json::from_str(text).expect("reads");
        assert_eq!(command.program, Program::Argv(vec!["a".into(), "-rf".into()]));
        assert_eq!(command.stdin.as_ref().map(Json::as_str), Some(r#"{"a":1}"#));
        assert_eq!(serde_json::to_string(&command).expect("writes"), text);
        let short: Command = serde_json::from_str(r#"{"run":"echo"}"#).expect("reads");
        assert_eq!(short, Command::new(Program::Shell("echo".into())));
    }

    #[test]
    fn what_is_no_command_is_refused() {
        for text in [r#"{"run":[]}"#, r#"{"run":[""]}"#, r#"{"run":1}"#, "{}", r#"{"run":"x","evn":{}}"#] {
            assert!(serde_json::from_str::<Command>(text).is_err(), "{text}");
        }
    }
}
