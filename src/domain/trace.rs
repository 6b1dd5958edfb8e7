//! Traces: which trace a job or a run belongs to, and the spans of its life. Where nobody gave a
//! trace, it is named by the id of the job or the run itself, and each span by what it is of; so any
//! process finds the same names without being told. Must not know where spans are sent.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use super::id::{Epoch, JobId, RunId};
use super::job::Job;
use super::time::Ms;

/// The key of a job's metadata under which it keeps its trace: the name of the header of
/// <https://www.w3.org/TR/trace-context/>.
pub const TRACEPARENT: &str = "traceparent";

pub type SpanId = [u8; 8];

/// A place in a trace, as a traceparent of W3C Trace Context names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    pub id: [u8; 16],
    pub span: SpanId,
    /// Somebody records this trace; else it is passed on and not recorded.
    pub sampled: bool,
}

/// A text that is no traceparent. Those are to be passed over: a trace begins anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not a traceparent such as 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")]
pub struct BadTrace;

impl FromStr for Trace {
    type Err = BadTrace;

    fn from_str(text: &str) -> Result<Trace, BadTrace> {
        let mut parts = text.split('-');
        let mut part = || parts.next().ok_or(BadTrace);
        let (version, id, span, flags) = (part()?, part()?, part()?, part()?);
        let [version] = bytes::<1>(version)?;
        let (id, span, [flags]) = (bytes::<16>(id)?, bytes::<8>(span)?, bytes::<1>(flags)?);
        // A later version may say more; this one may not, and 255 is none.
        let more = parts.next().is_some();
        if version == 0xff || (version == 0 && more) || id == [0; 16] || span == [0; 8] {
            return Err(BadTrace);
        }
        Ok(Trace { id, span, sampled: flags & 1 == 1 })
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("00-")?;
        self.id.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("-")?;
        self.span.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        write!(f, "-{:02x}", u8::from(self.sampled))
    }
}

/// Lower-case hexadecimal digits, as the standard asks.
fn bytes<const N: usize>(text: &str) -> Result<[u8; N], BadTrace> {
    let digits = text.as_bytes();
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Ok(byte - b'0'),
        b'a'..=b'f' => Ok(byte - b'a' + 10),
        _ => Err(BadTrace),
    };
    if digits.len() != 2 * N {
        return Err(BadTrace);
    }
    let mut bytes = [0; N];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = digit(digits[2 * at])? << 4 | digit(digits[2 * at + 1])?;
    }
    Ok(bytes)
}

/// A span with its parent, if it has one that is known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    pub trace: Trace,
    pub parent: Option<SpanId>,
}

impl Placed {
    /// A span below this one.
    fn child(self, what: &str, of: &[&[u8]]) -> Placed {
        let span = span_id(what, of);
        Placed { trace: Trace { span, ..self.trace }, parent: Some(self.trace.span) }
    }

    fn below(given: Option<Trace>, id: [u8; 16], span: SpanId) -> Placed {
        match given {
            Some(given) => Placed { trace: Trace { span, ..given }, parent: Some(given.span) },
            None => Placed { trace: Trace { id, span, sampled: true }, parent: None },
        }
    }

    /// The span of a job's whole life: below what its metadata names, else below its run.
    pub fn of_job(job: &Job) -> Placed {
        let given = job.metadata.get(TRACEPARENT).and_then(|text| text.parse().ok());
        let span = span_id("job", &[job.id.as_bytes()]);
        match (given, &job.link) {
            (None, Some(link)) => Placed::below(Some(Placed::of_run(link.run, None).trace), [0; 16], span),
            (given, _) => Placed::below(given, *job.id.as_bytes(), span),
        }
    }

    /// The span of a run's whole life; `given` is what it was started with.
    pub fn of_run(run: RunId, given: Option<&str>) -> Placed {
        let given = given.and_then(|text| text.parse().ok());
        Placed::below(given, *run.as_bytes(), span_id("run", &[run.as_bytes()]))
    }

    /// The span of a step that is no job, below the life of its run.
    pub fn step(self, run: RunId, step: &str) -> Placed {
        self.child("step", &[run.as_bytes(), step.as_bytes()])
    }

