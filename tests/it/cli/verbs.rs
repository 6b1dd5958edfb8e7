//! The verbs on jobs: by ids, by filters, and what is left alone.

use serde_json::json;

use super::TestEnvironment;

/// A job that dies at its first attempt.
fn dead(env: &TestEnvironment, message: &str, queue: &str) -> String {
    let payload = json!({"message": message, "retry": false}).to_string();
    let id = env.args(["enqueue", "fail", "-q", queue, "-d", &payload]).ok().line().to_owned();
    env.run("worker --until-empty").ok();
    id
}

fn state(env: &TestEnvironment, id: &str) -> String {
    env.run(&format!("job show {id} -o json")).ok().json()["state"].as_str().expect("a state").to_owned()
}

#[test]
fn cancel_says_what_changed_and_what_was_finished() {
    let env = TestEnvironment::new();
    let done = env.run("enqueue noop").ok().line().to_owned();
    env.run("worker --until-empty").ok();
    let waits = env.run("enqueue noop --unique k").ok().line().to_owned();
    let later = env.run("enqueue noop --delay 1h").ok().line().to_owned();
    let told = env.args(["job", "cancel", &waits, &done, &later[20..], &waits]).ok();
    assert_eq!(told.line(), "cancelled 2 jobs; 1 was already finished");
    assert_eq!([state(&env, &waits), state(&env, &later), state(&env, &done)], ["cancelled", "cancelled", "completed"]);
    // The key is free again.
    env.run("enqueue noop --unique k").ok();
    let again = env.run(&format!("job cancel {later} -o json"));
    assert_eq!(again.status, Some(4), "{}", again.text());
    assert!(again.stderr.contains("is cancelled already") && again.stderr.contains("GF0022"), "{}", again.stderr);
    let none = env.args(["job", "cancel", &later, &done]);
    assert_eq!(none.status, Some(4), "{}", none.text());
    assert!(none.stderr.contains("cancelled 0 jobs; 2 were already finished"), "{}", none.stderr);
    let retried = env.run(&format!("job retry {later} -o json")).ok().json();
    assert_eq!(retried, json!({"dry_run": false, "retried": [later], "skipped": []}));
    assert_eq!(state(&env, &later), "pending");
    assert_eq!(env.run("doctor --verify -o json").ok().json()["differences"], json!([]));
}

#[test]
fn a_filter_names_exactly_those_that_match() {
    let env = TestEnvironment::new();
    let mail = dead(&env, "gateway time-out", "mail");
    let other = dead(&env, "disk full", "mail");
    let slow = dead(&env, "time-out", "slow");
    for (filter, n) in [
        ("type:fail error~TIME-OUT", 2),
        ("queue:mail error~'gateway time-out'", 1),
        ("!queue:mail", 1),
        ("state:pending", 0),
        ("age>1d", 0),
    ] {
        let told = env.args(["dlq", "retry", "--where", filter, "--dry-run", "-o", "json"]).ok().json();
        assert_eq!(told["retried"].as_array().map(Vec::len), Some(n), "{filter}");
    }
    assert_eq!(env.args(["dlq", "retry", "--where", "error~time-out", "--yes"]).ok().line(), "retried 2 jobs");
    assert_eq!([state(&env, &mail), state(&env, &other), state(&env, &slow)], ["pending", "dead", "pending"]);
    let told = env.args(["job", "cancel", "--where", "queue:slow", "--yes"]).ok();
    assert_eq!(told.line(), "cancelled 1 job");
    for (line, left) in [("job cancel --where queue:*", "cancel 1 job?"), ("job delete --all", "delete 3 jobs?")] {
        let asked = env.run(line);
        assert_eq!(asked.status, Some(2), "{}", asked.text());
        assert!(asked.stderr.contains(left) && asked.stderr.contains("GF0018"), "{}", asked.stderr);
    }
    assert_eq!(env.run("queue purge mail --dry-run").ok().line(), "would delete 1 job");
    assert_eq!(env.run("queue purge mail -s dead --yes").ok().line(), "deleted 1 job");
    assert_eq!(env.run(&format!("job show {other}")).status, Some(3));
    let kinds = env.run("events -n 0 -j --where type:job.deleted").ok();
    assert_eq!(kinds.stdout.lines().count(), 1, "{}", kinds.stdout);
    assert_eq!(env.run("job delete --all --yes").ok().line(), "deleted 2 jobs");
    assert_eq!(env.run("job list -o json").ok().line(), "[]");
    assert_eq!(env.run("doctor --verify -o json").ok().json()["differences"], json!([]));
}

