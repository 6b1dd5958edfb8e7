//! When a failed attempt is tried again. Pure: the random part of the delay is an argument.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::time::millis;

/// How the delay grows from one retry to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backoff {
    /// Doubles each time.
    #[default]
    Exponential,
    /// Grows by the initial delay each time.
    Linear,
    /// Stays the same.
    Constant,
}

/// The retry policy of a job or step. `max` counts retries: a job with `max = 3` runs at most
/// four times.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// Retries after the first attempt; 0 means one attempt only.
    #[serde(rename = "m", default = "default_max", skip_serializing_if = "is_default_max")]
    pub max: u32,
    #[serde(rename = "b", default, skip_serializing_if = "is_default")]
    pub backoff: Backoff,
    /// Delay before the first retry, in milliseconds.
    #[serde(rename = "i", default = "default_initial", skip_serializing_if = "is_default_initial")]
    pub initial_ms: u64,
    /// No delay is longer than this, in milliseconds.
    #[serde(rename = "x", default = "default_longest", skip_serializing_if = "is_default_longest")]
    pub max_delay_ms: u64,
    /// The share of the delay that is random, 0 to 1: 0.2 means between 80% and 120%.
    #[serde(rename = "j", default = "default_jitter", skip_serializing_if = "is_default_jitter")]
    pub jitter: f64,
    /// Error classes worth a retry (`exit`, `exit:1`, `timeout`, `http:5xx` …); empty means all.
    #[serde(rename = "e", default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
}

fn default_max() -> u32 {
    3
}
fn default_initial() -> u64 {
    1_000
}
fn default_longest() -> u64 {
    600_000
}
fn default_jitter() -> f64 {
    0.2
}
fn is_default_max(value: &u32) -> bool {
    *value == default_max()
}
fn is_default_initial(value: &u64) -> bool {
    *value == default_initial()
}
fn is_default_longest(value: &u64) -> bool {
    *value == default_longest()
}
fn is_default_jitter(value: &f64) -> bool {
    *value == default_jitter()
}
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Default for RetryPolicy {
    /// Three retries, exponential from 1 s to 10 min, 20% jitter.
    fn default() -> Self {
        RetryPolicy {
            max: default_max(),
            backoff: Backoff::default(),
            initial_ms: default_initial(),
            max_delay_ms: default_longest(),
            jitter: default_jitter(),
            errors: Vec::new(),
        }
    }
}

impl RetryPolicy {
    /// The delay before retry number `retry` (1 is the first). `random` is uniform in 0..1.
    pub fn delay(&self, retry: u32, random: f64) -> Duration {
        let nth = retry.max(1);
        let base = match self.backoff {
            Backoff::Constant => self.initial_ms,
            Backoff::Linear => self.initial_ms.saturating_mul(u64::from(nth)),
            Backoff::Exponential => self.initial_ms.saturating_mul(1u64.checked_shl(nth - 1).unwrap_or(u64::MAX)),
        };
        let spread = 1.0 + self.jitter * (random * 2.0 - 1.0);
        let spread = (base.min(self.max_delay_ms) as f64 * spread).max(0.0) as u64;
        Duration::from_millis(spread.min(self.max_delay_ms))
    }

    /// Whether an error of this class is worth a retry. A class is a path of words joined by `:`;
    /// a rule matches it whole or up to a colon, and `5xx` stands for any status of the five hundreds.
    pub fn covers(&self, class: &str) -> bool {
        self.errors.is_empty() || self.errors.iter().any(|rule| rule_matches(rule, class))
    }

    /// Longest possible sum of all delays: for messages and checks.
    pub fn longest(&self) -> Duration {
        (1..=self.max.min(10_000)).map(|retry| self.delay(retry, 1.0)).fold(Duration::ZERO, |sum, delay| {
            Duration::from_millis((millis(sum) as u64).saturating_add(millis(delay) as u64))
        })
    }
}

fn rule_matches(rule: &str, class: &str) -> bool {
    if rule == "any" || rule == class {
        return true;
    }
    if let Some(rest) = class.strip_prefix(rule) {
        return rest.starts_with(':');
    }
    match (rule.split_once(':'), class.split_once(':')) {
        (Some((rule_kind, pattern)), Some((kind, value))) if rule_kind == kind => {
            pattern.len() == value.len()
                && pattern.bytes().zip(value.bytes()).all(|(p, v)| p == v || (p == b'x' && v.is_ascii_digit()))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_cap_and_jitter_around() {
        let policy = RetryPolicy::default();
        let seconds = |retry| policy.delay(retry, 0.5).as_secs();
        assert_eq!([seconds(1), seconds(2), seconds(3), seconds(10), seconds(200)], [1, 2, 4, 512, 600]);
        assert_eq!(policy.delay(1, 0.0), Duration::from_millis(800));
        assert_eq!(policy.delay(1, 1.0), Duration::from_millis(1200));
        let linear = RetryPolicy { backoff: Backoff::Linear, jitter: 0.0, ..RetryPolicy::default() };
        assert_eq!(linear.delay(5, 0.3), Duration::from_secs(5));
    }

    #[test]
    fn error_rules_match_whole_classes() {
        let policy =
            RetryPolicy { errors: vec!["timeout".into(), "http:5xx".into(), "exit".into()], ..Default::default() };
        for (class, covered) in [
            ("timeout", true),
            ("http:503", true),
            ("http:429", false),
            ("exit:1", true),
            ("exited", false),
            ("crash", false),
        ] {
            assert_eq!(policy.covers(class), covered, "{class}");
        }
    }
}
