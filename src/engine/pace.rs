//! How much to lease ahead: about five milliseconds of work, so that a worker of short jobs does not
//! wait for the store between them, and a worker of long jobs keeps nothing from others.

use std::time::Duration;

const AHEAD: Duration = Duration::from_millis(5);
/// The share of the newest duration in the average.
const WEIGHT: f64 = 0.1;

/// The running average of how long a job takes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    /// Seconds; none until a job has ended.
    mean: Option<f64>,
}

impl Pace {
    pub fn took(&mut self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        self.mean = Some(match self.mean {
            // A job that is long all of a sudden counts at once: what is leased ahead would wait.
            Some(mean) if seconds < mean => mean + (seconds - mean) * WEIGHT,
            _ => seconds,
        });
    }

    /// How many jobs to hold beyond those that run. However short they are: a batch for each of two exchanges,
    /// so that the store works on one while the worker works on the other.
    pub fn ahead(&self, concurrency: usize, batch: usize) -> usize {
        match self.mean {
            None => 0,
            Some(mean) => {
                let jobs = AHEAD.as_secs_f64() * concurrency as f64 / mean.max(1e-6);
                (jobs as usize).min(2 * batch)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_jobs_are_leased_ahead_and_long_ones_are_not() {
        let mut pace = Pace::default();
        assert_eq!(pace.ahead(10, 64), 0, "nothing is known yet");
        pace.took(Duration::from_micros(20));
        assert_eq!(pace.ahead(10, 64), 128);
        pace.took(Duration::from_millis(5));
        assert_eq!(pace.ahead(10, 64), 10);
        pace.took(Duration::from_secs(1));
        assert_eq!(pace.ahead(10, 64), 0);
        for _ in 0..200 {
            pace.took(Duration::from_micros(20));
        }
        assert_eq!(pace.ahead(10, 64), 128, "it learns back");
    }
}
