//! A command in the foreground: it has this process's standard streams and whatever environment it is
//! given, and is ended with its whole tree. Knows nothing of jobs, nor why it is ended.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use super::command::{LEFTOVER_GRACE, status};
use super::tree::{Grounds, Stuck, Tree};
use super::{Containment, Parentage};
use crate::sys::process::{self, Child, SpawnError};

/// A command that runs. Dropped, its tree is killed without waiting for it.
pub struct Foreground {
    // In the order in which they must be dropped.
    tree: Tree,
    child: Child,
    /// What the tree's control group lies in, as long as it is needed.
    _grounds: Grounds,
}

impl Foreground {
    /// Starts a command, in a session of its own and so without this terminal. `mark` is a variable of
    /// `environment` whose value no other command of the machine has: by it lost descendants are found.
    /// Where control groups can be had nothing escapes.
    ///
    /// Must be called within a Tokio runtime, by a process that starts no children otherwise.
    ///
    /// # Errors
    /// It names no program, or one that cannot be started.
    pub async fn start(
        argv: &[OsString],
        environment: &BTreeMap<OsString, OsString>,
        mark: &str,
        containment: Containment,
    ) -> io::Result<Foreground> {
        let Some((program, args)) = argv.split_first() else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it names no program"));
        };
        let value = environment.get(&OsString::from(mark)).map(|value| value.as_bytes()).unwrap_or_default();
        let mark = [mark.as_bytes(), b"=", value].concat();
        let grounds = Grounds::survey(containment, Parentage::Sole);
        loop {
            let mut command = Command::new(program);
            command.args(args).env_clear().envs(environment);
            let plot = grounds.plot();
            let entrance = plot.entrance()?;
            let grouped = entrance.is_some();
            let mark = mark.clone();
            match process::spawn(command, entrance, move |leader| plot.tree(leader, mark)).await {
                Ok((tree, child)) => return Ok(Foreground { tree, child, _grounds: grounds }),
                Err(SpawnError::Cgroup) if grouped => grounds.refuse(),
                Err(SpawnError::Cgroup) => return Err(io::Error::other(SpawnError::Cgroup)),
                Err(SpawnError::Start(error)) => return Err(error),
            }
        }
    }

    /// Waits until the command itself has exited. Cancel-safe.
    pub async fn exited(&self) {
        self.child.exited().await;
    }

    /// Ends what lives of the tree: TERM, `grace`, KILL. What a command that has exited left behind is
    /// given half a second. Answers what lives on in the kernel, and how the command itself ended, if
    /// that can be told.
    pub async fn end(self, grace: Duration) -> (Vec<i32>, Option<ExitStatus>) {
        let grace = if self.child.has_exited() { LEFTOVER_GRACE.min(grace) } else { grace };
        let living = self.tree.members();
        let mut stuck = Vec::new();
        if !self.tree.is_over(&living)
            && let Err(Stuck(pids)) = self.tree.end(grace).await
        {
            stuck = pids;
        }
        self.tree.close();
        (stuck, status(self.child))
    }
}
