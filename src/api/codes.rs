//! Error codes, with what a process ends with and what a server answers for each. Written once, for
//! every face; the advice that goes with a code is the face's own. Every code has a page in
//! `docs/errors/`, which is part of the binary: a code without a page does not compile.

use super::ApiError;
use super::filter::BadFilter;
use super::runs::StartError;
use super::verbs::Left;
use super::wanted::BadJob;
use crate::domain::json::BadJson;
use crate::store::StoreError;

/// What the process ends with; a contract that others script against.
pub mod exit {
    pub const DONE: u8 = 0;
    /// The job or run failed.
    pub const FAILED: u8 = 1;
    /// Usage or configuration.
    pub const USAGE: u8 = 2;
    pub const NOT_FOUND: u8 = 3;
    pub const CONFLICT: u8 = 4;
    /// The store or server cannot be reached or used.
    pub const UNREACHABLE: u8 = 5;
    pub const TIMED_OUT: u8 = 6;
    /// A mistake of goflow's own: EX_SOFTWARE of sysexits.h.
    pub const BUG: u8 = 70;
    /// 128 + SIGINT, as shells have it.
    pub const INTERRUPTED: u8 = 130;
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $exit:ident;)*) => {
        /// Why a command failed, for `goflow explain`. A code is never given to something else.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            pub const ALL: &[Code] = &[$(Code::$name,)*];

            /// `GF0012`
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$name => $text,)* }
            }

            /// What the process ends with.
            pub fn exit(self) -> u8 {
                match self { $(Code::$name => exit::$exit,)* }
            }

            /// Its page, in Markdown.
            pub fn page(self) -> &'static str {
                match self { $(Code::$name => include_str!(concat!("../../docs/errors/", $text, ".md")),)* }
            }
        }
    };
}

codes! {
    /// Unknown command or flag, or a value that does not fit.
    Usage = "GF0001", USAGE;
    Config = "GF0002", USAGE;
    Environment = "GF0003", USAGE;
    StoreUrl = "GF0004", USAGE;
    StoreUnreachable = "GF0005", UNREACHABLE;
    StoreRefused = "GF0006", UNREACHABLE;
    StoreTooNew = "GF0007", UNREACHABLE;
    StoreCorrupt = "GF0008", UNREACHABLE;
    StoreFull = "GF0009", UNREACHABLE;
    PayloadNotJson = "GF0010", USAGE;
    PayloadTooLarge = "GF0011", USAGE;
    NotFound = "GF0012", NOT_FOUND;
    Ambiguous = "GF0013", USAGE;
    KeyHeld = "GF0014", CONFLICT;
    Unreadable = "GF0015", USAGE;
    PastTime = "GF0016", USAGE;
    Filter = "GF0017", USAGE;
    NeedsYes = "GF0018", USAGE;
    JobFailed = "GF0019", FAILED;
    TimedOut = "GF0020", TIMED_OUT;
    Manifest = "GF0021", USAGE;
    StateConflict = "GF0022", CONFLICT;
    ReservedType = "GF0023", USAGE;
    Differences = "GF0024", FAILED;
    OutputFailed = "GF0025", FAILED;
    RunFailed = "GF0026", FAILED;
    RunInput = "GF0027", USAGE;
    Rule = "GF0040", USAGE;
    Edit = "GF0050", USAGE;
    /// `top` needs one to be shown on.
    NoTerminal = "GF0051", USAGE;
    /// A server was asked without a token, or with one that it does not know.
    Unauthorized = "GF0060", USAGE;
    /// The token's scopes do not reach so far.
    Forbidden = "GF0061", USAGE;
    /// A Host or an Origin that the server does not answer to.
    ForeignHost = "GF0062", USAGE;
    /// An Idempotency-Key that was sent before with another body, or is being worked on.
    KeyReused = "GF0063", CONFLICT;
    /// A server that would be open to all, or that cannot listen.
    Listen = "GF0064", USAGE;
    /// A request that did not come in whole in time.
    TooSlow = "GF0065", TIMED_OUT;
    /// A server that holds as much of other requests as it may.
    Busy = "GF0066", UNREACHABLE;
    Bug = "GF0070", BUG;
    /// A webhook that is switched off, or has no secret.
    WebhookOff = "GF0080", CONFLICT;
    /// A webhook's request that is not signed as it must be.
    Signature = "GF0081", USAGE;
    /// A webhook's request that its expressions do not fit.
    Delivery = "GF0082", USAGE;
    /// All slots of a lock are taken, or it has another number of them.
    LockHeld = "GF0085", CONFLICT;
    /// A lock was lost while a command ran under it.
    LockLost = "GF0086", FAILED;
    /// A command that cannot be started.
    NoCommand = "GF0087", USAGE;
    Interrupted = "GF0130", INTERRUPTED;
}

