//! Definitions: applying manifests, reading them back, taking them back; starting a workflow.

use axum::Json;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use super::{Api, Asked, At, ListView};
use crate::api::apply::{Change, Planned};
use crate::api::codes::Code;
use crate::api::{ApiError, Client, RunView};
use crate::domain::problem::Problems;
use crate::domain::{Json as Payload, Name, limits, secret};
use crate::server::limits::{Raw, Sent};
use crate::server::problem::Problem;
use crate::workflow::manifest::Kind;
use crate::workflow::{self, Definition};

/// What applying a manifest means.
#[derive(Debug, Serialize, ToSchema)]
pub struct AppliedView {
    kind: String,
    name: String,
    change: Change,
    /// The hash of its content: the version that runs keep.
    hash: String,
}

impl From<&Planned> for AppliedView {
    fn from(planned: &Planned) -> AppliedView {
        let definition = &planned.definition;
        let (kind, name) = (definition.kind.clone(), definition.name.to_string());
        AppliedView { kind, name, change: planned.change, hash: definition.hash.clone() }
    }
}

/// Whether to do it.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ApplyQuery {
    /// Only tell what would change.
    #[serde(default)]
    dry_run: Option<bool>,
}

fn wrong(problems: Problems) -> Problem {
    Problem::new(Code::Manifest, problems.render())
}

pub async fn apply(
    Api(client): Api,
    Asked(query): Asked<ApplyQuery>,
    Raw(bytes): Raw,
) -> Result<Json<ListView<AppliedView>>, Problem> {
    let text = std::str::from_utf8(&bytes).map_err(|_| Problem::new(Code::Manifest, "the body is not UTF-8"))?;
    let parsed = workflow::parse_whole("body", text).map_err(wrong)?;
    for manifest in &parsed.manifests {
        let fields = serde_json::from_str(&manifest.text()).unwrap_or_default();
        if let Some(path) = secret::is_missing_in(&fields) {
            let (kind, name) = (manifest.kind().stored(), manifest.name());
            let detail = format!("`{path}` of the {kind} `{name}` is `***`, the sign of a secret that was not shown");
            return Err(Problem::new(Code::Manifest, detail));
        }
    }
    let missing = client.missing(&parsed.manifests, &parsed.references).await?;
    if !missing.is_empty() {
        return Err(wrong(Problems(missing)));
    }
    let plan = client.plan(parsed.manifests).await?;
    if query.dry_run != Some(true) {
        client.apply(&plan).await?;
    }
    Ok(Json(ListView::whole(plan.iter().map(AppliedView::from).collect())))
}

/// A definition, and the manifest that gives it.
#[derive(Debug, Serialize, ToSchema)]
pub struct DefinitionView {
    kind: String,
    name: String,
    hash: String,
    /// In its canonical form: it can be applied again, once the secrets that show as `***` are put in.
    #[schema(value_type = serde_json::Value)]
    manifest: serde_json::Value,
}

fn view(kept: crate::store::Definition) -> Result<DefinitionView, Problem> {
    let fields: serde_json::Value = serde_json::from_str(&kept.text).map_err(|_| {
        Problem::new(Code::StoreCorrupt, format!("the {} `{}` is not kept as JSON", kept.kind, kept.name))
    })?;
    let manifest = secret::manifest(&fields);
    Ok(DefinitionView { kind: kept.kind, name: kept.name.to_string(), hash: kept.hash, manifest })
}

/// `workflow`, or `workflows`.
fn kind(text: &str) -> Result<Kind, Problem> {
    let found = Kind::ALL.into_iter().find(|kind| text.strip_suffix('s').unwrap_or(text) == kind.stored());
    found.ok_or_else(|| Problem::new(Code::NotFound, format!("`{text}` is no kind of definitions")))
}

pub async fn list(Api(client): Api, At(text): At<String>) -> Result<Json<ListView<DefinitionView>>, Problem> {
    let kept = client.definitions(kind(&text)?).await?;
    Ok(Json(ListView::whole(kept.into_iter().map(view).collect::<Result<_, _>>()?)))
}

pub async fn get(Api(client): Api, At((text, name)): At<(String, Name)>) -> Result<Json<DefinitionView>, Problem> {
    Ok(Json(view(client.definition(kind(&text)?, &name).await?)?))
}

pub async fn delete(Api(client): Api, At((text, name)): At<(String, Name)>) -> Result<StatusCode, Problem> {
    let kind = kind(&text)?;
    client.definition(kind, &name).await?;
    let meant = [(kind, name)];
    if let Some(user) = client.users_of(&meant).await?.first() {
        let (by, its) = (user.by.0.stored(), &user.by.1);
        let detail = format!("the {} `{}` is needed by the {by} `{its}`", user.kind.stored(), user.name);
        return Err(Problem::new(Code::StateConflict, detail));
    }
    client.undefine(&meant).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A run to start.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StartWanted {
    #[serde(default)]
    #[schema(value_type = serde_json::Value, required = false)]
    pub input: Option<Box<RawValue>>,
}

/// # Errors
/// Not JSON, or too much of it.
pub fn input(raw: Option<&RawValue>) -> Result<Payload, Problem> {
    let raw = raw.map_or("null", RawValue::get);
    Payload::parse(raw, limits::PAYLOAD_BYTES).map_err(|error| Problem::new(Code::PayloadNotJson, error.to_string()))
}

/// Begins a run of the current version.
///
/// # Errors
/// No such workflow, an input that does not fit, the store's.
pub async fn begin(client: &Client, name: &Name, input: Payload) -> Result<crate::domain::RunId, Problem> {
    let kept = client.definition(Kind::Workflow, name).await?;
    let definition = Definition::kept(&kept.text, &kept.hash).map_err(wrong)?;
    match client.start(&definition, input).await {
        Ok(id) => Ok(id),
        Err(crate::api::runs::StartError::Api(ApiError::Conflict(why))) => Err(Problem::new(Code::StateConflict, why)),
        Err(error) => Err(error.into()),
    }
}

pub async fn start(
    Api(client): Api,
    At(name): At<Name>,
    Sent(wanted): Sent<StartWanted>,
) -> Result<(StatusCode, Json<RunView>), Problem> {
    let id = begin(&client, &name, input(wanted.input.as_deref())?).await?;
    Ok((StatusCode::CREATED, Json(client.run(id).await?)))
}
