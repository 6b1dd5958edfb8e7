//! Laws of placement: where work goes, for random maps and keys, and how even it stays while one shard's
//! workers are slow.

use std::collections::{BTreeMap, BTreeSet};

use goflow::domain::{Job, Place, Shard};
use goflow::store::sharded::{Map, Strategy};
use goflow::store::*;
use proptest::prelude::*;

use super::make::*;
use super::sharded_alone::{Ground, born, ground, pending};

fn urls(n: usize) -> Vec<String> {
    (0..n).map(|nth| format!("memory:{nth}")).collect()
}

proptest! {
    /// One shard more takes keys only for itself, and about its share of them; the others keep theirs.
    #[test]
    fn one_shard_more_takes_its_share_and_moves_nothing_else(of in 1usize..12, salt in any::<u32>()) {
        let (before, after) = (Map::of_urls(&urls(of), Strategy::Hash), Map::of_urls(&urls(of + 1), Strategy::Hash));
        let keys = 4_000;
        let mut moved = 0;
        for nth in 0..keys {
            let key = format!("{salt}/{nth}");
            let (was, is) = (before.home(&key).expect("a home"), after.home(&key).expect("a home"));
            if was != is {
                prop_assert_eq!(usize::from(is), of);
                moved += 1;
            }
        }
        // Five standard deviations.
        let share = f64::from(keys) / (of + 1) as f64;
        let room = 5.0 * (share * (1.0 - 1.0 / (of + 1) as f64)).sqrt();
        prop_assert!((f64::from(moved) - share).abs() <= room, "{} of {} moved to one of {}", moved, keys, of + 1);
    }

    /// Of a shard that goes, the keys go to the others evenly; no other key moves.
    #[test]
    fn one_shard_less_moves_its_own_keys_alone(of in 2u16..10, gone in 0u16..10, salt in any::<u32>()) {
        let gone = gone % of;
        let all = Map::of_urls(&urls(usize::from(of)), Strategy::Hash);
        let rest = all.changed(|map| map.shards[usize::from(gone)].state = goflow::store::sharded::State::Draining);
        for nth in 0..500 {
            let key = format!("{salt}/{nth}");
            let (was, is) = (all.home(&key).expect("a home"), rest.home(&key).expect("a home"));
            prop_assert!(is != gone && (was == gone || was == is));
            // Who holds the key is looked for where it was.
            prop_assert_eq!(rest.homes_before(&key), if was == is { vec![] } else { vec![was] });
        }
    }
}

#[tokio::test]
async fn a_key_keeps_its_order_on_one_shard() {
    let Ground { store, .. } = ground(4, Strategy::Hash).await;
    let keys: Vec<String> = (0..12).map(|nth| format!("customer-{nth}")).collect();
    let mut given: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for _ in 0..20 {
        for key in &keys {
            let job = Job { metadata: [("key".to_owned(), key.clone())].into(), ..born(&store, Near::Key(key)) };
            given.entry(key).or_default().push(put(&store, job).await);
        }
    }
    for ids in given.values() {
        assert_eq!(ids.iter().map(|id| id.shard()).collect::<BTreeSet<_>>().len(), 1);
    }
    let homes: BTreeSet<Shard> = given.values().map(|ids| ids[0].shard()).collect();
    assert!(homes.len() > 2, "keys are spread: {homes:?}");
    let worker = hired(&store).await;
    let mut done: BTreeMap<String, Vec<_>> = BTreeMap::new();
    loop {
        let claimed = claim(&store, worker, 7).await;
        if claimed.is_empty() {
            break;
        }
        for one in claimed {
            done.entry(one.job.metadata["key"].clone()).or_default().push(one.job.id);
            make(&store, settle(&one, super::make::done())).await;
        }
    }
    for (key, ids) in given {
        assert_eq!(done[key], ids, "{key} was done in the order in which it came");
    }
}

/// The workers of one shard do a tenth of what the others' do. Where the least waits gets the new work, so
/// that what waits stays even.
#[tokio::test]
async fn least_loaded_stays_even_beside_slow_workers() {
    let Ground { store, parts, .. } = ground(3, Strategy::LeastLoaded).await;
    let mut workers = Vec::new();
    for part in &parts {
        workers.push(hired(&**part).await);
    }
    for _ in 0..80 {
        // A producer gives many within one look of the keeper.
        for _ in 0..4 {
            let jobs = (0..15).map(|_| now(born(&store, Near::Nothing))).collect();
            enqueue(&store, jobs).await;
        }
        for (nth, part) in parts.iter().enumerate() {
            let does = if nth == 1 { 1 } else { 10 };
            for one in claim(&**part, workers[nth], does).await {
                make(&**part, settle(&one, done())).await;
            }
        }
        store.stats().await.expect("stats");
    }
    let mut depths = Vec::new();
    for part in &parts {
        depths.push(pending(&**part).await);
    }
    let mean = depths.iter().sum::<u64>() / 3;
    assert!(mean > 500, "something waits: {depths:?}");
    assert!(depths.iter().all(|depth| depth.abs_diff(mean) * 10 <= mean), "within a tenth: {depths:?}");
    let done: Vec<usize> = {
        let mut done = Vec::new();
        for part in &parts {
            done.push(ids(&**part, Place::Completed).await.len());
        }
        done
    };
    assert!(done[0] > 5 * done[1], "its workers are slow: {done:?}");
}
