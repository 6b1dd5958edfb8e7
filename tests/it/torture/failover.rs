//! Keys that move to another server under load: a node of a cluster dies and its replica takes over, a slot is
//! moved, sentinels make another master. What was acknowledged, and kept by a replica where the URL asks for
//! that, ends once.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::site::{Ground, Process, Site};
use crate::servers::redis_nodes::{Nodes, Watched};

/// How long everything may take to be done when the last fault is over.
const DRAIN: Duration = Duration::from_secs(90);

/// What a producer saw.
#[derive(Default)]
struct Seen {
    /// How many jobs were acknowledged.
    jobs: usize,
    last: Option<Instant>,
    /// The longest time without an acknowledgement.
    pause: Duration,
}

/// Two workers and a producer at work while `faults` happen. The producer is a command a batch, so each finds
/// its own way to the server.
fn under_load(site: &Site, faults: impl FnOnce(&dyn Fn() -> usize)) {
    let mut workers: Vec<Process> = (0..2).map(|nth| site.start(&format!("worker-{nth}"), "worker -c 5")).collect();
    let (stop, seen) = (AtomicBool::new(false), Mutex::new(Seen::default()));
    std::thread::scope(|scope| {
        let producer = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                // What is not acknowledged may or may not be there; what is must be.
                let answer = site.env.feed("enqueue work --text-lines", "a\nb\nc\n");
                let mut seen = seen.lock().expect("what was seen");
                if answer.status == Some(0) {
                    seen.jobs += 3;
                    let now = Instant::now();
                    let pause = seen.last.replace(now).map_or(Duration::ZERO, |last| now - last);
                    seen.pause = seen.pause.max(pause);
                }
                drop(seen);
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        let acknowledged = || seen.lock().expect("what was seen").jobs;
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| faults(&acknowledged)));
        stop.store(true, Ordering::Relaxed);
        producer.join().expect("the producer ends");
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    });
    let Seen { jobs: acknowledged, pause, .. } = seen.into_inner().expect("what was seen");
    let drained = site.wait("everything is done after the last fault", DRAIN, || site.is_drained());
    for worker in &mut workers {
        assert!(!worker.has_ended(), "a worker gave up:\n{}{}", site.log("worker-0"), site.log("worker-1"));
    }
    drop(workers);
    site.verify();
    let jobs = site.jobs();
    println!("{acknowledged} acknowledged, {} kept, longest pause {pause:?}, drained in {drained:?}", jobs.len());
    assert!(acknowledged > 60, "{acknowledged} acknowledged: this proves nothing");
    assert!(jobs.len() >= acknowledged, "{} jobs are kept of {acknowledged} acknowledged", jobs.len());
    let witness = site.witness();
    for job in &jobs {
        assert_eq!(job["state"], "completed", "{job:#}");
        let executions = witness.of(job["id"].as_str().expect("an id"));
        // A lease may lapse while the server is away; a claim's answer may be lost before the job began.
        let most = 1 + job["crashes"].as_u64().expect("a count");
        assert!(!executions.is_empty() && executions.len() as u64 <= most, "{job:#}\n{executions:#?}");
    }
}

/// Waits until so many more are acknowledged.
#[track_caller]
fn more(site: &Site, acknowledged: &dyn Fn() -> usize, jobs: usize) -> Duration {
    let wanted = acknowledged() + jobs;
    site.wait("more is acknowledged", Duration::from_secs(60), || acknowledged() >= wanted)
}

/// A node dies, its replica takes over, and the node comes back as a replica: twice. A write counts once the
/// replica has it, so nothing counts while there is none.
#[test]
fn a_node_of_a_cluster_that_dies_loses_nothing_acknowledged() {
    let mut nodes = Nodes::start(3, 1, &[]);
    let site = Site::on(Ground::At(format!("{}?replicas=1", nodes.url())), "15s");
    under_load(&site, |acknowledged| {
        for _ in 0..2 {
            more(&site, acknowledged, 30);
            let victim = nodes.home(0).expect("all agree who has the keys");
            nodes.nodes[victim].kill();
            let took = site.wait("a replica takes over", Duration::from_secs(40), || {
                nodes.home(0).is_some_and(|home| home != victim && nodes.is_master(home))
            });
            nodes.nodes[victim].revive();
            let back = more(&site, acknowledged, 3);
            println!("taken over after {took:?}, acknowledged again {back:?} after the node was back");
            nodes.wait_until_sound(3, 1);
        }
        more(&site, acknowledged, 30);
    });
}

