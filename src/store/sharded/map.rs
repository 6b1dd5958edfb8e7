//! The shard map: which shards there are, in which state, and where new work is born. Pure: no store,
//! no clock, no randomness of its own. Every process that reads the same map decides the same.

use serde::{Deserialize, Serialize};

use crate::domain::Shard;
use crate::store::contract::{Result, StoreError};

/// How work without a key is spread. Work with a key always goes by its key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// Evenly, by the id.
    #[default]
    Hash,
    /// One after the other.
    RoundRobin,
    /// Where the least waits.
    LeastLoaded,
}

/// A word that names no strategy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a strategy: it is hash, round-robin or least-loaded")]
pub struct BadStrategy(pub String);

impl std::str::FromStr for Strategy {
    type Err = BadStrategy;

    fn from_str(text: &str) -> Result<Self, BadStrategy> {
        match text {
            "hash" => Ok(Strategy::Hash),
            "round-robin" => Ok(Strategy::RoundRobin),
            "least-loaded" => Ok(Strategy::LeastLoaded),
            other => Err(BadStrategy(other.to_owned())),
        }
    }
}

impl Strategy {
    pub fn as_str(self) -> &'static str {
        match self {
            Strategy::Hash => "hash",
            Strategy::RoundRobin => "round-robin",
            Strategy::LeastLoaded => "least-loaded",
        }
    }
}

/// What may be done with a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Known to all before anything is born on it: see [`Map::homes_before`].
    Joining,
    /// Takes new work.
    Active,
    /// Takes no new work; what it holds goes on.
    Draining,
    /// Empty and gone. Its number is never given again, because ids carry it.
    Removed,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            State::Joining => "joining",
            State::Active => "active",
            State::Draining => "draining",
            State::Removed => "removed",
        }
    }

    /// Whether anything may lie on it.
    pub fn is_there(self) -> bool {
        self != State::Removed
    }
}

/// One shard of the map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub id: u16,
    /// As it was given, with its password: whoever can read a shard can read it.
    pub url: String,
    pub state: State,
    /// Where what was born on it has gone, or is going.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved_to: Option<u16>,
}

/// Older sets of active shards that are remembered, so that keys are looked for where they were.
const GENERATIONS: usize = 32;

/// The map. The one with the highest epoch counts, wherever it is found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Map {
    /// Rises with every change. 0: made from a list of URLs, and kept nowhere yet.
    pub epoch: u64,
    pub strategy: Strategy,
    pub shards: Vec<Entry>,
    /// The set of active shards to come. Keys that will be at home elsewhere are born nowhere until then,
    /// so that no key is ever at home twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Vec<u16>>,
    /// Sets of active shards before this one, the latest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<Vec<u16>>,
}

impl Map {
    /// The shards 0, 1, … of a list of URLs.
    pub fn of_urls(urls: &[String], strategy: Strategy) -> Map {
        let entry = |(id, url): (usize, &String)| Entry {
            id: u16::try_from(id).unwrap_or(Shard::MAX),
            url: url.clone(),
            state: State::Active,
            moved_to: None,
        };
        let shards = urls.iter().take(usize::from(Shard::MAX) + 1).enumerate().map(entry).collect();
        Map { epoch: 0, strategy, shards, next: None, before: Vec::new() }
    }

    pub fn entry(&self, id: u16) -> Option<&Entry> {
        self.shards.iter().find(|entry| entry.id == id)
    }

    /// Shards that are there, in the order of their numbers.
    pub fn there(&self) -> impl Iterator<Item = &Entry> {
        self.shards.iter().filter(|entry| entry.state.is_there())
    }

    /// Where new work may be born.
    pub fn active(&self) -> Vec<u16> {
        self.shards.iter().filter(|entry| entry.state == State::Active).map(|entry| entry.id).collect()
    }

    /// The shard of whatever was born on `id`: itself, or where it has been moved to.
    ///
    /// # Errors
    /// [`StoreError::Refused`] for one that was never there, or was removed with nothing on it.
    pub fn route(&self, id: Shard) -> Result<u16> {
        let mut at = id.0;
        // A chain of moves is shorter than the map.
        for _ in 0..=self.shards.len() {
            match self.entry(at) {
                Some(entry) if entry.state.is_there() => return Ok(at),
                Some(Entry { moved_to: Some(next), .. }) => at = *next,
                Some(_) => return Err(StoreError::Refused(format!("shard {at} was removed, and nothing was on it"))),
                None => break,
            }
        }
        Err(StoreError::Refused(format!("there is no shard {}", id.0)))
    }

    /// Where what was born on `id` may lie, the likeliest first: what is being carried away is at one or at
    /// the other, and what it is carried to may itself be emptied meanwhile.
    ///
    /// # Errors
    /// Those of [`Map::route`].
    pub fn trail(&self, id: Shard) -> Result<Vec<u16>> {
        let mut trail = vec![self.route(id)?];
        while let Some(to) = trail.last().and_then(|at| self.entry(*at)).and_then(|entry| entry.moved_to)
            && let Ok(next) = self.route(Shard(to))
            && !trail.contains(&next)
        {
            trail.push(next);
        }
        Ok(trail)
    }

    /// The home of a key among the active shards.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when no shard is active.
    pub fn home(&self, key: &str) -> Result<u16> {
        let none = || StoreError::Refused("no shard takes new work: `goflow shard add` one".to_owned());
        rendezvous(&self.active(), key).ok_or_else(none)
    }

    /// Where a key will be at home, if that is about to change.
    pub fn home_to_come(&self, key: &str) -> Option<u16> {
        let next = rendezvous(self.next.as_ref()?, key)?;
        (self.home(key) != Ok(next)).then_some(next)
    }

