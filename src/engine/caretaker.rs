//! The housekeeping of a worker without its work: takes over what dead workers held, fires timers,
//! advances runs, lets held jobs go, ends what was asked to end, trims. A server runs it, so that workers
//! which only speak HTTP have everything a worker of goflow would do for them. Any number of processes
//! may do this over one store.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use super::housekeeping::{Done, Housekeeper};
use super::options::WorkerOptions;
use super::time::StoreTime;
use crate::domain::trace::Spans;
use crate::domain::{Clock, Entropy, Shard, WorkerId};
use crate::runs::Runs;
use crate::store::{Exchange, Result, Store};

/// Jobs whose end was asked for, looked at in one go.
const ASKS: usize = 256;
/// Pauses after failures double from the first to the second.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

pub struct Caretaker {
    store: Arc<dyn Store>,
    entropy: Arc<dyn Entropy>,
    options: WorkerOptions,
    time: StoreTime,
    housekeeper: Housekeeper,
    tasks: JoinSet<Done>,
    /// Nobody's id: under it no lease is ever taken.
    nobody: WorkerId,
    pause: Duration,
    /// After a failure nothing is asked before then, and no lease is judged until a look has succeeded.
    retry: Option<Instant>,
}

impl Caretaker {
    /// `spans` takes those of what ends here, if anybody does.
    pub fn new(
        store: Arc<dyn Store>,
        clock: &dyn Clock,
        entropy: Arc<dyn Entropy>,
        spans: Option<Arc<dyn Spans>>,
    ) -> Caretaker {
        let options = WorkerOptions::default();
        let runs = Arc::new(Runs::new(store.clone(), spans));
        let housekeeper = Housekeeper::new(&store, &runs, &entropy, &options);
        let now = clock.now();
        let nobody = WorkerId::from_parts(now, Shard::default(), entropy.next());
        let (time, tasks) = (StoreTime::new(now), JoinSet::new());
        Caretaker { store, entropy, options, time, housekeeper, tasks, nobody, pause: PAUSE.0, retry: None }
    }

    /// Keeps house until `stop`. What fails is tried again: a server that answers is worth more than one
    /// that ends because of one damaged record.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut hints = self.store.hints();
        let mut look = Instant::now();
        loop {
            let now = Instant::now();
            if self.retry.is_none_or(|retry| retry <= now) {
                if look <= now {
                    look = now + self.options.poll;
                    let looked = self.look().await;
                    self.came_to(looked);
                }
                for chore in self.housekeeper.due(now, self.retry.is_none()) {
                    let now = self.time.now();
                    self.tasks.spawn(async move { chore.run(now).await });
                }
            }
            let wake = self.housekeeper.next(now).min(look).max(self.retry.unwrap_or(now));
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(done) = self.tasks.join_next() => match done {
                    Ok(done) => {
                        let result = self.housekeeper.done(done, &self.time);
                        self.came_to(result);
                    }
                    Err(error) => error!("a chore failed: {error}"),
                },
                Ok(()) = hints.changed() => {
                    hints.borrow_and_update();
                    self.housekeeper.hinted(Instant::now());
                }
                () = tokio::time::sleep_until(wake.max(now + Duration::from_millis(1))) => {}
            }
        }
        self.tasks.shutdown().await;
    }

    /// What an exchange says beside its jobs, without one.
    async fn look(&mut self) -> Result<()> {
        let answer = self.store.exchange(&Exchange::default()).await?;
        self.time = StoreTime::new(answer.now);
        if answer.dirty {
            self.housekeeper.dirty();
        }
        if answer.freed {
            self.housekeeper.freed();
        }
        if let Some(due) = answer.next_due {
            self.housekeeper.timer_due(self.time.instant(due));
        }
        if answer.asked {
            self.housekeeper.end(self.store.asked(self.nobody, ASKS).await?);
        }
        Ok(())
    }

    fn came_to(&mut self, result: Result<()>) {
        match result {
            Ok(()) => (self.pause, self.retry) = (PAUSE.0, None),
            Err(error) => {
                if error.is_transient() {
                    debug!("housekeeping waits for the store: {error}");
                } else {
                    warn!("housekeeping: {error}");
                }
                // Not all servers at once.
                self.retry = Some(Instant::now() + self.pause.mul_f64(1.0 + self.entropy.fraction()));
                self.pause = (self.pause * 2).min(PAUSE.1);
            }
        }
    }
}
