//! What a user meets only on Redis: a server that may throw jobs away, clusters, sentinels, and what `doctor` tells
//! of each.

use serde_json::Value;

use super::TestEnvironment;
use crate::servers::redis::Server;
use crate::servers::redis_nodes::{Nodes, Watched};

#[test]
fn an_evicting_server_is_refused_with_the_cure_unless_one_insists() {
    let server = Server::start(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]);
    let env = TestEnvironment::new();
    let url = server.url();
    for command in [&["enqueue", "noop"][..], &["worker", "--until-empty"], &["doctor"]] {
        let told = env.args([&["--store", &url][..], command].concat());
        assert_eq!(told.status, Some(5), "{}", told.text());
        for part in ["allkeys-lru", "CONFIG SET maxmemory-policy noeviction", "--allow-eviction", "[GF0006]"] {
            assert!(told.stderr.contains(part), "{part}: {}", told.text());
        }
    }
    let insist = |command: &[&str]| env.args([&["--store", &url, "--allow-eviction"][..], command].concat()).ok();
    assert_eq!(insist(&["job", "list", "-o", "json"]).line(), "[]", "the refused one was not stored");
    insist(&["enqueue", "noop"]);
    let worked = insist(&["worker", "--until-empty"]);
    assert_eq!(worked.line(), "completed 1 job");
    assert!(worked.stderr.contains("maxmemory-policy allkeys-lru may throw jobs away"), "{}", worked.text());
}

fn doctor(env: &TestEnvironment, url: &str) -> Value {
    env.args(["--store", url, "doctor", "-o", "json"]).ok().json()
}

fn warns(report: &Value, words: &str) -> bool {
    report["warnings"]
        .as_array()
        .expect("a list")
        .iter()
        .any(|line| line.as_str().is_some_and(|line| line.contains(words)))
}

#[test]
fn doctor_tells_of_a_server() {
    let server = Server::start(&["--maxmemory", "100mb"]);
    let env = TestEnvironment::new();
    let report = doctor(&env, &server.url());
    let told = &report["settings"];
    assert!(report["server"].as_str().is_some_and(|server| server.starts_with("Redis ")), "{report:#}");
    assert_eq!(told["persistence"], "append-only file, appendfsync everysec", "{report:#}");
    assert_eq!(told["eviction"], "noeviction, maxmemory 104857600", "{report:#}");
    assert_eq!(told["replication"], "no replica", "{report:#}");
    assert_eq!(report["warnings"], serde_json::json!([]), "{report:#}");
    let lines = env.args(["--store", &server.url(), "doctor"]).ok();
    assert!(lines.stdout.contains("ok    replication  no replica"), "{}", lines.text());
    // More copies than there are: nothing counts as done.
    env.args(["--store", &server.url(), "enqueue", "noop"]).ok();
    let unkept = env.args(["--store", &format!("{}?replicas=1", server.url()), "queue", "pause", "default"]);
    assert_eq!(unkept.status, Some(5), "{}", unkept.text());
    assert!(unkept.stderr.contains("0 of 1 replicas"), "{}", unkept.text());
}

#[test]
fn a_cluster_is_one_store_of_as_many_shards_as_one_likes() {
    let nodes = Nodes::start(3, 0, &[]);
    let (env, url) = (TestEnvironment::new(), nodes.url());
    let report = doctor(&env, &url);
    let server = report["server"].as_str().expect("a server");
    assert!(server.contains("127.0.0.1:") && server.ends_with("of a cluster of 3 masters"), "{report:#}");
    assert!(warns(&report, "has no replica") && warns(&report, "cluster-require-full-coverage is on"), "{report:#}");
    assert!(!report["durability"].as_str().expect("a promise").contains("failover"), "{report:#}");

    // Another key space of the same cluster, and three of them as one store.
    let spread = format!("{}?shards=3", url);
    assert_eq!(
        env.feed(&format!("--store {spread} enqueue noop --lines"), "1\n".repeat(60)).ok().line(),
        "enqueued 60 jobs"
    );
    let list = env.args(["--store", &spread, "shard", "list", "-o", "json"]).ok().json();
    let homes: std::collections::BTreeSet<_> = list
        .as_array()
        .expect("a list")
        .iter()
        .map(|shard| {
            let space = shard["url"].as_str().and_then(|url| url.split('#').nth(1)).expect("a key space");
            nodes.home(space.parse().expect("a number")).expect("a node")
        })
        .collect();
    assert_eq!(homes.len(), 3, "each shard on a node of its own: {list:#}");
    // Who names the cluster alone finds all of them.
    assert_eq!(env.args(["--store", &url, "job", "list", "-n", "0", "-o", "name"]).ok().stdout.lines().count(), 60);
    let verified = env.args(["--store", &url, "doctor", "--verify", "-o", "json"]).ok().json();
    assert_eq!(verified["differences"], serde_json::json!([]), "{verified:#}");

    // One node named as if it were a server alone.
    let home = nodes.home(0).expect("a node");
    let right = nodes.nodes[home].url();
    let wrong = nodes.nodes[(home + 1) % 3].url();
    let told = env.args(["--store", &wrong, "enqueue", "noop"]);
    assert_eq!(told.status, Some(5), "{}", told.text());
    assert!(told.stderr.contains("redis+cluster://") && told.stderr.contains("[GF0006]"), "{}", told.text());
    // The key space 3 lies on another node than the first one: their slots are 3418 and 15673.
    let other = format!("{right}#3");
    let told = env.args(["--store", &other, "enqueue", "noop"]);
    assert!(told.status == Some(5) && told.stderr.contains("redis+cluster://"), "{}", told.text());
}

