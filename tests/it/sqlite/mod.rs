//! What only a file shared by processes must stand: many of them at once, death in the middle of a
//! write, a full disk, a failing one; files that are no store; and wake-ups from one to another.
//!
//! A child is this very test binary, told by its environment what to do.

mod crowd;
mod faults;
mod files;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use goflow::domain::{Clock, Job, JobId, Json, Name, Shard};
use goflow::store::{SqliteOptions, SqliteStore};

/// The machine's clock.
pub use goflow::sys::clock::SystemClock as Wall;

pub fn open(path: &Path) -> goflow::store::Result<SqliteStore> {
    SqliteStore::open(path, Arc::new(Wall), SqliteOptions::default())
}

/// Random bits that no other process draws.
pub fn bits() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let nth = NEXT.fetch_add(1, Ordering::Relaxed);
    let mut z = (u64::from(std::process::id()) << 32).wrapping_add(nth).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

pub fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

pub fn job() -> Job {
    let payload = Json::string(&"x".repeat(200));
    Job::new(JobId::from_parts(Wall.now(), Shard(0), bits()), name("noop"), name("default"), payload)
}

/// This binary again, running one ignored test as a child on a database.
pub fn child(test: &str, path: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command.args(["--exact", test, "--ignored", "--nocapture", "--test-threads=1"]);
    command.env("GOFLOW_TEST_CHILD", path);
    command
}

/// What the environment says: how a child is told what to do.
#[expect(clippy::disallowed_methods, reason = "a test has no configuration to read it from")]
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The database a child was told to work on; `None` when nobody called it.
pub fn told() -> Option<std::path::PathBuf> {
    environment("GOFLOW_TEST_CHILD").map(Into::into)
}
