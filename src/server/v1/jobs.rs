//! Jobs: adding, looking, changing, ending.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use super::{Api, Asked, At, ListView, PageQuery, WaitQuery};
use crate::api::codes::Code;
use crate::api::logs::LogView;
use crate::api::verbs::{Acted, Left};
use crate::api::wanted::{AddedView, BadJob, JobWanted, Object, Usual};
use crate::api::wire::ProgressView;
use crate::api::{ApiError, Client, Filter, JobView, Verb, told};
use crate::domain::{JobId, Json as Payload, limits};
use crate::server::app::App;
use crate::server::limits::Sent;
use crate::server::problem::Problem;
use crate::store::Stored;

/// What jobs get here that say nothing themselves.
pub fn usual(app: &App) -> Usual {
    Usual { queue: app.options().queue.clone(), max_retries: app.options().max_retries }
}

pub async fn create(
    State(app): State<App>,
    Api(client): Api,
    Sent(wanted): Sent<JobWanted>,
) -> Result<(StatusCode, Json<JobView>), Problem> {
    let stored = add(&app, &client, wanted).await?;
    Ok((StatusCode::CREATED, Json(JobView::from(&stored))))
}

/// Adds one.
pub async fn add(app: &App, client: &Client, wanted: JobWanted) -> Result<Stored, Problem> {
    let job = wanted.job(|near| client.job_id_near(near), &usual(app), client.clock().now())?;
    Ok(client.enqueue_by(app.gather(), job).await?)
}

/// Many jobs at once.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// Each is added or refused by itself; but none is if one of them is not understood.
    #[schema(value_type = Vec<JobWanted>, min_items = 1, max_items = 1000)]
    jobs: Vec<Object<JobWanted>>,
}

pub async fn create_many(
    State(app): State<App>,
    Api(client): Api,
    Sent(batch): Sent<Batch>,
) -> Result<(StatusCode, Json<ListView<AddedView>>), Problem> {
    let n = batch.jobs.len();
    if n == 0 || n > limits::ENQUEUE_BATCH {
        let detail = format!("`jobs`: {n} are out of range: 1 to {}", limits::ENQUEUE_BATCH);
        return Err(Problem::new(Code::Usage, detail));
    }
    let (usual, now) = (usual(&app), client.clock().now());
    let jobs = batch.jobs.into_iter().enumerate().map(|(nth, Object(wanted))| {
        wanted
            .job(|near| client.job_id_near(near), &usual, now)
            .map_err(|error: BadJob| Problem::new(Code::from(&error), format!("job {nth}: {error}")))
    });
    let added = client.enqueue_many(jobs.collect::<Result<Vec<_>, _>>()?).await?;
    Ok((StatusCode::CREATED, Json(ListView::whole(added))))
}

pub async fn list(Api(client): Api, Asked(page): Asked<PageQuery>) -> Result<Json<ListView<JobView>>, Problem> {
    let filter = Filter::parse(page.filter())?;
    let found = client.jobs_page(&filter, page.after.as_deref(), page.limit()?).await?;
    Ok(Json(ListView::of(found, |stored| JobView::from(&stored))))
}

/// The job with this id, which must be given whole.
pub async fn found(client: &Client, id: JobId) -> Result<Stored, Problem> {
    let found = client.store().get(&[id]).await?.into_iter().next().flatten();
    Ok(found.ok_or(ApiError::NotFound { noun: "job", id: id.to_string() })?)
}

pub async fn get(Api(client): Api, At(id): At<JobId>) -> Result<Json<JobView>, Problem> {
    Ok(Json(JobView::from(&found(&client, id).await?)))
}

/// How far a job has come.
#[derive(Debug, Serialize, ToSchema)]
pub struct HowFar {
    /// None if it has told nothing.
    progress: Option<ProgressView>,
}

pub async fn progress(Api(client): Api, At(id): At<JobId>) -> Result<Json<HowFar>, Problem> {
    Ok(Json(HowFar { progress: JobView::from(&found(&client, id).await?).progress }))
}

pub async fn wait(
    Api(client): Api,
    At(id): At<JobId>,
    Asked(query): Asked<WaitQuery>,
) -> Result<(StatusCode, Json<JobView>), Problem> {
    match client.wait(id, Some(query.timeout()?)).await? {
        Some(stored) => Ok((StatusCode::OK, Json(JobView::from(&stored)))),
        None => Ok((StatusCode::ACCEPTED, Json(JobView::from(&found(&client, id).await?)))),
    }
}

/// What a job has printed.
#[derive(Debug, Serialize, ToSchema)]
pub struct LogsView {
    items: Vec<LogView>,
    /// The beginning was dropped, because a log is bounded.
    truncated: bool,
}

/// The largest whole number that every reader of JSON takes for what it is (RFC 8259, 6).
const MOST_EXACT: u64 = (1 << 53) - 1;

