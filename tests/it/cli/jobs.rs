//! From enqueue through a worker to the end, and the verbs on what is left: one store, real processes.

use super::TestEnvironment;

const CONFIG: &str = r#"handlers:
  checksum: {run: [sha256sum, "${{ payload }}"], outputs: text}
  shout: {run: 'tr a-z A-Z', outputs: json}
"#;

#[test]
fn the_main_job_gives_what_sha256sum_itself_prints() {
    let env = TestEnvironment::new();
    env.file("goflow.yaml", CONFIG);
    let names = ["a", "b c", "-d", "ü;$(id)"];
    for name in names {
        env.file(name, format!("content of {name}"));
    }
    let input: String = names.iter().map(|name| format!("./{name}\n")).collect();
    assert_eq!(env.feed("enqueue checksum --text-lines", input).ok().line(), "enqueued 4 jobs");
    assert_eq!(env.run("worker -c 3 --until-empty").ok().line(), "completed 4 jobs");
    let jobs = env.run("job list -s done -n 0 -o json").ok().json();
    for job in jobs.as_array().expect("a list") {
        let file = job["payload"].as_str().expect("a name");
        let own = std::process::Command::new("sha256sum").arg(file).current_dir(env.path()).output().expect("it runs");
        assert_eq!(job["result"].as_str(), Some(String::from_utf8_lossy(&own.stdout).trim_end()), "{file}");
    }
    assert_eq!(jobs.as_array().map(Vec::len), Some(4));
    insta::assert_snapshot!(env.run("queue stats").text(), @r"
    exit 0
    --- stdout
    QUEUE    STATE  PENDING  RUNNING  RETRYING  SCHEDULED  DEAD  COMPLETED  OLDEST
    default  open         0        0         0          0     0          4       -
    ");
    let piped = env.args(["enqueue", "shout", "-d", "\"hello\""]).ok();
    env.run("worker --until-empty").ok();
    let shouted = env.run(&format!("job show {} -o json", piped.line())).ok().json();
    assert_eq!(shouted["result"], "HELLO");
}

#[test]
fn a_dead_job_is_told_waited_for_and_retried() {
    let env = TestEnvironment::new();
    let fail = |message: &str| {
        let payload = serde_json::json!({"message": message, "retry": false}).to_string();
        env.args(["enqueue", "fail", "-d", &payload]).ok().line().to_owned()
    };
    let (first, _second) = (fail("disk \u{1b}[31mfull"), fail("time-out"));
    let done = env.run("worker --until-empty").ok();
    assert_eq!(done.line(), "completed 0 jobs; 2 died");
    insta::assert_snapshot!(env.run(&format!("job wait {first}")).text().replace(&first[28..], "ssssssss"), @r"
    exit 1
    --- stdout
    job iiiiiiii-iiii-iiii-iiii-iiiiiiiiiiii dead
    --- stderr
    error: job iiiiiiii-iiii-iiii-iiii-iiiiiiiiiiii is dead: fail: disk \u{1b}[31mfull [GF0019]
    hint: `goflow job show ssssssss` tells every attempt
    ");
    let listed = env.args(["dlq", "list", "--where", "error~full"]).ok();
    assert_eq!(listed.stdout.lines().count(), 2, "{}", listed.stdout);
    assert!(listed.stdout.contains("fail: disk \\u{1b}[31mfull"), "{}", listed.stdout);

    let asked = env.run("dlq retry --all");
    insta::assert_snapshot!(asked.text(), @r"
    exit 2
    --- stderr
    error: there is no terminal to ask on: retry 2 dead jobs? [GF0018]
    hint: --dry-run shows what would change; --yes does it without asking
    ");
    assert_eq!(env.args(["dlq", "retry", "--where", "error~full", "--dry-run"]).ok().line(), "would retry 1 job");
    assert_eq!(env.run("dlq list -o name").ok().stdout.lines().count(), 2);
    // Any unique part of the id will do.
    assert_eq!(env.run(&format!("dlq retry {}", &first[24..])).ok().line(), "retried 1 job");
    let again = env.run(&format!("dlq retry {first}"));
    assert_eq!(again.status, Some(4), "{}", again.text());
    assert!(again.stderr.contains("is pending, and only a dead or cancelled job can be retried"), "{}", again.stderr);
    assert_eq!(env.run("dlq retry-all --yes").ok().line(), "retried 1 job");
    assert_eq!(env.run("dlq retry --yes").ok().line(), "retried 0 jobs");
    assert_eq!(env.run("doctor --verify -o json").ok().json()["differences"], serde_json::json!([]));
}

#[test]
fn waiting_ends_when_the_time_runs_out() {
    let env = TestEnvironment::new();
    let id = env.run("enqueue noop").ok().line().to_owned();
    let waited = env.run(&format!("job wait {id} --timeout 50ms"));
    assert_eq!(waited.status, Some(6), "{}", waited.text());
    assert!(waited.stderr.contains("[GF0020]"), "{}", waited.stderr);
    env.run("worker --until-empty").ok();
    assert_eq!(env.run(&format!("job wait {id} --timeout 10s")).ok().line(), format!("job {id} completed"));
}

#[test]
fn a_paused_queue_gives_nothing_out() {
    let env = TestEnvironment::new();
    for queue in ["mail", "default"] {
        env.run(&format!("queue set {queue} --weight 1")).ok();
    }
    assert_eq!(env.run("queue pause mail default").ok().line(), "paused mail, default");
    assert_eq!(env.run("queue pause mail").ok().line(), "mail was paused already");
    env.run("enqueue noop -q mail").ok();
    let paused = env.run("queue stats mail -o json").ok().json();
    assert_eq!((&paused[0]["paused"], &paused[0]["pending"]), (&serde_json::json!(true), &serde_json::json!(1)));
    assert_eq!(env.run("queue resume mail").ok().line(), "resumed mail");
    env.run("worker -q mail --until-empty").ok();
    assert_eq!(env.run("queue stats mail -o json").ok().json()[0]["completed"], 1);
}

#[test]
fn lists_are_cut_and_say_so_and_ids_may_be_ambiguous() {
    let env = TestEnvironment::new();
    let lines = "x\n".repeat(25);
    env.feed("enqueue noop --text-lines", lines).ok();
    let cut = env.run("job list -o json").ok();
    assert_eq!(cut.json().as_array().map(Vec::len), Some(20));
    assert_eq!(cut.stderr, "{\"message\":\"only the first 20 are listed; -n 0 lists all\"}\n");
    let whole = env.run("job list -n 25 -o jsonl").ok();
    assert_eq!((whole.stdout.lines().count(), whole.stderr.as_str()), (25, ""));
    let id: serde_json::Value = serde_json::from_str(whole.stdout.lines().next().expect("a line")).expect("JSON");
    let prefix = &id["id"].as_str().expect("an id")[..6];
    let ambiguous = env.run(&format!("job show {prefix}"));
    assert_eq!(ambiguous.status, Some(2), "{}", ambiguous.text());
    assert!(ambiguous.stderr.contains("is part of more than one job id") && ambiguous.stderr.contains("[GF0013]"));
}

#[test]
fn applying_says_what_it_changes() {
    let env = TestEnvironment::new();
    let handler = "kind: Handler\nname: hello\nrun: [echo, hi]\noutputs: text\n";
    let workflow = "---\nname: flow\nsteps:\n  - {id: a, job: hello}\n";
    env.file("m/all.yaml", format!("{handler}{workflow}"));
    insta::assert_snapshot!(env.run("apply --dry-run m").text(), @r"
    exit 0
    --- stdout
    KIND      NAME   CHANGE
    handler   hello  created
    workflow  flow   created
    --- stderr
    nothing was applied: --dry-run
    ");
    env.run("apply m").ok();
    env.file("m/all.yaml", format!("{}{workflow}", handler.replace("hi", "ho")));
    let changed = env.run("apply m -o json").ok().json();
    assert_eq!((&changed[0]["change"], &changed[1]["change"]), (&"changed".into(), &"unchanged".into()));
    // A worker knows it from the store.
    let id = env.run("enqueue hello").ok().line().to_owned();
    env.run("worker --until-empty").ok();
    assert_eq!(env.run(&format!("job show {id} -o json")).ok().json()["result"], "ho");
}
