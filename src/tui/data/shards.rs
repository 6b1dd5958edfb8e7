//! The shards: their rows, what is to be told of them on the overview, and the verbs. What moves is decided
//! in the store; a drain that carries is gone on with here until it is over, as its command does.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::act::Told;
use super::tail::Tail;
use super::trend::Depths;
use crate::api::filter::Where;
use crate::api::shards::{SHARD_FIELDS, ShardView, carried_to};
use crate::api::{ApiError, Client, Result};
use crate::domain::Ms;
use crate::domain::text::count;
use crate::store::ShardList;
use crate::tui::msg::{Body, Notice, Subject};
use crate::tui::rows::shards::Drain;
use crate::tui::rows::{Rows, ShardRow};

/// The overview looks at all shards only so often: it costs a few questions to each.
const LOOK: Duration = Duration::from_secs(5);

/// What is kept between two looks.
#[derive(Debug, Default)]
pub struct Shards {
    depths: Depths,
    /// The most that was seen left of each that drains.
    most: BTreeMap<String, u64>,
    /// What is to be told of those without a worker, and since when it is known.
    unclaimed: Option<(Vec<Notice>, Instant)>,
}

impl Shards {
    /// The shards that match.
    ///
    /// # Errors
    /// A filter that cannot be read; a store that has none; the store's.
    pub async fn look(&mut self, client: &Client, tail: &mut Tail, filter: &str) -> Result<Body> {
        let filter = Where::parse(filter, SHARD_FIELDS).map_err(|error| ApiError::Conflict(error.to_string()))?;
        let list = client.shards().await?;
        tail.read(client).await?;
        let now = client.clock().now();
        let (map, strategy) = (list.epoch, list.strategy.clone());
        let rates = rates(&list, tail, now);
        let views: Vec<ShardView> = list.shards.iter().cloned().map(ShardView::from).collect();
        let depths = views.iter().map(|view| (view.id.clone(), view.pending)).collect();
        let trends = self.depths.trends(now, depths);
        let mut rows = Vec::new();
        for (view, status) in views.iter().zip(&list.shards) {
            let drain = self.drain(view);
            if filter.matches(view, now) {
                rows.push(ShardRow {
                    done_per_s: rates.get(&view.id).copied().flatten(),
                    trend: trends.get(&view.id).copied().unwrap_or(0),
                    drain,
                    // One that the filter leaves out may take it, too.
                    carried_to: carried_to(&list, status.id),
                    map,
                    strategy: strategy.clone(),
                    ..ShardRow::from(view)
                });
            }
        }
        Ok(Body::List(Rows::Shards(rows)))
    }

    fn drain(&mut self, view: &ShardView) -> Option<Drain> {
        if view.state != "draining" {
            self.most.remove(&view.id);
            return None;
        }
        let left = view.left(view.moved_to.is_some());
        let most = self.most.entry(view.id.clone()).or_default();
        *most = left.max(*most);
        Some(Drain { left, most: *most })
    }

    /// What a person has to do something about: shards that are away, and those that nobody works for.
    ///
    /// # Errors
    /// The store's.
    pub async fn notices(&mut self, client: &Client) -> Result<Vec<Notice>> {
        let Some(shards) = client.store().shards() else { return Ok(Vec::new()) };
        let is_known = self.unclaimed.as_ref().is_some_and(|(_, at)| at.elapsed() < LOOK);
        if !is_known {
            let views = client.shards().await?.shards.into_iter().map(ShardView::from);
            let found = views.filter(ShardView::is_unclaimed).map(|view| {
                let text = format!("shard {} has no worker: {} wait there", view.id, count(view.waits(), "job"));
                notice("unclaimed", &view.id, text)
            });
            self.unclaimed = Some((found.collect(), Instant::now()));
        }
        let away = shards.away().into_iter().map(|(id, why)| {
            let id = id.to_string();
            notice("away", &id, format!("shard {id} does not answer: {why}"))
        });
        let unclaimed = self.unclaimed.iter().flat_map(|(notices, _)| notices.clone());
        Ok(away.chain(unclaimed).collect())
    }
}

fn notice(what: &str, shard: &str, text: String) -> Notice {
    let subject = Some(Subject::Shard(shard.to_owned()));
    Notice { id: format!("{what}/{shard}"), subject, text, since: None, bad: true }
}

