//! A Redis Cluster against the contract. A cluster takes seconds to come together, so all laws share one: each
//! has a key space of its own, which lie on all nodes, and several are played at once.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

use super::backends::{self, Subject};
use super::{
    differential, laws, limit_laws, looks, run_laws, schedule_laws, shared_laws, standby_laws, talk_laws,
    wide_differential, wide_run_laws,
};
use crate::servers::redis_nodes::Nodes;

type Played = Pin<Box<dyn Future<Output = Subject> + Send>>;
type Law = Box<dyn FnOnce(Subject) -> Played + Send>;

/// How many laws are played at once.
const ABREAST: usize = 6;

async fn play(url: &str, laws: Vec<(&'static str, Law)>) {
    let (count, spaces) = (laws.len(), Arc::new(AtomicU16::new(0)));
    let laws = Arc::new(Mutex::new(laws));
    let players = (0..ABREAST).map(|_| {
        let (laws, spaces, url) = (laws.clone(), spaces.clone(), url.to_owned());
        tokio::spawn(async move {
            loop {
                let next = laws.lock().expect("the laws").pop();
                let Some((name, law)) = next else { return };
                let subject = backends::key_space(&url, spaces.fetch_add(1, Ordering::Relaxed)).await;
                // A law that fails is named, and ends the test.
                let subject = tokio::spawn(law(subject)).await.unwrap_or_else(|_| panic!("{name} does not hold"));
                let differences = subject.store.verify().await.expect("verify answers");
                assert!(differences.is_empty(), "{name}: {differences:#?}");
            }
        })
    });
    for player in players.collect::<Vec<_>>() {
        player.await.expect("every law holds");
    }
    assert_eq!(usize::from(spaces.load(Ordering::Relaxed)), count);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_laws_hold_on_a_cluster() {
    let cluster = Nodes::start(3, 0, &[]);
    let mut all: Vec<(&'static str, Law)> = Vec::new();
    laws_of_all! { gather all }
    wide_laws! { gather all }
    undivided_laws! { gather all }
    standby_laws! { gather all }
    assert!(all.len() > 60, "{} laws", all.len());
    play(&cluster.url(), all).await;
    let homes: std::collections::BTreeSet<_> = (0..20).map(|space| cluster.home(space)).collect();
    assert_eq!(homes.len(), 3, "the key spaces lay on all nodes");
}
