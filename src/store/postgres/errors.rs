//! What went wrong at the server, by what the caller can do about it. Everything that may have been
//! carried out is `Unknown`: every call is idempotent, so asking again is safe, guessing is not.

use std::error::Error as _;

use deadpool_postgres::PoolError;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use crate::store::contract::StoreError;
use crate::sys::tls;

/// A failed call, before it is known whether it is worth a second try at once.
#[derive(Debug)]
pub(super) struct Fault {
    pub error: StoreError,
    /// The server rolled the transaction back because it got in the way of another one.
    pub again: bool,
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Fault { error, again: false }
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        fault.error
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let again =
            matches!(error.code(), Some(&SqlState::T_R_SERIALIZATION_FAILURE | &SqlState::T_R_DEADLOCK_DETECTED));
        Fault { error: judge(&error, StoreError::Unknown), again }
    }
}

/// A connection that could not be had: nothing was sent.
pub(super) fn no_connection(error: PoolError) -> StoreError {
    match error {
        PoolError::Backend(error) => judge(&error, StoreError::Unavailable),
        PoolError::Timeout(_) => StoreError::Unavailable("no PostgreSQL connection became free in time".to_owned()),
        other => StoreError::Unavailable(format!("no connection to PostgreSQL: {other}")),
    }
}

/// `lost` says what a failure without an answer from the server means.
fn judge(error: &Error, lost: fn(String) -> StoreError) -> StoreError {
    let Some(answer) = error.as_db_error() else {
        let cause = error.source().map(|source| format!(": {source}")).unwrap_or_default();
        if let Some(why) = tls::refusal(error) {
            return StoreError::Refused(format!("PostgreSQL: {why}; `sslrootcert`, `sslcert` and `sslkey` name files"));
        }
        return match error.to_string() {
            _ if cause.contains("does not support TLS") => {
                StoreError::Refused("PostgreSQL: the server does not speak TLS, and sslmode asks for it".to_owned())
            }
            text if text.contains("TLS handshake") => lost(format!("PostgreSQL: {text}{cause}")),
            text if text.contains("authentication") || text.contains("TLS") || text.contains("configuration") => {
                StoreError::Refused(format!("PostgreSQL: {text}{cause}"))
            }
            text if text.contains("serializing parameter") || text.contains("deserializing column") => {
                StoreError::Corrupt(format!("PostgreSQL: {text}{cause}"))
            }
            text => lost(format!("PostgreSQL: {text}{cause}")),
        };
    };
    let code = answer.code().code();
    let text = format!("PostgreSQL: {} ({code})", answer.message());
    match code {
        // Starting, stopping, all connections taken, a lock or a row in the way, a standby.
        "57P01" | "57P03" | "53300" | "53400" | "55P03" | "25006" | "40001" | "40P01" => StoreError::Unavailable(text),
        "57014" | "57P02" | "57P05" | "40003" => StoreError::Unknown(text),
        "53100" | "53200" => StoreError::Full(text),
        "53000" | "58000" | "58030" => StoreError::Unavailable(text),
        "XX001" | "XX002" => StoreError::Corrupt(text),
        // The schema or a part of it is gone.
        "42P01" | "42883" | "3F000" | "42703" => StoreError::Corrupt(text),
        _ if code.starts_with("08") => lost(text),
        // The session was ended from outside, or the server is in trouble of its own.
        _ if ["25P", "57", "XX"].iter().any(|class| code.starts_with(class)) => StoreError::Unknown(text),
        _ if code.starts_with("28") || code.starts_with("42") || code.starts_with("3D") => StoreError::Refused(text),
        _ => StoreError::Refused(text),
    }
}
