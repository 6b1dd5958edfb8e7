//! Opening a file safely: what may be opened, who may read it, and how a connection is set up. It
//! knows files and pragmas, not tables.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::fault::Fault;
use crate::store::{Result, StoreError};

/// The oldest SQLite whose WAL can be trusted with many processes: 3.51.3 mended a race between a
/// checkpoint and a writer that restarts the log.
const OLDEST: i32 = 3_051_003;

/// Pages of log that are written back into the file at once: 8 MiB. More means that a page that
/// changes often is written back less often; less means a smaller log, and a smaller reserve
/// ([`super::space`]), which must have room for all of it.
pub(super) const CHECKPOINT_PAGES: u32 = 2_048;

/// Page cache of a connection, in KiB. The system caches the file as well; and SQLite looks through
/// its own cache at the end of every transaction that rebalanced a tree, so a large one costs time.
const CACHE_KIB: u32 = 4_096;

/// Makes the folder and the file if they are missing, for their owner only, and looks at what is
/// there. Nothing that exists is changed.
///
/// # Errors
/// [`StoreError::Refused`] for a network file system or missing rights, [`StoreError::Corrupt`] for
/// a file that is not a SQLite database.
pub(super) fn prepare_file(path: &Path) -> Result<PathBuf> {
    let refused = |error: std::io::Error| StoreError::Refused(format!("{}: {error}", path.display()));
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(refused)?;
    let folder = folder.canonicalize().map_err(refused)?;
    if let Ok(mounts) = fs::read_to_string("/proc/self/mountinfo")
        && let Some(kind) = network_file_system(&mounts, &folder)
    {
        return Err(StoreError::Refused(format!(
            "{} lies on a network file system ({kind}), whose locks cannot be trusted: use a local disk",
            path.display()
        )));
    }
    let name = path.file_name().ok_or_else(|| StoreError::Refused(format!("{} names no file", path.display())))?;
    let file = folder.join(name);
    match OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&file) {
        Ok(_) => return Ok(file),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) if error.kind() == ErrorKind::StorageFull => {
            return Err(StoreError::Full(format!("{}: {error}", path.display())));
        }
        Err(error) => return Err(refused(error)),
    }
    let mut existing = fs::File::open(&file).map_err(refused)?;
    if !existing.metadata().map_err(refused)?.is_file() {
        return Err(StoreError::Refused(format!("{} is not a regular file", path.display())));
    }
    let mut magic = Vec::new();
    existing.by_ref().take(16).read_to_end(&mut magic).map_err(refused)?;
    if !magic.is_empty() && magic != b"SQLite format 3\0" {
        let message = format!("{} is not a SQLite database; it was left as it is", path.display());
        return Err(StoreError::Corrupt(message));
    }
    Ok(file)
}

/// What an operator should know of a file's rights.
pub(super) fn rights_warning(file: &Path) -> Option<String> {
    let mode = fs::metadata(file).ok()?.permissions().mode() & 0o777;
    let open = mode & 0o077 != 0;
    open.then(|| format!("{} can be reached by other users (mode {mode:03o}): chmod 600 it", file.display()))
}

/// The network file system that a folder lies on, if it does, by the text of Linux's
/// `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
fn network_file_system<'m>(mounts: &'m str, folder: &Path) -> Option<&'m str> {
    let mut found: Option<(usize, &str)> = None;
    for line in mounts.lines() {
        let Some((before, after)) = line.split_once(" - ") else { continue };
        let (Some(point), Some(kind)) = (before.split(' ').nth(4), after.split(' ').next()) else { continue };
        let point = point.replace("\\040", " ");
        // A later mount on the same point hides the earlier one.
        if folder.starts_with(&point) && found.is_none_or(|(length, _)| point.len() >= length) {
            found = Some((point.len(), kind));
        }
    }
    const NETWORK: [&str; 14] = [
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "9p",
        "afs",
        "ceph",
        "glusterfs",
        "lustre",
        "gpfs",
        "beegfs",
        "ocfs2",
        "virtiofs",
    ];
    const FUSE: [&str; 6] = ["fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.s3fs", "fuse.rclone", "fuse.davfs"];
    found.map(|(_, kind)| kind).filter(|kind| NETWORK.contains(kind) || FUSE.contains(kind))
}

