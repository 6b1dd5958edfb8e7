//! The one table of routes: method, path, what is needed to be let in, and the function that answers.
//! A route that does not stand here does not exist; a test asks every row with every kind of token.

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{MethodFilter, MethodRouter, on};
use http::Method;

use super::app::App;
use super::auth::{self, Gate};
use super::{
    calls, compat, health, hosts, idempotency, live, log, metrics, openapi, problem, pull, room, v1, webhooks,
};
use crate::api::tokens::Scope;
use crate::store::wire::with_calls;

/// What lets a request in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing is needed.
    Open,
    /// A signature over the body, which the route itself checks.
    Signed,
    /// A token with this scope.
    Needs(Scope),
    /// The same for a WebSocket, where the token may stand in the query as `token`.
    Socket(Scope),
}

/// One route.
pub struct Row {
    pub method: Method,
    pub path: &'static str,
    pub access: Access,
    handler: fn() -> MethodRouter<App>,
}

macro_rules! table {
    ($($method:ident $path:literal $access:expr => $handler:path;)*) => {
        &[$(Row {
            method: Method::$method,
            path: $path,
            access: $access,
            handler: || on(MethodFilter::$method, $handler),
        },)*]
    };
}

use Access::{Needs, Open, Signed, Socket};
use Scope::{Admin, Enqueue, Operate, Read};

