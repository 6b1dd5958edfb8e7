//! Looking at jobs, queues and workers: plain commands, pipelined, outside of scripts. A job that
//! moves while it is looked at is shown where one of the looks found it.

use std::collections::{BTreeMap, HashMap};

use redis::{Pipeline, Value, cmd};

use super::keys::Part;
use super::pack::{self, KeptJob};
use super::{RedisStore, reply};
use crate::domain::time::millis;
use crate::domain::{JobId, Ms, Name, Place, QueueSettings, QueueStats, WorkerId};
use crate::store::codec;
use crate::store::contract::*;

/// Ids a command names at most.
pub const PART: usize = 1_000;

/// Places that are sorted sets, in the order in which they are counted.
const SORTED: [Place; 7] =
    [Place::Scheduled, Place::Retrying, Place::Dead, Place::Completed, Place::Cancelled, Place::Held, Place::Blocked];

impl RedisStore {
    pub(super) async fn read_jobs(&self, ids: &[JobId]) -> Result<Vec<Option<Stored>>> {
        let mut stored = Vec::with_capacity(ids.len());
        for part in ids.chunks(PART) {
            stored.extend(self.read_part(part).await?);
        }
        Ok(stored)
    }

    async fn read_part(&self, ids: &[JobId]) -> Result<Vec<Option<Stored>>> {
        let raw: Vec<&[u8]> = ids.iter().map(|id| &id.as_bytes()[..]).collect();
        let mut look = Pipeline::new();
        look.cmd("HMGET").arg(self.keys.jobs()).arg(&raw);
        look.cmd("HMGET").arg(self.keys.running()).arg(&raw);
        look.cmd("ZMSCORE").arg(self.keys.asked()).arg(&raw);
        look.cmd("HMGET").arg(self.keys.progress()).arg(&raw);
        let mut answers = self.link.pipeline(&look).await?.into_iter().map(reply::array);
        let mut next = || answers.next().ok_or_else(reply::odd)?;
        let (bodies, leases, asks, notes) = (next()?, next()?, next()?, next()?);
        let mut found: Vec<Option<Stored>> = Vec::with_capacity(ids.len());
        // Records tell the place of the last move; what was due since then has left that place.
        let mut scores = Pipeline::new();
        let mut unsure = Vec::new();
        let told = leases.into_iter().zip(asks).zip(notes);
        for ((id, body), ((lease, ask), note)) in ids.iter().zip(bodies).zip(told) {
            let Some(body) = reply::maybe_bytes(body)? else {
                found.push(None);
                continue;
            };
            let kept = pack::read_job(*id, &body)?;
            let line = kept.line();
            let KeptJob { job, place, parked, .. } = kept;
            let mut stored = Stored { asked: ask != Value::Nil, ..Stored::idle(job, place, Ms(0)) };
            if let Some(lease) = reply::maybe_bytes(lease)? {
                let kept = pack::read_lease(&lease)?;
                if codec::is_lost(&stored.job) {
                    stored.job.queue = kept.queue;
                }
                let lease = kept.lease;
                stored.progress = pack::read_progress(reply::maybe_bytes(note)?.as_deref(), lease.epoch)?;
                stored = Stored { place: Place::Running, at: lease.since, lease: Some(lease), ..stored };
            } else {
                let queue = &stored.job.queue;
                let looks = scores.len();
                if let Some(position) = parked {
                    stored.at = parked_at(position);
                    let member = parked_member(&stored.job.kind, position, *id);
                    scores.cmd("ZSCORE").arg(self.keys.part(queue, Part::Parked)).arg(member);
                } else if let Some(key) = self.keys.sorted(queue, place) {
                    scores.cmd("ZSCORE").arg(key).arg(id.as_bytes());
                }
                let settled = scores.len() > looks;
                let may_block = stored.job.concurrency.is_some() && !place.state().is_terminal();
                if let Some(key) = self.keys.sorted(queue, Place::Blocked).filter(|_| may_block) {
                    scores.cmd("ZSCORE").arg(key).arg(id.as_bytes());
                }
                unsure.push((found.len(), line, settled, may_block));
            }
            found.push(Some(stored));
        }
        let mut scores = self.link.pipeline(&scores).await?.into_iter();
        let mut next = || reply::score(&scores.next().ok_or_else(reply::odd)?);
        for (index, line, settled, may_block) in unsure {
            let Some(stored) = &mut found[index] else { continue };
            if settled {
                match next()? {
                    None => (stored.place, stored.at) = (line, Ms(0)),
                    Some(at) if stored.place != Place::Parked => stored.at = Ms(at),
                    Some(_) => {}
                }
            }
            if may_block && let Some(at) = next()? {
                (stored.place, stored.at) = (Place::Blocked, Ms(at));
            }
        }
        Ok(found)
    }