/// Opens the connection that writes. Nothing is written yet: whose file it is must be seen first.
pub(super) fn writer(file: &Path, busy: Duration) -> Result<Connection, Fault> {
    if rusqlite::version_number() < OLDEST {
        let version = rusqlite::version();
        return Err(StoreError::Refused(format!("SQLite {version} is too old: 3.51.3 is needed")).into());
    }
    connect(file, busy)
}

/// Makes a goflow file's commits durable.
pub(super) fn set_up_writer(conn: &mut Connection, busy: Duration) -> Result<(), Fault> {
    // Changing the journal is not covered by the busy handler when several processes do it at once.
    let mut tries = 0;
    loop {
        match conn.query_row("PRAGMA journal_mode = WAL", (), |row| row.get::<_, String>(0)) {
            Ok(mode) if mode == "wal" => break,
            Ok(mode) => {
                let message = format!("the file cannot be switched to write-ahead logging (it uses {mode})");
                return Err(StoreError::Refused(message).into());
            }
            Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) && tries < 2_000 => {
                tries += 1;
                wait(Duration::from_millis(1));
            }
            Err(error) => return Err(error.into()),
        }
    }
    // The log keeps the room it was given, up to twice what is written back at once.
    let log_bytes = u64::from(CHECKPOINT_PAGES) * 2 * 4_096;
    conn.execute_batch(&format!(
        "PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES};
         PRAGMA journal_size_limit = {log_bytes}; PRAGMA foreign_keys = OFF;"
    ))?;
    // Else SQLite plans a statement anew whenever a bound value that it took into account has changed:
    // those of each claim, each time; with small batches that is a seventh of the writer's work.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    fair_waiting(conn, busy)
}

/// Opens a connection that reads.
pub(super) fn reader(file: &Path, busy: Duration) -> Result<Connection, Fault> {
    let mut conn = connect(file, busy)?;
    conn.execute_batch("PRAGMA query_only = ON;")?;
    fair_waiting(&mut conn, busy)?;
    Ok(conn)
}

fn connect(file: &Path, busy: Duration) -> Result<Connection, Fault> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(file, flags)?;
    conn.busy_timeout(busy)?;
    conn.set_prepared_statement_cache_capacity(128);
    conn.execute_batch(&format!("PRAGMA cache_size = -{CACHE_KIB}; PRAGMA temp_store = MEMORY;"))?;
    Ok(conn)
}

/// SQLite's own waiting grows to 100 ms a turn, so that of many processes the one that has waited
/// longest asks least often. Here everyone asks about each millisecond.
fn fair_waiting(conn: &mut Connection, busy: Duration) -> Result<(), Fault> {
    let turns = i32::try_from(busy.as_millis()).unwrap_or(i32::MAX);
    conn.busy_handler(Some(move |turn: i32| {
        let pause = if turn < 20 { Duration::from_micros(200) } else { Duration::from_millis(1) };
        wait(pause);
        turn < turns
    }))?;
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "locks are waited for on threads that may block, and by `open`, which says so"
)]
fn wait(time: Duration) {
    std::thread::sleep(time);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_mount_decides() {
        let mounts = "22 1 254:0 / / rw - ext4 /dev/vda rw\n\
                      30 22 0:40 / /mnt rw shared:1 - nfs4 host:/x rw\n\
                      31 30 0:41 / /mnt/my\\040disk rw - xfs /dev/vdb rw\n\
                      32 22 0:42 / /far rw - fuse.sshfs me@host: rw\n";
        let kind = |path: &str| network_file_system(mounts, Path::new(path));
        assert_eq!(kind("/home/me"), None);
        assert_eq!(kind("/mnt/a"), Some("nfs4"));
        assert_eq!(kind("/mntx"), None);
        assert_eq!(kind("/mnt/my disk/b"), None);
        assert_eq!(kind("/far"), Some("fuse.sshfs"));
    }
}
