//! What comes before what: strict and weighted queues, and jobs that follow others.

use super::*;

on_every_store! {
    a_strict_queue_starves_the_lower_one
    weighted_queues_share_by_weight
    a_dependent_follows_its_parents
    a_dependent_goes_with_a_parent_that_died
}

fn a_strict_queue_starves_the_lower_one(site: &Site) {
    enqueue_lines(site, "touch -q low", 40);
    enqueue_lines(site, "touch -q high", 80);
    site.env.run("worker -c 1 -q high,low --strict --until-empty").ok();
    let seen = witness(site);
    let first = count_by_queue(seen.iter().take(80));
    assert_eq!(first.get("high"), Some(&80), "{first:?}");
    assert_eq!(seen.len(), 120);
}

fn weighted_queues_share_by_weight(site: &Site) {
    enqueue_lines(site, "touch -q light", 160);
    enqueue_lines(site, "touch -q heavy", 160);
    site.env.run("worker -c 2 -q heavy=3,light=1 --until-empty").ok();
    let seen = witness(site);
    let first = count_by_queue(seen.iter().take(160));
    let heavy = first.get("heavy").copied().unwrap_or(0);
    // 120 of 160, within a tenth.
    assert!((108..=132).contains(&heavy), "{first:?}");
    assert_eq!(seen.len(), 320);
}

fn a_dependent_follows_its_parents(site: &Site) {
    let parents: Vec<String> = (0..2).map(|_| site.env.run("enqueue hold").ok().line().to_owned()).collect();
    let child = site.env.run(&format!("enqueue touch --after {}", parents.join(","))).ok().line().to_owned();
    let waiting = show(site, &child);
    assert_eq!(waiting["state"], "scheduled", "{waiting:#}");
    let refused = site.env.run("enqueue touch --after 00000000-0000-7000-8000-000000000000");
    assert_eq!(refused.status, Some(3), "{}", refused.text());
    let workers: Vec<_> = (0..2).map(|nth| site.start(&format!("worker-{nth}"), "worker -c 1")).collect();
    site.wait("it completes", std::time::Duration::from_secs(60), || show(site, &child)["state"] == "completed");
    drop(workers);
    let seen = witness(site);
    let begun = seen.iter().find(|one| one.job == child).expect("it ran").at;
    for parent in &parents {
        let ended = seen.iter().find(|one| one.job == *parent && !one.begins).expect("it ended").at;
        assert!(ended < begun, "{parent} ended at {ended}, its dependent began at {begun}");
    }
    // One whose parent is over already goes at once.
    let late = site.env.run(&format!("enqueue touch --after {}", parents[0])).ok().line().to_owned();
    site.env.run("worker --until-empty").ok();
    let _worker = site.start("worker-3", "worker");
    site.wait("it completes", std::time::Duration::from_secs(60), || show(site, &late)["state"] == "completed");
}

fn a_dependent_goes_with_a_parent_that_died(site: &Site) {
    let parent = site.env.run("enqueue fail --max-retries 0").ok().line().to_owned();
    let child = site.env.run(&format!("enqueue touch --after {parent}")).ok().line().to_owned();
    let grandchild = site.env.run(&format!("enqueue touch --after {child}")).ok().line().to_owned();
    let _worker = site.start("worker", "worker");
    let limit = std::time::Duration::from_secs(60);
    for (of, cause) in [(&child, &parent), (&grandchild, &child)] {
        site.wait("it is cancelled", limit, || show(site, of)["state"] == "cancelled");
        let job = show(site, of);
        let word = job["error"]["message"].as_str().unwrap_or_default();
        assert!(word.contains(cause.as_str()) && job["error"]["class"] == "parent", "{job:#}");
    }
    assert!(witness(site).is_empty(), "neither of them ran");
    site.verify();
}
