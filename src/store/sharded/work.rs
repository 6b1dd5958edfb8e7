//! New work and exchanges over shards: where work is born, what is refused, how a batch is split, and how
//! a claim goes round.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::map::{Map, Strategy, rendezvous};
use super::shard::Slot;
use super::{Inner, Ordering, PROMPT, nobody};
use crate::domain::{Job, JobId, Ms};
use crate::store::contract::*;

/// How long a batch of new work may take on one shard.
pub(super) const ENQUEUE: Duration = Duration::from_secs(5);
/// So many jobs are worth a request of their own.
const BULK: usize = 32;
/// With one shard there is nobody to be spared the wait.
const ALONE: Duration = Duration::from_secs(10);

/// A shard's part of an exchange: its commits, and which of the caller's each is.
#[derive(Default)]
struct Part {
    nth: Vec<usize>,
    commits: Vec<Commit>,
}

/// One request to one shard.
struct Request {
    slot: Arc<Slot>,
    part: Part,
    claim: Option<Claim>,
}

/// What has been put together so far.
struct Merged {
    answer: Exchanged,
    commits: Vec<Option<Committed>>,
    /// The first error of a shard.
    error: Option<StoreError>,
    answered: bool,
}

impl Inner {
    pub(super) fn birthplace(&self, near: Near<'_>) -> u16 {
        if let Some(slot) = self.only_one() {
            return slot.id;
        }
        let map = self.map();
        let free = || self.free_birthplace(&map);
        match near {
            Near::Nothing => free(),
            Near::Key(key) => match map.home_to_come(key) {
                Some(home) => home,
                None => map.home(key).unwrap_or_else(|_| free()),
            },
            Near::Shard(shard) => map.route(shard).unwrap_or_else(|_| free()),
            Near::Schedule(name) => self.schedule_home(&map, name).unwrap_or_else(|_| free()),
        }
    }

    /// What others must know who make ids for these shards.
    pub(super) fn placement(&self) -> Placement {
        let mut map = (*self.map()).clone();
        map.shards.iter_mut().for_each(|entry| entry.url.clear());
        let slots = self.slots();
        Placement {
            map,
            schedules: self.schedules.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone(),
            // Its error names its address, and whoever may add work hears of this.
            away: Shards::away(self).into_iter().map(|(id, _)| (id, OUT_OF_REACH.to_owned())).collect(),
            depths: slots.iter().map(|slot| (slot.id, slot.depth.load(Ordering::Relaxed))).collect(),
            turn: (self.options.entropy.next() >> 40) as u32,
        }
    }

    /// Among the active shards that answer; among all active ones if none does.
    fn free_birthplace(&self, map: &Map) -> u16 {
        let active = map.active();
        let awake = |id: &u16| self.slot(*id).is_ok_and(|slot| !slot.is_away());
        let mut fit: Vec<u16> = active.iter().copied().filter(awake).collect();
        if fit.is_empty() {
            fit = active;
        }
        let nth = match map.strategy {
            Strategy::Hash => (self.options.entropy.next() as usize).checked_rem(fit.len()),
            Strategy::RoundRobin => self.turn.fetch_add(1, Ordering::Relaxed).checked_rem(fit.len()),
            Strategy::LeastLoaded => {
                let depth = |id: &u16| self.slot(*id).map_or(u64::MAX, |slot| slot.depth.load(Ordering::Relaxed));
                let least = fit.iter().map(depth).min();
                let several: Vec<usize> = (0..fit.len()).filter(|nth| fit.get(*nth).map(depth) == least).collect();
                (self.options.entropy.next() as usize)
                    .checked_rem(several.len())
                    .and_then(|one| several.get(one).copied())
            }
        };
        let home = nth.and_then(|nth| fit.get(nth).copied()).unwrap_or_default();
        if let Ok(slot) = self.slot(home) {
            slot.depth.fetch_add(1, Ordering::Relaxed);
        }
        home
    }

