//! `goflow schedule` from outside.

use super::TestEnvironment;

#[test]
fn next_tells_the_times_of_a_rule_without_a_store() {
    let mut env = TestEnvironment::new();
    env.set("GOFLOW_STORE", "redis://127.0.0.1:1");
    let ask = |env: &TestEnvironment, args: &[&str]| {
        let answer = env.args([&["schedule", "next"], args, &["-o", "json"]].concat()).ok();
        (serde_json::from_str::<Vec<String>>(&answer.stdout).expect("a list of times"), answer.stderr)
    };
    let (times, said) = ask(&env, &["0 9 * * *", "--from", "2026-02-09T10:00:00+01:00", "-n", "2"]);
    assert_eq!(times, ["2026-02-10T09:00:00.000Z", "2026-02-11T09:00:00.000Z"]);
    assert_eq!(said, "");
    let gap = ["30 2 * * *", "--timezone", "america/new_york", "--from", "2026-03-07T12:00:00Z", "-n", "2"];
    assert_eq!(ask(&env, &gap).0, ["2026-03-08T07:00:00.000Z", "2026-03-09T06:30:00.000Z"]);
    let every = ["@every 90s", "--from", "2026-03-07T12:00:07Z", "-n", "2"];
    assert_eq!(ask(&env, &every).0, ["2026-03-07T12:01:37.000Z", "2026-03-07T12:03:07.000Z"]);
    assert_eq!(ask(&env, &["@hourly"]).0.len(), 5);

    let (times, said) = ask(&env, &["*/45 * * * *", "--from", "2026-03-07T12:00:00Z", "-n", "1"]);
    assert_eq!(times, ["2026-03-07T12:45:00.000Z"]);
    assert!(said.contains("means 0 and 45 of every hour, not every 45 minutes"), "{said}");

    let shown = env.args([
        "schedule",
        "next",
        "@daily",
        "--timezone",
        "Europe/Berlin",
        "--from",
        "2026-03-28T12:00:00Z",
        "-n",
        "2",
    ]);
    assert_eq!(
        shown.ok().stdout,
        "NEXT                      LOCAL\n\
         2026-03-28T23:00:00.000Z  Sun 2026-03-29 00:00:00 +01:00\n\
         2026-03-29T22:00:00.000Z  Mon 2026-03-30 00:00:00 +02:00\n"
    );
    assert!(!env.path().join("home").exists(), "nothing was opened");
}

const NIGHTLY: &str = "kind: Schedule\nname: nightly\ncron: '30 2 * * *'\ntimezone: Europe/Berlin\njob: echo\n\
                       queue: reports\ninput: {kind: full}\n";

#[test]
fn a_schedule_is_applied_looked_at_triggered_paused_and_deleted() {
    let mut env = TestEnvironment::new();
    assert_eq!(env.run("schedule list -o json").ok().json(), serde_json::json!([]));
    env.file("nightly.yaml", NIGHTLY);
    env.run("apply nightly.yaml").ok();
    let listed = env.run("schedule list -o json").ok().json();
    let keys: Vec<&str> = listed[0].as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(
        keys.join(" "),
        "name rule timezone workflow job queue input overlap catchup paused next_at last_at last_tick last_job_id \
         last_run_id waiting ticked skipped missed"
    );
    assert_eq!((listed[0]["overlap"].as_str(), listed[0]["catchup"].as_str()), (Some("skip"), Some("none")));
    let next = env.run("schedule next nightly -n 2 -o json").ok().json();
    assert_eq!(next[0], listed[0]["next_at"]);
    assert!(env.run("schedule list").ok().stdout.contains("30 2 * * *"));

    let id = env.run("schedule trigger nightly").ok().line().to_owned();
    let job = env.run(&format!("job show {id} -o json")).ok().json();
    assert_eq!((job["type"].as_str(), job["queue"].as_str()), (Some("echo"), Some("reports")));
    assert_eq!(job["payload"], serde_json::json!({"kind": "full"}));
    assert_eq!(job["metadata"], serde_json::json!({"schedule": "nightly"}));
    assert_eq!(env.run("schedule list -o json").ok().json()[0]["last_job_id"], *id);

    assert_eq!(env.run("schedule pause nightly").ok().line(), "paused nightly");
    assert_eq!(env.run("schedule pause nightly").ok().line(), "nightly was paused already");
    let paused = env.run("schedule list -o json").ok().json();
    assert_eq!((paused[0]["paused"].as_bool(), paused[0]["next_at"].is_null()), (Some(true), true));
    assert_eq!(env.run("schedule resume nightly").ok().line(), "resumed nightly");

    let refused = env.run("schedule next nightly --timezone UTC");
    assert_eq!(refused.status, Some(2), "{}", refused.text());
    assert!(refused.stderr.contains("--timezone goes with a rule"), "{}", refused.text());
    for verb in ["next", "trigger", "pause", "resume"] {
        let refused = env.run(&format!("schedule {verb} nobody"));
        assert_eq!(refused.status, Some(3), "{verb}: {}", refused.text());
        assert!(refused.stderr.contains("no schedule has the name `nobody`"), "{}", refused.text());
    }
    env.set("COMPLETE", "bash").set("_CLAP_IFS", "\n").set("_CLAP_COMPLETE_INDEX", "3");
    assert_eq!(env.run("-- goflow schedule trigger n").ok().line(), "nightly");
}

#[test]
fn up_works_and_schedules_in_one_process_until_it_is_stopped() {
    let mut env = TestEnvironment::new();
    env.set("GOFLOW_PORT", "0");
    env.file("tick.yaml", "kind: Schedule\nname: tick\nevery: 1s\njob: echo\noverlap: allow\n");
    env.run("apply tick.yaml").ok();
    let child = env.command(["up", "-c", "2", "-o", "json"]).spawn().expect("it starts");
    let done = || {
        let stats = env.run("queue stats -o json").ok().json();
        stats[0]["completed"].as_u64().unwrap_or(0)
    };
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while done() < 3 {
        assert!(std::time::Instant::now() < end, "no ticks within a minute");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).expect("a pid")).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(told["completed"].as_u64() >= Some(3) && told["started"].as_u64() >= Some(3), "{told}");
}
