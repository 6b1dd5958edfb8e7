//! A set of indices that stays small: runs of neighbours while there are few of them, else a bitmap.
//! 100,000 indices take at most 13 KB, and all of them a few bytes.

use serde::{Deserialize, Serialize};

/// Runs beyond this many become a bitmap, which is then the smaller form.
const RUNS: usize = 512;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum IndexSet {
    /// Runs (first, length), apart from each other and in order.
    #[serde(rename = "r")]
    Runs(Vec<(u32, u32)>),
    #[serde(rename = "b")]
    Bits(#[serde(with = "bytes")] Vec<u8>),
}

impl Default for IndexSet {
    fn default() -> Self {
        IndexSet::Runs(Vec::new())
    }
}

impl IndexSet {
    pub fn is_empty(&self) -> bool {
        match self {
            IndexSet::Runs(runs) => runs.is_empty(),
            IndexSet::Bits(bits) => bits.iter().all(|byte| *byte == 0),
        }
    }

    pub fn len(&self) -> usize {
        match self {
            IndexSet::Runs(runs) => runs.iter().map(|(_, length)| *length as usize).sum(),
            IndexSet::Bits(bits) => bits.iter().map(|byte| byte.count_ones() as usize).sum(),
        }
    }

    pub fn contains(&self, index: u32) -> bool {
        match self {
            IndexSet::Runs(runs) => {
                let after = runs.partition_point(|(first, _)| *first <= index);
                after > 0 && index - runs[after - 1].0 < runs[after - 1].1
            }
            IndexSet::Bits(bits) => bits.get(index as usize / 8).is_some_and(|byte| byte & (1 << (index % 8)) != 0),
        }
    }

    pub fn insert(&mut self, index: u32) {
        if self.contains(index) {
            return;
        }
        match self {
            IndexSet::Runs(runs) => {
                let after = runs.partition_point(|(first, _)| *first <= index);
                let joins_before = after > 0 && runs[after - 1].0 + runs[after - 1].1 == index;
                let joins_after = runs.get(after).is_some_and(|(first, _)| *first == index + 1);
                match (joins_before, joins_after) {
                    (true, true) => {
                        runs[after - 1].1 += 1 + runs[after].1;
                        runs.remove(after);
                    }
                    (true, false) => runs[after - 1].1 += 1,
                    (false, true) => runs[after] = (index, runs[after].1 + 1),
                    (false, false) => runs.insert(after, (index, 1)),
                }
                if runs.len() > RUNS {
                    let all: Vec<u32> = self.iter().collect();
                    *self = IndexSet::Bits(Vec::new());
                    all.into_iter().for_each(|index| self.insert(index));
                }
            }
            IndexSet::Bits(bits) => {
                let at = index as usize / 8;
                if bits.len() <= at {
                    bits.resize(at + 1, 0);
                }
                bits[at] |= 1 << (index % 8);
            }
        }
    }

    /// Takes the lowest index out.
    pub fn pop_first(&mut self) -> Option<u32> {
        match self {
            IndexSet::Runs(runs) => {
                let (first, length) = runs.first_mut()?;
                let index = *first;
                (*first, *length) = (*first + 1, *length - 1);
                if *length == 0 {
                    runs.remove(0);
                }
                Some(index)
            }
            IndexSet::Bits(bits) => {
                let at = bits.iter().position(|byte| *byte != 0)?;
                let bit = bits[at].trailing_zeros();
                bits[at] &= !(1 << bit);
                Some(at as u32 * 8 + bit)
            }
        }
    }

    /// All indices, from the lowest.
    pub fn iter(&self) -> Box<dyn Iterator<Item = u32> + '_> {
        match self {
            IndexSet::Runs(runs) => Box::new(runs.iter().flat_map(|(first, length)| *first..first + length)),
            IndexSet::Bits(bits) => Box::new((0..bits.len() as u32 * 8).filter(|index| self.contains(*index))),
        }
    }
}

/// A bitmap as one byte string.
mod bytes {
    use serde::de::{Error, SeqAccess, Visitor};
    use serde::{Deserializer, Serializer};

    pub fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(bytes)
    }

    struct Bytes;

    impl<'de> Visitor<'de> for Bytes {
        type Value = Vec<u8>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("bytes")
        }

        fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
            Ok(bytes.to_vec())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut bytes: A) -> Result<Vec<u8>, A::Error> {
            let mut all = Vec::new();
            while let Some(byte) = bytes.next_element()? {
                all.push(byte);
            }
            Ok(all)
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        from.deserialize_bytes(Bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    proptest::proptest! {
        #[test]
        fn it_is_a_set_that_reads_back(
            indices in proptest::collection::vec(0..4_000u32, 0..2_500),
            pops in 0..2_600usize,
        ) {
            let (mut set, mut model) = (IndexSet::default(), BTreeSet::new());
            for index in indices {
                set.insert(index);
                model.insert(index);
            }
            for _ in 0..pops {
                proptest::prop_assert_eq!(set.pop_first(), model.pop_first());
            }
            proptest::prop_assert_eq!(set.iter().collect::<Vec<_>>(), model.iter().copied().collect::<Vec<_>>());
            proptest::prop_assert_eq!((set.len(), set.is_empty()), (model.len(), model.is_empty()));
            for index in 0..4_010 {
                proptest::prop_assert_eq!(set.contains(index), model.contains(&index));
            }
            let bytes = rmp_serde::to_vec_named(&set).expect("encodes");
            proptest::prop_assert_eq!(rmp_serde::from_slice::<IndexSet>(&bytes).expect("decodes"), set);
        }
    }

    #[test]
    fn a_hundred_thousand_indices_stay_small() {
        let (mut all, mut even) = (IndexSet::default(), IndexSet::default());
        for index in 0..100_000 {
            // Far from in order, as items end.
            let index = index * 7_919 % 100_000;
            all.insert(index);
            even.insert(index / 2 * 2);
        }
        assert!(rmp_serde::to_vec_named(&even).expect("encodes").len() < 14_000);
        assert!(rmp_serde::to_vec_named(&all).expect("encodes").len() < 14_000);
    }
}
