//! What went wrong, in the contract's words. It knows SQLite's result codes and nothing else.

use rusqlite::ErrorCode;
use rusqlite::ffi;

use crate::store::StoreError;

/// Why a piece of work inside a transaction failed.
#[derive(Debug)]
pub(super) enum Fault {
    /// It was refused before it wrote anything: the transaction is as good as before.
    Refused(StoreError),
    /// It may have written half of what it had to: the transaction must be rolled back.
    Broken(StoreError),
}

impl Fault {
    pub(super) fn into_error(self) -> StoreError {
        match self {
            Fault::Refused(error) | Fault::Broken(error) => error,
        }
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Fault::Broken(error)
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Fault::Broken(classify(&error))
    }
}

/// The class of a failed statement. It did not happen: its transaction is rolled back.
pub(super) fn classify(error: &rusqlite::Error) -> StoreError {
    let message = format!("sqlite: {error}");
    let Some(code) = error.sqlite_error_code() else {
        // A column of the wrong type, text that is not UTF-8: not what goflow writes.
        return StoreError::Corrupt(message);
    };
    match code {
        ErrorCode::DiskFull => StoreError::Full(message),
        ErrorCode::DatabaseBusy
        | ErrorCode::DatabaseLocked
        | ErrorCode::SystemIoFailure
        | ErrorCode::OutOfMemory
        | ErrorCode::OperationInterrupted
        | ErrorCode::OperationAborted
        | ErrorCode::FileLockingProtocolFailed => StoreError::Unavailable(message),
        ErrorCode::CannotOpen
        | ErrorCode::PermissionDenied
        | ErrorCode::ReadOnly
        | ErrorCode::NoLargeFileSupport
        | ErrorCode::AuthorizationForStatementDenied => StoreError::Refused(message),
        _ => StoreError::Corrupt(message),
    }
}

/// The class of a failed COMMIT. A commit frame that was not written did not happen. One that was
/// written and not synchronised is undone for everybody who is alive, but would be found after a
/// crash: that is in doubt.
pub(super) fn classify_commit(error: &rusqlite::Error) -> StoreError {
    let class = classify(error);
    let in_doubt = error.sqlite_error().is_some_and(|error| {
        error.code == ErrorCode::SystemIoFailure && error.extended_code != ffi::SQLITE_IOERR_WRITE
    });
    match class {
        StoreError::Unavailable(message) if in_doubt => StoreError::Unknown(message),
        class => class,
    }
}

/// Names the file in an error's message.
pub(super) fn name_file(error: StoreError, path: &str) -> StoreError {
    let name = |message: String| match message.contains(path) {
        true => message,
        false => format!("{path}: {message}"),
    };
    match error {
        StoreError::Unavailable(message) => StoreError::Unavailable(name(message)),
        StoreError::Unknown(message) => StoreError::Unknown(name(message)),
        StoreError::Full(message) => StoreError::Full(name(message)),
        StoreError::Refused(message) => StoreError::Refused(name(message)),
        StoreError::Corrupt(message) => StoreError::Corrupt(name(message)),
        error @ StoreError::TooNew { .. } => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_says_whether_it_happened() {
        let failed = |code| rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
        let commit = |code| classify_commit(&failed(code));
        // The flush failed after the commit frame was written: it may be found after a crash.
        assert!(matches!(commit(ffi::SQLITE_IOERR_FSYNC), StoreError::Unknown(_)));
        assert!(matches!(commit(ffi::SQLITE_IOERR_WRITE), StoreError::Unavailable(_)));
        assert!(matches!(commit(ffi::SQLITE_FULL), StoreError::Full(_)));
        assert!(matches!(commit(ffi::SQLITE_BUSY), StoreError::Unavailable(_)));
        // Before the commit nothing is in doubt.
        assert!(matches!(classify(&failed(ffi::SQLITE_IOERR_FSYNC)), StoreError::Unavailable(_)));
        assert!(matches!(classify(&failed(ffi::SQLITE_NOTADB)), StoreError::Corrupt(_)));
        assert!(matches!(classify(&failed(ffi::SQLITE_READONLY)), StoreError::Refused(_)));
        assert!(matches!(classify(&rusqlite::Error::InvalidQuery), StoreError::Corrupt(_)));
    }
}
