//! Health, what is no route, the log, limits of what is sent, and the stop.

use std::io::{Read, Write};

use super::Site;
use crate::cli::TestEnvironment;

#[test]
fn health_and_readiness_are_told() {
    let mut env = TestEnvironment::new();
    env.set("ENV", "staging");
    let site = Site::of(env, &[]);
    assert_eq!(site.get("/health").expect(200), serde_json::json!({"status": "ok", "env": "staging"}));
    let text = site.ask("GET", "/health", &[("Accept", "text/plain")], "");
    assert_eq!((text.status, text.text().as_str()), (200, "OK"));
    assert_eq!(site.get("/ready").expect(200), serde_json::json!({"status": "ready"}));
    assert_eq!(Site::start().get("/health").expect(200)["env"], "development");
}

#[test]
fn what_is_no_route_is_a_problem_document() {
    let site = Site::start();
    let reply = site.get("/nowhere");
    assert_eq!(reply.header("content-type"), Some("application/problem+json"));
    let problem = reply.expect(404);
    assert_eq!(problem["code"], "GF0012");
    assert_eq!(problem["status"], 404);
    let page = site.get(problem["type"].as_str().expect("a place"));
    assert!(page.status == 200 && page.text().starts_with("# GF0012"), "{}", page.text());
    let wrong = site.ask("DELETE", "/health", &[], "");
    assert_eq!(wrong.expect(405)["code"], "GF0001");
    assert!(wrong.header("allow").is_some_and(|allow| allow.contains("GET")), "{wrong:?}");
    assert_eq!(site.ask("HEAD", "/health", &[], "").status, 200);
}

#[test]
fn requests_are_logged_on_stdout_without_their_queries_and_a_stop_is_gentle() {
    let site = Site::start();
    site.get("/health?token=secret");
    site.get("/nowhere");
    // An idle connection does not hold up the stop.
    let idle = site.connect();
    let (status, out) = site.stop();
    drop(idle);
    assert_eq!(status, Some(0));
    assert!(!out.contains("secret"), "{out}");
    let lines: Vec<serde_json::Value> =
        out.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
    let asked: Vec<&serde_json::Value> = lines.iter().filter(|line| line["msg"] == "request").collect();
    assert_eq!(asked.len(), 2, "{out}");
    let keys: Vec<&str> = asked[0].as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(keys, ["time", "level", "msg", "method", "path", "status", "duration"]);
    assert_eq!((&asked[0]["path"], &asked[1]["status"]), (&"/health".into(), &404.into()));
    assert!(asked.iter().all(|line| line["duration"].is_number()));
}

#[test]
fn a_port_that_is_taken_is_told() {
    let site = Site::start();
    let port = site.address.port().to_string();
    let refused = TestEnvironment::new().args(["server", "-p", &port]);
    assert_eq!(refused.status, Some(2), "{}", refused.text());
    assert!(refused.stderr.contains("[GF0064]") && refused.stderr.contains("address already in use"));
}

#[test]
fn a_request_that_is_no_http_is_refused_and_harms_nobody() {
    let site = Site::start();
    let mut stream = site.connect();
    stream.write_all(b"\x00\x01\x02 nonsense\r\n\r\n").expect("sent");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 400"), "{}", String::from_utf8_lossy(&answer));
    assert_eq!(site.get("/health").status, 200);
}

#[test]
fn up_answers_too() {
    let site = Site::up(TestEnvironment::new(), &["-c", "2"]);
    assert_eq!(site.get("/health").status, 200);
    assert_eq!(site.stop().0, Some(0));
}
