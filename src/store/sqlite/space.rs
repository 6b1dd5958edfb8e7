//! Room for settles on a full disk. A reserve file of a few MiB lies beside the database; when a
//! write finds no room, the reserve is given up and new work is refused, so that what runs can still
//! be settled. New work is taken again as soon as the reserve can be made again. It knows files and
//! one pragma.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use rusqlite::Connection;

use super::open::CHECKPOINT_PAGES;

/// Bytes of the reserve: room to write the whole log back into the file, so that the log's own room
/// can be used again and again, and some more for what settles add.
const RESERVE: u64 = (CHECKPOINT_PAGES as u64 + 1_024) * 4_096;

pub(super) struct Space {
    file: PathBuf,
}

impl Space {
    pub(super) fn new(file: PathBuf) -> Space {
        Space { file }
    }

    /// Whether the reserve is there or could be made. On a full disk it cannot be made, and new work
    /// is refused.
    pub(super) fn has_reserve(&self) -> bool {
        if fs::metadata(&self.file).is_ok_and(|found| found.len() >= RESERVE) {
            return true;
        }
        let made = self.make();
        if !made {
            // Half a reserve would only take room from those who settle.
            let _ = fs::remove_file(&self.file);
        }
        made
    }

    fn make(&self) -> bool {
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&self.file);
        let Ok(mut file) = file else { return false };
        // Real bytes: a hole would reserve nothing. Several processes may write the same zeros.
        let zeros = vec![0u8; 1 << 16];
        (0..RESERVE >> 16).all(|_| file.write_all(&zeros).is_ok())
    }

    /// Gives the reserve up, and lets the log begin anew if it can. Whether that may have made room.
    pub(super) fn release(&self, conn: &Connection) -> bool {
        let released = fs::remove_file(&self.file).is_ok();
        let reused = conn.query_row("PRAGMA wal_checkpoint(RESTART)", (), |row| row.get::<_, i64>(0));
        released || reused.is_ok_and(|busy| busy == 0)
    }
}
