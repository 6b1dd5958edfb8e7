//! A circuit for each host: after some failures in a row it opens, and the host is left alone for a
//! while; then one call tries it, and closes the circuit or opens it for longer. Kept by each worker
//! for itself. Knows no HTTP.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::job::Outcome;
use crate::domain::text::display_safe;

/// Failures in a row that open a circuit.
pub(super) const FAILURES: u32 = 5;
/// How long it stays open; doubles up to the second while the host goes on failing.
const OPEN: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(300));
/// How long others wait while one call tries the host.
const WHILE_TRIED: Duration = Duration::from_secs(1);
/// Hosts that are kept in mind: only those that have failed lately.
const HOSTS: usize = 10_000;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Circuit {
    Closed { failures: u32 },
    Open { until: Instant, pause: Duration },
    HalfOpen { pause: Duration },
}

#[derive(Debug, Default)]
pub(super) struct Circuits(Mutex<BTreeMap<String, Circuit>>);

/// The right to call a host once. Dropped without a record, nothing is learned.
#[derive(Debug)]
pub(super) struct Pass {
    circuits: Arc<Circuits>,
    host: String,
    recorded: bool,
}

impl Circuits {
    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Circuit>> {
        // Whole after any panic: each change is one call.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks to call a host; the error is how long to leave it alone.
    pub fn ask(self: &Arc<Self>, host: &str) -> Result<Pass, Duration> {
        let mut all = self.all();
        if let Some(circuit) = all.get_mut(host) {
            match *circuit {
                Circuit::Closed { .. } => {}
                Circuit::HalfOpen { .. } => return Err(WHILE_TRIED),
                Circuit::Open { until, pause } => {
                    let left = until.saturating_duration_since(Instant::now());
                    if !left.is_zero() {
                        return Err(left);
                    }
                    *circuit = Circuit::HalfOpen { pause };
                }
            }
        }
        Ok(Pass { circuits: self.clone(), host: host.to_owned(), recorded: false })
    }

    fn succeeded(&self, host: &str) {
        if let Some(Circuit::HalfOpen { .. } | Circuit::Open { .. }) = self.all().remove(host) {
            tracing::info!(host = %display_safe(host), "answers again: its circuit is closed");
        }
    }

    fn failed(&self, host: &str) {
        let mut all = self.all();
        if !all.contains_key(host) && all.len() >= HOSTS {
            all.retain(|_, circuit| !matches!(circuit, Circuit::Closed { .. }));
        }
        let circuit = all.entry(host.to_owned()).or_insert(Circuit::Closed { failures: 0 });
        let pause = match circuit {
            Circuit::Closed { failures } => {
                *failures += 1;
                if *failures < FAILURES {
                    return;
                }
                OPEN.0
            }
            Circuit::HalfOpen { pause } => (*pause * 2).min(OPEN.1),
            // A call that was under way when it opened.
            Circuit::Open { .. } => return,
        };
        tracing::warn!(host = %display_safe(host), ?pause, "fails again and again: its circuit is open");
        *circuit = Circuit::Open { until: Instant::now() + pause, pause };
    }
}

impl Pass {
    /// Notes how the call ended. An answer that blames the request says that the host works.
    pub fn record(mut self, outcome: &Outcome) {
        self.recorded = true;
        let is_down = match outcome {
            Outcome::Failed { error, .. } => {
                matches!(error.class.as_str(), "connection" | "timeout") || error.class.starts_with("http:5")
            }
            _ => false,
        };
        if is_down { self.circuits.failed(&self.host) } else { self.circuits.succeeded(&self.host) }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if self.recorded {
            return;
        }
        // The next one may try.
        if let Some(circuit) = self.circuits.all().get_mut(&self.host)
            && let Circuit::HalfOpen { pause } = *circuit
        {
            *circuit = Circuit::Open { until: Instant::now(), pause };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::job::{JobError, RetryHint};

    fn failure(class: &str) -> Outcome {
        Outcome::Failed { error: JobError::new(class, "x"), retry: RetryHint::Policy }
    }

    fn fine() -> Outcome {
        Outcome::Completed { result: None }
    }

    #[tokio::test(start_paused = true)]
    async fn a_circuit_opens_is_tried_by_one_and_closes() {
        let circuits = Arc::new(Circuits::default());
        let ask = |host: &str| circuits.ask(host);
        for class in ["http:503", "connection", "timeout", "http:500", "http:502"] {
            ask("a:80").expect("closed").record(&failure(class));
        }
        let left = ask("a:80").expect_err("open");
        assert_eq!(left, OPEN.0);
        assert!(ask("b:80").is_ok(), "another host");
        tokio::time::advance(left).await;
        let probe = ask("a:80").expect("one may try");
        assert_eq!(ask("a:80").expect_err("only one"), WHILE_TRIED);
        probe.record(&failure("http:503"));
        assert_eq!(ask("a:80").expect_err("longer"), OPEN.0 * 2);
        tokio::time::advance(OPEN.0 * 2).await;
        drop(ask("a:80").expect("one may try"));
        let probe = ask("a:80").expect("the first was stopped and has learned nothing");
        probe.record(&fine());
        for _ in 0..FAILURES - 1 {
            ask("a:80").expect("closed").record(&failure("http:503"));
        }
        ask("a:80").expect("not enough in a row").record(&failure("http:404"));
        for _ in 0..FAILURES - 1 {
            ask("a:80").expect("closed").record(&failure("http:503"));
        }
        assert!(ask("a:80").is_ok(), "the 404 in between said that it works");
    }
}