/// Completed a second on each shard. An id names the shard where its job was born; what was carried from
/// one that is gone counts where it went.
fn rates(list: &ShardList, tail: &Tail, now: Ms) -> BTreeMap<String, Option<f64>> {
    let home = |born: u16| {
        let mut at = born;
        // The way can be no longer than there are shards.
        for _ in 0..list.shards.len() {
            let gone = list.shards.iter().find(|shard| shard.id == at && shard.state == "removed");
            match gone.and_then(|shard| shard.moved_to) {
                Some(to) => at = to,
                None => break,
            }
        }
        at
    };
    let mut rates: BTreeMap<u16, Option<f64>> = BTreeMap::new();
    for shard in &list.shards {
        let rate = tail.shard_rate(shard.id, now);
        let sum = rates.entry(home(shard.id)).or_insert(Some(0.0));
        *sum = sum.zip(rate).map(|(sum, rate)| sum + rate);
    }
    rates.into_iter().map(|(id, rate)| (id.to_string(), rate)).collect()
}

pub async fn add(client: &Client, url: &str) -> Told {
    let id = client.shard_verbs()?.add(url).await?;
    Ok((format!("added shard {id}"), false))
}

/// How many there are once one is added beside the others: what has begun to join is gone on with. A console
/// that shows those that match cannot count them.
pub async fn then(client: &Client) -> Result<usize> {
    Ok(one_more(&client.shards().await?))
}

fn one_more(list: &ShardList) -> usize {
    let there = list.shards.iter().filter(|shard| shard.state != "removed").count();
    there + usize::from(list.shards.iter().all(|shard| shard.state != "joining"))
}

pub async fn add_beside(client: &Client) -> Told {
    let id = client.shard_verbs()?.add_beside().await?;
    Ok((format!("added shard {id}"), false))
}

pub async fn remove(client: &Client, id: u16) -> Told {
    client.shard_verbs()?.remove(id).await?;
    Ok((format!("removed shard {id}"), false))
}

/// Lets nothing new be born on a shard.
pub async fn begin(client: &Client, id: u16, into: Option<u16>) -> Result<String> {
    client.shard_verbs()?.drain(id, into).await?;
    Ok(match into {
        Some(into) => format!("shard {id} drains to shard {into}, as long as this console is open"),
        None => format!("shard {id} drains: what lies there is done there"),
    })
}

/// Goes on until nothing is left that is to go.
pub async fn drain(client: &Client, id: u16, into: Option<u16>) -> Told {
    let drained = client.drain_shard(id, into, |_| {}).await?;
    let carried = match into {
        Some(into) => format!("; {} went to shard {into}", count(drained.carried.jobs, "job")),
        None => String::new(),
    };
    Ok((format!("nothing waits or runs on shard {id}{carried}"), false))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Left, ShardStatus};

    fn list(states: &[(&str, u64)]) -> ShardList {
        let status = |(id, (state, pending)): (usize, &(&str, u64))| ShardStatus {
            id: u16::try_from(id).unwrap_or(u16::MAX),
            url: String::new(),
            state: (*state).to_owned(),
            moved_to: None,
            trouble: None,
            workers: 0,
            left: Left { pending: *pending, ..Left::default() },
        };
        let shards = states.iter().enumerate().map(status).collect();
        ShardList { epoch: 1, strategy: "hash".to_owned(), shards }
    }

    #[test]
    fn one_more_is_counted_of_all_that_are_there() {
        assert_eq!(one_more(&list(&[("active", 0), ("removed", 0), ("draining", 0)])), 3);
        assert_eq!(one_more(&list(&[("active", 0), ("joining", 0)])), 2, "it is the one that joins");
    }

    #[test]
    fn what_lies_on_a_shard_goes_to_where_the_least_is_to_be_done() {
        let mut list = list(&[("active", 1), ("active", 5), ("draining", 0), ("active", 2)]);
        assert_eq!((carried_to(&list, 0), carried_to(&list, 1)), (Some(3), Some(0)));
        if let Some(begun) = list.shards.get_mut(2) {
            begun.moved_to = Some(1);
        }
        assert_eq!(carried_to(&list, 2), Some(1), "where it was begun");
    }
}
