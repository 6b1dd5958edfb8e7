//! Locks and semaphores, as every face uses them: waiting for a slot, holding it, keeping it, losing it.
//! The store judges; here is what a holder does about time and about answers that do not come.

use std::time::Duration;

use serde::Serialize;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use super::filter::{Field, Found, Kind};
use super::wire::Time;
use super::{ApiError, Client, Result};
use crate::domain::{Fence, HolderId, Ms, Name, Shard};
use crate::store::{Acquired, Grant, LockHolder, LockRecord, LockRequest};

/// How long a grant holds where nothing is said.
pub const USUAL_TTL: Duration = Duration::from_secs(30);
/// Whoever waits looks again after so long at most: a hint of a release may be lost.
const POLL: Duration = Duration::from_millis(500);
/// Before it is asked for again because something has changed.
const BREATH: Duration = Duration::from_millis(10);
/// Locks that are looked at in one call.
const PAGE: usize = 500;

/// A lock that is held, by one or by several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct LockView {
    pub name: String,
    /// How many may hold it at once.
    pub slots: u32,
    /// By fence.
    pub holders: Vec<HolderView>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct HolderView {
    pub id: String,
    /// Who that is, in its own words.
    pub about: String,
    pub fence: u64,
    pub since: Time,
    /// When it loses its slot unless it extends.
    pub until: Time,
}

impl From<&LockHolder> for HolderView {
    fn from(holder: &LockHolder) -> HolderView {
        HolderView {
            id: holder.id.to_string(),
            about: holder.about.clone(),
            fence: holder.fence.0,
            since: Time(holder.since),
            until: Time(holder.until),
        }
    }
}

impl From<&LockRecord> for LockView {
    fn from(lock: &LockRecord) -> LockView {
        LockView {
            name: lock.name.to_string(),
            slots: lock.slots,
            holders: lock.holders.iter().map(HolderView::from).collect(),
        }
    }
}

impl LockView {
    /// Since when the longest of its holders is in.
    fn oldest(&self) -> Ms {
        self.holders.iter().map(|holder| holder.since.0).min().unwrap_or_default()
    }

    /// Who holds it, for one line.
    pub fn who(&self) -> String {
        let who = self.holders.iter().map(|holder| holder.about.as_str());
        who.collect::<Vec<_>>().join("; ")
    }
}

/// A slot, as its holder is told of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Granted {
    pub name: String,
    /// By which it is extended and given back.
    #[schema(format = "uuid")]
    pub holder: String,
    /// What every write under the lock carries: whoever takes it refuses a lower one than it has seen.
    pub fence: u64,
    /// The store's now.
    pub now: Time,
    /// When it ends unless it is extended.
    pub until: Time,
}

impl Granted {
    fn new(name: &Name, holder: HolderId, grant: Grant) -> Granted {
        let (fence, now, until) = (grant.fence.0, Time(grant.now), Time(grant.until));
        Granted { name: name.to_string(), holder: holder.to_string(), fence, now, until }
    }
}

type F = Field<LockView>;

/// What can be asked of a lock.
pub const LOCK_FIELDS: &[Field<LockView>] = &[
    F::new("name", Kind::Text, |lock, _, _| lock.name.as_str().into()),
    F::new("slots", Kind::Number, |lock, _, _| Found::Number(lock.slots.into())),
    F::new("held", Kind::Number, |lock, _, _| Found::Number(i64::try_from(lock.holders.len()).unwrap_or(i64::MAX))),
    F::new("age", Kind::Age, |lock, _, now| Found::Age(now.since(lock.oldest()))),
];

/// What somebody wants to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    pub name: Name,
    /// 1 is a lock, more a semaphore.
    pub slots: u32,
    pub ttl: Duration,
    /// For people: who that is.
    pub about: String,
}

/// What became of a wish.
pub enum Taken {
    Held(Held),
    /// All slots were taken until the time ran out.
    Busy(LockRecord),
    /// It is held with another number of slots: waiting would be of no use that can be foreseen.
    OtherSlots(LockRecord),
}

/// A slot that is held. Dropped, it is given back as soon as the runtime gets to it; where none runs
/// any more, its time has to pass.
pub struct Held {
    client: Option<Client>,
    name: Name,
    holder: HolderId,
    grant: Grant,
    /// By this process's clock: until here nobody else can have been given it.
    sure: Instant,
    lost: CancellationToken,
    renewing: Option<JoinHandle<()>>,
}

/// A moment, or one that nobody will see.
fn later(from: Instant, by: Duration) -> Instant {
    from.checked_add(by).unwrap_or_else(|| from + Duration::from_secs(1 << 30))
}

impl Client {
    /// Every lock that is held, by name.
    ///
    /// # Errors
    /// The store's.
    pub async fn locks(&self) -> Result<Vec<LockView>> {
        let mut all: Vec<LockView> = Vec::new();
        let mut after: Option<Name> = None;
        loop {
            let (_, page) = self.store().locks(after.as_ref(), PAGE).await?;
            all.extend(page.iter().map(LockView::from));
            if page.len() < PAGE {
                return Ok(all);
            }
            after = page.into_iter().next_back().map(|lock| lock.name);
        }
    }

