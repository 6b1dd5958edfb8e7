//! Alerts from outside: real workers with `alerts:` in their configuration.

use std::time::{Duration, Instant};

use crate::cli::TestEnvironment;

#[test]
fn two_workers_tell_once_of_a_dead_job() {
    let env = TestEnvironment::new();
    env.file("tell.sh", "cat >> told; echo >> told\n");
    env.file("goflow.yaml", "alerts:\n  - {on: job.dead, command: [sh, ./tell.sh], log: true}\n");
    let start = || {
        let log = std::fs::File::options().create(true).append(true).open(env.path().join("log")).expect("a log");
        let mut command = env.command(["worker", "-c", "2"]);
        command.stdout(log.try_clone().expect("a log")).stderr(log).spawn().expect("it starts")
    };
    let mut workers = [start(), start()];
    let read = |name: &str| std::fs::read_to_string(env.path().join(name)).unwrap_or_default();
    let wait = |what: &str, holds: &dyn Fn() -> bool| {
        let begun = Instant::now();
        while !holds() {
            assert!(begun.elapsed() < Duration::from_secs(60), "{what}: not within a minute\n{}", read("log"));
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    // What had died before anybody looked is no news, so go on until somebody has.
    wait("the alert", &|| {
        env.run("enqueue fail --max-retries 0").ok();
        !read("told").is_empty()
    });
    let dead = || env.run("dlq list -n 0 -o name").stdout.lines().count();
    let before = dead();
    env.run("enqueue fail --max-retries 0").ok();
    wait("one more", &|| dead() > before);
    for worker in &mut workers {
        worker.kill().expect("a signal");
        worker.wait().expect("it ends");
    }
    let told = read("told");
    let alerts: Vec<serde_json::Value> =
        told.lines().filter(|line| !line.is_empty()).map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(alerts.len(), 1, "{told}");
    assert_eq!((alerts[0]["on"].as_str(), alerts[0]["subject"].as_str()), (Some("job.dead"), Some("fail")));
    assert_eq!(read("log").matches("alert: job").count(), 1, "{}", read("log"));
}

#[test]
fn a_broken_alert_is_told_with_its_place_and_a_url_is_never_shown() {
    let env = TestEnvironment::new();
    let cases = [
        ("alerts:\n  - {log: true}\n", "goflow.yaml:2:5: an alert: `on` is missing"),
        (
            "alerts:\n  - {on: job.died, log: true}\n",
            "goflow.yaml:2:5: an alert: `on`: `job.died` cannot be watched; did you mean job.dead",
        ),
        ("alerts:\n  - {on: job.dead}\n", "goflow.yaml:2:5: an alert: it tells nobody"),
        ("alerts:\n  - {on: job.dead, webhook: {url: \"s3cret\"}}\n", "`webhook.url` is not an http or https URL"),
        ("alerts:\n  - {on: job.dead, command: ./tell}\n", "`command` is a list of texts"),
        ("alerts: {on: job.dead}\n", "`alerts` is a list"),
    ];
    for (config, expected) in cases {
        env.file("goflow.yaml", config);
        let answer = env.run("worker --until-empty");
        assert_eq!(answer.status, Some(2), "{config}{}", answer.text());
        assert!(answer.stderr.contains(expected) && answer.stderr.contains("GF0002"), "{config}{}", answer.text());
        assert!(!answer.text().contains("s3cret"), "{}", answer.text());
    }
    env.file("goflow.yaml", "alerts:\n  - {on: job.dead, slack: {url: \"${NO_SUCH_URL}\"}, chanel: x}\n");
    let answer = env.run("worker --until-empty").ok();
    assert!(answer.stderr.contains("slack of the alert on job.dead has an empty url"), "{}", answer.text());
    assert!(answer.stderr.contains("`chanel` is not known in an alert"), "{}", answer.text());
    env.file("goflow.yaml", "alerts:\n  - {on: job.dead, slack: {url: \"https://hooks.example/T0/s3cret\"}}\n");
    let shown = env.run("config show --origin").ok();
    assert!(shown.stdout.contains("job.dead: slack https://hooks.example/***"), "{}", shown.stdout);
    assert!(!shown.stdout.contains("s3cret"), "{}", shown.stdout);
}