impl From<&StoreError> for Code {
    fn from(error: &StoreError) -> Code {
        match error {
            StoreError::Unavailable(_) | StoreError::Unknown(_) => Code::StoreUnreachable,
            StoreError::Full(_) => Code::StoreFull,
            StoreError::Refused(_) => Code::StoreRefused,
            StoreError::TooNew { .. } => Code::StoreTooNew,
            StoreError::Corrupt(_) => Code::StoreCorrupt,
        }
    }
}

impl From<&ApiError> for Code {
    fn from(error: &ApiError) -> Code {
        match error {
            ApiError::Store(error) => error.into(),
            ApiError::NotFound { .. }
            | ApiError::NoQueue(_)
            | ApiError::NoDefinition { .. }
            | ApiError::NoSchedule(_) => Code::NotFound,
            ApiError::Ambiguous { .. } => Code::Ambiguous,
            ApiError::KeyHeld { .. } => Code::KeyHeld,
            ApiError::Conflict(_) => Code::StateConflict,
            ApiError::BadCursor(_) => Code::Usage,
        }
    }
}

impl From<&StartError> for Code {
    fn from(error: &StartError) -> Code {
        match error {
            StartError::Input(_) => Code::RunInput,
            StartError::Api(error) => error.into(),
        }
    }
}

impl From<&BadJob> for Code {
    fn from(error: &BadJob) -> Code {
        match error {
            BadJob::Reserved(_) => Code::ReservedType,
            BadJob::Field { .. } => Code::Usage,
            BadJob::Time(_) | BadJob::Past { .. } => Code::PastTime,
            BadJob::TooLarge(_) | BadJob::Payload(BadJson::TooLarge { .. } | BadJson::TooDeep { .. }) => {
                Code::PayloadTooLarge
            }
            BadJob::Payload(BadJson::Syntax { .. }) => Code::PayloadNotJson,
        }
    }
}

impl From<&Left> for Code {
    fn from(left: &Left) -> Code {
        match left {
            Left::Held(_) => Code::KeyHeld,
            Left::Gone => Code::NotFound,
            Left::Step { .. } | Left::State(_) | Left::Outside(_) | Left::Asked | Left::Changed => Code::StateConflict,
        }
    }
}

impl From<&BadFilter> for Code {
    fn from(_: &BadFilter) -> Code {
        Code::Filter
    }
}

impl Code {
    /// What a server answers with: a status of HTTP (RFC 9110).
    pub fn status(self) -> u16 {
        match self {
            Code::Unauthorized | Code::Signature => 401,
            Code::Forbidden | Code::ForeignHost => 403,
            Code::NotFound => 404,
            Code::TimedOut | Code::TooSlow => 408,
            Code::KeyHeld | Code::StateConflict | Code::LockHeld | Code::LockLost => 409,
            Code::PayloadTooLarge => 413,
            Code::Manifest | Code::RunInput | Code::Delivery | Code::KeyReused | Code::Rule | Code::ReservedType => 422,
            Code::WebhookOff
            | Code::Busy
            | Code::StoreUnreachable
            | Code::StoreRefused
            | Code::StoreTooNew
            | Code::StoreFull => 503,
            Code::Bug
            | Code::StoreCorrupt
            | Code::Config
            | Code::Environment
            | Code::StoreUrl
            | Code::OutputFailed
            | Code::Listen => 500,
            _ => 400,
        }
    }

    /// Reads `GF0012`, `gf12` or `12`.
    pub fn parse(text: &str) -> Option<Code> {
        let lower = text.trim().to_lowercase();
        let number: u32 = lower.strip_prefix("gf").unwrap_or(&lower).parse().ok()?;
        Code::ALL.iter().copied().find(|code| code.as_str()[2..].parse() == Ok(number))
    }

    /// The first line of its page, without the mark of a heading.
    pub fn title(self) -> &'static str {
        self.page().lines().next().unwrap_or_default().trim_start_matches(['#', ' '])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_is_of_its_code_and_no_page_is_left_over() {
        let mut pages: Vec<String> = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/errors"))
            .expect("the folder of pages")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        pages.sort();
        let codes: Vec<String> = Code::ALL.iter().map(|code| format!("{}.md", code.as_str())).collect();
        assert_eq!(pages, codes);
        for code in Code::ALL {
            assert!(code.page().starts_with(&format!("# {}: ", code.as_str())), "{code:?}");
            assert!(code.page().contains(&format!("Exit code {}.", code.exit())), "{code:?}");
            assert_eq!(Code::parse(code.as_str()), Some(*code));
        }
        assert_eq!(Code::parse("gf12"), Some(Code::NotFound));
        assert_eq!(Code::parse("12"), Some(Code::NotFound));
        assert_eq!(Code::parse("x"), None);
    }
}