    /// Takes a lock from all who hold it, or from one of them (a unique part of its id).
    ///
    /// # Errors
    /// [`ApiError::NotFound`] if nobody holds it, or not this one; [`ApiError::Ambiguous`]; the store's.
    pub async fn break_lock(&self, name: &Name, holder: Option<&str>) -> Result<Vec<HolderView>> {
        let holder = match holder {
            None => None,
            Some(part) => Some(self.named_holder(name, part).await?),
        };
        let broken = self.patiently(|| self.store().break_lock(name, holder)).await?;
        if broken.is_empty() {
            return Err(ApiError::NotFound { noun: "lock", id: name.to_string() });
        }
        Ok(broken.iter().map(HolderView::from).collect())
    }

    async fn named_holder(&self, name: &Name, part: &str) -> Result<HolderId> {
        let locks = self.locks().await?;
        let digits = super::jobs::hex_part(part);
        let holders = locks.iter().filter(|lock| lock.name == name.as_str()).flat_map(|lock| &lock.holders);
        let has = |id: &str| digits.as_ref().is_some_and(|digits| id.replace('-', "").contains(digits.as_str()));
        let ids: Vec<String> = holders.map(|holder| holder.id.clone()).filter(|id| has(id)).take(5).collect();
        let missing = || ApiError::NotFound { noun: "lock holder", id: part.to_owned() };
        match ids.as_slice() {
            [] => Err(missing()),
            [one] => one.parse().map_err(|_| missing()),
            _ => Err(ApiError::Ambiguous { noun: "lock holder", part: part.to_owned(), ids }),
        }
    }

    /// Takes a slot, and waits for one at most so long; nobody is first by having waited longest.
    ///
    /// # Errors
    /// The store's, also where it refuses the wish.
    pub async fn hold(&self, wish: &Wish, wait: Duration) -> Result<Taken> {
        let request = self.request(wish, None);
        Ok(match self.take(&request, wait).await? {
            (Acquired::Granted(grant), asked) => Taken::Held(self.held(&request, grant, asked)),
            (Acquired::OtherSlots { lock, .. }, _) => Taken::OtherSlots(lock),
            (Acquired::Held { lock, .. }, _) => Taken::Busy(lock),
        })
    }

    /// The same for a holder elsewhere, who keeps and gives back the slot by its id. Asked for again by the
    /// same holder it is the same grant.
    ///
    /// # Errors
    /// As [`Client::hold`].
    pub async fn acquire(
        &self,
        wish: &Wish,
        holder: Option<HolderId>,
        wait: Duration,
    ) -> Result<Result<Granted, LockRecord>> {
        let request = self.request(wish, holder);
        Ok(match self.take(&request, wait).await?.0 {
            Acquired::Granted(grant) => Ok(Granted::new(&request.name, request.holder, grant)),
            Acquired::OtherSlots { lock, .. } | Acquired::Held { lock, .. } => Err(lock),
        })
    }

    /// Lets a slot be held for `ttl` from now; `None` if it is lost: then it does not come back.
    ///
    /// # Errors
    /// The store's.
    pub async fn extend(&self, name: &Name, holder: HolderId, ttl: Duration) -> Result<Option<Granted>> {
        let grant = self.patiently(|| self.store().extend(name, holder, ttl)).await?;
        Ok(grant.map(|grant| Granted::new(name, holder, grant)))
    }

    /// Gives a slot back; false if it was lost before.
    ///
    /// # Errors
    /// The store's.
    pub async fn release(&self, name: &Name, holder: HolderId) -> Result<bool> {
        self.patiently(|| self.store().release(name, holder)).await
    }

    /// The lock of this name, if somebody holds it.
    ///
    /// # Errors
    /// [`ApiError::NotFound`].
    pub async fn lock(&self, name: &Name) -> Result<LockView> {
        let found = self.locks().await?.into_iter().find(|lock| lock.name == name.as_str());
        found.ok_or_else(|| ApiError::NotFound { noun: "lock", id: name.to_string() })
    }

    fn request(&self, wish: &Wish, holder: Option<HolderId>) -> LockRequest {
        let new = || HolderId::from_parts(self.clock().now(), Shard::default(), self.entropy().next());
        let Wish { name, slots, ttl, about } = wish.clone();
        LockRequest { name, holder: holder.unwrap_or_else(new), about, slots, ttl }
    }