    /// Whether a job may sit where its id says.
    fn check(map: &Map, job: &Job, here: u16) -> Result<()> {
        let id = job.id;
        // A step sits with its run, whatever its keys say: they count on its shard.
        if job.link.is_some() {
            return Ok(());
        }
        let mut keys = Vec::new();
        keys.extend(job.unique_key.as_deref().map(|key| ("unique key", key)));
        keys.extend(job.concurrency.as_ref().map(|own| ("concurrency key", own.key.as_str())));
        for (what, key) in &keys {
            if map.home_to_come(key).is_some() {
                return Err(StoreError::Unavailable(format!("the {what} `{key}` is about to be at home elsewhere")));
            }
            let home = map.home(key)?;
            if home != here {
                let why = match keys.as_slice() {
                    [(_, a), (_, b)] if map.home(a)? != map.home(b)? => format!(
                        "its unique key `{a}` and its concurrency key `{b}` are at home on different shards: give both \
                         the same part in braces, as in `{{{a}}}`"
                    ),
                    _ if !job.after.is_empty() => format!(
                        "its {what} `{key}` is at home on shard {home}, and the job that it is to follow is on shard \
                         {here}"
                    ),
                    _ => {
                        format!("its {what} `{key}` is at home on shard {home}, not on {here}: the shards have changed")
                    }
                };
                return Err(StoreError::Refused(format!("job {id}: {why}")));
            }
        }
        for parent in &job.after {
            let there = map.route(parent.shard())?;
            if there != here {
                return Err(StoreError::Refused(format!(
                    "job {id}: it is to follow job {parent}, which is on shard {there}, and is itself on shard {here}"
                )));
            }
        }
        Ok(())
    }

    pub(super) async fn enqueue(&self, batch: &Enqueue) -> Result<EnqueueAnswer> {
        if let Some(slot) = self.only_one() {
            return slot.call(ALONE, |store| async move { store.enqueue(batch).await }).await;
        }
        let map = self.map();
        let mut parts: BTreeMap<u16, (Vec<usize>, Vec<usize>)> = BTreeMap::new();
        for (nth, new) in batch.jobs.iter().enumerate() {
            let here = map.route(new.job.id.shard())?;
            Self::check(&map, &new.job, here)?;
            parts.entry(here).or_default().0.push(nth);
        }
        for (nth, new) in batch.runs.iter().enumerate() {
            let id = new.effects.record.id;
            let here = map.route(id.shard())?;
            if let Some(gate) = &new.gate
                && map.home(&gate.key)? != here
            {
                return Err(StoreError::Refused(format!(
                    "run {id}: its key `{}` is at home on another shard: the shards have changed",
                    gate.key
                )));
            }
            parts.entry(here).or_default().1.push(nth);
        }
        let mut held = self.held_elsewhere(&map, batch).await?;
        for (jobs, _) in parts.values_mut() {
            jobs.retain(|nth| !held.contains_key(nth));
        }
        let send = parts.into_iter().map(|(id, (jobs, runs))| async move {
            let part = Enqueue {
                jobs: jobs.iter().filter_map(|nth| batch.jobs.get(*nth).cloned()).collect(),
                runs: runs.iter().filter_map(|nth| batch.runs.get(*nth).cloned()).collect(),
                ..*batch
            };
            let slot = self.slot(id)?;
            let answer = slot.call(ENQUEUE, |store| {
                let part = &part;
                async move { store.enqueue(part).await }
            });
            Ok((jobs, runs, answer.await?))
        });
        let mut jobs: Vec<Option<Enqueued>> = (0..batch.jobs.len()).map(|nth| held.remove(&nth)).collect();
        let mut runs = vec![None; batch.runs.len()];
        let (mut done, mut error) = (false, None);
        for sent in join_all(send).await {
            match sent {
                Ok((job_places, run_places, EnqueueAnswer { jobs: for_jobs, runs: for_runs })) => {
                    done = true;
                    job_places.into_iter().zip(for_jobs).for_each(|(nth, answer)| jobs[nth] = Some(answer));
                    run_places.into_iter().zip(for_runs).for_each(|(nth, answer)| runs[nth] = Some(answer));
                }
                // What is worse is told: it will not pass by itself.
                Err(next) => {
                    if error.as_ref().is_none_or(StoreError::is_transient) {
                        error = Some(next);
                    }
                }
            }
        }
        match error {
            // Some of it is there, so it is not true that nothing has happened.
            Some(StoreError::Unavailable(text)) if done => Err(StoreError::Unknown(text)),
            Some(error) => Err(error),
            None => {
                let odd = || StoreError::Corrupt("a shard answered for fewer items than it was sent".to_owned());
                let all =
                    |answers: Vec<Option<Enqueued>>| answers.into_iter().collect::<Option<Vec<_>>>().ok_or_else(odd);
                Ok(EnqueueAnswer { jobs: all(jobs)?, runs: all(runs)? })
            }
        }
    }

