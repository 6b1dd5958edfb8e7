//! A command's process tree where there are no control groups: found again by walking `/proc`.
//! A process belongs to the tree if it descends from the leader, is in a session of the tree, was
//! seen to belong before, or carries the tree's mark in its environment. Knows nothing of jobs.
//!
//! What this cannot find: a process that opened a session of its own, wiped its environment and
//! lost its parent before anybody looked. If this process starts children through here alone, such
//! strays are known by having been adopted, and go when no other command is under way.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::Parentage;
use crate::sys::process::{self, Sight, Signal};
use crate::sys::procfs::{self, Process};

/// The tree below one leader, which must not have been reaped: as long as it is a zombie at least,
/// its number cannot become a stranger's.
#[derive(Debug)]
pub(super) struct Walk {
    leader: i32,
    /// `NAME=value` as it begins in the environment of each of the tree's processes and of no other.
    mark: Vec<u8>,
    parentage: Parentage,
    /// Members seen so far, by number and start: they stay members when they lose their parent.
    known: Mutex<BTreeSet<(i32, u64)>>,
    ended: AtomicBool,
}

impl Walk {
    pub fn new(leader: i32, mark: Vec<u8>, parentage: Parentage) -> Walk {
        Walk { leader, mark, parentage, known: Mutex::new(BTreeSet::new()), ended: AtomicBool::new(false) }
    }

    /// Whether the tree was found empty for good.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    pub fn set_ended(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    /// The living processes of the tree. Zombies of it that this process has adopted are reaped.
    pub fn members(&self) -> Vec<i32> {
        let Ok(sight) = process::look(self.leader) else {
            // No /proc: the leader is all that is known.
            return if process::has_exited(self.leader) { Vec::new() } else { vec![self.leader] };
        };
        if self.parentage == Parentage::Sole {
            reap_zombies(&sight);
        }
        let own = process::own_pid();
        let mut living = Vec::new();
        for process in self.find(&sight) {
            if !process.zombie {
                living.push(process.pid);
            } else if process.parent == own && process.pid != self.leader {
                process::reap_adopted(process.pid);
            }
        }
        living
    }

    fn find(&self, sight: &Sight) -> Vec<Process> {
        let own = process::own_pid();
        let own_session = sight.all.iter().find(|process| process.pid == own).map(|process| process.session);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut members: BTreeSet<i32> = BTreeSet::from([self.leader]);
        let mut sessions: BTreeSet<i32> = BTreeSet::from([self.leader]);
        if self.parentage == Parentage::Sole {
            // With other commands under way a stray may be theirs.
            let lost = |stray: &&Process| sight.alone && !stray.zombie;
            members.extend(sight.strays.iter().filter(lost).map(|stray| stray.pid));
        }
        for process in &sight.all {
            let orphan = process.parent == own || process.parent == 1;
            let marked = orphan && !process.zombie && procfs::environment_has(process.pid, &self.mark);
            if marked || known.contains(&(process.pid, process.started)) {
                members.insert(process.pid);
            }
        }
        members.remove(&own);
        // Each round may find children of what the round before found.
        loop {
            let before = members.len();
            for process in &sight.all {
                let belongs = members.contains(&process.pid)
                    || members.contains(&process.parent)
                    || sessions.contains(&process.session)
                    || process.group == self.leader;
                if belongs && process.pid != own {
                    members.insert(process.pid);
                    if Some(process.session) != own_session {
                        sessions.insert(process.session);
                    }
                }
            }
            if members.len() == before {
                break;
            }
        }
        let found: Vec<Process> = sight.all.iter().filter(|process| members.contains(&process.pid)).copied().collect();
        known.extend(found.iter().map(|process| (process.pid, process.started)));
        found
    }

    /// Asks all members to end.
    pub fn terminate(&self) {
        for pid in self.members() {
            process::signal(pid, Signal::Term);
            process::signal(pid, Signal::Continue);
        }
    }

    /// Ends all members that are seen now. One that was being started meanwhile is seen the next
    /// time: call it until there are none.
    pub fn kill(&self) {
        for pid in self.members() {
            process::signal(pid, Signal::Kill);
        }
    }
}

/// Reaps what was adopted and has ended, of whatever command it was: nobody else will.
/// Only where this process starts no children but through here.
pub(super) fn reap_zombies(sight: &Sight) {
    for stray in sight.strays.iter().filter(|stray| stray.zombie) {
        process::reap_adopted(stray.pid);
    }
}