/// The slot of all keys is moved to another node by the tool that comes with the server, and on to a third.
#[test]
fn a_slot_that_is_moved_loses_nothing() {
    /// A key space in the fourteenth slot of the second of three nodes.
    const SPACE: u16 = 112;
    let nodes = Nodes::start(3, 0, &[]);
    let site = Site::on(Ground::At(format!("{}#{SPACE}", nodes.url())), "15s");
    // Something to carry.
    site.env.feed("enqueue work --text-lines --delay 5s", "x\n".repeat(500)).ok();
    under_load(&site, |acknowledged| {
        for (from, to, slots) in [(1, 0, 14), (0, 2, 5_475)] {
            more(&site, acknowledged, 30);
            assert_eq!(nodes.home(SPACE), Some(from));
            let begun = Instant::now();
            nodes.reshard(from, to, slots);
            println!("{slots} slots moved in {:?}", begun.elapsed());
            site.wait("all know", Duration::from_secs(20), || nodes.home(SPACE) == Some(to));
        }
        more(&site, acknowledged, 30);
    });
}

/// The master dies and comes back as a replica: twice. Another replica goes on confirming writes.
#[test]
fn a_master_under_sentinels_that_dies_loses_nothing_acknowledged() {
    let mut watched = Watched::start(2, &[]);
    let site = Site::on(Ground::At(format!("{}?replicas=1", watched.url())), "15s");
    under_load(&site, |acknowledged| {
        for _ in 0..2 {
            more(&site, acknowledged, 30);
            let victim = watched.master().expect("the sentinels agree");
            watched.servers[victim].kill();
            let (_, took) = watched.wait_for_another_master(victim);
            let back = more(&site, acknowledged, 3);
            println!("another master after {took:?}, acknowledged again {back:?} later");
            watched.servers[victim].revive();
            watched.wait_until_sound(2);
        }
        more(&site, acknowledged, 30);
    });
}

/// Three shards on three nodes without replicas: while one is away the others go on.
#[test]
fn a_dead_node_stops_its_own_shard_alone() {
    let mut nodes = Nodes::start(3, 0, &["--cluster-require-full-coverage", "no"]);
    let site = Site::on(Ground::At(format!("{}?shards=3", nodes.url())), "15s");
    under_load(&site, |acknowledged| {
        more(&site, acknowledged, 60);
        let shards = site.env.run("shard list -o json").ok().json();
        let space = |shard: &serde_json::Value| -> u16 {
            let url = shard["url"].as_str().expect("a URL");
            url.split('#').nth(1).and_then(|space| space.parse().ok()).expect("a key space")
        };
        let spaces: Vec<u16> = shards.as_array().expect("a list").iter().map(space).collect();
        let homes: std::collections::BTreeSet<_> = spaces.iter().map(|space| nodes.home(*space)).collect();
        assert_eq!(homes.len(), 3, "each on a node of its own: {shards:#}");
        let victim = nodes.home(spaces[1]).expect("a home");
        nodes.nodes[victim].kill();
        let went_on = more(&site, acknowledged, 30);
        let away = site.env.run("shard list -o json").ok().json();
        assert!(away[1]["trouble"].is_string() && away[0]["trouble"].is_null(), "{away:#}");
        nodes.nodes[victim].revive();
        println!("the others acknowledged 30 more in {went_on:?}");
        nodes.wait_until_sound(3, 0);
        more(&site, acknowledged, 30);
        // One more: on the node with the fewest, which all are; in a key space that nobody has.
        let outcome = site.env.run("scale --shards 4 -o json").ok().json();
        assert_eq!(outcome["added"], serde_json::json!([3]), "{outcome:#}");
        more(&site, acknowledged, 60);
        let shards = site.env.run("shard list -o json").ok().json();
        assert!(shards[3]["pending"].as_u64().zip(shards[3]["finished"].as_u64()).is_some_and(|(a, b)| a + b > 0));
    });
}
