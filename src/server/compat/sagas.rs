//! `/orders` and `/sagas`: the order example. An order starts a run of the workflow `order-saga`, which
//! `goflow apply workflows/order-saga.yaml` keeps, and is answered when it has ended.

use std::time::Duration;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::codes::Code;
use crate::api::runs::StepView;
use crate::api::wanted::Object;
use crate::domain::{Json as Payload, Name, RunId, RunState, StepState};
use crate::server::limits::Sent;
use crate::server::problem::Problem;
use crate::server::v1::{Api, At, definitions};

/// The workflow that an order is a run of.
const WORKFLOW: &str = "order-saga";
/// Longer than this nobody waits for an answer.
const WITHIN: Duration = Duration::from_secs(60);

/// An order.
#[derive(Debug, Deserialize, ToSchema)]
pub struct OrderWanted {
    #[schema(min_length = 1, max_length = 128)]
    user_id: String,
    #[schema(value_type = Vec<ItemWanted>, min_items = 1, max_items = 1000)]
    items: Vec<Object<ItemWanted>>,
}

/// A part of an order.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub struct ItemWanted {
    #[schema(min_length = 1, max_length = 128)]
    product_id: String,
    #[schema(minimum = 1, maximum = 1000000)]
    quantity: u32,
    #[schema(minimum = 0, maximum = 1000000000)]
    price: f64,
}

/// An order whose run has completed, or is still under way.
#[derive(Debug, Serialize, ToSchema)]
pub struct OrderView {
    saga_id: String,
    order_id: Option<String>,
    status: &'static str,
}

/// An order that was refused; what had been done for it is undone.
#[derive(Debug, Serialize, ToSchema)]
pub struct OrderFailed {
    saga_id: String,
    status: &'static str,
    error: String,
}

/// A saga.
#[derive(Debug, Serialize, ToSchema)]
pub struct SagaView {
    saga_id: String,
    status: &'static str,
    /// How many it has.
    steps: usize,
}

fn status(state: RunState) -> &'static str {
    match state {
        RunState::Running | RunState::Paused | RunState::Compensating => "in_progress",
        state => state.as_str(),
    }
}

impl OrderWanted {
    fn check(&self) -> Result<(), Problem> {
        let wrong = |why: &str| Err(Problem::new(Code::Usage, why));
        if self.user_id.is_empty() || self.user_id.chars().count() > 128 {
            return wrong("`user_id` has 1 to 128 characters");
        }
        if self.items.is_empty() || self.items.len() > 1_000 {
            return wrong("`items` holds 1 to 1000 items");
        }
        for Object(item) in &self.items {
            if item.product_id.is_empty() || item.product_id.chars().count() > 128 {
                return wrong("`product_id` has 1 to 128 characters");
            }
            if !(1..=1_000_000).contains(&item.quantity) || !(0.0..=1e9).contains(&item.price) {
                return wrong("`quantity` is 1 to 1000000, `price` 0 to 1000000000");
            }
        }
        Ok(())
    }
}

pub async fn order(Api(client): Api, Sent(order): Sent<OrderWanted>) -> Result<Response, Problem> {
    order.check()?;
    let items: Vec<ItemWanted> = order.items.into_iter().map(|Object(item)| item).collect();
    let amount: f64 = items.iter().map(|item| f64::from(item.quantity) * item.price).sum();
    let input = serde_json::json!({"user_id": order.user_id, "amount": amount, "items": items});
    let id = definitions::begin(&client, &Name::literal(WORKFLOW), Payload::from_value(&input)).await?;
    let ended = client.wait_for_run(id, WITHIN).await?;
    let run = client.run(id).await?;
    let (saga_id, status) = (id.to_string(), status(run.state));
    if !ended || run.state == RunState::Completed {
        let output = run.output.map(|output| output.0.to_value());
        let order_id = output.and_then(|output| Some(output.get("order_id")?.as_str()?.to_owned()));
        let code = if ended { StatusCode::CREATED } else { StatusCode::ACCEPTED };
        return Ok((code, Json(OrderView { saga_id, order_id, status })).into_response());
    }
    // The steps know more than the run: what it says itself may be that a step failed.
    let failed = |step: &&StepView| step.state != StepState::Completed;
    let of_step = run.steps.iter().filter(failed).find_map(|step| step.error.as_ref());
    let error = run.error.as_ref().or(of_step).map_or_else(|| status.to_owned(), |error| error.message.clone());
    Ok((StatusCode::INTERNAL_SERVER_ERROR, Json(OrderFailed { saga_id, status, error })).into_response())
}

pub async fn get(Api(client): Api, At(id): At<RunId>) -> Result<Json<SagaView>, Problem> {
    let run = client.run_header(id).await?;
    Ok(Json(SagaView { saga_id: id.to_string(), status: status(run.state), steps: run.steps.len() }))
}
