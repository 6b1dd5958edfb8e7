//! A folder that belongs to a living process: locked while its owner lives, and so known to be
//! left over once it can be locked by another. A lock, unlike a process number, cannot be mistaken
//! for somebody else's, not even between containers that share the folder.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::sys::{process, procfs};

/// Distinguishes the folders of one process; never goes back.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Names tried before giving up: each failure means that a sweep took the folder just then.
const TRIES: usize = 16;

/// A locked folder, readable by its user alone. Dropping it lets go of the lock and leaves the
/// folder where it is: what lies in it decides how it is removed.
#[derive(Debug)]
pub(super) struct OwnDir {
    path: PathBuf,
    _lock: File,
}

impl OwnDir {
    /// Makes a new folder in `parent`, named `LABEL-PID-START-N`.
    ///
    /// # Errors
    /// `parent` is missing or closed to us, or cannot be locked.
    pub fn create(parent: &Path, label: &str) -> io::Result<OwnDir> {
        let pid = process::own_pid();
        let started = procfs::one(pid).map_or(0, |own| own.started);
        for _ in 0..TRIES {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = parent.join(format!("{label}-{pid}-{started}-{number}"));
            match DirBuilder::new().mode(0o700).create(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                made => made?,
            }
            // Between making and locking, a sweep may take it for left over: then another name.
            if let Some(own) = OwnDir::lock(path)? {
                return Ok(own);
            }
        }
        Err(io::Error::other(format!("no folder of our own could be made in {}", parent.display())))
    }

    /// The folders in `parent` whose owners are gone. They are ours from here on.
    /// What we may not open is another user's and is passed over.
    ///
    /// # Errors
    /// `parent` cannot be read.
    pub fn stale(parent: &Path, label: &str) -> io::Result<Vec<OwnDir>> {
        let start = format!("{label}-");
        let mut found = Vec::new();
        for entry in fs::read_dir(parent)? {
            let Ok(entry) = entry else { continue };
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_folder && entry.file_name().to_str().is_some_and(|name| name.starts_with(&start)) {
                found.extend(OwnDir::lock(entry.path()).ok().flatten());
            }
        }
        Ok(found)
    }

    /// `None` if another holds it, or has removed it by now.
    fn lock(path: PathBuf) -> io::Result<Option<OwnDir>> {
        let lock = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Ok(None),
            Err(fs::TryLockError::Error(error)) => return Err(error),
        }
        Ok(path.is_dir().then_some(OwnDir { path, _lock: lock }))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_folder_without_an_owner_is_stale() {
        let parent = tempfile::tempdir().expect("temp folder");
        let alive = OwnDir::create(parent.path(), "x").expect("made");
        let dead = OwnDir::create(parent.path(), "x").expect("made").path().to_owned();
        fs::create_dir(parent.path().join("y-1-2-3")).expect("made");
        let stale = OwnDir::stale(parent.path(), "x").expect("read");
        assert_eq!(stale.iter().map(OwnDir::path).collect::<Vec<_>>(), [dead.as_path()]);
        assert!(OwnDir::stale(parent.path(), "x").expect("read").is_empty(), "taken over means owned");
        assert_ne!(alive.path(), dead);
    }
}
