//! `Idempotency-Key`: what is sent again is answered as the first time, by whichever server.

use serde_json::json;

use super::Site;
use crate::cli::TestEnvironment;

#[test]
fn a_post_that_is_sent_again_is_one_on_every_server() {
    super::on_sqlite_and_redis(sent_again);
}

fn sent_again(env: TestEnvironment) {
    let site = Site::of(env, &[]);
    let other = site.beside(&[]);
    let body = json!({"type": "noop", "payload": 1}).to_string();
    let key = [("Idempotency-Key", "order-42")];
    let first = site.ask("POST", "/api/v1/jobs", &key, &body);
    assert_eq!((first.status, first.header("idempotency-replayed")), (201, None));
    site.work();
    for place in [&site, &*other] {
        let again = place.ask("POST", "/api/v1/jobs", &key, &body);
        assert_eq!((again.status, again.text()), (201, first.text()), "as the first time, though it has run since");
        assert_eq!(again.header("idempotency-replayed"), Some("true"));
        assert_eq!(again.header("content-type"), Some("application/json"));
    }
    let changed = json!({"type": "noop", "payload": 2}).to_string();
    assert_eq!(other.ask("POST", "/api/v1/jobs", &key, changed).expect(422)["code"], "GF0063");
    assert_eq!(other.ask("POST", "/tasks", &key, &body).status, 422, "another path");
    let wrong = site.ask("POST", "/api/v1/jobs", &[("Idempotency-Key", "k2")], "{}");
    assert_eq!(wrong.status, 400);
    assert_eq!(site.ask("POST", "/api/v1/jobs", &[("Idempotency-Key", "k2")], "{}").text(), wrong.text());
    assert_eq!(site.ask("POST", "/api/v1/jobs", &[("Idempotency-Key", "")], &body).status, 400);
    assert_eq!(site.env.run("job list -o json").ok().json().as_array().map(Vec::len), Some(1));
}

#[test]
fn a_hundred_at_once_make_one() {
    let site = Site::start();
    let other = site.beside(&[]);
    let body = json!({"jobs": [{"type": "noop"}, {"type": "noop"}]}).to_string();
    let key = [("Idempotency-Key", "batch")];
    let replies: Vec<_> = std::thread::scope(|scope| {
        let ask = |nth: usize| {
            let (place, body): (&Site, &str) = (if nth.is_multiple_of(2) { &site } else { &other }, &body);
            scope.spawn(move || place.ask("POST", "/api/v1/jobs/batch", &key, body))
        };
        (0..100).map(ask).collect::<Vec<_>>().into_iter().map(|thread| thread.join().expect("an answer")).collect()
    });
    let made: std::collections::BTreeSet<String> =
        replies.iter().filter(|reply| reply.status == 201).map(|reply| reply.text()).collect();
    assert_eq!(made.len(), 1, "{made:?}");
    assert!(replies.iter().all(|reply| reply.status == 201 || reply.expect(409)["code"] == "GF0063"));
    assert_eq!(site.env.run("job list -o json").ok().json().as_array().map(Vec::len), Some(2));
}

#[test]
fn keys_are_each_tokens_own_and_a_secret_is_not_kept() {
    let env = TestEnvironment::new();
    let secret = |name: &str| env.run(&format!("token create {name} --scope admin")).ok().line().to_owned();
    let bearers = ["one", "two"].map(|name| format!("Bearer {}", secret(name)));
    let site = Site::of(env, &[]);
    let ask = |bearer: &str, path: &str, body: &str| {
        site.ask("POST", path, &[("Authorization", bearer), ("Idempotency-Key", "k")], body)
    };
    let ids =
        bearers.each_ref().map(|bearer| ask(bearer, "/api/v1/jobs", r#"{"type": "noop"}"#).expect(201)["id"].clone());
    assert_ne!(ids[0], ids[1]);
    let made = |body: &str| {
        site.ask("POST", "/api/v1/tokens", &[("Authorization", &bearers[0]), ("Idempotency-Key", "t")], body)
    };
    let body = r#"{"name": "three", "scopes": ["read"]}"#;
    assert_eq!(made(body).status, 201);
    assert_eq!(made(body).expect(409)["code"], "GF0022");
}
