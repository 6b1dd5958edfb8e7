//! The reading of what the scripts answer that write. It knows the shapes that `write` asks for, and sends
//! nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use redis::Value;

use super::{pack, reply};
use crate::domain::{Epoch, JobId, Ms, Name, RunId};
use crate::store::codec;
use crate::store::contract::*;

/// Queues that an exchange must name too, if the script has done nothing for want of them.
pub fn read_wanted(answer: &Value) -> Option<Vec<Name>> {
    let Value::Array(parts) = answer else { return None };
    let (Value::BulkString(word), names) = parts.split_first()? else { return None };
    let name = |value: &Value| reply::text(value.clone()).ok()?.parse().ok();
    if word == b"queues" { names.iter().map(name).collect() } else { None }
}

/// Reads what the exchange script answers.
pub fn read_exchange(exchange: &Exchange, answer: Value) -> Result<Exchanged> {
    let mut parts = reply::array(answer)?.into_iter();
    let mut next = || parts.next().ok_or_else(reply::odd);
    let now = Ms(reply::int(&next()?)?);
    let suspects = reply::int(&next()?)? > 0;
    let dirty = reply::int(&next()?)? > 0;
    let next_due = Some(reply::int(&next()?)?).filter(|due| *due >= 0).map(Ms);
    let epoch = reply::int(&next()?)? as u64;
    let asked = reply::int(&next()?)? > 0;
    let freed = reply::int(&next()?)? > 0;
    let codes = reply::bytes(next()?)?;
    let (ids, bodies, runs) = (reply::bytes(next()?)?, reply::array(next()?)?, reply::array(next()?)?);

    let mut reader = pack::Reader(&codes);
    let mut commits = Vec::with_capacity(exchange.commits.len());
    for commit in &exchange.commits {
        let mut moves = Vec::with_capacity(commit.moves.len());
        for _ in &commit.moves {
            moves.push(match reader.u8()? {
                b'a' => Moved::Applied,
                b's' => Moved::Stale,
                b'x' => Moved::Conflict(JobId::from_bytes(reader.id()?)),
                _ => return Err(reply::odd()),
            });
        }
        let run = match reader.u8()? {
            b'N' => RunAnswer::None,
            b'A' => RunAnswer::Advanced { more: false },
            b'M' => RunAnswer::Advanced { more: true },
            b'I' => RunAnswer::Inboxed,
            b'C' => RunAnswer::Contended,
            b'G' => RunAnswer::Gone,
            _ => return Err(reply::odd()),
        };
        commits.push(Committed { moves, run });
    }

    let mut records = BTreeMap::new();
    for (id, record) in reply::pairs(Value::Array(runs))? {
        let run = RunId::from_slice(&id).ok_or_else(reply::odd)?;
        records.insert(run, Arc::new(pack::read_run(run, &record)?));
    }
    if ids.len() != 16 * bodies.len() {
        return Err(reply::odd());
    }
    let mut claimed = Vec::with_capacity(bodies.len());
    for (at, (id, body)) in ids.chunks_exact(16).zip(bodies).enumerate() {
        let id = JobId::from_slice(id).ok_or_else(reply::odd)?;
        let body = reply::bytes(body)?;
        let kept = pack::read_job(id, &body);
        let (job, of) = kept.map_or_else(|_| (codec::read_job(id, &body), None), |kept| (kept.job, kept.run));
        let run = of.and_then(|run| records.get(&run)).cloned();
        claimed.push(Claimed { job, epoch: Epoch(epoch + at as u64), run });
    }
    Ok(Exchanged { now, commits, claimed, suspects, dirty, asked, freed, next_due })
}

/// Reads what became of a part's items.
pub fn read_enqueued(codes: &[u8]) -> Result<Vec<Enqueued>> {
    let mut reader = pack::Reader(codes);
    let mut items = Vec::new();
    while !reader.0.is_empty() {
        items.push(match reader.u8()? {
            b'c' => Enqueued::Created,
            b'e' => Enqueued::Exists,
            b'x' => Enqueued::Conflict(JobId::from_bytes(reader.id()?)),
            b'p' => Enqueued::NoParent(JobId::from_bytes(reader.id()?)),
            b'b' => Enqueued::Busy,
            _ => return Err(reply::odd()),
        });
    }
    Ok(items)
}

/// What follows the run in a member of the inboxes.
pub fn inbox_entry(bytes: &[u8]) -> Result<(u64, Vec<u8>)> {
    let mut reader = pack::Reader(bytes);
    Ok((reader.u64()?, reader.0.to_vec()))
}

/// Reads dirty runs with their inboxes.
pub fn read_dirty(answer: Value) -> Result<Vec<RunWork>> {
    let mut work = Vec::new();
    for taken in reply::array(answer)? {
        let mut parts = reply::array(taken)?.into_iter();
        let mut next = || parts.next().ok_or_else(reply::odd);
        let id = RunId::from_slice(&reply::bytes(next()?)?).ok_or_else(reply::odd)?;
        let record = pack::read_run(id, &reply::bytes(next()?)?)?;
        let mut inbox = Vec::new();
        for entry in reply::array(next()?)? {
            inbox.push(inbox_entry(&reply::bytes(entry)?)?);
        }
        work.push(RunWork { record, inbox });
    }
    Ok(work)
}