/// Which part of a log.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LogQuery {
    /// Only what came after the piece with this `seq`.
    #[serde(default)]
    #[param(minimum = 0, maximum = 9007199254740991i64)]
    after: Option<u64>,
}

pub async fn logs(
    Api(client): Api,
    At(id): At<JobId>,
    Asked(query): Asked<LogQuery>,
) -> Result<Json<LogsView>, Problem> {
    let after = query.after.unwrap_or_default();
    if after > MOST_EXACT {
        return Err(Problem::new(Code::Usage, format!("`after`: {after} is out of range: 0 to {MOST_EXACT}")));
    }
    found(&client, id).await?;
    let log = client.log(id, after).await?;
    Ok(Json(LogsView { items: log.chunks.iter().map(LogView::from).collect(), truncated: log.truncated }))
}

/// What is to be changed of a job that waits; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JobChange {
    #[serde(default)]
    #[schema(value_type = serde_json::Value, required = false)]
    payload: Option<Box<RawValue>>,
    #[serde(default)]
    #[schema(minimum = -100, maximum = 100)]
    priority: Option<i8>,
    #[serde(default)]
    #[schema(minimum = 0, maximum = 10000)]
    max_retries: Option<u32>,
    #[serde(default)]
    #[schema(minimum = 1, maximum = 316224000000i64)]
    timeout_ms: Option<u64>,
    #[serde(default)]
    metadata: Option<BTreeMap<String, String>>,
}

pub async fn edit(
    Api(client): Api,
    At(id): At<JobId>,
    Sent(change): Sent<JobChange>,
) -> Result<Json<JobView>, Problem> {
    let stored = found(&client, id).await?;
    let mut edit = stored.job.editable();
    // The bounds are those of a new job: one is made of it and thrown away.
    let probe = JobWanted {
        kind: stored.job.kind.clone(),
        queue: None,
        payload: change.payload.clone(),
        priority: change.priority,
        delay_ms: None,
        run_at: None,
        max_retries: change.max_retries,
        timeout_ms: change.timeout_ms,
        deadline_ms: None,
        partition: None,
        unique_key: None,
        unique_for_ms: None,
        after: None,
        concurrency: None,
        metadata: change.metadata.clone(),
    };
    let usual = Usual { queue: stored.job.queue.clone(), max_retries: edit.max_retries };
    let checked = probe.job(|_| id, &usual, client.clock().now())?.job;
    if change.payload.is_some() {
        edit.payload = checked.payload;
    }
    edit.priority = change.priority.unwrap_or(edit.priority);
    edit.max_retries = checked.retry.max;
    edit.timeout_ms = checked.timeout_ms.or(edit.timeout_ms);
    edit.metadata = change.metadata.unwrap_or(edit.metadata);
    match client.edit(&stored, edit, false).await? {
        Ok(stored) => Ok(Json(JobView::from(&stored))),
        Err(Left::State(state)) => {
            Err(Problem::new(Code::StateConflict, format!("job {id} is {state}, and cannot be changed any more")))
        }
        Err(left) => Err(refused(Verb::Cancel, id, &left)),
    }
}

/// Nothing could be done to a job that was named.
pub fn refused(verb: Verb, id: JobId, left: &Left) -> Problem {
    Problem::new(Code::from(left), format!("job {id} {}", told::predicate(verb, left)))
}

/// Does it to one; the job as it is then, or 202 while its worker ends it.
pub async fn act(client: &Client, verb: Verb, id: JobId) -> Result<Response, Problem> {
    found(client, id).await?;
    let acted = client.act(verb, &[id], None).await?;
    if let Some((id, left)) = acted.left.first() {
        return Err(refused(verb, *id, left));
    }
    if verb == Verb::Delete {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let status = if acted.asked.is_empty() { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, Json(JobView::from(&found(client, id).await?))).into_response())
}

pub async fn cancel(Api(client): Api, At(id): At<JobId>) -> Result<Response, Problem> {
    act(&client, Verb::Cancel, id).await
}

pub async fn retry(Api(client): Api, At(id): At<JobId>) -> Result<Response, Problem> {
    act(&client, Verb::Retry, id).await
}

pub async fn delete(Api(client): Api, At(id): At<JobId>) -> Result<Response, Problem> {
    act(&client, Verb::Delete, id).await
}

/// Which jobs: those with these ids, or all that match; both narrow.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Which {
    #[serde(default)]
    #[schema(value_type = Option<Vec<crate::api::wire::Id>>, max_items = 1000)]
    pub ids: Option<Vec<JobId>>,
    /// In the language of `--where`.
    #[serde(rename = "where", default)]
    pub filter: Option<String>,
    /// Only tell what would be done.
    #[serde(default)]
    pub dry_run: Option<bool>,
}

