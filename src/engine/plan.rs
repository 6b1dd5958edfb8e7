//! When a worker does what next, and what it may do meanwhile. Moments and flags only: whoever acts
//! on them is the loop.

use std::time::Duration;

use tokio::time::Instant;

/// How long suspects may wait before a worker drains to take them, at least and at most.
const PATIENCE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(2));
/// How long a worker keeps itself free for a suspect, and then works again.
const DRAIN: Duration = Duration::from_secs(10);
/// Between two batches of notes, and how long the first words wait for more.
const NOTES: Duration = Duration::from_millis(300);
const FIRST_NOTE: Duration = Duration::from_millis(20);
/// After a failed call; doubles up to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// When to do what next. Everything is due at the start except housekeeping.
pub struct Plan {
    pub claim: Instant,
    pub beat: Instant,
    pub queues: Instant,
    pub handlers: Instant,
    /// No call before this: the last one failed.
    pub retry: Instant,
    backoff: Duration,
    /// Until when the registration surely holds; claims need it.
    pub registered: Option<Instant>,
    pub beating: bool,
    pub looking: bool,
    pub following: bool,
    /// The handlers that were applied to the store have been seen once.
    pub handlers_known: bool,
    /// The next look whether everything is done; none while one is under way.
    pub check: Option<Instant>,
    /// Suspects wait: until when that is left to others.
    pub suspects: Option<Instant>,
    /// Since when calls have failed without a heartbeat that was answered.
    pub trouble: Option<Instant>,
    /// The next look for jobs that were asked to end; the last one; whether one is under way, and whether
    /// the store has said that there are such jobs.
    pub asks: Instant,
    pub last_asks: Instant,
    pub asking: bool,
    pub asked: bool,
    /// When to send what jobs told, if they told anything; when that was last done.
    pub notes: Option<Instant>,
    last_notes: Option<Instant>,
    pub noting: bool,
    /// The settings of the queues have been seen once.
    pub queues_known: bool,
    /// With `until_empty`: since when nothing but runs without a job is left.
    pub only_runs: Option<Instant>,
    /// The last look found less than was asked for, and nobody has hinted at more since.
    pub idle: bool,
    /// The last look found all that was asked for.
    pub plenty: bool,
}

impl Plan {
    pub fn new(now: Instant) -> Self {
        Plan {
            claim: now,
            beat: now,
            queues: now,
            handlers: now,
            retry: now,
            backoff: BACKOFF.0,
            registered: None,
            beating: false,
            looking: false,
            following: false,
            handlers_known: false,
            check: Some(now),
            suspects: None,
            trouble: None,
            asks: now,
            last_asks: now,
            asking: false,
            asked: false,
            notes: None,
            last_notes: None,
            noting: false,
            queues_known: false,
            only_runs: None,
            idle: false,
            plenty: false,
        }
    }

    /// A call was answered: trouble is over.
    pub fn answered(&mut self) {
        self.backoff = BACKOFF.0;
    }

    /// A call failed for now: waits, longer each time. Leases may have been given to us by a call
    /// whose answer was lost, so the first thing afterwards is a heartbeat.
    pub fn failed(&mut self, now: Instant) -> Duration {
        let wait = self.backoff;
        self.retry = now + wait;
        self.beat = self.retry;
        self.trouble.get_or_insert(now);
        self.backoff = (wait * 2).min(BACKOFF.1);
        wait
    }

    /// Somebody told something: it is sent soon, with all that comes until then.
    pub fn note(&mut self, now: Instant) {
        if self.notes.is_none() {
            let at = self.last_notes.map_or(now + FIRST_NOTE, |last| (last + NOTES).max(now + FIRST_NOTE));
            (self.notes, self.last_notes) = (Some(at), Some(at));
        }
    }

    /// Suspects wait for a worker that is alone, or no longer do. `patience`, 0 to 1, spreads the
    /// workers, so that not all of them drain at once.
    pub fn note_suspects(&mut self, waiting: bool, now: Instant, patience: f64) {
        if !waiting {
            self.suspects = None;
        } else if self.suspects.is_none() {
            self.suspects = Some(now + PATIENCE.0 + (PATIENCE.1 - PATIENCE.0).mul_f64(patience));
        }
    }

    /// Nobody else has taken the suspects: this worker takes nothing new until it is alone. Ten
    /// seconds at a time, then it works for as long: a long job must not keep all its other places
    /// empty.
    pub fn drains(&self, now: Instant) -> bool {
        let waited = self.suspects.and_then(|until| now.checked_duration_since(until));
        waited.is_some_and(|waited| (waited.as_millis() / DRAIN.as_millis()).is_multiple_of(2))
    }
}
