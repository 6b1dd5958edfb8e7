//! Locks and semaphores from outside: exit codes, what the command finds, who gets in and who is put out.

use std::time::{Duration, Instant};

use super::TestEnvironment;

/// Waits until a condition holds.
#[track_caller]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}: not within a minute");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn is_there(env: &TestEnvironment, file: &str) -> bool {
    env.path().join(file).exists()
}

#[test]
fn a_command_runs_under_its_lock_and_its_code_is_told() {
    let env = TestEnvironment::new();
    let fence = |env: &TestEnvironment| -> u64 {
        let answer =
            env.args(["lock", "run", "nightly", "--", "sh", "-c", "echo $GOFLOW_FENCE $GOFLOW_LOCK $0", "x"]).ok();
        let words: Vec<&str> = answer.line().split(' ').collect();
        assert_eq!(words[1..], ["nightly", "x"]);
        words[0].parse().expect("a number")
    };
    let first = fence(&env);
    assert!(fence(&env) > first, "the fence rises");
    for code in [3, 75, 255] {
        let answer = env.args(["lock", "run", "nightly", "--", "sh", "-c", &format!("exit {code}")]);
        assert_eq!((answer.status, answer.stderr.as_str()), (Some(code), ""));
    }
    let killed = env.args(["lock", "run", "nightly", "--", "sh", "-c", "kill -9 $$"]);
    assert_eq!(killed.status, Some(137));
    assert_eq!(env.run("lock list -o json").ok().json(), serde_json::json!([]));
}

#[test]
fn standard_input_is_the_commands() {
    let env = TestEnvironment::new();
    assert_eq!(env.feed("lock run nightly -- cat", "as it comes\n").ok().stdout, "as it comes\n");
}

#[test]
fn who_comes_second_is_told_or_waits() {
    let env = TestEnvironment::new();
    let line = "lock run nightly -- sh -c";
    let mut words: Vec<&str> = line.split(' ').collect();
    words.push("touch inside; until [ -e go ]; do sleep 0.05; done");
    let mut first = env.command(&words).spawn().expect("it starts");
    until("the first is in", || is_there(&env, "inside"));

    let held = env.run("lock run nightly -- touch never");
    assert_eq!(held.status, Some(4), "{}", held.text());
    assert!(held.stderr.contains("nightly is held by pid") && held.stderr.contains("[GF0085]"), "{}", held.stderr);
    let late = env.run("lock run nightly --wait 200ms -- touch never");
    assert_eq!(late.status, Some(6), "{}", late.text());
    let other = env.run("semaphore run nightly --limit 2 --wait -- touch never");
    assert_eq!(other.status, Some(4), "{}", other.text());
    assert!(other.stderr.contains("has 1 slots"), "{}", other.stderr);

    let listed = env.run("lock list -o json").ok().json();
    assert_eq!((listed[0]["name"].as_str(), listed[0]["slots"].as_u64()), (Some("nightly"), Some(1)));
    let holder = &listed[0]["holders"][0];
    assert!(holder["about"].as_str().is_some_and(|about| about.contains("touch inside")), "{holder}");
    assert!(holder["fence"].as_u64().is_some() && holder["until"].is_string() && holder["since"].is_string());
    assert_eq!(env.run("semaphore list -o name --where slots:1").ok().line(), "nightly");
    assert_eq!(env.run("lock list -o name --where age>1h").ok().line(), "");

    let mut second = env.command("lock run nightly --wait -- touch second".split(' ')).spawn().expect("it starts");
    env.file("go", "");
    assert!(first.wait().expect("it ends").success());
    assert!(second.wait().expect("it ends").success());
    assert!(is_there(&env, "second") && !is_there(&env, "never"));
}

#[test]
fn a_broken_lock_ends_the_whole_tree() {
    let env = TestEnvironment::new();
    // The grandchild ignores TERM and has left its parent.
    let script =
        "(trap '' TERM; touch grandchild; while :; do date +%s%N > alive; sleep 0.05; done) & touch inside; wait";
    let child =
        env.command(["lock", "run", "nightly", "--ttl", "600ms", "--", "sh", "-c", script]).spawn().expect("it starts");
    until("it is in", || is_there(&env, "inside") && is_there(&env, "grandchild"));
    let broken = env.run("lock break nightly -o json").ok().json();
    assert_eq!((broken["name"].as_str(), broken["broken"].as_array().map(Vec::len)), (Some("nightly"), Some(1)));
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("nightly was lost") && stderr.contains("[GF0086]"), "{stderr}");
    let read = || std::fs::read_to_string(env.path().join("alive")).unwrap_or_default();
    let last = read();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(read(), last, "the grandchild lives on");
    let events = env.run("events -o json -n 50").ok();
    assert!(events.stdout.contains("lock.broken"), "{}", events.stdout);

    let missing = env.run("lock break nightly");
    assert_eq!(missing.status, Some(3), "{}", missing.text());
    let missing = env.run("lock break nightly --holder 12ab");
    assert_eq!(missing.status, Some(3), "{}", missing.text());
}

#[test]
fn an_end_that_is_asked_for_gives_the_lock_back() {
    let env = TestEnvironment::new();
    let child = env
        .command(["lock", "run", "nightly", "--ttl", "1h", "--", "sh", "-c", "touch inside; exec sleep 600"])
        .spawn()
        .expect("it starts");
    until("it is in", || is_there(&env, "inside"));
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).expect("a pid")).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("a signal");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(env.run("lock run nightly -- true").status, Some(0));
}

#[test]
fn what_is_not_right_is_told_in_a_line() {
    let env = TestEnvironment::new();
    for (line, code, words) in [
        ("lock run nightly", 2, "CMD"),
        ("lock run nightly --ttl 0s -- true", 2, "100ms at least"),
        ("lock run nightly --ttl -5s -- true", 2, "-5s"),
        ("lock run nightly --wait soon -- true", 2, "soon"),
        ("lock run no/name -- true", 2, "no/name"),
        ("semaphore run api -- true", 2, "--limit"),
        ("semaphore run api --limit 0 -- true", 2, "0"),
        ("lock run nightly -- ./no-such-program", 2, "[GF0087]"),
    ] {
        let answer = env.run(line);
        assert_eq!(answer.status, Some(code), "{line}: {}", answer.text());
        assert!(answer.stderr.contains(words), "{line}: {}", answer.stderr);
        assert_eq!(answer.stdout, "", "{line}");
    }
    assert_eq!(env.run("lock list -o json").ok().json(), serde_json::json!([]), "the lock was given back");
}
