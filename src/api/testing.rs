//! What unit tests of this layer share: a clock that stands still, and numbers that no test depends on. It
//! is no part of the program.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::domain::{Clock, Entropy, Ms};

/// It is noon, always.
pub struct Noon;

impl Clock for Noon {
    fn now(&self) -> Ms {
        Ms(1_770_000_000_000)
    }
}

/// The same numbers in every test run, evenly spread (splitmix64).
pub struct Seed(AtomicU64);

impl Seed {
    pub fn new(seed: u64) -> Seed {
        Seed(AtomicU64::new(seed))
    }
}

impl Entropy for Seed {
    fn next(&self) -> u64 {
        let mut z = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
