//! Looking at runs, definitions and the event log.

use std::collections::{BTreeMap, BTreeSet};

use redis::{Pipeline, Value, cmd};

use super::list::{lex_before, read_claims, stream_position, stream_time};
use super::pack::{self, Defaults, Reader};
use super::{RedisStore, answers, reply};
use crate::domain::{Event, EventKind, JobId, Json, Ms, Name, RunId, limits};
use crate::store::codec;
use crate::store::contract::*;

/// Event records read at once, first and at most: one may tell of 64 jobs.
const FIRST_RECORDS: usize = 16;
const RECORDS: usize = 200;
/// Entries of a run's history read at once.
const HISTORY: usize = 1_000;

/// A definition as it is kept.
#[derive(serde::Serialize, serde::Deserialize)]
struct KeptDefinition {
    #[serde(rename = "k")]
    kind: String,
    #[serde(rename = "n")]
    name: Name,
    #[serde(rename = "t")]
    text: String,
}

impl RedisStore {
    pub(super) async fn read_run(&self, id: RunId) -> Result<Option<RunRecord>> {
        let answer = self.link.command(cmd("HGET").arg(self.keys.runs()).arg(id.as_bytes())).await?;
        reply::maybe_bytes(answer)?.map(|bytes| pack::read_run(id, &bytes)).transpose()
    }

    /// The record is read first: an inbox that is newer than it does no harm.
    pub(super) async fn read_run_work(&self, id: RunId) -> Result<Option<RunWork>> {
        let Some(record) = self.read_run(id).await? else { return Ok(None) };
        let run = &id.as_bytes()[..];
        let mut range = cmd("ZRANGEBYLEX");
        range.arg(self.keys.inbox()).arg([b"[", run].concat()).arg([b"(", run, b"\xff"].concat());
        range.arg("LIMIT").arg(0).arg(limits::DRAIN_BATCH);
        let inbox = reply::array(self.link.command(&range).await?)?.into_iter().map(|member| {
            let member = reply::bytes(member)?;
            answers::inbox_entry(member.get(run.len()..).unwrap_or_default())
        });
        Ok(Some(RunWork { record, inbox: inbox.collect::<Result<_>>()? }))
    }

    pub(super) async fn read_runs(&self, query: &RunQuery) -> Result<Page<RunRecord>> {
        let budget = query.budget.clamp(1, limits::LIST_BUDGET);
        let bad = |text: &str| StoreError::Refused(format!("`{text}` is not a cursor of this store"));
        let after = match &query.after {
            None => None,
            Some(Cursor(text)) => Some(text.parse::<RunId>().map_err(|_| bad(text))?),
        };
        let key = if query.finished { self.keys.finished() } else { self.keys.live() };
        let mut range = cmd("ZREVRANGEBYLEX");
        range.arg(key).arg(lex_before(after.as_ref().map(RunId::as_bytes))).arg("-");
        range.arg("LIMIT").arg(0).arg(budget + 1);
        let mut ids = Vec::new();
        for id in reply::array(self.link.command(&range).await?)? {
            ids.push(RunId::from_slice(&reply::bytes(id)?).ok_or_else(reply::odd)?);
        }
        let more = ids.len() > budget;
        ids.truncate(budget);
        let mut items = Vec::with_capacity(ids.len());
        for part in ids.chunks(super::read::PART) {
            let mut get = cmd("HMGET");
            get.arg(self.keys.runs());
            for id in part {
                get.arg(id.as_bytes());
            }
            for (id, record) in part.iter().zip(reply::array(self.link.command(&get).await?)?) {
                if let Some(bytes) = reply::maybe_bytes(record)? {
                    items.push(pack::read_run(*id, &bytes)?);
                }
            }
        }
        let next = ids.last().filter(|_| more).map(|id| Cursor(id.to_string()));
        Ok(Page { items, next })
    }

    pub(super) async fn read_values(&self, run: RunId, keys: &[String]) -> Result<Vec<Option<Json>>> {
        let mut values = Vec::with_capacity(keys.len());
        for part in keys.chunks(super::read::PART) {
            let mut look = Pipeline::new();
            for key in part {
                let name = [&run.as_bytes()[..], &pack::key(key)].concat();
                look.cmd("ZRANGEBYLEX").arg(self.keys.values());
                look.arg([b"[", &name[..]].concat()).arg(behind(&name)).arg("LIMIT").arg(0).arg(1);
            }
            for (key, found) in part.iter().zip(self.link.pipeline(&look).await?) {
                let value = match reply::array(found)?.into_iter().next() {
                    None => None,
                    Some(member) => {
                        let member = reply::bytes(member)?;
                        let text = member.get(16 + pack::key(key).len()..).unwrap_or_default();
                        let text = std::str::from_utf8(text).map_err(|_| reply::odd())?;
                        let broken = |_| StoreError::Corrupt(format!("value `{key}` of run {run} is not JSON"));
                        Some(Json::parse(text, usize::MAX).map_err(broken)?)
                    }
                };
                values.push(value);
            }
        }
        Ok(values)
    }

