//! Every kind of text that has ever become code somewhere, as payload: it reaches argv, environment,
//! standard input, pools and HTTP byte for byte, and is shown harmlessly by lists, errors and logs.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::cli::TestEnvironment;
use crate::servers::http::{HttpServer, Reply};

fn hostile() -> Vec<String> {
    let mut texts: Vec<String> = [
        "$(id)",
        "`id`",
        "; rm -rf / #",
        "-rf",
        "--help",
        "-",
        "",
        " leading and trailing ",
        "'single'",
        "\"double\"",
        "\\back\\slash\\",
        "a\nb\nc\n",
        "a\r\nb",
        "\ttab",
        "${HOME} $PATH %PATH%",
        "${{ 7*7 }}",
        "${{ payload }} {{ x }} {% raw %}",
        "%s %n %x %%",
        "* ? [a-z] ~ !!",
        "a && b || c | d > e < f &",
        "\u{1b}[31mred\u{1b}[0m\u{1b}]0;title\u{7}",
        "\u{9b}2J\u{85}\u{90}q\u{9c}",
        "abc\u{202e}cba\u{2066}x\u{2069}",
        "zero\u{200b}width\u{feff}\u{ad}",
        "é漢字🦀 e\u{301} \u{10ffff}",
        "../../etc/passwd",
        "http://169.254.169.254/latest",
        "{\"id\":\"x\",\"result\":1}",
        "null",
        "</script><script>alert(1)</script>",
        "\u{2028}\u{2029}\u{fffd}\u{e0041}",
        "' OR 1=1 --",
    ]
    .map(str::to_owned)
    .to_vec();
    texts.push("x\"'$(".repeat(10_000));
    texts
}

/// What a terminal could be harmed by.
fn harms(c: char) -> bool {
    (c.is_control() && c != '\n')
        || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

#[track_caller]
fn harmless(what: &str, text: &str) {
    assert_eq!(text.chars().find(|c| harms(*c)), None, "{what}: {text}");
}

const HANDLERS: &str = r#"handlers:
  argv: {run: [sh, -c, 'printf "%s." "$1"', sh, "${{ payload }}"], outputs: text}
  env: {run: 'printf "%s." "$DATA"', env: {DATA: "${{ payload }}"}, outputs: text}
  stdin: {run: [cat], outputs: json}
  pool: {pool: {run: [python3, -c, POOL], size: 2}}
  post: {http: {url: "URL"}}
  header: {http: {url: "URL/header", headers: {X-Data: "${{ payload }}"}}}
  scream: {run: 'printf "%s" "$DATA" >&2; exit 65', env: {DATA: "${{ payload }}"}}
"#;

const POOL: &str = "import json, sys\\nfor line in sys.stdin:\\n    job = json.loads(line)\\n    \
                    sys.stdout.write(json.dumps({'id': job['id'], 'result': job['payload']}) + '\\\\n'); sys.stdout.flush()";

fn enqueue(env: &TestEnvironment, kind: &str, payloads: &[Value]) {
    let lines: String = payloads.iter().map(|payload| format!("{payload}\n")).collect();
    env.feed(&format!("enqueue {kind} --lines --max-retries 0"), lines).ok();
}

#[test]
fn hostile_payloads_arrive_byte_for_byte_and_are_shown_harmlessly() {
    let server = HttpServer::start(|_, _| Reply::status(204));
    let env = TestEnvironment::new();
    env.file("goflow.yaml", HANDLERS.replace("POOL", &format!("\"{POOL}\"")).replace("URL", &server.url("")));
    let texts = hostile();
    let payloads: Vec<Value> = texts.iter().map(|text| json!(text)).collect();
    let with_nul: Vec<Value> = payloads.iter().cloned().chain([json!("nul\0nul")]).collect();
    for kind in ["argv", "env", "scream"] {
        enqueue(&env, kind, &payloads);
    }
    for kind in ["stdin", "pool", "post"] {
        enqueue(&env, kind, &with_nul);
    }
    let worker = env.run("worker -v -c 4 --until-empty").ok();
    harmless("log", &worker.stderr);

    let jobs = env.run("job list -n 0 -o json").ok();
    harmless("json", &jobs.stdout);
    let jobs = jobs.json();
    let jobs = jobs.as_array().expect("a list");
    let of = |kind: &str| -> Vec<&Value> { jobs.iter().filter(|job| job["type"] == kind).collect() };
    for (kind, dot) in [("argv", "."), ("env", "."), ("stdin", ""), ("pool", "")] {
        let found = of(kind);
        assert_eq!(found.len(), if dot.is_empty() { with_nul.len() } else { payloads.len() }, "{kind}");
        for job in found {
            let payload = job["payload"].as_str().expect("text");
            assert_eq!(job["result"], json!(format!("{payload}{dot}")), "{kind} {payload:?}: {}", job["error"]);
        }
    }
    let asked = server.asked();
    let sent: BTreeSet<String> = asked.iter().map(|asked| asked.json()["payload"].to_string()).collect();
    assert_eq!(sent, with_nul.iter().map(Value::to_string).collect(), "every body is the payload");

    let dead = of("scream");
    assert_eq!(dead.len(), texts.len());
    for job in &dead {
        let (payload, message) =
            (job["payload"].as_str().expect("text"), job["error"]["message"].as_str().expect("text"));
        let tail = payload.trim_end().lines().last().unwrap_or_default();
        assert!(message.contains(tail) || tail.len() > 1_000, "{message:?}");
    }
    let id =
        dead.iter().find(|job| job["payload"] == texts[20]).expect("the one with ESC")["id"].as_str().expect("an id");
    for line in
        ["job list -n 0", "job list -n 0 -o wide", "job list -n 0 -o yaml", "dlq list -o wide", "dlq list -o yaml"]
    {
        harmless(line, &env.run(line).ok().stdout);
    }
    for line in [format!("job show {id}"), format!("dlq show {id}"), format!("job show {id} -o yaml")] {
        harmless(&line, &env.run(&line).ok().stdout);
    }
}

#[test]
fn what_cannot_be_an_argument_or_a_header_is_refused_and_told() {
    let server = HttpServer::start(|_, _| Reply::status(204));
    let env = TestEnvironment::new();
    env.file("goflow.yaml", HANDLERS.replace("POOL", "x").replace("URL", &server.url("")));
    for (kind, payload, class, word) in [
        ("argv", "a\0b", "expression", "NUL"),
        ("env", "a\0b", "expression", "NUL"),
        ("header", "a\r\nX-Evil: 1", "header", "`X-Data`"),
        ("header", "a\0b", "header", "`X-Data`"),
    ] {
        enqueue(&env, kind, &[json!(payload)]);
        env.run("worker --until-empty").ok();
        let dead = env.run("dlq list -n 0 -o json").ok().json();
        let dead = dead.as_array().expect("a list");
        let job = dead.iter().find(|job| job["type"] == kind && job["payload"] == payload).expect("it is dead");
        assert_eq!(job["error"]["class"], class, "{job}");
        assert!(job["error"]["message"].as_str().is_some_and(|message| message.contains(word)), "{job}");
    }
    assert!(server.asked().is_empty());
    // What a header can carry it carries as it is.
    enqueue(&env, "header", &[json!("$(id) é ${{ 7*7 }}")]);
    env.run("worker --until-empty").ok();
    let [asked] = &*server.asked() else { panic!("{:?}", server.asked()) };
    assert_eq!(asked.header("x-data"), Some("$(id) é ${{ 7*7 }}"));
}
