//! Ctrl-C and TERM: what ends, with which exit code, and what it says.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::TestEnvironment;

fn signal(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a pid");
    kill_process(pid, signal).expect("it has not been waited for, so the pid is its own");
}

/// Starts a worker and returns once it serves.
fn serving(env: &TestEnvironment) -> (Child, BufReader<std::process::ChildStderr>) {
    let mut worker = env.command(["worker", "-c", "2"]).spawn().expect("it starts");
    let mut stderr = BufReader::new(worker.stderr.take().expect("stderr"));
    let mut line = String::new();
    while !line.contains("serving every queue") {
        line.clear();
        assert!(stderr.read_line(&mut line).expect("stderr") > 0, "it ended before it served");
    }
    (worker, stderr)
}

#[test]
fn a_worker_stops_gently_on_term_and_on_ctrl_c() {
    for (number, exit) in [(Signal::TERM, 0), (Signal::INT, 130)] {
        let env = TestEnvironment::new();
        let (mut worker, mut stderr) = serving(&env);
        // What it serves is known to others, so its signal handlers are in place before its first job.
        let id = env.run("enqueue noop").ok().line().to_owned();
        env.run(&format!("job wait {id} --timeout 30s")).ok();
        signal(&worker, number);
        let status = worker.wait().expect("it ends");
        let (mut said, mut printed) = (String::new(), String::new());
        stderr.read_to_string(&mut said).expect("stderr");
        worker.stdout.take().expect("stdout").read_to_string(&mut printed).expect("stdout");
        assert_eq!(status.code(), Some(exit), "{said}");
        assert!(said.contains("stopping"), "{said}");
        assert_eq!(printed, "completed 1 job\n");
        assert_eq!(env.run("doctor -o json").ok().json()["workers"], 0);
    }
}

#[test]
fn a_bulk_enqueue_that_is_interrupted_tells_what_it_has_stored() {
    let env = TestEnvironment::new();
    let mut child = env.command(["enqueue", "noop", "--text-lines"]).stdin(Stdio::piped()).spawn().expect("it starts");
    let mut stdin = child.stdin.take().expect("standard input");
    stdin.write_all("x\n".repeat(1_500).as_bytes()).expect("it reads");
    stdin.flush().expect("it reads");
    // The pipe stays open, and everything written so far is stored before long.
    let is_stored = || env.run("queue stats -o json").ok().json()[0]["pending"] == 1_500;
    assert!((0..1_000).any(|_| is_stored()), "what was written is not stored while the pipe stays open");
    signal(&child, Signal::INT);
    let output = child.wait_with_output().expect("it ends");
    drop(stdin);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert_eq!(stderr, "error: interrupted; 1,500 jobs had been enqueued before [GF0130]\n");
}

#[test]
fn a_worker_tells_that_a_queue_it_serves_is_paused() {
    let env = TestEnvironment::new();
    env.run("queue set mail --weight 1").ok();
    env.run("queue pause mail").ok();
    let told = env.run("worker --until-empty").ok();
    assert!(told.stderr.contains("queue mail is paused"), "{}", told.text());
    let other = env.run("worker --until-empty -q default").ok();
    assert!(!other.stderr.contains("paused"), "{}", other.text());
}
