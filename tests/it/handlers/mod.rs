//! Handlers from outside: real processes and real connections. `http` and `pool` type commands at a
//! worker, `hostile` sends what has ever become code, `library` uses the crate as others do.

mod batch;
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
    let begun = std::time::Instant::now();
    while begun.elapsed() < std::time::Duration::from_secs(60) {
        if happened() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("never: {what}");
}

/// Enqueues so many jobs with their number as payload.
pub fn enqueue_numbers(env: &TestEnvironment, kind: &str, count: usize) {
    let lines: String = (0..count).map(|nth| format!("{nth}\n")).collect();
    env.feed(&format!("enqueue {kind} --lines --max-retries 0"), lines).ok();
}