    /// Jobs whose unique key is still held where it was at home before.
    async fn held_elsewhere(&self, map: &Map, batch: &Enqueue) -> Result<BTreeMap<usize, Enqueued>> {
        let mut asks: BTreeMap<u16, Vec<(usize, String)>> = BTreeMap::new();
        for (nth, new) in batch.jobs.iter().enumerate() {
            if let Some(key) = new.job.unique_key.as_ref().filter(|_| new.job.link.is_none()) {
                for home in map.homes_before(key) {
                    asks.entry(home).or_default().push((nth, key.clone()));
                }
            }
        }
        // A shard may have been removed meanwhile: what is put there then is never looked for.
        if self.is_outdated() {
            self.look_at_maps().await?;
            if self.map().epoch != map.epoch {
                return Err(StoreError::Unavailable("the shards have just changed".to_owned()));
            }
        }
        let mut held = BTreeMap::new();
        for (shard, asked) in asks {
            let (places, keys): (Vec<usize>, Vec<String>) = asked.into_iter().unzip();
            let slot = self.slot(shard)?;
            let holders = slot.call(ENQUEUE, |store| {
                let keys = &keys;
                async move { store.holders(keys).await }
            });
            for (nth, holder) in places.into_iter().zip(holders.await?) {
                // Sent again, it may be the one that holds it.
                if let Some(Holder { job: holder, .. }) = holder
                    && batch.jobs.get(nth).is_some_and(|new| new.job.id != holder)
                {
                    held.insert(nth, Enqueued::Conflict(holder));
                }
            }
        }
        Ok(held)
    }

    /// The shard of a commit: that of its run, or of its lease, or of its job.
    fn shard_of(&self, map: &Map, commit: &Commit) -> Result<u16> {
        let by_lease = commit.moves.iter().find_map(|step| match step.expect {
            Expect::Lease(epoch) | Expect::Lapsed(epoch) => self.leases.shard_of(step.job.id, epoch),
            Expect::Idle(..) => None,
        });
        // Where a lease was given, it ends, even if the shard is gone: epochs of two shards are not compared.
        // An inbox is drained where it was read, for the same reason.
        if let Some(shard) = by_lease.or_else(|| self.inboxes.shard_of(commit)) {
            return Ok(shard);
        }
        let born = |id: &JobId| map.route(id.shard());
        let mut ids = commit.moves.iter().map(|step| &step.job.id);
        let home = match (&commit.run, ids.next()) {
            (Some(part), _) => map.route(part.run.shard())?,
            (None, Some(first)) => born(first)?,
            (None, None) => return Err(StoreError::Refused("a commit is empty".to_owned())),
        };
        for step in &commit.moves {
            if born(&step.job.id)? != home {
                return Err(StoreError::Refused(format!(
                    "a commit spans shards: job {} is not on {home}",
                    step.job.id
                )));
            }
        }
        Ok(home)
    }

