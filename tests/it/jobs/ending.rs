//! How jobs are ended: cancelled with all their processes, or by their deadline; and a worker that is
//! told to end.

use std::time::{Duration, Instant};

use super::*;

on_every_store! {
    a_cancelled_job_ends_with_its_whole_tree
    what_waits_is_cancelled_too
    a_deadline_ends_all_attempts
    a_drained_worker_finishes_and_ends
}

const LIMIT: Duration = Duration::from_secs(60);

fn alive(pid: &str) -> bool {
    // A zombie is over: its parent has only not looked yet.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.trim().is_empty() && !rest.trim_start().starts_with('Z'))
}

fn ask(site: &Site, job: &str) {
    let job = id(job);
    assert_eq!(beside(site, async |store| store.ask(&[job]).await.expect("ask")), [true]);
}

fn a_cancelled_job_ends_with_its_whole_tree(site: &Site) {
    // A worker with room, and one that is full: it does not ask for work, and must hear of it all the same.
    for concurrency in [5, 1] {
        let _ = std::fs::remove_file(site.env.path().join("pids"));
        let job = site.env.run("enqueue endless").ok().line().to_owned();
        let _worker = site.start(&format!("worker-{concurrency}"), &format!("worker -c {concurrency}"));
        let pids = || std::fs::read_to_string(site.env.path().join("pids")).unwrap_or_default();
        site.wait("it runs", LIMIT, || pids().split_whitespace().count() == 2);
        let pids = pids();
        assert!(pids.split_whitespace().all(alive), "{pids}");
        let asked = Instant::now();
        ask(site, &job);
        site.wait("it is cancelled", LIMIT, || show(site, &job)["state"] == "cancelled");
        println!("cancelled within {:?}", asked.elapsed());
        assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
        assert!(!pids.split_whitespace().any(alive), "a process is left: {pids}");
        assert_eq!(show(site, &job)["error"]["class"], "cancelled");
    }
    site.verify();
}

fn what_waits_is_cancelled_too(site: &Site) {
    let ids: Vec<String> = ["touch --delay 1h", "touch -q other", "touch --key k"]
        .map(|line| site.env.run(&format!("enqueue {line}")).ok().line().to_owned())
        .to_vec();
    let held = site.env.run(&format!("enqueue touch --after {}", ids[0])).ok().line().to_owned();
    for job in &ids {
        ask(site, job);
    }
    let _worker = site.start("worker", "worker -q nothing");
    for job in ids.iter().chain([&held]) {
        site.wait("it is cancelled", LIMIT, || show(site, job)["state"] == "cancelled");
    }
    assert!(witness(site).is_empty());
}

fn a_deadline_ends_all_attempts(site: &Site) {
    let retried = site.env.run("enqueue fail --max-retries 1000 --deadline 4s").ok().line().to_owned();
    let runs = site.env.run("enqueue endless --deadline 3s").ok().line().to_owned();
    let _worker = site.start("worker", "worker");
    for job in [&retried, &runs] {
        site.wait("it is buried", LIMIT, || show(site, job)["state"] == "dead");
        assert_eq!(show(site, job)["error"]["class"], "deadline", "{:#}", show(site, job));
    }
    assert!(show(site, &retried)["attempt"].as_u64() >= Some(2), "it was tried again until then");
    let pids = std::fs::read_to_string(site.env.path().join("pids")).expect("it ran");
    assert!(!pids.split_whitespace().any(alive), "a process is left: {pids}");
}

fn a_drained_worker_finishes_and_ends(site: &Site) {
    let job = site.env.run("enqueue hold").ok().line().to_owned();
    let mut worker = site.start("worker", "worker -c 1");
    site.wait("it runs", LIMIT, || !witness(site).is_empty());
    let later = site.env.run("enqueue touch").ok().line().to_owned();
    let drained = beside(site, async |store| {
        let worker = store.workers().await.expect("workers").remove(0).info.id;
        store.drain(worker).await.expect("drain")
    });
    assert!(drained);
    // It hears of it with its next sign of life.
    site.wait("it ends", LIMIT, || worker.has_ended());
    assert_eq!(show(site, &job)["state"], "completed");
    assert!(matches!(show(site, &later)["state"].as_str(), Some("pending" | "completed")));
    site.verify();
}
