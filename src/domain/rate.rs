//! A rate: how many in how long, written `100/s`, `5/m` or `10/h`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// At most `count` in every `per`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// At least 1.
    pub count: u32,
    pub per: Per,
}

/// The time that a rate is counted over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Per {
    Second,
    Minute,
    Hour,
}

impl Per {
    const WORDS: [(&str, Per); 3] = [("s", Per::Second), ("m", Per::Minute), ("h", Per::Hour)];

    pub fn duration(self) -> Duration {
        Duration::from_secs(match self {
            Per::Second => 1,
            Per::Minute => 60,
            Per::Hour => 3_600,
        })
    }
}

impl Rate {
    /// The time from one to the next, if they come evenly.
    pub fn interval(self) -> Duration {
        self.per.duration() / self.count.max(1)
    }
}

/// Why a rate was refused. The message names the cure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a rate: write it as 100/s, 5/m or 10/h, at least 1 and at most a million")]
pub struct BadRate(String);

const MOST: u32 = 1_000_000;

impl FromStr for Rate {
    type Err = BadRate;

    fn from_str(text: &str) -> Result<Rate, BadRate> {
        let bad = || BadRate(text.to_owned());
        let (count, unit) = text.split_once('/').ok_or_else(bad)?;
        let is_number = !count.is_empty() && count.bytes().all(|byte| byte.is_ascii_digit());
        let count = count.parse().ok().filter(|count| is_number && (1..=MOST).contains(count)).ok_or_else(bad)?;
        let per = Per::WORDS.iter().find(|(word, _)| *word == unit).map(|(_, per)| *per).ok_or_else(bad)?;
        Ok(Rate { count, per })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = Per::WORDS.iter().find(|(_, per)| *per == self.per).map_or("", |(word, _)| word);
        write!(f, "{}/{unit}", self.count)
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Rate, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_reads_as_it_is_written() {
        for text in ["100/s", "5/m", "10/h", "1/s", "1000000/s"] {
            assert_eq!(text.parse::<Rate>().expect("a rate").to_string(), text);
        }
        assert_eq!("10/h".parse::<Rate>().expect("a rate").interval(), Duration::from_secs(360));
        for text in ["", "0/s", "-1/s", "+1/s", "5", "5/d", "5/ s", "1.5/s", "1000001/s", "99999999999/s"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }
}
