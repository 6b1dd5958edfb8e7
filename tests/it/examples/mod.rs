//! The workflows that come with goflow, run as a user would run them, on every store.

mod patterns;
mod programs;
mod services;

use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cli::TestEnvironment;

/// The folder of the examples, or a file in it.
fn workflows(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("workflows").join(file)
}

/// A place with this store; none is the embedded one.
fn place(url: Option<&str>) -> TestEnvironment {
    let mut env = TestEnvironment::new();
    if let Some(url) = url {
        env.set("GOFLOW_STORE", url);
    }
    env
}

/// A process that ends with the test.
struct Running(Child);

impl Running {
    fn start(env: &TestEnvironment, line: &str) -> Running {
        let mut command = env.command(line.split_whitespace());
        Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Asks until there is an answer.
fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what}: not within a minute");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A run as it is now.
fn shown(env: &TestEnvironment, id: &str) -> Value {
    env.run(&format!("workflow show {id} -o json")).ok().json()
}

/// A run's end.
fn ended(env: &TestEnvironment, id: &str) -> Value {
    const ENDS: [&str; 4] = ["completed", "failed", "compensated", "cancelled"];
    until(&format!("the end of run {id}"), || {
        let run = shown(env, id);
        run["state"].as_str().is_some_and(|state| ENDS.contains(&state)).then_some(run)
    })
}

/// What happened to a run: the kind of each event and the path of its step, in order.
fn history(env: &TestEnvironment, id: &str) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let lines = env.run(&format!("workflow history {id} -o jsonl")).ok().stdout;
    let events = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    events.map(|event| (text(&event["type"]), text(&event["step"]))).collect()
}
