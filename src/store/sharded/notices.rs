//! The two small records that every shard keeps for all: the map, and how far its definitions and settings
//! have come. Changed by whoever saw the last revision, as schedules are, and kept among them under
//! reserved names. It knows bytes and revisions, not what follows from them.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::map::Map;
use crate::domain::{Event, Name};
use crate::store::codec::{decode, encode};
use crate::store::contract::{Result, ScheduleCommit, ScheduleRecord, Store};

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
    [MAP, SETTINGS, UNCLAIMED].contains(&name.as_str()) || name.as_str().starts_with(MOVING)
}

/// Reads both out of what the store keeps as schedules.
///
/// # Errors
/// [`crate::store::StoreError::Corrupt`] for one that cannot be read.
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

/// A schedule on its way to this shard.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Moving {
    pub name: Name,
    pub due: Option<i64>,
    pub body: Vec<u8>,
}

const MOVING: &str = "goflow:moving.";

/// The name under which it is noted: names are bounded, so a digest stands for the schedule's own.
fn moving_name(name: &Name) -> Result<Name> {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(name.as_str().as_bytes());
    let hex: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("{MOVING}{hex}")
        .parse()
        .map_err(|_| crate::store::contract::StoreError::Corrupt("a digest is no name".into()))
}

/// Schedules on their way to a store.
///
/// # Errors
/// The store's.
pub async fn moving(store: &dyn Store) -> Result<Vec<Moving>> {
    let (_, records) = store.schedules().await?;
    records.iter().filter(|record| record.name.as_str().starts_with(MOVING)).map(body).collect()
}

/// Notes that a schedule comes.
///
/// # Errors
/// The store's.
pub async fn note_moving(store: &dyn Store, note: &Moving) -> Result<()> {
    set_moving(store, &note.name, Some(encode(note)?)).await
}

/// It has come.
///
/// # Errors
/// The store's.
pub async fn forget_moving(store: &dyn Store, note: &Moving) -> Result<()> {
    set_moving(store, &note.name, None).await
}

async fn set_moving(store: &dyn Store, schedule: &Name, body: Option<Vec<u8>>) -> Result<()> {
    let name = moving_name(schedule)?;
    loop {
        let (_, records) = store.schedules().await?;
        let rev = records.iter().find(|record| record.name == name).map_or(0, |record| record.rev);
        if rev == 0 && body.is_none() {
            return Ok(());
        }
        let next = body.clone().map(|body| (None, body));
        let commit = ScheduleCommit { next, ..ScheduleCommit::deleting(&name, rev) };
        if store.set_schedule(&commit).await?.is_some() {
            return Ok(());
        }
    }
}
