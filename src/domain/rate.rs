//! How often something may start: a count in a time, and the rule by which permits are given out.
//! Pure; the store keeps one number a bucket and gives permits by [`Rate::reserve`].

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// So many starts in a second, a minute or an hour: `100/s`, `5/m`, `10/h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// 1 to 1,000,000.
    #[serde(rename = "n")]
    count: u32,
    #[serde(rename = "u")]
    unit: Unit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Unit {
    #[serde(rename = "s")]
    Second,
    #[serde(rename = "m")]
    Minute,
    #[serde(rename = "h")]
    Hour,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a rate: write a count of 1 to 1000000 and a unit, like `100/s`, `5/m` or `10/h`")]
pub struct BadRate(String);

impl Rate {
    const MOST: u32 = 1_000_000;

    /// Microseconds between two starts.
    pub fn interval_us(self) -> i64 {
        let unit = match self.unit {
            Unit::Second => 1_000_000,
            Unit::Minute => 60_000_000,
            Unit::Hour => 3_600_000_000,
        };
        (unit / i64::from(self.count)).max(1)
    }

    /// How far starts may run ahead of their even spacing, in microseconds: a twentieth of the
    /// count at once, so that over ten units the limit holds within half a percent.
    pub fn tolerance_us(self) -> i64 {
        (i64::from(self.count / 20) - 1).max(0) * self.interval_us()
    }

    /// Gives out the next permit of a bucket, by the generic cell rate algorithm (ITU-T I.371).
    /// `next_us` is the bucket's number (0 for a new one); the answer is its next number and how
    /// long after `now_us` the permit is good. A permit is always given, be it for much later.
    pub fn reserve(self, next_us: i64, now_us: i64) -> (i64, Duration) {
        let start = now_us.max(next_us.saturating_sub(self.tolerance_us()));
        let wait = start.saturating_sub(now_us).unsigned_abs();
        (next_us.max(now_us).saturating_add(self.interval_us()), Duration::from_micros(wait))
    }
}

impl FromStr for Rate {
    type Err = BadRate;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || BadRate(text.to_owned());
        let (count, unit) = text.split_once('/').ok_or_else(bad)?;
        let count = count.trim().parse().map_err(|_| bad())?;
        let unit = match unit.trim() {
            "s" | "sec" | "second" => Unit::Second,
            "m" | "min" | "minute" => Unit::Minute,
            "h" | "hour" => Unit::Hour,
            _ => return Err(bad()),
        };
        match count {
            1..=Rate::MOST => Ok(Rate { count, unit }),
            _ => Err(bad()),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.unit {
            Unit::Second => 's',
            Unit::Minute => 'm',
            Unit::Hour => 'h',
        };
        write!(f, "{}/{unit}", self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(text: &str) -> Rate {
        text.parse().expect("a rate")
    }

    #[test]
    fn text_is_read_and_written() {
        assert_eq!(rate("100/s").to_string(), "100/s");
        assert_eq!(rate(" 5 / minute").to_string(), "5/m");
        for bad in ["", "100", "0/s", "-1/s", "1000001/s", "1/d", "1.5/s", "/s"] {
            assert!(bad.parse::<Rate>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_hundred_a_second_is_a_hundred_a_second() {
        // All asked for at once: the permits lie evenly over the seconds, but for the first few.
        let mut next = 0;
        let mut starts = Vec::new();
        for _ in 0..1_000 {
            let (after, wait) = rate("100/s").reserve(next, 50_000_000);
            next = after;
            starts.push(wait.as_millis());
        }
        assert_eq!(starts[..6], [0, 0, 0, 0, 0, 10]);
        for window in 0..9 {
            let within = starts.iter().filter(|at| (window * 1_000..(window + 1) * 1_000).contains(*at)).count();
            assert!((100..=105).contains(&within), "{within} in second {window}");
        }
    }

    #[test]
    fn what_was_not_used_is_not_saved_up() {
        let (next, _) = rate("1/m").reserve(0, 1_000_000);
        let (next, wait) = rate("1/m").reserve(next, 601_000_000);
        assert_eq!(wait, Duration::ZERO);
        let (_, wait) = rate("1/m").reserve(next, 601_000_000);
        assert_eq!(wait, Duration::from_secs(60));
    }
}
