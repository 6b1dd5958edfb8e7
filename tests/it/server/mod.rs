//! The server from outside: real processes, asked over real connections by a client that does nothing
//! on its own.

mod again;
mod client;
mod crowd;
mod doors;
mod locks;
mod metrics;
mod refused;
mod replaced;
mod skeleton;
mod v1;
mod webhooks;

pub use client::{Reply, Site};

/// The same on a store of each of the two kinds that servers stand over most.
pub fn on_sqlite_and_redis(test: fn(crate::cli::TestEnvironment)) {
    test(crate::cli::TestEnvironment::new());
    let redis = crate::servers::redis::Server::start(&[]);
    let mut env = crate::cli::TestEnvironment::new();
    env.set("GOFLOW_STORE", &redis.url());
    test(env);
}
