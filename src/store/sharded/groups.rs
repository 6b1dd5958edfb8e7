//! Which runs go over together, and what is said of them on their way. A run that another has called goes
//! with that one, because what they tell each other is one commit on one shard; and those that have one
//! concurrency key go together, because their gate counts on one shard. Pure, but for the words.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::transit::Carry;
use crate::domain::{JobId, Ms, RunId};
use crate::store::contract::{RunRecord, SeenRun};
use crate::workflow::Run;

/// Runs that go over in one step, and what that takes up, at most: it is one script, or one transaction.
pub const RUNS: usize = 1_000;
pub const ITEMS: usize = 100_000;
pub const BYTES: usize = 32 << 20;
/// Runs that have ended and go together though nothing ties them.
const BUNDLE: usize = 50;

/// Jobs that go over together: those that wait for others, each given with these, and those they wait for.
pub fn families(held: &[(JobId, Vec<JobId>)]) -> Vec<Vec<JobId>> {
    let mut of: BTreeMap<JobId, usize> = BTreeMap::new();
    let mut families: Vec<Vec<JobId>> = Vec::new();
    for (child, parents) in held {
        let mut own = families.len();
        families.push(Vec::new());
        for id in parents.iter().chain([child]) {
            match of.get(id).copied() {
                Some(known) if known == own => {}
                Some(known) => {
                    // The smaller one joins the larger one, so that a long chain costs no more than a short one.
                    let (into, gone) =
                        if families[known].len() < families[own].len() { (own, known) } else { (known, own) };
                    let joins = std::mem::take(&mut families[gone]);
                    of.extend(joins.iter().map(|id| (*id, into)));
                    families[into].extend(joins);
                    own = into;
                }
                None => {
                    of.insert(*id, own);
                    families[own].push(*id);
                }
            }
        }
    }
    families.retain(|family| !family.is_empty());
    families
}

/// Runs that go over together.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// By id: the first one names the group.
    pub runs: Vec<RunId>,
    /// Of which revision what follows is.
    pub revs: BTreeMap<RunId, u64>,
    /// The jobs that their headers name.
    pub jobs: Vec<JobId>,
    /// Steps, by run, that a job undoes of which a header may not tell.
    pub undos: Vec<(RunId, String)>,
    /// One of them cannot be read, or they are too many.
    pub stuck: bool,
    /// One of them has not ended.
    pub lives: bool,
}

/// Those that have ended go several groups at a time, as long as they are few: nothing happens to them any more.
pub fn bundles(groups: Vec<Group>) -> Vec<Vec<Group>> {
    let mut bundles: Vec<Vec<Group>> = Vec::new();
    for group in groups {
        let fits = |last: &Vec<Group>| {
            let runs: usize = last.iter().map(|one| one.runs.len()).sum();
            runs + group.runs.len() <= BUNDLE && last.iter().chain([&group]).all(|one| !one.lives && !one.stuck)
        };
        match bundles.last_mut().filter(|last| fits(last)) {
            Some(last) => last.push(group),
            None => bundles.push(vec![group]),
        }
    }
    bundles
}

/// Several groups as one.
pub fn together(groups: &[Group]) -> Group {
    let mut all = Group::default();
    for group in groups {
        all.runs.extend(&group.runs);
        all.revs.extend(&group.revs);
        all.jobs.extend(&group.jobs);
        all.undos.extend(group.undos.iter().cloned());
        (all.stuck, all.lives) = (all.stuck | group.stuck, all.lives | group.lives);
    }
    all
}

