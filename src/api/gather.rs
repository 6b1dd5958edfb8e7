//! Single jobs of many callers, sent together: while a batch is on its way to the store, what comes is the
//! next one. Nobody waits longer for it than the store takes, and a busy server asks the store once for
//! what a hundred have brought. Knows no HTTP.

use tokio::sync::{mpsc, oneshot};

use super::enqueue::{Patience, Producer};
use super::{ApiError, Client, Result};
use crate::store::{Enqueued, NewJob, StoreError};

/// Jobs in a batch.
const BATCH: usize = 200;
/// Bytes of payloads in a batch, but for the first.
const BATCH_BYTES: usize = 1 << 20;
/// Callers that wait to be taken along; more are held up.
const WAITING: usize = 1_000;

struct Wish {
    job: NewJob,
    answer: oneshot::Sender<Result<Enqueued>>,
}

/// Where single jobs are brought.
#[derive(Clone)]
pub struct Gather(mpsc::Sender<Wish>);

impl Gather {
    /// Carries until its last clone is gone. None over several shards: one that is away must not hold up
    /// what is for the others.
    pub fn over(client: &Client) -> Option<Gather> {
        if client.store().shards().is_some() {
            return None;
        }
        let (sender, wishes) = mpsc::channel(WAITING);
        tokio::spawn(carry(client.producer(Patience::default()), wishes));
        Some(Gather(sender))
    }

    /// Has a job added; what became of it.
    ///
    /// # Errors
    /// As [`Producer::send`].
    pub async fn send(&self, job: NewJob) -> Result<Enqueued> {
        let (answer, answered) = oneshot::channel();
        let gone = || ApiError::from(StoreError::Unknown("the enqueue was cut off".to_owned()));
        self.0.send(Wish { job, answer }).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

async fn carry(mut producer: Producer, mut wishes: mpsc::Receiver<Wish>) {
    while let Some(first) = wishes.recv().await {
        let mut bytes = first.job.job.payload.as_str().len();
        let mut batch = vec![first];
        while batch.len() < BATCH && bytes < BATCH_BYTES {
            let Ok(next) = wishes.try_recv() else { break };
            bytes += next.job.job.payload.as_str().len();
            batch.push(next);
        }
        let (jobs, answers): (Vec<NewJob>, Vec<_>) = batch.into_iter().map(|wish| (wish.job, wish.answer)).unzip();
        match producer.send(jobs.clone()).await {
            Ok(added) => {
                for (answer, added) in answers.into_iter().zip(added) {
                    // Whoever has gone does not want to know.
                    let _ = answer.send(Ok(added));
                }
            }
            // Whatever the store does not like about one, the others shall not have to bear.
            Err(ApiError::Store(error)) if jobs.len() > 1 && !error.is_transient() => {
                for (job, answer) in jobs.into_iter().zip(answers) {
                    let alone = producer.send(vec![job]).await;
                    let added = alone.map(|added| added.into_iter().next().unwrap_or(Enqueued::Exists));
                    let _ = answer.send(added);
                }
            }
            Err(error) => {
                for answer in answers {
                    let _ = answer.send(Err(error.clone()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::domain::{Clock, Entropy, Job, Json, Ms, Name};
    use crate::store::fault::{FaultStore, Saboteur};
    use crate::store::{MemoryStore, Store};

    struct Noon;

    impl Clock for Noon {
        fn now(&self) -> Ms {
            Ms(1_770_000_000_000)
        }
    }

    struct Count(AtomicU64);

    impl Entropy for Count {
        fn next(&self) -> u64 {
            self.0.fetch_add(1, Ordering::SeqCst)
        }
    }

    /// Counts commits, and refuses the first ones.
    #[derive(Default)]
    struct Doors {
        commits: AtomicU64,
        refused: AtomicU64,
    }

    impl Saboteur for Doors {
        fn before(&self, is_commit: bool) -> crate::store::Result<()> {
            self.commits.fetch_add(u64::from(is_commit), Ordering::SeqCst);
            let refuses = |left: u64| left.checked_sub(1);
            match is_commit && self.refused.fetch_update(Ordering::SeqCst, Ordering::SeqCst, refuses).is_ok() {
                true => Err(StoreError::Refused("one of them".to_owned())),
                false => Ok(()),
            }
        }

        fn after(&self, _: bool) -> crate::store::Result<()> {
            Ok(())
        }

        fn travel(&self) -> std::time::Duration {
            std::time::Duration::from_millis(5)
        }
    }

    async fn added(refused: u64) -> (u64, Vec<Result<Enqueued>>, u64) {
        let (clock, entropy): (Arc<dyn Clock>, Arc<dyn Entropy>) = (Arc::new(Noon), Arc::new(Count(AtomicU64::new(1))));
        let memory: Arc<dyn Store> = Arc::new(MemoryStore::new(clock.clone()));
        let doors = Arc::new(Doors { refused: AtomicU64::new(refused), ..Doors::default() });
        let store = Arc::new(FaultStore::new(memory.clone(), doors.clone()));
        let client = Client::new(store, clock, entropy);
        let gather = Gather::over(&client).expect("one store");
        let name = |text: &str| -> Name { text.parse().expect("a name") };
        let job = || NewJob::now(Job::new(client.job_id(), name("noop"), name("default"), Json::null()));
        let sent = futures_util::future::join_all((0..100).map(|_| gather.send(job()))).await;
        let kept = memory.stats().await.expect("stats").first().map_or(0, |queue| queue.pending);
        (doors.commits.load(Ordering::SeqCst), sent, kept)
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_at_once_goes_together_and_each_is_answered() {
        let (commits, sent, kept) = added(0).await;
        assert!(sent.iter().all(|sent| *sent == Ok(Enqueued::Created)), "{sent:?}");
        assert_eq!(kept, 100);
        assert!(commits <= 3, "{commits} calls for a hundred jobs");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_refused_together_is_sent_one_by_one() {
        // The whole batch, and then one of it.
        let (_, sent, kept) = added(3).await;
        let refused = sent.iter().filter(|sent| sent.is_err()).count();
        assert!((1..=2).contains(&refused), "{refused} were refused");
        assert_eq!(kept as usize, 100 - refused);
    }
}
