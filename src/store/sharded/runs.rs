//! Carries runs from a draining shard to another, with their histories, values, timers and inboxes.
//!
//! # How runs go over
//!
//! 0. Their steps that nobody runs are set aside, as other jobs are, and land after their runs.
//! 1. A *copy* of the runs is written where they go, as documents. It says of which state it is.
//! 2. The runs are *taken out* where they are, if they still are in that state; in the same step a *mark*
//!    with the number of the copy is made there. From now on the copy counts.
//! 3. The runs are *put in* from the copy, which goes in the same step: once.
//! 4. The mark goes.
//!
//! [`transit::next`] decides each step from what is seen on both shards, as with jobs. What is to be told
//! to a run that has been taken out lands it first. A copy of a state that is over is discarded: a state never
//! comes back, for a revision rises and an inbox counts on.

use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::Instant;

use super::carry::{all_in, get};
use super::groups::{self, Copy, Group, Mark};
use super::shard::Slot;
use super::transit::{self, Carry, Seen, Side, Step};
use super::{Inner, PATIENT, notices};
use crate::domain::{JobId, Place, RunId, Shard, limits};
use crate::store::codec::{decode, encode};
use crate::store::contract::*;

/// Groups that one call carries at most.
const GROUPS: usize = 100;
/// How long one call goes on, so that whoever watches hears of it.
const SLICE: Duration = Duration::from_secs(3);
/// Steps that one copy gets: three, and some that others have come before.
const ROUNDS: usize = 8;
/// Documents looked at in one call.
const PAGE: usize = 200;
/// A large group takes longer than a look.
const LARGE: Duration = Duration::from_secs(60);
/// What could not be carried is looked at again after so long.
const STUCK: Duration = Duration::from_secs(30);

/// What became of a group in one go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Went {
    Over(u64),
    /// A step of it runs, or it has changed: another time.
    NotYet,
    /// It is too large, or cannot be given away.
    Stuck,
}

/// The change that deletes what was seen.
fn without(document: &Document) -> DocumentChange {
    DocumentChange { name: document.name.clone(), from_rev: document.rev, body: None, keep: None }
}

async fn document(slot: &Slot, name: &str) -> Result<Option<Document>> {
    slot.call(PATIENT, |store| async move { store.document(name).await }).await
}

async fn change(slot: &Slot, change: &DocumentChange) -> Result<bool> {
    let done = slot.call(PATIENT, |store| async move { store.set_document(change).await }).await?;
    Ok(matches!(done, DocumentSet::Done(_)))
}

/// The documents whose names begin so.
async fn all_documents(slot: &Slot, prefix: &str) -> Result<Vec<Document>> {
    let mut all: Vec<Document> = Vec::new();
    loop {
        let after = all.last().map(|last| last.name.clone());
        let after = after.as_deref();
        let page = slot.call(PATIENT, |store| async move { store.documents(prefix, after, PAGE).await }).await?;
        let is_last = page.len() < PAGE;
        all.extend(page);
        if is_last {
            return Ok(all);
        }
    }
}

async fn whole(slot: &Slot, id: RunId) -> Result<Option<WholeRun>> {
    slot.call(LARGE, |store| async move { store.whole_run(id).await }).await
}

/// Runs as their copy keeps them.
struct Packed {
    seen: Vec<SeenRun>,
    bytes: Vec<u8>,
}

impl Packed {
    /// Nothing if they are too large.
    fn of(mut runs: Vec<WholeRun>) -> Result<Option<Packed>> {
        if runs.iter().map(WholeRun::items).sum::<usize>() > groups::ITEMS {
            return Ok(None);
        }
        // At a gate, in the order in which they have come.
        runs.sort_by_key(|run| run.gate.as_ref().map(|gate| (!gate.inside, gate.turn)));
        let packed = Packed { seen: runs.iter().map(WholeRun::seen).collect(), bytes: encode(&runs)? };
        Ok(Some(packed).filter(|packed| packed.bytes.len() <= groups::BYTES))
    }
}

