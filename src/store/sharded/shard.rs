//! One shard: its store, opened when it can be, and what is known of its health. Every call to it has
//! a deadline; after a failure it counts as away and is answered for at once, until the keeper has
//! found it again. It knows no other shard.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::domain::{Ms, Name, QueueSettings, QueueStats};
use crate::store::contract::{Note, Result, Store, StoreError};
use crate::store::url::hide_password;

/// Makes a store of a shard's number and URL.
pub type Opener = Arc<dyn Fn(u16, String) -> BoxFuture<'static, Result<Arc<dyn Store>>> + Send + Sync>;

/// How long the work of workers and producers waits for one shard: what is slower is as good as away,
/// because everybody waits.
pub const PROMPT: Duration = Duration::from_millis(1_500);
/// How long looks and upkeep wait.
pub const PATIENT: Duration = Duration::from_secs(10);
/// How long it may take to open a store: its schema may have to be made.
const OPEN: Duration = Duration::from_secs(30);
/// A shard that is back is not judged for so long: its workers were cut off from it and could not say
/// that they live.
const SPARE: Duration = Duration::from_secs(8);
/// Notes for a shard that is away are kept up to here.
const NOTES: usize = 4 << 20;

/// Clocks that differ by less are the same, in milliseconds.
const NOTHING: i64 = 1_000;

#[derive(Default)]
struct Health {
    store: Option<Arc<dyn Store>>,
    /// Since when it does not answer, and what was said last.
    away: Option<(Instant, String)>,
    failures: u32,
    /// No probe before this.
    probe: Option<Instant>,
    back: Option<Instant>,
}

