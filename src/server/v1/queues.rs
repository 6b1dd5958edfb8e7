//! Queues: their counters, their settings, pausing, throwing away what waits.

use std::time::Duration;

use axum::Json;
use serde::Deserialize;
use utoipa::ToSchema;

use super::jobs::{self, ActedView, Which};
use super::{Api, At, ChangedView, ListView};
use crate::api::codes::Code;
use crate::api::{Filter, QueueView, Verb};
use crate::domain::{JobState, Name, QueueSettings, Rate, Retention, limits};
use crate::server::limits::Sent;
use crate::server::problem::Problem;

pub async fn list(Api(client): Api) -> Result<Json<ListView<QueueView>>, Problem> {
    Ok(Json(ListView::whole(client.queue_views().await?)))
}

pub async fn get(Api(client): Api, At(name): At<Name>) -> Result<Json<QueueView>, Problem> {
    Ok(Json(client.queue_view(&name).await?))
}

/// What is to be set; what is left out stays, and `clear` takes back.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QueueChange {
    #[serde(default)]
    paused: Option<bool>,
    /// Its share among the queues of a worker.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 1000)]
    weight: Option<u32>,
    /// Starts in a time: `100/s`, `5/m`, `10/h`.
    #[serde(default)]
    rate_limit: Option<String>,
    /// Jobs at once.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 1000000)]
    concurrency: Option<u32>,
    /// How long finished jobs are kept.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 316224000000i64)]
    retention_ms: Option<u64>,
    /// How many are kept; it goes with `retention_ms`.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 4294967295i64)]
    retention_count: Option<u32>,
    /// What is not to be set any more.
    #[serde(default)]
    clear: Option<Vec<Setting>>,
}

/// What can be set of a queue.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", try_from = "String")]
pub enum Setting {
    Weight,
    RateLimit,
    Concurrency,
    Retention,
}

impl TryFrom<String> for Setting {
    type Error = String;

    fn try_from(text: String) -> Result<Setting, String> {
        match text.as_str() {
            "weight" => Ok(Setting::Weight),
            "rate_limit" => Ok(Setting::RateLimit),
            "concurrency" => Ok(Setting::Concurrency),
            "retention" => Ok(Setting::Retention),
            _ => Err(format!("`{text}` is no setting: weight, rate_limit, concurrency or retention")),
        }
    }
}

impl QueueChange {
    fn apply(&self, to: &mut QueueSettings) -> Result<(), Problem> {
        let wrong = |detail: String| Problem::new(Code::Usage, detail);
        let within = |name: &str, number: Option<u32>, most: u32| match number {
            Some(n) if !(1..=most).contains(&n) => Err(wrong(format!("`{name}`: {n} is out of range: 1 to {most}"))),
            number => Ok(number),
        };
        for setting in self.clear.iter().flatten() {
            match setting {
                Setting::Weight => to.weight = None,
                Setting::RateLimit => to.rate_limit = None,
                Setting::Concurrency => to.concurrency = None,
                Setting::Retention => to.retention = None,
            }
        }
        to.paused = self.paused.unwrap_or(to.paused);
        to.weight = within("weight", self.weight, 1_000)?.or(to.weight);
        to.concurrency = within("concurrency", self.concurrency, 1_000_000)?.or(to.concurrency);
        if let Some(text) = &self.rate_limit {
            let rate: Rate = text.parse().map_err(|error| wrong(format!("`rate_limit`: {error}")))?;
            to.rate_limit = Some(rate);
        }
        match (self.retention_ms, self.retention_count) {
            (None, None) => {}
            (None, Some(_)) => return Err(wrong("`retention_count` goes with `retention_ms`".to_owned())),
            (Some(ms), _) if ms == 0 || ms > crate::api::wanted::LONGEST_MS => {
                let most = crate::api::wanted::LONGEST_MS;
                return Err(wrong(format!("`retention_ms`: {ms} is out of range: 1 to {most}")));
            }
            (Some(ms), count) => {
                let count = within("retention_count", count, u32::MAX)?;
                let count = count.map_or(limits::RETENTION_COUNT, |count| count as usize);
                to.retention = Some(Retention { age: Duration::from_millis(ms), count });
            }
        }
        Ok(())
    }
}

pub async fn set(
    Api(client): Api,
    At(name): At<Name>,
    Sent(change): Sent<QueueChange>,
) -> Result<Json<QueueView>, Problem> {
    // Before anything is set.
    change.apply(&mut QueueSettings::default())?;
    let mut refused = None;
    client.set_queue(&name, |settings| refused = change.apply(settings).err()).await?;
    if let Some(problem) = refused {
        return Err(problem);
    }
    Ok(Json(client.queue_view(&name).await?))
}

pub async fn pause(Api(client): Api, At(name): At<Name>) -> Result<Json<ChangedView>, Problem> {
    Ok(Json(ChangedView { changed: client.set_paused(&name, true).await? }))
}

pub async fn resume(Api(client): Api, At(name): At<Name>) -> Result<Json<ChangedView>, Problem> {
    Ok(Json(ChangedView { changed: client.set_paused(&name, false).await? }))
}

pub async fn purge(Api(client): Api, At(name): At<Name>, Sent(which): Sent<Which>) -> Result<Json<ActedView>, Problem> {
    client.queue(&name).await?;
    let waiting = [JobState::Scheduled, JobState::Pending, JobState::Retrying];
    let bounds = Filter::default().only_queue(&name).only_states(&waiting);
    jobs::act_on(&client, Verb::Delete, which, bounds).await
}