#[test]
fn thousands_are_moved_whole_and_the_bar_is_not_in_the_pipe() {
    let env = TestEnvironment::new();
    let line = |message: &str| json!({"message": message, "retry": false}).to_string() + "\n";
    let lines = line("time-out").repeat(2_300) + &line("other").repeat(200);
    env.feed("enqueue fail --lines", lines).ok();
    env.run("worker -c 100 --until-empty").ok();
    let told = env.args(["dlq", "retry", "--where", "type:fail error~time-out", "--dry-run"]).ok();
    assert_eq!(told.line(), "would retry 2,300 jobs");
    let told = env.args(["dlq", "retry", "--where", "type:fail error~time-out", "--yes"]).ok();
    assert_eq!((told.line(), told.stderr.as_str()), ("retried 2,300 jobs", ""));
    let stats = env.run("queue stats default -o json").ok().json();
    assert_eq!((&stats[0]["pending"], &stats[0]["dead"]), (&json!(2_300), &json!(200)));
    // Ids come from one command and go to another.
    let names = env.run("dlq list -n 0 -o name").ok().stdout;
    assert_eq!(env.feed("dlq retry -", names).ok().line(), "retried 200 jobs");
    assert_eq!(env.run("job cancel --all --yes").ok().line(), "cancelled 2,500 jobs");
}

#[test]
fn the_dlq_is_shown_exported_and_purged() {
    let env = TestEnvironment::new();
    assert_eq!(env.run("dlq export").ok().stdout, "");
    assert_eq!(env.run("dlq export -o json").ok().json(), json!([]));
    let id = dead(&env, "boom \u{1b}[31m", "mail");
    dead(&env, "bang", "other");
    let shown = env.run(&format!("dlq show {} -o json", &id[28..])).ok().json();
    assert_eq!((&shown["state"], &shown["error"]["class"]), (&json!("dead"), &json!("fail")));
    let exported = env.args(["dlq", "export", "--where", "queue:mail"]).ok();
    assert_eq!(serde_json::from_str::<serde_json::Value>(exported.line()).expect("a line of JSON"), shown);
    assert_eq!(env.run("dlq export -o json").ok().json().as_array().map(Vec::len), Some(2));
    let alive = env.run("enqueue noop").ok().line().to_owned();
    let not = env.run(&format!("dlq show {alive}"));
    assert_eq!(not.status, Some(4), "{}", not.text());
    let asked = env.run("dlq purge");
    assert!(asked.status == Some(2) && asked.stderr.contains("delete 2 dead jobs?"), "{}", asked.text());
    assert_eq!(env.run("dlq purge -q other --yes").ok().line(), "deleted 1 job");
    let asked = env.run(&format!("dlq delete {id}"));
    assert!(asked.status == Some(2) && asked.stderr.contains("delete 1 dead job?"), "{}", asked.text());
    assert_eq!(env.run(&format!("dlq delete {id} --yes")).ok().line(), "deleted 1 job");
    assert_eq!(env.run("job list -o name").ok().line(), alive);
}

#[test]
fn a_step_of_a_run_is_left_to_its_run() {
    let env = TestEnvironment::new();
    env.file("w.yaml", "name: w\nsteps:\n  - {id: a, run: [\"false\"], retry: {max: 0}}\n");
    assert_eq!(env.run("run w.yaml").status, Some(1));
    let id = env.run("dlq list -o name").ok().line().to_owned();
    let told = env.run(&format!("job retry {id}"));
    assert_eq!(told.status, Some(4), "{}", told.text());
    assert!(told.stderr.contains("does step `a` of run"), "{}", told.stderr);
    let told = env.run("dlq retry --all --yes").ok();
    assert_eq!(told.line(), "retried 0 jobs; 1 does a step of a run and was left to it");
    let told = env.run(&format!("dlq retry --edit {id}"));
    assert!(told.status == Some(4) && told.stderr.contains("does step `a` of run"), "{}", told.text());
    // Its run has heard of its end: the record may go.
    assert_eq!(env.run("dlq purge --yes").ok().line(), "deleted 1 job");
}

