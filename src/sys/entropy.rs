//! The machine's randomness, for ids and for the jitter of delays.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::domain::Entropy;

/// The kernel's generator, read in blocks: a bulk enqueue needs an id for each line.
#[derive(Default)]
pub struct SystemEntropy {
    pool: Mutex<Vec<u64>>,
}

const BLOCK: usize = 256;

impl Entropy for SystemEntropy {
    fn next(&self) -> u64 {
        let mut pool = self.pool.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if pool.is_empty() {
            *pool = kernel_block();
        }
        // Never empty here; zero would still be a valid answer.
        pool.pop().unwrap_or_default()
    }
}

fn kernel_block() -> Vec<u64> {
    let mut bytes = [0u8; BLOCK * 8];
    match getrandom::fill(&mut bytes) {
        Ok(()) => {
            bytes.chunks_exact(8).map(|word| word.iter().fold(0, |value, byte| value << 8 | u64::from(*byte))).collect()
        }
        Err(_) => fallback_block(),
    }
}

/// For kernels and sandboxes without getrandom(2): the standard library's own keyed hasher, whose
/// keys are random in every process.
fn fallback_block() -> Vec<u64> {
    use std::hash::BuildHasher;
    static BLOCKS: AtomicU64 = AtomicU64::new(0);
    let nth = BLOCKS.fetch_add(1, Ordering::Relaxed);
    let keyed = std::collections::hash_map::RandomState::new();
    (0..BLOCK as u64).map(|place| keyed.hash_one((nth, place))).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn values_do_not_repeat_over_blocks_and_both_sources() {
        let source = SystemEntropy::default();
        let mut seen: BTreeSet<u64> = (0..3 * BLOCK).map(|_| source.next()).collect();
        seen.extend(fallback_block());
        seen.extend(fallback_block());
        assert_eq!(seen.len(), 5 * BLOCK);
        assert!((0..1000).map(|_| source.fraction()).all(|unit| (0.0..1.0).contains(&unit)));
    }
}
