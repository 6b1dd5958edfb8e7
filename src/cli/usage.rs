//! A command line that was not understood, and help. clap knows what is wrong; here it is said the
//! way every other error is said: one sentence, a code, a hint.

use std::ffi::OsString;
use std::io::{self, Write};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, ValueEnum};

use super::args::{Cli, ColorWhen, Format};
use super::codes::{Code, exit};
use super::error::{CommandError, fail};
use super::ui::Ui;
use crate::domain::text::nearest;
use crate::sys::env::Env;

/// Prints help or version as asked for, or tells what was wrong; answers the exit code.
pub fn answer(env: &Env, args: &[OsString], error: clap::Error) -> u8 {
    let ui = Ui::new(env, format_of(args), color_of(args), false);
    if error.kind() == ErrorKind::DisplayHelp && is_of_root(args) && args.iter().any(|arg| arg == "-h") {
        let _ = io::stdout().write_all(overview(ui.color).as_bytes());
        return exit::DONE;
    }
    let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    if asked {
        let text = error.render();
        let text = if ui.color { text.ansi().to_string() } else { text.to_string() };
        let _ = io::stdout().write_all(text.as_bytes());
        return exit::DONE;
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = write!(io::stderr(), "{}", error.render());
        return exit::USAGE;
    }
    ui.error(&told(&error, args));
    exit::USAGE
}

/// `goflow` alone: the short help, on stderr because nobody asked for it.
pub fn short_help(env: &Env, args: &[OsString]) -> u8 {
    let ui = Ui::new(env, format_of(args), color_of(args), false);
    let _ = io::stderr().write_all(overview(ui.color_err).as_bytes());
    exit::USAGE
}

/// Which commands stand together in the short help; one that is in no group comes last.
const GROUPS: &[(&str, &[&str])] = &[
    ("Work", &["run", "up", "worker", "scheduler", "server", "top"]),
    ("Jobs", &["enqueue", "job", "queue", "dlq", "events"]),
    ("Workflows", &["workflow", "schedule", "apply", "diff", "get", "delete", "validate"]),
    ("Together", &["lock", "semaphore", "shard", "scale"]),
    ("Look after", &["doctor", "config", "token", "bench", "explain", "completions", "man"]),
];

/// The short help of goflow itself: there are more commands than lines on a screen, so they are
/// named in groups; `--help` describes each.
fn overview(color: bool) -> String {
    let root = Cli::command();
    let (heading, name, off) = if color { ("\u{1b}[1;33m", "\u{1b}[1;34m", "\u{1b}[0m") } else { ("", "", "") };
    let mut left: Vec<&str> =
        root.get_subcommands().filter(|command| !command.is_hide_set()).map(clap::Command::get_name).collect();
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for (title, names) in GROUPS {
        let known = names.iter().copied().filter(|name| left.contains(name)).collect();
        left.retain(|name| !names.contains(name));
        groups.push((title, known));
    }
    groups.push(("Others", left));
    let about = root.get_about().map(ToString::to_string).unwrap_or_default();
    let mut text =
        format!("{about}\n\n{heading}Usage:{off} {name}goflow{off} [OPTIONS] <COMMAND>\n\n{heading}Commands:{off}\n");
    for (title, names) in groups.iter().filter(|(_, names)| !names.is_empty()) {
        text.push_str(&format!("  {title:<12}{name}{}{off}\n", names.join(&format!("{off}, {name}"))));
    }
    let everywhere = root.get_after_help().map(ToString::to_string).unwrap_or_default();
    text.push_str(&format!(
        "\n{name}goflow COMMAND -h{off} tells what one takes, {name}goflow --help{off} what each does.\n{everywhere}\n"
    ));
    text
}

/// Whether no command was named.
fn is_of_root(args: &[OsString]) -> bool {
    let root = Cli::command();
    args.iter().skip(1).filter_map(|arg| arg.to_str()).all(|word| root.find_subcommand(word).is_none())
}