    /// Where the key was at home before, as far as those shards are still there: it may be held there.
    pub fn homes_before(&self, key: &str) -> Vec<u16> {
        let now = self.home(key).ok();
        let mut homes = Vec::new();
        for set in &self.before {
            let Some(trail) = rendezvous(set, key).and_then(|home| self.trail(Shard(home)).ok()) else { continue };
            for home in trail {
                if Some(home) != now && !homes.contains(&home) {
                    homes.push(home);
                }
            }
        }
        homes
    }

    /// The next map: a change of this one.
    #[must_use]
    pub fn changed(&self, change: impl FnOnce(&mut Map)) -> Map {
        let mut next = self.clone();
        next.epoch += 1;
        let active = self.active();
        change(&mut next);
        if next.active() != active && !active.is_empty() {
            next.before.retain(|set| *set != active);
            next.before.insert(0, active);
            next.before.truncate(GENERATIONS);
        }
        next
    }
}

/// The part of a key that decides where it is at home: what stands between its first `{` and the next
/// `}`, if that is anything, as in a Redis Cluster; else all of it.
pub fn tag(key: &str) -> &str {
    let Some((_, rest)) = key.split_once('{') else { return key };
    match rest.split_once('}') {
        Some((tag, _)) if !tag.is_empty() => tag,
        _ => key,
    }
}

/// Rendezvous hashing (Thaler and Ravishankar, 1996): the shard with the highest score. A shard more
/// takes only the keys for which its score is the highest, an even share of them.
pub fn rendezvous(shards: &[u16], key: &str) -> Option<u16> {
    let base = fnv(tag(key).as_bytes());
    shards.iter().copied().max_by_key(|shard| (mix(base ^ mix(u64::from(*shard).wrapping_add(0x9e37))), *shard))
}

/// FNV-1a of 64 bits: the same on every machine and in every version.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The finaliser of SplitMix64: every bit depends on every other.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(n: usize) -> Vec<String> {
        (0..n).map(|nth| format!("memory:{nth}")).collect()
    }

    #[test]
    fn a_fifth_shard_takes_about_a_fifth_of_the_keys_and_moves_no_other() {
        let keys: Vec<String> = (0..20_000).map(|nth| format!("customer-{nth}")).collect();
        let four = Map::of_urls(&urls(4), Strategy::Hash);
        let five = Map::of_urls(&urls(5), Strategy::Hash);
        let mut counts = [0; 5];
        let mut moved = 0;
        for key in &keys {
            let (a, b) = (four.home(key).expect("a home"), five.home(key).expect("a home"));
            counts[usize::from(b)] += 1;
            if a != b {
                assert_eq!(b, 4, "only the new shard takes keys");
                moved += 1;
            }
        }
        assert!((3_600..=4_400).contains(&moved), "{moved} of 20,000 moved");
        assert!(counts.iter().all(|count| (3_600..=4_400).contains(count)), "{counts:?}");
    }

    #[test]
    fn keys_with_one_tag_are_at_home_together() {
        let map = Map::of_urls(&urls(7), Strategy::Hash);
        for n in 0..100 {
            let homes = [format!("order-{{{n}}}"), format!("{{{n}}}/pay"), n.to_string()].map(|key| map.home(&key));
            assert!(homes.iter().all(|home| *home == homes[0]), "{homes:?}");
        }
        assert_eq!([tag("a{}b"), tag("a{b"), tag("{x}{y}")], ["a{}b", "a{b", "x"]);
    }

    #[test]
    fn what_was_moved_is_found_and_what_was_never_there_is_refused() {
        let map = Map::of_urls(&urls(3), Strategy::Hash);
        let map = map.changed(|map| (map.shards[2].state, map.shards[2].moved_to) = (State::Draining, Some(1)));
        assert_eq!(map.route(Shard(2)), Ok(2));
        let map = map.changed(|map| map.shards[2].state = State::Removed);
        assert_eq!((map.epoch, map.route(Shard(2)), map.active()), (2, Ok(1), vec![0, 1]));
        let map = map.changed(|map| (map.shards[1].state, map.shards[1].moved_to) = (State::Removed, Some(0)));
        assert_eq!(map.route(Shard(2)), Ok(0));
        assert!(map.route(Shard(9)).is_err());
    }

    #[test]
    fn what_moves_twice_is_looked_for_all_the_way() {
        let map = Map::of_urls(&urls(4), Strategy::Hash);
        let drained = |map: &Map, id: usize, to| {
            map.changed(|map| (map.shards[id].state, map.shards[id].moved_to) = (State::Draining, Some(to)))
        };
        let twice = drained(&drained(&map, 3, 1), 1, 0);
        assert_eq!(twice.trail(Shard(3)), Ok(vec![3, 1, 0]));
        assert_eq!(twice.trail(Shard(2)), Ok(vec![2]));
        let key = (0..).map(|nth| format!("k{nth}")).find(|key| map.home(key) == Ok(3) && twice.home(key) == Ok(2));
        let homes = twice.homes_before(&key.expect("a key"));
        assert!([3, 1, 0].iter().all(|shard| homes.contains(shard)), "{homes:?}");
    }

    #[test]
    fn a_key_is_looked_for_where_it_was_at_home() {
        let two = Map::of_urls(&urls(2), Strategy::Hash);
        let three = Map::of_urls(&urls(3), Strategy::Hash);
        let joined = Map { before: vec![two.active()], ..three };
        for n in 0..200 {
            let key = format!("k{n}");
            let (old, new) = (two.home(&key).expect("a home"), joined.home(&key).expect("a home"));
            assert_eq!(joined.homes_before(&key), if old == new { vec![] } else { vec![old] });
        }
    }
}
