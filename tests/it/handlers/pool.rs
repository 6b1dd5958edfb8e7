//! The pool examples as they stand in `examples/`, at a real worker.

use serde_json::json;

use super::{example, job, worked};
use crate::cli::TestEnvironment;

fn is_there(program: &str) -> bool {
    let there = std::process::Command::new(program).arg("--version").output().is_ok();
    if !there {
        // Loud, so that nobody believes it was tried.
        eprintln!("SKIPPED: {program} is not installed (scripts/test installs it)");
    }
    there
}

fn place(kind: &str, pool: &str) -> TestEnvironment {
    let env = TestEnvironment::new();
    env.file("goflow.yaml", format!("handlers:\n  {kind}: {{pool: {pool}, timeout: 30s}}\n"));
    env
}

fn short(name: &str) -> String {
    let path = example(name);
    let lines = std::fs::read_to_string(&path).expect("the example").lines().count();
    assert!(lines < 40, "{name} has {lines} lines");
    path.to_string_lossy().into_owned()
}

#[test]
fn the_python_example_works() {
    let path = short("pool.py");
    if !is_there("python3") {
        return;
    }
    let env = place("resize", &format!("[python3, \"{path}\"]"));
    let good = env.args(["enqueue", "resize", "-d", "{\"sizes\": [100, 200]}"]).ok().line().to_owned();
    let bad = env.args(["enqueue", "resize", "-d", "{}"]).ok().line().to_owned();
    let broken = env.args(["enqueue", "resize", "-d", "{\"sizes\": 7}", "--max-retries", "0"]).ok().line().to_owned();
    let answer = env.run("worker -v --until-empty").ok();
    assert!(answer.stderr.contains("resizing to 200"), "{}", answer.stderr);
    let done = job(&env, &good);
    assert_eq!(
        (&done["state"], &done["result"]),
        (&json!("completed"), &json!({"resized": 2, "attempt": 1})),
        "{done}"
    );
    let dead = job(&env, &bad);
    let told = (&dead["state"], &dead["attempt"], &dead["error"]["message"]);
    assert_eq!(told, (&json!("dead"), &json!(1), &json!("the payload has no `sizes`")), "{dead}");
    assert_eq!(job(&env, &broken)["error"]["class"], "TypeError");
}

#[test]
fn the_node_example_works() {
    let path = short("pool.mjs");
    if !is_there("node") {
        return;
    }
    let env = place("greet", &format!("{{run: [node, \"{path}\"], size: 1, concurrency: 20}}"));
    let names: String = (0..50).map(|nth| format!("{{\"name\": \"{nth}\"}}\n")).collect();
    env.feed("enqueue greet --lines", names).ok();
    let bad = env.args(["enqueue", "greet", "-d", "null"]).ok().line().to_owned();
    let dead = worked(&env, &bad);
    assert_eq!((&dead["state"], &dead["attempt"]), (&json!("dead"), &json!(1)), "{dead}");
    let done = env.run("job list -s completed -n 0 -o json").ok().json();
    let mut texts: Vec<String> = done
        .as_array()
        .expect("a list")
        .iter()
        .map(|job| format!("{} {}", job["payload"]["name"], job["result"]["text"]))
        .collect();
    texts.sort();
    let mut expected: Vec<String> = (0..50).map(|nth| format!("\"{nth}\" \"hello, {nth}\"")).collect();
    expected.sort();
    assert_eq!(texts, expected);
}

#[test]
fn a_worker_that_ends_leaves_no_process_of_its_pool() {
    let env = TestEnvironment::new();
    let nap = format!("600.{}", std::process::id());
    let script =
        r#"while read -r line; do id=${line#*:\"}; id=${id%%\"*}; echo "{\"id\":\"$id\",\"result\":$$}"; done"#;
    env.file("goflow.yaml", format!("handlers:\n  a:\n    pool: |\n      setsid sleep {nap} &\n      {script}\n"));
    let id = env.run("enqueue a").ok().line().to_owned();
    let done = worked(&env, &id);
    assert_eq!(done["state"], "completed", "{done}");
    let lives = |pid: &str| std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty());
    assert!(!lives(&done["result"].to_string()), "the process lives on");
    let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
    let naps = processes.filter(|entry| {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        line == format!("sleep\0{nap}\0").as_bytes()
    });
    assert_eq!(naps.count(), 0, "what it started lives on");
}

#[test]
fn a_pool_that_is_described_wrongly_is_refused_with_its_place() {
    let env = place("x", "{run: [cat, \"${{ payload }}\"], sise: 2}");
    let answer = env.run("worker --until-empty");
    assert_eq!(answer.status, Some(2), "{}", answer.text());
    for part in ["goflow.yaml:2", "handler `x`", "a pool is started before there is a job", "did you mean `size`?"] {
        assert!(answer.stderr.contains(part), "{part}: {}", answer.stderr);
    }
}
