//! Claims that wait in the server: a read of the event log that blocks until something is written there, and behind
//! it, on the same connection, the claim. The server goes from the one to the other without asking anybody. Each
//! such claim holds a connection for as long as it waits, so they have one of their own, not the shared one. It ends
//! with the claim that is given up: what the server has not begun by then it does not do.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use redis::Value;
use redis::aio::MultiplexedConnection;

use super::connection::{Link, says};
use super::keys::Keys;
use super::{answers, write};
use crate::domain::Ms;
use crate::domain::time::millis;
use crate::store::contract::{Claim, Exchange, Exchanged, Result, StoreError};

/// How long one waits at most, and how long its answer may take beyond that.
const LONGEST: Duration = Duration::from_secs(60);
const RESPONSE: Duration = Duration::from_secs(5);

/// The connection for the next claim, with the number of the shared one that led to the same server.
#[derive(Default)]
pub struct Standby {
    line: Mutex<Option<(MultiplexedConnection, u64)>>,
    /// The server takes our claims, but does not let us wait: for want of the right, or because something
    /// between us and it knows no such wait.
    is_refused: AtomicBool,
}

impl Standby {
    fn take(&self) -> Option<(MultiplexedConnection, u64)> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub fn is_refused(&self) -> bool {
        self.is_refused.load(Ordering::Relaxed)
    }

    /// See [`Store::stand_by`](crate::store::Store::stand_by).
    pub async fn claim(
        &self,
        link: &Link,
        keys: &Keys,
        claim: &Claim,
        since: Ms,
        at_most: Duration,
    ) -> Result<Option<Exchanged>> {
        let (mut line, number) = match self.take().filter(|(_, number)| *number == *link.numbers().borrow()) {
            Some(kept) => kept,
            None => link.apart(LONGEST).await?,
        };
        let at_most = at_most.min(LONGEST);
        let exchange = Exchange { commits: Vec::new(), claim: Some(claim.clone()) };
        // From the last id before that millisecond: others may have written within it, behind the look.
        let from = format!("{}-{}", since.0.max(1) - 1, u64::MAX);
        let mut both = redis::pipe();
        // Nought would be for ever.
        both.cmd("XREAD").arg("COUNT").arg(1).arg("BLOCK").arg(millis(at_most).max(1));
        both.arg("STREAMS").arg(keys.events()).arg(from);
        both.add_command(write::exchange(keys, &exchange, &[])?);
        let answering = tokio::time::timeout(at_most + RESPONSE, line.send_packed_commands(&both, 0, 2)).await;
        let late = |_| StoreError::Unknown(format!("{} does not answer a claim that stands by", link.shown()));
        let mut given = answering.map_err(late)?.map_err(|error| link.fail(&error))?.into_iter();
        let (waited, claimed) = (given.next().unwrap_or(Value::Nil), given.next().unwrap_or(Value::Nil));
        let claimed = match claimed.extract_error() {
            Err(error) if says(&error, "NOSCRIPT") => return Ok(None),
            Err(error) => return Err(link.fail(&error)),
            Ok(claimed) => claimed,
        };
        if waited.extract_error().is_err() {
            self.is_refused.store(true, Ordering::Relaxed);
        }
        *self.line.lock().unwrap_or_else(PoisonError::into_inner) = Some((line, number));
        if answers::read_wanted(&claimed).is_some() {
            return Ok(None);
        }
        answers::read_exchange(&exchange, claimed).map(Some)
    }
}