/// Every route there is. An area adds its rows under its own comment.
pub const TABLE: &[Row] = table! {
    // Health.
    GET "/health" Open => health::health;
    GET "/ready" Open => health::ready;
    GET "/metrics" Needs(Read) => metrics::metrics;
    // The API's own description, and the pages of error codes that problem documents point at.
    GET "/openapi.json" Open => openapi::document;
    GET "/docs" Open => openapi::page;
    GET "/errors/{code}" Open => problem::page;
    // Jobs.
    GET "/api/v1/jobs" Needs(Read) => v1::jobs::list;
    POST "/api/v1/jobs" Needs(Enqueue) => v1::jobs::create;
    POST "/api/v1/jobs/batch" Needs(Enqueue) => v1::jobs::create_many;
    POST "/api/v1/jobs/cancel" Needs(Operate) => v1::jobs::cancel_many;
    POST "/api/v1/jobs/retry" Needs(Operate) => v1::jobs::retry_many;
    POST "/api/v1/jobs/delete" Needs(Operate) => v1::jobs::delete_many;
    GET "/api/v1/jobs/{id}" Needs(Read) => v1::jobs::get;
    PATCH "/api/v1/jobs/{id}" Needs(Operate) => v1::jobs::edit;
    DELETE "/api/v1/jobs/{id}" Needs(Operate) => v1::jobs::delete;
    GET "/api/v1/jobs/{id}/logs" Needs(Read) => v1::jobs::logs;
    GET "/api/v1/jobs/{id}/progress" Needs(Read) => v1::jobs::progress;
    GET "/api/v1/jobs/{id}/wait" Needs(Read) => v1::jobs::wait;
    POST "/api/v1/jobs/{id}/cancel" Needs(Operate) => v1::jobs::cancel;
    POST "/api/v1/jobs/{id}/retry" Needs(Operate) => v1::jobs::retry;
    // Queues.
    GET "/api/v1/queues" Needs(Read) => v1::queues::list;
    GET "/api/v1/queues/{name}" Needs(Read) => v1::queues::get;
    PATCH "/api/v1/queues/{name}" Needs(Operate) => v1::queues::set;
    POST "/api/v1/queues/{name}/pause" Needs(Operate) => v1::queues::pause;
    POST "/api/v1/queues/{name}/resume" Needs(Operate) => v1::queues::resume;
    POST "/api/v1/queues/{name}/purge" Needs(Operate) => v1::queues::purge;
    // The DLQ.
    GET "/api/v1/dlq" Needs(Read) => v1::dlq::list;
    POST "/api/v1/dlq/retry" Needs(Operate) => v1::dlq::retry;
    POST "/api/v1/dlq/purge" Needs(Operate) => v1::dlq::purge;
    // Definitions and runs. Whoever writes manifests may run code.
    POST "/api/v1/apply" Needs(Admin) => v1::definitions::apply;
    GET "/api/v1/definitions/{kind}" Needs(Read) => v1::definitions::list;
    GET "/api/v1/definitions/{kind}/{name}" Needs(Read) => v1::definitions::get;
    DELETE "/api/v1/definitions/{kind}/{name}" Needs(Admin) => v1::definitions::delete;
    POST "/api/v1/workflows/{name}/start" Needs(Enqueue) => v1::definitions::start;
    GET "/api/v1/runs" Needs(Read) => v1::runs::list;
    GET "/api/v1/runs/{id}" Needs(Read) => v1::runs::get;
    GET "/api/v1/runs/{id}/history" Needs(Read) => v1::runs::history;
    GET "/api/v1/runs/{id}/wait" Needs(Read) => v1::runs::wait;
    POST "/api/v1/runs/{id}/pause" Needs(Operate) => v1::runs::pause;
    POST "/api/v1/runs/{id}/resume" Needs(Operate) => v1::runs::resume;
    POST "/api/v1/runs/{id}/cancel" Needs(Operate) => v1::runs::cancel;
    POST "/api/v1/runs/{id}/retry" Needs(Operate) => v1::runs::retry;
    POST "/api/v1/runs/{id}/signal" Needs(Enqueue) => v1::runs::signal;
    POST "/api/v1/runs/{id}/approve" Needs(Operate) => v1::runs::approve;
    POST "/api/v1/runs/{id}/reject" Needs(Operate) => v1::runs::reject;
    // Schedules.
    GET "/api/v1/schedules" Needs(Read) => v1::schedules::list;
    GET "/api/v1/schedules/{name}" Needs(Read) => v1::schedules::get;
    GET "/api/v1/schedules/{name}/next" Needs(Read) => v1::schedules::next;
    POST "/api/v1/schedules/{name}/trigger" Needs(Operate) => v1::schedules::trigger;
    POST "/api/v1/schedules/{name}/pause" Needs(Operate) => v1::schedules::pause;
    POST "/api/v1/schedules/{name}/resume" Needs(Operate) => v1::schedules::resume;
    // Workers, events, the whole at a glance.
    GET "/api/v1/workers" Needs(Read) => v1::looks::workers;
    POST "/api/v1/workers/{id}/drain" Needs(Operate) => v1::looks::drain;
    GET "/api/v1/events" Needs(Read) => v1::looks::events;
    GET "/api/v1/stats" Needs(Read) => v1::looks::stats;
    // Locks and semaphores.
    GET "/api/v1/locks" Needs(Read) => v1::locks::list;
    GET "/api/v1/locks/{name}" Needs(Read) => v1::locks::get;
    POST "/api/v1/locks/{name}/acquire" Needs(Operate) => v1::locks::acquire;
    POST "/api/v1/locks/{name}/extend" Needs(Operate) => v1::locks::extend;
    POST "/api/v1/locks/{name}/release" Needs(Operate) => v1::locks::release;
    POST "/api/v1/locks/{name}/break" Needs(Operate) => v1::locks::break_one;
    // Tokens.
    GET "/api/v1/tokens" Needs(Admin) => v1::tokens::list;
    POST "/api/v1/tokens" Needs(Admin) => v1::tokens::create;
    DELETE "/api/v1/tokens/{name}" Needs(Admin) => v1::tokens::revoke;
    // The replaced systems: queues and workflows.
    GET "/api/jobs" Needs(Read) => compat::queue::list;
    POST "/api/jobs" Needs(Enqueue) => compat::queue::enqueue;
    GET "/api/jobs/{id}" Needs(Read) => v1::jobs::get;
    DELETE "/api/jobs/{id}" Needs(Operate) => v1::jobs::delete;
    POST "/api/jobs/{id}/retry" Needs(Operate) => v1::jobs::retry;
    POST "/api/jobs/{id}/cancel" Needs(Operate) => v1::jobs::cancel;
    GET "/api/queue/stats" Needs(Read) => compat::queue::stats;
    GET "/api/queue/jobs" Needs(Read) => compat::queue::list;
    POST "/api/queue/enqueue" Needs(Enqueue) => compat::queue::enqueue;
    GET "/api/dlq" Needs(Read) => compat::queue::dead;
    DELETE "/api/dlq" Needs(Operate) => compat::queue::purge_dead;
    POST "/api/dlq/retry-all" Needs(Operate) => compat::queue::retry_all_dead;
    POST "/api/dlq/{id}/retry" Needs(Operate) => compat::queue::retry_dead;
    GET "/api/events" Needs(Read) => compat::queue::events;
    GET "/api/workflows" Needs(Read) => compat::workflows::list;
    POST "/api/workflows" Needs(Enqueue) => compat::workflows::start;
    GET "/api/workflows/{id}" Needs(Read) => v1::runs::get;
    POST "/api/workflows/{id}/pause" Needs(Operate) => v1::runs::pause;
    POST "/api/workflows/{id}/resume" Needs(Operate) => v1::runs::resume;
    POST "/api/workflows/{id}/cancel" Needs(Operate) => v1::runs::cancel;
    POST "/api/workflows/{id}/signal" Needs(Enqueue) => v1::runs::signal;
    // The replaced systems: flows, tasks, orders.
    POST "/flow/{name}" Needs(Enqueue) => compat::flows::start;
    GET "/flow/{name}/state/{id}" Needs(Read) => compat::flows::state;
    POST "/flow/{name}/pause/{id}" Needs(Operate) => compat::flows::pause;
    POST "/flow/{name}/resume/{id}" Needs(Operate) => compat::flows::resume;
    POST "/flow/{name}/stop/{id}" Needs(Operate) => compat::flows::stop;
    GET "/tasks" Needs(Read) => compat::tasks::list;
    POST "/tasks" Needs(Enqueue) => compat::tasks::create;
    GET "/tasks/{id}" Needs(Read) => compat::tasks::get;
    POST "/orders" Needs(Enqueue) => compat::sagas::order;
    GET "/sagas/{id}" Needs(Read) => compat::sagas::get;
    // Webhooks.
    POST "/webhooks/{*path}" Signed => webhooks::deliver;
    GET "/api/webhooks" Needs(Read) => webhooks::list;
    POST "/api/webhooks" Needs(Admin) => webhooks::apply;
    GET "/api/webhooks/{name}" Needs(Read) => webhooks::show;
    DELETE "/api/webhooks/{name}" Needs(Admin) => webhooks::remove;
    POST "/api/webhooks/{name}/enable" Needs(Operate) => webhooks::enable;
    POST "/api/webhooks/{name}/disable" Needs(Operate) => webhooks::disable;
    GET "/api/v1/webhooks" Needs(Read) => webhooks::list;
    POST "/api/v1/webhooks" Needs(Admin) => webhooks::apply;
    GET "/api/v1/webhooks/{name}" Needs(Read) => webhooks::show;
    DELETE "/api/v1/webhooks/{name}" Needs(Admin) => webhooks::remove;
    POST "/api/v1/webhooks/{name}/enable" Needs(Operate) => webhooks::enable;
    POST "/api/v1/webhooks/{name}/disable" Needs(Operate) => webhooks::disable;
    // Another goflow that has this server instead of a store.
    GET "/api/v1/store" Needs(Read) => calls::greet;
    POST "/api/v1/store/hints" Needs(Operate) => calls::hints;
    // Workers over HTTP.
    POST "/api/v1/lease" Needs(Operate) => pull::lease;
    POST "/api/v1/heartbeat" Needs(Operate) => pull::heartbeat;
    POST "/api/v1/farewell" Needs(Operate) => pull::farewell;
    POST "/api/v1/progress" Needs(Operate) => pull::progress;
    POST "/api/v1/settle" Needs(Operate) => pull::settle;
    // Live events.
    GET "/ws" Socket(Read) => live::socket;
    GET "/events" Needs(Read) => live::stream;
};