#[test]
fn a_job_is_changed_in_the_editor() {
    let mut env = TestEnvironment::new();
    let payload = r#"{"to":"old","n":1.50}"#;
    let id = env.args(["enqueue", "noop", "--delay", "1h", "-d", payload]).ok().line().to_owned();
    let before = env.run(&format!("job show {id} -o json")).ok().json();
    env.set("EDITOR", "true");
    let same = env.run(&format!("job edit {id}")).ok();
    assert_eq!((same.stdout.as_str(), same.stderr.as_str()), ("", "nothing was changed\n"));
    env.set("EDITOR", "sed -i -e s/old/new/ -e s/\"priority\\\":.0/\"priority\\\":7/");
    let changed = env.run(&format!("job edit {id} -o json")).ok().json();
    assert_eq!((&changed["payload"], &changed["priority"]), (&json!({"to": "new", "n": 1.5}), &json!(7)));
    assert_eq!(changed["state"], "scheduled");
    let due = |job: &serde_json::Value| -> jiff::Timestamp {
        job["run_at"].as_str().and_then(|at| at.parse().ok()).expect("a time")
    };
    let moved = due(&changed).duration_since(due(&before)).abs();
    assert!(moved.as_secs() < 10, "due when it was, but for the way to the store: {moved:?}");
    for (editor, part) in [
        ("false", "ended with"),
        ("sed -i s/payload/pay/", "unknown field `pay`"),
        ("sed -i s/{/[/", "line 4, column 12"),
        ("sed -i s/null/\\\"5\\\"/", "`5` has no unit"),
    ] {
        let told = env.set("EDITOR", editor).run(&format!("job edit {id}"));
        assert_eq!(told.status, Some(2), "{editor}: {}", told.text());
        assert!(told.stderr.contains(part) && told.stderr.contains("GF0050"), "{editor}: {}", told.stderr);
    }
    assert_eq!(env.run(&format!("job show {id} -o json")).ok().json(), changed, "nothing was stored");

    let dead_one = dead(&env, "no such host", "mail");
    let told = env.run(&format!("job edit {dead_one}"));
    assert!(told.status == Some(4) && told.stderr.contains("dlq retry --edit"), "{}", told.text());
    env.set("EDITOR", "sed -i s/such/more/");
    env.run(&format!("dlq retry --edit {dead_one}")).ok();
    let again = env.run(&format!("job show {dead_one} -o json")).ok().json();
    assert_eq!((&again["state"], &again["payload"]["message"]), (&json!("pending"), &json!("no more host")));
    env.run("worker --until-empty").ok();
    let done = env.run("enqueue noop").ok().line().to_owned();
    env.run("worker --until-empty").ok();
    assert_eq!(env.run(&format!("job edit {done}")).status, Some(4));
    assert_eq!(env.run("doctor --verify -o json").ok().json()["differences"], json!([]));
}

#[test]
fn an_id_that_several_have_lists_them() {
    let env = TestEnvironment::new();
    let ids = env.feed("enqueue noop --text-lines", "a\nb\n").ok();
    assert_eq!(ids.line(), "enqueued 2 jobs");
    let names = env.run("job list -o name").ok().stdout;
    let told = env.run("job cancel 7");
    assert_eq!(told.status, Some(2), "{}", told.text());
    assert!(names.lines().all(|id| told.stderr.contains(id)) && told.stderr.contains("GF0013"), "{}", told.stderr);
    assert_eq!(env.run("job list -s pending -o name").ok().stdout.lines().count(), 2);
}

