//! Workers killed with -9, and workers that sleep through their lease.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::site::{Ground, Process, Site};
use super::size;
use crate::servers::{postgres::Cluster, redis::Server, redis_nodes::Nodes};

/// 2,000 jobs on four workers, one of which is killed twice a second. Each job ends in one terminal
/// state, each second execution is explained by a crash, and no retry is spent.
fn killed_workers_lose_nothing(site: &Site) {
    let (jobs, kills) = (size(2_000, 100_000), size(40, 1_000));
    site.enqueue("work", jobs);
    let spawn = |nth: usize| site.start(&format!("worker-{nth}"), "worker -c 10");
    let mut workers: Vec<Process> = (0..4).map(spawn).collect();
    let mut killed = 0;
    let begun = Instant::now();
    while killed < kills && !site.is_drained() {
        std::thread::sleep(Duration::from_millis(400));
        let victim = killed % workers.len();
        std::mem::replace(&mut workers[victim], spawn(victim)).kill();
        killed += 1;
    }
    assert!(killed >= kills.min(20), "only {killed} workers were killed in {:?}", begun.elapsed());
    let drained = site.wait("all jobs are done after the last kill", Duration::from_secs(240), || site.is_drained());
    println!("{jobs} jobs, {killed} kills, drained {drained:?} after the last one");
    drop(workers);
    site.verify();

    let witness = site.witness();
    let all = site.jobs();
    assert_eq!(all.len(), jobs, "every acknowledged job is there, once");
    let (mut crashes, mut poisoned, mut doubles) = (0, 0, 0);
    for job in &all {
        let id = job["id"].as_str().expect("an id");
        let executions = witness.of(id);
        let crashed = job["crashes"].as_u64().expect("a count") as usize;
        crashes += crashed;
        doubles += usize::from(executions.len() > 1);
        assert!(executions.len() <= 1 + crashed, "{job:#}\n{executions:#?}");
        assert!(executions.windows(2).all(|pair| pair[0].epoch < pair[1].epoch), "{executions:#?}");
        assert!(executions.iter().all(|one| one.attempt == 1), "no retry was spent: {executions:#?}");
        match job["state"].as_str() {
            Some("completed") => {
                let epoch: u64 =
                    job["result"].as_str().and_then(|text| text.parse().ok()).expect("the epoch as result");
                let of = executions.iter().find(|one| one.epoch == epoch).expect("the result is of an execution");
                assert!(of.ended, "{job:#}");
                assert_eq!(job["attempt"], 1, "{job:#}");
            }
            Some("dead") => {
                // Three of the kills hit this very job.
                assert_eq!(crashed, 3, "{job:#}");
                poisoned += 1;
            }
            state => panic!("{state:?}: {job:#}"),
        }
    }
    println!("{crashes} leases were taken over, {doubles} jobs ran again, {poisoned} were buried as poison");
    assert!(doubles > 0, "no kill hit a running job: this proves nothing");
    assert!(poisoned <= jobs / 100, "{poisoned} innocent jobs were buried");
}

#[test]
fn killed_workers_lose_nothing_on_sqlite() {
    killed_workers_lose_nothing(&Site::sqlite());
}

#[test]
fn killed_workers_lose_nothing_on_redis() {
    killed_workers_lose_nothing(&Site::redis());
}

#[test]
fn killed_workers_lose_nothing_on_postgres() {
    killed_workers_lose_nothing(&Site::postgres());
}

/// Three shards, each on a node of its own.
#[test]
fn killed_workers_lose_nothing_on_a_redis_cluster() {
    let nodes = Nodes::start(3, 0, &[]);
    killed_workers_lose_nothing(&Site::on(Ground::At(format!("{}?shards=3", nodes.url())), "15s"));
}

/// The jobs of a killed worker run again elsewhere within 20 s.
fn a_dead_worker_is_replaced_within_20_s(site: &Site) {
    let victim = site.start("victim", "worker -c 3");
    site.enqueue("endless", 3);
    site.wait("three jobs run", Duration::from_secs(20), || site.witness().total() == 3);
    let _heir = site.start("heir", "worker -c 3");
    // The heir is at work before the other one dies.
    site.enqueue("work", 1);
    site.wait("the heir works", Duration::from_secs(20), || site.witness().total() == 4);
    victim.kill();
    let took = site.wait("one of the jobs is taken over", Duration::from_secs(20), || site.witness().total() == 5);
    println!("taken over after {took:?}");
    let stats = site.stats();
    // One suspect at a time: the other two wait for a worker that is alone.
    assert_eq!((stats["running"].as_u64(), stats["pending"].as_u64()), (Some(1), Some(2)), "{stats:#}");
}

