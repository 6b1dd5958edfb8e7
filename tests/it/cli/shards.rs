//! Shards as a user meets them: several files as one store, one file that becomes several, and back.

use super::TestEnvironment;

/// Three files, named in one variable.
fn three() -> TestEnvironment {
    let mut env = TestEnvironment::new();
    let url = |n: u32| format!("sqlite:{}", env.path().join(format!("{n}.db")).display());
    let urls = format!("{},{},{}", url(0), url(1), url(2));
    env.set("GOFLOW_STORE", &urls);
    env
}

fn counted(env: &TestEnvironment, key: &str) -> Vec<u64> {
    let list = env.run("shard list -o json").ok().json();
    list.as_array().expect("a list").iter().map(|shard| shard[key].as_u64().expect("a number")).collect()
}

#[test]
fn several_files_are_one_store() {
    let env = three();
    let lines = "1\n".repeat(90);
    assert_eq!(env.feed("enqueue noop --lines", lines).ok().line(), "enqueued 90 jobs");
    let spread = counted(&env, "pending");
    assert_eq!(spread.iter().sum::<u64>(), 90);
    assert!(spread.iter().all(|count| *count > 5), "{spread:?}");
    assert_eq!(env.run("job list -n 0 -o name").ok().stdout.lines().count(), 90);
    let id = env.run("enqueue noop --unique k").ok().line().to_owned();
    let again = env.run("enqueue noop --unique k");
    assert_eq!(again.status, Some(4), "{}", again.text());
    let child = env.args(["enqueue", "noop", "--after", &id]).ok().line().to_owned();
    assert_eq!(env.run("worker --until-empty").ok().line(), "completed 92 jobs");
    assert_eq!(env.args(["job", "show", &child, "-o", "json"]).ok().json()["state"], "completed");
    assert_eq!(env.run("doctor --verify -o json").ok().json()["differences"], serde_json::json!([]));
    let stats = env.run("queue stats -o json").ok().json();
    assert_eq!(stats[0]["completed"], 92, "{stats}");
}

#[test]
fn a_run_over_shards_ends_as_anywhere() {
    let env = three();
    let manifest = env.file(
        "flow.yaml",
        "\
apiVersion: goflow/v1
kind: Workflow
name: flow
steps:
  - id: one
    run: [echo, hello]
  - id: two
    needs: [one]
    run: [echo, world]
",
    );
    for _ in 0..3 {
        let run = env.args(["run", &manifest.display().to_string(), "-o", "json"]).ok().json();
        assert_eq!(run["state"], "completed", "{run}");
    }
    assert_eq!(env.run("workflow list -o json").ok().json().as_array().map(Vec::len), Some(3));
}

#[test]
fn one_store_grows_and_shrinks() {
    let mut env = TestEnvironment::new();
    let file = env.path().join("q.db");
    env.set("GOFLOW_STORE", &format!("sqlite:{}", file.display()));
    env.feed("enqueue noop --lines", "1\n".repeat(30)).ok();
    assert_eq!(env.run("shard list -o json").ok().stdout, "[]\n");
    let not_yet = env.run("shard drain 0");
    assert_eq!(not_yet.status, Some(4), "{}", not_yet.text());
    let scaled = env.run("scale --shards 2 -o json").ok().json();
    assert_eq!((&scaled["shards"], &scaled["added"]), (&2.into(), &serde_json::json!([1])), "{scaled}");
    assert!(env.path().join("q-shard1.db").exists());
    // The same URL as before, and the map is found.
    env.feed("enqueue noop --lines", "1\n".repeat(40)).ok();
    env.run("enqueue noop --delay 1h").ok();
    let spread = counted(&env, "pending");
    assert_eq!(spread.iter().sum::<u64>(), 70);
    assert!(spread[1] > 3, "{spread:?}");
    let early = env.run("shard remove 1");
    assert!(early.status != Some(0) && early.stderr.contains("drain it first"), "{}", early.text());
    let lowest = env.run("shard drain 0");
    assert!(lowest.status != Some(0) && lowest.stderr.contains("documents"), "{}", lowest.text());
    let scaled = env.run("scale --shards 1 -o json").ok().json();
    assert_eq!((&scaled["shards"], &scaled["removed"]), (&1.into(), &serde_json::json!([1])), "{scaled}");
    assert_eq!(counted(&env, "pending"), [70, 0]);
    assert_eq!(env.run("worker --until-empty").ok().line(), "completed 70 jobs");
    assert_eq!(counted(&env, "scheduled"), [1, 0]);
}

#[test]
fn what_cannot_be_a_shard_is_refused_with_the_cure() {
    let env = three();
    env.run("enqueue noop").ok();
    let busy = TestEnvironment::new();
    let url = format!("sqlite:{}", busy.path().join("busy.db").display());
    busy.args(["--store", &url, "enqueue", "noop"]).ok();
    for (url, why) in [(url.as_str(), "holds jobs already"), ("memory:", "cannot be a shard"), ("x", "not a store URL")]
    {
        let refused = env.args(["shard", "add", url]);
        assert!(refused.status != Some(0) && refused.stderr.contains(why), "{url}: {}", refused.text());
    }
    let torn = env.run("enqueue noop --unique a --key b --partition c");
    assert!(torn.status == Some(0) || torn.stderr.contains("at home on"), "{}", torn.text());
    let only = env.run("worker --shards 2-1");
    assert_eq!(only.status, Some(2), "{}", only.text());
    let plain = TestEnvironment::new();
    let alone = plain.run("worker --until-empty --shards 0");
    assert!(alone.status == Some(5) && alone.stderr.contains("several shards"), "{}", alone.text());
}

#[test]
fn a_worker_of_some_shards_leaves_the_others() {
    let env = three();
    env.feed("enqueue noop --lines", "1\n".repeat(60)).ok();
    let before = counted(&env, "pending");
    let mut worker = env.command(["worker", "--shards", "0,2"]).spawn().expect("it starts");
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let now = counted(&env, "pending");
        assert_eq!(now[1], before[1], "nobody works there");
        if now[0] + now[2] == 0 {
            break;
        }
        assert!(std::time::Instant::now() < end, "{now:?}");
    }
    worker.kill().expect("it is killed");
    worker.wait().expect("it ends");
}

#[test]
fn advice_needs_finished_jobs_and_gives_numbers() {
    let env = three();
    let none = env.run("scale advise --look 100ms").ok();
    assert!(none.line().contains("no finished job"), "{}", none.text());
    env.feed("enqueue sleep --lines", "{\"ms\":5}\n".repeat(20)).ok();
    env.run("worker --until-empty").ok();
    env.feed("enqueue sleep --lines", "{\"ms\":5}\n".repeat(50)).ok();
    let advice = env.run("scale advise --look 100ms --within 1s -o json").ok().json();
    assert_eq!(advice["depth"], 50);
    assert!(advice["workers_needed"].as_u64().is_some_and(|workers| workers >= 1), "{advice}");
}
