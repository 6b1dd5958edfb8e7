//! Each example but those that need services: its input, how it ends, and what it gives.

use std::fs;

use super::{Running, ended, history, place, shown, until, workflows};
use crate::servers::{postgres::Cluster, redis::Server};

/// File, workflow, input, the state at its end, a JSON pointer into the run, and what is there.
const EXAMPLES: &[(&str, &str, &str, &str, &str, &str)] = &[
    ("hello.yaml", "hello", r#"{"name": "$(id)"}"#, "completed", "/output/greetings/0", r#""Hello, $(id)!""#),
    ("order-saga.yaml", "order-saga", "{}", "completed", "/error", "null"),
    ("order-saga.yaml", "order-saga", r#"{"amount": 12000}"#, "compensated", "/output", "null"),
    (
        "image-verification.yaml",
        "image-verification",
        "{}",
        "completed",
        "/output/users",
        r#"{"ann": {"user": "ann", "verified": true, "created": false},
            "bob": {"user": "bob", "verified": false, "created": true},
            "eve": {"user": "eve", "verified": false, "created": true}}"#,
    ),
    ("daily-report.yaml", "daily-report", "{}", "completed", "/output/text", r#""Sales: 42 orders, 3 refunds""#),
    (
        "batch-over-map.yaml",
        "batch-over-map",
        r#"{"stock": {"pear": 3, "fig": 0}}"#,
        "completed",
        "/output",
        r#"{"orders": {"pear": {"order": 7}, "fig": {"order": 10}}, "keys": 2}"#,
    ),
    ("constructs.yaml", "constructs", r#"{"rounds": 2}"#, "completed", "/output/sum", "3"),
    ("expense-approval.yaml", "expense-approval", r#"{"amount": 90, "who": "ann"}"#, "completed", "/error", "null"),
];

/// Examples that have tests of their own.
const ELSEWHERE: &[&str] = &["order-services.yaml"];

#[test]
fn every_example_is_run_by_a_test() {
    for entry in fs::read_dir(workflows("")).expect("a folder") {
        let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
        let is_run = EXAMPLES.iter().any(|example| example.0 == name) || ELSEWHERE.contains(&&*name);
        assert!(is_run || !name.ends_with(".yaml"), "{name} is run by no test");
    }
}

fn the_examples(url: Option<&str>) {
    let env = place(url);
    for (file, workflow, input, end, pointer, value) in EXAMPLES {
        let path = workflows(file).display().to_string();
        let answer = env.args(["run", &path, "--workflow", workflow, "-i", input, "-o", "json"]);
        let run = answer.json();
        assert_eq!(run["state"], *end, "{file}: {}", answer.text());
        assert_eq!(answer.status, Some(i32::from(*end != "completed")), "{file}");
        let expected: serde_json::Value = serde_json::from_str(value).expect("JSON");
        assert_eq!(run.pointer(pointer), Some(&expected), "{file}: {run:#}");
    }
    people(&env);
}

/// An expense that somebody has to answer: approved, refused, and not by those who may not.
fn people(env: &crate::cli::TestEnvironment) {
    env.args(["apply".into(), workflows("expense-approval.yaml").into_os_string()]).ok();
    let _worker = Running::start(env, "worker -c 4");
    let start = || {
        let input = r#"{"amount": 900, "who": "ann"}"#;
        let id = env.args(["workflow", "start", "expense-approval", "-i", input]).ok().line().to_owned();
        until("somebody is asked", || {
            history(env, &id)
                .iter()
                .any(|(kind, step)| kind == "step.waiting" && step.ends_with("approve"))
                .then_some(())
        });
        id
    };
    let (approved, rejected) = (start(), start());
    env.args(["workflow", "approve", &approved, "--by", "bob", "--by", "group:finance"]).ok();
    assert_eq!(ended(env, &approved)["state"], "completed");
    env.args(["workflow", "approve", &rejected, "--by", "mallory"]);
    assert_eq!(shown(env, &rejected)["state"], "running", "who may not approve has not");
    env.args(["workflow", "reject", &rejected, "--by", "bob", "--by", "group:finance"]).ok();
    assert_eq!(ended(env, &rejected)["state"], "failed");
    let told = history(env, &rejected);
    assert!(told.iter().any(|(kind, step)| kind == "step.completed" && step == "tell"), "finally: {told:#?}");
    assert!(
        !told.iter().any(|(_, step)| step == "pay-out")
            || told.iter().all(|(kind, step)| step != "pay-out" || kind != "step.started")
    );
}

#[test]
fn every_example_runs_on_the_embedded_store() {
    the_examples(None);
}

#[test]
fn every_example_runs_on_redis() {
    the_examples(Some(&Server::start(&[]).url()));
}

#[test]
fn every_example_runs_on_postgres() {
    the_examples(Some(&Cluster::start().url()));
}