    /// A member is the run, a number that counts up, the time, and the event.
    pub(super) async fn read_history(
        &self,
        run: RunId,
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<(Vec<Event>, Cursor)> {
        let mut events = Vec::new();
        let mut next = after.map(Cursor::number).transpose()?.map_or(0, |last| last.saturating_add(1).max(0));
        let end = [b"(", &run.as_bytes()[..], b"\xff"].concat();
        loop {
            let from = [b"[", &run.as_bytes()[..], &next.to_be_bytes()].concat();
            let most = (limit - events.len()).min(HISTORY);
            let mut range = cmd("ZRANGEBYLEX");
            range.arg(self.keys.history()).arg(&from).arg(&end).arg("LIMIT").arg(0).arg(most);
            let page = reply::array(self.link.command(&range).await?)?;
            let read = page.len();
            for member in page {
                let member = reply::bytes(member)?;
                let mut reader = Reader(&member);
                reader.take(16)?;
                next = i64::from_be_bytes(reader.array()?).saturating_add(1);
                let at = reader.ms()?;
                events.push(pack::read_event(&mut reader, &Defaults::default(), at)?);
            }
            if read < most || events.len() >= limit {
                return Ok((events, Cursor((next - 1).to_string())));
            }
        }
    }

    pub(super) fn definition_args(definition: &Definition) -> Result<[Vec<u8>; 3]> {
        let Definition { kind, name, hash, text } = definition;
        let record = codec::encode(&KeptDefinition { kind: kind.clone(), name: name.clone(), text: text.clone() })?;
        Ok([hash.clone().into_bytes(), record, format!("{kind}\0{name}").into_bytes()])
    }

    pub(super) async fn read_definition(&self, hash: &str) -> Result<Option<Definition>> {
        let answer = self.link.command(cmd("HGET").arg(self.keys.definitions()).arg(hash)).await?;
        reply::maybe_bytes(answer)?.map(|bytes| definition(hash, &bytes)).transpose()
    }

    pub(super) async fn read_definitions(&self, kind: &str) -> Result<Vec<Definition>> {
        let current = self.link.command(cmd("HGETALL").arg(self.keys.current())).await?;
        let mut hashes = BTreeMap::new();
        for (key, hash) in reply::pairs(current)? {
            let key = String::from_utf8_lossy(&key).into_owned();
            if let Some((its_kind, name)) = key.split_once('\0')
                && its_kind == kind
            {
                hashes.insert(name.to_owned(), String::from_utf8_lossy(&hash).into_owned());
            }
        }
        let mut look = Pipeline::new();
        for hash in hashes.values() {
            look.cmd("HGET").arg(self.keys.definitions()).arg(hash);
        }
        let mut definitions = Vec::new();
        for (hash, found) in hashes.values().zip(self.link.pipeline(&look).await?) {
            if let Some(bytes) = reply::maybe_bytes(found)? {
                definitions.push(definition(hash, &bytes)?);
            }
        }
        Ok(definitions)
    }

    /// By the event log, backwards. Jobs are told of in the order of their birth, but for what was on its way
    /// at the same time: so it is read a little further than where there are enough.
    pub(super) async fn read_newest(&self, before: Option<JobId>, limit: usize) -> Result<Newest> {
        let (mut told, mut end, mut last, mut ended) = (BTreeSet::new(), "+".to_owned(), false, false);
        let is_meant = |id: &&JobId| before.is_none_or(|before| **id < before);
        loop {
            let mut range = cmd("XREVRANGE");
            range.arg(self.keys.events()).arg(&end).arg("-").arg("COUNT").arg(RECORDS);
            let page = reply::array(self.link.command(&range).await?)?;
            if page.is_empty() {
                ended = true;
                break;
            }
            for record in page {
                let mut parts = reply::array(record)?.into_iter();
                let (Some(id), Some(fields)) = (parts.next(), parts.next()) else { return Err(reply::odd()) };
                let id = reply::text(id)?;
                let born = unpack(&id, fields)?.into_iter();
                told.extend(born.filter(is_birth).filter_map(|event| event.job));
                end = format!("({id}");
            }
            if last {
                break;
            }
            last = told.iter().filter(is_meant).take(limit).count() >= limit;
        }
        let mut meant = told.iter().rev().filter(is_meant).copied();
        let ids: Vec<JobId> = meant.by_ref().take(limit).collect();
        let whole = ended && meant.next().is_none() && self.are_all_kept_among(&told).await?;
        Ok(Newest { ids, whole })
    }

    /// Whether the log tells of every job that is kept: it is bounded, and may have been cut.
    async fn are_all_kept_among(&self, told: &BTreeSet<JobId>) -> Result<bool> {
        let kept = reply::int(&self.link.command(cmd("HLEN").arg(self.keys.jobs())).await?)?;
        // At first, so that what is added or deleted meanwhile makes them fewer.
        let mut found = 0;
        if i64::try_from(told.len()).is_ok_and(|told| told < kept) {
            return Ok(false);
        }
        for part in told.iter().collect::<Vec<_>>().chunks(RECORDS * 5) {
            let mut look = Pipeline::new();
            for id in part {
                look.cmd("HEXISTS").arg(self.keys.jobs()).arg(&id.as_bytes()[..]);
            }
            for one in self.link.pipeline(&look).await? {
                found += reply::int(&one)?;
            }
        }
        Ok(found == kept)
    }

    pub(super) async fn tail_of_events(&self, records: usize) -> Result<Option<Cursor>> {
        let (mut end, mut left) = ("+".to_owned(), records);
        loop {
            let mut range = cmd("XREVRANGE");
            range.arg(self.keys.events()).arg(&end).arg("-").arg("COUNT").arg(RECORDS.min(left.saturating_add(1)));
            let page = reply::array(self.link.command(&range).await?)?;
            let (read, last) = (page.len(), page.into_iter().next_back());
            let Some(last) = last else { return Ok(None) };
            let position = reply::text(reply::array(last)?.into_iter().next().ok_or_else(reply::odd)?)?;
            if read > left {
                return Ok(Some(Cursor(position)));
            }
            left -= read;
            end = format!("({position}");
        }
    }

    /// The last record that was written before `at`: a stream's positions are times.
    pub(super) async fn events_since(&self, at: Ms) -> Result<Cursor> {
        if at.0 <= 0 {
            return Ok(Cursor("0-0".to_owned()));
        }
        let mut last = cmd("XREVRANGE");
        last.arg(self.keys.events()).arg(format!("({}-0", at.0)).arg("-").arg("COUNT").arg(1);
        let page = reply::array(self.link.command(&last).await?)?;
        let Some(record) = page.into_iter().next() else { return Ok(Cursor("0-0".to_owned())) };
        let id = reply::array(record)?.into_iter().next().ok_or_else(reply::odd)?;
        Ok(Cursor(reply::text(id)?))
    }

    pub(super) async fn read_events(&self, after: Option<&Cursor>, limit: usize) -> Result<(Vec<Event>, Cursor)> {
        let mut position = after.map_or(Ok("0-0".to_owned()), stream_position)?;
        let mut events: Vec<Event> = Vec::new();
        let mut most = FIRST_RECORDS;
        loop {
            let mut range = cmd("XRANGE");
            range.arg(self.keys.events()).arg(format!("({position}")).arg("+").arg("COUNT").arg(most);
            let page = reply::array(self.link.command(&range).await?)?;
            let is_end = page.len() < most;
            for record in page {
                let mut parts = reply::array(record)?.into_iter();
                let (Some(id), Some(fields)) = (parts.next(), parts.next()) else { return Err(reply::odd()) };
                let id = reply::text(id)?;
                let record = unpack(&id, fields)?;
                if !events.is_empty() && events.len() + record.len() > limit {
                    return Ok((events, Cursor(position)));
                }
                events.extend(record);
                position = id;
            }
            if is_end || events.len() >= limit {
                return Ok((events, Cursor(position)));
            }
            most = (most * 4).min(RECORDS);
        }
    }
}

/// A job that has been tried, or waits for one parent less, is told of as scheduled once more, by a move:
/// moves say which attempt it is.
fn is_birth(event: &Event) -> bool {
    matches!(event.kind, EventKind::JobCreated | EventKind::JobScheduled) && event.attempt.is_none()
}

fn definition(hash: &str, bytes: &[u8]) -> Result<Definition> {
    let KeptDefinition { kind, name, text } = codec::decode(bytes)?;
    Ok(Definition { kind, name, hash: hash.to_owned(), text })
}

/// The end of what begins with this name, whose last byte is the zero behind the key.
fn behind(name: &[u8]) -> Vec<u8> {
    let mut end = [b"(", name].concat();
    if let Some(last) = end.last_mut() {
        *last = 1;
    }
    end
}

fn unpack(id: &str, fields: Value) -> Result<Vec<Event>> {
    let at = stream_time(id)?;
    let mut events = Vec::new();
    for (field, bytes) in reply::pairs(fields)? {
        if field == b"e" {
            let mut reader = Reader(&bytes);
            let defaults = Defaults::read(&mut reader)?;
            while !reader.0.is_empty() {
                events.push(pack::read_event(&mut reader, &defaults, at)?);
            }
        } else {
            for (job, queue, worker) in read_claims(&bytes)? {
                let started = Event { at, job: Some(job), queue: Some(queue), ..Event::new(EventKind::JobStarted) };
                events.push(Event { worker: Some(worker), ..started });
            }
        }
    }
    Ok(events)
}
