//! The seeded simulation: the real engine, several workers and the reference store in one process,
//! under a paused clock, with a store that fails, workers that die and workers that hang. The same
//! seed does the same; a failing one is printed and replays alone:
//! `GOFLOW_SEED=1234 cargo nextest run simulation`. More seeds: `GOFLOW_SEEDS=1000000`.

mod features;
mod moments;
mod sagas;
mod scenario;
mod schedules;
mod steering;
pub mod world;

use std::time::Duration;

/// Four tests of a quarter each, so that they run side by side.
const SEEDS: u64 = 2_000;

fn seeds(quarter: u64) -> Vec<u64> {
    if let Some(seed) = number("GOFLOW_SEED") {
        return if quarter == 0 { vec![seed] } else { vec![] };
    }
    (0..number("GOFLOW_SEEDS").unwrap_or(SEEDS)).filter(|seed| seed % 4 == quarter).collect()
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().and_then(|text| text.parse().ok())
}

fn run(seed: u64) -> scenario::Report {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime starts");
    // Virtual time: a simulation that hangs runs into this at once.
    let limit = Duration::from_secs(3 * 24 * 3600);
    runtime.block_on(async { tokio::time::timeout(limit, scenario::play(seed)).await.expect("the simulation ends") })
}

fn quarter(quarter: u64) {
    let mut total = scenario::Report::default();
    let seeds = seeds(quarter);
    for seed in &seeds {
        let played = std::panic::catch_unwind(|| run(*seed));
        let report = played.unwrap_or_else(|_| panic!("failed: replay with GOFLOW_SEED={seed}"));
        total.add(&report);
    }
    println!("{} seeds: {total:?}", seeds.len());
    if seeds.len() > 20 {
        assert!(total.everything_happened(), "a simulation without faults proves nothing: {total:?}");
    }
}

#[test]
fn first_quarter_of_the_seeds() {
    quarter(0);
}

#[test]
fn second_quarter_of_the_seeds() {
    quarter(1);
}

#[test]
fn third_quarter_of_the_seeds() {
    quarter(2);
}

#[test]
fn fourth_quarter_of_the_seeds() {
    quarter(3);
}

#[test]
fn a_seed_replays_exactly() {
    for seed in [3, 1_415] {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
}
