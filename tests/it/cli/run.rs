//! `goflow run`: to the end, in one command, with the exit code and the object that scripts rely on.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::TestEnvironment;

fn saga() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("workflows/order-saga.yaml");
    path.to_string_lossy().into_owned()
}

fn states(run: &serde_json::Value) -> Vec<(&str, &str)> {
    let steps = run["steps"].as_array().expect("steps");
    steps.iter().map(|step| (step["id"].as_str().expect("an id"), step["state"].as_str().expect("a state"))).collect()
}

#[test]
fn a_saga_completes_and_the_run_alone_is_on_stdout() {
    let env = TestEnvironment::new();
    let answer = env.args(["run", &saga(), "-o", "json"]).ok();
    let run = answer.json();
    assert_eq!((&run["workflow"], &run["state"]), (&"order-saga".into(), &"completed".into()));
    let states = states(&run);
    assert!(states.len() >= 4 && states.iter().all(|(_, state)| *state == "completed"), "{states:?}");
    let keys: Vec<&str> = run.as_object().expect("an object").keys().map(String::as_str).collect();
    let contract = "id workflow version state input output error parent_id created_at started_at finished_at steps";
    assert_eq!(keys.join(" "), contract);
    let keys: Vec<&str> = run["steps"][0].as_object().expect("an object").keys().map(String::as_str).collect();
    let contract = "id path item state attempt output error job_id started_at finished_at";
    assert_eq!(keys.join(" "), contract);
    assert_eq!(env.run("doctor --verify -o json").ok().json()["differences"], serde_json::json!([]));
}

#[test]
fn a_refused_payment_is_undone_and_told() {
    let env = TestEnvironment::new();
    let answer = env.args(["run", &saga(), "-i", "{\"amount\": 12000}"]);
    assert_eq!(answer.status, Some(1), "{}", answer.text());
    assert!(answer.stdout.contains("state     compensated"), "{}", answer.text());
    let told: Vec<&str> = answer.stderr.lines().filter(|line| line.starts_with("step create-order")).collect();
    let told_of = |what: &str| told.iter().position(|line| line.ends_with(what));
    // Every event, in its order, however quickly they followed each other.
    assert!(told_of("completed") < told_of("compensated") && told_of("completed").is_some(), "{}", answer.stderr);
    let last = answer.stderr.lines().last().unwrap_or_default();
    assert!(last.starts_with("error: run ") && last.ends_with("[GF0026]"), "{}", answer.stderr);
    // A step that died with its run is not retried alone.
    let dead = env.run("dlq list -o name").ok();
    let id = dead.stdout.lines().next().expect("the payment's job is dead").to_owned();
    let refused = env.run(&format!("dlq retry {id}"));
    assert_eq!(refused.status, Some(4), "{}", refused.text());
    assert!(refused.stderr.contains("does step `pay` of run") && refused.stderr.contains("[GF0022]"));
    assert_eq!(env.run("dlq retry --yes").ok().line(), "retried 0 jobs; 1 does a step of a run and was left to it");
}

#[test]
fn an_input_that_does_not_fit_starts_nothing() {
    let env = TestEnvironment::new();
    let answer = env.args(["run", &saga(), "-i", "{\"amount\": \"much\"}"]);
    assert_eq!(answer.status, Some(2), "{}", answer.text());
    assert!(answer.stderr.contains("amount") && answer.stderr.contains("[GF0027]"), "{}", answer.stderr);
    assert_eq!(env.run("job list -o json").ok().line(), "[]");
}

#[test]
fn a_finished_run_can_be_looked_at_again_by_a_part_of_its_id() {
    let env = TestEnvironment::new();
    env.file("w.yaml", "name: w\nsteps:\n  - {id: a, job: echo, with: {n: 1}, outputs: json}\n");
    let run = env.run("run w.yaml -o json").ok().json();
    let id = run["id"].as_str().expect("an id");
    let again = env.run(&format!("run --id {} -o json", &id[28..])).ok().json();
    assert_eq!(states(&again), [("a", "completed")]);
    assert_eq!(again["id"], run["id"]);
    assert_eq!(env.run("run --id 00000000-0000-7000-8000-000000000000").status, Some(3));
}

