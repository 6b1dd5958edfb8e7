//! `verify`: reads everything and compares records with the structures that point at them. A live
//! store changes while it is read, so a difference counts only if two readings in a row find it.

use std::collections::{BTreeMap, BTreeSet};

use redis::{Value, cmd};

use super::keys::Part;
use super::pack::{self, KeptJob, KeptLease};
use super::read::{PART, flat, parked_at};
use super::{RedisStore, reply};
use crate::domain::{JobId, Ms, Place, RunId};
use crate::store::codec;
use crate::store::contract::*;

/// Reads the answer of the overdue script.
pub fn read_overdue(
    now: Ms,
    ids: Value,
    leases: Value,
    bodies: Value,
    parked: Value,
    parked_bodies: Value,
) -> Result<Overdue> {
    let mut overdue = Overdue { now, ..Overdue::default() };
    let leased = reply::array(ids)?.into_iter().zip(reply::array(leases)?).zip(reply::array(bodies)?);
    for ((id, lease), body) in leased {
        let id = JobId::from_slice(&reply::bytes(id)?).ok_or_else(reply::odd)?;
        let Some(body) = reply::maybe_bytes(body)? else { continue };
        let KeptLease { lease, queue } = pack::read_lease(&reply::bytes(lease)?)?;
        let mut job = pack::read_job(id, &body).map_or_else(|_| codec::read_job(id, &body), |kept| kept.job);
        if codec::is_lost(&job) {
            job.queue = queue;
        }
        overdue.lapsed.push(Stored::leased(job, lease));
    }
    for (id, body) in reply::array(parked)?.into_iter().zip(reply::array(parked_bodies)?) {
        let id = JobId::from_slice(&reply::bytes(id)?).ok_or_else(reply::odd)?;
        let Some(body) = reply::maybe_bytes(body)? else { continue };
        let KeptJob { job, parked, .. } = pack::read_job(id, &body)?;
        let at = parked.map_or(Ms(0), parked_at);
        overdue.unhandled.push(Stored::idle(job, Place::Parked, at));
    }
    Ok(overdue)
}

impl RedisStore {
    pub(super) async fn compare_twice(&self) -> Result<Vec<String>> {
        let first = self.compare().await?;
        if first.is_empty() {
            return Ok(first);
        }
        let second: BTreeSet<String> = self.compare().await?.into_iter().collect();
        Ok(first.into_iter().filter(|difference| second.contains(difference)).collect())
    }

    async fn compare(&self) -> Result<Vec<String>> {
        let mut differences = Vec::new();
        let mut jobs = BTreeMap::new();
        for (id, body) in self.scan(self.keys.jobs()).await? {
            let Some(id) = JobId::from_slice(&id) else {
                differences.push(format!("a record of a job has an id of {} bytes", id.len()));
                continue;
            };
            match pack::check_job(id, &body) {
                Ok(kept) => drop(jobs.insert(id, kept)),
                Err(error) => differences.push(error.to_string()),
            }
        }
        let places = self.places(&jobs, &mut differences).await?;
        for (id, kept) in &jobs {
            match places.get(id).map(Vec::as_slice) {
                None => differences.push(format!("job {id} has a record and is in no place")),
                Some([one]) => {
                    // What was due or called back since its record was written waits in line, or is blocked.
                    let since = matches!(kept.place, Place::Scheduled | Place::Retrying | Place::Parked);
                    let blocked = *one == Place::Blocked && kept.job.concurrency.is_some();
                    let waits = since || kept.place == kept.line();
                    let right = *one == kept.place
                        || *one == Place::Running
                        || (since && *one == kept.line())
                        || (waits && blocked);
                    if !right {
                        differences.push(format!("job {id} is in {one:?}, its record says {:?}", kept.place));
                    }
                }
                Some(several) => differences.push(format!("job {id} is in several places: {several:?}")),
            }
        }
        self.compare_unique(&jobs, &places, &mut differences).await?;
        self.compare_beside(&jobs, &places, &mut differences).await?;
        self.compare_runs(&mut differences).await?;
        self.compare_shared(&mut differences).await?;
        Ok(differences)
    }

    /// Every place each job is in, by the indexes.
    async fn places(
        &self,
        jobs: &BTreeMap<JobId, KeptJob>,
        differences: &mut Vec<String>,
    ) -> Result<BTreeMap<JobId, Vec<Place>>> {
        let mut places: BTreeMap<JobId, Vec<Place>> = BTreeMap::new();
        let mut put = |member: &[u8], place: Place, of: &str| {
            let id = member.len().checked_sub(16).and_then(|at| JobId::from_slice(&member[at..]));
            match id {
                Some(id) if jobs.contains_key(&id) => places.entry(id).or_default().push(place),
                Some(id) => differences.push(format!("{place:?} of {of} names job {id}, which has no record")),
                None => differences.push(format!("{place:?} of {of} has an entry of {} bytes", member.len())),
            }
        };
        for (id, kept) in self.read_leases().await? {
            put(id.as_bytes(), Place::Running, kept.queue.as_str());
        }
        let mut void = Vec::new();
        for (queue, _) in self.read_queues().await? {
            let tombs = self.link.command(cmd("SMEMBERS").arg(self.keys.part(&queue, Part::Tombs))).await?;
            let mut tombs: BTreeSet<Vec<u8>> =
                reply::array(tombs)?.into_iter().map(reply::bytes).collect::<Result<_>>()?;
            for id in self.walk("LRANGE", &self.keys.part(&queue, Part::Line)).await? {
                // The first entry of a marked job does not count.
                if !tombs.remove(&id) {
                    put(&id, Place::Pending, queue.as_str());
                }
            }
            void.extend(tombs.into_iter().map(|_| format!("a mark in {queue} is for a job not in its line")));
            for (command, part, place) in [
                ("ZRANGE", Part::Prio, Place::Pending),
                ("LRANGE", Part::Suspect, Place::Suspect),
                ("ZRANGE", Part::Parked, Place::Parked),
            ] {
                for member in self.walk(command, &self.keys.part(&queue, part)).await? {
                    put(&member, place, queue.as_str());
                }
            }
            for place in Place::ALL {
                if let Some(key) = self.keys.sorted(&queue, place) {
                    for member in self.walk("ZRANGE", &key).await? {
                        put(&member, place, queue.as_str());
                    }
                }
            }
        }
        differences.extend(void);
        Ok(places)
    }

