//! Every bound in one place, with its unit. What is larger is refused before anything is stored.

use std::time::Duration;

/// A job's payload, in bytes of JSON text.
pub const PAYLOAD_BYTES: usize = 1 << 20;
/// A result, a step's output or another value of a run, in bytes of JSON text.
pub const VALUE_BYTES: usize = 256 << 10;
/// Captured output of one command, in bytes; head and tail are kept beyond it.
pub const OUTPUT_BYTES: usize = 1 << 20;
/// Nesting of a JSON document.
pub const JSON_DEPTH: usize = 128;
/// A manifest file, in bytes.
pub const MANIFEST_BYTES: usize = 1 << 20;
/// Jobs in one enqueue call to a store.
pub const ENQUEUE_BATCH: usize = 1_000;
/// Leases claimed in one exchange.
pub const CLAIM_BATCH: usize = 64;
/// Inbox entries drained in one advance of a run.
pub const DRAIN_BATCH: usize = 500;
/// Records examined by one `list` call.
pub const LIST_BUDGET: usize = 2_000;
/// Priorities reach from minus to plus this.
pub const PRIORITY: i8 = 100;
/// Metadata of a job, in bytes of keys and values.
pub const METADATA_BYTES: usize = 16 << 10;
/// An error's text as kept with a job, in bytes.
pub const ERROR_BYTES: usize = 8 << 10;
/// Jobs that a handler takes at once.
pub const HANDLER_BATCH: usize = 1_000;
/// Kept of a job's log, in bytes; what came first is dropped beyond it, and told. Redis keeps
/// [`LOG_BYTES_REDIS`].
pub const LOG_BYTES: usize = 1 << 20;
/// Kept of a job's log on Redis, in bytes: there it is memory.
pub const LOG_BYTES_REDIS: usize = 64 << 10;
/// A message of progress, in bytes.
pub const PROGRESS_BYTES: usize = 1 << 10;
/// Jobs that one job may wait for.
pub const PARENTS: usize = 100;
/// A unique or concurrency key, in bytes.
pub const KEY_BYTES: usize = 256;
/// A document that processes share, in bytes.
pub const DOCUMENT_BYTES: usize = 1 << 20;
/// Holders that one semaphore lets in.
pub const LOCK_SLOTS: u32 = 1_000;
/// What a holder of a lock says about itself, in bytes.
pub const HOLDER_BYTES: usize = 1 << 10;
/// Attempts kept in a job's own history; the first one and the latest others stay.
pub const HISTORY: usize = 10;

/// A worker's lease: how long it may stay silent before its jobs are taken from it.
pub const LEASE: Duration = Duration::from_secs(15);
/// How much longer than its time-out a job may run before it is reaped from a live worker.
pub const LEASE_GRACE: Duration = Duration::from_secs(15);
/// Crashes within this time are counted together.
pub const CRASH_WINDOW: Duration = Duration::from_secs(72 * 3600);
/// The crash that buries a job.
pub const CRASHES: usize = 3;
/// How long a job may wait for a worker that handles its type.
pub const PARKED: Duration = Duration::from_secs(600);
/// How long finished jobs and runs are kept.
pub const RETENTION: Duration = Duration::from_secs(24 * 3600);
/// How many finished jobs a queue keeps.
pub const RETENTION_COUNT: usize = 100_000;
/// How long a producer's last sequence is remembered.
pub const PRODUCER_MEMORY: Duration = Duration::from_secs(3600);
/// Packed event records a shard keeps.
pub const EVENT_RECORDS: usize = 20_000;