/// Puts runs together, in the order of their births. `gates`: where those stand whose headers cannot be read.
pub fn groups(records: &[RunRecord], gates: &BTreeMap<RunId, String>) -> Vec<Group> {
    let headers: Vec<Option<Run>> = records.iter().map(|record| record.header().ok()).collect();
    let places: BTreeMap<RunId, usize> = records.iter().enumerate().map(|(at, record)| (record.id, at)).collect();
    let mut heads: Vec<usize> = (0..records.len()).collect();
    fn head(heads: &mut [usize], mut at: usize) -> usize {
        while heads[at] != at {
            heads[at] = heads[heads[at]];
            at = heads[at];
        }
        at
    }
    let mut keys: BTreeMap<String, usize> = BTreeMap::new();
    for (at, header) in headers.iter().enumerate() {
        let above = header.as_ref().and_then(|header| places.get(&header.parent.as_ref()?.run)).copied();
        let key = match header {
            Some(header) => header.gate_key().filter(|_| !header.state.is_terminal()),
            None => gates.get(&records[at].id).cloned(),
        };
        let beside = key.map(|key| *keys.entry(key).or_insert(at));
        for other in above.into_iter().chain(beside) {
            let (a, b) = (head(&mut heads, at), head(&mut heads, other));
            heads[a] = b;
        }
    }
    let mut groups: BTreeMap<usize, Group> = BTreeMap::new();
    for (at, header) in headers.iter().enumerate() {
        let group = groups.entry(head(&mut heads, at)).or_default();
        group.runs.push(records[at].id);
        group.revs.insert(records[at].id, records[at].rev);
        match header {
            Some(run) => {
                group.lives |= !run.state.is_terminal();
                group.jobs.extend(run.jobs());
                group.undos.extend(run.unnamed_undo().map(|step| (run.id, step.to_owned())));
            }
            None => group.stuck = true,
        }
    }
    let mut groups: Vec<Group> = groups.into_values().collect();
    for group in &mut groups {
        group.runs.sort();
        group.stuck |= group.runs.len() > RUNS;
    }
    groups.sort_by(|a, b| a.runs.cmp(&b.runs));
    groups
}

/// A copy where it goes: a document. What it is a copy of lies in so many parts beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copy {
    pub runs: Vec<SeenRun>,
    /// The mark that was there before it, with the revision by which the runs may be taken out.
    pub mark: Mark,
    pub rev: u64,
}

/// What a carrying has where the runs are: a document. Without it nobody can take them out, so that deleting it
/// is how a carrying is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    pub carry: Carry,
    pub parts: u32,
    /// When the carrying began, by the clock of the shard that it is kept on.
    pub at: Ms,
    /// Written in the step that took the runs out: from then on the copy counts.
    pub taken: bool,
}

/// Names of marks begin so.
pub const MARKS: &str = "goflow:moved/";

pub fn mark(Carry(number): Carry) -> String {
    format!("{MARKS}{number:016x}")
}

/// How the names of copies begin that come from this shard.
pub fn copies(origin: u16) -> String {
    format!("goflow:runs.{origin}/")
}

pub fn copy(origin: u16, Carry(number): Carry) -> String {
    format!("{}{number:016x}", copies(origin))
}

/// The number in the name of a mark or a copy.
pub fn carry_of(name: &str) -> Option<Carry> {
    let (_, number) = name.rsplit_once('/')?;
    u64::from_str_radix(number, 16).ok().map(Carry)
}

/// How the names of parts begin that come from this shard.
pub fn parts(origin: u16) -> String {
    format!("goflow:parts.{origin}/")
}

