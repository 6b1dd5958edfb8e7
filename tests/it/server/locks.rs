//! Locks and semaphores over HTTP, and by commands behind a server.

use serde_json::{Value, json};

use super::Site;
use crate::cli::TestEnvironment;

fn post(site: &Site, path: &str, body: &Value) -> super::Reply {
    site.ask("POST", &format!("/api/v1/locks/{path}"), &[], body.to_string())
}

#[test]
fn a_slot_is_taken_kept_given_back_and_taken_away() {
    super::on_sqlite_and_redis(held);
}

fn held(env: TestEnvironment) {
    let site = Site::of(env, &[]);
    assert_eq!(site.get("/api/v1/locks").expect(200), json!({"items": [], "next": null}));
    let holder = "019c0000-0000-8000-8000-000000000001";
    let wish = json!({"ttl_ms": 60_000, "about": "a test", "holder": holder});
    let first = post(&site, "nightly/acquire", &wish).expect(200);
    assert_eq!((&first["name"], &first["holder"]), (&json!("nightly"), &json!(holder)));
    let fence = first["fence"].as_u64().expect("a number");
    assert!(fence > 0 && first["until"].as_str() > first["now"].as_str(), "{first}");
    assert_eq!(post(&site, "nightly/acquire", &wish).expect(200)["fence"], fence, "the same wish is one grant");
    let other = post(&site, "nightly/acquire", &json!({})).expect(409);
    assert_eq!(other["code"], "GF0085", "{other}");
    let other = post(&site, "nightly/acquire", &json!({"slots": 3})).expect(409);
    assert!(other["detail"].as_str().is_some_and(|detail| detail.contains("1 slots, not 3")), "{other}");
    let listed = site.get("/api/v1/locks").expect(200);
    let one = &listed["items"][0];
    assert_eq!(
        (&one["name"], &one["slots"], &one["holders"][0]["about"]),
        (&json!("nightly"), &json!(1), &json!("a test"))
    );
    assert_eq!(site.get("/api/v1/locks/nightly").expect(200), *one);
    assert_eq!(site.get("/api/v1/locks?where=name:x*").expect(200)["items"], json!([]));
    assert_eq!(site.env.run("lock list -o json").ok().json()[0]["name"], "nightly");
    let longer = post(&site, "nightly/extend", &json!({"holder": holder, "ttl_ms": 120_000})).expect(200);
    assert!(longer["until"].as_str() > first["until"].as_str() && longer["fence"] == fence, "{longer}");
    // A command behind the server is refused by the same lock.
    let url = format!("http://{}", site.address);
    let run = format!("--server {url} lock run nightly -- true");
    assert_eq!(site.env.run(&run).status, Some(4));
    // Who waits gets it when it is given back.
    let next = std::thread::scope(|scope| {
        let waits = scope.spawn(|| post(&site, "nightly/acquire", &json!({"wait_ms": 30_000})));
        assert_eq!(post(&site, "nightly/release", &json!({"holder": holder})).expect(200), json!({"changed": true}));
        waits.join().expect("it ends").expect(200)
    });
    assert!(next["fence"].as_u64() > Some(fence), "{next}");
    assert_eq!(post(&site, "nightly/release", &json!({"holder": holder})).expect(200), json!({"changed": false}));
    assert_eq!(post(&site, "nightly/extend", &json!({"holder": holder})).expect(409)["code"], "GF0086");
    let broken = post(&site, "nightly/break", &json!({"holder": next["holder"]})).expect(200);
    assert_eq!(broken["items"][0]["fence"], next["fence"]);
    assert_eq!(post(&site, "nightly/break", &json!({})).status, 404);
    assert_eq!(site.get("/api/v1/locks/nightly").status, 404);
    assert_eq!(site.env.run(&run).status, Some(0));
    // Under one Idempotency-Key it is one holder.
    let key = [("Idempotency-Key", "one")];
    let ask = || site.ask("POST", "/api/v1/locks/api/acquire", &key, r#"{"slots": 2}"#).expect(200);
    let (once, again) = (ask(), ask());
    assert_eq!((&once["holder"], &once["fence"]), (&again["holder"], &again["fence"]));
    assert_eq!(site.get("/api/v1/locks/api").expect(200)["holders"].as_array().map(Vec::len), Some(1));
    for (path, body) in [
        ("nightly/acquire", json!({"ttl_ms": 99})),
        ("nightly/acquire", json!({"slots": 0})),
        ("nightly/acquire", json!({"slots": 1_001})),
        ("nightly/acquire", json!({"wait_ms": 30_001})),
        ("nightly/acquire", json!({"holder": "me"})),
        ("nightly/acquire", json!({"about": "x".repeat(257)})),
        ("nightly/acquire", json!({"ttl": 5})),
        ("..%2f/acquire", json!({})),
        ("nightly/extend", json!({})),
        ("nightly/release", json!([])),
    ] {
        let refused = post(&site, path, &body);
        assert_eq!(refused.status, 400, "{path} {body}: {}", refused.text());
    }
    assert_eq!(site.get("/api/v1/locks").expect(200)["items"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_wish_sent_again_is_told_what_holds_now() {
    super::on_sqlite_and_redis(wished_again);
}

fn wished_again(env: TestEnvironment) {
    let site = Site::of(env, &[]);
    let keyed = |key: &str, path: &str, body: &Value| {
        site.ask("POST", &format!("/api/v1/locks/{path}"), &[("Idempotency-Key", key)], body.to_string())
    };
    let wish = json!({"ttl_ms": 300});
    let first = keyed("wish", "n/acquire", &wish).expect(200);
    let longer = json!({"holder": first["holder"], "ttl_ms": 300});
    assert_eq!(keyed("longer", "n/extend", &longer).expect(200)["fence"], first["fence"]);
    // Once its time is over, somebody else gets it.
    let other = post(&site, "n/acquire", &json!({"ttl_ms": 60_000, "wait_ms": 30_000})).expect(200);
    assert!(other["fence"].as_u64() > first["fence"].as_u64(), "{other}");
    assert_eq!(keyed("wish", "n/acquire", &wish).expect(409)["code"], "GF0085");
    assert_eq!(keyed("longer", "n/extend", &longer).expect(409)["code"], "GF0086");
    // A refusal does not stay one either: and the wish has kept its holder.
    assert_eq!(post(&site, "n/release", &json!({"holder": other["holder"]})).expect(200), json!({"changed": true}));
    let now = keyed("wish", "n/acquire", &wish).expect(200);
    assert_eq!(now["holder"], first["holder"]);
    assert!(now["fence"].as_u64() > other["fence"].as_u64(), "{now}");
}
