//! Pages of places: queue after queue, each read by its index from where the page before ended. A
//! cursor is `queue form position`, the form being one letter for the structure it points into.

use redis::cmd;

use super::keys::Part;
use super::pack::Reader;
use super::read::flat;
use super::{RedisStore, reply};
use crate::domain::{JobId, Name, Place, limits};
use crate::store::codec;
use crate::store::contract::*;

/// A position in one structure of one queue.
#[derive(Clone, PartialEq)]
enum At {
    /// In a line's scores before (`a`) or behind (`b`) the line proper, or in a place that is a sorted
    /// set (`z`): behind this score and id.
    Scored(char, i64, JobId),
    /// In a list: this id was the last, and stood at this index.
    Listed(u64, JobId),
    /// Among the parked: behind this member.
    Parked(Vec<u8>),
    /// Among the running: behind this epoch.
    Epoch(u64),
}

struct Entry {
    id: JobId,
    at: At,
}

impl RedisStore {
    pub(super) async fn read_list(&self, query: &ListQuery) -> Result<Page<Stored>> {
        let budget = query.budget.clamp(1, limits::LIST_BUDGET);
        let after = query.after.as_ref().map(parse).transpose()?;
        let queues = self.read_queues().await?.into_iter().map(|(name, _)| name);
        let mut items = Vec::new();
        let mut looked = 0;
        let mut last = None;
        for queue in queues.filter(|queue| query.queue.as_ref().is_none_or(|only| only == queue)) {
            let from = match &after {
                Some((at, _)) if *at > queue => continue,
                Some((at, position)) if *at == queue => Some(position.clone()),
                _ => None,
            };
            // One more than is wanted tells whether there is another page.
            let mut entries = self.entries(&queue, query.place, from, budget - looked + 1).await?;
            let more = looked + entries.len() > budget;
            entries.truncate(budget - looked);
            looked += entries.len();
            let ids: Vec<JobId> = entries.iter().map(|entry| entry.id).collect();
            let here = |stored: &Stored| stored.place == query.place && stored.job.queue == queue;
            let mut found = self.read_jobs(&ids).await?;
            for stored in found.iter_mut().flatten().filter(|stored| codec::is_lost(&stored.job)) {
                (stored.job.queue, stored.place) = (queue.clone(), query.place);
            }
            items.extend(found.into_iter().flatten().filter(here));
            if let Some(entry) = entries.last() {
                last = Some(print(&queue, &entry.at));
            }
            if more {
                return Ok(Page { items, next: last });
            }
        }
        Ok(Page { items, next: None })
    }

    async fn entries(&self, queue: &Name, place: Place, from: Option<At>, n: usize) -> Result<Vec<Entry>> {
        match place {
            Place::Pending => self.line_entries(queue, from, n).await,
            Place::Suspect => self.list_entries(self.keys.part(queue, Part::Suspect), None, from, n).await,
            Place::Parked => self.parked_entries(queue, from, n).await,
            Place::Running => {
                let after = if let Some(At::Epoch(epoch)) = from { epoch } else { 0 };
                let leases = self.read_leases().await?.into_iter();
                let mine = leases.filter(|(_, kept)| kept.queue == *queue && kept.lease.epoch.0 > after);
                Ok(mine.take(n).map(|(id, kept)| Entry { id, at: At::Epoch(kept.lease.epoch.0) }).collect())
            }
            Place::Scheduled | Place::Retrying | Place::Held | Place::Blocked => {
                self.scored(queue, place, false, from, n).await
            }
            Place::Dead | Place::Completed | Place::Cancelled => self.scored(queue, place, true, from, n).await,
        }
    }

    async fn scored(
        &self,
        queue: &Name,
        place: Place,
        latest_first: bool,
        from: Option<At>,
        n: usize,
    ) -> Result<Vec<Entry>> {
        let Some(key) = self.keys.sorted(queue, place) else { return Ok(Vec::new()) };
        self.score_entries(&key, 'z', latest_first, ("-inf", "+inf"), from, n).await
    }