fn told(error: &clap::Error, args: &[OsString]) -> CommandError {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => texts.first().cloned(),
        _ => None,
    };
    let argument = text(ContextKind::InvalidArg).unwrap_or_default();
    let value = text(ContextKind::InvalidValue).unwrap_or_default();
    let source = std::error::Error::source(error).map(ToString::to_string);
    let told = match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let word = text(ContextKind::InvalidSubcommand).unwrap_or_default();
            fail(Code::Usage, format!("`{word}` is not a command"))
        }
        ErrorKind::UnknownArgument => fail(Code::Usage, format!("`{argument}` is not known here")),
        ErrorKind::InvalidValue if value.is_empty() => fail(Code::Usage, format!("{argument} needs a value")),
        ErrorKind::InvalidValue => {
            let allowed = match error.get(ContextKind::ValidValue) {
                Some(ContextValue::Strings(values)) => format!(": one of {}", values.join(", ")),
                _ => String::new(),
            };
            fail(Code::Usage, format!("`{value}` does not fit {argument}{allowed}"))
        }
        ErrorKind::ValueValidation => {
            let why = source.unwrap_or_default().replace("..=", " to ");
            // Most reasons quote the value themselves.
            let quoted = if why.contains(&value) || why.contains(&format!("{value:?}")) {
                String::new()
            } else {
                format!("`{value}`: ")
            };
            fail(Code::Usage, format!("{argument}: {quoted}{why}"))
        }
        ErrorKind::ArgumentConflict => {
            let with = text(ContextKind::PriorArg).unwrap_or_else(|| "another flag".to_owned());
            fail(Code::Usage, format!("{argument} cannot be used with {with}"))
        }
        ErrorKind::MissingRequiredArgument => {
            let missing = match error.get(ContextKind::InvalidArg) {
                Some(ContextValue::Strings(missing)) => missing.join(", "),
                _ => argument.clone(),
            };
            fail(Code::Usage, format!("{missing} is missing"))
        }
        _ => {
            let rendered = error.render().to_string();
            let first = rendered.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
            fail(Code::Usage, first)
        }
    };
    // Of several suggestions the one that is most like what was typed.
    let like = |typed, suggested| match error.get(suggested) {
        Some(ContextValue::Strings(texts)) => {
            let typed = text(typed).unwrap_or_default();
            nearest(&typed, texts.iter().map(String::as_str)).map(str::to_owned).or_else(|| texts.last().cloned())
        }
        _ => text(suggested),
    };
    let near = like(ContextKind::InvalidSubcommand, ContextKind::SuggestedSubcommand)
        .or_else(|| like(ContextKind::InvalidArg, ContextKind::SuggestedArg))
        .or_else(|| like(ContextKind::InvalidValue, ContextKind::SuggestedValue));
    match (near, usage_line(error)) {
        (Some(near), _) => told.hint(format!("did you mean `{near}`?")),
        (None, Some(usage)) => told.hint(usage),
        (None, None) => told.hint(format!("`{} --help` tells what fits", command_of(args))),
    }
}

/// The command that was being typed: `goflow job list`.
fn command_of(args: &[OsString]) -> String {
    let mut command = Cli::command();
    let mut path = command.get_name().to_owned();
    for word in args.iter().skip(1).filter_map(|arg| arg.to_str()) {
        if let Some(next) = command.find_subcommand(word).cloned() {
            path = format!("{path} {word}");
            command = next;
        }
    }
    path
}

fn usage_line(error: &clap::Error) -> Option<String> {
    let rendered = error.render().to_string();
    let usage = rendered.lines().find_map(|line| line.strip_prefix("Usage: "))?;
    let command = [" [", " <", " -"].iter().fold(usage, |words, end| words.split(end).next().unwrap_or(words));
    Some(format!("usage: {usage}; more with `{command} --help`"))
}

/// The value of a flag on a line that did not parse: errors keep the form that was asked for.
fn flag<'a>(args: &'a [OsString], short: &str, long: &str) -> Option<&'a str> {
    let texts: Vec<&str> = args.iter().filter_map(|arg| arg.to_str()).collect();
    let joined = texts.iter().find_map(|text| {
        let after_long = text.strip_prefix(long).and_then(|rest| rest.strip_prefix('='));
        after_long.or_else(|| text.strip_prefix(short).filter(|rest| !rest.is_empty() && !rest.starts_with('-')))
    });
    joined.or_else(|| texts.windows(2).find(|pair| pair[0] == long || pair[0] == short).map(|pair| pair[1]))
}

pub fn format_of(args: &[OsString]) -> Format {
    flag(args, "-o", "--output").and_then(|text| Format::from_str(text, true).ok()).unwrap_or_default()
}

fn color_of(args: &[OsString]) -> ColorWhen {
    flag(args, "--color", "--color").and_then(|text| ColorWhen::from_str(text, true).ok()).unwrap_or_default()
}