    /// The span of enqueueing a job or starting a run, which becomes the parent of its life.
    pub fn of_enqueue(id: &[u8; 16], given: Option<Trace>) -> Placed {
        Placed::below(given, *id, span_id("enqueue", &[id]))
    }

    /// The wait before the attempt under this lease, below the life of its job.
    pub fn wait(self, job: JobId, epoch: Epoch) -> Placed {
        self.child("wait", &[job.as_bytes(), &epoch.0.to_be_bytes()])
    }

    /// The attempt itself.
    pub fn attempt(self, job: JobId, epoch: Epoch) -> Placed {
        self.child("attempt", &[job.as_bytes(), &epoch.0.to_be_bytes()])
    }
}

fn span_id(what: &str, of: &[&[u8]]) -> SpanId {
    let mut digest = Sha256::new();
    digest.update(what);
    of.iter().for_each(|part| digest.update(part));
    let mut id: SpanId = [0; 8];
    id.copy_from_slice(&digest.finalize()[..8]);
    // The standard keeps zero for "none".
    if id == [0; 8] { [1; 8] } else { id }
}

/// Which side of a hand-over a span is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    Internal,
    /// Gives work away.
    Producer,
    /// Does work that was given away.
    Consumer,
}

/// A part of a trace that is over.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    pub place: Placed,
    /// Few names in all: what differs from job to job is an attribute.
    pub name: String,
    pub kind: SpanKind,
    pub start: Ms,
    pub end: Ms,
    pub attributes: Vec<(&'static str, String)>,
    pub error: Option<String>,
}

/// Takes spans that are over. Called between two jobs, so it must not block.
pub trait Spans: fmt::Debug + Send + Sync + 'static {
    fn record(&self, span: Span);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Json, Link, Shard};

    const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_reads_back_and_what_is_none_is_refused() {
        assert_eq!(GIVEN.parse::<Trace>().map(|trace| trace.to_string()), Ok(GIVEN.to_owned()));
        let later = GIVEN.replacen("00-", "01-", 1) + "-more";
        assert!(later.parse::<Trace>().is_ok_and(|trace| trace.sampled), "a later version");
        assert!(GIVEN.replace("-01", "-00").parse::<Trace>().is_ok_and(|trace| !trace.sampled));
        for bad in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            &format!("{GIVEN}-more"),
            &GIVEN.to_uppercase(),
            &GIVEN.replacen("00-", "ff-", 1),
            &GIVEN.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &GIVEN.replace("00f067aa0ba902b7", &"0".repeat(16)),
            &GIVEN.replace("4bf9", "4bg9"),
        ] {
            assert_eq!(bad.parse::<Trace>(), Err(BadTrace), "{bad}");
        }
    }

    fn job() -> Job {
        let name = |text: &str| text.parse().expect("a name");
        Job::new(JobId::from_parts(Ms(7), Shard(1), 9), name("mail"), name("default"), Json::null())
    }

    #[test]
    fn a_life_lies_below_what_was_given_else_it_is_a_trace_of_its_own() {
        let mut job = job();
        let own = Placed::of_job(&job);
        assert_eq!((own.trace.id, own.parent), (*job.id.as_bytes(), None));
        job.metadata.insert(TRACEPARENT.into(), GIVEN.into());
        let placed = Placed::of_job(&job);
        let given: Trace = GIVEN.parse().expect("a trace");
        assert_eq!((placed.trace.id, placed.parent), (given.id, Some(given.span)));
        let attempt = placed.attempt(job.id, Epoch(1));
        assert_eq!((attempt.trace.id, attempt.parent), (given.id, Some(placed.trace.span)));
        assert_ne!(attempt.trace.span, placed.attempt(job.id, Epoch(2)).trace.span);
        assert_ne!(attempt.trace.span, placed.wait(job.id, Epoch(1)).trace.span);
    }

    #[test]
    fn a_step_lies_below_its_run() {
        let mut job = job();
        let run = RunId::from_parts(Ms(3), Shard(0), 4);
        job.link = Some(Link { run, step: "charge".into(), undo: false });
        let (step, run) = (Placed::of_job(&job), Placed::of_run(run, None));
        assert_eq!((step.trace.id, step.parent), (run.trace.id, Some(run.trace.span)));
    }
}
