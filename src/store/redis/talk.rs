//! What is said to and by running jobs, the end of parents, permits, facts for runs, and schedules. The
//! scripts judge; here is what they are given and what their answers mean.

use std::time::Duration;

use redis::{Value, cmd};

use super::pack::{self, Reader};
use super::{RedisStore, answers, reply, write};
use crate::domain::{Epoch, EventKind, JobId, Ms, Name, Place, RunId, WorkerId, limits};
use crate::store::codec;
use crate::store::contract::*;

/// Items of one script: short enough to let others in between.
const CHUNK: usize = 200;

fn yes(answers: Value) -> Result<Vec<bool>> {
    reply::array(answers)?.iter().map(|answer| Ok(reply::int(answer)? == 1)).collect()
}

impl RedisStore {
    pub(super) async fn ask_to_end(&self, ids: &[JobId]) -> Result<Vec<bool>> {
        let mut asked = Vec::with_capacity(ids.len());
        for part in ids.chunks(CHUNK) {
            let mut call = write::call(&write::ASK, &self.keys, &[]);
            for id in part {
                call.arg(id.as_bytes());
            }
            asked.extend(yes(self.link.script(&write::ASK, &call).await?)?);
        }
        Ok(asked)
    }

    pub(super) async fn read_asked(&self, worker: WorkerId, limit: usize) -> Result<Vec<Stored>> {
        let mut call = write::call(&write::ASKED, &self.keys, &[]);
        call.arg(worker.as_bytes()).arg(limit);
        let ids = reply::array(self.link.script(&write::ASKED, &call).await?)?;
        let ids = ids.into_iter().map(job_id).collect::<Result<Vec<_>>>()?;
        // What has ended since is asked for nothing any more.
        Ok(self.read_jobs(&ids).await?.into_iter().flatten().filter(|stored| stored.asked).collect())
    }

    pub(super) async fn keep_notes(&self, notes: &[Note]) -> Result<Vec<bool>> {
        let mut kept = Vec::with_capacity(notes.len());
        for part in notes.chunks(CHUNK) {
            let mut call = write::call(&write::NOTE, &self.keys, &[]);
            call.arg(limits::EVENT_RECORDS).arg(limits::LOG_BYTES_REDIS);
            for note in part {
                call.arg(note.id.as_bytes()).arg(&note.epoch.0.to_be_bytes()[..]);
                call.arg(note.progress.as_ref().map(codec::encode).transpose()?.unwrap_or_default());
                let told = note.progress.as_ref().map(ToString::to_string).unwrap_or_default();
                let (before, behind) = pack::event_around(EventKind::JobProgress, &told);
                call.arg(&note.log).arg(&before[..]).arg(behind);
            }
            kept.extend(yes(self.link.script(&write::NOTE, &call).await?)?);
        }
        Ok(kept)
    }

    pub(super) async fn read_log(&self, id: JobId, after: u64) -> Result<JobLog> {
        let end = [b"(", &id.as_bytes()[..], b"\xff"].concat();
        let from = |seq: u64| [b"[", &id.as_bytes()[..], &seq.to_be_bytes()].concat();
        let mut look = redis::Pipeline::new();
        look.cmd("ZRANGEBYLEX").arg(self.keys.logs()).arg(from(0)).arg(&end).arg("LIMIT").arg(0).arg(1);
        look.cmd("ZRANGEBYLEX").arg(self.keys.logs()).arg(from(after.saturating_add(1))).arg(&end);
        let [first, rest] = super::read::two(self.link.pipeline(&look).await?)?;
        // Numbers begin with 1: a log that begins later has lost its beginning.
        let first = reply::array(first)?.into_iter().next().map(chunk).transpose()?;
        let truncated = first.is_some_and(|first| first.seq > 1);
        Ok(JobLog { chunks: reply::array(rest)?.into_iter().map(chunk).collect::<Result<_>>()?, truncated })
    }

    pub(super) async fn read_freed(&self, limit: usize) -> Result<Vec<Freed>> {
        let mut call = write::call(&write::FREED, &self.keys, &[]);
        call.arg(limit);
        let mut freed = Vec::new();
        for one in reply::array(self.link.script(&write::FREED, &call).await?)? {
            let mut parts = reply::array(one)?.into_iter();
            let mut next = || parts.next().ok_or_else(reply::odd);
            let parent = job_id(next()?)?;
            let place = u8::try_from(reply::int(&next()?)?).ok();
            let state = place.map(pack::place_of).transpose()?.map(Place::state);
            let ids = reply::bytes(next()?)?;
            let ids: Vec<JobId> = ids.chunks_exact(16).filter_map(JobId::from_slice).collect();
            let held = |stored: &Stored| stored.place == Place::Held;
            let children = self.read_jobs(&ids).await?.into_iter().flatten().filter(held).collect();
            freed.push(Freed { parent, state, children });
        }
        Ok(freed)
    }

