//! Starting and ending child processes with what the standard library does not offer: each child
//! leads a session of its own, dies with this process, and may be born inside a cgroup. Linux
//! only. Knows nothing of jobs; what to run comes in as a `std::process::Command`.
//!
//! Children are started by one thread that lives as long as the process. The kernel sends the
//! parent-death signal when the *thread* that forked ends (PR_SET_PDEATHSIG(2const)), and threads
//! of an async runtime come and go.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{self as os, Pid, PidfdFlags, WaitId, WaitIdOptions, WaitOptions};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;

use super::procfs::{self, Process};

/// The signals that goflow sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Please end.
    Term,
    /// Go on: a stopped process cannot act on [`Signal::Term`].
    Continue,
    /// End now.
    Kill,
}

/// Why a child did not start.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// It could not enter the cgroup: start it without one.
    #[error("the child was not let into its cgroup")]
    Cgroup,
    /// The program, its folder or the machine stood in the way.
    #[error(transparent)]
    Start(#[from] io::Error),
}

/// A child process. Its number stays its own until [`Child::reap`], even after it has exited, so
/// that signals to it or its session cannot reach a stranger. Dropped unreaped, it is killed.
#[derive(Debug)]
pub struct Child {
    inner: Option<std::process::Child>,
    pid: i32,
    /// Readable once the child has exited; `None` where the kernel has none to give.
    exit: Option<AsyncFd<OwnedFd>>,
}

/// What the spawner does next.
type Order = Box<dyn FnOnce() + Send>;

/// Errno of a child that was refused by its cgroup: one that neither fork, chdir nor exec gives.
const NOT_LET_IN: Errno = Errno::NOTUNIQ;

/// How long to wait between looks where nothing can wake us.
const POLL: Duration = Duration::from_millis(10);

static SPAWNER: LazyLock<io::Result<mpsc::Sender<Order>>> = LazyLock::new(|| {
    let (orders, inbox) = mpsc::channel::<Order>();
    let work = move || inbox.into_iter().for_each(|order| order());
    std::thread::Builder::new().name("spawner".to_owned()).spawn(work)?;
    Ok(orders)
});

/// The children that were started here and not yet reaped.
static CHILDREN: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

fn children() -> MutexGuard<'static, BTreeSet<i32>> {
    // The set is whole after any panic: each change is one call.
    CHILDREN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a child as the leader of its own session, without a terminal. It is sent KILL when this
/// process ends in whatever way. With `cgroup` (an open `cgroup.procs`) it enters that group before
/// its program begins, so nothing it starts can be outside.
///
/// `guard` is made from the child's number the moment it is born. If the caller is gone by then,
/// the guard is dropped, and then the child: so the guard can end what the child may have started.
///
/// Must be called within a Tokio runtime.
///
/// # Errors
/// See [`SpawnError`]; after an error no child exists.
pub async fn spawn<G: Send + 'static>(
    mut command: Command,
    cgroup: Option<File>,
    guard: impl FnOnce(i32) -> G + Send + 'static,
) -> Result<(G, Child), SpawnError> {
    tie(&mut command, cgroup);
    let (reply, answer) = oneshot::channel();
    let order = move || {
        if reply.is_closed() {
            return;
        }
        let born = bear(&mut command).map(|child| (guard(child.pid()), child));
        // Sent to nobody, it is dropped here.
        let _ = reply.send(born);
    };
    let orders = match &*SPAWNER {
        Ok(orders) => orders,
        Err(error) => return Err(io::Error::new(error.kind(), error.to_string()).into()),
    };
    let gone = || SpawnError::Start(io::Error::other("the thread that starts commands has ended"));
    orders.send(Box::new(order)).map_err(|_| gone())?;
    match answer.await.map_err(|_| gone())? {
        Ok((guard, child)) => Ok((guard, child.watched())),
        Err(error) if error.raw_os_error() == Some(NOT_LET_IN.raw_os_error()) => Err(SpawnError::Cgroup),
        Err(error) => Err(error.into()),
    }
}

fn bear(command: &mut Command) -> io::Result<Child> {
    // Held over the fork, so that nobody sees a child that is not in the list yet.
    let mut children = children();
    let inner = command.spawn()?;
    let pid = inner.id() as i32;
    children.insert(pid);
    Ok(Child { inner: Some(inner), pid, exit: None })
}

/// What the child does to itself between fork and exec.
fn tie(command: &mut Command, cgroup: Option<File>) {
    let parent = os::getpid();
    let before_exec = move || {
        if let Some(procs) = &cgroup {
            // "0" means the writer itself.
            rustix::io::write(procs, b"0").map_err(|_| NOT_LET_IN)?;
        }
        os::setsid()?;
        os::set_parent_process_death_signal(Some(os::Signal::KILL))?;
        // The parent may have died before the line above: then no signal would ever come.
        if os::getppid() != Some(parent) {
            return Err(Errno::SRCH.into());
        }
        Ok(())
    };
    // SAFETY: between fork and exec only async-signal-safe calls are allowed, no allocation and no
    // lock. The closure makes plain system calls (rustix goes to the kernel without libc) on values
    // it owns, and errors are made from numbers.
    #[expect(unsafe_code, reason = "a child can be tied to its parent only from inside the child")]
    unsafe {
        command.pre_exec(before_exec);
    }
}

