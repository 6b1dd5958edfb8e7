//! Error codes and exit codes. Every code has a page in `docs/errors/`, which is part of the binary:
//! a code without a page does not compile.

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
    Bug = "GF0070", BUG;
    Interrupted = "GF0130", INTERRUPTED;
}

impl Code {
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