    pub(super) async fn read_queues(&self) -> Result<Vec<(Name, QueueSettings)>> {
        let answer = self.link.command(cmd("HGETALL").arg(self.keys.queues())).await?;
        let mut queues = BTreeMap::new();
        for (name, settings) in reply::pairs(answer)? {
            let name = String::from_utf8_lossy(&name);
            let name = name.parse().map_err(|_| StoreError::Corrupt(format!("`{name}` is kept as a queue")))?;
            queues.insert(name, pack::read_settings(&settings)?);
        }
        Ok(queues.into_iter().collect())
    }

    /// Every lease with its queue.
    pub(super) async fn read_leases(&self) -> Result<Vec<(JobId, pack::KeptLease)>> {
        let answer = self.link.command(cmd("HGETALL").arg(self.keys.running())).await?;
        let mut leases = Vec::new();
        for (id, lease) in reply::pairs(answer)? {
            leases.push((JobId::from_slice(&id).ok_or_else(reply::odd)?, pack::read_lease(&lease)?));
        }
        leases.sort_by_key(|(_, kept)| kept.lease.epoch);
        Ok(leases)
    }

    pub(super) async fn read_stats(&self) -> Result<Vec<QueueStats>> {
        let queues = self.read_queues().await?;
        let mut running: HashMap<Name, u64> = HashMap::new();
        for (_, kept) in self.read_leases().await? {
            *running.entry(kept.queue).or_default() += 1;
        }
        let mut look = Pipeline::new();
        look.cmd("TIME");
        for (name, _) in &queues {
            for (command, part) in [
                ("LLEN", Part::Line),
                ("SCARD", Part::Tombs),
                ("ZCARD", Part::Prio),
                ("LLEN", Part::Suspect),
                ("ZCARD", Part::Parked),
            ] {
                look.cmd(command).arg(self.keys.part(name, part));
            }
            for place in SORTED {
                look.cmd("ZCARD").arg(self.keys.sorted(name, place));
            }
            look.cmd("LINDEX").arg(self.keys.part(name, Part::Line)).arg(0);
            look.cmd("ZRANGE").arg(self.keys.part(name, Part::Prio)).arg(0).arg(0).arg("WITHSCORES");
        }
        let mut answers = self.link.pipeline(&look).await?.into_iter();
        let mut next = || answers.next().ok_or_else(reply::odd);
        let clock = reply::array(next()?)?;
        let now = Ms(clock.first().map_or(Ok(0), reply::int)? * 1_000);
        let mut stats = Vec::with_capacity(queues.len());
        for (name, settings) in queues {
            let mut counts = [0u64; 12];
            for count in &mut counts {
                *count = reply::int(&next()?)?.max(0) as u64;
            }
            let [line, tombs, prio, suspect, parked, scheduled, retrying, dead, completed, cancelled, held, blocked] =
                counts;
            let head = reply::maybe_bytes(next()?)?;
            let first = flat(next()?)?;
            let urgent = first.get(1).map(reply::score).transpose()?.flatten().is_some_and(|score| score < 0);
            let first = match first.into_iter().next() {
                Some(member) if urgent || head.is_none() => Some(reply::bytes(member)?),
                _ => head,
            };
            let oldest = first.and_then(|id| JobId::from_slice(&id)).map(|id| millis(now.since(id.created_at())));
            stats.push(QueueStats {
                paused: settings.paused,
                scheduled: scheduled + held,
                pending: line.saturating_sub(tombs) + prio + suspect + parked + blocked,
                running: running.get(&name).copied().unwrap_or(0),
                retrying,
                dead,
                completed,
                cancelled,
                parked,
                oldest_pending_ms: oldest,
                ..QueueStats::empty(name)
            });
        }
        Ok(stats)
    }

