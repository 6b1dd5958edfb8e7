//! Limits over all workers: of a queue, of a key, of a rate.

use std::time::Duration;

use goflow::domain::QueueSettings;

use super::*;

on_every_store! {
    a_queues_limit_of_three_holds_over_four_workers
    a_keys_limit_holds_over_four_workers
    a_hundred_a_second_are_a_hundred_a_second
    a_unique_key_is_got_by_one_of_eight_racing_producers
    a_unique_key_stays_taken_for_its_time
}

const MINUTES: Duration = Duration::from_secs(120);

fn work_with_four(site: &Site) {
    let workers: Vec<_> = (0..4).map(|nth| site.start(&format!("worker-{nth}"), "worker -c 5 --until-empty")).collect();
    site.wait("all jobs end", MINUTES, || site.is_drained());
    drop(workers);
}

fn a_queues_limit_of_three_holds_over_four_workers(site: &Site) {
    set_queue(site, "narrow", QueueSettings { concurrency: Some(3), ..QueueSettings::default() });
    enqueue_lines(site, "hold -q narrow", 30);
    work_with_four(site);
    let seen = witness(site);
    assert_eq!(seen.iter().filter(|one| !one.begins).count(), 30);
    assert_eq!(most_at_once(&seen), 3, "{seen:#?}");
    site.verify();
}

/// Each shard has its share: what one leaves unused no other gets, and never more than the limit run.
#[test]
fn a_queues_limit_holds_over_shards() {
    for limit in [3, 4] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = |nth: u32| format!("sqlite:{}", folder.path().join(format!("{nth}.db")).display());
        let site = crate::jobs::site(Ground::At([0, 1, 2].map(file).join(",")));
        set_queue(&site, "narrow", QueueSettings { concurrency: Some(limit), ..QueueSettings::default() });
        enqueue_lines(&site, "hold -q narrow", 40);
        let key = "hold -q narrow --partition together";
        enqueue_lines(&site, key, 8);
        work_with_four(&site);
        let seen = witness(&site);
        assert_eq!(seen.iter().filter(|one| !one.begins).count(), 48);
        let (most, limit) = (most_at_once(&seen), usize::try_from(limit).expect("a number"));
        assert!((2..=limit).contains(&most), "{most} at once, {limit} are allowed: {seen:#?}");
        site.verify();
    }
}

fn a_keys_limit_holds_over_four_workers(site: &Site) {
    for _ in 0..2 {
        enqueue_lines(site, "hold -q a --key customer --key-limit 2", 8);
        enqueue_lines(site, "hold -q b --key customer --key-limit 2", 8);
    }
    enqueue_lines(site, "hold -q c", 8);
    work_with_four(site);
    let seen = witness(site);
    assert_eq!(seen.iter().filter(|one| !one.begins).count(), 40);
    let of_the_key: Vec<_> = seen.iter().filter(|one| one.queue != "c").cloned().collect();
    assert_eq!(most_at_once(&of_the_key), 2, "{of_the_key:#?}");
    assert!(most_at_once(&seen) > 2, "others do not wait for the key");
    site.verify();
}

fn a_hundred_a_second_are_a_hundred_a_second(site: &Site) {
    let rate = "100/s".parse().expect("a rate");
    set_queue(site, "slow", QueueSettings { rate_limit: Some(rate), ..QueueSettings::default() });
    enqueue_lines(site, "touch -q slow", 1_150);
    let workers: Vec<_> = (0..2).map(|nth| site.start(&format!("worker-{nth}"), "worker -c 20")).collect();
    site.wait("all jobs end", MINUTES, || site.is_drained());
    drop(workers);
    let seen = witness(site);
    assert_eq!(seen.len(), 1_150);
    // The first second is the start of the workers.
    let first = seen[0].at + 1.0;
    let within = seen.iter().filter(|one| (first..first + 10.0).contains(&one.at)).count();
    println!("{within} starts in ten seconds");
    assert!((950..=1_050).contains(&within), "{within} starts in ten seconds");
}

fn a_unique_key_is_got_by_one_of_eight_racing_producers(site: &Site) {
    for round in 0..3 {
        let line = format!("enqueue hold --unique key-{round}");
        let racing: Vec<_> =
            (0..8).map(|_| site.env.command(line.split_whitespace()).spawn().expect("starts")).collect();
        let mut got = 0;
        for mut one in racing {
            match one.wait().expect("ends").code() {
                Some(0) => got += 1,
                code => assert_eq!(code, Some(4), "the others are refused"),
            }
        }
        assert_eq!(got, 1, "round {round}");
    }
    site.env.run("worker --until-empty").ok();
    site.env.run("enqueue hold --unique key-0").ok();
}

fn a_unique_key_stays_taken_for_its_time(site: &Site) {
    site.env.run("enqueue touch --unique once --unique-for 1h").ok();
    site.env.run("worker --until-empty").ok();
    let again = site.env.run("enqueue touch --unique once");
    assert_eq!(again.status, Some(4), "{}", again.text());
    site.env.run("enqueue touch --unique twice --unique-for 1s").ok();
    site.env.run("worker --until-empty").ok();
    site.wait("the key is free", MINUTES, || site.env.run("enqueue touch --unique twice").status == Some(0));
}