    async fn compare_unique(
        &self,
        jobs: &BTreeMap<JobId, KeptJob>,
        places: &BTreeMap<JobId, Vec<Place>>,
        differences: &mut Vec<String>,
    ) -> Result<()> {
        let live =
            |id: &JobId| places.get(id).is_some_and(|places| places.iter().any(|place| !place.state().is_terminal()));
        let mut held = BTreeMap::new();
        for (key, id) in self.scan(self.keys.unique()).await? {
            let key = String::from_utf8_lossy(&key).into_owned();
            match id.get(..16).and_then(JobId::from_slice) {
                Some(holder) if live(&holder) => drop(held.insert(key, holder)),
                // Held for a time, whatever becomes of the job.
                Some(_) if id.len() > 16 => {}
                _ => differences.push(format!("unique key {key:?} is held by a job that is not live")),
            }
        }
        for (id, kept) in jobs.iter().filter(|(id, _)| live(id)) {
            if let Some(key) = &kept.job.unique_key
                && !held.contains_key(key)
            {
                differences.push(format!("job {id} lives without holding its unique key {key:?}"));
            }
        }
        Ok(())
    }

    async fn compare_runs(&self, differences: &mut Vec<String>) -> Result<()> {
        let mut runs = BTreeMap::new();
        for (id, bytes) in self.scan(self.keys.runs()).await? {
            let id = RunId::from_slice(&id).ok_or_else(reply::odd)?;
            match pack::read_run(id, &bytes) {
                Ok(record) => drop(runs.insert(id, record.state.is_terminal())),
                Err(error) => differences.push(error.to_string()),
            }
        }
        let mut indexed = Vec::new();
        for (key, finished) in
            [(self.keys.live(), Some(false)), (self.keys.finished(), Some(true)), (self.keys.ended(), None)]
        {
            let mut members = BTreeSet::new();
            for member in self.walk("ZRANGE", key).await? {
                let id = RunId::from_slice(&member).ok_or_else(reply::odd)?;
                members.insert(id);
                if finished.is_some_and(|finished| runs.get(&id) != Some(&finished)) {
                    differences.push(format!("run {id} is in the wrong list of runs"));
                }
            }
            indexed.push(members);
        }
        for (id, finished) in &runs {
            let [live, done, ended] = [0, 1, 2].map(|list: usize| indexed[list].contains(id));
            if (live, done, ended) != (!finished, *finished, *finished) {
                differences.push(format!("run {id} is not listed as what it is"));
            }
        }
        self.compare_gates(&runs, differences).await?;
        let mut timers = BTreeSet::new();
        for timer in self.walk("ZRANGE", self.keys.timers()).await? {
            timers.insert(timer);
        }
        let mut facts = 0;
        for fact in self.walk("ZRANGE", self.keys.facts()).await? {
            facts += 1;
            let mut reader = pack::Reader(fact.get(16..).unwrap_or_default());
            let length = usize::from(reader.u16()?);
            if !fact.get(..19 + length).is_some_and(|name| timers.contains(name)) {
                differences.push("a timer's fact has no due time".to_owned());
            }
        }
        if facts != timers.len() {
            differences.push(format!("{} timers for {facts} facts", timers.len()));
        }
        for (key, what) in [(self.keys.inbox(), "an inbox entry"), (self.keys.values(), "a value")] {
            for member in self.walk("ZRANGE", key).await? {
                let run = member.get(..16).and_then(RunId::from_slice);
                if !run.is_some_and(|run| runs.contains_key(&run)) {
                    differences.push(format!("{what} belongs to no run"));
                }
            }
        }
        Ok(())
    }

    /// All fields of a hash.
    pub(super) async fn scan(&self, key: &str) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
        let mut fields = BTreeMap::new();
        let mut cursor = "0".to_owned();
        loop {
            let mut scan = cmd("HSCAN");
            scan.arg(key).arg(&cursor).arg("COUNT").arg(PART);
            let mut answer = reply::array(self.link.command(&scan).await?)?.into_iter();
            let (Some(next), Some(page)) = (answer.next(), answer.next()) else { return Err(reply::odd()) };
            fields.extend(reply::pairs(page)?);
            cursor = reply::text(next)?;
            if cursor == "0" {
                return Ok(fields);
            }
        }
    }

    /// All members of a list or sorted set, a part at a time.
    pub(super) async fn walk(&self, command: &str, key: &str) -> Result<Vec<Vec<u8>>> {
        let mut members = Vec::new();
        loop {
            let mut range = cmd(command);
            range.arg(key).arg(members.len()).arg(members.len() + PART - 1);
            let page = flat(self.link.command(&range).await?)?;
            let read = page.len();
            for member in page {
                members.push(reply::bytes(member)?);
            }
            if read < PART {
                return Ok(members);
            }
        }
    }
}
