//! Why a command could not be started, in one line with the cure. What is wrong with the command
//! itself fails for good; what a deployment or a quieter machine mends fails by the job's policy.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::verdict::failed;
use crate::domain::job::{Outcome, RetryHint};
use crate::domain::text::display_safe;
use crate::workflow::{Command, Program};

/// What stood in the way.
#[derive(Debug)]
pub(super) enum Cause {
    /// `run` names no program.
    NoProgram,
    /// A byte that ends text for the kernel, in what is named here.
    Nul(String),
    /// A variable that cannot be set under this name.
    VariableName(String),
    /// The kernel's answer.
    Start(io::Error),
}

/// Finds what no program could receive, before anything is started.
pub(super) fn check(command: &Command, environment: &BTreeMap<OsString, OsString>) -> Result<(), Cause> {
    let has_nul = |text: &OsStr| text.as_bytes().contains(&0);
    let argv = command.argv();
    if argv.first().is_none_or(|program| program.is_empty()) {
        return Err(Cause::NoProgram);
    }
    if let Some(place) = argv.iter().position(|text| text.contains('\0')) {
        let what = match (&command.program, place) {
            (Program::Shell(_), _) => "the shell text".to_owned(),
            (_, 0) => "the program's name".to_owned(),
            (_, place) => format!("argument {place}"),
        };
        return Err(Cause::Nul(what));
    }
    for (name, value) in environment {
        if name.is_empty() || has_nul(name) || name.as_bytes().contains(&b'=') {
            return Err(Cause::VariableName(name.to_string_lossy().into_owned()));
        }
        if has_nul(value) {
            return Err(Cause::Nul(format!("the variable {}", name.to_string_lossy())));
        }
    }
    Ok(())
}

/// The outcome, class `spawn`.
pub(super) fn explain(command: &Command, cause: &Cause) -> Outcome {
    let (message, retry) = match cause {
        Cause::NoProgram => ("`run` names no program".to_owned(), RetryHint::Never),
        Cause::Nul(what) => {
            (format!("{what} holds a NUL byte, which no program can receive there: pass it by stdin"), RetryHint::Never)
        }
        Cause::VariableName(name) => {
            (format!("no variable can be named {name:?}: a name is not empty and holds no `=`"), RetryHint::Never)
        }
        Cause::Start(error) => not_started(command, error),
    };
    failed("spawn", message, retry)
}

fn not_started(command: &Command, error: &io::Error) -> (String, RetryHint) {
    let argv = command.argv();
    let name = argv.first().copied().unwrap_or_default();
    let shown = display_safe(name);
    // A bare name is not a path.
    let path = name.contains('/').then(|| Path::new(name));
    match error.kind() {
        ErrorKind::ArgumentListTooLong => {
            let cure = "an argument or variable may have 128 KiB: pass large data by stdin";
            (format!("the arguments and variables of `{shown}` are too large: {cure}"), RetryHint::Never)
        }
        ErrorKind::NotFound if path.is_some_and(Path::exists) => {
            let cure = "mend its first line (`#!…`) or install what it names";
            (format!("`{shown}` is there, but its interpreter or loader is not: {cure}"), RetryHint::Policy)
        }
        ErrorKind::NotFound if path.is_some() => {
            let cure = "mend the path, or put the program on this worker's machine";
            (format!("the program `{shown}` does not exist: {cure}"), RetryHint::Policy)
        }
        ErrorKind::NotFound => {
            let cure = "install it on this worker's machine, or give its full path";
            (format!("the program `{shown}` was not found in PATH: {cure}"), RetryHint::Policy)
        }
        ErrorKind::PermissionDenied => {
            let cure = "make it so with `chmod +x`";
            (format!("the program `{shown}` is not executable for this worker's user: {cure}"), RetryHint::Policy)
        }
        ErrorKind::WouldBlock | ErrorKind::OutOfMemory => {
            let cure = "lower the worker's concurrency, or raise the limit (`ulimit -u`)";
            (
                format!("`{shown}` was not started, this machine has no room for more processes: {cure}"),
                RetryHint::Policy,
            )
        }
        _ => (format!("`{shown}` could not be started: {error}"), RetryHint::Policy),
    }
}