#[test]
fn doctor_tells_of_copies_and_of_what_a_failover_costs() {
    let nodes = Nodes::start(3, 1, &[]);
    let env = TestEnvironment::new();
    let report = doctor(&env, &nodes.url());
    assert_eq!(report["settings"]["replication"], "1 replica, one of which takes over after 1500 ms", "{report:#}");
    assert!(report["durability"].as_str().expect("a promise").contains("a failover may cost the last writes"));
    assert!(warns(&report, "min-replicas-to-write"), "{report:#}");
    let report = doctor(&env, &format!("{}?replicas=1", nodes.url()));
    assert!(report["durability"].as_str().expect("a promise").contains("once a replica has it"), "{report:#}");
}

#[test]
fn sentinels_name_the_master() {
    let watched = Watched::start(1, &[]);
    let (env, url) = (TestEnvironment::new(), watched.url());
    let report = doctor(&env, &url);
    let server = report["server"].as_str().expect("a server");
    assert!(server.ends_with("as master `jobs` under 3 sentinels with a quorum of 2"), "{report:#}");
    assert_eq!(report["settings"]["replication"], "1 replica, one of which takes over", "{report:#}");
    assert!(report["durability"].as_str().expect("a promise").contains("a failover may cost the last writes"));
    env.args(["--store", &url, "enqueue", "noop"]).ok();
    assert_eq!(env.args(["--store", &url, "worker", "--until-empty"]).ok().line(), "completed 1 job");

    let told = env.args(["--store", &url.replace("/jobs", "/other"), "doctor"]);
    assert_eq!(told.status, Some(5), "{}", told.text());
    assert!(told.stderr.contains("no master of the name `other`"), "{}", told.text());
    // A replica, named as if it were the master.
    let replica = doctor_of_a_replica(&env, &watched.servers[1].url());
    assert!(replica.contains("is a replica") && replica.contains("[GF0006]"), "{replica}");
}

fn doctor_of_a_replica(env: &TestEnvironment, url: &str) -> String {
    let told = env.args(["--store", url, "enqueue", "noop"]);
    assert_eq!(told.status, Some(5), "{}", told.text());
    told.stderr.clone()
}

#[test]
fn bad_urls_of_clusters_and_sentinels_give_one_line() {
    let env = TestEnvironment::new();
    for (url, words) in [
        ("redis+cluster://", "the address is missing"),
        ("redis+cluster://:secret@a:b", "expected redis+cluster://"),
        ("rediss+cluster://a/7", "one database"),
        ("redis+cluster://a?shards=3#1", "not both"),
        ("redis+cluster://a?shards=2,redis://b", "in a list each URL is one shard"),
        ("redis+sentinel://a,b", "the name of the master is missing"),
        ("redis+sentinel://a/m?sentinel_user=x", "`sentinel_user` is none of its parameters"),
        ("redis://a,b", "redis+cluster://"),
        ("redis+nothing://a", "is not a store URL"),
    ] {
        let told = env.args(["--store", url, "job", "list"]);
        assert_eq!(told.status, Some(2), "{url}: {}", told.text());
        let first = told.stderr.lines().next().unwrap_or_default();
        assert!(first.contains(words) && first.contains("[GF0004]") && !first.contains("secret"), "{url}: {first}");
    }
}
