//! The terminal, or the lack of one: colours, width, questions, progress. stdout is data, stderr is
//! talk; every foreign text that passes through here is made harmless.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::args::{ColorWhen, Format};
use super::codes::Code;
use super::error::{CommandError, Result, fail};
use crate::domain::Clock;
use crate::domain::text::{display_safe, json_safe, thousands};
use crate::sys::clock::SystemClock;
use crate::sys::env::Env;

/// How to talk to whoever runs the command.
#[derive(Clone, Debug)]
pub struct Ui {
    pub format: Format,
    /// Colours on stdout.
    pub color: bool,
    /// Colours on stderr.
    pub color_err: bool,
    /// Columns of the terminal; `None` when stdout is none.
    pub width: Option<u16>,
    /// The locale knows more than ASCII.
    pub unicode: bool,
    stdin_terminal: bool,
    stderr_terminal: bool,
    verbose: bool,
    silent: bool,
    /// Talk is JSON, a line each.
    json_talk: bool,
    /// Talk is log: JSON in the one shape of `--log-format json`.
    log_talk: bool,
}

impl Ui {
    pub fn new(env: &Env, format: Format, when: ColorWhen, verbose: bool) -> Ui {
        let stdout_terminal = io::stdout().is_terminal();
        let stderr_terminal = io::stderr().is_terminal();
        let wants = |terminal: bool| match when {
            ColorWhen::Always => true,
            ColorWhen::Never => false,
            ColorWhen::Auto if env.get("NO_COLOR").is_some() => false,
            ColorWhen::Auto if env.get("CLICOLOR_FORCE").is_some_and(|value| value != "0") => true,
            ColorWhen::Auto => terminal && env.get("TERM") != Some("dumb"),
        };
        let locale = env.first(&["LC_ALL", "LC_CTYPE", "LANG"]).map(|(_, value)| value.to_lowercase());
        Ui {
            format,
            color: wants(stdout_terminal),
            color_err: wants(stderr_terminal),
            width: stdout_terminal.then(|| terminal_width(env)),
            unicode: locale.is_some_and(|locale| locale.contains("utf-8") || locale.contains("utf8")),
            stdin_terminal: io::stdin().is_terminal(),
            stderr_terminal: stderr_terminal && env.get("TERM") != Some("dumb"),
            verbose,
            silent: false,
            json_talk: format.is_json(),
            log_talk: false,
        }
    }

    /// No more talk on stderr.
    pub fn silence(&mut self) {
        self.silent = true;
    }

    /// What is said beside the data is log, for programs.
    pub fn talk_as_log(&mut self) {
        (self.json_talk, self.log_talk) = (true, true);
    }

    /// Whether people, not programs, read stdout.
    pub fn is_terminal(&self) -> bool {
        self.width.is_some()
    }

    /// A line of data.
    ///
    /// # Errors
    /// [`CommandError::ClosedPipe`] when nobody reads any more.
    pub fn line(&self, text: &str) -> Result {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.write_all(b"\n")?;
        Ok(out.flush()?)
    }

    /// A block of data, ending as it ends.
    ///
    /// # Errors
    /// As [`Ui::line`].
    pub fn block(&self, text: &str) -> Result {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        Ok(out.flush()?)
    }

    /// Says something beside the data. Whether anybody listens does not matter.
    pub fn say(&self, text: &str) {
        if self.silent {
            return;
        }
        if self.log_talk {
            write_log("info", text, serde_json::Map::new());
        } else if self.json_talk {
            let _ = writeln!(io::stderr(), "{}", json_safe(&serde_json::json!({ "message": text }).to_string()));
        } else {
            let _ = writeln!(io::stderr(), "{}", display_safe(text));
        }
    }

    /// Says something that only matters to who asked for more.
    pub fn whisper(&self, text: &str) {
        if self.verbose {
            self.say(text);
        }
    }

    pub fn warn(&self, text: &str) {
        if self.silent {
            return;
        }
        if self.log_talk {
            write_log("warn", text, serde_json::Map::new());
        } else if self.json_talk {
            let _ = writeln!(io::stderr(), "{}", json_safe(&serde_json::json!({ "warning": text }).to_string()));
        } else {
            let (on, off) = self.paint_err("1;33");
            let _ = writeln!(io::stderr(), "{on}warning:{off} {}", display_safe(text));
        }
    }

