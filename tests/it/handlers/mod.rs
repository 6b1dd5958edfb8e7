//! Handlers from outside: real processes and real connections. `http` and `pool` type commands at a
//! worker, `hostile` sends what has ever become code, `library` uses the crate as others do.

mod hostile;
mod http;
mod library;
mod pool;

use std::path::PathBuf;

use crate::cli::TestEnvironment;

/// The job with this id, once a worker has worked off all there is.
pub fn worked(env: &TestEnvironment, id: &str) -> serde_json::Value {
    env.run("worker --until-empty").ok();
    job(env, id)
}

pub fn job(env: &TestEnvironment, id: &str) -> serde_json::Value {
    env.run(&format!("job show {id} -o json")).ok().json()
}

pub fn example(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples").join(name)
}

/// Waits for what other processes do; fails if it never happens.
#[track_caller]
pub fn until(what: &str, mut happened: impl FnMut() -> bool) {
    let (sender, receiver) = std::sync::mpsc::channel::<()>();
    for _ in 0..3_000 {
        if happened() {
            return;
        }
        // Nobody sends: a pause that is not a sleep of the test's thread in the dark.
        let _ = receiver.recv_timeout(std::time::Duration::from_millis(20));
    }
    drop(sender);
    panic!("never: {what}");
}
