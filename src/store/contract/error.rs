//! Why a call to a store failed.

/// Why a call failed, by what the caller can do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
pub enum StoreError {
    /// Did not happen. Trying again later is right: the server is away, loading, or busy.
    #[error("{0}")]
    Unavailable(String),
    /// May or may not have happened: a time-out or a cut connection. Trying again is safe, because
    /// every call is idempotent.
    #[error("{0}")]
    Unknown(String),
    /// No room: new work is refused, settles still go through.
    #[error("{0}")]
    Full(String),
    /// Will not work until somebody changes something: credentials, permissions, an evicting policy.
    #[error("{0}")]
    Refused(String),
    /// The store was written by a newer goflow.
    #[error("the store has schema {found}, this goflow knows up to {known}: use a newer goflow")]
    TooNew { found: u32, known: u32 },
    /// The store's data cannot be read as what it must be. Nothing was changed.
    #[error("{0}")]
    Corrupt(String),
}

impl StoreError {
    /// Whether the same call may succeed later without anybody's help.
    pub fn is_transient(&self) -> bool {
        matches!(self, StoreError::Unavailable(_) | StoreError::Unknown(_) | StoreError::Full(_))
    }
}

pub type Result<T, E = StoreError> = std::result::Result<T, E>;
