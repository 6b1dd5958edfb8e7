//! From how a process ended to what that means for the job: error class, message, and whether to
//! try again. Pure.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use super::output::Captured;
use crate::domain::job::{JobError, Outcome, RetryHint};
use crate::domain::time::format_duration;

/// EX_DATAERR of sysexits.h: the input was wrong, and will be.
const DATA_ERROR: i32 = 65;
/// EX_TEMPFAIL of sysexits.h: not now.
const TEMPORARY_FAILURE: i32 = 75;
/// What an error message quotes of stderr, in bytes.
const TAIL_BYTES: usize = 2 << 10;

pub(super) fn failed(class: impl Into<String>, message: impl AsRef<str>, retry: RetryHint) -> Outcome {
    Outcome::Failed { error: JobError::new(class, message), retry }
}

/// The outcome of an attempt that was cut at its limit.
pub(super) fn timed_out(limit: Duration, stderr: Option<&Captured>) -> Outcome {
    let message = format!("timed out after {}", format_duration(limit));
    failed("timeout", with_tail(message, stderr), RetryHint::Policy)
}

/// The failure that an exit status means; `None` for success.
pub(super) fn judge(status: ExitStatus, stderr: &Captured) -> Option<Outcome> {
    match (status.code(), status.signal()) {
        (Some(0), _) => None,
        (Some(code), _) => {
            let retry = match code {
                DATA_ERROR => RetryHint::Never,
                TEMPORARY_FAILURE => RetryHint::Uncounted,
                _ => RetryHint::Policy,
            };
            let message = with_tail(format!("exit status {code}"), Some(stderr));
            Some(failed(format!("exit:{code}"), message, retry))
        }
        (None, signal) => {
            // A process that ended has one or the other; 0 is no signal.
            let signal = signal.unwrap_or(0);
            let cause = if signal == 9 { " (out of memory?)" } else { "" };
            let message = with_tail(format!("killed by {}{cause}", signal_name(signal)), Some(stderr));
            Some(failed(format!("signal:{signal}"), message, RetryHint::Policy))
        }
    }
}

fn with_tail(message: String, stderr: Option<&Captured>) -> String {
    let tail = stderr.map(|captured| last_lines(&captured.tail_text(2 * TAIL_BYTES))).unwrap_or_default();
    match (tail.is_empty(), tail.contains('\n')) {
        (true, _) => message,
        (false, false) => format!("{message}: {tail}"),
        (false, true) => format!("{message}:\n{tail}"),
    }
}

/// Whole lines of at most [`TAIL_BYTES`], or the end of one that is longer.
fn last_lines(text: &str) -> String {
    let text = text.trim_end();
    if text.len() <= TAIL_BYTES {
        return text.trim_start_matches(['\r', '\n']).to_owned();
    }
    let mut start = text.len() - TAIL_BYTES;
    while !text.is_char_boundary(start) {
        start += 1;
    }
    let cut = &text[start..];
    let whole = if text[..start].ends_with('\n') { Some(cut) } else { cut.split_once('\n').map(|(_, rest)| rest) };
    whole.unwrap_or(cut).to_owned()
}

/// The name of a signal, as signal(7) of the Linux manual numbers them on most machines.
fn signal_name(number: i32) -> String {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM",
        "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF",
        "WINCH", "IO", "PWR", "SYS",
    ];
    let name = usize::try_from(number - 1).ok().and_then(|place| NAMES.get(place));
    name.map_or_else(|| format!("signal {number}"), |name| format!("SIG{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(raw: i32, stderr: &str) -> (String, String, RetryHint) {
        let mut captured = Captured::default();
        captured.push(stderr.as_bytes());
        match judge(ExitStatus::from_raw(raw), &captured) {
            Some(Outcome::Failed { error, retry }) => (error.class, error.message, retry),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_exit_status_says_whether_to_try_again() {
        assert_eq!(ended(1 << 8, ""), ("exit:1".into(), "exit status 1".into(), RetryHint::Policy));
        assert_eq!(ended(65 << 8, "bad\n"), ("exit:65".into(), "exit status 65: bad".into(), RetryHint::Never));
        assert_eq!(ended(75 << 8, "a\nb\n"), ("exit:75".into(), "exit status 75:\na\nb".into(), RetryHint::Uncounted));
        assert_eq!(judge(ExitStatus::from_raw(0), &Captured::default()), None);
    }

    #[test]
    fn a_signal_has_a_name() {
        let (class, message, retry) = ended(9, "");
        assert_eq!((class.as_str(), message.as_str()), ("signal:9", "killed by SIGKILL (out of memory?)"));
        assert_eq!(retry, RetryHint::Policy);
        assert_eq!(ended(15, "bye").1, "killed by SIGTERM: bye");
        assert_eq!(signal_name(31), "SIGSYS");
        assert_eq!(signal_name(40), "signal 40");
    }

    #[test]
    fn the_message_quotes_whole_last_lines() {
        let many: String = (0..1_000).map(|line| format!("line {line}\n")).collect();
        let message = ended(1 << 8, &many).1;
        assert!(message.starts_with("exit status 1:\nline "), "{message}");
        assert!(message.ends_with("line 999"));
        assert!(message.len() <= TAIL_BYTES + 20);
        let long = "é".repeat(5_000);
        assert_eq!(last_lines(&long), "é".repeat(TAIL_BYTES / 2));
    }
}