    pub(super) async fn exchange(&self, exchange: &Exchange) -> Result<Exchanged> {
        if let Some(slot) = self.only_one() {
            let answer = slot.call(ALONE, |store| async move { store.exchange(exchange).await }).await?;
            self.leases.settled(&exchange.commits, &answer.commits);
            if let Some(claim) = &exchange.claim {
                self.leases.claimed(claim.worker, slot.id, &answer.claimed);
            }
            return Ok(answer);
        }
        let map = self.map();
        let mut parts: BTreeMap<u16, Part> = BTreeMap::new();
        for (nth, commit) in exchange.commits.iter().enumerate() {
            let part = parts.entry(self.shard_of(&map, commit)?).or_default();
            part.nth.push(nth);
            part.commits.push(commit.clone());
        }
        let mut merged = Merged::new(exchange.commits.len(), self.now());
        // A shard that is gone was empty: it held no lease.
        for (_, part) in parts.extract_if(.., |id, _| self.slot(*id).is_err()) {
            for (nth, commit) in part.nth.into_iter().zip(part.commits) {
                let stale = Committed { moves: vec![Moved::Stale; commit.moves.len()], run: RunAnswer::Gone };
                merged.commits[nth] = Some(stale);
            }
        }
        match &exchange.claim {
            Some(claim) => self.go_round(claim, parts, &mut merged).await?,
            None => {
                // Whoever only looks at the flags asks everybody.
                let asked: Vec<u16> = match parts.is_empty() {
                    true => self.ours().iter().map(|slot| slot.id).collect(),
                    false => parts.keys().copied().collect(),
                };
                let mut requests = Vec::new();
                for id in asked {
                    let part = parts.remove(&id).unwrap_or_default();
                    requests.push(Request { slot: self.slot(id)?, part, claim: None });
                }
                self.send(requests, &mut merged).await;
            }
        }
        self.try_elsewhere(exchange, &mut merged).await?;
        self.finish(exchange, merged)
    }

    /// A claim goes round: everybody is asked for a share, then those that had plenty are asked for what
    /// the others did not have.
    async fn go_round(&self, claim: &Claim, mut parts: BTreeMap<u16, Part>, merged: &mut Merged) -> Result<()> {
        let mut open = self.claimable(claim).await;
        let mut left = claim.want;
        // A suspect comes before anything else, and alone.
        if claim.alone && left > 0 {
            // One after the other, those first that have told of suspects: two at once would not be alone.
            let mut asked = open.clone();
            asked.sort_by_key(|slot| !slot.has_suspects());
            for slot in asked {
                let part = parts.remove(&slot.id).unwrap_or_default();
                let ask = Claim { want: left, ..claim.clone() };
                let before = merged.answer.claimed.len();
                self.send(vec![Request { slot: slot.clone(), part, claim: Some(ask) }], merged).await;
                let got = &merged.answer.claimed[before..];
                let is_suspect = got.iter().any(|one| one.job.is_suspect());
                left = left.saturating_sub(got.len());
                if left == 0 || is_suspect {
                    return self.send_rest(parts, merged).await;
                }
                // It has no more.
                open.retain(|other| other.id != slot.id);
                if !got.is_empty() {
                    break;
                }
            }
        }
        let mut first = true;
        while !open.is_empty() && (left > 0 || first) {
            let bulk = if first { first_in_bulk(left, &open) } else { None };
            let (shares, later) = bulk.unwrap_or_else(|| (shares(left, &open), Vec::new()));
            let mut requests = Vec::new();
            for (slot, want) in &shares {
                if *want > 0 || first {
                    let part = parts.remove(&slot.id).unwrap_or_default();
                    let claim = Some(Claim { want: *want, alone: false, ..claim.clone() });
                    requests.push(Request { slot: slot.clone(), part, claim });
                }
            }
            if first {
                for (id, part) in std::mem::take(&mut parts) {
                    requests.push(Request { slot: self.slot(id)?, part, claim: None });
                }
            }
            let got = self.send(requests, merged).await;
            let count = |id: u16| got.get(&id).copied();
            left = left.saturating_sub(got.values().sum());
            // Who gave all that was asked may have more; who was not asked may have anything.
            open = shares
                .into_iter()
                .filter(|(slot, want)| *want == 0 || count(slot.id) == Some(*want))
                .map(|(slot, _)| slot)
                .chain(later)
                .filter(|slot| !slot.is_away())
                .collect();
            first = false;
        }
        self.send_rest(parts, merged).await
    }

