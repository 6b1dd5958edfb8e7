//! The routes of the replaced systems, field by field.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Site, on_sqlite_and_redis};
use crate::cli::TestEnvironment;

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().map(|object| object.keys().map(String::as_str).collect()).unwrap_or_default()
}

fn is_seconds(time: &Value) -> bool {
    time.as_str().is_some_and(|text| text.len() == 20 && text.ends_with('Z') && text.as_bytes()[10] == b'T')
}

#[test]
fn tasks_are_made_shown_and_listed_newest_first() {
    on_sqlite_and_redis(tasks);
}

fn tasks(env: TestEnvironment) {
    let site = Site::of(env, &[]);
    let task = site.post("/tasks", &json!({"type": "email", "payload": {"to": "user@example.com"}})).expect(201);
    assert_eq!(keys(&task), ["id", "type", "payload", "status", "created_at", "updated_at"]);
    assert_eq!((&task["type"], &task["status"]), (&json!("email"), &json!("pending")));
    assert_eq!(task["payload"], json!({"to": "user@example.com"}));
    assert!(is_seconds(&task["created_at"]) && is_seconds(&task["updated_at"]), "{task}");
    let id = task["id"].as_str().expect("an id");
    assert_eq!(id.len(), 36);
    assert_eq!(site.get(&format!("/tasks/{id}")).expect(200), task);
    let later = site.post("/tasks", &json!({"type": "echo", "payload": 5})).expect(201);
    let broken = site.post("/tasks", &json!({"type": "fail", "payload": {"retry": false}})).expect(201);
    site.env.args(["job", "cancel", id]).ok();
    site.work();
    let listed = site.get("/tasks").expect(200);
    let rows: Vec<(&Value, &str)> = listed
        .as_array()
        .expect("a list")
        .iter()
        .map(|task| (&task["id"], task["status"].as_str().expect("a status")))
        .collect();
    assert_eq!(rows, [(&broken["id"], "failed"), (&later["id"], "done"), (&task["id"], "failed")]);
    assert_eq!(site.get("/tasks?limit=1").expect(200).as_array().map(Vec::len), Some(1));
    assert_eq!(site.get("/tasks/019c0000-0000-7000-8000-000000000000").status, 404);
}

#[test]
fn jobs_queues_the_dlq_and_events_answer_under_api() {
    on_sqlite_and_redis(jobs_and_queues);
}

fn jobs_and_queues(env: TestEnvironment) {
    let site = Site::of(env, &[]);
    let wanted = json!({"type": "fail", "payload": {"retry": false}, "queue": "mail", "priority": 3, "max_retries": 1,
                        "metadata": {"a": "b"}});
    let job = site.post("/api/jobs", &wanted).expect(201);
    assert_eq!((&job["queue"], &job["priority"], &job["max_retries"]), (&json!("mail"), &json!(3), &json!(1)));
    let delayed = site.post("/api/queue/enqueue", &json!({"type": "noop", "delay": "5m"})).expect(201);
    assert_eq!(delayed["state"], "scheduled");
    assert_eq!(site.get("/api/jobs?status=nonsense").status, 400, "words that are not known are told");
    assert_eq!(site.get("/api/jobs?status=delayed").expect(200)["count"], 1, "those of other systems are known");
    assert_eq!(site.get("/api/jobs?status=waiting").expect(200)["count"], 1);
    let all = site.get("/api/queue/jobs").expect(200);
    assert_eq!((&all["count"], &all["jobs"][0]["id"]), (&json!(2), &delayed["id"]));
    let stats = site.get("/api/queue/stats").expect(200);
    assert_eq!((&stats["pending"], &stats["scheduled"]), (&json!(1), &json!(1)));
    assert_eq!(stats["queues"].as_array().map(Vec::len), Some(2));
    site.work();
    let id = job["id"].as_str().expect("an id");
    assert_eq!(site.get("/api/dlq").expect(200)["jobs"][0]["id"], job["id"]);
    assert_eq!(site.post(&format!("/api/dlq/{id}/retry"), &json!({})).expect(200)["state"], "pending");
    site.work();
    assert_eq!(site.post("/api/dlq/retry-all", &json!({})).expect(200)["done"], json!([id]));
    site.work();
    assert_eq!(site.ask("DELETE", "/api/dlq", &[], "").expect(200)["done"], json!([id]));
    let events = site.get(&format!("/api/events?job_id={id}&limit=100")).expect(200);
    let types: Vec<&Value> = events["events"].as_array().expect("a list").iter().map(|event| &event["type"]).collect();
    assert_eq!((types.first(), types.last()), (Some(&&json!("job.created")), Some(&&json!("job.deleted"))));
}

