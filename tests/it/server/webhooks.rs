//! Webhooks from outside: who is believed, what a delivery leads to, and that however often it comes it
//! leads there once.

use goflow::domain::Ms;
use goflow::domain::signature::{Scheme, Secret, sign};
use serde_json::{Value, json};

use super::Site;
use super::client::Reply;
use crate::cli::TestEnvironment;
use crate::servers;

const SECRET: &str = "It's a Secret to Everybody";
/// Published: <https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries>.
const GITHUB: &str = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
const STANDARD: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

const HOOKS: &str = "\
name: report
input: {branch: {type: string, required: true}}
steps: [{id: a, job: noop}]
---
name: order
steps: [{id: paid, wait: {signal: paid, timeout: 1h}}, {id: again, needs: [paid], wait: {signal: paid, timeout: 1h}}]
---
{kind: Webhook, name: hello, path: github/hello, scheme: github, secret: env:GITHUB_SECRET, job: noop, queue: hooks}
---
{kind: Webhook, name: push, scheme: github, secret: [env:NEW_SECRET, env:GITHUB_SECRET], workflow: report,
 transform: {branch: \"${{ payload.ref }}\"}}
---
{kind: Webhook, name: plain, job: echo, transform: {got: \"${{ payload }}\", agent: \"${{ headers['user-agent'] }}\"}}
---
{kind: Webhook, name: paid, scheme: stripe, secret: env:STRIPE, signal: {name: paid, run: \"${{ payload.run }}\"}}
---
{kind: Webhook, name: standard, scheme: standard-webhooks, secret: env:STANDARD, job: noop}
---
{kind: Webhook, name: bare, job: noop, secret: env:NOWHERE}
---
{kind: Webhook, name: off, job: noop, enabled: false}
";

fn place() -> TestEnvironment {
    let mut env = TestEnvironment::new();
    env.set("GITHUB_SECRET", SECRET).set("WEBHOOK_SECRET", "usual").set("STRIPE", "whsec_x").set("STANDARD", STANDARD);
    env.file("hooks.yaml", HOOKS);
    env.run("apply hooks.yaml").ok();
    env
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

fn signed(scheme: Scheme, secret: &str, seconds: i64, body: &str) -> String {
    sign(scheme, &Secret::new(secret).expect("a secret"), "msg_1", Ms(seconds * 1_000), body.as_bytes())
        .expect("signed")
}

/// Posts to the webhook `push` as GitHub does.
fn push(site: &Site, delivery: &str, body: &str) -> Reply {
    let signature = signed(Scheme::Github, SECRET, 0, body);
    site.ask("POST", "/webhooks/push", &[("X-Hub-Signature-256", &signature), ("X-GitHub-Delivery", delivery)], body)
}

fn plain(site: &Site, body: &str, more: &[(&str, &str)]) -> Reply {
    let signature = signed(Scheme::Goflow, "usual", 0, body);
    let headers = [&[("X-Webhook-Signature", signature.as_str()), ("User-Agent", "test")], more].concat();
    site.ask("POST", "/webhooks/plain", &headers, body)
}

fn jobs(site: &Site) -> Value {
    site.env.run("job list -o json -n 0").ok().json()
}

#[test]
fn githubs_example_is_taken_and_what_is_not_signed_is_not() {
    let site = Site::of(place(), &[]);
    let hello = |headers: &[(&str, &str)], body: &str| site.ask("POST", "/webhooks/github/hello", headers, body);
    let answer = hello(&[("X-Hub-Signature-256", GITHUB)], "Hello, World!").expect(202);
    assert_eq!(
        (&answer["webhook"], &answer["duplicate"], &answer["run_id"]),
        (&"hello".into(), &false.into(), &Value::Null)
    );
    let id = answer["job_id"].as_str().expect("an id").to_owned();
    let job = site.env.run(&format!("job show {id} -o json")).ok().json();
    assert_eq!((&job["payload"], &job["queue"]), (&"Hello, World!".into(), &"hooks".into()));
    assert_eq!(job["metadata"], json!({"webhook": "hello"}));
    let flipped = GITHUB.replace("17", "16");
    for (headers, body) in [
        (vec![("X-Hub-Signature-256", GITHUB)], "Hello, World?"),
        (vec![("X-Hub-Signature-256", flipped.as_str())], "Hello, World!"),
        (vec![("X-Hub-Signature-256", "sha256=7571")], "Hello, World!"),
        (vec![("X-Hub-Signature-256", GITHUB), ("X-Hub-Signature-256", GITHUB)], "Hello, World!"),
        (vec![("X-Webhook-Signature", GITHUB)], "Hello, World!"),
        (vec![], "Hello, World!"),
    ] {
        assert_eq!(hello(&headers, body).expect(401)["code"], "GF0081", "{headers:?}");
    }
    assert_eq!(hello(&[("X-Hub-Signature-256", GITHUB)], "Hello, World!").expect(202)["duplicate"], true);
    assert_eq!(jobs(&site).as_array().map(Vec::len), Some(1));
}

#[test]
fn a_webhook_that_is_off_has_no_secret_or_does_not_exist_takes_nothing() {
    let site = Site::of(place(), &[]);
    let ask = |path: &str| {
        let signature = signed(Scheme::Goflow, "usual", 0, "{}");
        site.ask("POST", path, &[("X-Webhook-Signature", &signature)], "{}")
    };
    assert_eq!(ask("/webhooks/off").expect(503)["code"], "GF0080");
    assert_eq!(ask("/webhooks/nothing").expect(404)["code"], "GF0012");
    // Though the usual secret is set: a webhook that names its own is judged by no other.
    assert_eq!(ask("/webhooks/bare").expect(503)["code"], "GF0080");
    assert_eq!(site.get("/webhooks/plain").status, 405);
    site.env.run("webhook enable off").ok();
    ask("/webhooks/off").expect(202);
    site.env.run("webhook disable off").ok();
    assert_eq!(ask("/webhooks/off").expect(503)["code"], "GF0080");
    assert_eq!(jobs(&site).as_array().map(Vec::len), Some(1));
}

#[test]
fn a_body_becomes_the_payload_and_an_expression_its_shape() {
    let site = Site::of(place(), &[]);
    let payload = |answer: Value| {
        let id = answer["job_id"].as_str().expect("an id").to_owned();
        site.env.run(&format!("job show {id} -o json")).ok().json()["payload"].clone()
    };
    let answer = plain(&site, "{\"n\": 1}", &[("X-GitHub-Event", "push")]).expect(202);
    assert_eq!(payload(answer), json!({"got": {"n": 1, "event": "push"}, "agent": "test"}));
    let answer = plain(&site, "{\"event\": \"own\"}", &[("X-GitHub-Event", "push")]).expect(202);
    assert_eq!(payload(answer)["got"], json!({"event": "own"}));
    assert_eq!(payload(plain(&site, "not json", &[]).expect(202))["got"], "not json");
    assert_eq!(payload(plain(&site, "", &[]).expect(202))["got"], "");
    let deep = "[".repeat(200) + &"]".repeat(200);
    assert_eq!(plain(&site, &deep, &[]).expect(400)["code"], "GF0010");
    let large = format!("\"{}\"", "x".repeat(1 << 20));
    assert_eq!(plain(&site, &large, &[]).expect(413)["code"], "GF0011");
    let unfit = push(&site, "a", "{\"other\": 1}").expect(422);
    assert_eq!(unfit["code"], "GF0082");
    assert!(unfit["detail"].as_str().is_some_and(|detail| detail.contains("payload")), "{unfit}");
    assert_eq!(push(&site, "b", "{\"ref\": 7}").expect(422)["code"], "GF0027");
    assert_eq!(jobs(&site).as_array().map(Vec::len), Some(4));
    assert_eq!(site.env.run("workflow list -o json").ok().json(), json!([]));
}

#[test]
fn times_that_are_signed_must_be_near_and_secrets_may_be_changed() {
    let site = Site::of(place(), &[]);
    let body = "{\"type\":\"x\"}";
    let standard = |seconds: i64, signature: &str| {
        let time = seconds.to_string();
        let headers = [("webhook-id", "msg_1"), ("webhook-timestamp", &time), ("webhook-signature", signature)];
        site.ask("POST", "/webhooks/standard", &headers, body)
    };
    let at = now();
    let own = signed(Scheme::StandardWebhooks, STANDARD, at, body);
    standard(at, &own).expect(202);
    assert_eq!(standard(at, &format!("v1,{} {own}", "A".repeat(43) + "=")).expect(202)["duplicate"], true);
    for (seconds, why) in [(at - 3_600, "ago"), (at + 3_600, "ahead")] {
        let signature = signed(Scheme::StandardWebhooks, STANDARD, seconds, body);
        let refused = standard(seconds, &signature).expect(401);
        assert!(refused["detail"].as_str().is_some_and(|detail| detail.contains(why)), "{refused}");
    }
    assert_eq!(standard(at + 1, &own).expect(401)["code"], "GF0081", "the time is signed");
    // `push` names a new secret, which is not set yet, and the old one.
    push(&site, "a", "{\"ref\": \"main\"}").expect(202);
    assert_eq!(jobs(&site).as_array().map(Vec::len), Some(2), "one of `standard`, one step of `report`");
}

#[test]
fn many_deliveries_of_one_id_are_one_job_one_run_and_one_signal() {
    let env = place();
    let other = Site::of(place_of(&env), &[]);
    let site = Site::of(env, &[]);
    let sites = [&site, &other];
    let mut answers: Vec<Value> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16)
            .map(|nth| scope.spawn(move || push(sites[nth % 2], "delivery", "{\"ref\": \"main\"}").expect(202)))
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("it ends")).collect()
    });
    let first = answers.pop().expect("an answer");
    assert!(answers.iter().all(|answer| answer["run_id"] == first["run_id"]), "{answers:?}");
    push(&site, "another", "{\"ref\": \"main\"}").expect(202);
    assert_eq!(site.env.run("workflow list -o json").ok().json().as_array().map(Vec::len), Some(2));

    let ids: std::collections::BTreeSet<String> = std::thread::scope(|scope| {
        let send =
            |nth: usize| plain(sites[nth % 2], "{}", &[("X-Webhook-Id", "one")]).expect(202)["job_id"].to_string();
        let threads: Vec<_> = (0..16).map(|nth| scope.spawn(move || send(nth))).collect();
        threads.into_iter().map(|thread| thread.join().expect("it ends")).collect()
    });
    assert_eq!(ids.len(), 1, "{ids:?}");

    let run = site.env.run("workflow start order").ok().line().to_owned();
    let body = json!({"id": "evt_1", "run": run}).to_string();
    for (nth, later) in [0, 1, 2, 3].into_iter().enumerate() {
        // Sent again, an event is signed anew.
        let signature = signed(Scheme::Stripe, "whsec_x", now() - later, &body);
        sites[nth % 2].ask("POST", "/webhooks/paid", &[("Stripe-Signature", &signature)], &body).expect(202);
    }
    site.env.run("worker --until-empty").ok();
    let shown = site.env.run(&format!("workflow show {run} -o json")).ok().json();
    assert_eq!((&shown["steps"][0]["state"], &shown["steps"][1]["state"]), (&"completed".into(), &"waiting".into()));
    let unknown = json!({"id": "evt_2", "run": "nobody"}).to_string();
    let signature = signed(Scheme::Stripe, "whsec_x", now(), &unknown);
    assert_eq!(site.ask("POST", "/webhooks/paid", &[("Stripe-Signature", &signature)], &unknown).status, 404);
}

/// Another place over the same store.
fn place_of(env: &TestEnvironment) -> TestEnvironment {
    let mut other = TestEnvironment::new();
    let found = env.run("doctor -o json").ok().json();
    other
        .set("GOFLOW_STORE", found["store"].as_str().expect("a URL"))
        .set("GITHUB_SECRET", SECRET)
        .set("WEBHOOK_SECRET", "usual")
        .set("STRIPE", "whsec_x");
    other
}

#[test]
fn a_delivery_is_remembered_on_redis_and_over_a_server_that_was_killed() {
    let redis = servers::redis::Server::start(&[]);
    let place = || {
        let mut env = TestEnvironment::new();
        env.set("GOFLOW_STORE", &redis.url()).set("GITHUB_SECRET", SECRET).set("WEBHOOK_SECRET", "usual");
        env.file("hooks.yaml", HOOKS);
        env
    };
    let first = Site::of(place(), &[]);
    first.env.run("apply hooks.yaml").ok();
    let (run, job) = (push(&first, "d", "{\"ref\": \"main\"}").expect(202), plain(&first, "{}", &[]).expect(202));
    drop(first);
    let second = Site::of(place(), &[]);
    assert_eq!(push(&second, "d", "{\"ref\": \"main\"}").expect(202)["run_id"], run["run_id"]);
    let again = plain(&second, "{}", &[]).expect(202);
    assert_eq!((&again["job_id"], &again["duplicate"]), (&job["job_id"], &true.into()));
    second.env.run("worker --until-empty").ok();
    // Ended, they are remembered all the same.
    assert_eq!(plain(&second, "{}", &[]).expect(202)["job_id"], job["job_id"]);
    assert_eq!(push(&second, "d", "{\"ref\": \"main\"}").expect(202)["duplicate"], true);
}

#[test]
fn webhooks_are_managed_over_http() {
    let site = Site::of(place(), &[]);
    let listed = site.get("/api/webhooks").expect(200);
    let names: Vec<&str> =
        listed["items"].as_array().expect("a list").iter().filter_map(|one| one["name"].as_str()).collect();
    assert_eq!(names, ["bare", "hello", "off", "paid", "plain", "push", "standard"]);
    assert_eq!(
        site.get("/api/v1/webhooks/push").expect(200),
        json!({
            "name": "push", "path": "/webhooks/push", "scheme": "github", "enabled": true, "job": null, "queue": null,
            "workflow": "report", "signal": null, "secret": ["env:NEW_SECRET", "env:GITHUB_SECRET"],
            "tolerance_ms": 300_000,
        })
    );
    assert_eq!(site.ask("POST", "/api/webhooks/push/disable", &[], "").expect(200)["enabled"], false);
    assert_eq!(push(&site, "a", "{\"ref\": \"main\"}").status, 503);
    assert_eq!(site.ask("POST", "/api/webhooks/push/enable", &[], "").expect(200)["enabled"], true);
    let made = site.ask("POST", "/api/webhooks", &[], json!({"name": "new", "job": "noop"}).to_string());
    assert_eq!(made.expect(201)["path"], "/webhooks/new");
    let taken = json!({"name": "newer", "path": "new", "job": "noop"}).to_string();
    let taken = site.ask("POST", "/api/webhooks", &[], taken).expect(409);
    assert!(taken["detail"].as_str().is_some_and(|detail| detail.contains("`new`")), "{taken}");
    for (body, status) in
        [("{\"name\": \"x\"}", 422), ("name: x\nsteps: []", 422), ("{\"name\": \"x\", \"workflow\": \"no\"}", 404)]
    {
        assert_eq!(site.ask("POST", "/api/webhooks", &[], body).status, status, "{body}");
    }
    assert_eq!(site.ask("DELETE", "/api/webhooks/new", &[], "").status, 204);
    assert_eq!(site.ask("DELETE", "/api/webhooks/new", &[], "").expect(404)["code"], "GF0012");
    assert_eq!(site.get("/api/webhooks/..").status, 404);
}

#[test]
fn webhooks_are_switched_and_listed_by_command() {
    let env = place();
    let list = env.run("webhook list").ok();
    assert!(list.stdout.contains("/webhooks/github/hello") && list.stdout.contains("signal paid"), "{}", list.text());
    let off = env.run("webhook disable push plain").ok();
    assert_eq!(off.line(), "switched push, plain off");
    assert_eq!(env.run("webhook disable push").ok().line(), "push was off already");
    let missing = env.run("webhook enable push nothing");
    assert_eq!(missing.status, Some(3), "{}", missing.text());
    let listed = env.run("webhook list -o json").ok().json();
    let push = listed.as_array().expect("a list").iter().find(|one| one["name"] == "push").expect("push");
    assert_eq!(push["enabled"], false, "all or none");
    let same = env.feed("apply -", "{kind: Webhook, name: other, path: plain, job: noop}");
    assert_eq!(same.status, Some(4), "{}", same.text());
    assert!(same.stderr.contains("/webhooks/plain is the path of the webhook `plain`"), "{}", same.text());
}

#[test]
fn a_trace_that_a_delivery_names_is_kept() {
    let site = Site::of(place(), &[]);
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let answer = plain(&site, "{}", &[("traceparent", trace)]).expect(202);
    let id = answer["job_id"].as_str().expect("an id").to_owned();
    let job = site.env.run(&format!("job show {id} -o json")).ok().json();
    assert_eq!(job["metadata"]["traceparent"], trace);
}
