//! A control group of version 2 for each command (cgroups(7) of the Linux manual): whatever a
//! command starts is born inside and cannot leave, so the tree can be ended whole by one write.
//! Groups lie below the worker's own: `<own>/goflow-…/<number>`. Knows nothing of jobs.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::own_dir::OwnDir;
use crate::sys::process::{self, Signal};
use crate::sys::procfs;

/// The folder in which this process has its commands' groups.
#[derive(Debug)]
pub(super) struct Home {
    dir: OwnDir,
    next: AtomicU64,
}

/// One command's group. Dropped, it is killed and removed as far as that goes at once; what is
/// left goes with the [`Home`], or with the sweep of a later worker.
#[derive(Debug)]
pub(super) struct Cgroup {
    path: PathBuf,
}

/// The group this process runs in, as a folder; `None` without cgroup version 2.
pub(super) fn own_group() -> Option<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let group = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    below_mount(&mounts, group)
}

/// Finds the folder of `group` below the first mount that shows it. The fields of a line are in
/// proc_pid_mountinfo(5): root and mount point are the fourth and fifth, the type follows ` - `.
fn below_mount(mounts: &str, group: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        if after.split(' ').next() != Some("cgroup2") {
            return None;
        }
        let mut fields = before.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        // A group outside this namespace's view is shown as `/../…`: not ours to divide.
        let inside = Path::new(group).strip_prefix(root).ok()?;
        if inside.components().any(|part| part == std::path::Component::ParentDir) {
            return None;
        }
        Some(Path::new(point).join(inside))
    })
}

/// What the names of homes begin with. Locks are seen within one cgroup namespace only (each has
/// its own view of the files), so a home of another namespace must not look like ours.
fn label() -> String {
    let namespace = fs::read_link("/proc/self/ns/cgroup").ok();
    let digits = namespace.iter().flat_map(|link| link.to_str()).flat_map(|text| text.chars());
    format!("goflow-{}", digits.filter(char::is_ascii_digit).collect::<String>())
}

impl Home {
    /// Makes a home below `parent`.
    ///
    /// # Errors
    /// Groups cannot be made here, or the kernel (before 5.14) cannot end one whole.
    pub fn open(parent: &Path) -> io::Result<Home> {
        let home = Home { dir: OwnDir::create(parent, &label())?, next: AtomicU64::new(0) };
        // On failure the home goes again, by its Drop.
        fs::metadata(home.dir.path().join("cgroup.kill"))?;
        // To move a process, the kernel asks for the right to write here too.
        OpenOptions::new().write(true).open(parent.join("cgroup.procs"))?;
        Ok(home)
    }

    /// Homes below `parent` whose processes are gone.
    ///
    /// # Errors
    /// `parent` cannot be read.
    pub fn stale(parent: &Path) -> io::Result<Vec<Home>> {
        let found = OwnDir::stale(parent, &label())?;
        Ok(found.into_iter().map(|dir| Home { dir, next: AtomicU64::new(0) }).collect())
    }

    /// A new group for one command.
    ///
    /// # Errors
    /// The kernel has no more groups to give, or the home is gone.
    pub fn nest(&self) -> io::Result<Cgroup> {
        let path = self.dir.path().join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        fs::create_dir(&path)?;
        Ok(Cgroup { path })
    }

    #[cfg(test)]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Everything inside as one group, for a sweep: dropped, it is killed and removed like any.
    pub fn whole(&self) -> Cgroup {
        Cgroup { path: self.dir.path().to_owned() }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        drop(self.whole());
    }
}

impl Cgroup {
    /// The file by which a child enters.
    ///
    /// # Errors
    /// The group has been removed.
    pub fn procs(&self) -> io::Result<File> {
        OpenOptions::new().write(true).open(self.path.join("cgroup.procs"))
    }

    /// Whether a living process is inside. A group that is gone is empty. Zombies do not count, but
    /// for an instant after its end a process still may.
    pub fn populated(&self) -> bool {
        fs::read_to_string(self.path.join("cgroup.events"))
            .is_ok_and(|events| events.lines().any(|line| line == "populated 1"))
    }

    /// The living processes inside, those of groups that the command made itself included.
    pub fn members(&self) -> Vec<i32> {
        let mut members = Vec::new();
        for_each_group(&self.path, &mut |group| {
            let procs = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
            // 0 is a process of another pid namespace: it has no number here.
            let pids = procs.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid != 0);
            members.extend(pids.filter(|pid| procfs::one(*pid).is_some_and(|process| !process.zombie)));
        });
        members
    }

    /// Asks all inside to end.
    pub fn terminate(&self) {
        for pid in self.members() {
            process::signal(pid, Signal::Term);
            process::signal(pid, Signal::Continue);
        }
    }

    /// Ends all inside, those that are being started just now included. What cannot be written is
    /// gone, or shows as still populated.
    pub fn kill(&self) {
        let _ = fs::write(self.path.join("cgroup.kill"), "1");
    }

    /// Removes the group and those inside it; refused by the kernel while a process lives in one.
    pub fn remove(&self) {
        // Children first: the order in which they are visited. Only folders can be removed here.
        for_each_group(&self.path, &mut |group| {
            let _ = fs::remove_dir(group);
        });
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if self.populated() {
            self.kill();
        }
        self.remove();
    }
}

/// Visits a group after all groups below it.
fn for_each_group(path: &Path, visit: &mut impl FnMut(&Path)) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            for_each_group(&entry.path(), visit);
        }
    }
    visit(path);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_group_is_found_below_its_mount() {
        let hybrid = "30 23 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n";
        assert_eq!(below_mount(hybrid, "/a/b"), Some("/sys/fs/cgroup/unified/a/b".into()));
        assert_eq!(below_mount(hybrid, "/../x"), None);
        assert_eq!(below_mount("30 23 0:26 / /proc rw - proc proc rw\n", "/"), None);
        let bound = "41 31 0:38 /docker/1f /sys/fs/cgroup rw - cgroup2 cgroup rw\n";
        assert_eq!(below_mount(bound, "/docker/1f/w"), Some("/sys/fs/cgroup/w".into()));
        assert_eq!(below_mount(bound, "/other"), None);
    }

    #[tokio::test]
    async fn a_group_lives_as_long_as_its_command_and_a_home_as_its_worker() {
        let home = own_group().and_then(|own| Home::open(&own).ok());
        let Some(home) = home else {
            // A machine that lets us make none is told as such.
            let grounds = super::super::tree::Grounds::survey(Default::default(), Default::default());
            assert_eq!(grounds.containment(), super::super::Containment::Walk);
            return;
        };
        let group = home.nest().expect("a group");
        let (inside, outside) = (group.path.clone(), home.dir.path().to_owned());
        let mut sleep = std::process::Command::new("sleep");
        sleep.arg("600");
        let ((), child) = process::spawn(sleep, Some(group.procs().expect("open")), |_| ()).await.expect("starts");
        assert_eq!(group.members(), [child.pid()]);
        assert!(group.populated());
        group.kill();
        child.exited().await;
        assert_eq!(group.members(), [0; 0]);
        super::super::tests::until("it counts as gone", || !group.populated()).await;
        drop(group);
        assert!(!inside.exists() && outside.exists());
        drop(home);
        assert!(!outside.exists());
    }
}
