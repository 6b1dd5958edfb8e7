//! Adding work. A [`Producer`] numbers its batches, so that one whose answer was lost is sent again
//! under the same number and is one batch, not two.

use std::time::Duration;

use super::gather::Gather;
use super::{ApiError, Client, Result};
use crate::domain::job::Concurrency;
use crate::domain::{JobId, ProducerId};
use crate::store::{Enqueue, EnqueueAnswer, Enqueued, Near, NewJob, NewRun, Start, StoreError, Stored};

/// How patiently a batch is sent again while the store is away.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    pub tries: u32,
    pub first: Duration,
    pub longest: Duration,
}

impl Default for Patience {
    /// About 20 seconds in all: a store that restarts is waited for.
    fn default() -> Self {
        Patience { tries: 12, first: Duration::from_millis(50), longest: Duration::from_secs(3) }
    }
}

impl Patience {
    pub(super) fn delay(self, nth: u32) -> Duration {
        self.first.saturating_mul(1u32.checked_shl(nth).unwrap_or(u32::MAX)).min(self.longest)
    }
}

/// One producer: a numbered stream of batches with one in flight.
pub struct Producer {
    client: Client,
    id: ProducerId,
    sequence: u64,
    patience: Patience,
}

impl Client {
    pub fn producer(&self, patience: Patience) -> Producer {
        Producer { client: self.clone(), id: self.producer_id(), sequence: 0, patience }
    }

    /// Adds one job and answers it as it is kept.
    ///
    /// # Errors
    /// [`ApiError::KeyHeld`] when another job holds its unique key, [`ApiError::NotFound`] when one that
    /// it is to follow is not kept.
    pub async fn enqueue(&self, job: NewJob) -> Result<Stored> {
        self.enqueue_by(None, job).await
    }

    /// The same, together with what others add, where that makes no difference.
    ///
    /// # Errors
    /// As [`Client::enqueue`].
    pub async fn enqueue_by(&self, gather: Option<&Gather>, job: NewJob) -> Result<Stored> {
        if let Some(stored) = self.made_before(&[job.job.id]).await?.pop().flatten() {
            return Ok(stored);
        }
        let (start, record) = (job.start, job.job.clone());
        let is_traced = self.trace.is_some() || self.spans.is_some();
        let answer = match gather {
            Some(gather) if self.once.is_none() && !is_traced => gather.send(job).await?,
            _ => {
                let answers = self.producer(Patience::default()).send(vec![job]).await?;
                answers.into_iter().next().unwrap_or(Enqueued::Exists)
            }
        };
        match answer {
            Enqueued::Conflict(holder) => {
                return Err(ApiError::KeyHeld { key: record.unique_key.unwrap_or_default(), holder });
            }
            Enqueued::NoParent(parent) => {
                return Err(ApiError::NotFound { noun: "job", id: parent.to_string() });
            }
            // Of one that waits for nothing but its turn, and has no trace, it is known how it is kept.
            Enqueued::Created
                if start == Start::Now && record.after.is_empty() && record.concurrency.is_none() && !is_traced =>
            {
                return Ok(as_added(record, start, self));
            }
            _ => {}
        }
        match self.store().get(&[record.id]).await {
            // A worker was quicker, and what it finished was deleted at once: tell what was added.
            Ok(found) => Ok(found.into_iter().next().flatten().unwrap_or_else(|| as_added(record, start, self))),
            // Somebody who may add and not look.
            Err(StoreError::Refused(_)) => Ok(as_added(record, start, self)),
            Err(error) => Err(error.into()),
        }
    }
}

fn as_added(job: crate::domain::Job, start: Start, client: &Client) -> Stored {
    use crate::domain::Place;
    let now = client.clock().now();
    let (place, at) = match start {
        Start::After(delay) if !delay.is_zero() => (Place::Scheduled, now.after(delay)),
        Start::At(at) if at > now => (Place::Scheduled, at),
        _ => (Place::Pending, now),
    };
    Stored::idle(job, place, at)
}

impl Producer {
    /// Sends one batch of at most [`crate::domain::limits::ENQUEUE_BATCH`] jobs.
    ///
    /// # Errors
    /// The store's, once it was asked as often as patience allows; then it is unknown whether the
    /// batch was added only if the last answer was [`StoreError::Unknown`].
    pub async fn send(&mut self, jobs: Vec<NewJob>) -> Result<Vec<Enqueued>> {
        Ok(self.send_batch(jobs, Vec::new()).await?.jobs)
    }

