//! Copies of runs on their way from one shard to another, and the marks they have where they come from: every
//! step of one, whoever has made it, and its end if it was cut or is not let go. Which runs go together, and what
//! becomes of their steps, is not known here: see `runs`.

use std::time::Duration;

use super::groups::{self, Copy, Mark};
use super::runs::whole;
use super::shard::Slot;
use super::transit::{self, Carry, Seen, Step};
use super::{Inner, PATIENT};
use crate::domain::limits;
use crate::store::codec::{decode, encode};
use crate::store::contract::*;

/// Steps that one copy gets: three, and some that others have come before.
const ROUNDS: usize = 8;
/// Documents looked at in one call.
const PAGE: usize = 200;
/// A large group takes longer than a look.
pub(super) const LARGE: Duration = Duration::from_secs(60);
/// Whoever has not taken runs out by then was cut, or will begin again.
const CUT: Duration = Duration::from_secs(120);

/// What a look at a copy has led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Came {
    Landed(u64),
    /// The runs have changed, or gone another way.
    Nothing,
    /// They have not changed, and were not given.
    Refused,
}

impl Came {
    pub(super) fn landed(self) -> u64 {
        match self {
            Came::Landed(runs) => runs,
            Came::Nothing | Came::Refused => 0,
        }
    }
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

async fn keep_new(slot: &Slot, name: String, body: Vec<u8>) -> Result<u64> {
    let new = &DocumentChange { name, from_rev: 0, body: Some(body), keep: None };
    match slot.call(PATIENT, |store| async move { store.set_document(new).await }).await? {
        DocumentSet::Done(rev) => Ok(rev),
        DocumentSet::Changed(_) => Err(StoreError::Corrupt(format!("there is a document {} already", new.name))),
    }
}

/// The documents whose names begin so.
pub(super) async fn all_documents(slot: &Slot, prefix: &str) -> Result<Vec<Document>> {
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

/// Runs as their copy keeps them.
pub(super) struct Packed {
    seen: Vec<SeenRun>,
    bytes: Vec<u8>,
}

impl Packed {
    /// Nothing if they are too large.
    pub(super) fn of(mut runs: Vec<WholeRun>) -> Result<Option<Packed>> {
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
    /// Makes the mark of runs, and writes their copy.
    pub(super) async fn copy_runs(&self, from: &Slot, to: &Slot, packed: Packed) -> Result<Carry> {
        let Packed { seen, bytes } = packed;
        let carry = Carry(self.options.entropy.next());
        let parts: Vec<&[u8]> = bytes.chunks(limits::DOCUMENT_BYTES).collect();
        let many = u32::try_from(parts.len()).map_err(|_| StoreError::Refused("a copy of too many parts".into()))?;
        let mark = Mark { carry, parts: many, at: from.to_theirs(self.now()), taken: false };
        let rev = keep_new(from, groups::mark(carry), encode(&mark)?).await?;
        for (nth, part) in (0..).zip(parts) {
            keep_new(to, groups::part(from.id, carry, nth), part.to_vec()).await?;
        }
        let copy = encode(&Copy { runs: seen, mark, rev })?;
        keep_new(to, groups::copy(from.id, carry), copy).await?;
        Ok(carry)
    }

    /// What is seen of a copy where its runs were: that they were taken out, or whether they still are as they were
    /// copied; `look` says whether to look, or to take it as so. Without its mark a copy is of nothing.
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
        let Some(found) = document(from, &groups::mark(carry)).await? else { return Ok((Seen::Nothing, None)) };
        let seen = match decode::<Mark>(&found.body)?.taken {
            true => Seen::Left(carry),
            false if !any => Seen::Nothing,
            false => Seen::Itself(Some(if as_copied { SAME } else { OTHER })),
        };
        Ok((seen, Some(found)))
    }

    /// Takes every step that a copy needs, whoever has made it.
    pub(super) async fn step_runs(&self, from: &Slot, to: &Slot, carry: Carry) -> Result<Came> {
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
                (Step::SetAside(_), Some(head), Some(copy), Some(mark)) if refused => {
                    let is_given_up = self.discard(from, to, Some(mark), &head, copy.mark).await?;
                    if is_given_up {
                        return Ok(Came::Refused);
                    }
                }
                (Step::SetAside(_), Some(_), Some(copy), _) => {
                    let body = encode(&Mark { taken: true, ..copy.mark })?;
                    let take = TakeRuns { runs: copy.runs, mark: groups::mark(carry), from_rev: copy.rev, body };
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
                (Step::Discard, Some(head), Some(copy), mark) => {
                    self.discard(from, to, mark, &head, copy.mark).await?;
                }
                (Step::Leave, _, _, Some(mark)) => {
                    let Mark { parts, .. } = decode(&mark.body)?;
                    self.drop_parts(from, to, carry, parts).await?;
                    change(from, &without(&mark)).await?;
                }
                (Step::Rest, ..) => break,
                // Not all of it was seen: another look.
                _ => {}
            }
        }
        Ok(if landed > 0 { Came::Landed(landed) } else { Came::Nothing })
    }

    /// Gives a copy up: whether it was nobody's else. Once its mark is gone it never counts; the head goes last, so
    /// that what is cut in between is found again.
    async fn discard(
        &self,
        from: &Slot,
        to: &Slot,
        mark: Option<Document>,
        head: &Document,
        Mark { carry, parts, .. }: Mark,
    ) -> Result<bool> {
        if let Some(mark) = mark
            && !change(from, &without(&mark)).await?
        {
            return Ok(false);
        }
        self.drop_parts(from, to, carry, parts).await?;
        change(to, &without(head)).await
    }

    /// What was begun long ago is gone on with, if its copy is whole, else given up.
    pub(super) async fn end_what_was_cut(&self, from: &Slot, to: &Slot) -> Result<()> {
        let now = from.to_theirs(self.now());
        for document in all_documents(from, groups::MARKS).await? {
            let Mark { carry, parts, at, taken } = decode(&document.body)?;
            if taken || now.since(at) < CUT {
                continue;
            }
            if self::document(to, &groups::copy(from.id, carry)).await?.is_some() {
                self.step_runs(from, to, carry).await?;
            } else if change(from, &without(&document)).await? {
                // Whoever is still at it writes a copy that never counts.
                self.drop_parts(from, to, carry, parts).await?;
            }
        }
        Ok(())
    }

    /// The runs of a copy, by the other shard's clock; nothing if they have landed in between.
    async fn read_parts(&self, from: &Slot, to: &Slot, carry: Carry, copy: &Copy) -> Result<Option<Vec<WholeRun>>> {
        let mut bytes = Vec::new();
        for nth in 0..copy.mark.parts {
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
        let taken = taken_out(from).await?;
        if !taken.is_empty() {
            self.see_clocks(from, to).await?;
        }
        let mut landed = 0;
        for carry in taken {
            landed += self.step_runs(from, to, carry).await?.landed();
        }
        Ok(landed)
    }

    /// Groups that have been taken out on a shard, and have not been seen to land.
    pub(super) async fn marks_on(&self, slot: &Slot) -> Result<u64> {
        Ok(taken_out(slot).await?.len() as u64)
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

async fn taken_out(slot: &Slot) -> Result<Vec<Carry>> {
    let mut taken = Vec::new();
    for document in all_documents(slot, groups::MARKS).await? {
        let mark: Mark = decode(&document.body)?;
        taken.extend(mark.taken.then_some(mark.carry));
    }
    Ok(taken)
}

/// Two states, as numbers: that of the copy, and any other.
const SAME: u64 = 1;
const OTHER: u64 = 0;
