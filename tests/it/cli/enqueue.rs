//! Enqueue, alone and in bulk.

use super::TestEnvironment;

#[test]
fn every_flag_ends_up_in_the_job() {
    let env = TestEnvironment::new();
    let answer = env.args([
        "job",
        "enqueue",
        "-t",
        "send_email",
        "-d",
        "{\"to\":\"ada\"}",
        "-q",
        "mail",
        "-p",
        "-7",
        "--at",
        "2100-01-01T01:00:00+01:00",
        "--max-retries",
        "5",
        "--timeout",
        "1m30s",
        "--unique",
        "k1",
        "--meta",
        "a=1",
        "--meta",
        "b=x=y",
        "-o",
        "json",
    ]);
    let job = answer.ok().json();
    for (key, value) in [
        ("type", serde_json::json!("send_email")),
        ("payload", serde_json::json!({"to": "ada"})),
        ("queue", serde_json::json!("mail")),
        ("state", serde_json::json!("scheduled")),
        ("priority", serde_json::json!(-7)),
        ("run_at", serde_json::json!("2100-01-01T00:00:00.000Z")),
        ("max_retries", serde_json::json!(5)),
        ("unique_key", serde_json::json!("k1")),
        ("metadata", serde_json::json!({"a": "1", "b": "x=y"})),
        ("attempt", serde_json::json!(0)),
        ("error", serde_json::Value::Null),
    ] {
        assert_eq!(job[key], value, "{key}");
    }
    let shown = env.run(&format!("job show {} -o json", job["id"].as_str().expect("an id"))).ok().json();
    assert_eq!(shown, job);
    // The key is held now, and nobody else gets it.
    let held = env.run("enqueue other --unique k1");
    assert_eq!(held.status, Some(4), "{}", held.text());
    assert!(held.stderr.contains(job["id"].as_str().expect("an id")), "{}", held.stderr);
    assert_eq!(env.run("job list -o json").ok().json().as_array().map(Vec::len), Some(1));
}

#[test]
fn the_payload_comes_from_the_argument_a_file_or_standard_input() {
    let env = TestEnvironment::new();
    env.file("payload.json", " {\"n\": 1.50}\n");
    let payload = |answer: super::env::Answer| answer.ok().json()["payload"].clone();
    assert_eq!(payload(env.run("enqueue x -d -5 -o json")), serde_json::json!(-5));
    assert_eq!(payload(env.run("enqueue x -d @payload.json -o json")), serde_json::json!({"n": 1.5}));
    assert_eq!(payload(env.feed("enqueue x -d - -o json", "[1, 2]\n")), serde_json::json!([1, 2]));
    assert_eq!(payload(env.run("enqueue x -o json")), serde_json::Value::Null);
}

#[test]
fn defaults_come_from_the_configuration_of_the_replaced_system() {
    let mut env = TestEnvironment::new();
    env.file("config.yaml", "queue: {name: jobs, max_retries: 7}\nworker: {concurrency: 10}\n");
    let job = env.run("enqueue x -o json").ok().json();
    assert_eq!((&job["queue"], &job["max_retries"]), (&serde_json::json!("jobs"), &serde_json::json!(7)));
    let other = env.set("GOFLOW_STORE", "sqlite:other.db").run("queue list -o json").ok();
    assert_eq!(other.line(), "[]");
    assert!(env.path().join("other.db").exists());
}

#[test]
fn lines_become_jobs_in_their_order() {
    let env = TestEnvironment::new();
    let text: String = (0..2_500).map(|n| format!("line {n}\n")).collect();
    let answer = env.feed("enqueue x --text-lines", &text).ok();
    assert_eq!((answer.line(), answer.stderr.as_str()), ("enqueued 2,500 jobs", ""));
    let jobs = env.run("job list -n 0 -o json").ok().json();
    let payloads: Vec<&str> =
        jobs.as_array().expect("a list").iter().filter_map(|job| job["payload"].as_str()).collect();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(payloads, lines);

    let env = TestEnvironment::new();
    let answer = env.feed("enqueue x --lines -o json", "{\"a\":1}\n\n2\n\"three\"").ok();
    assert_eq!(answer.json(), serde_json::json!({"enqueued": 3}));
    assert_eq!(env.feed("enqueue x --lines", "").ok().line(), "enqueued 0 jobs");
}

#[test]
fn a_bad_line_is_told_by_its_number_with_what_was_stored_before() {
    let env = TestEnvironment::new();
    let answer = env.feed("enqueue x --lines", "1\n2\n{oops\n");
    insta::assert_snapshot!(answer.text(), @r#"
    exit 2
    --- stderr
    error: line 3, column 2: not JSON: key must be a string; nothing was enqueued [GF0010]
    hint: --text-lines takes each line as text
    "#);
    let large = format!("ok\n{}\n", "x".repeat(1 << 20));
    let answer = env.feed("enqueue x --text-lines", large);
    insta::assert_snapshot!(answer.text(), @r"
    exit 2
    --- stderr
    error: line 2: the payload is larger than 1 MiB; nothing was enqueued [GF0011]
    hint: put the data somewhere else and enqueue its address
    ");
    assert_eq!(env.run("job list -o json").ok().line(), "[]");
}
