//! `verify` of what lies beside jobs and runs: asks, progress, ties to parents, concurrency keys, logs, and
//! gates. It compares and changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::RedisStore;
use super::pack::{KeptJob, Reader};
use crate::domain::{JobId, Place, RunId};
use crate::store::contract::*;

type Jobs = BTreeMap<JobId, KeptJob>;
type Places = BTreeMap<JobId, Vec<Place>>;

/// The text behind a kind, with its length before.
fn key_of(member: &[u8]) -> Result<(String, &[u8])> {
    let mut reader = Reader(member.get(1..).unwrap_or_default());
    let length = usize::from(reader.u16()?);
    Ok((reader.text(length)?, reader.0))
}

fn last_id(member: &[u8]) -> Option<JobId> {
    member.len().checked_sub(16).and_then(|at| JobId::from_slice(&member[at..]))
}

impl RedisStore {
    pub(super) async fn compare_beside(&self, jobs: &Jobs, places: &Places, found: &mut Vec<String>) -> Result<()> {
        let is_in = |id: &JobId, place: Place| places.get(id).is_some_and(|all| all.contains(&place));
        let lives = |id: &JobId| places.get(id).is_some_and(|all| all.iter().any(|place| !place.state().is_terminal()));
        for member in self.walk("ZRANGE", self.keys.asked()).await? {
            if !JobId::from_slice(&member).is_some_and(|id| lives(&id)) {
                found.push("a job is asked to end that is not live".to_owned());
            }
        }
        for (member, _) in self.scan(self.keys.progress()).await? {
            if !JobId::from_slice(&member).is_some_and(|id| is_in(&id, Place::Running)) {
                found.push("progress is kept of a job that does not run".to_owned());
            }
        }
        let mut logged = BTreeSet::new();
        for member in self.walk("ZRANGE", self.keys.logs()).await? {
            logged.extend(member.get(..16).and_then(JobId::from_slice));
        }
        found
            .extend(logged.iter().filter(|id| !jobs.contains_key(id)).map(|id| format!("a log is kept of {id} alone")));
        self.compare_ties(jobs, &is_in, &lives, found).await?;
        self.compare_keys(jobs, &is_in, found).await
    }

    async fn compare_ties(
        &self,
        jobs: &Jobs,
        is_in: &impl Fn(&JobId, Place) -> bool,
        lives: &impl Fn(&JobId) -> bool,
        found: &mut Vec<String>,
    ) -> Result<()> {
        let (mut up, mut down) = (BTreeSet::new(), BTreeSet::new());
        for member in self.walk("ZRANGE", self.keys.ties()).await? {
            let ids = (member.get(1..17).and_then(JobId::from_slice), member.get(17..).and_then(JobId::from_slice));
            match (member.first(), ids) {
                (Some(b'c'), (Some(child), Some(parent))) => drop(up.insert((parent, child))),
                (Some(b'p'), (Some(parent), Some(child))) => drop(down.insert((parent, child))),
                _ => found.push(format!("a tie has {} bytes", member.len())),
            }
        }
        let mut wanted = BTreeSet::new();
        for (id, kept) in jobs.iter().filter(|(id, _)| is_in(id, Place::Held)) {
            wanted.extend(kept.job.after.iter().map(|parent| (*parent, *id)));
        }
        for (parent, child) in wanted.symmetric_difference(&up).chain(wanted.symmetric_difference(&down)) {
            found.push(format!("the tie of {child} to {parent} is not as the job says"));
        }
        let ended = wanted.iter().map(|(parent, _)| *parent).filter(|parent| !lives(parent));
        let ended: BTreeSet<JobId> = ended.collect();
        let freed = self.walk("ZRANGE", self.keys.freed()).await?;
        let freed: BTreeSet<JobId> = freed.iter().filter_map(|member| JobId::from_slice(member)).collect();
        for parent in ended.symmetric_difference(&freed) {
            found.push(format!("{parent}, which others wait for, is not told of as it is"));
        }
        Ok(())
    }

    async fn compare_keys(
        &self,
        jobs: &Jobs,
        is_in: &impl Fn(&JobId, Place) -> bool,
        found: &mut Vec<String>,
    ) -> Result<()> {
        let (mut running, mut blocked, mut by_id) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for member in self.walk("ZRANGE", self.keys.keyed()).await? {
            let Some(id) = last_id(&member) else {
                found.push(format!("an entry of the concurrency keys has {} bytes", member.len()));
                continue;
            };
            match member.first() {
                Some(b'r') => drop(running.insert((key_of(&member)?.0, id))),
                Some(b'b') => drop(blocked.insert((key_of(&member)?.0, id))),
                _ => drop(by_id.insert((key_of(member.get(17..).unwrap_or_default())?.0, id))),
            }
        }
        let keyed = |place: Place| {
            let key = |(id, kept): (&JobId, &KeptJob)| kept.job.concurrency.as_ref().map(|own| (own.key.clone(), *id));
            jobs.iter().filter(|(id, _)| is_in(id, place)).filter_map(key).collect::<BTreeSet<_>>()
        };
        for (wanted, entries) in
            [(keyed(Place::Running), running), (keyed(Place::Blocked), blocked), (keyed(Place::Blocked), by_id)]
        {
            for (key, id) in wanted.symmetric_difference(&entries) {
                found.push(format!("{id} is not under its concurrency key {key:?} as it is"));
            }
        }
        Ok(())
    }

    /// `runs`: whether each has ended.
    pub(super) async fn compare_gates(&self, runs: &BTreeMap<RunId, bool>, found: &mut Vec<String>) -> Result<()> {
        let (mut gated, mut placed) = (BTreeSet::new(), BTreeSet::new());
        for member in self.walk("ZRANGE", self.keys.gates()).await? {
            let run = match member.first() {
                Some(b'r') => member.get(1..17).and_then(RunId::from_slice),
                _ => last_id(&member).map(|id| RunId::from_bytes(*id.as_bytes())),
            };
            let Some(run) = run else {
                found.push(format!("an entry of the gates has {} bytes", member.len()));
                continue;
            };
            if member.first() == Some(&b'r') {
                gated.insert(run);
            } else if !placed.insert(run) {
                found.push(format!("run {run} is at its gate twice"));
            }
        }
        for run in placed.iter().filter(|run| runs.get(run) != Some(&false) || !gated.contains(run)) {
            found.push(format!("run {run} is at a gate, and does not live or has none"));
        }
        found.extend(
            gated.iter().filter(|run| !runs.contains_key(run)).map(|run| format!("a gate is kept of {run} alone")),
        );
        Ok(())
    }
}
