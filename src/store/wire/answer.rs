//! The server's side of a call: the message is read and judged, the store is asked, the answer written.

use std::time::Duration;

use super::calls::{Call, Right, with_calls};
use super::check::Check;
use super::guard::Guard;
use super::{DatedPage, decode, encode};
use crate::domain::{Event, HolderId, JobId, Json, Ms, Name, QueueSettings, QueueStats, RunId, WorkerId};
use crate::store::contract::*;

/// Why a message was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is no such message, or holds what a caller here could not have asked for.
    #[error("{0}")]
    Malformed(String),
    /// It asks for what only somebody with more rights may do.
    #[error("{0}")]
    Forbidden(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

macro_rules! answers {
    ($($name:ident $call:ident ($($argument:ident: $given:ty = $owned:ty => $pass:expr),*)
        -> $answer:ty as $wire:ty, $right:ident;)*) => {
        /// Carries out a call that came as bytes, for somebody who may do so much; what is sent without the
        /// right to everything is looked at more closely: see [`guard`](super::guard).
        ///
        /// # Errors
        /// [`Refusal`]; nothing has happened, unless it is a [`StoreError::Unknown`].
        pub async fn answer(
            store: &dyn Store, call: Call, message: &[u8], may: Right,
        ) -> std::result::Result<Vec<u8>, Refusal> {
            let guard = Guard::new(store, may);
            match call {
                $(Call::$call => {
                    let ($($argument,)*): ($($owned,)*) = read(call, message)?;
                    $(Check::check(&$argument).map_err(|wrong| malformed(call, &wrong))?;)*
                    let guarded = guard.$name($($argument),*).await?;
                    Ok(encode(&<$wire>::from(guarded))?)
                })*
            }
        }

        impl Guard<'_> {
            $(pass_on! { $name($($argument: $owned => $pass),*) -> $answer })*
        }
    };
}

/// Calls that the guard has nothing to say about go to the store as they are.
macro_rules! pass_on {
    (enqueue $($rest:tt)*) => {};
    (exchange $($rest:tt)*) => {};
    (take_dirty $($rest:tt)*) => {};
    (run_work $($rest:tt)*) => {};
    (reshard $($rest:tt)*) => {};
    (definitions $($rest:tt)*) => {};
    (definition $($rest:tt)*) => {};
    (health $($rest:tt)*) => {};
    (news $($rest:tt)*) => {};
    (get $($rest:tt)*) => {};
    (list $($rest:tt)*) => {};
    (run $($rest:tt)*) => {};
    (runs $($rest:tt)*) => {};
    (values $($rest:tt)*) => {};
    (@ $name:ident($($argument:ident: $owned:ty => $pass:expr),*) -> $answer:ty) => {
        async fn $name(&self, $($argument: $owned),*) -> std::result::Result<$answer, Refusal> {
            Ok(self.store().$name($($pass),*).await?)
        }
    };
    ($($all:tt)*) => { pass_on! { @ $($all)* } };
}

fn read<T: serde::de::DeserializeOwned>(call: Call, message: &[u8]) -> std::result::Result<T, Refusal> {
    decode(message).map_err(|why| malformed(call, &why))
}

fn malformed(call: Call, why: &str) -> Refusal {
    Refusal::Malformed(format!("`{}`: {why}", call.as_str()))
}

with_calls!(answers);
