//! Identities. A job or run id is a UUID of version 7 (RFC 9562): 48 bits of milliseconds, then, in
//! the twelve bits the standard leaves free behind the version, the shard on which the record was
//! born, then 62 random bits. So an id tells when and where it began, and a look-up is one request.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::time::Ms;

/// One atomic key space. Twelve bits, so at most 4,096 shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Shard(pub u16);

impl Shard {
    /// The highest shard number an id can carry.
    pub const MAX: u16 = 0x0fff;
}

/// The fencing number of a lease: rises with every claim on a shard, never repeats. 0 means
/// "never leased".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch(pub u64);

impl Epoch {
    /// Stores that take their clock as the floor of epochs give so many a millisecond at most.
    pub const A_MS: i64 = 1_024;
    /// By how much the clocks of two shards may differ, in milliseconds.
    pub const AHEAD_MS: i64 = 86_400_000;

    /// Above all that another shard has given by now: each counts from 1, or from its clock.
    pub fn above_others(now: Ms) -> Epoch {
        let floor = now.0.saturating_add(Epoch::AHEAD_MS).saturating_mul(Epoch::A_MS);
        Epoch(u64::try_from(floor).unwrap_or(0))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An id that is not a UUID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an id (a UUID such as 0192f0c1-2b3c-7000-8a9b-0123456789ab)")]
pub struct BadId(pub String);

macro_rules! uuid_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Makes an id from its parts: the time of birth, the shard, and 62 random bits.
            pub fn from_parts(at: Ms, shard: Shard, random: u64) -> Self {
                let high = ((at.0.max(0) as u64) << 16) | 0x7000 | u64::from(shard.0 & Shard::MAX);
                let low = (random & 0x3fff_ffff_ffff_ffff) | 0x8000_0000_0000_0000;
                Self(Uuid::from_u64_pair(high, low))
            }

            pub fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                Uuid::from_slice(bytes).ok().map(Self)
            }

            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// The shard on which the record was born.
            pub fn shard(&self) -> Shard {
                Shard((self.0.as_u64_pair().0 & u64::from(Shard::MAX)) as u16)
            }

            /// The same, born on another shard.
            #[must_use]
            pub fn on(&self, shard: Shard) -> Self {
                let (high, low) = self.0.as_u64_pair();
                Self(Uuid::from_u64_pair((high & !u64::from(Shard::MAX)) | u64::from(shard.0 & Shard::MAX), low))
            }

            /// When the record was born, by its maker's view of the store's clock.
            pub fn created_at(&self) -> Ms {
                Ms((self.0.as_u64_pair().0 >> 16) as i64)
            }

            /// The last eight hexadecimal digits: what lists show.
            pub fn short(&self) -> String {
                let text = self.0.simple().to_string();
                text[24..].to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = BadId;

            fn from_str(text: &str) -> Result<Self, BadId> {
                Uuid::try_parse(text).map(Self).map_err(|_| BadId(text.to_owned()))
            }
        }
    };
}

uuid_type! {
    /// The identity of a job.
    JobId
}
uuid_type! {
    /// The identity of a run.
    RunId
}
uuid_type! {
    /// One life of a worker process: a restarted worker is another worker.
    WorkerId
}
uuid_type! {
    /// One life of a producer: whoever enqueues numbers its batches under one of these.
    ProducerId
}

uuid_type! {
    /// One wish to hold a lock: whoever asks again under the same one means the same grant.
    HolderId
}

/// The fencing number of a lock's grant: rises with every grant of a name, for ever. What a holder
/// writes to carries the highest it has seen, and refuses lower ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Fence(pub u64);

impl Fence {
    /// The one after `last`. The clock is its floor, so that it rises too where what went before is not
    /// known any more: on another shard, or after a server lost its last second. A thousand a
    /// millisecond stays exact in a double for two centuries.
    pub fn after(last: u64, now: Ms) -> Fence {
        let floor = u64::try_from(now.0).unwrap_or(0).saturating_mul(1_000);
        Fence(last.saturating_add(1).max(floor))
    }
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fences_rise_whatever_the_clock_does() {
        let first = Fence::after(0, Ms(1_770_000_000_000));
        assert_eq!(first, Fence(1_770_000_000_000_000));
        assert!(Fence::after(first.0, Ms(0)) > first);
        assert!(Fence::after(0, Ms(1_770_000_000_001)) > first);
        assert_eq!(Fence::after(7, Ms(-5)), Fence(8));
    }

    #[test]
    fn an_id_carries_its_birth_and_its_shard() {
        let id = JobId::from_parts(Ms(1_700_000_000_123), Shard(4095), u64::MAX);
        assert_eq!(id.created_at(), Ms(1_700_000_000_123));
        assert_eq!(id.shard(), Shard(4095));
        let uuid = Uuid::try_parse(&id.to_string()).expect("an id prints as a UUID");
        assert_eq!(uuid.get_version_num(), 7);
        assert_eq!(uuid.get_variant(), uuid::Variant::RFC4122);
        assert_eq!(id.to_string().parse::<JobId>(), Ok(id));
        assert!(id.to_string().ends_with(&id.short()));
    }
}
