//! A command's process tree, ended whole: by its control group where this machine offers one, else
//! by a walk of `/proc`. TERM, grace, KILL, and no return while anything lives. Knows nothing of
//! jobs.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::cgroup::{self, Cgroup, Home};
use super::walk::{self, Walk};
use super::{Containment, Parentage};
use crate::sys::{process, procfs};

/// How long to go on killing. What survives this hangs in the kernel (a dead network disk), where
/// nobody can end it.
const KILL_LIMIT: Duration = Duration::from_secs(10);
/// The first and the longest pause between two looks at whether a tree is empty.
const POLL_FIRST: Duration = Duration::from_millis(1);
const POLL_LONGEST: Duration = Duration::from_millis(50);

/// What all commands of one worker share: how their trees are kept together.
#[derive(Debug)]
pub(super) struct Grounds {
    home: Option<Home>,
    /// Set once a child was not let into its group: this machine only seemed to offer them.
    refused: AtomicBool,
    parentage: Parentage,
}

/// Processes of a tree that outlived KILL.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stuck(pub Vec<i32>);

/// Where the next command's processes will live.
#[derive(Debug)]
pub(super) struct Plot {
    group: Option<Cgroup>,
    parentage: Parentage,
}

/// One command's processes. Dropped early, what is left is killed, without waiting for it to end.
#[derive(Debug)]
pub(super) enum Tree {
    Group { group: Cgroup, parentage: Parentage, leader: i32 },
    Walk(Walk),
}

impl Grounds {
    /// Finds out what the machine offers. Never fails: the walk is always there.
    pub fn survey(wanted: Containment, parentage: Parentage) -> Grounds {
        let home = match wanted {
            Containment::Cgroup => cgroup::own_group().and_then(|own| Home::open(&own).ok()),
            Containment::Walk => None,
        };
        let grounds = Grounds { home, refused: AtomicBool::new(false), parentage };
        if grounds.containment() == Containment::Walk {
            grounds.adopt();
        }
        grounds
    }

    pub fn containment(&self) -> Containment {
        match &self.home {
            Some(_) if !self.refused.load(Ordering::Relaxed) => Containment::Cgroup,
            _ => Containment::Walk,
        }
    }

    #[cfg(test)]
    pub fn home(&self) -> Option<&Path> {
        self.home.as_ref().map(Home::path)
    }

    fn adopt(&self) {
        // Where the kernel refuses, orphans go to init, and are found there by their mark.
        let _ = process::adopt_orphans();
    }

    /// A place for one command. Where no group can be had, the walk must do.
    pub fn plot(&self) -> Plot {
        let home = self.home.as_ref().filter(|_| self.containment() == Containment::Cgroup);
        let group = home.and_then(|home| home.nest().ok());
        if group.is_none() && home.is_some() {
            self.adopt();
        }
        Plot { group, parentage: self.parentage }
    }

    /// Notes that a child was refused by its group: from now on all are walked.
    pub fn refuse(&self) {
        self.refused.store(true, Ordering::Relaxed);
        self.adopt();
    }
}

impl Plot {
    /// The file by which the child enters; `None` where there is no group to enter.
    ///
    /// # Errors
    /// The group was taken away.
    pub fn entrance(&self) -> io::Result<Option<File>> {
        self.group.as_ref().map(Cgroup::procs).transpose()
    }

    /// The tree of a child that was started here; `mark` is a variable of its environment that no
    /// other tree has.
    pub fn tree(self, leader: i32, mark: Vec<u8>) -> Tree {
        match self.group {
            Some(group) => Tree::Group { group, parentage: self.parentage, leader },
            None => Tree::Walk(Walk::new(leader, mark, self.parentage)),
        }
    }
}

impl Tree {
    /// The living processes of the tree.
    pub fn members(&self) -> Vec<i32> {
        match self {
            // Most trees are empty when they are asked: one read instead of three.
            Tree::Group { group, .. } if !group.populated() => Vec::new(),
            Tree::Group { group, .. } => group.members(),
            Tree::Walk(walk) => walk.members(),
        }
    }

    /// Whether nothing is left to end, `living` being the members found last. Where nothing lives
    /// nothing can begin to live; but a group may count its last process for a moment longer, and
    /// cannot be removed before.
    pub fn is_over(&self, living: &[i32]) -> bool {
        match self {
            Tree::Group { group, .. } => !group.populated(),
            Tree::Walk(_) => living.is_empty(),
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Tree::Group { group, .. } => !group.populated(),
            Tree::Walk(walk) => walk.members().is_empty(),
        }
    }

    fn terminate(&self) {
        match self {
            Tree::Group { group, .. } => group.terminate(),
            Tree::Walk(walk) => walk.terminate(),
        }
    }