impl Inner {
    /// Carries some of the runs that lie on a shard, and tells whether none was left.
    pub(super) async fn carry_runs(&self, from: &Slot, to: &Slot) -> Result<(Carried, bool)> {
        // First what was begun: its copies are in the way of nothing, but they cost room.
        let mut carried = 0;
        for document in all_documents(to, &groups::copies(from.id)).await? {
            if let Some(carry) = groups::carry_of(&document.name) {
                carried += self.step_runs(from, to, carry).await?;
            }
        }
        carried += self.land_marked(from, to).await?;
        let jobs = self.land_steps(from, to).await?;
        let records = self.all_runs(from).await?;
        let (mut stuck, mut gone, begun) = (0, 0, Instant::now());
        for bundle in groups::bundles(groups::groups(&records)) {
            if gone >= GROUPS || begun.elapsed() > SLICE {
                break;
            }
            let mut went = vec![(self.carry_group(from, to, &groups::together(&bundle)).await?, &bundle[..])];
            if went[0].0 == Went::Stuck && bundle.len() > 1 {
                // Together they are too much, or one of them is.
                went.clear();
                for group in &bundle {
                    went.push((self.carry_group(from, to, group).await?, std::slice::from_ref(group)));
                }
            }
            for (went, groups) in went {
                let runs: u64 = groups.iter().map(|group| group.runs.len() as u64).sum();
                match went {
                    Went::Over(landed) => {
                        carried += landed;
                        gone += groups.len();
                    }
                    Went::NotYet => {}
                    Went::Stuck => {
                        stuck += runs;
                        self.stick(groups);
                    }
                }
            }
        }
        Ok((Carried { jobs, runs: carried, stuck, schedules: 0 }, records.is_empty()))
    }

    /// Steps that were set aside, and whose runs are there by now: their carrier was cut.
    async fn land_steps(&self, from: &Slot, to: &Slot) -> Result<u64> {
        let (_, records) = from.call(PATIENT, |store| async move { store.schedules().await }).await?;
        let mut jobs = 0;
        for intent in notices::intents(&records)?.into_iter().filter(|intent| !intent.runs.is_empty()) {
            let (landed, is_over) = self.go_on(from, to, &intent.jobs).await?;
            jobs += landed;
            if is_over {
                let intent = &intent;
                from.call(PATIENT, |store| async move { notices::drop_intent(&*store, intent).await }).await?;
            }
        }
        Ok(jobs)
    }

