//! What a worker's jobs print, as lines on stderr, each with the job it comes from; and goflow's own
//! log. Output comes in chunks cut anywhere, several jobs at once: a line is written whole.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

use tracing_subscriber::EnvFilter;

use crate::domain::text::display_safe;
use crate::domain::{Epoch, JobId};
use crate::exec::{Builtin, Captured, LogSink, Stream, Work};
use crate::sys::env::Env;

/// A line longer than this is written in parts.
const LONGEST: usize = 16 << 10;

/// Writes job output to stderr: all of it, or only what the built-in `log` says.
pub struct StderrLog {
    everything: bool,
    partial: Mutex<BTreeMap<(JobId, Epoch, Stream), Vec<u8>>>,
}

impl StderrLog {
    pub fn new(everything: bool) -> StderrLog {
        StderrLog { everything, partial: Mutex::new(BTreeMap::new()) }
    }

    fn wants(&self, work: &Work) -> bool {
        self.everything || work.kind.as_str() == Builtin::Log.as_str()
    }
}

impl LogSink for StderrLog {
    fn chunk(&self, work: &Work, stream: Stream, bytes: &[u8]) {
        if !self.wants(work) {
            return;
        }
        let mut partial = self.partial.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = partial.entry((work.job, work.epoch, stream)).or_default();
        kept.extend_from_slice(bytes);
        let whole = match kept.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => end + 1,
            None if kept.len() >= LONGEST => kept.len(),
            None => return,
        };
        let lines: Vec<u8> = kept.drain(..whole).collect();
        if kept.is_empty() {
            partial.remove(&(work.job, work.epoch, stream));
        }
        write(work, &lines);
    }

    fn captured(&self, work: &Work, stream: Stream, _output: &Captured) {
        let rest = self.partial.lock().unwrap_or_else(PoisonError::into_inner).remove(&(work.job, work.epoch, stream));
        if let Some(rest) = rest {
            write(work, &rest);
        }
    }

    fn note(&self, work: &Work, text: &str) {
        if self.wants(work) {
            write(work, text.as_bytes());
        }
    }
}

fn write(work: &Work, lines: &[u8]) {
    let text = String::from_utf8_lossy(lines);
    let mut out = String::new();
    for line in text.lines() {
        out.push_str(&format!("{} {} | {}\n", work.kind, work.job.short(), display_safe(line)));
    }
    // In one piece, so that lines of different jobs do not mix; nobody may be listening.
    let _ = std::io::stderr().write_all(out.as_bytes());
}

/// goflow's own log on stderr: `GOFLOW_LOG` in the syntax of `tracing`'s filters, else warnings, and
/// with `verbose` what it does. `drawn` says that something is drawn on the terminal that a line of
/// log would tear: then only what ends the work is told.
pub fn start(env: &Env, verbose: bool, drawn: bool) {
    let usual = match (verbose, drawn) {
        (true, _) => "goflow=debug",
        (false, false) => "goflow=warn",
        (false, true) => "goflow=error",
    };
    let filter = match env.get("GOFLOW_LOG") {
        Some(filter) => EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new(usual)),
        None => EnvFilter::new(usual),
    };
    // Without colours: then no control character is goflow's own, and all of them can be shown.
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| SafeStderr).with_ansi(false);
    // A second start, in one process, changes nothing.
    let _ = log.with_target(false).try_init();
}

/// Makes lines harmless: errors in the log quote what handlers printed.
struct SafeStderr;

impl Write for SafeStderr {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let lines: String = text.lines().map(|line| display_safe(line).into_owned() + "\n").collect();
        std::io::stderr().write_all(lines.as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
