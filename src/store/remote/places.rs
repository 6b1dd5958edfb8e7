//! Where new work is born when the server's store has shards: what the server says of them, looked at each
//! second as every process with shards of its own does. It chooses; whether that fits is judged where the
//! store is.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::Duration;

use async_trait::async_trait;

use super::RemoteStore;
use super::link::Link;
use crate::domain::Shard;
use crate::store::contract::*;
use crate::store::sharded::Strategy;
use crate::store::wire::Call;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);

pub(super) struct Places {
    known: RwLock<Arc<Placement>>,
    /// What was born on each since the last look.
    born: Mutex<BTreeMap<u16, u64>>,
    turn: AtomicUsize,
}

impl Places {
    pub fn new(placement: Placement) -> Places {
        let turn = AtomicUsize::new(usize::try_from(placement.turn).unwrap_or_default());
        Places { known: RwLock::new(Arc::new(placement)), born: Mutex::default(), turn }
    }

    fn known(&self) -> Arc<Placement> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn learn(&self, placement: Placement) {
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(placement);
        self.born.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub fn birthplace(&self, near: Near<'_>) -> Shard {
        let placement = self.known();
        let map = &placement.map;
        let home = match near {
            Near::Nothing => None,
            Near::Key(key) => map.home_to_come(key).or_else(|| map.home(key).ok()),
            Near::Shard(shard) => map.route(shard).ok(),
            Near::Schedule(name) => {
                let lies = placement.schedules.get(name).copied();
                let is_there = |shard: &u16| map.entry(*shard).is_some_and(|entry| entry.state.is_there());
                lies.filter(is_there).or_else(|| map.home(name.as_str()).ok())
            }
        };
        Shard(home.unwrap_or_else(|| self.anywhere(&placement)))
    }

    /// Among the active shards that answer; among all active ones if none does.
    fn anywhere(&self, placement: &Placement) -> u16 {
        let active = placement.map.active();
        let is_away = |id: &u16| placement.away.iter().any(|(away, _)| away == id);
        let mut fit: Vec<u16> = active.iter().copied().filter(|id| !is_away(id)).collect();
        if fit.is_empty() {
            fit = active;
        }
        let mut born = self.born.lock().unwrap_or_else(PoisonError::into_inner);
        if placement.map.strategy == Strategy::LeastLoaded {
            let of = |counts: &BTreeMap<u16, u64>, id: &u16| counts.get(id).copied().unwrap_or_default();
            let depth = |id: &u16| of(&placement.depths, id) + of(&born, id);
            let least = fit.iter().map(depth).min();
            fit.retain(|id| Some(depth(id)) == least);
        }
        let nth = self.turn.fetch_add(1, Ordering::Relaxed).checked_rem(fit.len());
        let home = nth.and_then(|nth| fit.get(nth).copied()).unwrap_or_default();
        *born.entry(home).or_default() += 1;
        home
    }
}

/// Looks for as long as somebody needs it.
pub(super) async fn follow(link: Arc<Link>, places: Weak<Places>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(places) = places.upgrade() else { return };
        match link.call::<Option<Placement>>(Call::Placement, &()).await {
            Ok(Some(placement)) => places.learn(placement),
            Ok(None) => {}
            Err(error) => tracing::debug!(%error, "the server does not say where work is born"),
        }
    }
}

impl RemoteStore {
    /// Does a verb, and looks at what it has changed.
    async fn done(&self, verb: ShardVerb) -> Result<ShardAnswer> {
        let answer = self.reshard(&verb).await?;
        if let (Some((places, _)), Some(placement)) = (&self.places, self.placement().await?) {
            places.learn(placement);
        }
        Ok(answer)
    }
}

fn odd<T>(answer: &ShardAnswer) -> Result<T> {
    Err(StoreError::Corrupt(format!("the server answers another verb on shards: {answer:?}")))
}

#[async_trait]
impl Shards for RemoteStore {
    async fn list(&self) -> Result<ShardList> {
        match self.reshard(&ShardVerb::List).await? {
            ShardAnswer::List(list) => Ok(list),
            other => odd(&other),
        }
    }

    fn away(&self) -> Vec<(u16, String)> {
        self.places.as_ref().map(|(places, _)| places.known().away.clone()).unwrap_or_default()
    }

    async fn add(&self, url: &str) -> Result<u16> {
        match self.done(ShardVerb::Add(url.to_owned())).await? {
            ShardAnswer::Added(id) => Ok(id),
            other => odd(&other),
        }
    }

    async fn add_beside(&self) -> Result<u16> {
        match self.done(ShardVerb::AddBeside).await? {
            ShardAnswer::Added(id) => Ok(id),
            other => odd(&other),
        }
    }

    async fn drain(&self, id: u16, into: Option<u16>) -> Result<()> {
        match self.done(ShardVerb::Drain(id, into)).await? {
            ShardAnswer::Done => Ok(()),
            other => odd(&other),
        }
    }

    async fn left(&self, id: u16) -> Result<Left> {
        match self.reshard(&ShardVerb::Left(id)).await? {
            ShardAnswer::Left(left) => Ok(left),
            other => odd(&other),
        }
    }

    async fn carry(&self, id: u16) -> Result<Carried> {
        match self.reshard(&ShardVerb::Carry(id)).await? {
            ShardAnswer::Carried(carried) => Ok(carried),
            other => odd(&other),
        }
    }

    async fn remove(&self, id: u16) -> Result<()> {
        match self.done(ShardVerb::Remove(id)).await? {
            ShardAnswer::Done => Ok(()),
            other => odd(&other),
        }
    }
}
