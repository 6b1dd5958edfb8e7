//! A store that is another goflow's: each call of the contract is one request to a server, which asks its
//! own store. What holds of that store holds here, because every call may be made again: an answer that
//! was lost is [`StoreError::Unknown`], as it is with a database. It knows messages (`wire`) and HTTP, and
//! nothing of what a call means.
//!
//! Calls share a pool of connections that are kept open; the wait for new work has one of its own.

mod hints;
mod link;
mod places;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use self::hints::Hints;
use self::link::Link;
use self::places::Places;
use super::contract::*;
use super::wire::{Call, DatedPage, with_calls};
use crate::domain::{Event, HolderId, JobId, Json, Ms, Name, QueueSettings, QueueStats, RunId, Shard, WorkerId};

pub use self::link::ServerUrl;

/// A secret that says who asks; never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// # Errors
    /// What is wrong with it, without the text itself.
    pub fn new(text: &str) -> std::result::Result<Token, String> {
        let text = text.trim();
        if text.is_empty() {
            return Err("the token is empty".to_owned());
        }
        if text.len() > 4096 || text.bytes().any(|byte| !byte.is_ascii_graphic()) {
            return Err("a token is one word of letters, digits and signs".to_owned());
        }
        Ok(Token(text.to_owned()))
    }

    /// The text itself: to be sent, and to be left out of what is shown.
    pub fn secret(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

pub struct RemoteStore {
    link: Arc<Link>,
    hints: OnceLock<Hints>,
    /// Where new work is born, and who looks at that; of a store that has shards.
    places: Option<(Arc<Places>, tokio::task::JoinHandle<()>)>,
}

impl Drop for RemoteStore {
    fn drop(&mut self) {
        if let Some((_, follows)) = &self.places {
            follows.abort();
        }
    }
}

impl RemoteStore {
    /// Asks the server whether it is one that this goflow can talk to.
    ///
    /// # Errors
    /// [`StoreError::Refused`] for another protocol, a token that is not taken, or no goflow at all;
    /// [`StoreError::Unavailable`] if nobody answers.
    pub async fn open(url: &ServerUrl, token: Option<&Token>) -> Result<RemoteStore> {
        let link = Arc::new(Link::new(url, token)?);
        link.greet().await?;
        let placement = match link.call::<Option<Placement>>(Call::Placement, &()).await {
            Ok(placement) => placement,
            // Who may not add work makes no ids.
            Err(StoreError::Refused(_)) => None,
            Err(error) => return Err(error),
        };
        let places = placement.map(|placement| {
            let places = Arc::new(Places::new(placement));
            let follows = tokio::spawn(places::follow(link.clone(), Arc::downgrade(&places)));
            (places, follows)
        });
        Ok(RemoteStore { link, hints: OnceLock::new(), places })
    }
}

macro_rules! remote {
    ($($name:ident $call:ident ($($argument:ident: $given:ty = $owned:ty => $pass:expr),*)
        -> $answer:ty as $wire:ty, $right:ident;)*) => {
        #[async_trait]
        impl Store for RemoteStore {
            fn describe(&self) -> String {
                self.link.shown().to_owned()
            }

            fn shards(&self) -> Option<&dyn Shards> {
                self.places.as_ref().map(|_| self as &dyn Shards)
            }

            fn birthplace(&self, near: Near<'_>) -> Shard {
                self.places.as_ref().map(|(places, _)| places.birthplace(near)).unwrap_or_default()
            }

            fn hints(&self) -> watch::Receiver<u64> {
                self.hints.get_or_init(|| Hints::listen(self.link.clone())).receiver()
            }

            $(async fn $name(&self, $($argument: $given),*) -> Result<$answer> {
                let answer: $wire = self.link.call(Call::$call, &($(&$argument,)*)).await?;
                Ok(answer.into())
            })*
        }
    };
}

with_calls!(remote);