/// What became of jobs.
#[derive(Debug, Serialize, ToSchema)]
pub struct ActedView {
    done: Vec<String>,
    /// They run: their workers were asked to end them.
    asked: Vec<String>,
    left: Vec<LeftView>,
}

/// A job that was left as it is.
#[derive(Debug, Serialize, ToSchema)]
pub struct LeftView {
    id: String,
    why: String,
}

impl ActedView {
    fn new(verb: Verb, acted: &Acted) -> ActedView {
        let texts = |ids: &[JobId]| ids.iter().map(JobId::to_string).collect();
        let left =
            acted.left.iter().map(|(id, left)| LeftView { id: id.to_string(), why: told::predicate(verb, left) });
        ActedView { done: texts(&acted.done), asked: texts(&acted.asked), left: left.collect() }
    }
}

/// Does it to many, within `bounds`.
pub async fn act_on(client: &Client, verb: Verb, which: Which, bounds: Filter) -> Result<Json<ActedView>, Problem> {
    let now = client.clock().now();
    let said = which.filter.as_deref().unwrap_or_default();
    if which.ids.is_none() && which.filter.is_none() {
        return Err(Problem::new(Code::NeedsYes, "say which jobs: `ids`, or `where` (an empty text is all of them)"));
    }
    let filter = Filter::parse(said)?.only_states(&states(&bounds)).only_states(verb.states());
    let filter = match bounds.queue() {
        Some(queue) => filter.only_queue(queue),
        None => filter,
    };
    let acted = match which.ids {
        Some(ids) if ids.len() > limits::ENQUEUE_BATCH => {
            let detail = format!("`ids` names more than {} jobs", limits::ENQUEUE_BATCH);
            return Err(Problem::new(Code::Usage, detail));
        }
        Some(ids) if which.dry_run == Some(true) => planned(client, verb, ids, &filter).await?,
        Some(mut ids) => {
            let mut seen = std::collections::BTreeSet::new();
            ids.retain(|id| seen.insert(*id));
            client.act(verb, &ids, Some((&filter, now))).await?
        }
        None => {
            let found = client.survey(verb, &filter, now, |_| {}).await?;
            if which.dry_run == Some(true) {
                found
            } else {
                let ids: Vec<JobId> = found.done.iter().chain(&found.asked).copied().collect();
                let mut acted = client.act(verb, &ids, Some((&filter, now))).await?;
                acted.left.extend(found.left);
                acted
            }
        }
    };
    Ok(Json(ActedView::new(verb, &acted)))
}

fn states(bounds: &Filter) -> Vec<crate::domain::JobState> {
    bounds.places().into_iter().map(|place| place.state()).collect()
}

async fn planned(client: &Client, verb: Verb, ids: Vec<JobId>, filter: &Filter) -> Result<Acted, Problem> {
    use crate::api::verbs::Plan;
    let (found, now) = (client.store().get(&ids).await?, client.clock().now());
    let mut acted = Acted::default();
    for (id, stored) in ids.into_iter().zip(found) {
        match stored.map_or(Err(Left::Gone), |stored| verb.plan_of(&stored, Some((filter, now)), now)) {
            Ok(Plan::Move(_)) => acted.done.push(id),
            Ok(Plan::Ask) => acted.asked.push(id),
            Err(left) => acted.left.push((id, left)),
        }
    }
    Ok(acted)
}

pub async fn cancel_many(Api(client): Api, Sent(which): Sent<Which>) -> Result<Json<ActedView>, Problem> {
    act_on(&client, Verb::Cancel, which, Filter::default()).await
}

pub async fn retry_many(Api(client): Api, Sent(which): Sent<Which>) -> Result<Json<ActedView>, Problem> {
    act_on(&client, Verb::Retry, which, Filter::default()).await
}

pub async fn delete_many(Api(client): Api, Sent(which): Sent<Which>) -> Result<Json<ActedView>, Problem> {
    act_on(&client, Verb::Delete, which, Filter::default()).await
}

/// What was sent as it is: JSON, or else the string of its text; null if it is empty.
///
/// # Errors
/// Too deep; not UTF-8.
pub fn free_payload(bytes: &[u8]) -> Result<Payload, Problem> {
    let text = std::str::from_utf8(bytes);
    let text = text.map_err(|_| Problem::new(Code::PayloadNotJson, "the body is not UTF-8"))?;
    if text.is_empty() {
        return Ok(Payload::null());
    }
    match Payload::parse(text, limits::PAYLOAD_BYTES) {
        Ok(json) => Ok(json),
        Err(crate::domain::json::BadJson::Syntax { .. }) => Ok(Payload::string(text)),
        Err(error) => Err(Problem::new(Code::PayloadTooLarge, error.to_string())),
    }
}
