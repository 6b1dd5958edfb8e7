//! What a handler's author and an operator rely on, tried with real processes. Each test that ends
//! a tree is tried both ways of keeping trees together.

mod builtins;
mod commands;
mod pool;
mod sudden_death;
mod trees;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::domain::Shard;
use crate::domain::job::{JobError, RetryHint};
use crate::domain::time::Ms;
use crate::workflow::{Command, Outputs, Program};

/// Longer than anything here takes, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Memory {
    streams: Mutex<BTreeMap<Stream, Vec<u8>>>,
    captured: Mutex<BTreeMap<Stream, Captured>>,
    notes: Mutex<Vec<String>>,
}

impl LogSink for Memory {
    fn chunk(&self, _work: &Work, stream: Stream, bytes: &[u8]) {
        self.streams.lock().expect("lock").entry(stream).or_default().extend_from_slice(bytes);
    }

    fn captured(&self, _work: &Work, stream: Stream, output: &Captured) {
        self.captured.lock().expect("lock").insert(stream, output.clone());
    }

    fn note(&self, _work: &Work, text: &str) {
        self.notes.lock().expect("lock").push(text.to_owned());
    }
}

impl Memory {
    fn stream(&self, stream: Stream) -> Vec<u8> {
        self.streams.lock().expect("lock").get(&stream).cloned().unwrap_or_default()
    }
}

/// A worker with a temp folder and a memory of what was printed.
struct Bench {
    context: Arc<Context>,
    sink: Arc<Memory>,
    stop: CancellationToken,
    temp: TempDir,
}

impl Bench {
    fn new(containment: Containment) -> Bench {
        Bench::with(containment, Parentage::Shared, Duration::from_secs(5))
    }

    fn with(containment: Containment, parentage: Parentage, grace: Duration) -> Bench {
        let temp = tempfile::tempdir().expect("temp folder");
        let sink = Arc::new(Memory::default());
        let settings = Settings { grace, parentage, ..settings(containment, temp.path(), sink.clone()) };
        Bench { context: Arc::new(Context::new(settings)), sink, stop: CancellationToken::new(), temp }
    }

    async fn run(&self, command: Command, work: Work) -> Ended {
        let action = Action::Command(command);
        let ended = perform(&action, &work, &self.context, &self.stop);
        tokio::time::timeout(PATIENCE, ended).await.expect("ends in time")
    }

    /// Starts without waiting for the end.
    fn start(&self, command: Command, work: Work) -> tokio::task::JoinHandle<Ended> {
        let (context, stop) = (self.context.clone(), self.stop.clone());
        tokio::spawn(async move { perform(&Action::Command(command), &work, &context, &stop).await })
    }

    async fn result(&self, command: Command, work: Work) -> serde_json::Value {
        match self.run(command, work).await {
            Ended::Outcome(Outcome::Completed { result: Some(json) }) => json.to_value(),
            other => panic!("{other:?}"),
        }
    }

    async fn failure(&self, command: Command, work: Work) -> (JobError, RetryHint) {
        match self.run(command, work).await {
            Ended::Outcome(Outcome::Failed { error, retry }) => (error, retry),
            other => panic!("{other:?}"),
        }
    }
}

fn settings(containment: Containment, temp: &std::path::Path, sink: Arc<dyn LogSink>) -> Settings {
    let environment = [("PATH", "/usr/local/bin:/usr/bin:/bin"), ("HOME", "/nowhere"), ("SECRET", "hunter2")];
    Settings {
        environment: environment.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
        grace: Duration::from_secs(5),
        temp: temp.to_owned(),
        sink,
        containment,
        parentage: Parentage::Shared,
        clock: Arc::new(crate::sys::clock::SystemClock),
        processors: 2,
        secrets: Arc::default(),
    }
}

pub(super) fn work(payload: &str) -> Work {
    Work {
        job: JobId::from_parts(Ms(1_700_000_000_000), Shard(0), 7),
        kind: "send_email".parse().expect("a name"),
        queue: "mail".parse().expect("a name"),
        attempt: 2,
        epoch: Epoch(41),
        run: None,
        step_key: None,
        undo: false,
        payload: Json::parse(payload, 2 << 20).expect("json"),
        timeout: None,
        secrets: Arc::default(),
        notes: Arc::new(NoNotes),
        trace: None,
    }
}

fn sh(script: &str) -> Command {
    Command::new(Program::Shell(script.to_owned()))
}

fn argv<const N: usize>(argv: [&str; N]) -> Command {
    Command::new(Program::Argv(argv.map(str::to_owned).to_vec()))
}

fn text(command: Command) -> Command {
    Command { outputs: Some(Outputs::Text), ..command }
}

/// An argument for `sleep` that no other test uses, so that its processes can be told.
fn long_nap() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("600.{}{:04}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The living processes that `sleep` for that long.
fn sleepers(nap: &str) -> Vec<i32> {
    let cmdline = format!("sleep\0{nap}\0");
    let all = crate::sys::procfs::all().expect("/proc");
    let sleeps = |pid: i32| std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line == cmdline.as_bytes());
    all.iter().map(|process| process.pid).filter(|pid| sleeps(*pid)).collect()
}

/// Waits for what other processes do; fails if it never happens.
pub(super) async fn until(what: &str, mut happened: impl FnMut() -> bool) {
    let wait = async {
        while !happened() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}