    fn kill(&self) {
        match self {
            Tree::Group { group, .. } => group.kill(),
            Tree::Walk(walk) => walk.kill(),
        }
    }

    /// Ends every process of the tree: asks with TERM, waits at most `grace`, kills, and returns
    /// once none lives. Cancel-safe: dropping the tree kills.
    ///
    /// # Errors
    /// [`Stuck`] names what still lived [`KILL_LIMIT`] after the kill.
    pub async fn end(&self, grace: Duration) -> Result<(), Stuck> {
        self.terminate();
        if self.empties_within(grace, false).await || self.empties_within(KILL_LIMIT, true).await {
            return Ok(());
        }
        Err(Stuck(self.members()))
    }

    async fn empties_within(&self, limit: Duration, kill: bool) -> bool {
        let start = Instant::now();
        let mut pause = POLL_FIRST;
        loop {
            if kill {
                // Again in each round: the walk sees what was being started only the next time.
                self.kill();
            }
            // A walk is not one moment: what began behind it, while its parent ended before it, is
            // seen the second time.
            if self.is_empty() && (matches!(self, Tree::Group { .. }) || self.is_empty()) {
                return true;
            }
            let left = limit.saturating_sub(start.elapsed());
            if left.is_zero() {
                return false;
            }
            sleep(pause.min(left)).await;
            pause = (pause * 2).min(POLL_LONGEST);
        }
    }

    /// Lets go of the tree, before its leader is reaped: from here on nothing is signalled.
    pub fn close(&self) {
        match self {
            Tree::Walk(walk) => walk.set_ended(),
            // With a group nobody looks for orphans; but where this process is init to them, as in
            // a container, they wait for it as zombies.
            Tree::Group { parentage: Parentage::Sole, leader, .. } if process::adopts_orphans() => {
                if let Ok(sight) = process::look(*leader) {
                    walk::reap_zombies(&sight);
                }
            }
            Tree::Group { .. } => {}
        }
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        match self {
            // The group's own Drop kills and removes it.
            Tree::Group { .. } => {}
            // Once it has ended, its leader may be reaped and its number a stranger's.
            Tree::Walk(walk) if walk.has_ended() => {}
            Tree::Walk(walk) => {
                // Twice, for what was being started during the first.
                walk.kill();
                walk.kill();
            }
        }
    }
}

/// What a sweep found and ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Processes that a dead worker's commands had left.
    pub processes: usize,
    /// Folders and control groups of dead workers, removed.
    pub leftovers: usize,
}

/// Ends what is in control groups of dead workers beside ours, and removes the groups.
pub(super) async fn sweep_groups() -> Swept {
    let mut swept = Swept::default();
    let homes = cgroup::own_group().and_then(|own| Home::stale(&own).ok()).unwrap_or_default();
    for home in homes {
        let group = home.whole();
        swept.processes += group.members().len();
        group.kill();
        wait_until(|| !group.populated()).await;
        swept.leftovers += 1;
    }
    swept
}

/// Ends the processes whose environment shows that a dead worker's command or pool, with its files in
/// `folder`, started them. They may be in any group: the worker may have been started elsewhere.
pub(super) async fn sweep_marked(folder: &Path) -> Swept {
    let marks = [super::command::MARK, super::pool::MARK].map(|name| {
        let mut mark = name.as_bytes().to_vec();
        mark.extend_from_slice(folder.as_os_str().as_encoded_bytes());
        mark.push(b'/');
        mark
    });
    let spared = ancestry();
    let marked = || -> Vec<i32> {
        let all = procfs::all().unwrap_or_default();
        let left = all.iter().filter(|one| !one.zombie && !spared.contains(&one.pid));
        left.map(|one| one.pid).filter(|pid| marks.iter().any(|mark| procfs::environment_has(*pid, mark))).collect()
    };
    let processes = marked().len();
    wait_until(|| {
        let left = marked();
        left.iter().for_each(|pid| process::signal(*pid, process::Signal::Kill));
        left.is_empty()
    })
    .await;
    Swept { processes, leftovers: 1 }
}

/// This process and those it descends from: a worker that a command had started must not end itself.
fn ancestry() -> Vec<i32> {
    let mut line = vec![process::own_pid()];
    while let Some(parent) = line.last().and_then(|pid| procfs::one(*pid)).map(|one| one.parent) {
        if parent == 0 || line.contains(&parent) {
            break;
        }
        line.push(parent);
    }
    line
}

async fn wait_until(mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() && start.elapsed() < KILL_LIMIT {
        sleep(POLL_FIRST).await;
    }
}