impl Child {
    /// Lets the runtime tell when it exits.
    fn watched(mut self) -> Child {
        self.exit = Pid::from_raw(self.pid)
            .and_then(|pid| os::pidfd_open(pid, PidfdFlags::empty()).ok())
            // SAFETY: an `OwnedFd` is open, always the same, and closed only when it is dropped,
            // which the `AsyncFd` that owns it does last.
            .and_then(|fd| {
                #[expect(unsafe_code, reason = "Tokio has no safe way to wait for a pidfd")]
                unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.ok()
            });
        self
    }

    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The pipes it was started with, once.
    pub fn take_pipes(
        &mut self,
    ) -> (Option<std::process::ChildStdin>, Option<std::process::ChildStdout>, Option<std::process::ChildStderr>) {
        match &mut self.inner {
            Some(inner) => (inner.stdin.take(), inner.stdout.take(), inner.stderr.take()),
            None => (None, None, None),
        }
    }

    /// Waits until it has exited, and leaves it unreaped. Cancel-safe.
    pub async fn exited(&self) {
        while !self.has_exited() {
            match &self.exit {
                Some(exit) => match exit.readable().await {
                    Ok(_) if self.has_exited() => return,
                    Ok(mut early) => early.clear_ready(),
                    Err(_) => tokio::time::sleep(POLL).await,
                },
                None => tokio::time::sleep(POLL).await,
            }
        }
    }

    /// Whether it has exited; see [`has_exited`].
    pub fn has_exited(&self) -> bool {
        has_exited(self.pid)
    }

    /// Takes the exit status and gives the number back to the system. To be called after
    /// [`Child::exited`]: before that it would block.
    ///
    /// # Errors
    /// Somebody else in this process has reaped it.
    pub fn reap(mut self) -> io::Result<ExitStatus> {
        let Some(mut inner) = self.inner.take() else {
            return Err(io::Error::other("the child is reaped"));
        };
        let status = inner.wait();
        children().remove(&self.pid);
        status
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let Some(mut inner) = self.inner.take() {
            // Fails if it has exited already.
            let _ = inner.kill();
            bury(inner);
        }
    }
}

/// Reaps a killed child without making anybody wait: one that hangs in the kernel takes its time.
fn bury(mut child: std::process::Child) {
    let pid = child.id() as i32;
    let reaped = move || {
        // Reaped by somebody else is as good.
        let _ = child.wait();
        children().remove(&pid);
    };
    // Without a thread the zombie stays until this process ends; there is nothing better to do.
    let _ = std::thread::Builder::new().name("reaper".to_owned()).spawn(reaped);
}

/// Whether a child of this process has exited. True also for one that is reaped or was never ours.
pub fn has_exited(pid: i32) -> bool {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    match Pid::from_raw(pid).map(|pid| os::waitid(WaitId::Pid(pid), look)) {
        // Still running, or the look itself was interrupted.
        Some(Ok(None) | Err(Errno::INTR)) => false,
        // Exited, or not our child (any more): there is nothing to wait for.
        Some(Ok(Some(_)) | Err(_)) | None => true,
    }
}

/// Sends a signal to one process. One that is gone, or not ours to signal, is passed over: the
/// caller looks again anyway.
pub fn signal(pid: i32, signal: Signal) {
    // 0 and negative numbers mean groups, ours among them; 1 is never a child.
    if let Some(pid) = Pid::from_raw(pid).filter(|pid| pid.as_raw_nonzero().get() > 1) {
        let _ = os::kill_process(pid, signal.into());
    }
}

impl From<Signal> for os::Signal {
    fn from(signal: Signal) -> os::Signal {
        match signal {
            Signal::Term => os::Signal::TERM,
            Signal::Continue => os::Signal::CONT,
            Signal::Kill => os::Signal::KILL,
        }
    }
}

/// The number of this process.
pub fn own_pid() -> i32 {
    os::getpid().as_raw_nonzero().get()
}

/// Stops this process until somebody lets it go on (SIGCONT), as a shell's ctrl-z does.
pub fn stop_self() {
    // The default action of TSTP is not at hand while it is watched for; STOP cannot be.
    let _ = os::kill_process(os::getpid(), os::Signal::STOP);
}

/// From now on, descendants that lose their parent become children of this process, not of
/// init: so they can be found and reaped. Cannot be told apart from children that other code of
/// this process started, except as [`Sight::strays`] tells.
///
/// # Errors
/// The kernel does not know subreapers.
pub fn adopt_orphans() -> io::Result<()> {
    Ok(os::set_child_subreaper(Some(os::getpid()))?)
}