#[test]
fn flows_and_workflows_start_and_are_steered() {
    on_sqlite_and_redis(flows);
}

fn flows(env: TestEnvironment) {
    let site = Site::up(env, &[]);
    let manifest = "kind: Workflow\nname: resize\nsteps:\n  - {id: go, wait: go}\n";
    site.ask("POST", "/api/v1/apply", &[], manifest).expect(200);
    let reply = site.ask("POST", "/flow/resize", &[], "plain text, and no JSON");
    let accepted = reply.expect(202);
    let id = reply.header("x-reqid").expect("an id").to_owned();
    assert_eq!(accepted, json!({"request_id": id}));
    assert_eq!(site.get(&format!("/api/workflows/{id}")).expect(200)["input"], "plain text, and no JSON");
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while site.get(&format!("/flow/resize/state/{id}")).expect(200)["state"] != "running" {
        assert!(std::time::Instant::now() < end);
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    site.ask("POST", &format!("/flow/resize/pause/{id}"), &[], "").expect(202);
    while site.get(&format!("/flow/resize/state/{id}")).expect(200)["state"] != "paused" {
        assert!(std::time::Instant::now() < end);
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    site.ask("POST", &format!("/flow/resize/resume/{id}"), &[], "").expect(202);
    assert_eq!(site.ask("POST", &format!("/flow/other/stop/{id}"), &[], "").status, 404);
    site.ask("POST", &format!("/flow/resize/stop/{id}"), &[], "").expect(202);
    assert_eq!(site.get(&format!("/api/v1/runs/{id}/wait?timeout_ms=30000")).expect(200)["state"], "cancelled");
    let run = site.post("/api/workflows", &json!({"name": "resize", "input": 5})).expect(201);
    let id = run["id"].as_str().expect("an id");
    assert_eq!(site.get("/api/workflows").expect(200)["count"], 2);
    site.post(&format!("/api/workflows/{id}/signal"), &json!({"name": "go"})).expect(202);
    assert_eq!(site.get(&format!("/api/v1/runs/{id}/wait?timeout_ms=30000")).expect(200)["state"], "completed");
    assert_eq!(site.ask("POST", "/flow/nobody", &[], "").status, 404);
}

#[test]
fn an_order_is_placed_or_refused_and_its_saga_is_shown() {
    on_sqlite_and_redis(orders);
}

fn orders(env: TestEnvironment) {
    let site = Site::up(env, &[]);
    let order = |price: u32| {
        let items = json!([{"product_id": "book", "quantity": 2, "price": price}]);
        site.post("/orders", &json!({"user_id": "ann", "items": items}))
    };
    assert_eq!(order(60).expect(404)["code"], "GF0012", "the workflow has not been applied");
    site.env.file("order.yaml", include_str!("../../../workflows/order-saga.yaml"));
    site.env.run("apply order.yaml").ok();
    let placed = order(60).expect(201);
    assert_eq!(keys(&placed), ["saga_id", "order_id", "status"]);
    let saga = placed["saga_id"].as_str().expect("an id");
    assert_eq!((&placed["status"], &placed["order_id"]), (&json!("completed"), &json!(format!("order-{saga}"))));
    assert_eq!(
        site.get(&format!("/sagas/{saga}")).expect(200),
        json!({"saga_id": saga, "status": "completed", "steps": 4})
    );
    let refused = order(6_000).expect(500);
    assert_eq!(keys(&refused), ["saga_id", "status", "error"]);
    assert_eq!(refused["status"], "compensated");
    assert!(refused["error"].as_str().is_some_and(|why| why.contains("refused")), "{refused}");
}

#[test]
fn the_newest_are_listed_also_when_the_event_log_tells_nothing_of_them() {
    let redis = crate::servers::redis::Server::start(&[]);
    let mut env = TestEnvironment::new();
    env.set("GOFLOW_STORE", &redis.url());
    let site = Site::of(env, &[]);
    let add = |queue: &str| {
        // Ids tell the order of births to the millisecond.
        std::thread::sleep(Duration::from_millis(2));
        let job = site.post("/api/jobs", &json!({"type": "echo", "queue": queue})).expect(201);
        job["id"].as_str().expect("an id").to_owned()
    };
    let mut ids = vec![add("quiet")];
    ids.extend((0..30).map(|nth| add(if nth % 2 == 0 { "even" } else { "odd" })));
    site.work();
    ids.extend((0..5).map(|_| add("even")));
    let mut connection =
        redis::Client::open(redis.url()).and_then(|client| client.get_connection()).expect("it is there");
    let keys: Vec<String> = redis::cmd("KEYS").arg("*events*").query(&mut connection).expect("keys");
    assert_eq!(keys.len(), 1, "{keys:?}");
    let trimmed: i64 = redis::cmd("XTRIM").arg(&keys[0]).arg("MAXLEN").arg(0).query(&mut connection).expect("a number");
    assert!(trimmed > 0);
    ids.extend((0..3).map(|_| add("odd")));
    ids.reverse();
    let listed = |path: &str| {
        let answer = site.get(path).expect(200);
        let jobs = answer["jobs"].as_array().or(answer.as_array()).expect("a list").clone();
        jobs.iter().map(|job| job["id"].as_str().expect("an id").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(listed("/tasks"), ids);
    assert_eq!(listed("/tasks?limit=10"), ids[..10]);
    assert_eq!(listed("/api/jobs?limit=1000"), ids);
    assert_eq!(listed("/api/jobs?status=pending&limit=5"), ids[..5]);
    assert_eq!(listed("/api/jobs?status=completed&limit=20"), ids[8..28]);
    assert_eq!(listed("/api/jobs?queue=odd&limit=2"), ids[..2]);
    // It has fewer than the log tells of in all.
    assert_eq!(listed("/api/jobs?queue=quiet"), ids[38..]);
    assert_eq!(listed("/api/dlq"), [""; 0]);
}

/// Two shards, one of whose logs was cut: what it tells no more is not left out among the other's.
#[test]
fn the_newest_of_several_shards_are_whole_though_one_log_reaches_less_far_back() {
    let shards = [0; 2].map(|_| crate::servers::redis::Server::start(&[]));
    let mut env = TestEnvironment::new();
    env.set("GOFLOW_STORE", &format!("{},{}", shards[0].url(), shards[1].url()));
    let site = Site::of(env, &[]);
    let mut ids = Vec::new();
    let add = |ids: &mut Vec<String>, n: usize, queue: &str| {
        for _ in 0..n {
            // Ids tell the order of births to the millisecond.
            std::thread::sleep(Duration::from_millis(2));
            let job = site.post("/api/jobs", &json!({"type": "echo", "queue": queue})).expect(201);
            ids.insert(0, job["id"].as_str().expect("an id").to_owned());
        }
    };
    add(&mut ids, 1, "quiet");
    add(&mut ids, 30, "loud");
    let mut connection =
        redis::Client::open(shards[1].url()).and_then(|client| client.get_connection()).expect("it is there");
    let keys: Vec<String> = redis::cmd("KEYS").arg("*events*").query(&mut connection).expect("keys");
    assert_eq!(keys.len(), 1, "{keys:?}");
    let cut: i64 = redis::cmd("XTRIM").arg(&keys[0]).arg("MAXLEN").arg(0).query(&mut connection).expect("a number");
    assert!(cut > 3, "{cut} records were cut");
    let listed = |path: &str| {
        let answer = site.get(path).expect(200);
        let jobs = answer["jobs"].as_array().or(answer.as_array()).expect("a list").clone();
        jobs.iter().map(|job| job["id"].as_str().expect("an id").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(listed("/tasks?limit=100"), ids, "one log tells of nothing");
    add(&mut ids, 9, "loud");
    assert_eq!(listed("/tasks?limit=100"), ids);
    assert_eq!(listed("/tasks?limit=20"), ids[..20]);
    assert_eq!(listed("/api/jobs?status=pending&limit=25"), ids[..25]);
    assert_eq!(listed("/api/jobs?queue=quiet"), ids[39..]);
}