#[test]
fn queues_are_paused_by_name_and_by_filter_and_a_misspelt_one_is_not_made() {
    let env = TestEnvironment::new();
    for queue in ["mail", "mail-bulk", "reports"] {
        env.run(&format!("queue set {queue} --weight 1")).ok();
    }
    let paused = |env: &TestEnvironment| env.run("queue list --where paused:yes -o name").ok().stdout;
    let wrong = env.run("queue pause reports mial");
    assert_eq!(wrong.status, Some(3), "{}", wrong.text());
    assert!(wrong.stderr.contains("`mial`") && wrong.stderr.contains("did you mean `mail`?"), "{}", wrong.stderr);
    assert_eq!(paused(&env), "", "nothing is done to any");
    assert_eq!(env.run("queue list -o name").ok().stdout.lines().count(), 3);
    let would = env.run("queue pause --where name:mail* --dry-run").ok();
    assert_eq!(would.line(), "would pause mail, mail-bulk");
    let asks = env.run("queue pause --where name:mail*");
    assert!(asks.status == Some(2) && asks.stderr.contains("pause 2 queues?"), "{}", asks.text());
    assert_eq!(env.run("queue pause --where name:mail* --yes").ok().line(), "paused mail, mail-bulk");
    assert_eq!(paused(&env), "mail\nmail-bulk\n");
    let told = env.run("queue resume --all --yes -o json").ok().json();
    assert_eq!(told, json!({"dry_run": false, "changed": ["mail", "mail-bulk"], "unchanged": ["reports"]}));
    assert_eq!(env.run("queue pause").status, Some(2));
    assert_eq!(env.run("queue pause --where nane:mail").status, Some(2));
}

#[test]
fn schedules_and_runs_are_asked_for_in_the_one_filter_language() {
    let env = TestEnvironment::new();
    env.file(
        "all.yaml",
        "kind: Schedule\nname: nightly\ncron: '@daily'\njob: echo\nqueue: reports\n---\n\
         kind: Schedule\nname: hourly\ncron: '@hourly'\nworkflow: good\n---\n\
         name: good\nsteps: [{id: a, job: noop}]\n---\nname: bad\nsteps: [{id: a, job: fail, with: {message: no room}, retry: {max: 0}}]\n",
    );
    env.run("apply all.yaml").ok();
    assert_eq!(env.run("schedule list --where queue:rep* -o name").ok().line(), "nightly");
    assert_eq!(env.run("schedule pause --where workflow:good --yes").ok().line(), "paused hourly");
    assert_eq!(env.run("schedule list --where paused:yes -o name").ok().line(), "hourly");
    let wrong = env.run("schedule resume hourli");
    assert!(wrong.status == Some(3) && wrong.stderr.contains("did you mean `hourly`?"), "{}", wrong.text());
    let good = env.run("workflow start good").ok().line().to_owned();
    let bad = env.run("workflow start bad").ok().line().to_owned();
    env.run("worker --until-empty").ok();
    for (filter, id) in
        [("state:failed", &bad), ("workflow:go* age<1h", &good), ("error~room", &bad), ("!state:failed", &good)]
    {
        let found = env.args(["workflow", "list", "-o", "name", "--where", filter]).ok();
        assert_eq!(found.line(), id, "{filter}");
    }
    let wrong = env.run("workflow list --where stat:failed");
    assert!(wrong.status == Some(2) && wrong.stderr.contains("did you mean `state:"), "{}", wrong.text());
}

#[test]
fn a_job_shows_its_limits_and_what_it_waits_for() {
    let env = TestEnvironment::new();
    let id = env.run("enqueue no-such-type --max-retries 0").ok().line().to_owned();
    let child = env.run(&format!("enqueue noop --after {id}")).ok().line().to_owned();
    let told = env.run(&format!("job show {child}")).ok().stdout;
    assert!(told.contains(&format!("the end of {id}")), "{told}");
    let mut worker = env.command(["worker"]).spawn().expect("it starts");
    let waits = || env.run(&format!("job show {id} -o json")).ok().json()["waits_for"].clone();
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while waits() != "a worker that handles the type `no-such-type`" {
        assert!(std::time::Instant::now() < end, "{}", waits());
    }
    worker.kill().expect("it runs");
    worker.wait().expect("it ends");
}

#[test]
fn retry_with_an_edit_is_for_dead_jobs_alone() {
    let mut env = TestEnvironment::new();
    env.set("EDITOR", "true");
    let id = env.run("enqueue noop --delay 1h").ok().line().to_owned();
    env.run(&format!("job cancel {id}")).ok();
    let refused = env.run(&format!("dlq retry {id} --edit"));
    assert_eq!(refused.status, Some(4), "{}", refused.text());
    assert_eq!(state(&env, &id), "cancelled");
}
