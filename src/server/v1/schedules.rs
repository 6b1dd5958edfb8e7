//! Schedules: looking at them, triggering, pausing.

use axum::Json;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{Api, Asked, At, ChangedView, ListView, limit};
use crate::api::wire::Time;
use crate::api::{ApiError, ScheduleView, Triggered};
use crate::domain::Name;
use crate::server::problem::Problem;

pub async fn list(Api(client): Api) -> Result<Json<ListView<ScheduleView>>, Problem> {
    Ok(Json(ListView::whole(client.schedules().await?)))
}

pub async fn get(Api(client): Api, At(name): At<Name>) -> Result<Json<ScheduleView>, Problem> {
    let found = client.schedules().await?.into_iter().find(|view| view.name == name.as_str());
    Ok(Json(found.ok_or(ApiError::NoSchedule(name))?))
}

/// How many.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct NextQuery {
    #[serde(default)]
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

/// When a schedule is due.
#[derive(Debug, Serialize, ToSchema)]
pub struct TicksView {
    /// The zone its rule is read in.
    timezone: String,
    /// In UTC.
    items: Vec<Time>,
}

pub async fn next(
    Api(client): Api,
    At(name): At<Name>,
    Asked(query): Asked<NextQuery>,
) -> Result<Json<TicksView>, Problem> {
    let (zone, ticks) = client.schedule_ticks(&name, limit(query.limit)?).await?;
    Ok(Json(TicksView { timezone: zone.name().to_owned(), items: ticks.into_iter().map(Time).collect() }))
}

pub async fn trigger(Api(client): Api, At(name): At<Name>) -> Result<(StatusCode, Json<Triggered>), Problem> {
    Ok((StatusCode::CREATED, Json(client.trigger(&name).await?)))
}

pub async fn pause(Api(client): Api, At(name): At<Name>) -> Result<Json<ChangedView>, Problem> {
    Ok(Json(ChangedView { changed: client.pause_schedule(&name, true).await? }))
}

pub async fn resume(Api(client): Api, At(name): At<Name>) -> Result<Json<ChangedView>, Problem> {
    Ok(Json(ChangedView { changed: client.pause_schedule(&name, false).await? }))
}