    pub fn error(&self, error: &CommandError) {
        if let CommandError::Told(told) = error {
            if self.log_talk {
                return write_log("error", &told.message, told.fields());
            }
            let (on, off) = self.paint_err("1;31");
            let text = if self.json_talk { told.json() } else { told.text(&on, off) };
            let _ = io::stderr().write_all(text.as_bytes());
        }
    }

    fn paint_err(&self, code: &str) -> (String, &'static str) {
        if self.color_err { (format!("\u{1b}[{code}m"), "\u{1b}[0m") } else { (String::new(), "") }
    }

    /// Asks before something that is hard to undo; No is the default. `yes` answers beforehand.
    ///
    /// # Errors
    /// Usage, when there is no terminal to ask on. `Silent` when the answer is No.
    pub fn confirm(&self, question: &str, yes: bool) -> Result {
        if yes {
            return Ok(());
        }
        if !self.stdin_terminal {
            return Err(fail(Code::NeedsYes, format!("there is no terminal to ask on: {question}"))
                .hint("--dry-run shows what would change; --yes does it without asking"));
        }
        match self.ask(&format!("{question} [y/N]")).to_lowercase().as_str() {
            "y" | "yes" => Ok(()),
            _ => self.declined(),
        }
    }

    /// As [`Ui::confirm`], but a word has to be typed: for what cannot be undone at all.
    ///
    /// # Errors
    /// As [`Ui::confirm`].
    pub fn confirm_typed(&self, question: &str, word: &str, yes: bool) -> Result {
        if yes || !self.stdin_terminal {
            return self.confirm(question, yes);
        }
        if self.ask(&format!("{question} type {word} to do it:")) == word { Ok(()) } else { self.declined() }
    }

    fn ask(&self, question: &str) -> String {
        let mut err = io::stderr();
        let _ = write!(err, "{} ", display_safe(question));
        let _ = err.flush();
        let mut answer = String::new();
        // What cannot be read is no Yes.
        let read = io::stdin().read_line(&mut answer).is_ok();
        if read { answer.trim().to_owned() } else { String::new() }
    }

    fn declined(&self) -> Result {
        self.say("nothing was changed");
        Err(CommandError::Silent(super::codes::exit::FAILED))
    }

    /// Whether things may be drawn on stderr and changed in place.
    pub fn draws(&self) -> bool {
        self.stderr_terminal && !self.json_talk
    }

    /// A progress bar on stderr; hidden where stderr is no terminal. `total` 0 means unknown.
    pub fn progress(&self, total: u64, noun: &str) -> ProgressBar {
        if !self.draws() {
            return ProgressBar::hidden();
        }
        let dot = if self.unicode { "·" } else { "-" };
        let (bar, template) = match total {
            0 => {
                (ProgressBar::no_length(), format!("{{spinner}} {{human_pos}} {noun} {dot} {{rate}} {dot} {{elapsed}}"))
            }
            total => (
                ProgressBar::new(total),
                format!("{{wide_bar}} {{human_pos}}/{{human_len}} {noun} {dot} {{rate}} {dot} {{left}}"),
            ),
        };
        bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        if let Ok(style) = ProgressStyle::with_template(&template) {
            let style = style.with_key("rate", rate).with_key("left", left);
            bar.set_style(if self.unicode { style } else { style.progress_chars("=> ").tick_chars("|/-\\ ") });
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    }
}

fn write_log(level: &str, text: &str, more: serde_json::Map<String, serde_json::Value>) {
    let line = super::log::json_line(SystemClock.now(), level, text, more);
    let _ = writeln!(io::stderr(), "{line}");
}

/// Whole things a second: a tenth of a job tells nothing.
fn rate(state: &ProgressState, out: &mut dyn fmt::Write) {
    let _ = write!(out, "{}/s", thousands(state.per_sec().round() as u64));
}

/// The time that is left, once there is anything to tell it from.
fn left(state: &ProgressState, out: &mut dyn fmt::Write) {
    let _ = match state.pos() {
        0 => write!(out, "- left"),
        _ => write!(out, "{:#} left", HumanDuration(state.eta())),
    };
}

fn terminal_width(env: &Env) -> u16 {
    let told = env.get("COLUMNS").and_then(|columns| columns.parse().ok());
    // Some terminals say that they are no columns wide: they do not know.
    let told = told.or_else(|| comfy_table::Table::new().width()).filter(|columns| *columns > 0);
    told.unwrap_or(80).max(20)
}
