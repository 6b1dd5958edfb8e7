//! The DLQ: dead jobs, tried again or thrown away.

use axum::Json;

use super::jobs::{self, ActedView, Which};
use super::{Api, Asked, ListView, PageQuery};
use crate::api::{Filter, JobView, Verb};
use crate::domain::JobState;
use crate::server::limits::Sent;
use crate::server::problem::Problem;

fn dead(text: &str) -> Result<Filter, Problem> {
    Ok(Filter::parse(text)?.only_states(&[JobState::Dead]))
}

pub async fn list(Api(client): Api, Asked(page): Asked<PageQuery>) -> Result<Json<ListView<JobView>>, Problem> {
    let found = client.jobs_page(&dead(page.filter())?, page.after.as_deref(), page.limit()?).await?;
    Ok(Json(ListView::of(found, |stored| JobView::from(&stored))))
}

pub async fn retry(Api(client): Api, Sent(which): Sent<Which>) -> Result<Json<ActedView>, Problem> {
    jobs::act_on(&client, Verb::Retry, which, dead("")?).await
}

pub async fn purge(Api(client): Api, Sent(which): Sent<Which>) -> Result<Json<ActedView>, Problem> {
    jobs::act_on(&client, Verb::Delete, which, dead("")?).await
}
