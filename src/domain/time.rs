//! Time as numbers: milliseconds since 1970 in UTC inside, text at the edges. Durations are written
//! as people write them (`1h30m`, `250ms`); a number without a unit is refused, never guessed.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A moment: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ms(pub i64);

impl Ms {
    /// This moment moved forward; saturates at the end of time.
    pub fn after(self, delay: Duration) -> Ms {
        Ms(self.0.saturating_add(millis(delay)))
    }

    /// How long from `earlier` until this moment; zero if `earlier` is later.
    pub fn since(self, earlier: Ms) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0).max(0) as u64)
    }

    /// RFC 3339 in UTC with milliseconds, `2026-02-09T10:30:00.000Z`.
    pub fn rfc3339(self) -> String {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(at) => format!("{at:.3}"),
            Err(_) => format!("{}ms", self.0),
        }
    }
}

/// Where the time comes from. Only `sys` asks the machine; everybody else is handed one of these.
pub trait Clock: Send + Sync + 'static {
    fn now(&self) -> Ms;
}

/// Where randomness comes from: the machine's in a process, a seed's in a test.
pub trait Entropy: Send + Sync + 'static {
    /// 64 random bits.
    fn next(&self) -> u64;

    /// Uniform in 0..1.
    fn fraction(&self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

impl fmt::Display for Ms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rfc3339())
    }
}

/// Whole milliseconds of a duration; saturates at `i64::MAX`.
pub fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Why a duration was refused. The messages name the cure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadDuration {
    #[error("`{0}` has no unit: write `{0}s` for seconds, or ms, m, h, d")]
    NoUnit(String),
    #[error("`{0}` is negative: a duration counts forward")]
    Negative(String),
    #[error("`{0}` is not a duration: write it as 250ms, 30s, 5m, 1h30m or 7d")]
    Malformed(String),
    #[error("`{0}` is longer than ten years")]
    TooLong(String),
}

const LONGEST_MS: u64 = 10 * 366 * 86_400_000;

/// Reads `1h30m`, `250ms`, `1.5s`. Units: ms, s, m, h, d, each at most once and falling.
pub fn parse_duration(text: &str) -> Result<Duration, BadDuration> {
    let malformed = || BadDuration::Malformed(text.to_owned());
    if text.starts_with('-') {
        return Err(BadDuration::Negative(text.to_owned()));
    }
    if text.is_empty() {
        return Err(malformed());
    }
    if text.bytes().all(|b| b.is_ascii_digit() || b == b'.') && text != "0" {
        return Err(BadDuration::NoUnit(text.to_owned()));
    }
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = 0f64;
    let mut last_unit = f64::INFINITY;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
        let amount: f64 = rest[..digits].parse().map_err(|_| malformed())?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(|b| b.is_ascii_alphabetic()).count();
        let unit = match &rest[..letters] {
            "ms" => 1.0,
            "s" => 1_000.0,
            "m" => 60_000.0,
            "h" => 3_600_000.0,
            "d" => 86_400_000.0,
            _ => return Err(malformed()),
        };
        if unit >= last_unit {
            return Err(malformed());
        }
        last_unit = unit;
        total += amount * unit;
        rest = &rest[letters..];
    }
    if total > LONGEST_MS as f64 {
        return Err(BadDuration::TooLong(text.to_owned()));
    }
    Ok(Duration::from_millis(total.round() as u64))
}

/// Writes a duration the way [`parse_duration`] reads it, in at most two units: `1h30m`, `250ms`, `0s`.
pub fn format_duration(duration: Duration) -> String {
    const UNITS: [(u64, &str); 5] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")];
    let mut left = millis(duration) as u64;
    let mut text = String::new();
    let mut written = 0;
    for (size, unit) in UNITS {
        let amount = left / size;
        if amount > 0 {
            text.push_str(&format!("{amount}{unit}"));
            left %= size;
            written += 1;
        } else if written > 0 {
            break;
        }
        if written == 2 {
            break;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Serde for durations that people write: text on the way in and out.
pub mod duration_text {
    use super::*;
    use serde::{Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format_duration(*value))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(from)?;
        parse_duration(&text).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_write_them() {
        let cases = [
            ("250ms", 250),
            ("30s", 30_000),
            ("1.5s", 1_500),
            ("1h30m", 5_400_000),
            ("7d", 604_800_000),
            ("0", 0),
            ("0s", 0),
        ];
        for (text, ms) in cases {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        assert_eq!(parse_duration("30"), Err(BadDuration::NoUnit("30".into())));
        assert_eq!(parse_duration("-5s"), Err(BadDuration::Negative("-5s".into())));
        for text in ["", "5 m", "m", "5x", "5m5m", "5s1h", "1..2s"] {
            assert_eq!(parse_duration(text), Err(BadDuration::Malformed(text.into())), "{text}");
        }
        assert_eq!(parse_duration("99999d"), Err(BadDuration::TooLong("99999d".into())));
    }

    #[test]
    fn what_is_written_reads_back() {
        for ms in [0u64, 1, 999, 1_000, 61_000, 5_400_000, 86_400_000 * 3] {
            let duration = Duration::from_millis(ms);
            assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }
    }

    #[test]
    fn moments_print_as_rfc_3339() {
        assert_eq!(Ms(1_770_633_000_000).rfc3339(), "2026-02-09T10:30:00.000Z");
    }
}
