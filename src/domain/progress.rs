//! How far a running job has come, as its handler tells it. For people: nothing is decided by it.

use serde::{Deserialize, Serialize};

use super::limits::PROGRESS_BYTES;
use super::text::clip;

/// A job's progress. At least one of the two says something.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// 0 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<f64>,
    /// At most [`PROGRESS_BYTES`]; may hold anything: show it with `display_safe`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl Progress {
    /// Takes what a handler said: a percentage out of range is brought into it, a long message is cut,
    /// one that is empty is none.
    pub fn new(percent: Option<f64>, message: Option<&str>) -> Progress {
        Progress {
            percent: percent.filter(|percent| percent.is_finite()).map(|percent| percent.clamp(0.0, 100.0)),
            message: message
                .filter(|message| !message.is_empty())
                .map(|message| clip(message, PROGRESS_BYTES).into_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_handler_says_is_brought_into_range() {
        let progress = Progress::new(Some(140.0), Some(""));
        assert_eq!(progress, Progress { percent: Some(100.0), message: None });
        let long = Progress::new(Some(f64::NAN), Some(&"x".repeat(5_000)));
        assert_eq!(long.percent, None);
        assert!(long.message.expect("a message").len() < PROGRESS_BYTES + 30);
    }
}
