//! Claims that wait in the server: a read of the event log that blocks until something is written there, and behind
//! it, on the same connection, the claim. The server goes from the one to the other without asking anybody. Each
//! such claim holds a connection for as long as it waits, so they have their own, not the shared one. It ends
//! with the claim that is given up: what the server has not begun by then it does not do.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Pipeline, Value};
use tracing::info;

use super::connection::{Link, says};
use super::keys::Keys;
use super::write::Right;
use super::{answers, write};
use crate::domain::Ms;
use crate::domain::time::millis;
use crate::store::contract::{Claim, Exchange, Exchanged, Result, StoreError};

/// How much longer than it waits a claim may take, the connection included. Whoever waits does nothing else.
const LATE: Duration = Duration::from_secs(1);

/// A connection for such claims, with the number of the shared one that led to the same server.
type Line = (MultiplexedConnection, u64);

/// The connections that no claim is on.
#[derive(Default)]
pub struct Waits {
    lines: Mutex<Vec<Line>>,
    /// The server takes our claims, but does not let us wait: for want of the right, or because something
    /// between us and it knows no such wait.
    is_refused: AtomicBool,
}

impl Waits {
    pub fn are_refused(&self) -> bool {
        self.is_refused.load(Ordering::Relaxed)
    }

    fn lines(&self) -> MutexGuard<'_, Vec<Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
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
        let exchange = Exchange::claiming(claim.clone());
        let both = look_then_claim(keys, &exchange, since, at_most)?;
        let mut numbers = link.numbers();
        let lost = |what: &str| StoreError::Unknown(format!("a claim that waits in {} {what}", link.shown()));
        let answers = tokio::select! {
            biased;
            answers = self.send(link, &both) => answers?,
            // The keys may be on another server now.
            _ = numbers.changed() => return Err(lost("was left there")),
            () = tokio::time::sleep(at_most + LATE) => return Err(lost("is not answered")),
        };
        self.read(link, &exchange, answers)
    }

    /// Its two answers.
    async fn send(&self, link: &Link, both: &Pipeline) -> Result<Vec<Value>> {
        let (mut line, number) = self.line(link).await?;
        let answers = line.send_packed_commands(both, 0, 2).await.map_err(|error| link.fail(&error))?;
        self.lines().push((line, number));
        Ok(answers)
    }

    /// A connection to the server that the shared one leads to now.
    async fn line(&self, link: &Link) -> Result<Line> {
        let shared = *link.numbers().borrow();
        let kept = {
            let mut lines = self.lines();
            lines.retain(|(_, number)| *number == shared);
            lines.pop()
        };
        match kept {
            Some(kept) => Ok(kept),
            None => link.apart().await,
        }
    }

    /// What the claim found: nothing to say where it has to be made in the usual way, as the script is not there or
    /// wants to know more.
    fn read(&self, link: &Link, exchange: &Exchange, answers: Vec<Value>) -> Result<Option<Exchanged>> {
        let mut answers = answers.into_iter().map(Value::extract_error);
        let mut next = || answers.next().unwrap_or(Ok(Value::Nil));
        let (waited, claimed) = (next(), next());
        let claimed = match claimed {
            Err(error) if says(&error, "NOSCRIPT") => return Ok(None),
            Err(error) => return Err(link.fail(&error)),
            Ok(claimed) => claimed,
        };
        if let Err(error) = waited
            && !says(&error, "UNBLOCKED")
        {
            info!("{} does not let a claim wait for work, which comes later by that: {error}", link.shown());
            self.is_refused.store(true, Ordering::Relaxed);
        }
        if answers::read_wanted(&claimed).is_some() {
            return Ok(None);
        }
        answers::read_exchange(exchange, claimed).map(Some)
    }
}

/// A read that waits until the log goes on after that millisecond, and the claim.
fn look_then_claim(keys: &Keys, exchange: &Exchange, since: Ms, at_most: Duration) -> Result<Pipeline> {
    // From the last id before that millisecond: others may have written within it, behind the look.
    let from = format!("{}-{}", since.0.max(1) - 1, u64::MAX);
    let mut both = redis::pipe();
    // Nought would be for ever.
    both.cmd("XREAD").arg("COUNT").arg(1).arg("BLOCK").arg(millis(at_most).max(1));
    both.arg("STREAMS").arg(keys.events()).arg(from);
    both.add_command(write::exchange(keys, exchange, &[], Right::Registered)?);
    Ok(both)
}
