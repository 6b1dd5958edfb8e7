//! The pull API as a worker in another language sees it, and such a worker, killed in the middle.

use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cli::TestEnvironment;
use crate::server::Site;

fn post(site: &Site, path: &str, body: &Value) -> (u16, Value) {
    let reply = site.ask("POST", &format!("/api/v1/{path}"), &[("Content-Type", "application/json")], body.to_string());
    (reply.status, reply.json())
}

#[track_caller]
fn ok(site: &Site, path: &str, body: &Value) -> Value {
    let (status, answer) = post(site, path, body);
    assert_eq!(status, 200, "{path} {body}: {answer}");
    answer
}

#[track_caller]
fn refused(site: &Site, path: &str, body: &Value, status: u16) -> String {
    let (given, answer) = post(site, path, body);
    assert_eq!(given, status, "{path} {body}: {answer}");
    answer["detail"].as_str().expect("a sentence").to_owned()
}

fn shown(env: &TestEnvironment, id: &str) -> Value {
    env.run(&format!("job show {id} -o json")).ok().json()
}

fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what}: not in time");
        std::thread::sleep(Duration::from_millis(30));
    }
}

fn enqueue(env: &TestEnvironment, line: &str) -> String {
    env.run(&format!("enqueue {line}")).ok().line().to_owned()
}

/// A store that both the server and commands beside it use.
fn site() -> Site {
    let mut env = TestEnvironment::new();
    env.set("GOFLOW_STORE", "sqlite:jobs.db");
    Site::of(env, &[])
}

/// Leases one job of the type `t`.
fn lease(site: &Site, worker: Option<&Value>) -> (Value, Value, Value) {
    let mut body = json!({"types": ["t"], "wait_ms": 10_000, "jobs": []});
    if let Some(worker) = worker {
        body["worker"] = worker.clone();
    }
    let mut answer = ok(site, "lease", &body);
    let job = answer["jobs"][0].take();
    assert!(job.is_object(), "{answer}");
    (answer["worker"].take(), json!({"id": job["id"], "epoch": job["epoch"]}), job)
}

fn with(lease: &Value, more: Value) -> Value {
    let mut all = lease.clone();
    for (key, value) in more.as_object().expect("an object") {
        all[key] = value.clone();
    }
    all
}

#[test]
fn a_job_goes_through_the_pull_api_as_through_any_worker() {
    let site = site();
    let id = enqueue(&site.env, "t -d {\"n\":1.50} --meta k=v --timeout 5m");
    let (worker, held, job) = lease(&site, None);
    assert_eq!((&job["id"], &job["attempt"], &job["state"]), (&json!(id), &json!(1), &json!("running")));
    assert_eq!(
        (&job["payload"], &job["metadata"], &job["timeout_ms"]),
        (&json!({"n": 1.5}), &json!({"k": "v"}), &json!(300_000))
    );
    let listed = site.env.run("worker list -o json").ok().json();
    assert_eq!(listed[0]["id"], worker);
    let alive = ok(&site, "heartbeat", &json!({"worker": worker, "jobs": [held]}));
    assert_eq!((&alive["lost"], &alive["cancel"], &alive["drain"]), (&json!([]), &json!([]), &json!(false)));
    ok(&site, "progress", &with(&held, json!({"percent": 40, "message": "on", "log": "line 1\n"})));
    assert_eq!(shown(&site.env, &id)["progress"], json!({"percent": 40.0, "message": "on"}));
    assert!(site.env.run(&format!("job logs {id}")).ok().stdout.contains("line 1"));
    // A failure by the policy, with a delay of its own.
    let failed = with(&held, json!({"outcome": "failed", "error": {"class": "busy", "message": "no"}, "delay_ms": 10}));
    assert_eq!(ok(&site, "settle", &failed)["state"], "retrying");
    assert_eq!(ok(&site, "settle", &failed)["attempt"], 1, "said again, it is answered as before");
    let (_, again, job) = lease(&site, Some(&worker));
    assert_eq!(job["attempt"], 2);
    assert!(again["epoch"].as_u64() > held["epoch"].as_u64());
    // The old lease is worth nothing any more.
    for (path, more) in [("settle", json!({"outcome": "completed"})), ("progress", json!({"percent": 1}))] {
        assert!(refused(&site, path, &with(&held, more), 409).contains("not held any more"));
    }
    let done = with(&again, json!({"outcome": "completed", "result": [1, 2.50]}));
    let settled = ok(&site, "settle", &done);
    assert_eq!((&settled["state"], &settled["result"]), (&json!("completed"), &json!([1, 2.5])));
    assert_eq!(ok(&site, "settle", &done)["state"], "completed");
    // The other ends.
    let end = |more: Value| {
        let id = enqueue(&site.env, "t --max-retries 5");
        let (_, held, _) = lease(&site, Some(&worker));
        assert_eq!(held["id"], json!(id));
        let state = ok(&site, "settle", &with(&held, more))["state"].clone();
        site.env.run(&format!("job cancel {id}")).status.expect("a status");
        state
    };
    assert_eq!(end(json!({"outcome": "failed", "error": "no", "retry": false})), "dead");
    assert_eq!(end(json!({"outcome": "snoozed", "delay_ms": 60_000})), "scheduled");
    assert_eq!(end(json!({"outcome": "released"})), "pending");
    assert_eq!(end(json!({"outcome": "cancelled", "reason": "enough"})), "cancelled");
    // Somebody wants its end; then all are to end.
    let id = enqueue(&site.env, "t");
    let (_, held, _) = lease(&site, Some(&worker));
    site.env.run(&format!("job cancel {id}")).ok();
    let alive = ok(&site, "heartbeat", &json!({"worker": worker, "jobs": [held]}));
    assert_eq!(alive["cancel"], json!([held]));
    ok(&site, "settle", &with(&held, json!({"outcome": "cancelled"})));
    let text = worker.as_str().expect("an id");
    site.env.run(&format!("worker drain {text} --yes")).status.expect("a status");
    assert_eq!(ok(&site, "lease", &json!({"types": ["t"], "worker": worker}))["drain"], true);
    ok(&site, "farewell", &json!({"worker": worker}));
    assert!(refused(&site, "heartbeat", &json!({"worker": worker, "jobs": []}), 404).contains("is not known"));
}