    /// A line as it is claimed: what is urgent, the line proper, what can wait.
    async fn line_entries(&self, queue: &Name, from: Option<At>, n: usize) -> Result<Vec<Entry>> {
        let prio = self.keys.part(queue, Part::Prio);
        let mut entries = Vec::new();
        let stage = match &from {
            None | Some(At::Scored('a', ..)) => 0,
            Some(At::Listed(..)) => 1,
            Some(_) => 2,
        };
        let mut from = from;
        if stage == 0 {
            entries = self.score_entries(&prio, 'a', false, ("-inf", "(0"), from.take(), n).await?;
        }
        if stage <= 1 && entries.len() < n {
            let (line, tombs) = (self.keys.part(queue, Part::Line), self.keys.part(queue, Part::Tombs));
            entries.extend(self.list_entries(line, Some(tombs), from.take(), n - entries.len()).await?);
        }
        if entries.len() < n {
            entries.extend(self.score_entries(&prio, 'b', false, ("(0", "+inf"), from, n - entries.len()).await?);
        }
        Ok(entries)
    }

    async fn score_entries(
        &self,
        key: &str,
        form: char,
        latest_first: bool,
        (least, most): (&str, &str),
        from: Option<At>,
        n: usize,
    ) -> Result<Vec<Entry>> {
        let after = if let Some(At::Scored(_, score, id)) = from { Some((score, id)) } else { None };
        let (mut low, mut high) = (least.to_owned(), most.to_owned());
        if let Some((score, _)) = after {
            if latest_first {
                high = score.to_string();
            } else {
                low = score.to_string();
            }
        }
        let mut entries = Vec::new();
        let mut offset = 0;
        loop {
            let mut range = if latest_first { cmd("ZREVRANGEBYSCORE") } else { cmd("ZRANGEBYSCORE") };
            range.arg(key);
            if latest_first {
                range.arg(&high).arg(&low);
            } else {
                range.arg(&low).arg(&high);
            }
            range.arg("WITHSCORES").arg("LIMIT").arg(offset).arg(n);
            let row = flat(self.link.command(&range).await?)?;
            let read = row.len() / 2;
            for pair in row.chunks_exact(2) {
                let [member, score] = pair else { continue };
                let score = reply::score(score)?.ok_or_else(reply::odd)?;
                let id = JobId::from_slice(&reply::bytes(member.clone())?).ok_or_else(reply::odd)?;
                // Those of the cursor's own score come again: only what is behind it counts.
                let behind =
                    after.is_none_or(|last| if latest_first { (score, id) < last } else { (score, id) > last });
                if behind && entries.len() < n {
                    entries.push(Entry { id, at: At::Scored(form, score, id) });
                }
            }
            offset += read;
            if entries.len() >= n || read < n {
                return Ok(entries);
            }
        }
    }

    /// A list from behind an id. The list may have become shorter at its head since.
    async fn list_entries(&self, key: String, tombs: Option<String>, from: Option<At>, n: usize) -> Result<Vec<Entry>> {
        let mut start = 0;
        if let Some(At::Listed(index, id)) = from {
            let mut find = cmd("LPOS");
            find.arg(&key).arg(id.as_bytes()).arg("MAXLEN").arg(index + 1);
            start = match self.link.command(&find).await? {
                redis::Value::Nil => 0,
                found => reply::int(&found)? as u64 + 1,
            };
        }
        let mut entries: Vec<Entry> = Vec::new();
        while entries.len() < n {
            let want = n - entries.len();
            let mut range = cmd("LRANGE");
            range.arg(&key).arg(start).arg(start + want as u64 - 1);
            let mut page = Vec::with_capacity(want);
            for (index, id) in reply::array(self.link.command(&range).await?)?.into_iter().enumerate() {
                let id = JobId::from_slice(&reply::bytes(id)?).ok_or_else(reply::odd)?;
                page.push((start + index as u64, id));
            }
            let read = page.len();
            if let Some(tombs) = &tombs {
                self.without_marked(&key, tombs, &mut page).await?;
            }
            entries.extend(page.into_iter().map(|(index, id)| Entry { id, at: At::Listed(index, id) }));
            start += read as u64;
            if read < want {
                break;
            }
        }
        Ok(entries)
    }

