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
    let mut block = vec![0u64; BLOCK];
    let mut filled = 0;
    while filled < BLOCK * 8 {
        // SAFETY: the pointer and the length stay within `block`, which lives through the call.
        let got = unsafe { libc::getrandom(block.as_mut_ptr().cast::<u8>().add(filled).cast(), BLOCK * 8 - filled, 0) };
        match usize::try_from(got) {
            Ok(got) => filled += got,
            Err(_) if std::io::Error::last_os_error().kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return fallback_block(),
        }
    }
    block
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
