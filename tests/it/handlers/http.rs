//! HTTP handlers: what is sent, what each answer means for the job, and where no request goes.

use std::time::Duration;

use serde_json::json;

use super::{job, until, worked};
use crate::cli::TestEnvironment;
use crate::servers::http::{HttpServer, Reply};

/// A place with one HTTP handler for the type `call`.
fn place(fields: &str) -> TestEnvironment {
    let env = TestEnvironment::new();
    env.file("goflow.yaml", format!("handlers:\n  call: {{{fields}}}\n"));
    env
}

fn enqueue(env: &TestEnvironment, payload: &str) -> String {
    env.args(["enqueue", "call", "-d", payload]).ok().line().to_owned()
}

#[test]
fn the_job_is_posted_and_a_json_answer_is_its_result() {
    let server = HttpServer::start(|_, _| Reply::json("{\"n\": 1.50}"));
    let env = place(&format!("http: {{url: \"{}\", headers: {{Authorization: Bearer x}}}}", server.url("/hook")));
    let id = enqueue(&env, "{\"to\": \"a\"}");
    let done = worked(&env, &id);
    assert_eq!((&done["state"], &done["result"]), (&json!("completed"), &json!({"n": 1.5})), "{done}");
    let [asked] = &*server.asked() else { panic!("{:?}", server.asked()) };
    assert_eq!((asked.method.as_str(), asked.path.as_str()), ("POST", "/hook"));
    let expected = [
        ("authorization", "Bearer x"),
        ("content-type", "application/json"),
        ("idempotency-key", &id),
        ("goflow-job-id", &id),
        ("goflow-job-type", "call"),
        ("goflow-queue", "default"),
        ("goflow-attempt", "1"),
    ];
    for (name, value) in expected {
        assert_eq!(asked.header(name), Some(value), "{name}");
    }
    assert!(asked.header("user-agent").is_some_and(|agent| agent.starts_with("goflow/")));
    let body = asked.json();
    assert_eq!((&body["id"], &body["payload"], &body["attempt"]), (&json!(id), &json!({"to": "a"}), &json!(1)));
}

#[test]
fn a_request_is_made_as_it_is_described() {
    let server = HttpServer::start(|_, _| Reply::Is(201, Vec::new(), b"made".to_vec()));
    let env = place(&format!(
        "http: {{method: PUT, url: \"{}/${{{{ payload.id }}}}?v=${{{{ payload.v }}}}\", \
         headers: {{X-To: \"${{{{ payload.id }}}}\", Idempotency-Key: mine}}, \
         json: {{n: \"${{{{ payload.n }}}}\"}}, allow_hosts: [127.0.0.1]}}",
        server.url("/users")
    ));
    let done = worked(&env, &enqueue(&env, "{\"id\": \"a/../b\", \"v\": \"1&w=2\", \"n\": 7}"));
    assert_eq!((&done["state"], &done["result"]), (&json!("completed"), &json!("made")), "{done}");
    let [asked] = &*server.asked() else { panic!("{:?}", server.asked()) };
    assert_eq!((asked.method.as_str(), asked.path.as_str()), ("PUT", "/users/a%2F..%2Fb?v=1%26w%3D2"));
    assert_eq!((asked.header("x-to"), asked.header("idempotency-key")), (Some("a/../b"), Some("mine")));
    assert_eq!(asked.json(), json!({"n": 7}));
}

#[test]
fn what_may_pass_is_tried_again_and_what_will_not_is_buried() {
    let retry = "retry: {max: 2, initial: 10ms, jitter: 0}";
    for (status, tries, class) in
        [(429, 3, "http:429"), (503, 3, "http:503"), (500, 3, "http:500"), (404, 1, "http:404"), (422, 1, "http:422")]
    {
        let server = HttpServer::start(move |_, _| Reply::Is(status, Vec::new(), b"why \x1b[31m\xe2\x80\xae".to_vec()));
        let env = place(&format!("http: {{url: \"{}\"}}, {retry}", server.url("/?token=hunter2")));
        let dead = worked(&env, &enqueue(&env, "1"));
        assert_eq!((&dead["state"], &dead["error"]["class"]), (&json!("dead"), &json!(class)), "{dead}");
        assert_eq!(server.asked().len(), tries, "{status}");
        let message = dead["error"]["message"].as_str().expect("a message");
        assert!(message.contains(&status.to_string()) && message.contains("why"), "{message}");
        assert!(!message.contains("hunter2"), "what may be a secret is not shown: {message}");
        let shown = env.run("dlq list -o wide").ok();
        assert!(!shown.stdout.contains(['\u{1b}', '\u{202e}']), "{}", shown.stdout);
    }
}