#[test]
fn a_dead_worker_is_replaced_within_20_s_on_sqlite() {
    a_dead_worker_is_replaced_within_20_s(&Site::sqlite());
}

#[test]
fn a_dead_worker_is_replaced_within_20_s_on_redis() {
    a_dead_worker_is_replaced_within_20_s(&Site::redis());
}

#[test]
fn a_dead_worker_is_replaced_within_20_s_on_postgres() {
    a_dead_worker_is_replaced_within_20_s(&Site::postgres());
}

/// A worker sleeps through its lease with a finished job in its hands. When it wakes, its settle is
/// refused, and the result of the one who took over stays.
fn a_stale_settle_is_refused(site: &Site) {
    for _ in 0..size(4, 300) {
        let sleeper = site.start("sleeper", "worker -c 1");
        let before = site.witness().total();
        site.enqueue("slow", 1);
        site.wait("the job runs", Duration::from_secs(20), || site.witness().total() > before);
        sleeper.signal(Signal::STOP);
        let heir = site.start("heir", "worker -c 1");
        site.wait("another worker does it", Duration::from_secs(30), || site.is_drained());
        let settled = site.jobs();
        sleeper.signal(Signal::CONT);
        site.wait("the sleeper is refused", Duration::from_secs(20), || {
            let log = site.log("sleeper");
            log.contains("lease was gone") || log.contains("lease is lost")
        });
        assert_eq!(site.jobs(), settled, "nothing the sleeper says changes anything");
        drop((sleeper, heir));
        std::fs::remove_file(site.env.path().join("sleeper.log")).expect("a log");
    }
    let witness = site.witness();
    for job in site.jobs() {
        let executions = witness.of(job["id"].as_str().expect("an id"));
        let last = executions.iter().map(|one| one.epoch).max();
        assert_eq!(job["result"].as_str().and_then(|text| text.parse().ok()), last, "{job:#}\n{executions:#?}");
        // The lease is so short that a busy machine may cost the heir its own as well: that is a
        // crash more and an execution more, and still no retry.
        let crashes = job["crashes"].as_u64().expect("a count") as usize;
        assert!(crashes >= 1 && job["attempt"] == 1, "{job:#}");
        assert_eq!(executions.len(), 1 + crashes, "{executions:#?}");
    }
    site.verify();
}

#[test]
fn a_stale_settle_is_refused_on_sqlite() {
    a_stale_settle_is_refused(&Site::on(Ground::Sqlite, "2s"));
}

#[test]
fn a_stale_settle_is_refused_on_redis() {
    a_stale_settle_is_refused(&Site::on(Ground::Redis(Server::start(&[])), "2s"));
}

#[test]
fn a_stale_settle_is_refused_on_postgres() {
    a_stale_settle_is_refused(&Site::on(Ground::Postgres(Cluster::with(&[])), "2s"));
}

/// A job that kills its worker is buried with the third one; nobody who ran beside it is.
fn poison_takes_no_bystanders(site: &Site) {
    site.enqueue("slow", 10);
    site.enqueue("poison", size(2, 20));
    site.enqueue("slow", 10);
    let spawn = |nth: usize| site.start(&format!("worker-{nth}"), "worker -c 4");
    let mut workers: Vec<Process> = (0..2).map(spawn).collect();
    site.wait("everything is over", Duration::from_secs(200), || {
        for (nth, worker) in workers.iter_mut().enumerate() {
            if worker.has_ended() {
                *worker = spawn(nth);
            }
        }
        site.is_drained()
    });
    drop(workers);
    site.verify();
    for job in site.jobs() {
        let (crashes, attempt) = (job["crashes"].as_u64(), job["attempt"].as_u64());
        if job["type"] == "poison" {
            assert_eq!((job["state"].as_str(), crashes), (Some("dead"), Some(3)), "{job:#}");
            assert!(job["error"].to_string().contains("poison"), "{job:#}");
        } else {
            assert_eq!((job["state"].as_str(), attempt), (Some("completed"), Some(1)), "{job:#}");
            assert!(crashes <= Some(2), "{job:#}");
        }
    }
}

#[test]
fn poison_takes_no_bystanders_on_sqlite() {
    poison_takes_no_bystanders(&Site::on(Ground::Sqlite, "2s"));
}

#[test]
fn poison_takes_no_bystanders_on_redis() {
    poison_takes_no_bystanders(&Site::on(Ground::Redis(Server::start(&[])), "2s"));
}

#[test]
fn poison_takes_no_bystanders_on_postgres() {
    poison_takes_no_bystanders(&Site::on(Ground::Postgres(Cluster::with(&[])), "2s"));
}