    /// Asks until there is a grant, waiting is of no use or the time is over; the last answer, and when it
    /// was asked for.
    async fn take(&self, request: &LockRequest, wait: Duration) -> Result<(Acquired, Instant)> {
        let deadline = Instant::now().checked_add(wait);
        let mut hints = self.store().hints();
        loop {
            hints.mark_unchanged();
            let asked = Instant::now();
            let answer = self.patiently(|| self.store().acquire(request)).await?;
            let Acquired::Held { now, lock } = &answer else { return Ok((answer, asked)) };
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok((answer, asked));
            }
            let free = lock.first_end().map_or(POLL, |end| end.since(*now));
            // Not all at the same moment.
            let pause = free.min(POLL).mul_f64(0.8 + 0.2 * self.entropy().fraction()).max(Duration::from_millis(1));
            let pause = left.map_or(pause, |left| pause.min(left));
            tokio::select! {
                biased;
                changed = hints.changed() => {
                    // Who asks may itself be what others are told of, and they what it is told of.
                    sleep(if changed.is_err() { pause } else { pause.min(BREATH) }).await;
                }
                () = sleep(pause) => {}
            }
        }
    }

    fn held(&self, request: &LockRequest, grant: Grant, asked: Instant) -> Held {
        Held {
            client: Some(self.clone()),
            name: request.name.clone(),
            holder: request.holder,
            grant,
            sure: later(asked, request.ttl),
            lost: CancellationToken::new(),
            renewing: None,
        }
    }
}

impl Held {
    pub fn name(&self) -> &Name {
        &self.name
    }

    pub fn holder(&self) -> HolderId {
        self.holder
    }

    /// What every write under the lock carries: whoever takes it refuses a lower one than it has seen.
    pub fn fence(&self) -> Fence {
        self.grant.fence
    }

    /// When it ends, by the store's clock, unless it is extended.
    pub fn until(&self) -> Ms {
        self.grant.until
    }

    /// Lets it hold for `ttl` from now. False if it is lost: then it does not come back.
    ///
    /// # Errors
    /// The store's; whether it was extended is not known then.
    pub async fn extend(&mut self, ttl: Duration) -> Result<bool> {
        let Some(client) = &self.client else { return Ok(false) };
        let asked = Instant::now();
        match client.patiently(|| client.store().extend(&self.name, self.holder, ttl)).await? {
            Some(grant) => {
                (self.grant, self.sure) = (grant, later(asked, ttl));
                Ok(true)
            }
            None => {
                self.lost.cancel();
                Ok(false)
            }
        }
    }

    /// From now on it is extended by `ttl` again and again, until it is released, dropped or lost.
    pub fn renew(&mut self, ttl: Duration) {
        let Some(client) = self.client.clone() else { return };
        let (name, holder, sure, lost) = (self.name.clone(), self.holder, self.sure, self.lost.clone());
        if let Some(old) = self.renewing.replace(tokio::spawn(keep(client, name, holder, ttl, sure, lost))) {
            old.abort();
        }
    }

    /// Cancelled once it is known to be lost: by [`Held::extend`], or while it is renewed.
    pub fn lost(&self) -> CancellationToken {
        self.lost.clone()
    }

    /// Gives it back. False if it was lost before.
    ///
    /// # Errors
    /// The store's; it ends by its time then.
    pub async fn release(mut self) -> Result<bool> {
        if let Some(renewing) = self.renewing.take() {
            renewing.abort();
        }
        let Some(client) = self.client.take() else { return Ok(false) };
        client.patiently(|| client.store().release(&self.name, self.holder)).await
    }
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held")
            .field("name", &self.name)
            .field("holder", &self.holder)
            .field("grant", &self.grant)
            .finish()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(renewing) = self.renewing.take() {
            renewing.abort();
        }
        let Some(client) = self.client.take() else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (name, holder) = (self.name.clone(), self.holder);
            // Nobody is there to be told if it fails; its time ends it.
            drop(runtime.spawn(async move { client.store().release(&name, holder).await }));
        }
    }
}

/// Extends a grant each third of its time. What is not extended by `sure` counts as lost: from then on
/// somebody else may have it.
async fn keep(client: Client, name: Name, holder: HolderId, ttl: Duration, mut sure: Instant, lost: CancellationToken) {
    loop {
        // Never past what is sure, however long it is to be prolonged.
        sleep((ttl / 3).min(sure.saturating_duration_since(Instant::now()) / 2)).await;
        loop {
            let asked = Instant::now();
            // Also where the time is over already, as after a pause of this process: the store knows.
            let patience = sure.saturating_duration_since(asked).max(ttl / 10);
            match timeout(patience, client.store().extend(&name, holder, ttl)).await {
                Ok(Ok(Some(_))) => {
                    sure = later(asked, ttl);
                    break;
                }
                Ok(Err(error)) if error.is_transient() && Instant::now() < sure => {
                    let left = sure.saturating_duration_since(Instant::now());
                    sleep((ttl / 10).min(Duration::from_secs(1)).min(left)).await;
                    if Instant::now() >= sure {
                        lost.cancel();
                        return;
                    }
                }
                _ => {
                    lost.cancel();
                    return;
                }
            }
        }
    }
}