/// Whether orphans come to this process.
pub fn adopts_orphans() -> bool {
    own_pid() == 1 || os::child_subreaper().is_ok_and(|reaper| reaper.is_some())
}

/// All processes at one moment in which no child was being started.
#[derive(Debug)]
pub struct Sight {
    pub all: Vec<Process>,
    /// Adopted: children of this process, in another session, that [`spawn`] did not start. Where
    /// other code of this process starts children in sessions of their own, those look the same.
    pub strays: Vec<Process>,
    /// Whether the leader asked about is the only child of [`spawn`] under way.
    pub alone: bool,
}

/// Looks at all processes on behalf of the child `leader`.
///
/// # Errors
/// `/proc` is not mounted.
pub fn look(leader: i32) -> io::Result<Sight> {
    let own = own_pid();
    let children = children();
    let all = procfs::all()?;
    let session = all.iter().find(|process| process.pid == own).map(|process| process.session);
    let adopted = |process: &&Process| {
        process.parent == own && Some(process.session) != session && !children.contains(&process.pid)
    };
    let strays = if session.is_some() { all.iter().filter(adopted).copied().collect() } else { Vec::new() };
    let alone = children.iter().all(|child| *child == leader);
    Ok(Sight { all, strays, alone })
}

/// Reaps an adopted process that has ended. One that was started by [`spawn`] is left to its owner.
pub fn reap_adopted(pid: i32) {
    let children = children();
    if let Some(id) = Pid::from_raw(pid).filter(|_| !children.contains(&pid)) {
        // Not a child of ours, or not dead: nothing to reap.
        let _ = os::waitpid(Some(id), WaitOptions::NOHANG);
    }
}

/// Ends this process at once, as kill -9 does: nothing is flushed, nobody is told. For fault tests.
#[cfg(feature = "fault")]
pub fn die() {
    signal(own_pid(), Signal::Kill);
    // The signal is on its way; nothing more may happen until it arrives.
    loop {
        std::thread::park();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Stdio;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    #[tokio::test]
    async fn a_child_leads_its_own_session_and_keeps_its_number_until_it_is_reaped() {
        let (guard, child) = spawn(sh("exit 7"), None, |pid| pid).await.expect("starts");
        assert_eq!(guard, child.pid());
        child.exited().await;
        let zombie = procfs::one(child.pid()).expect("unreaped");
        assert!(zombie.zombie);
        assert_eq!(zombie.session, child.pid());
        let pid = child.pid();
        assert_eq!(child.reap().expect("a status").code(), Some(7));
        assert_eq!(procfs::one(pid).filter(|process| process.started == zombie.started), None);
    }

    #[tokio::test]
    async fn a_dropped_child_is_killed() {
        let ((), child) = spawn(sh("exec sleep 600"), None, |_| ()).await.expect("starts");
        let born = procfs::one(child.pid()).expect("alive");
        drop(child);
        for _ in 0..1_000 {
            if procfs::one(born.pid).is_none_or(|process| process.started != born.started) {
                return;
            }
            tokio::time::sleep(POLL).await;
        }
        panic!("the child lives on");
    }

    #[tokio::test]
    async fn a_closed_cgroup_is_told_apart_from_a_missing_program() {
        let not_a_cgroup = File::open("/dev/null").expect("opens");
        assert!(matches!(spawn(sh("exit 0"), Some(not_a_cgroup), |_| ()).await, Err(SpawnError::Cgroup)));
        let missing = spawn(Command::new("/no/such/program"), None, |_| ()).await;
        assert!(matches!(missing, Err(SpawnError::Start(error)) if error.kind() == io::ErrorKind::NotFound));
    }

    #[tokio::test]
    async fn a_child_whose_caller_is_gone_is_dropped_with_its_guard() {
        struct Guard(std::sync::Arc<Mutex<Vec<i32>>>, i32);
        impl Drop for Guard {
            fn drop(&mut self) {
                self.0.lock().expect("lock").push(self.1);
            }
        }
        let dropped = std::sync::Arc::new(Mutex::new(Vec::new()));
        let (born, birth) = mpsc::channel();
        let record = dropped.clone();
        let caller = tokio::spawn(spawn(sh("exec sleep 600"), None, move |pid| {
            let guard = Guard(record, pid);
            born.send(procfs::one(pid)).expect("the test listens");
            guard
        }));
        // The runtime has one thread, which is here: the caller cannot take what it is sent.
        tokio::task::yield_now().await;
        let child = birth.recv().expect("born").expect("alive");
        caller.abort();
        assert!(caller.await.is_err());
        for _ in 0..1_000 {
            let lives = procfs::one(child.pid).is_some_and(|process| process.started == child.started);
            if !lives && *dropped.lock().expect("lock") == [child.pid] {
                return;
            }
            tokio::time::sleep(POLL).await;
        }
        panic!("the child or its guard lives on");
    }
}
