//! Reading along: events, workers, logs, and what they must not tell.

use std::io::{BufRead, BufReader};
use std::process::Child;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::TestEnvironment;

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

fn stop(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a pid");
    kill_process(pid, signal).expect("it has not been waited for, so the pid is its own");
}

#[test]
fn events_tell_what_happened_in_order() {
    let env = TestEnvironment::new();
    let id = env.run("enqueue noop -q mail").ok().line().to_owned();
    env.run("worker --until-empty").ok();
    let told = lines(&env.args(["events", "-n", "0", "-j", "--where", "type:job.*"]).ok().stdout);
    let kinds: Vec<&str> = told.iter().filter_map(|event| event["type"].as_str()).collect();
    assert_eq!(kinds, ["job.created", "job.started", "job.completed"]);
    for event in &told {
        assert_eq!((&event["job_id"], &event["queue"]), (&json!(id), &json!("mail")), "{event}");
        assert!(event["id"].is_string() && event["at"].is_string() && event.get("data").is_some(), "{event}");
    }
    assert!(told[1]["worker"].is_string() && told[2]["attempt"] == 1, "{told:?}");
    // The same facts have the same ids for whoever reads them.
    let array = env.args(["events", "-o", "json", "--where", &format!("job:{}", &id[28..])]).ok().json();
    assert_eq!(array, json!(told));
    let latest = env.run("events -n 1").ok();
    assert_eq!(latest.stdout.lines().count(), 2, "{}", latest.stdout);
    assert!(latest.stdout.contains("worker.stopped"), "{}", latest.stdout);
    assert_eq!(latest.stderr, "only the latest one is listed; -n 0 lists all\n");
}

#[test]
fn following_prints_new_events_as_they_come_until_ctrl_c() {
    let env = TestEnvironment::new();
    let first = env.run("enqueue noop").ok().line().to_owned();
    let mut child = env.command(["events", "-f", "-j", "-n", "1"]).spawn().expect("it starts");
    let mut stdout = BufReader::new(child.stdout.take().expect("stdout"));
    let mut next = || {
        let mut line = String::new();
        assert!(stdout.read_line(&mut line).expect("stdout") > 0, "it ended");
        serde_json::from_str::<Value>(&line).expect("JSON")
    };
    assert_eq!(next()["job_id"], json!(first));
    for _ in 0..3 {
        let id = env.run("enqueue noop").ok().line().to_owned();
        let event = next();
        assert_eq!((&event["type"], &event["job_id"]), (&json!("job.created"), &json!(id)));
    }
    stop(&child, Signal::INT);
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(130), &b""[..]));
}

/// Starts a worker and returns once it serves.
fn serving(env: &TestEnvironment, args: &[&str]) -> (Child, BufReader<std::process::ChildStderr>) {
    let mut worker = env.command([&["worker"][..], args].concat()).spawn().expect("it starts");
    let mut stderr = BufReader::new(worker.stderr.take().expect("stderr"));
    let mut line = String::new();
    while !line.contains("serving ") {
        line.clear();
        assert!(stderr.read_line(&mut line).expect("stderr") > 0, "it ended before it served");
    }
    (worker, stderr)
}

#[test]
fn workers_are_listed_with_what_they_serve() {
    let env = TestEnvironment::new();
    assert_eq!(env.run("worker list -o json").ok().line(), "[]");
    let (mut worker, _stderr) = serving(&env, &["-c", "3", "-q", "mail,reports=2"]);
    // It serves once its first job has been done.
    let id = env.run("enqueue noop -q mail").ok().line().to_owned();
    env.run(&format!("job wait {id} --timeout 30s")).ok();
    let told = env.run("worker list -o json").ok().json();
    let one = &told[0];
    assert_eq!((&one["concurrency"], &one["pid"]), (&json!(3), &json!(worker.id())));
    assert_eq!(one["queues"], json!(["mail", "reports"]));
    assert!(one["types"].as_array().is_some_and(|types| types.contains(&json!("noop"))), "{one}");
    for (filter, n) in [("queue:mail", 1), ("queue:other", 0), ("type:noop running:0", 1), ("!host:*", 0)] {
        let found = env.args(["worker", "list", "-o", "json", "--where", filter]).ok().json();
        assert_eq!(found.as_array().map(Vec::len), Some(n), "{filter}");
    }
    stop(&worker, Signal::TERM);
    worker.wait().expect("it ends");
    assert_eq!(env.run("worker list -o json").ok().line(), "[]");
}

#[test]
fn the_log_is_json_on_request_and_tells_no_secret() {
    let mut env = TestEnvironment::new();
    env.file(
        "goflow.yaml",
        "webhooks: {secret: s3cret-hook}\nllm: {api_key: \"${KEY}\"}\nhandlers:\n  \
         tell: {run: 'echo \"the key is s3cret-key, the hook s3cret-hook\"; exit 1'}\n",
    );
    env.set("KEY", "s3cret-key");
    for format in ["json", "text"] {
        env.run("enqueue tell --max-retries 0").ok();
        let told = env.run(&format!("worker --until-empty -v --log-format {format}")).ok();
        assert!(!told.stderr.contains("s3cret"), "{}", told.stderr);
        assert!(told.stderr.contains("the key is ***, the hook ***"), "{}", told.stderr);
        if format == "json" {
            let all = lines(&told.stderr);
            for line in &all {
                let keys: Vec<&String> = line.as_object().expect("an object").keys().take(3).collect();
                assert_eq!(keys, ["time", "level", "msg"], "{line}");
            }
            let line = all.iter().find(|line| line["type"] == "tell").expect("the job's line");
            assert!(line["time"].is_string() && line["level"] == "info" && line["job_id"].is_string(), "{line}");
        }
    }
    let wrong = env.set("GOFLOW_LOG", "goflow=loud").run("worker --until-empty");
    assert_eq!(wrong.status, Some(2), "{}", wrong.text());
    assert!(wrong.stderr.contains("GOFLOW_LOG") && wrong.stderr.contains("GF0003"), "{}", wrong.stderr);
    env.set("GOFLOW_LOG", "off");
    env.run("enqueue tell --max-retries 0").ok();
    assert!(!env.run("worker --until-empty").ok().stderr.contains("WARN"));
}