pub fn part(origin: u16, Carry(number): Carry, nth: u32) -> String {
    format!("{}{number:016x}/{nth:04}", parts(origin))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Json, Ms, Name, RunState, Shard};
    use crate::workflow::Slot;
    use crate::workflow::run::Parent;

    fn run(nth: u64, parent: Option<u64>, key: Option<&str>) -> Run {
        let id = |nth| RunId::from_parts(Ms(1_770_000_000_000), Shard(1), nth);
        let mut run = Run::pending(id(nth), Name::literal("order"), "v".into(), Slot::Inline(Json::null()), Ms(5));
        run.parent = parent.map(|nth| Parent { run: id(nth), step: "call".into(), depth: 1 });
        run.key = key.map(str::to_owned);
        run
    }

    #[test]
    fn families_and_those_of_one_key_go_together() {
        let runs = [
            run(1, None, None),
            run(2, Some(1), Some("a")),
            run(3, None, Some("a")),
            run(4, Some(3), None),
            run(5, None, Some("b")),
            run(6, Some(99), None),
            Run { state: RunState::Completed, ..run(7, None, Some("b")) },
        ];
        let mut records: Vec<RunRecord> = runs.iter().map(|run| RunRecord::of(run).expect("a record")).collect();
        records.reverse();
        let ids = |nths: &[usize]| nths.iter().map(|nth| runs[*nth].id).collect::<Vec<_>>();
        let found: Vec<Vec<RunId>> = groups(&records, &BTreeMap::new()).into_iter().map(|group| group.runs).collect();
        assert_eq!(found, [ids(&[0, 1, 2, 3]), ids(&[4]), ids(&[5]), ids(&[6])]);
        // What cannot be read keeps what is known to belong to it.
        records[6].body = vec![0xc1];
        let stuck = |records: &[RunRecord], gates: &BTreeMap<RunId, String>| -> Vec<bool> {
            groups(records, gates).into_iter().map(|group| group.stuck).collect()
        };
        assert_eq!(stuck(&records, &BTreeMap::new()), [true, false, false, false]);
        // Nor can those go without it that stand at its gate.
        (records[6].body, records[2].body) = (RunRecord::of(&runs[0]).expect("a record").body, vec![0xc1]);
        let gate = runs[1].gate_key().expect("a gate");
        assert_eq!(stuck(&records, &BTreeMap::new()), [false, true, false, false]);
        let gates = BTreeMap::from([(runs[4].id, gate)]);
        assert_eq!(stuck(&records, &gates), [true, false, false]);
    }

    #[test]
    fn jobs_go_with_those_they_wait_for() {
        let id = |nth| JobId::from_parts(Ms(1_770_000_000_000), Shard(1), nth);
        let held: Vec<(JobId, Vec<JobId>)> =
            [(3, vec![1, 2]), (5, vec![4]), (6, vec![4, 7]), (8, vec![5, 3]), (9, vec![10])]
                .into_iter()
                .map(|(child, parents): (u64, Vec<u64>)| (id(child), parents.into_iter().map(id).collect()))
                .collect();
        let mut found: Vec<Vec<JobId>> = families(&held);
        found.iter_mut().for_each(|family| family.sort());
        found.sort();
        let ids = |nths: &[u64]| nths.iter().map(|nth| id(*nth)).collect::<Vec<_>>();
        assert_eq!(found, [ids(&[1, 2, 3, 4, 5, 6, 7, 8]), ids(&[9, 10])]);
    }

    #[test]
    fn what_has_ended_goes_in_bundles() {
        let over = |nth| Run { state: RunState::Completed, ..run(nth, None, None) };
        let mut runs: Vec<Run> = (0..70).map(over).collect();
        runs.push(run(70, None, None));
        runs.extend((71..75).map(over));
        let records: Vec<RunRecord> = runs.iter().map(|run| RunRecord::of(run).expect("a record")).collect();
        let bundles = bundles(groups(&records, &BTreeMap::new()));
        assert_eq!(bundles.iter().map(Vec::len).collect::<Vec<_>>(), [50, 20, 1, 4]);
        let all = together(&bundles[0]);
        assert_eq!((all.runs.len(), all.lives, all.stuck), (50, false, false));
        assert!(together(&bundles[2]).lives);
    }

    #[test]
    fn names_tell_their_number() {
        let carry = Carry(0xfeed);
        assert_eq!([carry_of(&mark(carry)), carry_of(&copy(7, carry))], [Some(carry); 2]);
        assert!(part(7, carry, 3).starts_with(&parts(7)) && copy(7, carry).starts_with(&copies(7)));
        assert!(!copy(71, carry).starts_with(&copies(7)));
    }
}
