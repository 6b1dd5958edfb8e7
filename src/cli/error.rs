//! What a command answers when it fails: a code, one sentence, hints. The layers below say what went
//! wrong in their own types; here, at the edge, they get their code and their advice.

use std::fmt::Write as _;
use std::io;

use super::codes::Code;
use crate::api::ApiError;
use crate::api::filter::BadFilter;
use crate::domain::problem::Problem;
use crate::domain::text::{display_safe, display_safe_lines, json_safe};
use crate::server::ServerError;
use crate::store::url::BadUrl;
use crate::store::{StoreError, StoreUrl};
use crate::sys::config::ConfigError;
use crate::sys::config::store::NoStore;

/// Why a command ends without success.
#[derive(Debug)]
pub enum CommandError {
    Told(Box<Told>),
    /// Whoever read our output has gone: end quietly.
    ClosedPipe,
    /// Everything has been said already.
    Silent(u8),
}

/// A failure to be told.
#[derive(Debug)]
pub struct Told {
    pub code: Code,
    /// One lower-case sentence, without a full stop.
    pub message: String,
    /// Lines to show between message and hints, such as a source line with a caret.
    pub detail: Option<String>,
    pub hints: Vec<String>,
}

pub type Result<T = (), E = CommandError> = std::result::Result<T, E>;

/// A failure with this code and sentence.
pub fn fail(code: Code, message: impl Into<String>) -> CommandError {
    CommandError::Told(Box::new(Told { code, message: message.into(), detail: None, hints: Vec::new() }))
}

impl CommandError {
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        if let CommandError::Told(told) = &mut self {
            told.hints.push(hint.into());
        }
        self
    }

    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        if let CommandError::Told(told) = &mut self {
            told.detail = Some(detail.into());
        }
        self
    }

    /// Adds to the sentence what had been done before.
    #[must_use]
    pub fn after(mut self, done: &str) -> Self {
        if let CommandError::Told(told) = &mut self {
            told.message = format!("{}; {done}", told.message);
        }
        self
    }

    pub fn exit(&self) -> u8 {
        match self {
            CommandError::Told(told) => told.code.exit(),
            CommandError::ClosedPipe => super::codes::exit::DONE,
            CommandError::Silent(exit) => *exit,
        }
    }
}

impl Told {
    /// For people: `error: … [GF0012]`, details, hints. Harmless on a terminal.
    pub fn text(&self, bold_red: &str, reset: &str) -> String {
        let mut text = format!("{bold_red}error:{reset} {} [{}]\n", display_safe(&self.message), self.code.as_str());
        if let Some(detail) = &self.detail {
            let _ = writeln!(text, "{}", display_safe_lines(detail));
        }
        for hint in &self.hints {
            let _ = writeln!(text, "hint: {}", display_safe(hint));
        }
        text
    }

    /// For programs: one line of JSON.
    pub fn fields(&self) -> serde_json::Map<String, serde_json::Value> {
        let fields = serde_json::json!({
            "code": self.code.as_str(),
            "exit": self.code.exit(),
            "detail": self.detail,
            "hints": self.hints,
        });
        fields.as_object().cloned().unwrap_or_default()
    }

    pub fn json(&self) -> String {
        let error = serde_json::json!({"error": {
            "code": self.code.as_str(),
            "exit": self.code.exit(),
            "message": self.message,
            "detail": self.detail,
            "hints": self.hints,
        }});
        json_safe(&format!("{error}\n")).into_owned()
    }
}

impl From<io::Error> for CommandError {
    /// Only for writes to our own output.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => CommandError::ClosedPipe,
            _ => fail(Code::OutputFailed, format!("the output could not be written: {}", reason(&error))),
        }
    }
}

/// An I/O error in lower case, without the system's number.
pub fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

/// Leaves out the system's numbers, which say nothing that the words before them do not.
fn without_os_error(text: &str) -> String {
    match text.split_once(" (os error ") {
        Some((before, after)) => {
            format!("{before}{}", after.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start_matches(')'))
        }
        None => text.to_owned(),
    }
}

impl From<StoreError> for CommandError {
    fn from(error: StoreError) -> Self {
        let failed = fail(Code::from(&error), without_os_error(&error.to_string()));
        match error {
            StoreError::Unavailable(_) => failed.hint("`goflow doctor` tells which store is used and why"),
            StoreError::Unknown(_) => failed.hint("it may or may not have happened; look before you do it again"),
            StoreError::Full(_) => failed.hint("workers go on and make room as jobs finish"),
            StoreError::Refused(_) | StoreError::TooNew { .. } => failed,
            StoreError::Corrupt(_) => failed.hint("nothing was changed; keep a copy before you mend it"),
        }
    }
}