pub struct Slot {
    pub id: u16,
    url: Mutex<String>,
    health: Mutex<Health>,
    /// The shard's clock minus ours, in milliseconds.
    offset: AtomicI64,
    /// The last claim got less than it asked for, and nothing has hinted since.
    dry: AtomicBool,
    /// Suspects may wait on it.
    suspects: AtomicBool,
    /// What waits on it, as counted last plus what was born since.
    pub depth: AtomicU64,
    last_stats: Mutex<Option<Vec<QueueStats>>>,
    last_queues: Mutex<Option<Vec<(Name, QueueSettings)>>>,
    notes: Mutex<VecDeque<Note>>,
    /// Somebody listens to its hints.
    heard: AtomicBool,
    /// Somebody looks whether it is there again.
    probed: AtomicBool,
    /// Since when work waits there that no worker is registered for.
    unclaimed: Mutex<Option<Instant>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Slot {
    pub fn new(id: u16, url: String) -> Slot {
        Slot {
            id,
            url: Mutex::new(url),
            health: Mutex::default(),
            offset: AtomicI64::new(0),
            dry: AtomicBool::new(false),
            suspects: AtomicBool::new(true),
            depth: AtomicU64::new(0),
            last_stats: Mutex::default(),
            last_queues: Mutex::default(),
            notes: Mutex::default(),
            heard: AtomicBool::new(false),
            probed: AtomicBool::new(false),
            unclaimed: Mutex::default(),
        }
    }

    /// Its URL with the password hidden.
    pub fn shown(&self) -> String {
        hide_password(&lock(&self.url))
    }

    /// Whether it lies there.
    pub fn lies_at(&self, url: &str) -> bool {
        *lock(&self.url) == url
    }

    pub fn store(&self) -> Option<Arc<dyn Store>> {
        lock(&self.health).store.clone()
    }

    pub fn is_away(&self) -> bool {
        let health = lock(&self.health);
        health.away.is_some() || health.store.is_none()
    }

    /// Why it is away.
    pub fn trouble(&self) -> Option<String> {
        lock(&self.health).away.as_ref().map(|(_, why)| why.clone())
    }

    /// Its leases are not judged yet.
    pub fn is_spared(&self) -> bool {
        lock(&self.health).back.is_some_and(|back| back.elapsed() < SPARE)
    }

    /// Its hints, for the first who asks once it is open.
    pub fn hints_once(&self) -> Option<watch::Receiver<u64>> {
        let store = self.store()?;
        (!self.heard.swap(true, Ordering::Relaxed)).then(|| store.hints())
    }

    /// Opens its store, unless that was done.
    ///
    /// # Errors
    /// The backend's.
    pub async fn open(&self, opener: &Opener) -> Result<()> {
        if self.store().is_some() {
            return Ok(());
        }
        let url = lock(&self.url).clone();
        let opened = tokio::time::timeout(OPEN, opener(self.id, url)).await;
        match opened.unwrap_or_else(|_| Err(StoreError::Unavailable(format!("no answer within {OPEN:?}")))) {
            Ok(store) => {
                lock(&self.health).store = Some(store);
                self.came_back();
                Ok(())
            }
            Err(error) => {
                self.failed(&error);
                Err(self.named(error))
            }
        }
    }

    /// Whether the keeper is to look whether it is there again.
    pub fn wants_probe(&self) -> bool {
        let health = lock(&self.health);
        (health.away.is_some() || health.store.is_none()) && health.probe.is_none_or(|at| at <= Instant::now())
    }

    /// Whether nobody else looks for it already.
    pub fn begin_probe(&self) -> bool {
        !self.probed.swap(true, Ordering::Relaxed)
    }

    pub fn end_probe(&self) {
        self.probed.store(false, Ordering::Relaxed);
    }

    /// For how long it has been so that it is unclaimed.
    pub fn unclaimed_for(&self, is_unclaimed: bool) -> Duration {
        let mut since = lock(&self.unclaimed);
        match is_unclaimed {
            true => since.get_or_insert_with(Instant::now).elapsed(),
            false => {
                *since = None;
                Duration::ZERO
            }
        }
    }

    /// One call with a deadline, answered at once if the shard is away.
    ///
    /// # Errors
    /// The store's, with the shard's name; [`StoreError::Unknown`] after the deadline.
    pub async fn call<T, F>(&self, limit: Duration, call: impl FnOnce(Arc<dyn Store>) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        {
            let health = lock(&self.health);
            if let Some((_, why)) = &health.away {
                return Err(StoreError::Unavailable(format!("{} does not answer: {why}", self.name())));
            }
        }
        self.call_anyway(limit, call).await
    }

    /// The same, even if it is away: a probe.
    ///
    /// # Errors
    /// As [`Slot::call`].
    pub async fn call_anyway<T, F>(&self, limit: Duration, call: impl FnOnce(Arc<dyn Store>) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let Some(store) = self.store() else {
            return Err(StoreError::Unavailable(format!("{} was not reached yet", self.name())));
        };
        let answer = tokio::time::timeout(limit, call(store)).await;
        match answer.unwrap_or_else(|_| Err(StoreError::Unknown(format!("no answer within {limit:?}")))) {
            Ok(answer) => Ok(answer),
            Err(error) => {
                if matches!(error, StoreError::Unavailable(_) | StoreError::Unknown(_)) {
                    self.failed(&error);
                }
                Err(self.named(error))
            }
        }
    }

    /// How people are told of it.
    pub fn name(&self) -> String {
        format!("shard {} ({})", self.id, self.shown())
    }

    fn named(&self, error: StoreError) -> StoreError {
        let named = |text: String| format!("{}: {text}", self.name());
        match error {
            StoreError::Unavailable(text) => StoreError::Unavailable(named(text)),
            StoreError::Unknown(text) => StoreError::Unknown(named(text)),
            StoreError::Full(text) => StoreError::Full(named(text)),
            StoreError::Refused(text) => StoreError::Refused(named(text)),
            StoreError::Corrupt(text) => StoreError::Corrupt(named(text)),
            other @ StoreError::TooNew { .. } => other,
        }
    }

    fn failed(&self, error: &StoreError) {
        let mut health = lock(&self.health);
        let now = Instant::now();
        let is_news = health.away.is_none();
        let since = health.away.as_ref().map_or(now, |(since, _)| *since);
        health.away = Some((since, error.to_string()));
        let pause = Duration::from_millis(100u64 << health.failures.min(4)).min(Duration::from_secs(1));
        health.failures += 1;
        health.probe = Some(now + pause);
        drop(health);
        if is_news {
            tracing::warn!(shard = self.id, store = %self.shown(), %error, "a shard does not answer: the others go on");
        }
    }

    /// It has answered.
    pub fn came_back(&self) {
        let mut health = lock(&self.health);
        let was_away = health.away.take();
        health.failures = 0;
        health.probe = None;
        if let Some((since, _)) = was_away {
            health.back = Some(Instant::now());
            let away = since.elapsed();
            drop(health);
            self.dry.store(false, Ordering::Relaxed);
            self.suspects.store(true, Ordering::Relaxed);
            tracing::info!(shard = self.id, store = %self.shown(), ?away, "the shard is back");
        }
    }

    /// What its clock says.
    ///
    /// # Errors
    /// The store's.
    pub async fn clock(&self) -> Result<Ms> {
        self.call(PATIENT, |store| async move { Ok(store.schedules().await?.0) }).await
    }

    /// Notes what its clock says at a moment of ours. What a request takes on its way is no difference.
    pub fn saw_clock(&self, theirs: Ms, ours: Ms) {
        let offset = theirs.0.saturating_sub(ours.0);
        self.offset.store(if offset.abs() < NOTHING { 0 } else { offset }, Ordering::Relaxed);
    }

    /// What is to be said of its clock.
    pub fn odd_clock(&self) -> Option<String> {
        let offset = self.offset.load(Ordering::Relaxed);
        if offset == 0 {
            return None;
        }
        let way = if offset > 0 { "ahead of" } else { "behind" };
        let by = crate::domain::time::format_duration(Duration::from_millis(offset.unsigned_abs()));
        Some(format!(
            "shard {}: its clock is {by} {way} this machine's: locks whose home changes wait until the later clock is \
             reached",
            self.id
        ))
    }

    /// A moment of its clock on ours.
    pub fn to_ours(&self, theirs: Ms) -> Ms {
        Ms(theirs.0.saturating_sub(self.offset.load(Ordering::Relaxed)))
    }

    /// A moment of ours on its clock.
    pub fn to_theirs(&self, ours: Ms) -> Ms {
        Ms(ours.0.saturating_add(self.offset.load(Ordering::Relaxed)))
    }

    pub fn is_dry(&self) -> bool {
        self.dry.load(Ordering::Relaxed)
    }

    pub fn set_dry(&self, dry: bool) {
        self.dry.store(dry, Ordering::Relaxed);
    }

    pub fn has_suspects(&self) -> bool {
        self.suspects.load(Ordering::Relaxed)
    }

    pub fn set_suspects(&self, suspects: bool) {
        self.suspects.store(suspects, Ordering::Relaxed);
    }

    /// Keeps the last counts: while the shard is away they are the best there is.
    pub fn remember_stats(&self, stats: &[QueueStats]) {
        let waits = |queue: &QueueStats| queue.pending + queue.retrying + queue.running;
        self.depth.store(stats.iter().map(waits).sum(), Ordering::Relaxed);
        *lock(&self.last_stats) = Some(stats.to_vec());
    }

    pub fn last_stats(&self) -> Option<Vec<QueueStats>> {
        lock(&self.last_stats).clone()
    }

    pub fn remember_queues(&self, queues: &[(Name, QueueSettings)]) {
        *lock(&self.last_queues) = Some(queues.to_vec());
    }

    pub fn last_queues(&self) -> Option<Vec<(Name, QueueSettings)>> {
        lock(&self.last_queues).clone()
    }

    /// Keeps notes until the shard is back. What is beyond the bound is dropped, the oldest first, and
    /// told.
    pub fn keep_notes(&self, notes: Vec<Note>) {
        let mut kept = lock(&self.notes);
        kept.extend(notes);
        let mut bytes: usize = kept.iter().map(|note| note.log.len() + 64).sum();
        let mut dropped = 0;
        while bytes > NOTES
            && let Some(note) = kept.pop_front()
        {
            bytes -= note.log.len() + 64;
            dropped += 1;
        }
        drop(kept);
        if dropped > 0 {
            tracing::warn!(shard = self.id, dropped, "what jobs printed is dropped: their shard is away for too long");
        }
    }

    pub fn take_notes(&self) -> Vec<Note> {
        lock(&self.notes).drain(..).collect()
    }
}
