//! The command line: clap types, one file a command, output formats, and the composition root. The
//! only layer that prints. It asks `api` to do things and decides nothing itself.

pub mod args;
pub mod codes;
mod commands;
mod complete;
mod context;
mod error;
mod handlers;
mod log;
mod manifests;
mod output;
mod tree;
mod ui;
mod usage;

use std::ffi::OsString;
use std::process::ExitCode;

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
    std::panic::set_hook(Box::new(|_| {}));
    // Nothing of a command outlives it, so nothing half-done can be seen after a panic.
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&env, &args)));
    let code = outcome.unwrap_or_else(|panic| {
        let ui = Ui::new(&env, usage::format_of(&args), ColorWhen::Auto, false);
        ui.error(&bug(panic.as_ref()));
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
    match dispatch(&context, command) {
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
        Command::Run(args) => commands::run::run(context, args),
        Command::Apply(args) => commands::apply::run(context, &args),
        Command::Worker(args) => commands::worker::run(context, args),
        Command::Bench(command) => commands::bench::run(context, command),
        Command::Doctor(args) => commands::doctor::run(context, &args),
        Command::Config(command) => commands::config::run(context, command),
        Command::Explain(args) => commands::explain::run(context, &args),
        Command::Completions(args) => commands::completions::run(context, args),
        Command::Man(args) => commands::man::run(context, &args),
    }
}

fn bug(panic: &(dyn std::any::Any + Send)) -> CommandError {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic".to_owned());
    fail(Code::Bug, format!("goflow broke: {text}")).hint(
        "please report this line with the command and the version, goflow ".to_owned() + env!("CARGO_PKG_VERSION"),
    )
}
