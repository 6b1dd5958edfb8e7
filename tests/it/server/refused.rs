//! What cannot be meant: answered with 4xx, a code and a place, and nothing is stored.

use std::io::Write;

use serde_json::json;

use super::{Site, client::read};

#[test]
fn what_cannot_be_meant_is_refused_and_nothing_is_stored() {
    super::on_sqlite_and_redis(refused);
}

fn refused(env: crate::cli::TestEnvironment) {
    let site = Site::of(env, &[]);
    let deep = format!("{{\"type\": \"noop\", \"payload\": {}{}}}", "[".repeat(200), "]".repeat(200));
    let large = format!("{{\"type\": \"noop\", \"payload\": \"{}\"}}", "x".repeat(1 << 20));
    let many = json!({"jobs": (0..1001).map(|_| json!({"type": "noop"})).collect::<Vec<_>>()}).to_string();
    let one_wrong = r#"{"jobs": [{"type": "noop"}, {"type": "noop", "priority": 101}]}"#;
    let cases: &[(&str, &str, &str, u16, &str)] = &[
        ("POST", "/api/v1/jobs", "", 400, "GF0010"),
        ("POST", "/api/v1/jobs", "{\"type\": tru}", 400, "GF0010"),
        ("POST", "/api/v1/jobs", "{}", 400, "GF0001"),
        ("POST", "/api/v1/jobs", "[\"noop\"]", 400, "GF0001"),
        ("POST", "/api/v1/jobs/batch", "{\"jobs\": [[\"noop\"]]}", 400, "GF0001"),
        ("PATCH", "/api/v1/queues/mail", "{\"clear\": [{\"weight\": null}]}", 400, "GF0001"),
        ("GET", "/api/jobs?status=DEAD", "", 400, "GF0001"),
        ("POST", "/api/v1/jobs", "{\"type\": \"noop\", \"pirority\": 1}", 400, "GF0001"),
        ("POST", "/api/v1/jobs", "{\"type\": \"-rf\"}", 400, "GF0001"),
        ("POST", "/api/v1/jobs", "{\"type\": \"goflow:timer\"}", 422, "GF0023"),
        ("POST", "/api/v1/jobs", "{\"type\": \"noop\", \"run_at\": \"2001-01-01T00:00:00Z\"}", 400, "GF0016"),
        ("POST", "/api/v1/jobs", &deep, 400, "GF0010"),
        ("POST", "/api/v1/jobs", &large, 413, "GF0011"),
        ("POST", "/api/v1/jobs/batch", &many, 400, "GF0001"),
        ("POST", "/api/v1/jobs/batch", one_wrong, 400, "GF0001"),
        ("POST", "/tasks", "{\"payload\": 1}", 400, "GF0001"),
        ("POST", "/api/jobs", "{\"type\": \"noop\", \"delay\": \"5\"}", 400, "GF0001"),
        ("GET", "/api/v1/jobs/nonsense", "", 400, "GF0001"),
        ("GET", "/api/v1/jobs?limit=0", "", 400, "GF0001"),
        ("GET", "/api/v1/jobs?limt=5", "", 400, "GF0001"),
        ("GET", "/api/v1/jobs?after=nonsense", "", 400, "GF0001"),
        ("GET", "/api/v1/jobs?after=MDpub25zZW5zZQ", "", 400, "GF0001"),
        ("GET", "/api/v1/events?after=MDpub25zZW5zZQ", "", 400, "GF0001"),
        ("GET", "/api/v1/jobs?where=state:ded", "", 400, "GF0017"),
        ("GET", "/api/v1/queues/a%2Fb", "", 400, "GF0001"),
        ("GET", "/api/v1/definitions/nonsense", "", 404, "GF0012"),
        ("GET", "/errors/4", "", 404, "GF0012"),
        ("GET", "/errors/gf0004", "", 404, "GF0012"),
        ("POST", "/api/v1/apply", "\tnonsense", 422, "GF0021"),
    ];
    for (method, path, body, status, code) in cases {
        let reply = site.ask(method, path, &[], body);
        let told = format!("{method} {path} {}", body.chars().take(60).collect::<String>());
        assert_eq!((reply.status, reply.json()["code"].as_str()), (*status, Some(*code)), "{told}: {}", reply.text());
        assert_eq!(reply.header("content-type"), Some("application/problem+json"), "{told}");
    }
    let bytes = site.ask("POST", "/api/v1/jobs", &[], b"{\"type\": \"\xff\"}");
    assert_eq!(bytes.expect(400)["code"], "GF0010");
    assert_eq!(site.env.run("job list -o json").ok().json(), json!([]));
}

#[test]
fn a_body_that_is_too_large_is_refused_before_it_has_come() {
    let site = Site::start();
    let mut stream = site.connect();
    let head = format!("POST /api/v1/jobs HTTP/1.1\r\nHost: {}\r\nContent-Length: 999999999\r\n\r\n", site.address);
    stream.write_all(head.as_bytes()).expect("sent");
    let reply = read(stream);
    assert_eq!((reply.status, reply.header("connection")), (413, Some("close")));
    // Without a length it is counted as it comes.
    let mut stream = site.connect();
    let head = format!("POST /api/v1/jobs HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked\r\n\r\n", site.address);
    stream.write_all(head.as_bytes()).expect("sent");
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    for _ in 0..17 {
        if stream.write_all(chunk.as_bytes()).is_err() {
            break;
        }
    }
    assert_eq!(read(stream).status, 413);
}

#[test]
fn slow_connections_hold_nobody_up() {
    let site = Site::start();
    let slow: Vec<_> = (0..500)
        .map(|nth| {
            let mut stream = site.connect();
            let head = if nth % 2 == 0 {
                "GET /health HT"
            } else {
                "POST /tasks HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{"
            };
            stream.write_all(head.as_bytes()).expect("sent");
            stream
        })
        .collect();
    for _ in 0..50 {
        assert_eq!(site.get("/health").status, 200);
    }
    drop(slow);
}
