//! Where a torture takes place: a hermetic folder with a configuration, a store, and processes that
//! are killed when the test ends.

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::witness::Witness;
use crate::cli::TestEnvironment;
use crate::servers::{postgres::Cluster, redis::Server};

/// The store of a site.
pub enum Ground {
    Sqlite,
    Redis(Server),
    Postgres(Cluster),
    /// A store of this URL, whose servers somebody else looks after.
    At(String),
}

pub struct Site {
    pub env: TestEnvironment,
    pub ground: Ground,
    pub url: String,
}

/// A handler that tells the witness when it begins and ends, and takes a tenth of a second.
const WORK: &str = r#"#!/bin/sh
echo "start $GOFLOW_JOB_ID $GOFLOW_EPOCH $GOFLOW_ATTEMPT" >> witness
sleep "${TAKES:-0.1}"
echo "end $GOFLOW_JOB_ID $GOFLOW_EPOCH $GOFLOW_ATTEMPT" >> witness
echo "$GOFLOW_EPOCH"
"#;

const CONFIG: &str = r#"
worker: {concurrency: 10, lease: LEASE}
handlers:
  work: {run: [sh, ./work.sh], outputs: text}
  slow: {run: [sh, ./work.sh], outputs: text, env: {TAKES: "1.5"}}
  # Kills its worker, once it has told the witness.
  poison: {run: [sh, -c, 'sh ./work.sh; kill -9 $PPID']}
  endless: {run: [sh, ./work.sh], outputs: text, env: {TAKES: "600"}}
"#;

impl Site {
    pub fn sqlite() -> Site {
        Site::on(Ground::Sqlite, "15s")
    }

    pub fn redis() -> Site {
        Site::on(Ground::Redis(Server::start(&[])), "15s")
    }

    pub fn postgres() -> Site {
        Site::on(Ground::Postgres(Cluster::with(&[])), "15s")
    }

    pub fn on(ground: Ground, lease: &str) -> Site {
        let mut env = TestEnvironment::new();
        let url = match &ground {
            Ground::Sqlite => format!("sqlite:{}", env.path().join("goflow.db").display()),
            Ground::Redis(server) => server.url(),
            Ground::Postgres(cluster) => cluster.url(),
            Ground::At(url) => url.clone(),
        };
        env.set("GOFLOW_STORE", &url);
        env.file("goflow.yaml", CONFIG.replace("LEASE", lease));
        env.file("work.sh", WORK);
        env.file("witness", "");
        Site { env, ground, url }
    }

    /// Starts a process of goflow whose talk goes to a log file of that name.
    pub fn start(&self, name: &str, line: &str) -> Process {
        self.start_with(name, line, None)
    }

    /// The same, with a variable of its own.
    pub fn start_with(&self, name: &str, line: &str, variable: Option<(&str, &str)>) -> Process {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.env.path().join(format!("{name}.log")))
            .expect("a log file");
        let mut command: Command = self.env.command(line.split_whitespace());
        command.envs(variable);
        let out = log.try_clone().expect("a log file");
        let child = command.stdout(out).stderr(log).stdin(Stdio::null()).spawn().expect("goflow starts");
        Process { child }
    }

    pub fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.env.path().join(format!("{name}.log"))).unwrap_or_default()
    }

    pub fn witness(&self) -> Witness {
        Witness::read(&self.env.path().join("witness"))
    }

    /// Enqueues so many jobs of a type, and gives their ids.
    pub fn enqueue(&self, kind: &str, count: usize) {
        let lines: String = (0..count).map(|n| format!("{n}\n")).collect();
        self.env.feed(&format!("enqueue {kind} --lines"), lines).ok();
    }

    pub fn jobs(&self) -> Vec<Value> {
        match self.env.run("job list -n 0 -o json").ok().json() {
            Value::Array(jobs) => jobs,
            other => panic!("not a list: {other}"),
        }
    }

    /// The counters of the default queue.
    pub fn stats(&self) -> Value {
        let all = self.env.run("queue stats -o json").ok().json();
        all.as_array().and_then(|queues| queues.first()).cloned().unwrap_or(Value::Null)
    }

    /// Waits until a condition holds, at most so long.
    #[track_caller]
    pub fn wait(&self, what: &str, limit: Duration, mut holds: impl FnMut() -> bool) -> Duration {
        let begun = Instant::now();
        while !holds() {
            assert!(begun.elapsed() < limit, "{what}: not within {limit:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
        begun.elapsed()
    }

    /// Nothing waits, runs or is due.
    pub fn is_drained(&self) -> bool {
        let answer = self.env.run("queue stats -o json");
        if answer.status != Some(0) {
            return false;
        }
        let busy = |queue: &Value| {
            ["scheduled", "pending", "running", "retrying"].iter().any(|state| queue[state].as_u64() != Some(0))
        };
        answer.json().as_array().is_some_and(|queues| !queues.iter().any(busy))
    }

    /// What the store says of itself is true.
    pub fn verify(&self) {
        self.env.run("doctor --verify -o json").ok();
    }
}

/// A process of goflow, killed when it is dropped.
pub struct Process {
    child: Child,
}

impl Process {
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn kill(mut self) {
        self.child.kill().expect("a signal");
        self.child.wait().expect("the process ends");
    }

    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a pid");
        kill_process(pid, signal).expect("it has not been waited for, so the pid is its own");
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a status").is_some()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
