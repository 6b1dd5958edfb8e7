//! Runs and logs that come from another store or go to one: what the scripts are given, and the look. It
//! knows no shards.

use redis::{Cmd, Pipeline, Value, cmd};

use super::pack::{self, Defaults, Reader};
use super::{RedisStore, reply, write};
use crate::domain::{Epoch, Event, JobId, Json, Ms, Place, RunId, limits};
use crate::store::contract::*;

/// Members read at once.
const PAGE: usize = 1_000;

fn odd(run: RunId, what: &str) -> StoreError {
    StoreError::Corrupt(format!("{what} of run {run} cannot be read"))
}

fn count(items: usize) -> Result<[u8; 4]> {
    let many = |_| StoreError::Refused(format!("{items} things of one run are too many"));
    u32::try_from(items).map(u32::to_be_bytes).map_err(many)
}

/// Reads a key as [`pack::key`] writes it.
fn read_key(reader: &mut Reader<'_>) -> Result<String> {
    let length = usize::from(reader.u16()?);
    let key = reader.text(length)?;
    reader.take(1)?;
    Ok(key)
}

impl RedisStore {
    /// Everything in a sorted set that begins with a run's id, without that.
    async fn all_of(&self, key: &str, run: RunId) -> Result<Vec<Vec<u8>>> {
        let mut from = [b"[", &run.as_bytes()[..]].concat();
        let end = [b"(", &run.as_bytes()[..], b"\xff"].concat();
        let mut all = Vec::new();
        loop {
            let mut range = cmd("ZRANGEBYLEX");
            range.arg(key).arg(&from).arg(&end).arg("LIMIT").arg(0).arg(PAGE);
            let page = reply::array(self.link.command(&range).await?)?;
            let read = page.len();
            for member in page {
                let member = reply::bytes(member)?;
                from = [b"(", &member[..]].concat();
                all.push(member.get(16..).unwrap_or_default().to_vec());
            }
            if read < PAGE {
                return Ok(all);
            }
        }
    }

    async fn gate_place(&self, run: RunId) -> Result<Option<GatePlace>> {
        let first = [b"[r", &run.as_bytes()[..]].concat();
        let end = [b"(r", &run.as_bytes()[..], b"\xff"].concat();
        let mut range = cmd("ZRANGEBYLEX");
        range.arg(self.keys.gates()).arg(first).arg(end).arg("LIMIT").arg(0).arg(1);
        let Some(entry) = reply::array(self.link.command(&range).await?)?.into_iter().next() else { return Ok(None) };
        let entry = reply::bytes(entry)?;
        let mut reader = Reader(&entry);
        reader.take(17)?;
        let (limit, turn, length) = (reader.u32()?, reader.u64()?, usize::from(reader.u16()?));
        let key = reader.text(length)?;
        let go = reader.0.to_vec();
        let name = [&(length as u16).to_be_bytes()[..], key.as_bytes()].concat();
        let inside = [b"i", &name[..], run.as_bytes()].concat();
        let waits = [b"w", &name[..], &turn.to_be_bytes(), run.as_bytes()].concat();
        let stands = self.link.command(cmd("ZMSCORE").arg(self.keys.gates()).arg(inside).arg(waits)).await?;
        let stands = reply::array(stands)?;
        let [inside, waits] = [0, 1].map(|at: usize| stands.get(at).is_some_and(|score| *score != Value::Nil));
        let turn = i64::try_from(turn).unwrap_or(i64::MAX);
        Ok((inside || waits).then_some(GatePlace { key, limit, go, inside, turn }))
    }

    /// The inbox is looked at first: what is read afterwards either goes with it, or is not as it was seen.
    pub(super) async fn read_whole_run(&self, id: RunId) -> Result<Option<WholeRun>> {
        let mut inbox = Vec::new();
        for entry in self.all_of(self.keys.inbox(), id).await? {
            let mut reader = Reader(&entry);
            inbox.push((reader.u64()?, reader.0.to_vec()));
        }
        let Some(record) = self.read_run(id).await? else { return Ok(None) };
        let ended = self.link.command(cmd("ZSCORE").arg(self.keys.ended()).arg(id.as_bytes())).await?;
        let mut whole = WholeRun {
            record,
            finished: reply::score(&ended)?.map(Ms),
            gate: self.gate_place(id).await?,
            inbox,
            timers: self.timers_of(id).await?,
            values: Vec::new(),
            history: Vec::new(),
        };
        for value in self.all_of(self.keys.values(), id).await? {
            let mut reader = Reader(&value);
            let key = read_key(&mut reader)?;
            let text = std::str::from_utf8(reader.0).map_err(|_| odd(id, "a value"))?;
            whole.values.push((key, Json::parse(text, usize::MAX).map_err(|_| odd(id, "a value"))?));
        }
        for event in self.read_history(id, None, usize::MAX).await?.0 {
            whole.tell(event.at, Event { at: Ms(0), ..event });
        }
        Ok(Some(whole))
    }