#[test]
fn bench_measures_a_store_of_its_own() {
    let env = TestEnvironment::new();
    let jobs = env.run("bench jobs -n 500 -c 4 -o json").ok().json();
    assert!(jobs["drain_per_second"].as_f64().is_some_and(|rate| rate > 0.0), "{jobs}");
    assert!(jobs["pickup_p99_ms"].as_f64() >= jobs["pickup_p50_ms"].as_f64(), "{jobs}");
    assert!(jobs["durability"].as_str().is_some_and(|text| !text.is_empty()), "{jobs}");
    let runs = env.run("bench workflows -n 20 -o json").ok().json();
    assert!(runs["drain_per_second"].as_f64().is_some_and(|rate| rate > 0.0), "{runs}");
    assert!(runs["run_p50_ms"].as_f64().is_some_and(|time| time > 0.0), "{runs}");
    let left: Vec<_> = std::fs::read_dir(env.path()).expect("the folder").collect();
    assert!(left.is_empty(), "{left:?}");
    let named = env.run("bench jobs -n 10 --store sqlite:named.db").ok();
    assert!(named.stdout.contains("/named.db"), "{}", named.stdout);
}

/// Runs it until it has said all of this, and then stops it as `ctrl-c` does that is pressed twice.
fn says(env: &TestEnvironment, line: &str, all: &[&str]) {
    let told = env.path().join("told");
    let out = File::create(&told).expect("a file");
    let mut command = env.command(line.split_whitespace());
    let mut child = command.stdout(Stdio::null()).stderr(out).stdin(Stdio::null()).spawn().expect("goflow starts");
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let text = std::fs::read_to_string(&told).unwrap_or_default();
        if all.iter().all(|one| text.contains(one)) {
            break;
        }
        assert!(
            Instant::now() < until && child.try_wait().expect("its state").is_none(),
            "{all:?} was not said:\n{text}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    for _ in 0..2 {
        kill_process(Pid::from_child(&child), Signal::INT).expect("it lives");
        std::thread::sleep(Duration::from_millis(300));
    }
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
}

#[test]
fn what_holds_a_run_up_is_said_while_it_stands_still() {
    let env = TestEnvironment::new();
    let file =
        env.file("one.yaml", "name: one\nconcurrency: {key: k, on_conflict: queue}\nsteps: [{id: a, job: noop}]\n");
    env.args(["apply".as_ref(), file.as_os_str()]).ok();
    let first = env.run("workflow start one").ok().line().to_owned();
    let why = format!(
        "it waits for its turn: run {} is under way with the key `one/k`, and its step `a` waits in the queue `default`, \
         which no worker serves",
        &first[first.len() - 8..]
    );
    says(&env, "run one.yaml", &[&why]);
    let waiting = env.run("workflow list -o json --where state:pending").ok().json();
    let second = waiting[0]["id"].as_str().expect("it waits").to_owned();
    let shown = env.run(&format!("workflow show {second}")).ok().stdout;
    assert!(shown.contains(&format!("held up   {why}\n")), "{shown}");
    env.run(&format!("workflow pause {first}")).ok();
    let shown = env.run(&format!("workflow show {first}")).ok().stdout;
    assert!(shown.contains("held up   it is paused: `goflow workflow resume "), "{shown}");
    // A type that nobody handles, and a run that is cut and whose queue was its own.
    env.file("two.yaml", "name: two\nsteps: [{id: a, job: nobody-does}]\n");
    says(&env, "run two.yaml", &["its step `a` waits for a worker that handles the type `nobody-does`"]);
    env.file("three.yaml", "name: three\nsteps: [{id: a, run: [sleep, 600]}]\n");
    says(&env, "run three.yaml", &["step a started"]);
    let cut =
        env.run("workflow list -o json --where workflow:three").ok().json()[0]["id"].as_str().expect("it").to_owned();
    let shown = env.run(&format!("workflow show {cut}")).ok().stdout;
    assert!(shown.contains("which no worker serves: `goflow run --id "), "{shown}");
}

#[test]
fn standard_input_is_read_once() {
    let env = TestEnvironment::new();
    let both = env.feed("run - -i -", "name: one\nsteps: [{id: a, job: noop}]\n");
    assert_eq!(both.status, Some(2), "{}", both.text());
    assert!(both.stderr.contains("both to be read from standard input"), "{}", both.text());
}

#[test]
fn who_is_refused_because_of_a_key_is_told_who_has_it() {
    let env = TestEnvironment::new();
    env.file("one.yaml", "name: one\nconcurrency: {key: k, on_conflict: reject}\nsteps: [{id: a, job: noop}]\n");
    env.run("apply one.yaml").ok();
    let first = env.run("workflow start one").ok().line().to_owned();
    let refused = env.run("workflow start one");
    assert_eq!(refused.status, Some(4), "{}", refused.text());
    assert!(
        refused.stderr.contains(&format!("with the key `k`: {} [GF0022]", &first[first.len() - 8..])),
        "{}",
        refused.text()
    );
}
