//! How a job or a schedule looks while it is on its way from one shard to another: the *copy* where it
//! goes, and what is *left* of it where it was. Both are due in a far year, so that nobody runs them, and
//! both bear the number of their carrying. Pure: what is to be done next is decided from the two alone.

use serde::{Deserialize, Serialize};

use crate::domain::{Job, JobId, Ms, Place, RunId, To};
use crate::store::codec::{decode, encode};
use crate::store::contract::{NewJob, Result, ScheduleRecord, Start, Stored};
use std::time::Duration;

/// When something on its way is due: in the year 9892.
pub const FAR: Ms = Ms(250_000_000_000_000);
/// Where a job was, in the metadata of both.
const WAS: &str = "goflow:was";
/// Which side it is, and of which carrying.
const CARRY: &str = "goflow:carry";
/// What must not count meanwhile: a unique key that the job does not hold, parents that have ended.
const KEY: &str = "goflow:key";
const AFTER: &str = "goflow:after";
/// How far apart the revisions of copies are.
const APART: u64 = 0xf_ffff;

/// The number of one carrying.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carry(pub u64);

/// One of the two sides of something on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Side {
    /// Where it goes: from which shard, and of which revision it is.
    Copy { carry: Carry, origin: u16, of: u64 },
    /// Where it was.
    Left(Carry),
}

impl Side {
    fn write(self) -> String {
        match self {
            Side::Copy { carry: Carry(number), origin, of } => format!("copy {number} {origin} {of}"),
            Side::Left(Carry(number)) => format!("left {number}"),
        }
    }

    fn read(text: &str) -> Option<Side> {
        let words: Vec<&str> = text.split(' ').collect();
        match words.as_slice() {
            ["copy", number, origin, of] => {
                let carry = Carry(number.parse().ok()?);
                Some(Side::Copy { carry, origin: origin.parse().ok()?, of: of.parse().ok()? })
            }
            ["left", number] => Some(Side::Left(Carry(number.parse().ok()?))),
            _ => None,
        }
    }
}

/// Which side of a carrying this is, if it is on its way.
pub fn side(stored: &Stored) -> Option<Side> {
    if stored.place != Place::Scheduled {
        return None;
    }
    Side::read(stored.job.metadata.get(CARRY)?)
}

/// What is left of a job that is set aside: its next revision.
pub fn left(stored: &Stored, carry: Carry, holds_key: bool) -> Job {
    let mut job = marked(stored, Side::Left(carry), holds_key);
    job.rev += 1;
    job
}

/// The copy of a job. `rest`: for how long it holds its unique key at least.
pub fn copy(stored: &Stored, carry: Carry, origin: u16, holds_key: bool, rest: Option<Duration>) -> NewJob {
    let of = u64::from(stored.job.rev);
    let mut job = marked(stored, Side::Copy { carry, origin, of }, holds_key);
    // A right to move one carrying's copy is none to move another's.
    job.rev += 2 + (carry.0 & APART) as u32;
    let unique_for = rest.filter(|rest| job.unique_key.is_some() && !rest.is_zero());
    NewJob { job, start: Start::At(FAR), unique_for }
}

fn marked(stored: &Stored, side: Side, holds_key: bool) -> Job {
    let mut job = stored.job.clone();
    job.metadata.insert(WAS.to_owned(), format!("{} {}", char::from(stored.place.code()), stored.at.0));
    job.metadata.insert(CARRY.to_owned(), side.write());
    // What has ended holds no unique key, and must not take one.
    if stored.place.state().is_terminal()
        && !holds_key
        && let Some(key) = job.unique_key.take()
    {
        job.metadata.insert(KEY.to_owned(), key);
    }
    if !job.after.is_empty() {
        let parents = std::mem::take(&mut job.after);
        let text: Vec<String> = parents.iter().map(JobId::to_string).collect();
        job.metadata.insert(AFTER.to_owned(), text.join(" "));
    }
    job
}