    async fn timers_of(&self, run: RunId) -> Result<Vec<(String, Ms, Vec<u8>)>> {
        let facts = self.all_of(self.keys.facts(), run).await?;
        let mut timers = Vec::with_capacity(facts.len());
        let mut look = Pipeline::new();
        for fact in &facts {
            let mut reader = Reader(fact);
            let key = read_key(&mut reader)?;
            let name = [&run.as_bytes()[..], &pack::key(&key)].concat();
            look.cmd("ZSCORE").arg(self.keys.timers()).arg(name);
            timers.push((key, reader.0.to_vec()));
        }
        let mut found = Vec::new();
        for ((key, fact), due) in timers.into_iter().zip(self.link.pipeline(&look).await?) {
            // One that has fired in between is in the inbox.
            found.extend(reply::score(&due)?.map(|due| (key, Ms(due), fact)));
        }
        Ok(found)
    }

    /// A call with the keys of the shard and those of documents.
    fn call_beside_documents(&self, script: &super::connection::Script) -> Cmd {
        let mut call = script.call(self.keys.all().len() + 3);
        for key in self.keys.all() {
            call.arg(key);
        }
        call.arg(self.keys.documents()).arg(self.keys.document_names()).arg(self.keys.document_ends());
        call
    }

    pub(super) async fn carry_away(&self, take: &TakeRuns) -> Result<bool> {
        take.mark().check()?;
        let mut runs = Vec::with_capacity(take.runs.len() * 32);
        for seen in &take.runs {
            runs.extend_from_slice(seen.id.as_bytes());
            runs.extend_from_slice(&seen.rev.to_be_bytes());
            runs.extend_from_slice(&seen.last.to_be_bytes());
        }
        let mut call = self.call_beside_documents(&write::TAKE_RUNS);
        call.arg(&take.mark).arg(&take.from_rev.to_be_bytes()[..]).arg(&take.body[..]).arg(runs);
        Ok(reply::int(&self.link.script(&write::TAKE_RUNS, &call).await?)? == 1)
    }

    pub(super) async fn carry_here(&self, put: &PutRuns) -> Result<bool> {
        let ids: Vec<u8> = put.runs.iter().flat_map(|whole| *whole.record.id.as_bytes()).collect();
        let mut call = self.call_beside_documents(&write::PUT_RUNS);
        call.arg(&put.copy).arg(&put.rev.to_be_bytes()[..]).arg(Epoch::AHEAD_MS).arg(ids);
        for whole in &put.runs {
            add_run(&mut call, whole)?;
        }
        Ok(reply::int(&self.link.script(&write::PUT_RUNS, &call).await?)? == 1)
    }

    pub(super) async fn replace_log(&self, id: JobId, rev: u32, log: &JobLog) -> Result<bool> {
        let Some(stored) = self.read_jobs(&[id]).await?.pop().flatten() else { return Ok(false) };
        if stored.place != Place::Scheduled {
            return Ok(false);
        }
        let mut call = write::call(&write::KEEP_LOG, &self.keys, &[&stored.job.queue]);
        call.arg(id.as_bytes()).arg(rev);
        let mut sum = 0u64;
        for chunk in &log.bounded(limits::LOG_BYTES_REDIS).chunks {
            sum += chunk.text.len() as u64;
            let numbers = [chunk.seq, chunk.at.0 as u64, chunk.epoch.0, sum].map(u64::to_be_bytes);
            call.arg([&id.as_bytes()[..], numbers.as_flattened(), chunk.text.as_bytes()].concat());
        }
        Ok(reply::int(&self.link.script(&write::KEEP_LOG, &call).await?)? == 1)
    }
}

/// A run as arguments.
fn add_run(call: &mut Cmd, whole: &WholeRun) -> Result<()> {
    call.arg(pack::run(&whole.record));
    call.arg(whole.finished.map(|at| at.0.to_string()).unwrap_or_default());
    let mut gate = Vec::new();
    if let Some(GatePlace { key, limit, go, inside, turn: _ }) = &whole.gate {
        gate.extend_from_slice(&limit.min(&(i32::MAX as u32)).to_be_bytes());
        gate.push(u8::from(*inside));
        gate.extend_from_slice(&pack::long_key(key)?);
        gate.extend_from_slice(go);
    }
    call.arg(gate);
    let events: usize = whole.history.iter().map(|(_, events)| events.len()).sum();
    let counts = [count(whole.inbox.len())?, count(whole.timers.len())?, count(whole.values.len())?, count(events)?];
    call.arg(counts.as_flattened());
    for (_, fact) in &whole.inbox {
        call.arg(&fact[..]);
    }
    for (key, due, fact) in &whole.timers {
        call.arg(pack::key(key)).arg(due.0).arg(&fact[..]);
    }
    for (key, value) in &whole.values {
        call.arg([&pack::key(key)[..], value.as_str().as_bytes()].concat());
    }
    for (at, events) in &whole.history {
        for event in events {
            call.arg([&at.0.to_be_bytes()[..], &pack::event(event, &Defaults::default())].concat());
        }
    }
    Ok(())
}