    async fn all_runs(&self, slot: &Slot) -> Result<Vec<RunRecord>> {
        let mut all = Vec::new();
        for finished in [false, true] {
            let mut after = None;
            loop {
                let query = RunQuery { finished, after, budget: limits::LIST_BUDGET };
                let query = &query;
                let page = slot.call(PATIENT, |store| async move { store.runs(query).await }).await?;
                all.extend(page.items);
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
        }
        // One may have ended between the two lists.
        all.sort_by_key(|record| (record.id, std::cmp::Reverse(record.rev)));
        all.dedup_by_key(|record| record.id);
        Ok(all)
    }

    async fn carry_group(&self, from: &Slot, to: &Slot, group: &Group) -> Result<Went> {
        let Some(first) = group.runs.first().copied() else { return Ok(Went::NotYet) };
        if self.is_stuck(first, group) {
            return Ok(Went::Stuck);
        }
        // What cannot go keeps its steps.
        if !(group.jobs.is_empty() && group.undos.is_empty())
            && let Err(went) = self.read_group(from, group).await?
        {
            return Ok(went);
        }
        let Some(steps) = self.set_steps_aside(from, to, group).await? else { return Ok(Went::NotYet) };
        let packed = match self.read_group(from, group).await? {
            Ok(packed) => packed,
            Err(went) => return Ok(went),
        };
        let carry = self.copy_runs(from, to, packed).await?;
        let landed = self.step_runs(from, to, carry).await?;
        if landed == 0 {
            return Ok(Went::NotYet);
        }
        // Their steps may go on now. What is cut here is finished by the intents.
        let mut is_over = true;
        for steps in steps.chunks(super::carry::BATCH) {
            is_over &= self.go_on(from, to, steps).await?.1;
        }
        if is_over && !steps.is_empty() {
            let (_, records) = from.call(PATIENT, |store| async move { store.schedules().await }).await?;
            for intent in notices::intents(&records)?.into_iter().filter(|intent| intent.runs == group.runs) {
                let intent = &intent;
                from.call(PATIENT, |store| async move { notices::drop_intent(&*store, intent).await }).await?;
            }
        }
        Ok(Went::Over(landed))
    }

    /// The runs of a group as they are now, if they can go.
    async fn read_group(&self, from: &Slot, group: &Group) -> Result<Result<Packed, Went>> {
        let mut runs = Vec::with_capacity(group.runs.len());
        for id in &group.runs {
            match whole(from, *id).await {
                Ok(Some(run)) => runs.push(run),
                Ok(None) => return Ok(Err(Went::NotYet)),
                Err(StoreError::Refused(why)) => {
                    tracing::warn!(run = %id, why, "a run cannot be carried");
                    return Ok(Err(Went::Stuck));
                }
                Err(error) => return Err(error),
            }
        }
        // The steps are those of the headers that were listed: others may have others.
        if runs.iter().any(|run| group.revs.get(&run.record.id) != Some(&run.record.rev)) {
            return Ok(Err(Went::NotYet));
        }
        Ok(Packed::of(runs)?.ok_or(Went::Stuck))
    }

    fn is_stuck(&self, first: RunId, group: &Group) -> bool {
        let mut stuck = self.stuck.lock().unwrap_or_else(PoisonError::into_inner);
        stuck.retain(|_, since| since.elapsed() < STUCK);
        group.stuck || stuck.contains_key(&first)
    }

    fn stick(&self, groups: &[Group]) {
        let mut stuck = self.stuck.lock().unwrap_or_else(PoisonError::into_inner);
        for first in groups.iter().filter_map(|group| group.runs.first()) {
            stuck.entry(*first).or_insert(Instant::now());
        }
    }

    /// Sets the steps of a group aside that nobody runs; all that its headers name, if every one of them
    /// has ended or is set aside.
    async fn set_steps_aside(&self, from: &Slot, to: &Slot, group: &Group) -> Result<Option<Vec<JobId>>> {
        let mut ids: BTreeSet<JobId> = group.jobs.iter().copied().collect();
        for (run, step) in &group.undos {
            // The header may not name the job that undoes a step.
            let Some(job) = self.undo_of(from, *run, step).await? else { return Ok(None) };
            ids.insert(job);
        }
        let ids: Vec<JobId> = ids.into_iter().collect();
        let is_live = |stored: &Stored| !stored.place.state().is_terminal();
        let is_aside = |stored: &Stored| matches!(transit::side(stored), Some(Side::Left(_)));
        let kept = self.stored_on(from, &ids).await?;
        let live = || kept.iter().filter(|stored| is_live(stored));
        if live().any(|stored| stored.lease.is_some() || transit::is_copy(stored)) {
            return Ok(None);
        }
        let waiting: Vec<Stored> = live().filter(|stored| !is_aside(stored)).cloned().collect();
        if waiting.is_empty() {
            return Ok(Some(ids));
        }
        for batch in waiting.chunks(super::carry::BATCH) {
            let ours = |stored: &Stored| Stored { at: from.to_ours(stored.at), ..stored.clone() };
            self.carry_jobs(from, to, batch.iter().map(ours).collect(), &group.runs).await?;
        }
        let kept = self.stored_on(from, &ids).await?;
        Ok(kept.iter().all(|stored| !is_live(stored) || is_aside(stored)).then_some(ids))
    }

    async fn stored_on(&self, slot: &Slot, ids: &[JobId]) -> Result<Vec<Stored>> {
        let mut all = Vec::with_capacity(ids.len());
        for ids in ids.chunks(super::carry::BATCH) {
            all.extend(get(slot, ids).await?.into_iter().flatten());
        }
        Ok(all)
    }

    /// The live job that undoes a step.
    async fn undo_of(&self, slot: &Slot, run: RunId, step: &str) -> Result<Option<JobId>> {
        for place in Place::ALL.into_iter().filter(|place| !place.state().is_terminal()) {
            let all = all_in(slot, place).await?;
            let is_it = |stored: &&Stored| {
                stored.job.link.as_ref().is_some_and(|link| link.run == run && link.undo && link.step == step)
            };
            if let Some(stored) = all.iter().find(is_it) {
                return Ok(Some(stored.job.id));
            }
        }
        Ok(None)
    }

    /// Writes the copy of runs.
    async fn copy_runs(&self, from: &Slot, to: &Slot, packed: Packed) -> Result<Carry> {
        let Packed { seen, bytes } = packed;
        let carry = Carry(self.options.entropy.next());
        let mut parts = 0;
        for part in bytes.chunks(limits::DOCUMENT_BYTES) {
            self.keep_new(to, groups::part(from.id, carry, parts), part.to_vec()).await?;
            parts += 1;
        }
        let copy = encode(&Copy { runs: seen, parts })?;
        self.keep_new(to, groups::copy(from.id, carry), copy).await?;
        Ok(carry)
    }

    async fn keep_new(&self, slot: &Slot, name: String, body: Vec<u8>) -> Result<()> {
        let new = DocumentChange { name, from_rev: 0, body: Some(body), keep: None };
        match change(slot, &new).await? {
            true => Ok(()),
            false => Err(StoreError::Corrupt(format!("there is a document {} already", new.name))),
        }
    }

    /// What is seen of a copy where its runs were: a mark, or whether they still are as they were copied; `look`
    /// says whether to look, or to take it as so.
    async fn seen_at_home(
        &self,
        from: &Slot,
        carry: Carry,
        copy: Option<&Copy>,
        look: bool,
    ) -> Result<(Seen, Option<Document>)> {
        let (mut as_copied, mut any) = (true, copy.is_some());
        if look {
            any = false;
            for seen in copy.iter().flat_map(|copy| &copy.runs) {
                let run = whole(from, seen.id).await?;
                any |= run.is_some();
                as_copied &= run.is_some_and(|run| run.seen() == *seen);
            }
        }
        // The mark afterwards: what was taken out in between has one.
        Ok(match document(from, &groups::mark(carry)).await? {
            Some(mark) => (Seen::Left(carry), Some(mark)),
            None if !any => (Seen::Nothing, None),
            None => (Seen::Itself(Some(if as_copied { SAME } else { OTHER })), None),
        })
    }

    /// Takes every step that a copy needs, whoever has made it; how many runs have landed by it.
    async fn step_runs(&self, from: &Slot, to: &Slot, carry: Carry) -> Result<u64> {
        let (mut landed, name) = (0, groups::copy(from.id, carry));
        // The shard itself judges whether the runs still are as they were copied: only after a no is looked.
        let mut refused = false;
        for _ in 0..ROUNDS {
            // The copy first: if what it is of has changed afterwards, it will never count.
            let mut head = document(to, &name).await?;
            let copy: Option<Copy> = head.as_ref().map(|head| decode(&head.body)).transpose()?;
            let (here, mark) = self.seen_at_home(from, carry, copy.as_ref(), refused).await?;
            if head.is_none() && mark.is_some() {
                // It may have been made, and taken out, between the two looks.
                head = document(to, &name).await?;
            }
            let there = if head.is_some() { Seen::Copy(carry, SAME) } else { Seen::Nothing };
            match (transit::next(here, there), head, copy, mark) {
                // They have not changed, and are not given: others have come to their gate, and go with them.
                (Step::SetAside(_), ..) if refused => return Ok(landed),
                (Step::SetAside(_), Some(_), Some(copy), _) => {
                    let body = encode(&Mark { carry, parts: copy.parts })?;
                    let take = TakeRuns { runs: copy.runs, mark: groups::mark(carry), body };
                    let take = &take;
                    refused = !from.call(LARGE, |store| async move { store.take_runs(take).await }).await?;
                }
                (Step::Land, Some(head), Some(copy), _) => {
                    if let Some(runs) = self.read_parts(from, to, carry, &copy).await? {
                        let many = runs.len() as u64;
                        let put = PutRuns { runs, copy: head.name, rev: head.rev };
                        let put = &put;
                        if to.call(LARGE, |store| async move { store.put_runs(put).await }).await? {
                            landed += many;
                        }
                    }
                }
                (Step::Discard, Some(head), Some(copy), _) => {
                    let discarded = change(to, &without(&head)).await?;
                    if discarded {
                        self.drop_parts(from, to, carry, copy.parts).await?;
                    }
                }
                (Step::Leave, _, _, Some(mark)) => {
                    let Mark { parts, .. } = decode(&mark.body)?;
                    self.drop_parts(from, to, carry, parts).await?;
                    change(from, &without(&mark)).await?;
                }
                (Step::Rest, ..) => return Ok(landed),
                // Not all of it was seen: another look.
                _ => {}
            }
        }
        Ok(landed)
    }

    /// The runs of a copy, by the other shard's clock; nothing if they have landed in between.
    async fn read_parts(&self, from: &Slot, to: &Slot, carry: Carry, copy: &Copy) -> Result<Option<Vec<WholeRun>>> {
        let mut bytes = Vec::new();
        for nth in 0..copy.parts {
            let name = groups::part(from.id, carry, nth);
            let Some(part) = document(to, &name).await? else {
                return match document(to, &groups::copy(from.id, carry)).await? {
                    None => Ok(None),
                    Some(_) => {
                        Err(StoreError::Corrupt(format!("the document {name} is not there, and runs are in it")))
                    }
                };
            };
            bytes.extend(part.body);
        }
        let mut runs: Vec<WholeRun> = decode(&bytes)?;
        let theirs = |at| to.to_theirs(from.to_ours(at));
        for run in &mut runs {
            run.finished = run.finished.map(theirs);
            run.timers.iter_mut().for_each(|(_, due, _)| *due = theirs(*due));
        }
        Ok(Some(runs))
    }

    async fn drop_parts(&self, from: &Slot, to: &Slot, carry: Carry, parts: u32) -> Result<()> {
        for nth in 0..parts {
            if let Some(part) = document(to, &groups::part(from.id, carry, nth)).await? {
                change(to, &without(&part)).await?;
            }
        }
        Ok(())
    }

    /// Lands what has been taken out on one shard.
    pub(super) async fn land_marked(&self, from: &Slot, to: &Slot) -> Result<u64> {
        let marks = all_documents(from, groups::MARKS).await?;
        if !marks.is_empty() {
            self.see_clocks(from, to).await?;
        }
        let mut landed = 0;
        for mark in marks {
            landed += self.step_runs(from, to, decode::<Mark>(&mark.body)?.carry).await?;
        }
        Ok(landed)
    }

    /// Groups that have been taken out on a shard, and have not been seen to land.
    pub(super) async fn marks_on(&self, slot: &Slot) -> Result<u64> {
        let page = slot.call(PATIENT, |store| async move { store.documents(groups::MARKS, None, PAGE).await }).await?;
        Ok(page.len() as u64)
    }

    /// Lands what is on its way from where something was born, or from where that goes; whether there is such
    /// a way: what was not found may have landed in between, and be found by another look.
    pub(super) async fn land_what_is_on_its_way(&self, born: Shard) -> Result<bool> {
        let places = match self.places(born) {
            Ok(places) => places,
            // What was never there is simply not known.
            Err(StoreError::Refused(_)) => return Ok(false),
            Err(error) => return Err(error),
        };
        for way in places.windows(2) {
            if let [from, to] = way {
                self.land_marked(from, to).await?;
            }
        }
        Ok(places.len() > 1)
    }

    /// Which of these runs have not left a shard, or have not landed on the other.
    pub(super) async fn runs_to_wait_for(
        &self,
        from: &Slot,
        to: &Slot,
        runs: BTreeSet<RunId>,
    ) -> Result<BTreeSet<RunId>> {
        let mut waits = BTreeSet::new();
        let mut any_on_its_way = false;
        for run in runs {
            let is_here = from.call(PATIENT, |store| async move { store.run(run).await }).await?.is_some();
            if is_here {
                waits.insert(run);
                continue;
            }
            let is_there = to.call(PATIENT, |store| async move { store.run(run).await }).await?.is_some();
            if is_there {
                continue;
            }
            // On its way; else it is not kept any more, and nobody waits for its steps. That nothing is on its
            // way may be over by the next one.
            if !any_on_its_way {
                any_on_its_way = self.marks_on(from).await? > 0;
            }
            if any_on_its_way {
                waits.insert(run);
            }
        }
        Ok(waits)
    }

    /// Before a shard goes: copies that somebody has made too late, and parts of copies that were cut.
    pub(super) async fn sweep_runs(&self, from: &Slot, to: &Slot) -> Result<()> {
        for document in all_documents(to, &groups::copies(from.id)).await? {
            if let Some(carry) = groups::carry_of(&document.name) {
                self.step_runs(from, to, carry).await?;
            }
        }
        // Where no run is any more none can be taken out, and so a copy that is being written never counts.
        if !self.all_runs(from).await?.is_empty() {
            return Ok(());
        }
        if self.marks_on(from).await? > 0 || !all_documents(to, &groups::copies(from.id)).await?.is_empty() {
            return Ok(());
        }
        for part in all_documents(to, &groups::parts(from.id)).await? {
            change(to, &without(&part)).await?;
        }
        Ok(())
    }
}

/// Two states, as numbers: that of the copy, and any other.
const SAME: u64 = 1;
const OTHER: u64 = 0;