#[test]
fn what_does_not_fit_is_refused_in_one_sentence() {
    let site = site();
    let id = "019c0000-0000-7000-8000-000000000000";
    let long = "x".repeat(70_000);
    for (path, body, status, part) in [
        ("lease", json!({"types": []}), 400, "`types` is empty"),
        ("lease", json!({"types": ["goflow:run"]}), 422, "reserved"),
        ("lease", json!({"types": ["a b"]}), 400, "name"),
        ("lease", json!({"types": ["t"], "max": 65}), 400, "`max`"),
        ("lease", json!({"types": ["t"], "max": 0}), 400, "`max`"),
        ("lease", json!({"types": ["t"], "wait_ms": 30_001}), 400, "`wait_ms`"),
        ("lease", json!({"types": ["t"], "lease_ms": 10}), 400, "`lease_ms`"),
        ("lease", json!({"types": ["t"], "worker": "me"}), 400, "UUID"),
        ("lease", json!({"types": ["t"], "limit": 5}), 400, "limit"),
        ("settle", json!({"id": id, "epoch": 1, "outcome": "completed"}), 404, "no job"),
        ("settle", json!({"id": id, "epoch": 1, "outcome": "perfect"}), 400, "perfect"),
        ("settle", json!({"id": id, "epoch": 1, "outcome": "failed"}), 400, "`error` is missing"),
        ("settle", json!({"id": id, "epoch": 1, "outcome": "released", "result": 1}), 400, "`result`"),
        ("settle", json!({"id": id, "epoch": 1, "outcome": "snoozed"}), 400, "`delay_ms`"),
        ("progress", json!({"id": id, "epoch": 1, "percent": 101}), 400, "`percent`"),
        ("progress", json!({"id": id, "epoch": 1, "percent": 1}), 409, "not held"),
        ("progress", json!({"id": id, "epoch": 1, "log": long}), 413, "`log`"),
    ] {
        let detail = refused(&site, path, &body, status);
        assert!(detail.contains(part), "{path}: {detail}");
    }
    let result = json!({"id": id, "epoch": 1, "outcome": "completed", "result": "x".repeat(300_000)});
    assert!(refused(&site, "settle", &result, 413).contains("`result`"));
}

#[test]
fn a_lease_whose_answer_was_lost_and_a_silent_worker_give_their_jobs_back() {
    let site = site();
    enqueue(&site.env, "t");
    // Leased with a short breath, and never heard of again.
    let answer = ok(&site, "lease", &json!({"types": ["t"], "lease_ms": 1_000}));
    assert_eq!(answer["jobs"].as_array().map(Vec::len), Some(1));
    // No worker of goflow runs: the server keeps house.
    let (_, held, job) = lease(&site, None);
    assert_eq!((&job["attempt"], &job["crashes"]), (&json!(1), &json!(1)));
    ok(&site, "settle", &with(&held, json!({"outcome": "completed"})));
    // A type that nobody here knows is parked, and comes back for the one who does.
    enqueue(&site.env, "other");
    let empty = ok(&site, "lease", &json!({"types": ["t"]}));
    assert_eq!(empty["jobs"], json!([]));
    assert_eq!(site.env.run("queue stats -o json").ok().json()[0]["parked"], 1);
    let other = ok(&site, "lease", &json!({"types": ["other"], "wait_ms": 5_000}));
    assert_eq!(other["jobs"][0]["type"], "other");
}