    /// Drops entries that are marked as gone: of a marked job, its first entry in the line.
    async fn without_marked(&self, line: &str, tombs: &str, page: &mut Vec<(u64, JobId)>) -> Result<()> {
        if page.is_empty() || reply::int(&self.link.command(cmd("SCARD").arg(tombs)).await?)? == 0 {
            return Ok(());
        }
        let mut marks = Vec::new();
        for part in page.chunks(1_000) {
            let mut ask = cmd("SMISMEMBER");
            ask.arg(tombs);
            for (_, id) in part {
                ask.arg(id.as_bytes());
            }
            for mark in reply::array(self.link.command(&ask).await?)? {
                marks.push(reply::int(&mark)? == 1);
            }
        }
        let mut gone = Vec::new();
        for ((index, id), marked) in page.iter().zip(marks) {
            if marked {
                let first = self.link.command(cmd("LPOS").arg(line).arg(id.as_bytes())).await?;
                if first != redis::Value::Nil && reply::int(&first)? as u64 == *index {
                    gone.push(*index);
                }
            }
        }
        page.retain(|(index, _)| !gone.contains(index));
        Ok(())
    }

    async fn parked_entries(&self, queue: &Name, from: Option<At>, n: usize) -> Result<Vec<Entry>> {
        let mut start = vec![b'-'];
        if let Some(At::Parked(member)) = from {
            start = [b"(", &member[..]].concat();
        }
        let mut range = cmd("ZRANGEBYLEX");
        range.arg(self.keys.part(queue, Part::Parked)).arg(start).arg("+").arg("LIMIT").arg(0).arg(n);
        let mut entries = Vec::new();
        for member in reply::array(self.link.command(&range).await?)? {
            let member = reply::bytes(member)?;
            let id = member.len().checked_sub(16).and_then(|at| JobId::from_slice(&member[at..]));
            entries.push(Entry { id: id.ok_or_else(reply::odd)?, at: At::Parked(member) });
        }
        Ok(entries)
    }
}

fn print(queue: &Name, at: &At) -> Cursor {
    Cursor(match at {
        At::Scored(form, score, id) => format!("{queue} {form} {score} {id}"),
        At::Listed(index, id) => format!("{queue} l {index} {id}"),
        At::Epoch(epoch) => format!("{queue} e {epoch}"),
        At::Parked(member) => {
            let hex: String = member.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{queue} k {hex}")
        }
    })
}

fn parse(cursor: &Cursor) -> Result<(Name, At)> {
    let text = &cursor.0;
    read_cursor(text).ok_or_else(|| StoreError::Refused(format!("`{text}` is not a cursor of this store")))
}

fn read_cursor(text: &str) -> Option<(Name, At)> {
    let mut parts = text.split(' ');
    let queue = parts.next()?.parse().ok()?;
    let form = parts.next()?;
    let position = parts.next()?;
    let at = match form {
        "a" | "b" | "z" => At::Scored(form.chars().next()?, position.parse().ok()?, parts.next()?.parse().ok()?),
        "l" => At::Listed(position.parse().ok()?, parts.next()?.parse().ok()?),
        "e" => At::Epoch(position.parse().ok()?),
        "k" => {
            let pairs = position.as_bytes().chunks(2);
            let byte = |pair| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok());
            At::Parked(pairs.map(byte).collect::<Option<_>>()?)
        }
        _ => return None,
    };
    Some((queue, at))
}

/// The newest end of one index of runs, or what is behind an id in it.
pub fn lex_before(after: Option<&[u8; 16]>) -> Vec<u8> {
    after.map_or_else(|| b"+".to_vec(), |id| [b"(", &id[..]].concat())
}

/// An event record's position in the stream.
pub fn stream_position(cursor: &Cursor) -> Result<String> {
    let text = &cursor.0;
    let numbers = text.split_once('-').is_some_and(|(ms, n)| ms.parse::<u64>().is_ok() && n.parse::<u64>().is_ok());
    if numbers { Ok(text.clone()) } else { Err(StoreError::Refused(format!("`{text}` is not a cursor of this store"))) }
}

/// When a stream's record was written: its position says.
pub fn stream_time(position: &str) -> Result<crate::domain::Ms> {
    position.split_once('-').and_then(|(ms, _)| ms.parse().ok()).map(crate::domain::Ms).ok_or_else(reply::odd)
}

/// The ids of a packed claim, with their worker and queue.
pub fn read_claims(bytes: &[u8]) -> Result<Vec<(JobId, Name, crate::domain::WorkerId)>> {
    let mut reader = Reader(bytes);
    let worker = crate::domain::WorkerId::from_bytes(reader.id()?);
    let mut claims = Vec::new();
    while !reader.0.is_empty() {
        let queue = reader.name()?;
        for _ in 0..reader.u16()? {
            claims.push((JobId::from_bytes(reader.id()?), queue.clone(), worker));
        }
    }
    Ok(claims)
}
