//! The verbs: each by the same function of `api` as the command that does it, and told in its words.

use super::command::{command, scale};
use super::{Replies, shards, steer};
use crate::api::told::sentence;
use crate::api::verbs::{Acted as Did, BATCH};
use crate::api::{ApiError, Client, Filter, Verb as JobVerb};
use crate::domain::text::count;
use crate::domain::{JobId, JobState, Name};
use crate::tui::msg::{Acted, Answer, Order, Reply, Target, Verb};

/// Does it, and tells what became of it; what takes long, also that it was begun.
pub async fn act(client: &Client, order: &Order, replies: &Replies) -> Reply {
    let told = match &order.target {
        Target::Jobs(ids) => named(client, order.verb, ids).await,
        Target::Matching { states, filter } => match Filter::parse(filter) {
            Ok(filter) if states.is_empty() => matching(client, order.verb, &filter).await,
            Ok(filter) => matching(client, order.verb, &filter.only_states(states)).await,
            Err(error) => Ok((error.to_string(), true)),
        },
        Target::Queues(queues) => pause(client, queues).await,
        Target::Workers(ids) => drain(client, ids).await,
        Target::Runs(runs) => steer::runs(client, order.verb, runs).await,
        Target::Schedules(schedules) => steer::schedules(client, order.verb, schedules).await,
        Target::Dead(filters) => steer::dead(client, order.verb, filters).await,
        Target::Answer { run, step, by, comment } => {
            let approved = order.verb == Verb::Approve;
            steer::answer(client, approved, run, step.as_deref(), by, comment.as_deref()).await
        }
        Target::Signal { run, name, data } => steer::signal(client, run, name, data).await,
        Target::RunsMatching { states, filter, problems } => {
            match steer::found(client, order.verb, states, filter, *problems).await {
                Ok(found) => steer::runs(client, order.verb, &found.fit).await,
                Err(error) => Err(error),
            }
        }
        Target::Shard(id) => shards::remove(client, *id).await,
        Target::AddShard { url: Some(url) } => shards::add(client, url).await,
        Target::AddShard { url: None } => match shards::then(client).await {
            Ok(then) => return acted(client, shards::add_beside(client).await, scale(then)),
            Err(error) => Err(error),
        },
        Target::DrainShard { id, into } => {
            match shards::begin(client, *id, *into).await {
                Ok(sentence) => {
                    // Nobody listens any more: then nobody carries either, and the shard goes on draining.
                    let _ = replies.send(acted(client, Ok((sentence, false)), command(order))).await;
                    shards::drain(client, *id, *into).await
                }
                Err(error) => Err(error),
            }
        }
    };
    acted(client, told, command(order))
}

fn acted(client: &Client, told: Told, command: String) -> Reply {
    let (sentence, failed) = told.unwrap_or_else(|error| (error.to_string(), true));
    let acted = Acted { sentence, command, failed };
    Reply { generation: 0, at: client.clock().now(), answer: Answer::Acted(acted) }
}

/// Tells what an order over all that match would do.
pub async fn survey(client: &Client, order: &Order) -> Reply {
    let told = match (&order.target, job_verb(order.verb)) {
        (Target::Matching { states, filter }, Some(verb)) => counted(client, verb, states, filter).await,
        (Target::RunsMatching { states, filter, problems }, _) => {
            steer::survey_runs(client, order.verb, states, filter, *problems).await
        }
        (Target::Dead(filters), Some(verb)) => steer::survey_dead(client, verb, filters).await,
        _ => senseless().map(|(text, _)| text),
    };
    let sentence = told.unwrap_or_else(|error| error.to_string());
    Reply { generation: 0, at: client.clock().now(), answer: Answer::Surveyed { order: order.clone(), sentence } }
}

/// What a verb would do to the jobs that match.
pub(super) async fn counted(
    client: &Client,
    verb: JobVerb,
    states: &[JobState],
    filter: &str,
) -> Result<String, ApiError> {
    let filter = match Filter::parse(filter) {
        Ok(filter) if states.is_empty() => filter,
        Ok(filter) => filter.only_states(states),
        Err(error) => return Ok(error.to_string()),
    };
    let plan = client.survey(verb, &filter, client.clock().now(), |_| {}).await?;
    Ok(sentence(verb, &plan, true))
}

pub(super) type Told = Result<(String, bool), ApiError>;

fn job_verb(verb: Verb) -> Option<JobVerb> {
    match verb {
        Verb::Retry => Some(JobVerb::Retry),
        Verb::Cancel => Some(JobVerb::Cancel),
        Verb::Delete => Some(JobVerb::Delete),
        Verb::Pause | Verb::Drain | Verb::Trigger | Verb::Approve | Verb::Reject | Verb::Signal | Verb::Add => None,
    }
}

fn told(verb: JobVerb, did: &Did) -> (String, bool) {
    (sentence(verb, did, false), did.touched() == 0)
}

/// Only `order` of the state makes orders, and it never makes such a one.
fn senseless() -> Told {
    Ok(("that cannot be done to jobs".to_owned(), true))
}

async fn named(client: &Client, verb: Verb, ids: &[String]) -> Told {
    let Some(verb) = job_verb(verb) else { return senseless() };
    let ids: Vec<JobId> = ids.iter().filter_map(|id| id.parse().ok()).collect();
    let did = client.act(verb, &ids, None).await?;
    Ok(told(verb, &did))
}

/// All that match now: found first, and those done that still match then.
async fn matching(client: &Client, verb: Verb, filter: &Filter) -> Told {
    let Some(verb) = job_verb(verb) else { return senseless() };
    let did = all_that_match(client, verb, filter).await?;
    Ok(told(verb, &did))
}

pub(super) async fn all_that_match(client: &Client, verb: JobVerb, filter: &Filter) -> Result<Did, ApiError> {
    let now = client.clock().now();
    let plan = client.survey(verb, filter, now, |_| {}).await?;
    let ids: Vec<JobId> = plan.done.into_iter().chain(plan.asked).collect();
    let mut did = Did { left: plan.left, ..Did::default() };
    for ids in ids.chunks(BATCH) {
        did.extend(client.act(verb, ids, Some((filter, now))).await?);
    }
    Ok(did)
}

/// Pauses those that ran, resumes those that were paused.
async fn pause(client: &Client, queues: &[(String, bool)]) -> Told {
    let (mut paused, mut resumed, mut same) = (0, 0, 0);
    for (name, was_paused) in queues {
        let Ok(name) = name.parse::<Name>() else { continue };
        match (client.set_paused(&name, !was_paused).await?, was_paused) {
            (true, false) => paused += 1,
            (true, true) => resumed += 1,
            (false, _) => same += 1,
        }
    }
    let parts = [(paused, "paused"), (resumed, "resumed")];
    let mut parts: Vec<String> =
        parts.iter().filter(|(n, _)| *n > 0).map(|(n, did)| format!("{did} {}", count(*n, "queue"))).collect();
    if same > 0 {
        parts.push(format!("{} {} so already", count(same, "queue"), if same == 1 { "was" } else { "were" }));
    }
    Ok((parts.join("; "), paused + resumed == 0))
}

async fn drain(client: &Client, ids: &[String]) -> Told {
    let (mut told, mut gone) = (0, 0);
    for id in ids {
        if client.drain(id).await? {
            told += 1;
        } else {
            gone += 1;
        }
    }
    let mut text = format!("told {} to drain", count(told, "worker"));
    if gone > 0 {
        text = format!("{text}; {} {} gone", count(gone, "worker"), if gone == 1 { "was" } else { "were" });
    }
    Ok((text, told == 0))
}
