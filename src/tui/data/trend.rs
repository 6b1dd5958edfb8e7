//! Whether something grows or falls: its depth now against that of some ten seconds ago.

use std::collections::{BTreeMap, VecDeque};

use crate::domain::Ms;

/// A trend is told against the depths of so long ago.
const AGAINST_MS: i64 = 10_000;
/// About one a second is enough, however often one looks.
const EACH_MS: i64 = 900;

/// What waited in each of several places, at a few times, oldest first.
#[derive(Debug, Default)]
pub struct Depths(VecDeque<(Ms, BTreeMap<String, u64>)>);

impl Depths {
    /// Keeps the depths of now, and tells of each whether it has grown (1) or fallen (-1).
    pub fn trends(&mut self, now: Ms, depths: BTreeMap<String, u64>) -> BTreeMap<String, i8> {
        if self.0.back().is_none_or(|(at, _)| now.0 - at.0 >= EACH_MS) {
            self.0.push_back((now, depths.clone()));
        }
        while self.0.len() > 1 && self.0.front().is_some_and(|(at, _)| now.0 - at.0 > AGAINST_MS) {
            self.0.pop_front();
        }
        let Some((_, before)) = self.0.front() else { return BTreeMap::new() };
        let trend = |name: &String, depth: &u64| before.get(name).map_or(0, |then| depth.cmp(then) as i8);
        depths.iter().map(|(name, depth)| (name.clone(), trend(name, depth))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trend_is_told_against_ten_seconds_ago() {
        let mut depths = Depths::default();
        let mut at = |second: i64, depth: u64| {
            let trends = depths.trends(Ms(second * 1_000), [("mail".to_owned(), depth)].into());
            trends["mail"]
        };
        assert_eq!((at(0, 5), at(4, 9), at(8, 5)), (0, 1, 0));
        // Of what was before, only the last ten seconds count.
        assert_eq!((at(13, 8), at(20, 8)), (-1, 0));
    }
}
