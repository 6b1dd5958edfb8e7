//! Room for settles on a full disk. A reserve file of a few MiB lies beside the database; when a
//! write finds no room, the reserve is given up and new work is refused, so that what runs can still
//! be settled. New work is taken again as soon as the reserve can be made again. It knows files and
//! one pragma.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::Duration;

use rusqlite::Connection;

use super::open::CHECKPOINT_PAGES;
use crate::domain::Ms;

/// Bytes of the reserve: room to write the whole log back into the file, so that the log's own room
/// can be used again and again, and some more for what settles add.
const RESERVE: u64 = (CHECKPOINT_PAGES as u64 + 1_024) * 4_096;

/// How long a refusal holds before the reserve is tried again: trying fills the disk to its brim.
const PATIENCE: Duration = Duration::from_secs(1);

pub(super) struct Space {
    file: PathBuf,
    full_until: Option<Ms>,
}

impl Space {
    pub(super) fn new(file: PathBuf) -> Space {
        Space { file, full_until: None }
    }

    /// Whether there is room for new work: the reserve is there, or can be made.
    pub(super) fn has_reserve(&mut self, now: Ms) -> bool {
        if fs::metadata(&self.file).is_ok_and(|found| found.len() >= RESERVE) {
            return true;
        }
        // A clock that was set back does not hold it up either.
        if self.full_until.is_some_and(|until| now < until && now.after(PATIENCE) >= until) {
            return false;
        }
        let full = match self.make() {
            Ok(()) => false,
            // Any other failure is no reason to refuse work: there is only no reserve.
            Err(error) => matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded),
        };
        self.full_until = full.then(|| now.after(PATIENCE));
        if full {
            // Half a reserve would only take room from those who settle.
            let _ = fs::remove_file(&self.file);
        }
        !full
    }

    fn make(&self) -> std::io::Result<()> {
        // Several processes may do this at once: nobody cuts the file, and all write the same zeros.
        let mut file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&self.file)?;
        // Real bytes: a hole would reserve nothing.
        let zeros = vec![0u8; 1 << 16];
        (0..RESERVE >> 16).try_for_each(|_| file.write_all(&zeros))
    }

    /// Gives the reserve up, and lets the log begin anew if it can. Whether that may have made room.
    pub(super) fn release(&self, conn: &Connection) -> bool {
        let released = fs::remove_file(&self.file).is_ok();
        let reused = conn.query_row("PRAGMA wal_checkpoint(RESTART)", (), |row| row.get::<_, i64>(0));
        released || reused.is_ok_and(|busy| busy == 0)
    }
}
