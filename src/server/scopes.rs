//! The one table of routes: method, path, what is needed to be let in, and the function that answers.
//! A route that does not stand here does not exist; a test asks every row with every kind of token.

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{MethodFilter, MethodRouter, on};
use http::Method;

use super::app::App;
use super::auth::{self, Gate};
use super::{calls, health, hosts, live, log, problem, pull, v1, webhooks};
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
use Scope::{Admin, Operate, Read};

/// Every route there is. An area adds its rows under its own comment.
pub const TABLE: &[Row] = table! {
    // Health.
    GET "/health" Open => health::health;
    GET "/ready" Open => health::ready;
    // Queues.
    GET "/api/v1/queues" Needs(Read) => v1::queues::list;
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
    // The pages of error codes, which problem documents point at.
    GET "/errors/{code}" Open => problem::page;
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
        router = router.route(row.path, (row.handler)().route_layer(from_fn_with_state(gate, auth::guard)));
    }
    let router = router.fallback(problem::no_route).method_not_allowed_fallback(problem::wrong_method);
    let mut router = router.layer(from_fn_with_state(app.clone(), hosts::check));
    if let Some(cors) = hosts::cors(app.hosts()) {
        router = router.layer(cors);
    }
    router.layer(from_fn(move |request, next| log::tell(access.clone(), request, next))).with_state(app.clone())
}
