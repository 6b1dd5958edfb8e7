//! Shards that come and go under load: real producers and workers, real servers, one of which dies for ten
//! seconds. What was acknowledged ends once; nothing runs twice without a reason; work never stands still.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::site::{Ground, Process, Site};
use super::size;
use crate::servers::{redis::Server, redis_nodes::Nodes};

/// The longest time without an end of a job that is allowed, beside what the machine itself stood still.
const STILL: Duration = Duration::from_secs(2);

/// What the producers have put in.
#[derive(Default)]
struct Produced {
    acknowledged: BTreeSet<String>,
    /// Perhaps there in part: the command has said that it failed.
    doubtful: BTreeSet<String>,
}

/// How long a producer waits for an answer before it goes on with the next batch.
const PATIENCE: Duration = Duration::from_secs(1);

/// Feeds batches until it is told to stop: plain and delayed ones, or by the third producer what stays in its
/// order, which waits for the one shard where it belongs while that is away. So does a batch that was under way to a
/// shard when it died, as nobody can say whether it had arrived: the producer goes on meanwhile, as there would be
/// nothing left to do if that happened to all of them.
fn produce(site: &Site, who: usize, stop: &AtomicBool) -> Produced {
    let keeps_order = who == 2;
    std::thread::scope(|scope| {
        let mut sent = Vec::new();
        for batch in 0.. {
            if stop.load(Ordering::SeqCst) {
                break;
            }
            let names: Vec<String> = (0..6).map(|nth| format!("{who}-{batch}-{nth}")).collect();
            let lines = names.join("\n") + "\n";
            let line = match batch % 4 {
                _ if keeps_order => format!("enqueue work --text-lines --partition p{}", batch % 9),
                0 => "enqueue work --text-lines --delay 3s".to_owned(),
                _ => "enqueue work --text-lines".to_owned(),
            };
            let asked = Instant::now();
            let answer = scope.spawn(move || site.env.feed(&line, lines));
            while !answer.is_finished() && (keeps_order || asked.elapsed() < PATIENCE) {
                std::thread::sleep(Duration::from_millis(5));
            }
            sent.push((names, answer));
            std::thread::sleep(Duration::from_millis(150));
        }
        let mut produced = Produced::default();
        for (names, answer) in sent {
            let is_in = answer.join().expect("goflow answers").status == Some(0);
            let into = if is_in { &mut produced.acknowledged } else { &mut produced.doubtful };
            into.extend(names);
        }
        produced
    })
}

