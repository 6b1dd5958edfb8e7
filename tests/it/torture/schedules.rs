//! Three real schedulers over one store, one of them killed with -9 every few seconds, their clocks 90 s
//! apart: each second of two minutes has its tick, and each tick one job.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::site::{Ground, Site};

const SCHEDULE: &str = "kind: Schedule\nname: tick\nevery: 1s\njob: noop\noverlap: allow\n";
const TICKS: usize = 120;

/// How wrong the clocks of the three are, in milliseconds. A SQLite file has no clock but that of its
/// machine.
fn skews(site: &Site) -> [&'static str; 3] {
    match site.ground {
        Ground::Sqlite => ["0", "0", "0"],
        Ground::Redis(_) | Ground::Postgres(_) | Ground::Shards(_) | Ground::Mixed(..) | Ground::At(_) => {
            ["-90000", "0", "90000"]
        }
    }
}

fn a_tick_a_second(site: &Site) {
    let skews = skews(site);
    let spawn =
        |nth: usize| site.start_with(&format!("scheduler{nth}"), "scheduler", Some(("GOFLOW_SKEW", skews[nth])));
    site.env.file("tick.yaml", SCHEDULE);
    site.env.run("apply tick.yaml").ok();
    let mut schedulers: Vec<_> = (0..3).map(spawn).collect();
    let (begun, mut kills) = (Instant::now(), 0);
    let mut ticked = 0;
    while ticked < TICKS as u64 {
        assert!(begun.elapsed() < Duration::from_secs(240), "{ticked} ticks only\n{}", site.log("scheduler0"));
        let (pause, victim) = (Duration::from_millis(1_500 + kills as u64 * 700 % 3_000), kills % 3);
        let until = Instant::now() + pause;
        site.wait("a pause", Duration::from_secs(60), || Instant::now() >= until);
        schedulers.remove(victim).kill();
        schedulers.insert(victim, spawn(victim));
        kills += 1;
        ticked = site.env.run("schedule list -o json").ok().json()[0]["ticked"].as_u64().expect("a count");
    }
    site.env.run("schedule pause tick").ok();
    drop(schedulers);

    let mut ticks: BTreeMap<i64, Duration> = BTreeMap::new();
    for job in site.jobs() {
        let time = |value: &serde_json::Value| {
            let text = value.as_str().expect("a time");
            text.parse::<jiff::Timestamp>().expect("RFC 3339").as_millisecond()
        };
        let (tick, came) = (time(&job["metadata"]["tick"]), time(&job["created_at"]));
        let late = Duration::from_millis(u64::try_from(came - tick).expect("not before it is due"));
        assert!(ticks.insert(tick, late).is_none(), "tick {tick} has two jobs");
    }
    let all: Vec<i64> = ticks.keys().copied().collect();
    assert!(all.len() >= TICKS, "{} jobs", all.len());
    assert!(all.windows(2).all(|pair| pair[1] - pair[0] == 1_000), "a tick is missing among {all:?}");
    // A lease and a second: more than any take-over needs.
    let latest = ticks.values().max().expect("there are ticks");
    assert!(*latest <= Duration::from_secs(16), "a tick came {latest:?} late");
    assert!(kills >= 20, "{kills} kills prove nothing");
    let shown = site.env.run("schedule list -o json").ok().json();
    assert_eq!((shown[0]["missed"].as_u64(), shown[0]["skipped"].as_u64()), (Some(0), Some(0)));
    site.verify();
}

/// A schedule that replaces: its run, which is at work, is cancelled with all its processes, and the next
/// one begins.
fn a_running_run_is_replaced(site: &Site) {
    site.env.file(
        "slow.yaml",
        "kind: Schedule\nname: slow\nevery: 3s\nworkflow: slow\noverlap: replace\n---\n\
         name: slow\nsteps: [{id: a, run: \"echo $$ >> pids; exec sleep 600\", retry: {max: 0}}]\n",
    );
    site.env.run("apply slow.yaml").ok();
    let up = site.start("up", "up -p 0");
    let pids = || std::fs::read_to_string(site.env.path().join("pids")).unwrap_or_default();
    let runs = |state: &str| {
        let found = site.env.run(&format!("workflow list -s {state} -n 0 -o json")).ok().json();
        found.as_array().map_or(0, Vec::len)
    };
    let limit = Duration::from_secs(120);
    site.wait("a run is at work", limit, || pids().lines().count() == 1);
    site.wait("two were replaced", limit, || runs("cancelled") >= 2);
    site.env.run("schedule pause slow").ok();
    let begun: Vec<String> = pids().lines().map(str::to_owned).collect();
    assert!(begun.len() >= 2, "{begun:?}");
    // W4: what was cancelled has no process left.
    let lives = |pid: &String| std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty());
    assert_eq!(begun[..2].iter().filter(|pid| lives(pid)).count(), 0, "{begun:?}");
    assert!(runs("running") <= 1);
    drop(up);
    site.verify();
}

#[test]
fn sqlite_replaces_a_running_run() {
    a_running_run_is_replaced(&Site::sqlite());
}

#[test]
fn redis_replaces_a_running_run() {
    a_running_run_is_replaced(&Site::redis());
}

#[test]
fn postgres_replaces_a_running_run() {
    a_running_run_is_replaced(&Site::postgres());
}

#[test]
fn sqlite_ticks_once_a_second() {
    a_tick_a_second(&Site::sqlite());
}

#[test]
fn redis_ticks_once_a_second() {
    a_tick_a_second(&Site::redis());
}

#[test]
fn postgres_ticks_once_a_second() {
    a_tick_a_second(&Site::postgres());
}
