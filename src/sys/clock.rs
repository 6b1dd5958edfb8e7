//! The machine's clock. Only ids and messages use it: leases and due times go by the store's clock.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::domain::Ms;
use crate::domain::time::Clock;

/// Wall-clock time, which may jump when the machine's clock is set.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "here is where everybody else's clock comes from")]
    fn now(&self) -> Ms {
        // A clock before 1970 reads as 1970.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ms(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}

/// A clock that goes wrong by so many milliseconds: for the torture tests.
#[cfg(feature = "fault")]
#[derive(Clone, Copy, Debug)]
pub struct Skewed(pub i64);

#[cfg(feature = "fault")]
impl Clock for Skewed {
    fn now(&self) -> Ms {
        Ms(SystemClock.now().0.saturating_add(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_past_the_day_this_was_written() {
        assert!(SystemClock.now() > Ms(1_760_000_000_000));
    }
}
