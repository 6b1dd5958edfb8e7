//! Who asks, and whether they may: tokens against the scope that a route needs. Fails closed: a store
//! that cannot be asked for its tokens is no reason to let anybody in. Knows no route by name.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderValue, Uri};
use tokio::sync::RwLock;
use tokio::time::Instant;

use super::app::App;
use super::problem::Problem;
use super::scopes::Access;
use crate::api::codes::Code;
use crate::api::tokens::{Hashed, Scope, Token};
use crate::api::{Client, Result};

/// A token that was revoked opens nothing after this time.
const REMEMBERED: Duration = Duration::from_secs(1);
/// A token that was made elsewhere is known after this time: who comes with one that is not known makes
/// us ask the store, but not more often.
const LOOKED_AGAIN: Duration = Duration::from_millis(100);
/// What whoever needs no token is called.
const NOBODY: &str = "anonymous";
/// What the bearer of `GOFLOW_TOKEN` is called.
const ADMIN: &str = "GOFLOW_TOKEN";

/// How often it is looked whether somebody who is told of events may still be.
const LOOKED_AT: Duration = Duration::from_secs(2);

/// Who makes a request; an extension of every request that was let in by a scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The name of their token.
    pub name: String,
    pub scopes: Vec<Scope>,
    /// Their secret; whoever needs none has none.
    hashed: Option<Hashed>,
}

impl Caller {
    pub fn may(&self, wanted: Scope) -> bool {
        self.scopes.iter().any(|scope| scope.covers(wanted))
    }
}

/// The tokens that a server knows: that of its environment, and those of the store.
pub struct Tokens {
    admin: Option<Hashed>,
    /// Other machines reach the server: nobody is let in without a token, even if there is none.
    always: bool,
    kept: RwLock<Option<(Instant, Arc<Vec<Token>>)>>,
}

impl Tokens {
    pub(super) fn new(admin: Option<&str>, always: bool) -> Tokens {
        Tokens { admin: admin.map(Hashed::of), always, kept: RwLock::new(None) }
    }

    /// Those of the store, at most so old.
    async fn of_store(&self, client: &Client, oldest: Duration) -> Result<Arc<Vec<Token>>> {
        let fresh = |kept: &Option<(Instant, Arc<Vec<Token>>)>| {
            kept.as_ref().filter(|(at, _)| at.elapsed() < oldest).map(|(_, tokens)| tokens.clone())
        };
        if let Some(tokens) = fresh(&*self.kept.read().await) {
            return Ok(tokens);
        }
        // One asks, the others wait for the answer.
        let mut kept = self.kept.write().await;
        if let Some(tokens) = fresh(&kept) {
            return Ok(tokens);
        }
        let tokens = Arc::new(client.tokens().await?);
        *kept = Some((Instant::now(), tokens.clone()));
        Ok(tokens)
    }

    /// What is known of the store's tokens is old: this server has just changed them.
    pub async fn forget(&self) {
        *self.kept.write().await = None;
    }

    /// Who bears this secret, or nobody.
    ///
    /// # Errors
    /// No or a wrong token where one is needed; the store's.
    pub async fn caller(&self, client: &Client, secret: Option<&str>) -> Result<Caller, Problem> {
        self.known_as(client, secret.map(Hashed::of)).await
    }

    async fn known_as(&self, client: &Client, hashed: Option<Hashed>) -> Result<Caller, Problem> {
        // Before the store is asked: the operator gets in while it is away.
        if let (Some(hashed), Some(admin)) = (&hashed, &self.admin)
            && admin.is_same(hashed)
        {
            return Ok(Caller { name: ADMIN.to_owned(), scopes: vec![Scope::Admin], hashed: Some(admin.clone()) });
        }
        let tokens = self.of_store(client, REMEMBERED).await?;
        let Some(hashed) = hashed else {
            let is_open = !self.always && self.admin.is_none() && tokens.is_empty();
            return match is_open {
                true => Ok(Caller { name: NOBODY.to_owned(), scopes: vec![Scope::Admin], hashed: None }),
                false => Err(unknown("a token is needed: Authorization: Bearer TOKEN")),
            };
        };
        let token = match known(&tokens, &hashed) {
            Some(token) => token.clone(),
            None => {
                let tokens = self.of_store(client, LOOKED_AGAIN).await?;
                known(&tokens, &hashed).cloned().ok_or_else(|| unknown("no such token, or it was revoked"))?
            }
        };
        Ok(Caller { name: token.name.to_string(), scopes: token.scopes, hashed: Some(hashed) })
    }
}

/// Ends once somebody who was let in would not be let in any more: their token was revoked, or where none
/// was needed one is now. While the store cannot be asked nothing is known of that.
pub(super) async fn until_shut_out(app: App, caller: Caller, scope: Scope) {
    loop {
        tokio::time::sleep(LOOKED_AT).await;
        match app.tokens().known_as(app.client(), caller.hashed.clone()).await {
            Ok(now) if now.may(scope) => {}
            Err(problem) if problem.code() != Code::Unauthorized => {
                tracing::debug!("whether `{}` may still look is not known", caller.name);
            }
            Ok(_) | Err(_) => return,
        }
    }
}

/// All are looked at, so that the time tells nothing.
fn known<'a>(tokens: &'a [Token], hashed: &Hashed) -> Option<&'a Token> {
    tokens.iter().fold(None, |found, token| if token.hashed.is_same(hashed) { Some(token) } else { found })
}

/// The challenge of RFC 6750.
fn unknown(detail: &str) -> Problem {
    Problem::new(Code::Unauthorized, detail).header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
}

/// What a route needs, beside the state: the middleware before each.
#[derive(Clone)]
pub(super) struct Gate {
    pub app: App,
    pub access: Access,
}

/// Lets in who may.
pub(super) async fn guard(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    let (scope, from_query) = match gate.access {
        Access::Open | Access::Signed => return next.run(request).await,
        Access::Needs(scope) => (scope, false),
        Access::Socket(scope) => (scope, true),
    };
    let secret = match secret(&request, from_query) {
        Ok(secret) => secret,
        Err(problem) => return problem.into_response(),
    };
    match gate.app.tokens().caller(gate.app.client(), secret.as_deref()).await {
        Ok(caller) if caller.may(scope) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Ok(caller) => {
            let detail = format!("this needs the scope `{scope}`, which `{}` does not have", caller.name);
            Problem::new(Code::Forbidden, detail).into_response()
        }
        Err(problem) => problem.into_response(),
    }
}

/// The secret that a request bears: of `Authorization`, else, where a browser can set no header, of
/// the query.
fn secret(request: &Request, from_query: bool) -> Result<Option<String>, Problem> {
    if let Some(header) = request.headers().get(AUTHORIZATION) {
        let text = header.to_str().ok().and_then(|text| text.split_once(' '));
        return match text {
            Some((scheme, secret)) if scheme.eq_ignore_ascii_case("bearer") => Ok(Some(secret.trim().to_owned())),
            _ => Err(unknown("Authorization must be: Bearer TOKEN")),
        };
    }
    Ok(if from_query { of_query(request.uri()) } else { None })
}

fn of_query(uri: &Uri) -> Option<String> {
    let pairs: Vec<(String, String)> = axum::extract::Query::try_from_uri(uri).ok()?.0;
    pairs.into_iter().find(|(name, _)| name == "token").map(|(_, value)| value)
}
