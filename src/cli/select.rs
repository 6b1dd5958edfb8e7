//! Which things a command means: `--where`, ids by any part of them, `-n`. The same words and the same
//! errors in every command. Knows nothing of what is done with them.

use std::io::BufRead;

use clap::Args;

use super::codes::Code;
use super::context::Context;
use super::error::{CommandError, Result, fail, pointing_at, reason};
use crate::api::filter::{BadFilter, Field, Where};
use crate::api::{Client, Filter};
use crate::domain::JobId;
use crate::domain::text::thousands;

/// What a list shows without `-n`.
pub const USUAL: usize = 20;

/// `-n` of every list.
#[derive(Clone, Copy, Debug, Args)]
pub struct Limit {
    /// At most so many; 0 means all
    #[arg(short = 'n', long = "limit", value_name = "N", default_value_t = USUAL)]
    pub limit: usize,
}

impl Limit {
    /// Says on stderr that there is more than was listed.
    pub fn tell_cut(self, context: &Context, which: &str, cut: bool) {
        if cut {
            let are =
                if self.limit == 1 { "one is".to_owned() } else { format!("{} are", thousands(self.limit as u64)) };
            context.ui.say(&format!("only the {which} {are} listed; -n 0 lists all"));
        }
    }

    /// Cuts rows to the limit; whether there were more.
    pub fn cut<T>(self, rows: &mut Vec<T>) -> bool {
        let cut = self.limit > 0 && rows.len() > self.limit;
        if cut {
            rows.truncate(self.limit);
        }
        cut
    }
}

/// A filter over jobs.
///
/// # Errors
/// `GF0017`, pointing at the word.
pub fn jobs(text: Option<&str>) -> Result<Filter> {
    let text = text.unwrap_or_default();
    Filter::parse(text).map_err(|error| told(text, error))
}

/// A filter over other things.
///
/// # Errors
/// As [`jobs`].
pub fn things<T>(text: Option<&str>, fields: &'static [Field<T>]) -> Result<Where<T>> {
    let text = text.unwrap_or_default();
    Where::parse(text, fields).map_err(|error| told(text, error))
}

fn told(text: &str, error: BadFilter) -> CommandError {
    let span = error.span;
    let told = CommandError::from(error);
    match span {
        Some(span) => told.detail(pointing_at(text, span.from, span.len)),
        None => told,
    }
}

/// The jobs that are named by any unique part of their ids; `-` names those on standard input, a line
/// each. One that is named twice is one.
///
/// # Errors
/// An id that nothing or too much has; standard input that cannot be read.
pub async fn ids(client: &Client, parts: &[String]) -> Result<Vec<JobId>> {
    let mut words = Vec::new();
    for part in parts {
        if part == "-" {
            words.extend(lines()?);
        } else {
            words.push(part.clone());
        }
    }
    let mut ids: Vec<JobId> = Vec::with_capacity(words.len());
    let mut seen = std::collections::BTreeSet::new();
    for word in words {
        let id = match word.parse() {
            // Whether it is kept is seen when something is done to it; thousands may be piped in.
            Ok(id) if parts.iter().any(|part| part == "-") => id,
            _ => client.job(&word).await?.job.id,
        };
        if seen.insert(id) {
            ids.push(id);
        }
    }
    Ok(ids)
}

fn lines() -> Result<Vec<String>> {
    let mut words = Vec::new();
    for line in std::io::stdin().lock().lines() {
        let line =
            line.map_err(|error| fail(Code::Unreadable, format!("standard input cannot be read: {}", reason(&error))))?;
        words.extend(Some(line.trim().to_owned()).filter(|line| !line.is_empty()));
    }
    Ok(words)
}