#[test]
fn steps_of_a_run_are_done_over_http() {
    let site = site();
    site.env.file("w.yaml", "kind: Workflow\nname: w\nsteps:\n  - id: a\n    job: t\n    with: {n: 1}\n  - id: b\n    job: t\n    with: {n: '${{ steps.a.outputs.n }}'}\n    needs: [a]\noutputs:\n  n: ${{ steps.b.outputs.n }}\n");
    site.env.run("apply w.yaml").ok();
    let run = site.env.run("workflow start w").ok().line().to_owned();
    for _ in 0..2 {
        let (_, held, job) = lease(&site, None);
        assert_eq!(job["run_id"], json!(run));
        let n = job["payload"]["n"].as_i64().expect("a number");
        ok(&site, "settle", &with(&held, json!({"outcome": "completed", "result": {"n": n + 1}})));
    }
    let run = until("the end of the run", || {
        let run = site.env.run(&format!("workflow show {run} -o json")).ok().json();
        (run["state"] == "completed").then_some(run)
    });
    assert_eq!(run["output"], json!({"n": 3}));
}

#[test]
fn a_run_that_is_paused_or_cancelled_gives_no_step_over_http() {
    let site = site();
    site.env.file("w.yaml", "name: w\nsteps: [{id: a, job: t}, {id: b, job: t}]");
    site.env.run("apply w.yaml").ok();
    let id = site.env.run("workflow start w").ok().line().to_owned();
    let state = || site.env.run(&format!("workflow show {id} -o json")).ok().json()["state"].clone();
    site.env.run(&format!("workflow pause {id}")).ok();
    let mut asks = json!({"types": ["t"], "wait_ms": 500, "max": 9, "jobs": []});
    let paused = ok(&site, "lease", &asks);
    assert_eq!((&paused["jobs"], state()), (&json!([]), json!("paused")));
    site.env.run(&format!("workflow resume {id}")).ok();
    let worker = &paused["worker"];
    let (_, held, _) = lease(&site, Some(worker));
    site.env.run(&format!("workflow cancel {id}")).ok();
    (asks["worker"], asks["jobs"]) = (worker.clone(), json!([held]));
    let cancelled = ok(&site, "lease", &asks);
    assert_eq!((&cancelled["jobs"], &cancelled["cancel"]), (&json!([]), &json!([held])));
    ok(&site, "settle", &with(&held, json!({"outcome": "cancelled"})));
    until("its end", || (state() == "cancelled").then_some(()));
}

#[test]
fn a_queue_with_a_rate_limit_gives_out_no_faster() {
    let site = site();
    site.env.feed("enqueue t -q slow --lines", "1\n2\n3\n4\n").ok();
    site.env.run("queue set slow --rate-limit 4/s").ok();
    let begun = Instant::now();
    let mut ids = BTreeSet::new();
    for _ in 0..4 {
        let (_, held, job) = lease(&site, None);
        ids.insert(job["id"].as_str().expect("an id").to_owned());
        ok(&site, "settle", &with(&held, json!({"outcome": "completed"})));
    }
    assert_eq!(ids.len(), 4);
    assert!(begun.elapsed() >= Duration::from_millis(700), "{:?}", begun.elapsed());
}

/// The example, as it is documented.
struct Python(Child);

impl Python {
    fn start(site: &Site) -> Python {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/http_worker.py");
        let child = Command::new("python3")
            .arg(file)
            .env("GOFLOW_SERVER", format!("http://{}", site.address))
            .env("LEASE_MS", "2000")
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Python(child.expect("python3 is installed"))
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_python_worker_is_killed_in_the_middle_and_nothing_is_lost() {
    let text =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/http_worker.py")).expect("it is there");
    assert!(text.lines().count() < 60, "it is as short as it is said to be");
    let site = site();
    // After six short ones each holds one that is long enough to be killed in its midst.
    let seconds = |n| if n == 6 || n == 7 { 5.0 } else { 0.2 };
    let line = |n| format!("{{\"text\": \"one two {n}\", \"seconds\": {}}}\n", seconds(n));
    let lines: String = (0..30).map(line).collect();
    site.env.feed("enqueue word_count --lines", lines).ok();
    enqueue(&site.env, "word_count -d {\"text\":5} --max-retries 0");
    let state = |state: &str| {
        let stats = site.env.run("queue stats -o json").ok().json();
        stats[0][state].as_u64().expect("a number")
    };
    let first = Python::start(&site);
    let _second = Python::start(&site);
    until("both to hold a long one", || (state("completed") == 6 && state("running") == 2).then_some(()));
    drop(first);
    until("all to end", || (state("completed") == 30 && state("dead") == 1).then_some(()));
    let jobs = site.env.run("job list -n 0 -o json").ok().json();
    let jobs = jobs.as_array().expect("a list");
    assert_eq!(jobs.len(), 31);
    let done: Vec<&Value> = jobs.iter().filter(|job| job["state"] == "completed").collect();
    assert!(done.iter().all(|job| job["result"]["words"] == 3 && job["progress"]["percent"] == 50.0));
    let dead = jobs.iter().find(|job| job["state"] == "dead").expect("the one that is no text");
    assert_eq!(dead["error"]["class"], "AttributeError");
    let crashes: u64 = jobs.iter().map(|job| job["crashes"].as_u64().expect("a number")).sum();
    assert_eq!(crashes, 1, "the death cost one job one crash, and no retry");
}
