//! Real processes under real faults: workers killed and stopped, servers killed and restarted. What
//! happened outside is told by the handlers themselves, in a witness file; what goflow says about it
//! must agree. `scripts/torture --long` plays the same at the long sizes.

mod bulk;
mod failover;
mod graphs;
mod kills;
mod locks;
mod moved_runs;
mod proxy;
mod sagas;
mod schedules;
mod servers_restart;
mod shards;
pub mod site;
mod soak;
mod witness;

/// A size: the first number in CI, the second with `GOFLOW_TORTURE=long`.
fn size(ci: usize, long: usize) -> usize {
    if std::env::var("GOFLOW_TORTURE").is_ok_and(|size| size == "long") { long } else { ci }
}