#[test]
fn retry_rules_match_classes_of_status() {
    let rules = "retry: {max: 2, initial: 10ms, jitter: 0, errors: [\"http:5xx\", \"http:404\"]}";
    for (status, tries) in [(502, 3), (404, 3), (429, 1), (400, 1)] {
        let server = HttpServer::start(move |_, _| Reply::status(status));
        let env = place(&format!("http: {{url: \"{}\"}}, {rules}", server.url("/")));
        assert_eq!(worked(&env, &enqueue(&env, "1"))["state"], "dead");
        assert_eq!(server.asked().len(), tries, "{status}");
    }
}

#[test]
fn retry_after_is_a_time_before_which_nothing_is_sent() {
    let started = jiff::Timestamp::now();
    let date = "Sun, 06 Nov 1994 08:49:40 GMT";
    for reply in [
        Reply::status(429).with("Retry-After", "600"),
        Reply::status(503).with("Retry-After", date).with("Date", "Sun, 06 Nov 1994 08:39:40 GMT"),
    ] {
        let server = HttpServer::start(move |_, _| reply.clone());
        let env = place(&format!("http: {{url: \"{}\"}}, retry: {{max: 3, initial: 10ms}}", server.url("/")));
        let id = enqueue(&env, "1");
        let mut worker = env.command(["worker"]).spawn().expect("it starts");
        until("it was asked", || !server.asked().is_empty());
        until("it is retrying", || job(&env, &id)["state"] == "retrying");
        worker.kill().expect("it runs");
        worker.wait().expect("it ends");
        let waits: jiff::Timestamp = job(&env, &id)["run_at"].as_str().expect("a time").parse().expect("a time");
        assert!(waits.duration_since(started).as_secs() >= 590, "{waits}");
        assert_eq!(server.asked().len(), 1);
    }
}

#[test]
fn a_slow_or_broken_server_is_tried_again() {
    for (reply, class) in [(Reply::Silence, "timeout"), (Reply::HangUp, "connection")] {
        let server = HttpServer::start(move |nth, _| if nth == 0 { reply.clone() } else { Reply::status(204) });
        let env =
            place(&format!("http: {{url: \"{}\"}}, timeout: 300ms, retry: {{max: 3, initial: 10ms}}", server.url("/")));
        let done = worked(&env, &enqueue(&env, "1"));
        assert_eq!((&done["state"], &done["result"], &done["attempt"]), (&json!("completed"), &json!(null), &json!(2)));
        let history = done.to_string();
        assert!(server.asked().len() == 2, "{class}: {history}");
    }
    let nobody = HttpServer::start(|_, _| Reply::status(200));
    let url = nobody.url("/");
    drop(nobody);
    let env = place(&format!("http: {{url: \"{url}\"}}, retry: {{max: 1, initial: 10ms}}"));
    let dead = worked(&env, &enqueue(&env, "1"));
    assert_eq!((&dead["attempt"], &dead["error"]["class"]), (&json!(2), &json!("connection")), "{dead}");
}

#[test]
fn data_in_a_url_reaches_public_addresses_only() {
    let server = HttpServer::start(|_, _| Reply::status(200));
    let port = server.port();
    let whole = "http: {url: \"${{ payload }}\"}";
    for host in ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "169.254.169.254", "2130706433", "0x7f.1"] {
        let env = place(whole);
        let dead = worked(&env, &enqueue(&env, &format!("\"http://{host}:{port}/x\"")));
        assert_eq!((&dead["state"], &dead["error"]["class"]), (&json!("dead"), &json!("address")), "{host}: {dead}");
        let message = dead["error"]["message"].as_str().expect("a message");
        assert!(message.contains("not public") && message.contains("allow_hosts"), "{message}");
    }
    assert!(server.asked().is_empty(), "{:?}", server.asked());
    // The same data in the path alone is data in the URL, too; what the manifest allows is reached.
    let path = format!("http: {{url: \"http://localhost:{port}/${{{{ payload }}}}\"");
    let env = place(&format!("{path}}}"));
    assert_eq!(worked(&env, &enqueue(&env, "\"x\""))["error"]["class"], "address");
    let env = place(&format!("{path}, allow_hosts: [localhost]}}"));
    assert_eq!(worked(&env, &enqueue(&env, "\"x\""))["state"], "completed");
    // Without data in it a URL is the operator's own word.
    let env = place(&format!("http: {{url: \"http://localhost:{port}/\"}}"));
    assert_eq!(worked(&env, &enqueue(&env, "\"x\""))["state"], "completed");
}