    async fn send_rest(&self, parts: BTreeMap<u16, Part>, merged: &mut Merged) -> Result<()> {
        let mut requests = Vec::new();
        for (id, part) in parts {
            requests.push(Request { slot: self.slot(id)?, part, claim: None });
        }
        self.send(requests, merged).await;
        Ok(())
    }

    /// The shards that a claim may ask: those that know the worker. One that is new, or was away, is told
    /// of it first. What gave nothing last time comes last.
    async fn claimable(&self, claim: &Claim) -> Vec<Arc<Slot>> {
        let mut slots = self.ours();
        for slot in slots.iter().filter(|slot| !self.leases.knows(claim.worker, slot.id)) {
            if let Some(beat) = self.leases.beat_of(claim.worker) {
                // Whether it was heard is seen below.
                drop(self.beat_one(slot, &beat).await);
            }
        }
        slots.retain(|slot| self.leases.knows(claim.worker, slot.id));
        slots.sort_by_key(|slot| slot.is_dry());
        slots
    }

    /// Sends requests at once and adds what comes of them; how many jobs each shard gave that was asked.
    async fn send(&self, requests: Vec<Request>, merged: &mut Merged) -> BTreeMap<u16, usize> {
        let sent = join_all(requests.into_iter().map(|Request { slot, part, claim }| async move {
            let exchange = Exchange { commits: part.commits, claim };
            let answer = slot.call(PROMPT, |store| {
                let exchange = &exchange;
                async move { store.exchange(exchange).await }
            });
            let answer = answer.await;
            (slot, part.nth, exchange, answer)
        }))
        .await;
        let mut got = BTreeMap::new();
        for (slot, nth, exchange, answer) in sent {
            match answer {
                Ok(answer) => {
                    slot.saw_clock(answer.now, self.now());
                    self.leases.settled(&exchange.commits, &answer.commits);
                    let crashed = exchange.commits.iter().flat_map(|one| &one.moves).any(|step| step.job.is_suspect());
                    if let Some(claim) = &exchange.claim {
                        self.leases.claimed(claim.worker, slot.id, &answer.claimed);
                        slot.set_dry(claim.want > 0 && answer.claimed.len() < claim.want);
                        slot.set_suspects(answer.suspects);
                        got.insert(slot.id, answer.claimed.len());
                    } else if crashed {
                        slot.set_suspects(true);
                    }
                    merged.add(&slot, &nth, answer);
                }
                Err(error) => {
                    merged.error.get_or_insert(error);
                }
            }
        }
        got
    }

    /// While a shard is emptied into another, a job may be on either: what was stale at one place is tried
    /// at the next.
    async fn try_elsewhere(&self, exchange: &Exchange, merged: &mut Merged) -> Result<()> {
        for place in 1.. {
            let mut parts: BTreeMap<u16, Part> = BTreeMap::new();
            for (nth, (commit, answer)) in exchange.commits.iter().zip(&merged.commits).enumerate() {
                let Some(answer) = answer else { continue };
                let idle = commit.moves.iter().all(|step| matches!(step.expect, Expect::Idle(..)));
                let stale = idle && answer.moves.iter().all(|moved| *moved == Moved::Stale);
                // A contended run is there.
                let unknown = matches!(answer.run, RunAnswer::None | RunAnswer::Gone);
                // What was drained there is numbered anew at the next place, where the run waits to be drained.
                let drains = commit.run.as_ref().and_then(|part| part.advance.as_ref());
                let drains = drains.is_some_and(|advance| advance.drained.is_some());
                if !stale || !unknown || drains {
                    continue;
                }
                let born = commit.run.as_ref().map(|part| part.run.shard());
                let born = born.or_else(|| commit.moves.first().map(|step| step.job.id.shard()));
                let places = born.map(|born| self.places(born)).transpose()?.unwrap_or_default();
                if let Some(slot) = places.get(place) {
                    let part = parts.entry(slot.id).or_default();
                    part.nth.push(nth);
                    part.commits.push(commit.clone());
                }
            }
            if parts.is_empty() {
                break;
            }
            self.send_rest(parts, merged).await?;
        }
        Ok(())
    }