/// Where a side was, and the job without its marks, with the revision of the side.
pub fn unmarked(side: &Job) -> Option<(Place, Ms, Job)> {
    let mut job = side.clone();
    let was = job.metadata.remove(WAS)?;
    job.metadata.remove(CARRY)?;
    let (code, at) = was.split_once(' ')?;
    let place = Place::from_code(*code.as_bytes().first()?)?;
    if let Some(key) = job.metadata.remove(KEY) {
        job.unique_key = Some(key);
    }
    if let Some(parents) = job.metadata.remove(AFTER) {
        job.after = parents.split(' ').filter_map(|parent| parent.parse().ok()).collect();
    }
    Some((place, Ms(at.parse().ok()?), job))
}

/// Whether it is a copy on its way here.
pub fn is_copy(stored: &Stored) -> bool {
    matches!(side(stored), Some(Side::Copy { .. }))
}

/// What those see who look at what is left: the job as it was, with a revision by which nobody can move it.
pub fn as_it_was(stored: Stored) -> Stored {
    match unmarked(&stored.job) {
        Some((place, at, mut job)) => {
            job.rev = job.rev.saturating_sub(1);
            Stored { job, place, at, ..stored }
        }
        None => stored,
    }
}

/// Where a place leads that was left at a moment of our clock.
pub fn way(place: Place, at: Ms, now: Ms) -> To {
    match place {
        Place::Scheduled => To::Scheduled(at.since(now)),
        Place::Retrying => To::Retrying(at.since(now)),
        Place::Suspect => To::Suspect,
        Place::Parked => To::Parked,
        Place::Held => To::Held,
        Place::Dead => To::Dead,
        Place::Completed => To::Completed,
        Place::Cancelled => To::Cancelled,
        // What a key has blocked waits in line until it is blocked there.
        Place::Pending | Place::Blocked | Place::Running => To::Pending,
    }
}

/// The next step of a carrying.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The job is set aside where it was, by the right of its revision: from now on the copy counts.
    SetAside(Carry),
    /// The copy becomes the job.
    Land,
    /// The copy is of a job that has changed, or is gone: away with it.
    Discard,
    /// The job is there: what is left of it goes.
    Leave,
    /// Nothing is to be done.
    Rest,
}

/// What is known of a record on one shard: nothing, itself with its revision (`None`: nobody may set it
/// aside now), or a side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    Nothing,
    Itself(Option<u64>),
    /// The copy, and the revision of which it is.
    Copy(Carry, u64),
    Left(Carry),
}

/// Decides the next step from what is seen where it was (first) and where it goes (afterwards).
///
/// A copy is discarded only when it can never again be the job: then its revision is not the job's any
/// more, and what is left of the job, if anything is, is of another carrying. What is left without its copy
/// has landed, because the copy was made before.
pub fn next(here: Seen, there: Seen) -> Step {
    match (here, there) {
        (Seen::Itself(Some(rev)), Seen::Copy(carry, of)) if rev == of => Step::SetAside(carry),
        (Seen::Left(carry), Seen::Copy(copied, _)) if carry == copied => Step::Land,
        (_, Seen::Copy(..)) => Step::Discard,
        (Seen::Left(_), _) => Step::Leave,
        _ => Step::Rest,
    }
}

/// What a look at a job of one shard says; `from` is where the carrying began.
pub fn seen(stored: Option<&Stored>, from: u16) -> Seen {
    let Some(stored) = stored else { return Seen::Nothing };
    match side(stored) {
        // A copy that is to come here from elsewhere is nobody's to carry on.
        Some(Side::Copy { carry, origin, of }) if origin == from => Seen::Copy(carry, of),
        Some(Side::Copy { .. }) => Seen::Itself(None),
        Some(Side::Left(carry)) => Seen::Left(carry),
        None => Seen::Itself(stored.lease.is_none().then_some(u64::from(stored.job.rev))),
    }
}

/// Whether a side is of a step whose run has to be there before it: one that has not ended.
pub fn waits_for_run(side: &Job) -> Option<RunId> {
    let link = side.link.as_ref()?;
    let (place, ..) = unmarked(side)?;
    (!place.state().is_terminal()).then_some(link.run)
}

/// A schedule on its way, in the body of its record. The bodies of others never begin like it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MovingSchedule {
    pub side: Side,
    /// By the clock of the shard where it was.
    pub due: Option<Ms>,
    pub body: Vec<u8>,
}

const MOVING: &[u8] = b"goflow:moving\0";

