//! Seeing processes: `/proc` (proc(5) of the Linux manual) read into plain records. Knows nothing
//! of jobs. What cannot be read (another user's process, one that has just ended) is left out.

use std::fs;
use std::io;
use std::path::PathBuf;

/// One process as the kernel told it at the moment of reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: i32,
    pub parent: i32,
    pub group: i32,
    pub session: i32,
    /// Dead, and only kept until its parent asks for its exit status.
    pub zombie: bool,
    /// Clock ticks from the machine's start to this process's: with the pid, unique until a reboot.
    pub started: u64,
}

/// All processes that can be seen, in no order. Costs one small read a process, so it is for the
/// end of a command, not for a loop without a pause.
///
/// # Errors
/// `/proc` is not mounted.
pub fn all() -> io::Result<Vec<Process>> {
    let mut processes = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Ok(entry) = entry else { continue };
        if let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
            processes.extend(one(pid));
        }
    }
    Ok(processes)
}

/// One process; `None` if there is none of that number.
pub fn one(pid: i32) -> Option<Process> {
    parse(pid, &fs::read(PathBuf::from(format!("/proc/{pid}/stat"))).ok()?)
}

/// The process's name may hold spaces and brackets, so the fields are counted from the last bracket.
fn parse(pid: i32, stat: &[u8]) -> Option<Process> {
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(&stat[name_end + 1..]).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |place: usize| fields.get(place)?.parse().ok();
    // The first thread may end before the others: then the process shows as a zombie, and lives.
    let threads: u32 = fields.get(17)?.parse().ok()?;
    Some(Process {
        pid,
        parent: number(1)?,
        group: number(2)?,
        session: number(3)?,
        zombie: matches!(*fields.first()?, "Z" | "X") && threads <= 1,
        started: fields.get(19)?.parse().ok()?,
    })
}

/// Whether the environment a process was started with holds a variable whose `NAME=value` begins
/// with `start`. False where that cannot be read: another user's process, or a zombie.
pub fn environment_has(pid: i32, start: &[u8]) -> bool {
    fs::read(format!("/proc/{pid}/environ"))
        .is_ok_and(|environment| environment.split(|byte| *byte == 0).any(|variable| variable.starts_with(start)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let stat = b"7 (a) Z (b) S 3 5 6 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 8812 0 0";
        let expected = Process { pid: 7, parent: 3, group: 5, session: 6, zombie: false, started: 8812 };
        assert_eq!(parse(7, stat), Some(expected));
        assert_eq!(parse(7, b"7 (short) S 1"), None);
        let dead = b"7 (a) Z 3 5 6 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 8812 0 0";
        assert!(parse(7, dead).is_some_and(|process| process.zombie));
        let only_its_first_thread = b"7 (a) Z 3 5 6 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 2 0 8812 0 0";
        assert!(parse(7, only_its_first_thread).is_some_and(|process| !process.zombie));
    }

    #[test]
    fn this_process_is_seen() {
        let pid = std::process::id() as i32;
        let own = one(pid).expect("own record");
        assert!(all().expect("/proc").iter().any(|process| process.pid == pid && process.started == own.started));
        assert!(!own.zombie);
    }
}