    pub(super) async fn give_permits(&self, requests: &[PermitRequest]) -> Result<Vec<Vec<Duration>>> {
        let mut call = write::PERMITS.call(1);
        call.arg(self.keys.buckets());
        for PermitRequest { bucket, rate, count } in requests {
            call.arg(bucket).arg(rate.interval_us()).arg(rate.tolerance_us()).arg(count);
        }
        let waits = |one: Value| {
            let wait = |wait: &Value| Ok(Duration::from_micros(reply::int(wait)?.unsigned_abs()));
            reply::array(one)?.iter().map(wait).collect()
        };
        reply::array(self.link.script(&write::PERMITS, &call).await?)?.into_iter().map(waits).collect()
    }

    pub(super) async fn tell_runs(&self, facts: &[(RunId, Vec<u8>)]) -> Result<Vec<bool>> {
        let mut told = Vec::with_capacity(facts.len());
        for part in facts.chunks(CHUNK) {
            let mut call = write::call(&write::INFORM, &self.keys, &[]);
            for (run, fact) in part {
                call.arg(run.as_bytes()).arg(&fact[..]);
            }
            told.extend(yes(self.link.script(&write::INFORM, &call).await?)?);
        }
        Ok(told)
    }

    /// Who holds unique keys: as `holder` in the scripts judges it.
    pub(super) async fn key_holders(&self, keys: &[String]) -> Result<Vec<Option<Holder>>> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut look = redis::Pipeline::new();
        look.cmd("TIME");
        look.cmd("HMGET").arg(self.keys.unique()).arg(keys);
        let [clock, found] = super::read::two(self.link.pipeline(&look).await?)?;
        let clock = reply::array(clock)?;
        let part = |at: usize| clock.get(at).map_or_else(|| Err(reply::odd()), reply::int);
        let now = part(0)? * 1_000 + part(1)? / 1_000;
        // A job's id, and the time until which the key is taken even if the job has ended.
        let mut taken: Vec<Option<(JobId, Option<i64>)>> = Vec::with_capacity(keys.len());
        for value in reply::array(found)? {
            taken.push(match reply::maybe_bytes(value)? {
                None => None,
                Some(bytes) => {
                    let (id, until) = bytes.split_at_checked(16).ok_or_else(reply::odd)?;
                    let until = until.try_into().ok().map(i64::from_be_bytes);
                    Some((JobId::from_slice(id).ok_or_else(reply::odd)?, until))
                }
            });
        }
        let ids: Vec<JobId> = taken.iter().flatten().map(|(id, _)| *id).collect();
        let mut jobs = self.read_jobs(&ids).await?.into_iter();
        let mut holder = |(id, until): (JobId, Option<i64>)| {
            let lives = jobs.next().flatten().is_some_and(|stored| !stored.place.state().is_terminal());
            let rest = u64::try_from(until.unwrap_or_default() - now).unwrap_or_default();
            (lives || rest > 0).then_some(Holder { job: id, rest: Duration::from_millis(rest) })
        };
        Ok(taken.into_iter().map(|one| one.and_then(&mut holder)).collect())
    }

    pub(super) async fn read_schedules(&self) -> Result<(Ms, Vec<ScheduleRecord>)> {
        let mut look = redis::Pipeline::new();
        look.cmd("TIME");
        look.add_command(cmd("HGETALL").arg(self.keys.schedules()).to_owned());
        let [clock, all] = super::read::two(self.link.pipeline(&look).await?)?;
        let clock = reply::array(clock)?;
        let part = |at: usize| clock.get(at).map_or_else(|| Err(reply::odd()), reply::int);
        let now = Ms(part(0)? * 1_000 + part(1)? / 1_000);
        let mut schedules = Vec::new();
        for (name, bytes) in reply::pairs(all)? {
            let text = String::from_utf8_lossy(&name);
            let name: Name =
                text.parse().map_err(|_| StoreError::Corrupt(format!("`{text}` is kept as a schedule")))?;
            schedules.push(pack::read_schedule(name, &bytes)?);
        }
        schedules.sort_by(|a, b| a.name.cmp(&b.name));
        Ok((now, schedules))
    }

    pub(super) async fn change_schedule(&self, commit: &ScheduleCommit) -> Result<Option<EnqueueAnswer>> {
        let call = write::schedule(&self.keys, commit)?;
        let Some(codes) = reply::maybe_bytes(self.link.script(&write::SCHEDULE, &call).await?)? else {
            return Ok(None);
        };
        let mut jobs = answers::read_enqueued(&codes)?;
        if jobs.len() != commit.jobs.len() + commit.runs.len() {
            return Err(reply::odd());
        }
        let runs = jobs.split_off(commit.jobs.len());
        Ok(Some(EnqueueAnswer { jobs, runs }))
    }
}

fn job_id(value: Value) -> Result<JobId> {
    JobId::from_slice(&reply::bytes(value)?).ok_or_else(reply::odd)
}

/// Reads `job number time epoch sum text`.
fn chunk(member: Value) -> Result<LogChunk> {
    let member = reply::bytes(member)?;
    let mut reader = Reader(&member);
    reader.id()?;
    let (seq, at, epoch) = (reader.u64()?, reader.ms()?, Epoch(reader.u64()?));
    let _sum = reader.u64()?;
    let length = reader.0.len();
    Ok(LogChunk { seq, at, epoch, text: reader.text(length)? })
}