/// The error for a store that did not open: which one it was, and who asked for it.
pub fn unusable(error: StoreError, url: &StoreUrl, origin: &str) -> CommandError {
    let mut error = CommandError::from(error);
    if let CommandError::Told(told) = &mut error
        && told.code == Code::StoreUnreachable
    {
        told.hints.clear();
    }
    error.hint(format!("the store is {url}, from {origin}"))
}

impl From<ApiError> for CommandError {
    fn from(error: ApiError) -> Self {
        let failed = fail(Code::from(&error), error.to_string());
        match error {
            ApiError::Store(error) => error.into(),
            ApiError::NotFound { noun, .. } => {
                let list = match noun {
                    "run" => "goflow workflow list",
                    "worker" => "goflow worker list",
                    "token" => "goflow token list",
                    "lock" | "lock holder" => "goflow lock list",
                    _ => "goflow job list -n 0 -o name",
                };
                failed.hint(format!("`{list}` shows what there is"))
            }
            ApiError::Ambiguous { .. } => failed.hint("give more of the id"),
            ApiError::NoQueue(_) => failed.hint("`goflow queue list` shows what there is"),
            ApiError::NoDefinition { nearest: Some(name), .. } => failed.hint(format!("did you mean `{name}`?")),
            ApiError::NoDefinition { kind, .. } => failed.hint(format!("`goflow get {kind}s` shows what there is")),
            ApiError::NoSchedule(_) => failed.hint("`goflow schedule list` shows what there is"),
            ApiError::KeyHeld { .. } => {
                failed.hint("it is free again when that job has ended, and its --unique-for is over")
            }
            ApiError::Conflict(_) | ApiError::BadCursor(_) => failed,
        }
    }
}

impl From<ServerError> for CommandError {
    fn from(error: ServerError) -> Self {
        let message = error.to_string();
        match error {
            ServerError::Bind { .. } => fail(Code::Listen, message).hint("-p 0 takes any port that is free"),
            ServerError::NeedsToken(_) => fail(Code::Listen, message)
                .hint("set GOFLOW_TOKEN, or `goflow token create NAME --scope admin`, or --bind 127.0.0.1"),
            ServerError::Origin(_) => fail(Code::Config, message),
            ServerError::Api(error) => error.into(),
        }
    }
}

impl From<BadFilter> for CommandError {
    fn from(error: BadFilter) -> Self {
        fail(Code::Filter, error.to_string()).hint("`goflow explain GF0017` tells the language of --where")
    }
}

impl From<BadUrl> for CommandError {
    fn from(error: BadUrl) -> Self {
        fail(Code::StoreUrl, error.to_string())
    }
}

impl From<NoStore> for CommandError {
    fn from(error: NoStore) -> Self {
        let (code, hint) = match &error {
            NoStore::NoHome => (Code::StoreUrl, "name one with --store, as in --store sqlite:goflow.db"),
            NoStore::Dsn(_) => (Code::Environment, "name one with --store, as in --store sqlite:goflow.db"),
            NoStore::Server(_) => (Code::StoreUrl, "it is given by --server or GOFLOW_SERVER"),
        };
        fail(code, error.to_string()).hint(hint)
    }
}

impl From<ConfigError> for CommandError {
    fn from(error: ConfigError) -> Self {
        let message = error.to_string();
        match error {
            ConfigError::Unreadable { .. } => fail(Code::Config, message),
            ConfigError::Environment { name, .. } => {
                fail(Code::Environment, message).hint(format!("mend it, or `unset {name}`"))
            }
            ConfigError::Broken(problem) => mistake(Code::Config, &problem),
        }
    }
}

/// One mistake in a file: its message, then its line with a mark, then its cure.
pub fn mistake(code: Code, problem: &Problem) -> CommandError {
    let rendered = problem.render();
    // The first line is the message itself.
    match rendered.split_once('\n') {
        Some((message, detail)) => fail(code, message).detail(detail),
        None => fail(code, rendered),
    }
}

/// More characters of a broken line are not shown.
const WIDEST_SOURCE: usize = 160;

/// A text with a mark under a part of it, both counted in characters from 0.
pub fn pointing_at(text: &str, from: usize, len: usize) -> String {
    let shown = |text: String| display_safe(&text).chars().count();
    // Of a text that no screen holds, the part around the mark.
    let skip = (from + len).saturating_sub(WIDEST_SOURCE);
    let before = shown(text.chars().skip(skip).take(from - skip.min(from)).collect());
    let marked = shown(text.chars().skip(from.max(skip)).take(len).collect()).max(1);
    let text: String = text.chars().skip(skip).take(WIDEST_SOURCE).collect();
    format!("  | {}\n  | {}{}", display_safe(&text), " ".repeat(before), "^".repeat(marked.min(WIDEST_SOURCE)))
}