impl MovingSchedule {
    /// # Errors
    /// [`crate::store::StoreError::Corrupt`] if it cannot be written.
    pub fn write(&self) -> Result<Vec<u8>> {
        Ok([MOVING, &encode(self)?].concat())
    }

    /// Of a record that is on its way.
    ///
    /// # Errors
    /// [`crate::store::StoreError::Corrupt`] for one that cannot be read.
    pub fn read(record: &ScheduleRecord) -> Result<Option<MovingSchedule>> {
        record.body.strip_prefix(MOVING).map(decode).transpose()
    }
}

/// What a look at a schedule of one shard says.
///
/// # Errors
/// [`crate::store::StoreError::Corrupt`] for one that cannot be read.
pub fn seen_schedule(record: Option<&ScheduleRecord>, from: u16) -> Result<Seen> {
    let Some(record) = record else { return Ok(Seen::Nothing) };
    Ok(match MovingSchedule::read(record)? {
        Some(MovingSchedule { side: Side::Copy { carry, origin, of }, .. }) if origin == from => Seen::Copy(carry, of),
        Some(MovingSchedule { side: Side::Copy { .. }, .. }) => Seen::Itself(None),
        Some(MovingSchedule { side: Side::Left(carry), .. }) => Seen::Left(carry),
        None => Seen::Itself(Some(record.rev)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Json, Shard};

    fn dead() -> Stored {
        let id = JobId::from_parts(Ms(1_770_000_000_000), Shard(1), 7);
        let mut job = Job::new(id, "mail".parse().expect("a name"), "q".parse().expect("a name"), Json::null());
        (job.rev, job.unique_key, job.after) = (4, Some("k".into()), vec![id]);
        Stored::idle(job, Place::Dead, Ms(5))
    }

    #[test]
    fn a_side_comes_back_as_the_job_it_was() {
        let was = dead();
        for holds_key in [true, false] {
            let NewJob { job, .. } = copy(&was, Carry(9), 1, holds_key, None);
            assert_eq!((job.unique_key.is_some(), job.after.is_empty()), (holds_key, true));
            assert_eq!(
                side(&Stored::idle(job, Place::Scheduled, FAR)),
                Some(Side::Copy { carry: Carry(9), origin: 1, of: 4 })
            );
            let aside = Stored::idle(left(&was, Carry(9), holds_key), Place::Scheduled, FAR);
            assert_eq!(side(&aside), Some(Side::Left(Carry(9))));
            let seen = as_it_was(aside.clone());
            assert_eq!((&seen.job, seen.place, seen.at), (&was.job, was.place, was.at));
            let (.., landed) = unmarked(&aside.job).expect("a side");
            assert_eq!(landed, Job { rev: 5, ..was.job.clone() });
        }
    }

    /// Plays every order in which two carriers, a worker and somebody who deletes can act, and holds that
    /// the job is never there twice and never comes back.
    #[test]
    fn no_order_of_steps_makes_a_second_job() {
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        struct World {
            here: Option<(bool, u64, u64)>,
            there: Option<(bool, u64)>,
            /// What each carrier has seen last.
            views: [Option<(Seen2, Seen2)>; 2],
            lives: u8,
            copies_left: [bool; 2],
            changes: u8,
            landed: u8,
        }
        type Seen2 = (u8, u64, u64);
        let as_seen = |(kind, a, b): Seen2| match kind {
            0 => Seen::Nothing,
            1 => Seen::Itself(Some(a)),
            2 => Seen::Copy(Carry(a), b),
            3 => Seen::Left(Carry(a)),
            _ => Seen::Itself(None),
        };
        // `here`: (set aside, revision, carry). `there`: (is a copy, carry); copies are of revision `100 + carry`.
        let start = World {
            here: Some((false, 1, 0)),
            there: None,
            views: [None, None],
            lives: 1,
            copies_left: [true, true],
            changes: 0,
            landed: 0,
        };
        // The revision of which each carrier makes its copy is what it saw when it began.
        let mut queue = vec![(start, [1u64, 1u64])];
        let mut known = std::collections::BTreeSet::new();
        let mut count = 0;
        while let Some((world, revs)) = queue.pop() {
            if !known.insert((world.clone(), revs)) {
                continue;
            }
            count += 1;
            let jobs =
                u8::from(matches!(world.here, Some((false, ..)))) + u8::from(matches!(world.there, Some((false, _))));
            assert!(jobs <= 1, "there twice: {world:?}");
            assert!(world.landed <= 1, "landed twice: {world:?}");
            let mut push = |world: World, revs| queue.push((world, revs));
            for who in 0..2 {
                // Makes its copy, however late.
                if world.copies_left[who] && world.there.is_none() {
                    let mut next = world.clone();
                    next.copies_left[who] = false;
                    next.there = Some((true, who as u64));
                    push(next, revs);
                }
                // Looks here, and then there: in two steps that others may come between.
                {
                    let mut next = world.clone();
                    let here = match world.here {
                        None => (0, 0, 0),
                        Some((false, rev, _)) => (1, rev, 0),
                        Some((true, _, carry)) => (3, carry, 0),
                    };
                    next.views[who] = Some((here, (9, 0, 0)));
                    push(next, revs);
                }
                if let Some((here, (9, ..))) = world.views[who] {
                    let mut next = world.clone();
                    let there = match world.there {
                        None => (0, 0, 0),
                        Some((true, carry)) => (2, carry, revs[carry as usize]),
                        Some((false, _)) => (4, 0, 0),
                    };
                    next.views[who] = Some((here, there));
                    push(next, revs);
                }
                // Does what it decided, however late.
                if let Some((here, there)) = world.views[who].filter(|(_, there)| there.0 != 9) {
                    let mut next = world.clone();
                    next.views[who] = None;
                    match (super::next(as_seen(here), as_seen(there)), here.1, there.1) {
                        (Step::SetAside(Carry(carry)), rev, _) if world.here == Some((false, rev, 0)) => {
                            next.here = Some((true, rev + 1, carry));
                        }
                        (Step::Land, _, carry) if world.there == Some((true, carry)) => {
                            (next.there, next.landed) = (Some((false, carry)), world.landed + 1);
                        }
                        (Step::Discard, _, carry) if world.there == Some((true, carry)) => next.there = None,
                        (Step::Leave, carry, _) if world.here.is_some_and(|(aside, _, by)| aside && by == carry) => {
                            next.here = None;
                        }
                        _ => {}
                    }
                    push(next, revs);
                }
            }
            if world.changes < 2 {
                // A worker settles it where it is, or somebody deletes it.
                if let Some((false, rev, _)) = world.here {
                    push(World { here: Some((false, rev + 1, 0)), changes: world.changes + 1, ..world.clone() }, revs);
                    push(World { here: None, changes: world.changes + 1, lives: 0, ..world.clone() }, revs);
                }
                if let Some((false, _)) = world.there {
                    push(World { there: None, changes: world.changes + 1, lives: 0, ..world.clone() }, revs);
                }
            }
            // It is never lost: it is somewhere, as long as nobody has deleted it.
            let aside =
                matches!(world.here, Some((true, _, carry)) if world.landed > 0 || world.there == Some((true, carry)));
            assert!(world.lives == 0 || jobs == 1 || aside, "lost: {world:?}");
            if world.lives == 0 {
                assert_eq!(jobs, 0, "it came back: {world:?}");
            }
        }
        assert!(count > 1_000, "{count} worlds");
    }

    /// What two carriers of runs, a worker, and somebody who deletes can do, in every order. Unlike a job's,
    /// a copy of runs is a document of its own for each carrying; it says of which state it is, and each carrier
    /// makes its copy of the state that it saw when it began.
    #[test]
    fn no_order_of_steps_makes_second_runs() {
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        enum Phase {
            /// It has not begun.
            Idle,
            /// It has seen this state of the runs.
            Read(u64),
            /// It steps.
            Steps,
        }
        /// What is in a carrier's hands: the copy that it looks at, whether that was there with which state, and
        /// what was seen at home afterwards.
        type Hand = Option<(usize, Option<u64>, Option<Home>, bool)>;
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        enum Home {
            State(u64),
            Mark,
            Nothing,
        }
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
        struct World {
            /// The runs where they are; their state counts up.
            here: Option<u64>,
            marks: [bool; 2],
            copies: [Option<u64>; 2],
            /// The runs where they go, and of which state they were.
            there: Option<u64>,
            phases: [Phase; 2],
            hands: [Hand; 2],
            state: u64,
            lives: bool,
            landed: u8,
        }
        let start = World {
            here: Some(1),
            marks: [false; 2],
            copies: [None; 2],
            there: None,
            phases: [Phase::Idle; 2],
            hands: [None; 2],
            state: 1,
            lives: true,
            landed: 0,
        };
        let mut queue = vec![start];
        let mut known = std::collections::BTreeSet::new();
        let (mut both, mut discards) = (0, 0);
        while let Some(world) = queue.pop() {
            if !known.insert(world.clone()) {
                continue;
            }
            let places = u8::from(world.here.is_some()) + u8::from(world.there.is_some());
            assert!(places <= 1 && world.landed <= 1, "there twice: {world:?}");
            let on_its_way = (0..2).any(|c| world.marks[c] && world.copies[c] == Some(world.state));
            assert!(!world.lives || places == 1 || on_its_way, "lost: {world:?}");
            assert!(world.lives || places == 0, "it came back: {world:?}");
            both += u32::from(world.copies[0].is_some() && world.copies[1].is_some());
            // A worker moves the runs on, or they are trimmed, wherever they are.
            if world.state < 4 {
                let state = world.state + 1;
                if world.here.is_some() {
                    queue.push(World { here: Some(state), state, ..world.clone() });
                    queue.push(World { here: None, lives: false, ..world.clone() });
                }
                if world.there.is_some() {
                    queue.push(World { there: None, lives: false, ..world.clone() });
                }
            }
            for who in 0..2 {
                let mut next = world.clone();
                match world.phases[who] {
                    Phase::Idle => {
                        if let Some(state) = world.here {
                            next.phases[who] = Phase::Read(state);
                            queue.push(next);
                        }
                        continue;
                    }
                    Phase::Read(state) => {
                        (next.copies[who], next.phases[who]) = (Some(state), Phase::Steps);
                        queue.push(next);
                        continue;
                    }
                    Phase::Steps => {}
                }
                match world.hands[who] {
                    // Looks at a copy, its own or the other's.
                    None => {
                        for copy in 0..2 {
                            let mut next = world.clone();
                            next.hands[who] = Some((copy, world.copies[copy], None, false));
                            queue.push(next);
                        }
                    }
                    // Looks at home afterwards.
                    Some((copy, seen, None, again)) => {
                        let home = match world.here {
                            _ if world.marks[copy] => Home::Mark,
                            Some(state) => Home::State(state),
                            None => Home::Nothing,
                        };
                        next.hands[who] = Some((copy, seen, Some(home), again));
                        queue.push(next);
                    }
                    // A mark without its copy: looks at the copy once more.
                    Some((copy, None, Some(Home::Mark), false)) => {
                        next.hands[who] = Some((copy, world.copies[copy], Some(Home::Mark), true));
                        queue.push(next);
                    }
                    // Does what it decided, however late.
                    Some((copy, seen, Some(home), _)) => {
                        next.hands[who] = None;
                        let carry = Carry(copy as u64);
                        let here = match home {
                            Home::Mark => Seen::Left(carry),
                            Home::State(state) => Seen::Itself(Some(u64::from(Some(state) == seen))),
                            Home::Nothing => Seen::Nothing,
                        };
                        let there = if seen.is_some() { Seen::Copy(carry, 1) } else { Seen::Nothing };
                        match super::next(here, there) {
                            Step::SetAside(_) if world.here == seen && !world.marks[copy] => {
                                (next.here, next.marks[copy]) = (None, true);
                            }
                            Step::Land if world.copies[copy].is_some() => {
                                next.there = world.copies[copy];
                                (next.copies[copy], next.landed) = (None, world.landed + 1);
                            }
                            Step::Discard if world.copies[copy].is_some() => {
                                next.copies[copy] = None;
                                discards += 1;
                            }
                            Step::Leave => next.marks[copy] = false,
                            _ => {}
                        }
                        queue.push(next);
                    }
                }
            }
        }
        assert!(known.len() > 1_000 && both > 0 && discards > 0, "{} worlds, {both}, {discards}", known.len());
    }
}