/// Watches the witness: the longest time without an end, without what this thread itself was held up.
fn longest_still(site: &Site, stop: &AtomicBool, most: &AtomicU64) {
    let ends = || {
        let text = std::fs::read_to_string(site.env.path().join("witness")).unwrap_or_default();
        text.lines().filter(|line| line.starts_with("end ")).count()
    };
    let begin = Instant::now();
    let (mut last, mut since, mut held_up) = (ends(), begin, Duration::ZERO);
    while !stop.load(Ordering::SeqCst) {
        let asleep = Instant::now();
        std::thread::sleep(Duration::from_millis(50));
        held_up += asleep.elapsed().saturating_sub(Duration::from_millis(60));
        let now = ends();
        if now > last {
            let still = since.elapsed().saturating_sub(held_up);
            if still > STILL / 2 {
                println!("{still:?} without an end until {:?} after the start", begin.elapsed());
            }
            most.fetch_max(u64::try_from(still.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
            (last, since, held_up) = (now, Instant::now(), Duration::ZERO);
        }
    }
}

fn states(site: &Site) -> Vec<String> {
    let list = site.env.run("shard list -o json").ok().json();
    list.as_array().expect("a list").iter().map(|shard| shard["state"].as_str().expect("a word").to_owned()).collect()
}

/// What the shards lie on: it grows to three and then to four, and one shard of four goes away and comes back.
trait Servers {
    fn grow(&self, site: &Site, shards: usize, round: usize);
    fn kill(&mut self, site: &Site);
    fn revive(&mut self);
}

/// Four servers, of which the first has the first shard.
struct Four(Vec<Server>);

impl Servers for Four {
    fn grow(&self, site: &Site, shards: usize, round: usize) {
        if round > 0 {
            site.env.run(&format!("scale --shards {shards}")).ok();
            return;
        }
        let servers = if shards == 3 { 1..3 } else { 3..4 };
        for server in &self.0[servers] {
            site.env.args(["shard", "add", &server.url()]).ok();
        }
    }

    fn kill(&mut self, _: &Site) {
        self.0[1].kill();
    }

    fn revive(&mut self) {
        self.0[1].revive();
    }
}

/// A cluster of three nodes, and the one that is away.
struct OnNodes(Nodes, Option<usize>);

impl Servers for OnNodes {
    fn grow(&self, site: &Site, shards: usize, _: usize) {
        site.env.run(&format!("scale --shards {shards}")).ok();
    }

    /// A node that serves one of the shards, and not the first.
    fn kill(&mut self, site: &Site) {
        let list = site.env.run("shard list -o json").ok().json();
        let there = list.as_array().expect("a list").iter().filter(|shard| shard["state"] == "active");
        let node = |shard: &serde_json::Value| {
            let url = shard["url"].as_str().expect("a URL");
            let space = url.rsplit_once('#').map_or(0, |(_, space)| space.parse().expect("a number"));
            self.0.home(space).expect("a node serves it")
        };
        let nodes: Vec<usize> = there.map(node).collect();
        let other = nodes.iter().copied().find(|node| *node != nodes[0]).expect("shards lie on several nodes");
        self.0.nodes[other].kill();
        self.1 = Some(other);
    }

    fn revive(&mut self) {
        if let Some(node) = self.1.take() {
            self.0.nodes[node].revive();
        }
    }
}

/// 1 → 3 → 4 → 2 shards while work goes on, and one of four is away for ten seconds.
#[test]
fn shards_come_and_go_under_load() {
    let servers: Vec<Server> = (0..4).map(|_| Server::start(&[])).collect();
    let site = Site::on(Ground::At(servers[0].url()), "5s");
    come_and_go(&site, Four(servers));
}

/// The same on the nodes of one cluster, whose other nodes go on while one is away.
#[test]
fn cluster_shards_come_and_go_under_load() {
    let nodes = Nodes::start(3, 0, &["--cluster-require-full-coverage", "no"]);
    let site = Site::on(Ground::At(nodes.url()), "5s");
    come_and_go(&site, OnNodes(nodes, None));
}

fn come_and_go(site: &Site, mut servers: impl Servers) {
    // From one store to a store of one shard; from then on all follow.
    site.env.run("scale --shards 1").ok();
    let workers: Vec<Process> = (0..3).map(|nth| site.start(&format!("worker-{nth}"), "worker -c 4")).collect();
    // There is always something to do.
    site.enqueue("work", 300);
    site.wait("work goes on", Duration::from_secs(30), || site.witness().total() > 0);
    let (stop, most) = (AtomicBool::new(false), AtomicU64::new(0));
    let produced: Vec<Produced> = std::thread::scope(|scope| {
        let producers: Vec<_> = (0..3)
            .map(|who| {
                scope.spawn({
                    let stop = &stop;
                    move || produce(site, who, stop)
                })
            })
            .collect();
        scope.spawn(|| longest_still(site, &stop, &most));
        let play = || {
            for round in 0..size(1, 20) {
                let known = states(site).len();
                servers.grow(site, 3, round);
                servers.grow(site, 4, round);
                let active = states(site).iter().filter(|state| *state == "active").count();
                assert_eq!(active, 4, "{known} were known before");
                std::thread::sleep(Duration::from_secs(3));
                servers.kill(site);
                std::thread::sleep(Duration::from_secs(10));
                servers.revive();
                std::thread::sleep(Duration::from_secs(2));
                site.env.run("scale --shards 2").ok();
            }
        };
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(play));
        stop.store(true, Ordering::SeqCst);
        let produced = producers.into_iter().map(|producer| producer.join().expect("it ends")).collect();
        if let Err(panic) = outcome {
            for nth in 0..3 {
                println!("{}", site.log(&format!("worker-{nth}")));
            }
            std::panic::resume_unwind(panic);
        }
        produced
    });
    let drained = site.wait("everything is done", Duration::from_secs(120), || site.is_drained());
    drop(workers);
    let states = states(site);
    assert_eq!(states.iter().filter(|state| *state == "active").count(), 2, "{states:?}");
    assert_eq!(states.iter().filter(|state| *state == "removed").count(), states.len() - 2, "{states:?}");
    site.verify();
    judge(site, &produced);
    let still = Duration::from_millis(most.load(Ordering::SeqCst));
    println!("drained {drained:?} after the last change, the longest time without an end was {still:?}");
    assert!(still <= STILL, "work stood still for {still:?}");
}

/// Every acknowledged job has ended once, and ran once for each reason to.
fn judge(site: &Site, produced: &[Produced]) {
    let witness = site.witness();
    let mut by_payload: BTreeMap<String, Vec<serde_json::Value>> = BTreeMap::new();
    let (mut jobs, mut again) = (0, 0);
    for job in site.jobs() {
        jobs += 1;
        assert_eq!(job["state"], "completed", "{job:#}");
        let executions = witness.of(job["id"].as_str().expect("an id")).len();
        let crashes = job["crashes"].as_u64().expect("a count") as usize;
        again += executions.saturating_sub(1);
        assert!(executions >= 1, "completed, and never ran: {job:#}");
        assert!(executions <= 1 + crashes, "{executions} executions and {crashes} crashes: {job:#}");
        let payload = job["payload"].as_str().map_or_else(|| job["payload"].to_string(), str::to_owned);
        by_payload.entry(payload).or_default().push(job);
    }
    let (mut acknowledged, mut doubtful) = (0, 0);
    for name in produced.iter().flat_map(|one| &one.acknowledged) {
        acknowledged += 1;
        assert_eq!(by_payload.get(name).map(Vec::len), Some(1), "{name} was acknowledged");
    }
    for name in produced.iter().flat_map(|one| &one.doubtful) {
        doubtful += 1;
        assert!(by_payload.get(name).is_none_or(|jobs| jobs.len() == 1), "{name} is there twice");
    }
    println!("{jobs} jobs, {acknowledged} acknowledged, {doubtful} in doubt, {again} executions more than jobs");
    assert!(acknowledged > 100, "{acknowledged} jobs prove nothing");
}
