//! The API, version 1: each verb once, and what it changed as the commands see it.

use serde_json::json;

use super::Site;
use crate::cli::TestEnvironment;

const NOBODY: &str = "019c0000-0000-7000-8000-000000000000";

fn id(value: &serde_json::Value) -> String {
    value["id"].as_str().expect("an id").to_owned()
}

#[test]
fn a_job_is_added_seen_changed_and_ended() {
    super::on_sqlite_and_redis(one_job);
}

fn one_job(env: TestEnvironment) {
    let site = Site::of(env, &[]);
    let wanted =
        json!({"type": "echo", "payload": {"a": 1}, "priority": 5, "delay_ms": 3_600_000, "metadata": {"k": "v"}});
    let job = site.post("/api/v1/jobs", &wanted).expect(201);
    let id = id(&job);
    assert_eq!((&job["state"], &job["priority"], &job["queue"]), (&json!("scheduled"), &json!(5), &json!("default")));
    assert_eq!(site.get(&format!("/api/v1/jobs/{id}")).expect(200), job);
    assert_eq!(site.env.run(&format!("job show {id} -o json")).ok().json(), job);
    let change = site.ask("PATCH", &format!("/api/v1/jobs/{id}"), &[], r#"{"payload": [1.50], "priority": -3}"#);
    let changed = change.expect(200);
    assert_eq!((&changed["payload"], &changed["priority"]), (&json!([1.5]), &json!(-3)));
    assert_eq!(changed["metadata"], json!({"k": "v"}), "what is left out stays");
    let cancelled = site.ask("POST", &format!("/api/v1/jobs/{id}/cancel"), &[], "").expect(200);
    assert_eq!(cancelled["state"], "cancelled");
    assert_eq!(site.ask("POST", &format!("/api/v1/jobs/{id}/cancel"), &[], "").expect(409)["code"], "GF0022");
    assert_eq!(site.ask("POST", &format!("/api/v1/jobs/{id}/retry"), &[], "").expect(200)["state"], "pending");
    assert_eq!(site.get(&format!("/api/v1/jobs/{id}/wait?timeout_ms=0")).expect(202)["state"], "pending");
    site.work();
    let done = site.get(&format!("/api/v1/jobs/{id}/wait")).expect(200);
    assert_eq!((&done["state"], &done["result"]), (&json!("completed"), &json!([1.5])));
    assert_eq!(site.get(&format!("/api/v1/jobs/{id}/progress")).expect(200), json!({"progress": null}));
    assert_eq!(site.get(&format!("/api/v1/jobs/{id}/logs")).expect(200), json!({"items": [], "truncated": false}));
    assert_eq!(site.ask("DELETE", &format!("/api/v1/jobs/{id}"), &[], "").status, 204);
    assert_eq!(site.get(&format!("/api/v1/jobs/{id}")).expect(404)["code"], "GF0012");
}

#[test]
fn many_jobs_are_added_listed_by_pages_and_moved_by_a_filter() {
    super::on_sqlite_and_redis(many_jobs);
}

fn many_jobs(env: TestEnvironment) {
    let site = Site::of(env, &[]);
    let jobs: Vec<_> = (0..25).map(|n| json!({"type": "fail", "payload": {"retry": false, "n": n}})).collect();
    let added = site.post("/api/v1/jobs/batch", &json!({"jobs": jobs})).expect(201);
    assert_eq!(added["items"].as_array().map(Vec::len), Some(25));
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let page = site.get(&format!("/api/v1/jobs?limit=10{after}")).expect(200);
        seen.extend(page["items"].as_array().expect("a list").iter().map(id));
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    let wanted: Vec<String> = added["items"].as_array().expect("a list").iter().map(id).collect();
    assert_eq!(seen, wanted, "each once, in the order of the line");
    assert_eq!(site.get("/api/v1/jobs?where=state:dead").expect(200)["items"], json!([]));
    site.work();
    assert_eq!(site.get("/api/v1/dlq?limit=1000").expect(200)["items"].as_array().map(Vec::len), Some(25));
    let refused = site.post("/api/v1/dlq/retry", &json!({})).expect(400);
    assert_eq!(refused["code"], "GF0018", "nothing said is not everything");
    let dry = site.post("/api/v1/dlq/retry", &json!({"where": "", "dry_run": true})).expect(200);
    assert_eq!(dry["done"].as_array().map(Vec::len), Some(25));
    let one = site.post("/api/v1/dlq/retry", &json!({"ids": [wanted[0]]})).expect(200);
    assert_eq!(one["done"], json!([wanted[0]]));
    let purged = site.post("/api/v1/dlq/purge", &json!({"where": ""})).expect(200);
    assert_eq!(purged["done"].as_array().map(Vec::len), Some(24));
    let stats = site.get("/api/v1/stats").expect(200);
    assert_eq!((&stats["pending"], &stats["dead"]), (&json!(1), &json!(0)));
}

#[test]
fn queues_are_set_paused_and_emptied() {
    super::on_sqlite_and_redis(queues);
}

fn queues(env: TestEnvironment) {
    let site = Site::of(env, &[]);
    let set = site.ask("PATCH", "/api/v1/queues/mail", &[], r#"{"concurrency": 3, "rate_limit": "5/s"}"#).expect(200);
    assert_eq!((&set["concurrency"], &set["rate_limit"]), (&json!(3), &json!("5/s")));
    let set = site.ask("PATCH", "/api/v1/queues/mail", &[], r#"{"clear": ["concurrency"]}"#).expect(200);
    assert_eq!((&set["concurrency"], &set["rate_limit"]), (&json!(null), &json!("5/s")));
    assert_eq!(site.post("/api/v1/queues/mail/pause", &json!({})).expect(200), json!({"changed": true}));
    assert_eq!(site.env.run("queue list -o json").ok().json()[0]["paused"], true);
    assert_eq!(site.post("/api/v1/queues/mail/resume", &json!({})).expect(200), json!({"changed": true}));
    site.post("/api/v1/jobs", &json!({"type": "noop", "queue": "mail"})).expect(201);
    site.post("/api/v1/jobs", &json!({"type": "noop", "queue": "other"})).expect(201);
    let purged = site.post("/api/v1/queues/mail/purge", &json!({"where": ""})).expect(200);
    assert_eq!(purged["done"].as_array().map(Vec::len), Some(1));
    assert_eq!(site.get("/api/v1/queues/other").expect(200)["pending"], 1);
    assert_eq!(site.post("/api/v1/queues/nobody/purge", &json!({"where": ""})).status, 404);
}

const ASK: &str = "kind: Workflow\nname: ask\nsteps:\n  - {id: leave, approval: {}}\n  \
                   - {id: go, needs: [leave], wait: go}\n";

#[test]
fn workflows_are_applied_started_and_steered() {
    super::on_sqlite_and_redis(workflows);
}

fn workflows(env: TestEnvironment) {
    let site = Site::up(env, &[]);
    let dry = site.ask("POST", "/api/v1/apply?dry_run=true", &[], ASK).expect(200);
    assert_eq!(dry["items"][0]["change"], "created");
    assert_eq!(site.get("/api/v1/definitions/workflow").expect(200)["items"], json!([]));
    site.ask("POST", "/api/v1/apply", &[], ASK).expect(200);
    assert_eq!(site.get("/api/v1/definitions/workflows/ask").expect(200)["manifest"]["name"], "ask");
    let wrong = site.ask("POST", "/api/v1/apply", &[], "kind: Workflow\nname: x\nsteps: 5\n").expect(422);
    assert!(
        wrong["code"] == "GF0021" && wrong["detail"].as_str().is_some_and(|why| why.contains("body:3:8")),
        "{wrong}"
    );
    let run = id(&site.post("/api/v1/workflows/ask/start", &json!({})).expect(201));
    let at = |verb: &str| format!("/api/v1/runs/{run}/{verb}");
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while site.ask("POST", &at("approve"), &[], "").status != 202 {
        assert!(std::time::Instant::now() < end, "{}", site.get(&format!("/api/v1/runs/{run}")).text());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    site.post(&at("signal"), &json!({"name": "go", "data": 5})).expect(202);
    let done = site.get(&at("wait?timeout_ms=30000")).expect(200);
    assert_eq!(done["state"], "completed", "{done:#}");
    assert!(site.get(&at("history")).expect(200)["items"].as_array().is_some_and(|events| events.len() > 3));
    assert_eq!(site.post(&at("pause"), &json!({})).expect(409)["code"], "GF0022");
    let other = id(&site.post("/api/v1/workflows/ask/start", &json!({})).expect(201));
    site.post(&format!("/api/v1/runs/{other}/cancel"), &json!({"compensate": false})).expect(202);
    assert_eq!(site.get(&format!("/api/v1/runs/{other}/wait?timeout_ms=30000")).expect(200)["state"], "cancelled");
    let listed = site.get("/api/v1/runs?state=completed&workflow=ask").expect(200);
    assert_eq!(listed["items"].as_array().map(|runs| runs.iter().map(id).collect::<Vec<_>>()), Some(vec![run]));
    assert_eq!(site.ask("DELETE", "/api/v1/definitions/workflow/ask", &[], "").status, 204);
    assert_eq!(site.post("/api/v1/workflows/ask/start", &json!({})).status, 404);
}

#[test]
fn schedules_workers_events_and_tokens_are_there() {
    super::on_sqlite_and_redis(the_rest);
}

fn the_rest(env: TestEnvironment) {
    let site = Site::up(env, &[]);
    let manifest = "kind: Schedule\nname: nightly\ncron: '0 3 * * *'\njob: noop\n";
    site.ask("POST", "/api/v1/apply", &[], manifest).expect(200);
    assert_eq!(site.get("/api/v1/schedules").expect(200)["items"][0]["name"], "nightly");
    let next = site.get("/api/v1/schedules/nightly/next?limit=3").expect(200);
    assert_eq!(next["items"].as_array().map(Vec::len), Some(3));
    assert_eq!(site.post("/api/v1/schedules/nightly/pause", &json!({})).expect(200), json!({"changed": true}));
    assert_eq!(site.get("/api/v1/schedules/nightly").expect(200)["paused"], true);
    let began = site.post("/api/v1/schedules/nightly/trigger", &json!({})).expect(201);
    let job = began["job_id"].as_str().expect("a job");
    site.get(&format!("/api/v1/jobs/{job}/wait?timeout_ms=30000")).expect(200);
    let first = site.get("/api/v1/events?limit=1000").expect(200);
    let types: Vec<_> = first["items"].as_array().expect("a list").iter().map(|event| event["type"].clone()).collect();
    assert!(types.contains(&json!("schedule.triggered")) && types.contains(&json!("job.completed")), "{types:?}");
    let rest = site.get(&format!("/api/v1/events?after={}", first["next"].as_str().expect("it goes on"))).expect(200);
    assert_eq!(rest["items"], json!([]));
    let worker = site.get("/api/v1/workers").expect(200)["items"][0]["id"].as_str().expect("a worker").to_owned();
    site.post(&format!("/api/v1/workers/{worker}/drain"), &json!({})).expect(200);
    assert_eq!(site.post(&format!("/api/v1/workers/{NOBODY}/drain"), &json!({})).status, 404);
    let made = site.post("/api/v1/tokens", &json!({"name": "ci", "scopes": ["admin"]})).expect(201);
    let bearer = format!("Bearer {}", made["secret"].as_str().expect("a secret"));
    let listed = site.ask("GET", "/api/v1/tokens", &[("Authorization", &bearer)], "").expect(200);
    assert_eq!(listed["items"], json!([made["token"]]));
    assert_eq!(site.ask("DELETE", "/api/v1/tokens/ci", &[("Authorization", &bearer)], "").status, 204);
}

#[test]
fn the_description_is_as_committed_and_the_page_loads_nothing() {
    let site = Site::start();
    let made = site.get("/openapi.json").text();
    let committed = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/schema/openapi.json"));
    assert!(
        made == committed.unwrap_or_default(),
        "schema/openapi.json is old: curl -s localhost:8080/openapi.json > it"
    );
    let api: serde_json::Value = serde_json::from_str(&made).expect("JSON");
    assert_eq!(api["openapi"], "3.1.0");
    assert!(api["paths"].as_object().is_some_and(|paths| paths.len() > 50));
    let page = site.get("/docs");
    assert!(page.status == 200 && page.text().contains("/api/v1/jobs/{id}"));
    assert!(!page.text().contains("src=") && !page.text().contains("http://") && !page.text().contains("https://"));
    assert_eq!(page.header("content-security-policy"), Some("default-src 'none'; style-src 'unsafe-inline'"));
}
