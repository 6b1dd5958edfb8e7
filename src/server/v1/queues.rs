//! Queues.

use axum::Json;
use axum::extract::State;

use super::ListView;
use crate::api::QueueView;
use crate::server::app::App;
use crate::server::problem::Problem;

pub async fn list(State(app): State<App>) -> Result<Json<ListView<QueueView>>, Problem> {
    Ok(Json(ListView { items: app.client().queue_views().await?, next: None }))
}
