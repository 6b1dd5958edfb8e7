//! Locks and semaphores: looking at them, and holding a slot from a program that speaks HTTP. What holds is
//! a holder's id; whoever holds extends in time, and hands the fence to what is written to.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{Api, Asked, At, ChangedView, ListView, PageQuery};
use crate::api::codes::Code;
use crate::api::filter::Where;
use crate::api::locks::{Granted, HolderView, LOCK_FIELDS, LockView, USUAL_TTL, Wish};
use crate::domain::time::format_duration;
use crate::domain::{HolderId, Name, limits};
use crate::server::app::App;
use crate::server::limits::{Maybe, Sent};
use crate::server::problem::Problem;

/// Bounds of the time that a slot is held for without being extended, in milliseconds.
const TTL_MS: std::ops::RangeInclusive<u64> = 100..=86_400_000;
/// The longest that a request waits for a slot, in milliseconds.
const LONGEST_WAIT_MS: u64 = 30_000;
/// What may be said of a holder, in bytes.
const ABOUT_BYTES: usize = 256;

pub async fn list(Api(client): Api, Asked(page): Asked<PageQuery>) -> Result<Json<ListView<LockView>>, Problem> {
    let (filter, limit) = (Where::parse(page.filter(), LOCK_FIELDS)?, page.limit()?);
    let now = client.clock().now();
    // By name: the last one listed is where the next page begins.
    let after = page.after.as_deref().unwrap_or_default();
    let mut locks: Vec<LockView> = client.locks().await?;
    locks.retain(|lock| lock.name.as_str() > after && filter.matches(lock, now));
    let more = locks.len() > limit;
    locks.truncate(limit);
    let next = locks.last().filter(|_| more).map(|lock| lock.name.clone());
    Ok(Json(ListView { items: locks, next }))
}

pub async fn get(Api(client): Api, At(name): At<Name>) -> Result<Json<LockView>, Problem> {
    Ok(Json(client.lock(&name).await?))
}

/// A slot that is wanted.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LockWanted {
    /// How many may hold it at once: 1, a lock, if nothing is said; more, a semaphore.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 1000)]
    slots: Option<u32>,
    /// How long it holds without being extended; 30,000 if nothing is said.
    #[serde(default)]
    #[schema(minimum = 100, maximum = 86400000)]
    ttl_ms: Option<u64>,
    /// How long to wait for one.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 30000)]
    wait_ms: Option<u64>,
    /// Who asks, for people.
    #[serde(default)]
    #[schema(max_length = 256)]
    about: Option<String>,
    /// A UUID of its own for each wish: sent again with it, the wish is one. Without it one is made.
    #[serde(default)]
    #[schema(value_type = Option<crate::api::wire::Id>)]
    holder: Option<HolderId>,
}

fn within(field: &str, ms: u64, bounds: &std::ops::RangeInclusive<u64>) -> Result<Duration, Problem> {
    match bounds.contains(&ms) {
        true => Ok(Duration::from_millis(ms)),
        false => {
            let (least, most) = (bounds.start(), bounds.end());
            Err(Problem::new(Code::Usage, format!("`{field}`: {ms} is out of range: {least} to {most}")))
        }
    }
}

fn ttl(ms: Option<u64>) -> Result<Duration, Problem> {
    ms.map_or(Ok(USUAL_TTL), |ms| within("ttl_ms", ms, &TTL_MS))
}

impl LockWanted {
    fn wish(&self, name: &Name) -> Result<Wish, Problem> {
        let wrong = |why: String| Problem::new(Code::Usage, why);
        let slots = self.slots.unwrap_or(1);
        if !(1..=limits::LOCK_SLOTS).contains(&slots) {
            return Err(wrong(format!("`slots`: {slots} is out of range: 1 to {}", limits::LOCK_SLOTS)));
        }
        let about = self.about.clone().unwrap_or_default();
        if about.len() > ABOUT_BYTES || about.contains('\0') {
            return Err(wrong(format!("`about` has at most {ABOUT_BYTES} bytes, and no zero byte")));
        }
        Ok(Wish { name: name.clone(), slots, ttl: ttl(self.ttl_ms)?, about })
    }
}

pub async fn acquire(
    State(app): State<App>,
    Api(client): Api,
    At(name): At<Name>,
    Maybe(wanted): Maybe<LockWanted>,
) -> Result<Json<Granted>, Problem> {
    let wish = wanted.wish(&name)?;
    let wait = within("wait_ms", wanted.wait_ms.unwrap_or_default(), &(0..=LONGEST_WAIT_MS))?;
    let taken = tokio::select! {
        biased;
        // Whoever waits asks another server.
        () = app.stop().cancelled() => client.acquire(&wish, wanted.holder, Duration::ZERO).await?,
        taken = client.acquire(&wish, wanted.holder, wait) => taken?,
    };
    taken.map(Json).map_err(|lock| {
        let waited = if wait.is_zero() { String::new() } else { format!(", also after {}", format_duration(wait)) };
        let detail = match (lock.slots, wish.slots) {
            (is, wanted) if is != wanted => format!("{name} is held with {is} slots, not {wanted}"),
            (1, _) => format!("{name} is held{waited}"),
            (slots, _) => format!("all {slots} slots of {name} are held{waited}"),
        };
        Problem::new(Code::LockHeld, detail)
    })
}

/// A slot that is to be kept.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExtendWanted {
    #[schema(value_type = crate::api::wire::Id)]
    holder: HolderId,
    /// How long it holds from now on; 30,000 if nothing is said.
    #[serde(default)]
    #[schema(minimum = 100, maximum = 86400000)]
    ttl_ms: Option<u64>,
}

pub async fn extend(
    Api(client): Api,
    At(name): At<Name>,
    Sent(wanted): Sent<ExtendWanted>,
) -> Result<Json<Granted>, Problem> {
    let granted = client.extend(&name, wanted.holder, ttl(wanted.ttl_ms)?).await?;
    let lost = || Problem::new(Code::LockLost, format!("{} does not hold {name} any more", wanted.holder));
    granted.map(Json).ok_or_else(lost)
}

/// A slot that is not needed any more.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseWanted {
    #[schema(value_type = crate::api::wire::Id)]
    holder: HolderId,
}

pub async fn release(
    Api(client): Api,
    At(name): At<Name>,
    Sent(wanted): Sent<ReleaseWanted>,
) -> Result<Json<ChangedView>, Problem> {
    Ok(Json(ChangedView { changed: client.release(&name, wanted.holder).await? }))
}

/// Whose slots are to be taken.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BreakWanted {
    /// Only this holder; without it, all.
    #[serde(default)]
    #[schema(value_type = Option<crate::api::wire::Id>)]
    holder: Option<HolderId>,
}

pub async fn break_one(
    Api(client): Api,
    At(name): At<Name>,
    Maybe(wanted): Maybe<BreakWanted>,
) -> Result<Json<ListView<HolderView>>, Problem> {
    let holder = wanted.holder.map(|holder| holder.to_string());
    Ok(Json(ListView::whole(client.break_lock(&name, holder.as_deref()).await?)))
}