/// A row for each call of the store contract, with the right that the contract's own table names.
macro_rules! calls {
    ($($name:ident $call:ident ($($argument:ident: $given:ty = $owned:ty => $pass:expr),*)
        -> $answer:ty as $wire:ty, $right:ident;)*) => {
        /// The calls by which another goflow uses this server as its store.
        pub const CALLS: &[Row] = &[$(Row {
            method: Method::POST,
            path: concat!("/api/v1/store/", stringify!($name)),
            access: Needs(Scope::$right),
            handler: || on(MethodFilter::POST, calls::call),
        },)*];
    };
}
with_calls!(calls);

/// Every row there is.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    TABLE.iter().chain(CALLS)
}

/// All of it, with what stands before every route.
pub(super) fn router(app: &App, access: log::AccessLog) -> Router {
    let mut router = Router::new();
    for row in rows() {
        let gate = Gate { app: app.clone(), access: row.access };
        let mut handler = (row.handler)();
        if row.method == Method::POST && matches!(row.access, Access::Needs(_)) {
            handler = handler.route_layer(from_fn_with_state(app.clone(), idempotency::guard));
        }
        handler = handler.route_layer(from_fn_with_state(gate, auth::guard));
        // Whether the process lives is told however full it is.
        if row.access != Access::Open {
            handler = handler.route_layer(from_fn_with_state(app.clone(), room::share));
        }
        router = router.route(row.path, handler);
    }
    let router = router.fallback(problem::no_route).method_not_allowed_fallback(problem::wrong_method);
    let mut router = router.layer(from_fn_with_state(app.clone(), hosts::check));
    if let Some(cors) = hosts::cors(app.hosts()) {
        router = router.layer(cors);
    }
    router.layer(from_fn(move |request, next| log::tell(access.clone(), request, next))).with_state(app.clone())
}
