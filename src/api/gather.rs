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
        let (mut bytes, mut batch, mut next) = (0, Vec::new(), Some(first));
        while let Some(wish) = next {
            // Whoever has gone was told nothing, and may have asked elsewhere.
            if !wish.answer.is_closed() {
                bytes += wish.job.job.payload.as_str().len();
                batch.push(wish);
            }
            let has_room = batch.len() < BATCH && bytes < BATCH_BYTES;
            next = if has_room { wishes.try_recv().ok() } else { None };
        }
        if batch.is_empty() {
            continue;
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
                // The store was waited for already: who came meanwhile is not to wait as long once more. What
                // they brought was not sent, so that much is known.
                if let ApiError::Store(StoreError::Unavailable(why) | StoreError::Unknown(why)) = error {
                    for _ in 0..wishes.len() {
                        let Ok(wish) = wishes.try_recv() else { break };
                        let _ = wish.answer.send(Err(StoreError::Unavailable(why.clone()).into()));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::super::testing::{Noon, Seed};
    use super::*;
    use crate::domain::{Clock, Entropy, Job, Json, Name};
    use crate::store::fault::{FaultStore, Saboteur};
    use crate::store::{MemoryStore, Store};

    /// Counts commits, and refuses the first ones, or is away for so many.
    #[derive(Default)]
    struct Doors {
        commits: AtomicU64,
        refused: AtomicU64,
        away: AtomicU64,
    }

    impl Saboteur for Doors {
        fn before(&self, is_commit: bool) -> crate::store::Result<()> {
            self.commits.fetch_add(u64::from(is_commit), Ordering::SeqCst);
            let one_of = |left: &AtomicU64| {
                is_commit && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
            };
            if one_of(&self.away) {
                return Err(StoreError::Unavailable("it is away".to_owned()));
            }
            match one_of(&self.refused) {
                true => Err(StoreError::Refused("one of them".to_owned())),
                false => Ok(()),
            }
        }

        fn travel(&self) -> std::time::Duration {
            std::time::Duration::from_millis(5)
        }
    }

    struct Scene {
        doors: Arc<Doors>,
        client: Client,
        gather: Gather,
        memory: Arc<dyn Store>,
    }

    fn scene(doors: Doors) -> Scene {
        let (clock, entropy): (Arc<dyn Clock>, Arc<dyn Entropy>) = (Arc::new(Noon), Arc::new(Seed::new(1)));
        let memory: Arc<dyn Store> = Arc::new(MemoryStore::new(clock.clone()));
        let doors = Arc::new(doors);
        let store = Arc::new(FaultStore::new(memory.clone(), doors.clone()));
        let client = Client::new(store, clock, entropy);
        let gather = Gather::over(&client).expect("one store");
        Scene { doors, client, gather, memory }
    }

    impl Scene {
        async fn send(&self) -> Result<Enqueued> {
            let name = |text: &str| -> Name { text.parse().expect("a name") };
            let job = Job::new(self.client.job_id(), name("noop"), name("default"), Json::null());
            self.gather.send(NewJob::now(job)).await
        }

        async fn kept(&self) -> u64 {
            self.memory.stats().await.expect("stats").first().map_or(0, |queue| queue.pending)
        }
    }

    async fn added(refused: u64) -> (u64, Vec<Result<Enqueued>>, u64) {
        let scene = scene(Doors { refused: AtomicU64::new(refused), ..Doors::default() });
        let sent = futures_util::future::join_all((0..100).map(|_| scene.send())).await;
        (scene.doors.commits.load(Ordering::SeqCst), sent, scene.kept().await)
    }

    /// While the first batch is on its way.
    async fn meanwhile() {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
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

    #[tokio::test(start_paused = true)]
    async fn who_waits_while_the_store_is_away_does_not_wait_twice() {
        // As often as it is asked for one batch.
        let away = AtomicU64::new(Patience::default().tries.into());
        let scene = scene(Doors { away, ..Doors::default() });
        let second = async {
            meanwhile().await;
            scene.send().await
        };
        let (first, second) = futures_util::join!(scene.send(), second);
        let away = Err(ApiError::from(StoreError::Unavailable("it is away".to_owned())));
        assert_eq!((&first, &second), (&away, &away));
        assert_eq!(scene.send().await, Ok(Enqueued::Created));
        assert_eq!(scene.kept().await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_waits_for_any_more_is_not_added() {
        let scene = scene(Doors::default());
        let gone = async {
            meanwhile().await;
            tokio::time::timeout(std::time::Duration::from_millis(1), scene.send()).await
        };
        let (first, gone) = futures_util::join!(scene.send(), gone);
        assert_eq!((first, gone.is_err()), (Ok(Enqueued::Created), true));
        assert_eq!(scene.send().await, Ok(Enqueued::Created));
        assert_eq!(scene.kept().await, 2);
    }
}