    pub(super) async fn read_workers(&self) -> Result<Vec<WorkerStatus>> {
        let mut running: HashMap<WorkerId, u64> = HashMap::new();
        for (_, kept) in self.read_leases().await? {
            *running.entry(kept.lease.worker).or_default() += 1;
        }
        let told = self.link.command(cmd("SMEMBERS").arg(self.keys.draining())).await?;
        let told: Vec<Vec<u8>> = reply::array(told)?.into_iter().map(reply::bytes).collect::<Result<_>>()?;
        let answer = self.link.command(cmd("HGETALL").arg(self.keys.workers())).await?;
        let mut workers = Vec::new();
        for (_, bytes) in reply::pairs(answer)? {
            let mut reader = pack::Reader(&bytes);
            let expires_at = reader.ms()?;
            let info: WorkerInfo = codec::decode(reader.0)?;
            let info_id = *info.id.as_bytes();
            workers.push(WorkerStatus {
                running: running.get(&info.id).copied().unwrap_or(0),
                info,
                expires_at,
                draining: told.iter().any(|id| id[..] == info_id[..]),
            });
        }
        workers.sort_by_key(|worker| worker.info.id);
        Ok(workers)
    }

    /// Ids among a hash's fields whose text contains `part`.
    pub(super) async fn scan_ids(&self, key: &str, part: &str, limit: usize) -> Result<Vec<[u8; 16]>> {
        let mut found = std::collections::BTreeSet::new();
        let hex = |byte: u8| char::from_digit(u32::from(byte), 16);
        let part = part.to_owned();
        if part.is_empty() || !part.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)) {
            return Ok(Vec::new());
        }
        // The server itself passes over most fields: it is told the whole bytes that the digits make
        // up, once for digits that begin with a byte, once for those that begin in the middle of one.
        let mut patterns = [whole_bytes(&part), whole_bytes(&part[1..])];
        if patterns.iter().any(Vec::is_empty) {
            patterns = [b"*".to_vec(), Vec::new()];
        }
        for pattern in patterns.iter().filter(|pattern| !pattern.is_empty()) {
            let mut cursor = "0".to_owned();
            loop {
                let mut scan = cmd("HSCAN");
                scan.arg(key).arg(&cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(PART);
                let mut answer = reply::array(self.link.command(&scan).await?)?.into_iter();
                let (Some(next), Some(page)) = (answer.next(), answer.next()) else { return Err(reply::odd()) };
                for (id, _) in reply::pairs(page)? {
                    let Ok(id) = <[u8; 16]>::try_from(&id[..]) else { continue };
                    let text: String = id.iter().flat_map(|byte| [byte >> 4, byte & 15]).filter_map(hex).collect();
                    if text.contains(&part) {
                        found.insert(id);
                    }
                }
                cursor = reply::text(next)?;
                if cursor == "0" || found.len() >= limit {
                    break;
                }
            }
        }
        Ok(found.into_iter().take(limit).collect())
    }
}

/// A glob for ids that hold the bytes of these digits, the odd last one left out; empty if that is none.
fn whole_bytes(digits: &str) -> Vec<u8> {
    let mut pattern = Vec::new();
    for pair in digits.as_bytes().chunks_exact(2) {
        let byte = std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok()).unwrap_or(0);
        if b"*?[]\\^-".contains(&byte) {
            pattern.push(b'\\');
        }
        pattern.push(byte);
    }
    if !pattern.is_empty() {
        pattern.insert(0, b'*');
        pattern.push(b'*');
    }
    pattern
}

pub fn parked_at(position: u64) -> Ms {
    Ms((position / 1024) as i64)
}

pub fn parked_member(kind: &Name, position: u64, id: JobId) -> Vec<u8> {
    let mut member = kind.as_str().as_bytes().to_vec();
    member.push(0);
    member.extend_from_slice(&position.to_be_bytes());
    member.extend_from_slice(id.as_bytes());
    member
}

pub fn two(answers: Vec<Value>) -> Result<[Value; 2]> {
    <[Value; 2]>::try_from(answers).map_err(|_| reply::odd())
}

/// Members and scores in one row, also where the server pairs them.
pub fn flat(value: Value) -> Result<Vec<Value>> {
    let mut row = Vec::new();
    for item in reply::array(value)? {
        match item {
            Value::Array(pair) => row.extend(pair),
            other => row.push(other),
        }
    }
    Ok(row)
}