    /// Sends new runs, each with its first effects.
    ///
    /// # Errors
    /// As [`Producer::send`].
    pub async fn send_runs<R: Into<NewRun>>(&mut self, runs: Vec<R>) -> Result<Vec<Enqueued>> {
        let runs = runs.into_iter().map(Into::into).collect();
        Ok(self.send_batch(Vec::new(), runs).await?.runs)
    }

    async fn send_batch(&mut self, jobs: Vec<NewJob>, runs: Vec<NewRun>) -> Result<EnqueueAnswer> {
        self.sequence += 1;
        let mut batch = Enqueue { producer: self.id, sequence: self.sequence, jobs, runs };
        let spans = self.client.traced_jobs(&mut batch.jobs);
        let mut nth = 0;
        loop {
            match self.client.store.enqueue(&batch).await {
                Ok(answer) => {
                    self.client.tell_spans(spans);
                    return Ok(answer);
                }
                // A full store stays full: only the operator can make room.
                Err(error @ (StoreError::Unavailable(_) | StoreError::Unknown(_))) => {
                    nth += 1;
                    if nth >= self.patience.tries {
                        return Err(error.into());
                    }
                    tokio::time::sleep(self.patience.delay(nth - 1)).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    pub fn job_id(&self) -> JobId {
        self.client.job_id()
    }
}

/// What a job has to lie beside, by the first that it has: partition key, unique key, concurrency key,
/// parent.
pub fn near<'a>(
    partition: Option<&'a str>,
    unique: Option<&'a str>,
    concurrency: Option<&'a Concurrency>,
    after: &[JobId],
) -> Near<'a> {
    let key = partition.or(unique).or(concurrency.map(|own| own.key.as_str()));
    match (key, after.first()) {
        (Some(key), _) => Near::Key(key),
        (None, Some(parent)) => Near::Shard(parent.shard()),
        (None, None) => Near::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::testing::{Noon, Seed};
    use super::*;
    use crate::domain::{Clock, Entropy, Job, Json};
    use crate::store::fault::{FaultStore, RandomFaults};
    use crate::store::{MemoryStore, Store};

    #[tokio::test(start_paused = true)]
    async fn a_batch_whose_answer_was_lost_is_one_batch() {
        let (clock, entropy): (Arc<dyn Clock>, Arc<dyn Entropy>) = (Arc::new(Noon), Arc::new(Seed::new(7)));
        let memory: Arc<dyn Store> = Arc::new(MemoryStore::new(clock.clone()));
        let faults = Arc::new(RandomFaults::new(0.2, 0.3, entropy.clone()));
        let store = Arc::new(FaultStore::new(memory.clone(), faults.clone()));
        let client = Client::new(store, clock, entropy);
        let mut producer = client.producer(Patience { tries: 100, ..Patience::default() });
        for _ in 0..100 {
            let name = |text: &str| text.parse().expect("a name");
            let job = |_| Job::new(client.job_id(), name("noop"), name("default"), Json::null());
            let jobs = (0..10).map(job).map(NewJob::now).collect();
            assert_eq!(producer.send(jobs).await.expect("sent"), vec![Enqueued::Created; 10]);
        }
        assert!(faults.fired() > 50, "only {} faults fired", faults.fired());
        assert_eq!(memory.stats().await.expect("stats")[0].pending, 1_000);
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends() {
        let (clock, entropy): (Arc<dyn Clock>, Arc<dyn Entropy>) = (Arc::new(Noon), Arc::new(Seed::new(7)));
        let away = Arc::new(RandomFaults::new(1.0, 0.0, entropy.clone()));
        let store = Arc::new(FaultStore::new(Arc::new(MemoryStore::new(clock.clone())), away.clone()));
        let client = Client::new(store, clock, entropy);
        let sent = client.producer(Patience::default()).send(Vec::new()).await;
        assert!(matches!(sent, Err(ApiError::Store(StoreError::Unavailable(_)))), "{sent:?}");
        assert_eq!(away.fired(), u64::from(Patience::default().tries));
    }

    #[test]
    fn delays_grow_to_a_bound() {
        let patience = Patience::default();
        let total: Duration = (0..patience.tries).map(|nth| patience.delay(nth)).sum();
        assert_eq!(patience.delay(0), Duration::from_millis(50));
        assert_eq!(patience.delay(40), Duration::from_secs(3));
        assert!((15..30).contains(&total.as_secs()), "{total:?}");
    }
}
