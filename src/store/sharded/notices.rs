//! The two small records that every shard keeps for all: the map, and how far its definitions and settings
//! have come. Changed by whoever saw the last revision, as schedules are, and kept among them under
//! reserved names. It knows bytes and revisions, not what follows from them.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::map::Map;
use crate::domain::{Event, JobId, Name, RunId};
use crate::store::codec::{decode, encode};
use crate::store::contract::{Result, ScheduleCommit, ScheduleRecord, Store, StoreError};

const MAP: &str = "goflow:shards";
const SETTINGS: &str = "goflow:settings";

/// How far a shard's definitions and settings have come: it rises when a change did not reach every shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Settled {
    pub version: u64,
}

/// The map as a shard keeps it: with its own number, so that one key space is never taken for two.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
struct Kept {
    shard: u16,
    map: Map,
}

/// What one shard keeps, each with its revision (0: nothing yet).
#[derive(Clone, Debug, Default)]
pub struct Notices {
    pub map: Option<Map>,
    /// The number under which the map was kept there.
    pub shard: Option<u16>,
    pub map_rev: u64,
    pub settled: Settled,
    pub settled_rev: u64,
}

/// Whether a schedule's name is that of a notice.
pub fn is_notice(name: &Name) -> bool {
    [MAP, SETTINGS, UNCLAIMED].contains(&name.as_str()) || name.as_str().starts_with(INTENT)
}

/// Reads both out of what the store keeps as schedules.
///
/// # Errors
/// [`StoreError::Corrupt`] for one that cannot be read.
pub fn read(records: &[ScheduleRecord]) -> Result<Notices> {
    let mut notices = Notices::default();
    for record in records {
        match record.name.as_str() {
            MAP => {
                let Kept { shard, map } = body(record)?;
                (notices.map, notices.shard, notices.map_rev) = (Some(map), Some(shard), record.rev);
            }
            SETTINGS => (notices.settled, notices.settled_rev) = (body(record)?, record.rev),
            _ => {}
        }
    }
    Ok(notices)
}

/// Asks a store for its notices.
///
/// # Errors
/// The store's.
pub async fn of(store: &dyn Store) -> Result<Notices> {
    read(&store.schedules().await?.1)
}

fn body<T: DeserializeOwned>(record: &ScheduleRecord) -> Result<T> {
    decode(&record.body)
}

async fn write<T: Serialize>(
    store: &dyn Store,
    name: &'static str,
    from_rev: u64,
    value: &T,
    events: Vec<Event>,
) -> Result<bool> {
    let next = Some((None, encode(value)?));
    let commit = ScheduleCommit { next, events, ..ScheduleCommit::deleting(&Name::literal(name), from_rev) };
    Ok(store.set_schedule(&commit).await?.is_some())
}

/// Keeps a map, if the one before still has this revision; whether it had.
///
/// # Errors
/// The store's.
pub async fn write_map(store: &dyn Store, shard: u16, from_rev: u64, map: &Map, events: Vec<Event>) -> Result<bool> {
    write(store, MAP, from_rev, &Kept { shard, map: map.clone() }, events).await
}

/// Keeps how far a shard has come.
///
/// # Errors
/// The store's.
pub async fn write_settled(store: &dyn Store, from_rev: u64, settled: Settled) -> Result<bool> {
    write(store, SETTINGS, from_rev, &settled, Vec::new()).await
}

const UNCLAIMED: &str = "goflow:unclaimed";

/// Tells that nobody works for a shard, unless that was told since `not_since`.
///
/// # Errors
/// The store's.
pub async fn tell_unclaimed(store: &dyn Store, now: i64, not_since: i64, event: Event) -> Result<()> {
    let (_, records) = store.schedules().await?;
    let told = records.iter().find(|record| record.name.as_str() == UNCLAIMED);
    if told.map(body::<i64>).transpose()?.is_some_and(|told| told > not_since) {
        return Ok(());
    }
    // Whoever was quicker has told it.
    write(store, UNCLAIMED, told.map_or(0, |record| record.rev), &now, vec![event]).await.map(drop)
}

/// A batch of jobs that somebody carries away from here.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Intent {
    /// The number of the carrying.
    pub carry: u64,
    pub to: u16,
    /// When it began, by the clock of the shard that it is kept on.
    pub at: i64,
    pub jobs: Vec<JobId>,
    /// The runs that these are steps of: the jobs land when the runs have.
    #[serde(default)]
    pub runs: Vec<RunId>,
}

const INTENT: &str = "goflow:carry.";

fn intent_name(intent: &Intent) -> Result<Name> {
    let odd = |_| StoreError::Corrupt("a number is no name".into());
    format!("{INTENT}{:016x}", intent.carry).parse().map_err(odd)
}

/// Keeps an intent.
///
/// # Errors
/// The store's.
pub async fn keep_intent(store: &dyn Store, intent: &Intent) -> Result<()> {
    let next = Some((None, encode(intent)?));
    let commit = ScheduleCommit { next, ..ScheduleCommit::deleting(&intent_name(intent)?, 0) };
    // There already: an answer was lost.
    store.set_schedule(&commit).await.map(drop)
}

/// It is done.
///
/// # Errors
/// The store's.
pub async fn drop_intent(store: &dyn Store, intent: &Intent) -> Result<()> {
    store.set_schedule(&ScheduleCommit::deleting(&intent_name(intent)?, 1)).await.map(drop)
}

/// Those that are kept.
///
/// # Errors
/// [`StoreError::Corrupt`] for one that cannot be read.
pub fn intents(records: &[ScheduleRecord]) -> Result<Vec<Intent>> {
    records.iter().filter(|record| record.name.as_str().starts_with(INTENT)).map(body).collect()
}