#[test]
fn a_redirect_is_checked_again_and_gets_no_secret() {
    let inner = HttpServer::start(|_, _| Reply::status(200));
    let (direct, by_name) = (inner.url("/in"), format!("http://localhost:{}/in", inner.port()));
    for to in [direct, by_name] {
        let target = to.clone();
        let outer = HttpServer::start(move |_, _| Reply::status(307).with("Location", target.clone()));
        let fields = format!("url: \"{}\", headers: {{X-Key: hunter2}}", outer.url("/out"));
        // Another origin, even beside the first: whoever answered has chosen it.
        let env = place(&format!("http: {{{fields}}}"));
        let dead = worked(&env, &enqueue(&env, "1"));
        assert_eq!(dead["error"]["class"], "address", "{to}: {dead}");
        assert!(inner.asked().is_empty());
    }
    let target = inner.url("/in");
    let outer = HttpServer::start(move |_, _| Reply::status(308).with("Location", target.clone()));
    let env = place(&format!(
        "http: {{url: \"{}\", headers: {{X-Key: hunter2}}, allow_hosts: [127.0.0.1]}}",
        outer.url("/out")
    ));
    assert_eq!(worked(&env, &enqueue(&env, "\"x\""))["state"], "completed");
    let [asked] = &*inner.asked() else { panic!("{:?}", inner.asked()) };
    assert_eq!((asked.method.as_str(), asked.header("x-key")), ("POST", None), "the key is for the first host");
    assert_eq!(asked.json()["payload"], "x", "308 keeps the body");
}

#[test]
fn a_post_is_not_turned_into_a_get() {
    let server = HttpServer::start(|nth, asked| match nth {
        0 => Reply::status(302).with("Location", "/elsewhere"),
        _ => panic!("{asked:?}"),
    });
    let env = place(&format!("http: {{url: \"{}\"}}", server.url("/")));
    let dead = worked(&env, &enqueue(&env, "1"));
    assert_eq!((&dead["state"], &dead["error"]["class"]), (&json!("dead"), &json!("http:302")), "{dead}");
    let looping = HttpServer::start(|_, _| Reply::status(302).with("Location", "/again"));
    let env = place(&format!("http: {{method: GET, url: \"{}\"}}", looping.url("/")));
    assert_eq!(worked(&env, &enqueue(&env, "1"))["error"]["class"], "redirect");
}

#[test]
fn a_host_that_fails_again_and_again_is_left_alone_at_no_cost() {
    let server = HttpServer::start(|nth, _| if nth < 5 { Reply::status(503) } else { Reply::status(200) });
    let env = place(&format!("http: {{url: \"{}\"}}, retry: {{max: 3, initial: 10ms, jitter: 0}}", server.url("/")));
    // Two jobs, at most eight attempts: the sixth finds the circuit open, costs nothing, and comes back.
    let ids = [enqueue(&env, "1"), enqueue(&env, "2")];
    let answer = env.run("worker -c 1 --until-empty").ok();
    assert!(answer.stderr.contains("its circuit is open"), "{}", answer.stderr);
    assert!(answer.stderr.contains("circuit_open"), "the job is told: {}", answer.stderr);
    for id in ids {
        let done = job(&env, &id);
        assert_eq!(done["state"], "completed", "{done}");
        assert!(done["attempt"].as_u64().is_some_and(|attempt| attempt <= 4), "{done}");
    }
    assert_eq!(server.asked().len(), 7, "five that failed, and one for each job");
}

#[test]
fn an_answer_that_is_too_large_is_told() {
    let server = HttpServer::start(|_, _| Reply::Is(200, Vec::new(), vec![b'x'; 3 << 20]));
    let lenient = place(&format!("http: {{url: \"{}\"}}", server.url("/")));
    let id = enqueue(&lenient, "1");
    assert_eq!(worked(&lenient, &id)["result"], json!(null), "the call has done its work");
    let strict = place(&format!("http: {{url: \"{}\"}}, outputs: text", server.url("/")));
    let dead = worked(&strict, &enqueue(&strict, "1"));
    assert_eq!((&dead["state"], &dead["error"]["class"]), (&json!("dead"), &json!("output")), "{dead}");
}

#[test]
fn a_job_that_is_stopped_hangs_up() {
    let server = HttpServer::start(|_, _| Reply::Silence);
    let env = place(&format!("http: {{url: \"{}\"}}", server.url("/")));
    let id = enqueue(&env, "1");
    let mut worker = env.command(["worker", "--shutdown-timeout", "0s"]).spawn().expect("it starts");
    until("it is asked", || !server.asked().is_empty());
    let pid = i32::try_from(worker.id()).ok().and_then(rustix::process::Pid::from_raw).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
    let begun = std::time::Instant::now();
    worker.wait().expect("it ends");
    assert!(begun.elapsed() < Duration::from_secs(20), "it waited for the answer");
    let back = job(&env, &id);
    assert_eq!((&back["state"], &back["attempt"]), (&json!("pending"), &json!(0)), "{back}");
}
