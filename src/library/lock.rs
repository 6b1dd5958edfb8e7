//! Locks and semaphores of a program. What holds one is a [`Held`], whichever of the two it came from.

use std::time::Duration;

use super::{Client, Error, Result};
use crate::api::ApiError;
use crate::api::locks::{Held, Taken, USUAL_TTL, Wish};
use crate::store::StoreError;

/// What only one may do at a time, over all processes of a store.
///
/// A grant ends by itself after its time to live (30 s unless [`Lock::ttl`] says otherwise), so that one
/// who dies blocks nobody for ever; so whoever works longer extends it ([`Held::extend`]) or has it
/// extended ([`Held::renew`]). Whoever was stopped for too long may not know yet that it was overtaken:
/// what must be safe from that compares [`Held::fence`], which rises with every grant.
///
/// Dropping a [`Held`] gives it back in the background, if the runtime runs on; [`Held::release`] waits
/// until that is done, and tells.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), goflow::Error> {
/// use std::time::Duration;
/// let client = goflow::Client::connect("memory:").await?;
/// let lock = client.lock("nightly-backup")?;
/// let mut held = lock.acquire().await?;
/// assert!(lock.try_acquire(Duration::from_millis(20)).await?.is_none());
/// assert!(held.extend(Duration::from_secs(60)).await?);
/// let fence = held.fence();
/// held.release().await?;
/// assert!(lock.acquire().await?.fence() > fence);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Lock {
    client: Client,
    wish: Wish,
}

/// What only so many may do at a time, over all processes of a store: as a [`Lock`] with several slots.
/// Everybody must name the same number; another one is refused as long as anybody holds it.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), goflow::Error> {
/// use std::time::Duration;
/// let client = goflow::Client::connect("memory:").await?;
/// let semaphore = client.semaphore("downloads", 2)?;
/// let (one, two) = (semaphore.acquire().await?, semaphore.acquire().await?);
/// assert!(semaphore.try_acquire(Duration::ZERO).await?.is_none());
/// one.release().await?;
/// assert!(semaphore.try_acquire(Duration::ZERO).await?.is_some());
/// # drop(two);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Semaphore(Lock);

impl Client {
    /// A lock by its name; nothing is asked of the store yet.
    ///
    /// # Errors
    /// A name that is none.
    pub fn lock(&self, name: &str) -> Result<Lock> {
        self.slots(name, 1)
    }

    /// A semaphore by its name, of so many slots (1 to 1,000).
    ///
    /// # Errors
    /// A name that is none.
    pub fn semaphore(&self, name: &str, slots: u32) -> Result<Semaphore> {
        self.slots(name, slots).map(Semaphore)
    }

    fn slots(&self, name: &str, slots: u32) -> Result<Lock> {
        let about = format!("pid {} on {}", crate::sys::process::own_pid(), crate::sys::host::name());
        let wish = Wish { name: name.parse()?, slots, ttl: USUAL_TTL, about };
        Ok(Lock { client: self.clone(), wish })
    }
}

impl Lock {
    /// How long a grant holds without being extended.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Lock {
        self.wish.ttl = ttl;
        self
    }

    /// What `goflow lock list` shows of the holder, instead of process and host.
    #[must_use]
    pub fn about(mut self, about: &str) -> Lock {
        about.clone_into(&mut self.wish.about);
        self
    }

    /// Waits until it is free. Nobody is first by having waited longest.
    ///
    /// # Errors
    /// [`ApiError::Conflict`] if it is held with another number of slots; the store's.
    pub async fn acquire(&self) -> Result<Held> {
        match self.try_acquire(Duration::MAX).await? {
            Some(held) => Ok(held),
            None => Err(StoreError::Unavailable("the wait for the lock ended without it".to_owned()).into()),
        }
    }

    /// Waits for it at most so long; [`Duration::ZERO`] asks once. `None` if it was not free.
    ///
    /// # Errors
    /// As [`Lock::acquire`].
    pub async fn try_acquire(&self, wait: Duration) -> Result<Option<Held>> {
        match self.client.api().hold(&self.wish, wait).await? {
            Taken::Held(held) => Ok(Some(held)),
            Taken::Busy(_) => Ok(None),
            Taken::OtherSlots(lock) => {
                let text = format!("{} is held with {} slots, not {}", lock.name, lock.slots, self.wish.slots);
                Err(Error::Api(ApiError::Conflict(text)))
            }
        }
    }
}

impl Semaphore {
    /// As [`Lock::ttl`].
    #[must_use]
    pub fn ttl(self, ttl: Duration) -> Semaphore {
        Semaphore(self.0.ttl(ttl))
    }

    /// As [`Lock::about`].
    #[must_use]
    pub fn about(self, about: &str) -> Semaphore {
        Semaphore(self.0.about(about))
    }

    /// As [`Lock::acquire`].
    ///
    /// # Errors
    /// As [`Lock::acquire`].
    pub async fn acquire(&self) -> Result<Held> {
        self.0.acquire().await
    }

    /// As [`Lock::try_acquire`].
    ///
    /// # Errors
    /// As [`Lock::acquire`].
    pub async fn try_acquire(&self, wait: Duration) -> Result<Option<Held>> {
        self.0.try_acquire(wait).await
    }
}