#[test]
fn queues_are_listed_by_what_is_in_them() {
    let env = TestEnvironment::new();
    env.feed("enqueue noop -q mail --text-lines", "a\nb\nc\n").ok();
    env.run("queue set other --weight 1").ok();
    env.run("queue pause other").ok();
    for (filter, names) in [
        ("pending>2", vec!["mail"]),
        ("paused:yes", vec!["other"]),
        ("paused:no oldest<1h", vec!["mail"]),
        ("!name:m*", vec!["other"]),
        ("dead>0", vec![]),
    ] {
        let found = env.args(["queue", "list", "-o", "name", "--where", filter]).ok();
        assert_eq!(found.stdout.lines().collect::<Vec<_>>(), names, "{filter}");
    }
    for n in 0..25 {
        env.run(&format!("queue set q{n} --weight 1")).ok();
    }
    let cut = env.run("queue list -o json").ok();
    assert_eq!(cut.json().as_array().map(Vec::len), Some(20));
    assert!(cut.stderr.contains("-n 0 lists all"), "{}", cut.stderr);
    assert_eq!(env.run("queue list -n 0 -o name").ok().stdout.lines().count(), 27);
}

#[test]
fn what_runs_is_asked_to_end_and_a_worker_is_told_to_drain() {
    let env = TestEnvironment::new();
    env.file("goflow.yaml", "handlers: {long: {run: [sleep, \"600\"]}}\n");
    let (mut worker, _stderr) = serving(&env, &["--shutdown-timeout", "0s"]);
    let id = env.run("enqueue long --max-retries 0").ok().line().to_owned();
    let runs = || env.run(&format!("job show {id} -o json")).ok().json()["state"] == "running";
    assert!((0..1_000).any(|_| runs()), "it never ran");
    let would = env.run(&format!("job cancel {id} --dry-run")).ok();
    assert_eq!(would.line(), "would ask 1 running job to end");
    let told = env.run(&format!("job cancel {id} -o json")).ok().json();
    assert_eq!((&told["asked"], &told["cancelled"]), (&json!([id]), &json!([])));
    let again = env.run(&format!("job cancel {id}"));
    assert_eq!(again.status, Some(4), "{}", again.text());
    assert!(
        ["asked to end before", "cancelled already"].iter().any(|part| again.stderr.contains(part)),
        "{}",
        again.stderr
    );
    let refused = env.run("worker drain --all");
    assert!(refused.status == Some(2) && refused.stderr.contains("drain 1 worker?"), "{}", refused.text());
    let short = env.run("worker list -o name").ok().line()[28..].to_owned();
    assert_eq!(env.run(&format!("worker drain {short} --dry-run")).ok().line(), "would drain 1 worker");
    assert_eq!(env.run(&format!("worker drain {short}")).ok().line(), "told 1 worker to drain");
    // It may have gone by now.
    let left = env.run("worker list -o json").ok().json();
    assert!(left.as_array().is_some_and(|all| all.iter().all(|one| one["draining"] == true)), "{left}");
    stop(&worker, Signal::TERM);
    worker.wait().expect("it ends");
}

#[test]
fn a_queue_is_set_and_taken_back() {
    let env = TestEnvironment::new();
    let set = env.run("queue set mail --concurrency 3 --rate-limit 100/s --retention 7d,50 --weight 2").ok();
    let text = "weight 2, rate limit 100/s, at most 3 at once, keeps finished jobs for 7d, at most 50";
    assert_eq!(set.line(), format!("set mail: {text}"));
    let again = env.run("queue set mail --concurrency 3").ok();
    assert_eq!(again.line(), format!("mail was set so already: {text}"));
    let shown = env.run("queue list -o json").ok().json();
    assert_eq!((&shown[0]["concurrency"], &shown[0]["rate_limit"]), (&json!(3), &json!("100/s")));
    assert_eq!((&shown[0]["retention_ms"], &shown[0]["retention_count"]), (&json!(604_800_000), &json!(50)));
    // Pausing leaves what is set, and the other way round.
    env.run("queue pause mail").ok();
    let back = env.run("queue set mail --concurrency none --rate-limit none --weight none --retention none -o json");
    let back = back.ok().json();
    assert_eq!(
        (&back["concurrency"], &back["rate_limit"], &back["paused"]),
        (&Value::Null, &Value::Null, &json!(true))
    );
    let events = env.args(["events", "-n", "0", "-j", "--where", "type:queue.set"]).ok();
    assert_eq!(events.stdout.lines().count(), 2, "{}", events.stdout);
}
