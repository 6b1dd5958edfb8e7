//! Telling somebody something beside the work: one POST of JSON, or one command that reads it. Knows
//! no alerts. What it says of a failure never holds more of a URL than its host: the rest is a secret.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Action, Command, Context, Ended, NoNotes, Work, perform};
use crate::domain::job::Outcome;
use crate::domain::secret::{self, Secrets};
use crate::domain::{Epoch, JobId, Json, Name};
use crate::workflow::Program;

/// For one try.
const PATIENCE: Duration = Duration::from_secs(10);
/// For a command.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

/// Why it was not told, and whether trying again may help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct NotTold {
    pub why: String,
    pub again: bool,
}

/// Whether this is a URL that [`post`] can use.
pub fn is_url(url: &str) -> bool {
    reqwest::Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

/// Posts JSON; 2xx is told. Redirects are not followed: they would carry the text elsewhere.
///
/// # Errors
/// [`NotTold`]; another try may help after 408, 429, 5xx and a broken connection.
pub async fn post(url: &str, body: &serde_json::Value) -> Result<(), NotTold> {
    let not_told = |why: String, again| NotTold { why: format!("{}: {why}", secret::origin(url)), again };
    let client = client(url).map_err(|why| not_told(why, false))?;
    let sent = client
        .post(url)
        .header("content-type", "application/json")
        .body(body.to_string())
        .timeout(PATIENCE)
        .send()
        .await;
    match sent {
        Ok(answer) if answer.status().is_success() => Ok(()),
        Ok(answer) => {
            let status = answer.status();
            let again = status.is_server_error() || matches!(status.as_u16(), 408 | 429);
            Err(not_told(format!("it answered {}", status.as_u16()), again))
        }
        Err(error) if error.is_timeout() => Err(not_told("no answer in time".to_owned(), true)),
        Err(error) if error.is_connect() => Err(not_told("no connection".to_owned(), true)),
        Err(_) => Err(not_told("the connection broke".to_owned(), true)),
    }
}

/// One client for https, and one that works on a machine without certificates.
fn client(url: &str) -> Result<&'static reqwest::Client, String> {
    static PLAIN: OnceLock<Result<reqwest::Client, String>> = OnceLock::new();
    static SECURE: OnceLock<Result<reqwest::Client, String>> = OnceLock::new();
    let secure = url.trim_start().get(..6).is_some_and(|start| start.eq_ignore_ascii_case("https:"));
    let make = || {
        // Another one that the process has installed already is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
        let mut builder = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
        if !secure {
            builder = builder.tls_certs_only([]);
        }
        builder.build().map_err(|error| error.to_string())
    };
    let made = if secure { SECURE.get_or_init(make) } else { PLAIN.get_or_init(make) };
    made.as_ref().map_err(Clone::clone)
}

/// Runs a command that gets the value as JSON on its standard input, and these variables.
///
/// # Errors
/// [`NotTold`] when it does not end with 0 within half a minute.
pub async fn command(
    argv: &[String],
    env: BTreeMap<String, String>,
    input: &serde_json::Value,
    machine: &Context,
) -> Result<(), NotTold> {
    let command = Command { env: env.into_iter().collect(), ..Command::new(Program::Argv(argv.to_vec())) };
    let work = Work {
        job: JobId::default(),
        kind: Name::literal("goflow:alert"),
        queue: Name::literal("goflow:alert"),
        attempt: 1,
        epoch: Epoch(0),
        run: None,
        step_key: None,
        undo: false,
        payload: Json::from_value(input),
        timeout: Some(COMMAND_TIMEOUT),
        secrets: Arc::new(Secrets::default()),
        notes: Arc::new(NoNotes),
        trace: None,
    };
    match perform(&Action::Command(command), &work, machine, &CancellationToken::new()).await {
        Ended::Outcome(Outcome::Completed { .. }) => Ok(()),
        Ended::Outcome(Outcome::Failed { error, .. }) => Err(NotTold { why: error.to_string(), again: false }),
        _ => Err(NotTold { why: "it was ended".to_owned(), again: false }),
    }
}
