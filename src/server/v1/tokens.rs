//! Tokens: making, listing, revoking.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Api, At, ListView};
use crate::api::codes::Code;
use crate::api::tokens::{Scope, TokenView};
use crate::domain::Name;
use crate::server::app::App;
use crate::server::limits::Sent;
use crate::server::problem::Problem;

pub async fn list(Api(client): Api) -> Result<Json<ListView<TokenView>>, Problem> {
    Ok(Json(ListView::whole(client.tokens().await?.iter().map(TokenView::from).collect())))
}

/// A token to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenWanted {
    #[schema(value_type = String, max_length = 128, pattern = "^[A-Za-z0-9](\\.?[A-Za-z0-9_:-])*\\.?$")]
    name: Name,
    #[schema(min_items = 1, max_items = 4)]
    scopes: Vec<Scope>,
}

/// A new token, with its secret, which is not shown again.
#[derive(Debug, Serialize, ToSchema)]
pub struct NewTokenView {
    token: TokenView,
    secret: String,
}

pub async fn create(
    State(app): State<App>,
    Api(client): Api,
    Sent(TokenWanted { name, mut scopes }): Sent<TokenWanted>,
) -> Result<(StatusCode, Json<NewTokenView>), Problem> {
    if scopes.is_empty() || scopes.len() > Scope::ALL.len() {
        return Err(Problem::new(Code::Usage, "`scopes` names 1 to 4 of read, enqueue, operate, admin"));
    }
    scopes.sort_unstable();
    scopes.dedup();
    let (token, secret) = client.create_token(&name, scopes).await?;
    app.tokens().forget().await;
    Ok((StatusCode::CREATED, Json(NewTokenView { token: TokenView::from(&token), secret })))
}

pub async fn revoke(State(app): State<App>, Api(client): Api, At(name): At<Name>) -> Result<StatusCode, Problem> {
    client.revoke_token(name.as_str()).await?;
    app.tokens().forget().await;
    Ok(StatusCode::NO_CONTENT)
}
