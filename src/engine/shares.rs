//! Which queue is asked first: each gets a share of the claims by its weight. A queue's account rises
//! by what it gave, divided by its weight, and the lowest account is asked first (stride scheduling,
//! Waldspurger and Weihl 1995). It knows no store.

use std::collections::BTreeMap;

use crate::domain::{Entropy, Name};

/// The accounts of a worker.
#[derive(Debug, Default)]
pub struct Shares {
    accounts: BTreeMap<Name, f64>,
    /// The account of the queue that was served last: who was empty gets no credit for that time.
    floor: f64,
}

/// A queue and its weight, at least 1.
pub type Weighted = (Name, u32);

impl Shares {
    /// The order in which to ask, for `want` jobs. They are put down to the first one until
    /// [`Shares::served`] knows better, so that two claims under way do not ask the same one first.
    pub fn order(&mut self, queues: &[Weighted], want: usize, entropy: &dyn Entropy) -> Vec<Weighted> {
        let floor = self.floor;
        for (queue, weight) in queues {
            // Many workers begin at once: not all with the same queue.
            let start = || floor + entropy.fraction() / f64::from(*weight);
            self.accounts.entry(queue.clone()).or_insert_with(start);
        }
        let account = |queue: &Name| self.accounts.get(queue).copied().unwrap_or(floor);
        let mut order: Vec<Weighted> = queues.to_vec();
        order.sort_by(|a, b| account(&a.0).total_cmp(&account(&b.0)));
        if let Some((first, weight)) = order.first() {
            self.add(first, want as f64 / f64::from(*weight));
        }
        order
    }

    /// What a claim in this order gave, by queue.
    pub fn served(&mut self, order: &[Weighted], want: usize, given: &BTreeMap<Name, usize>) {
        if let Some((first, weight)) = order.first() {
            self.add(first, -(want as f64) / f64::from(*weight));
        }
        let from = |queue: &Name| given.get(queue).copied().unwrap_or(0);
        let last = order.iter().rposition(|(queue, _)| from(queue) > 0);
        if let Some((queue, _)) = last.and_then(|last| order.get(last)) {
            self.floor = self.floor.max(self.accounts.get(queue).copied().unwrap_or(0.0));
        }
        // Behind the last one that gave anything nobody was asked, unless all were.
        let total: usize = given.values().sum();
        let asked = if total < want { order.len() } else { last.map_or(0, |last| last + 1) };
        for (nth, (queue, weight)) in order.iter().enumerate().take(asked) {
            self.add(queue, from(queue) as f64 / f64::from(*weight));
            let ran_dry = total < want || Some(nth) != last;
            if let Some(account) = self.accounts.get_mut(queue).filter(|_| ran_dry) {
                *account = account.max(self.floor);
            }
        }
    }

    /// A claim in this order came to nothing.
    pub fn unserved(&mut self, order: &[Weighted], want: usize) {
        if let Some((first, weight)) = order.first() {
            self.add(first, -(want as f64) / f64::from(*weight));
        }
    }

    fn add(&mut self, queue: &Name, change: f64) {
        if let Some(account) = self.accounts.get_mut(queue) {
            *account += change;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Half;

    impl Entropy for Half {
        fn next(&self) -> u64 {
            1 << 63
        }
    }

    fn queues(weights: &[(&str, u32)]) -> Vec<Weighted> {
        weights.iter().map(|(name, weight)| (name.parse().expect("a name"), *weight)).collect()
    }

    /// Claims `times` batches from lines of such lengths; who gave how many.
    fn play(shares: &mut Shares, queues: &[Weighted], lines: &mut [usize], want: usize, times: usize) -> Vec<usize> {
        let mut total = vec![0; queues.len()];
        for _ in 0..times {
            let order = shares.order(queues, want, &Half);
            let mut given = BTreeMap::new();
            let mut left = want;
            for (queue, _) in &order {
                let at = queues.iter().position(|(name, _)| name == queue).expect("a queue");
                let taken = lines[at].min(left);
                lines[at] -= taken;
                left -= taken;
                total[at] += taken;
                given.insert(queue.clone(), taken);
            }
            shares.served(&order, want, &given);
        }
        total
    }

    #[test]
    fn long_lines_share_by_weight_whatever_a_claim_takes() {
        for want in [1, 7, 64] {
            let queues = queues(&[("a", 3), ("b", 1), ("c", 6)]);
            let total = play(&mut Shares::default(), &queues, &mut [1_000_000; 3], want, 1_000);
            let sum = total.iter().sum::<usize>() as f64;
            for (got, share) in total.iter().zip([0.3, 0.1, 0.6]) {
                assert!((*got as f64 / sum - share).abs() < 0.01, "{want}: {total:?}");
            }
        }
    }

    #[test]
    fn who_was_empty_has_saved_nothing_up() {
        let queues = queues(&[("a", 1), ("b", 1)]);
        let mut shares = Shares::default();
        play(&mut shares, &queues, &mut [1_000_000, 0], 8, 500);
        let total = play(&mut shares, &queues, &mut [1_000_000, 1_000_000], 8, 100);
        assert!(total[0] >= 360, "b must not take all at once: {total:?}");
    }
}