    fn finish(&self, exchange: &Exchange, merged: Merged) -> Result<Exchanged> {
        let Merged { mut answer, commits, error, answered } = merged;
        if let Some(error) = error {
            // Without a claim somebody waits for these very commits; and nothing is no answer.
            if exchange.claim.is_none() || !answered {
                return Err(error);
            }
        } else if !answered {
            return Err(nobody());
        }
        let unanswered = || Committed { moves: Vec::new(), run: RunAnswer::Contended };
        answer.commits = commits.into_iter().map(|committed| committed.unwrap_or_else(unanswered)).collect();
        Ok(answer)
    }
}

impl Merged {
    fn new(commits: usize, now: Ms) -> Merged {
        let answer = Exchanged { now, ..Exchanged::default() };
        Merged { answer, commits: vec![None; commits], error: None, answered: false }
    }

    fn add(&mut self, slot: &Slot, nth: &[usize], answer: Exchanged) {
        self.answered = true;
        let Exchanged { now: _, commits, claimed, suspects, dirty, asked, freed, next_due } = answer;
        for (nth, committed) in nth.iter().zip(commits) {
            if let Some(place) = self.commits.get_mut(*nth) {
                *place = Some(committed);
            }
        }
        let all = &mut self.answer;
        all.claimed.extend(claimed);
        all.suspects |= suspects;
        all.dirty |= dirty;
        all.asked |= asked;
        all.freed |= freed;
        all.next_due = [all.next_due, next_due.map(|due| slot.to_ours(due))].into_iter().flatten().min();
    }
}

type Shares = Vec<(Arc<Slot>, usize)>;

/// A wish so large that somebody else takes his turn before long goes to the shard whose turn it is, and the others
/// are asked only if that has too little: a request costs a shard and the worker as much as some jobs do. A shard that
/// gave nothing last time is asked for one all the same. Those that are left for later come second.
fn first_in_bulk(want: usize, slots: &[Arc<Slot>]) -> Option<(Shares, Vec<Arc<Slot>>)> {
    let (dry, plenty): (Vec<_>, Vec<_>) = slots.iter().cloned().partition(|slot| slot.is_dry());
    if want < BULK || dry.len() > want / 4 {
        return None;
    }
    let (one, later) = plenty.split_first()?;
    let shares = [(one.clone(), want - dry.len())].into_iter().chain(dry.into_iter().map(|slot| (slot, 1)));
    Some((shares.collect(), later.to_vec()))
}

/// Divides a wish, the first get the rest.
fn shares(want: usize, slots: &[Arc<Slot>]) -> Shares {
    let (each, rest) = (want / slots.len().max(1), want % slots.len().max(1));
    slots.iter().enumerate().map(|(nth, slot)| (slot.clone(), each + usize::from(nth < rest))).collect()
}

/// The shard on which a rate's bucket is kept: its home, or while that is away the next.
pub(super) fn bucket_home(map: &Map, awake: &[u16], bucket: &str) -> Result<u16> {
    let active: Vec<u16> = map.active().into_iter().filter(|id| awake.contains(id)).collect();
    rendezvous(&active, bucket).or_else(|| awake.first().copied()).ok_or_else(nobody)
}
