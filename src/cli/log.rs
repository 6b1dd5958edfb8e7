//! What a worker's jobs print, as lines on stderr, each with the job it comes from; and goflow's own
//! log. Output comes in chunks cut anywhere, several jobs at once: a line is written whole. No secret
//! of the configuration stands in any of it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::args::LogFormat;
use super::codes::Code;
use super::context::{Context, TOKEN};
use super::error::{Result, fail};
use crate::domain::secret::{self, Secrets};
use crate::domain::text::{display_safe, json_safe};
use crate::domain::{Clock, Epoch, JobId, Ms};
use crate::exec::{Builtin, Captured, LogSink, Stream, Work};
use crate::store::url::passwords;
use crate::sys::clock::SystemClock;

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

    /// Keeps whole lines with the job, without secrets, and shows them if somebody wants to see them.
    fn tell(&self, work: &Work, lines: &[u8]) {
        let text = String::from_utf8_lossy(lines);
        work.notes.log(text.as_bytes());
        if self.wants(work) {
            write(work, lines);
        }
    }
}

impl LogSink for StderrLog {
    fn chunk(&self, work: &Work, stream: Stream, bytes: &[u8]) {
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
        drop(partial);
        self.tell(work, &lines);
    }

    fn captured(&self, work: &Work, stream: Stream, _output: &Captured) {
        let rest = self.partial.lock().unwrap_or_else(PoisonError::into_inner).remove(&(work.job, work.epoch, stream));
        if let Some(rest) = rest {
            self.tell(work, &rest);
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
    for line in text.lines().map(|line| work.secrets.hide(line)) {
        if *FORMAT.get_or_init(LogFormat::default) == LogFormat::Json {
            let about = [("job_id", work.job.to_string()), ("type", work.kind.to_string())];
            let about = about.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
            out.push_str(&format!("{}\n", json_line(SystemClock.now(), "info", &line, about)));
        } else {
            out.push_str(&format!("{} {} | {}\n", work.kind, work.job.short(), display_safe(&line)));
        }
    }
    // In one piece, so that lines of different jobs do not mix; nobody may be listening.
    let _ = std::io::stderr().write_all(out.as_bytes());
}

/// A line of log as JSON: `time`, `level`, `msg`, then what else belongs to it. Every line that this
/// process writes with `--log-format json` has this shape.
pub fn json_line(at: Ms, level: &str, text: &str, more: Map<String, Value>) -> String {
    let mut line = Map::new();
    line.insert("time".to_owned(), at.rfc3339().into());
    line.insert("level".to_owned(), level.into());
    line.insert("msg".to_owned(), text.into());
    line.extend(more);
    json_safe(&Value::Object(line).to_string()).into_owned()
}

/// How the log is written in this process.
static FORMAT: OnceLock<LogFormat> = OnceLock::new();
/// What must not be shown.
static SECRETS: OnceLock<Arc<Secrets>> = OnceLock::new();

/// goflow's own log on stderr: `GOFLOW_LOG` in the syntax of `tracing`'s filters, else warnings, and
/// with `-v` what it does, as text or as JSON. `drawn` says that something is drawn on the terminal
/// that a line of log would tear: then only what ends the work is told.
///
/// # Errors
/// A configuration that cannot be read, a `GOFLOW_LOG` that is no filter.
pub fn start(context: &Context, drawn: bool) -> Result {
    let usual = match (context.global.verbose, drawn) {
        (true, _) => "goflow=debug",
        (false, false) => "goflow=warn",
        (false, true) => "goflow=error",
    };
    let filter = match context.env.get("GOFLOW_LOG") {
        Some(filter) => EnvFilter::try_new(filter).map_err(|error| {
            fail(Code::Environment, format!("GOFLOW_LOG: `{filter}` is no filter: {error}"))
                .hint("for example GOFLOW_LOG=goflow=debug, or info")
        })?,
        None => EnvFilter::new(usual),
    };
    // A second start, in one process, changes nothing.
    let _ = FORMAT.set(context.global.log_format);
    let _ = SECRETS.set(Arc::new(secrets(context)?));
    // Without colours: then no control character is goflow's own, and all of them can be shown.
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| SafeStderr).with_ansi(false);
    let _ = match context.global.log_format {
        LogFormat::Text => log.with_target(false).try_init(),
        LogFormat::Json => log.event_format(JsonLines).try_init(),
    };
    Ok(())
}

/// The configured secrets, those of handlers, the token, and the passwords of the store's URL, also as
/// it writes them.
///
/// # Errors
/// A configuration that cannot be read.
pub fn secrets(context: &Context) -> Result<Secrets> {
    let config = context.config()?;
    let mut secrets = config.secrets();
    secrets.extend(config.handlers.iter().flat_map(|handler| secret::of_manifest(&handler.fields)));
    secrets.extend(context.env.get(TOKEN).map(str::to_owned));
    secrets.extend(context.token()?.map(|(token, _)| token.secret().to_owned()));
    let url = context.store_choice()?.1.url;
    secrets.extend(passwords(&url).into_iter().map(|place| url[place].to_owned()));
    Ok(Secrets::new(secrets))
}

fn without_secrets(line: &str) -> Cow<'_, str> {
    SECRETS.get().map_or(Cow::Borrowed(line), |secrets| secrets.hide(line))
}

/// Makes lines harmless: errors in the log quote what handlers printed.
struct SafeStderr;

impl Write for SafeStderr {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let is_json = FORMAT.get() == Some(&LogFormat::Json);
        // One write is one event, and one event one line: what a handler printed begins none of its own.
        let line = without_secrets(text.trim_end_matches('\n'));
        let line = if is_json { json_safe(&line) } else { display_safe(&line) };
        std::io::stderr().write_all(format!("{line}\n").as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// An object a line: `time`, `level`, `msg`, then the event's own fields.
struct JsonLines;

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &tracing::Event<'_>,
    ) -> std::fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let level = event.metadata().level().as_str().to_lowercase();
        let text = fields.0.remove("message").unwrap_or_default();
        writeln!(writer, "{}", json_line(SystemClock.now(), &level, text.as_str().unwrap_or_default(), fields.0))
    }
}

#[derive(Default)]
struct Fields(Map<String, Value>);

impl Visit for Fields {
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}").into());
    }
}
