//! The server is killed and restarted under load, again and again.

use std::time::{Duration, Instant};

use super::site::{Ground, Process, Site};
use super::size;
use crate::servers::{postgres::Cluster, redis::Server};

fn a_server_that_dies_loses_nothing_acknowledged(site: &mut Site) {
    let length = Duration::from_secs(size(40, 3_600) as u64);
    let mut workers: Vec<Process> = (0..2).map(|nth| site.start(&format!("worker-{nth}"), "worker -c 5")).collect();
    let begun = Instant::now();
    let (mut restarts, mut acknowledged) = (0, Vec::new());
    while begun.elapsed() < length {
        let until = Instant::now() + Duration::from_millis(2_500);
        while Instant::now() < until {
            // What is not acknowledged may or may not be there; what is must be.
            let answer = site.env.feed("enqueue work --text-lines -o jsonl", "a\nb\nc\n");
            if answer.status == Some(0) {
                acknowledged.push(3);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        match &mut site.ground {
            Ground::Redis(server) => {
                server.kill();
                std::thread::sleep(Duration::from_millis(500));
                server.revive();
            }
            Ground::Postgres(cluster) => {
                cluster.kill();
                std::thread::sleep(Duration::from_millis(500));
                cluster.up();
            }
            Ground::Sqlite | Ground::At(_) => panic!("there is no server to kill"),
        }
        restarts += 1;
    }
    let acknowledged: usize = acknowledged.iter().sum();
    assert!(restarts >= 3 && acknowledged > 0, "{restarts} restarts, {acknowledged} jobs: this proves nothing");
    let drained = site.wait("everything is done after the last restart", Duration::from_secs(90), || site.is_drained());
    for worker in &mut workers {
        assert!(!worker.has_ended(), "a worker gave up:\n{}{}", site.log("worker-0"), site.log("worker-1"));
    }
    site.verify();
    let jobs = site.jobs();
    println!("{restarts} restarts, {acknowledged} acknowledged, {} kept, drained in {drained:?}", jobs.len());
    assert!(jobs.len() >= acknowledged, "{} jobs are kept of {acknowledged} acknowledged", jobs.len());
    let witness = site.witness();
    for job in &jobs {
        assert_eq!(job["state"], "completed", "{job:#}");
        let executions = witness.of(job["id"].as_str().expect("an id")).len();
        // A lease may lapse while the server is away; a claim's answer may be lost before the job began.
        assert!(executions >= 1 && executions as u64 <= 1 + job["crashes"].as_u64().expect("a count"), "{job:#}");
    }
}

/// With an append-only file that is flushed at every write: what Redis calls `always`.
#[test]
fn a_redis_that_dies_loses_nothing_acknowledged() {
    let server = Server::start(&["--appendfsync", "always"]);
    a_server_that_dies_loses_nothing_acknowledged(&mut Site::on(Ground::Redis(server), "15s"));
}

#[test]
fn a_postgres_that_dies_loses_nothing_acknowledged() {
    a_server_that_dies_loses_nothing_acknowledged(&mut Site::on(Ground::Postgres(Cluster::with(&[])), "15s"));
}
