//! The command line: clap types, one file a command, output formats, and the composition root. The
//! only layer that prints. It asks `api` to do things and decides nothing itself.

mod alerts;
pub mod args;
pub mod codes;
mod commands;
mod complete;
mod context;
mod edit;
mod error;
mod handlers;
mod log;
mod manifests;
mod output;
mod probe;
mod select;
mod serving;
mod toggles;
mod tree;
mod ui;
mod usage;
mod verbs;

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use clap::{CommandFactory, FromArgMatches};

use self::args::{Cli, ColorWhen, Command};
use self::codes::{Code, exit};
use self::context::Context;
use self::error::{CommandError, Result, fail};
use self::ui::Ui;
use crate::sys::env::Env;

/// Runs one command line and answers what the process ends with.
pub fn main() -> ExitCode {
    let env = Env::of_process();
    let args: Vec<OsString> = std::env::args_os().collect();
    if env.get("COMPLETE").is_some() {
        return complete::answer(args);
    }
    std::panic::set_hook(Box::new(remember));
    // Nothing of a command outlives it, so nothing half-done can be seen after a panic.
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&env, &args)));
    let code = outcome.unwrap_or_else(|panic| {
        let ui = Ui::new(&env, usage::format_of(&args), ColorWhen::Auto, false);
        // The hook knows the place too; the payload is what is left if it does not.
        let text = panic.downcast_ref::<&str>().map_or_else(|| "a panic".to_owned(), |text| (*text).to_owned());
        let text = LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or(text);
        ui.error(&bug(&text));
        exit::BUG
    });
    ExitCode::from(code)
}

fn run(env: &Env, args: &[OsString]) -> u8 {
    let matches = match Cli::command().try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) => return usage::answer(env, args, error),
    };
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => return usage::answer(env, args, error),
    };
    let Some(command) = cli.command else { return usage::short_help(env, args) };
    let context = Context::new(env.clone(), cli.global);
    let done = dispatch(&context, command);
    context.end_traces();
    match done {
        Ok(()) => exit::DONE,
        Err(error) => {
            context.ui.error(&error);
            error.exit()
        }
    }
}

fn dispatch(context: &Context, command: Command) -> Result {
    match command {
        Command::Enqueue(args) => commands::enqueue::run(context, args),
        Command::Job(command) => commands::job::run(context, command),
        Command::Queue(command) => commands::queue::run(context, command),
        Command::Dlq(command) => commands::dlq::run(context, command),
        Command::Schedule(command) => commands::schedule::run(context, command),
        Command::Webhook(command) => commands::webhook::run(context, command),
        Command::Scale(command) => commands::scale::run(context, command),
        Command::Shard(command) => commands::shard::run(context, command),
        Command::Events(args) => commands::events::run(context, &args),
        Command::Top(args) => commands::top::run(context, &args),
        Command::Run(args) => commands::run::run(context, args),
        Command::Apply(args) => commands::apply::run(context, &args),
        Command::Diff(args) => commands::diff::run(context, &args),
        Command::Validate(args) => commands::validate::run(context, &args),
        Command::Workflow(command) => commands::workflow::run(context, command),
        Command::Delete(args) => commands::delete::run(context, &args),
        Command::Get(args) => commands::get::run(context, &args),
        Command::Worker(command) => commands::worker::run(context, command),
        Command::Scheduler(args) => commands::scheduler::run(context, &args),
        Command::Server(args) => commands::server::run(context, &args),
        Command::Up(args) => commands::up::run(context, args),
        Command::Lock(command) => commands::lock::run(context, command),
        Command::Semaphore(command) => commands::lock::run_semaphore(context, command),
        Command::Token(command) => commands::token::run(context, command),
        Command::Bench(command) => commands::bench::run(context, command),
        Command::Doctor(args) => commands::doctor::run(context, &args),
        Command::Config(command) => commands::config::run(context, command),
        Command::Explain(args) => commands::explain::run(context, &args),
        Command::Completions(args) => commands::completions::run(context, args),
        Command::Man(args) => commands::man::run(context, &args),
    }
}

static LAST_PANIC: Mutex<Option<String>> = Mutex::new(None);

/// A panic is told once and in one line, by whoever catches it; one in a task that is caught there
/// stands in the log.
fn remember(panic: &std::panic::PanicHookInfo<'_>) {
    let text = panic.to_string().replace('\n', " ");
    tracing::error!("{text}");
    *LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
}

fn bug(text: &str) -> CommandError {
    let version = env!("CARGO_PKG_VERSION");
    fail(Code::Bug, format!("goflow broke: {text}"))
        .hint(format!("please report this line with the command and the version, goflow {version}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_one_line_to_report() {
        std::panic::set_hook(Box::new(remember));
        let caught = std::panic::catch_unwind(|| panic!("no {}", "way"));
        let _ = std::panic::take_hook();
        assert!(caught.is_err());
        let text = LAST_PANIC.lock().expect("nobody else").take().expect("it was remembered");
        let CommandError::Told(told) = bug(&text) else { panic!("it is told") };
        assert_eq!(told.code.exit(), 70);
        assert!(told.message.contains("no way") && told.message.contains("src/cli/mod.rs:"), "{}", told.message);
        assert_eq!(told.text("", "").lines().count(), 2, "{}", told.text("", ""));
    }
}
