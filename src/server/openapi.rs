//! The API's own description: OpenAPI 3.1, made from the table of routes, from the shapes that the
//! routes read and answer, and from a sentence a route in `openapi/routes.rs`. Committed as
//! `schema/openapi.json`, where a test compares it.

mod page;
mod routes;

use std::collections::BTreeMap;
use std::sync::OnceLock;

use axum::response::{Html, IntoResponse, Response};
use http::Method;
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use utoipa::openapi::path::{HttpMethod, OperationBuilder, Parameter, ParameterBuilder, ParameterIn, PathItem, Paths};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::schema::{ArrayBuilder, ComponentsBuilder, ObjectBuilder, SchemaFormat, SchemaType, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ContentBuilder, InfoBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, Required, Schema};
use utoipa::{IntoParams, ToSchema};

use super::problem::ProblemView;
use super::scopes::{Access, TABLE};

const JSON: &str = "application/json";
const PROBLEM: &str = "application/problem+json";
const BEARER: &str = "bearer";
/// What a name looks like; see `domain::Name`.
const NAME: &str = r"^[A-Za-z0-9](\.?[A-Za-z0-9_:-])*\.?$";

type Shape = RefOr<Schema>;
type Shapes = Vec<(String, Shape)>;
/// A status, what it means, and the body with its media type.
type Answer = (u16, &'static str, Option<(&'static str, Shape)>);

/// What is said of one route.
struct Op {
    method: Method,
    path: &'static str,
    summary: &'static str,
    query: Vec<Parameter>,
    body: Option<(&'static str, Shape, bool)>,
    answers: Vec<Answer>,
    shapes: Shapes,
}

fn op(method: Method, path: &'static str, summary: &'static str) -> Op {
    Op { method, path, summary, query: Vec::new(), body: None, answers: Vec::new(), shapes: Vec::new() }
}

impl Op {
    fn shape<T: ToSchema>(&mut self) -> Shape {
        self.shapes.push((T::name().into_owned(), T::schema()));
        T::schemas(&mut self.shapes);
        Ref::from_schema_name(T::name()).into()
    }

    fn query<T: IntoParams>(mut self) -> Op {
        self.query = T::into_params(|| Some(ParameterIn::Query));
        self
    }

    /// A body that must be sent.
    fn takes<T: ToSchema>(mut self) -> Op {
        let shape = self.shape::<T>();
        self.body = Some((JSON, shape, true));
        self
    }

    /// A body that may be left out.
    fn may_take<T: ToSchema>(mut self) -> Op {
        let shape = self.shape::<T>();
        self.body = Some((JSON, shape, false));
        self
    }

    /// A body that is taken as it comes.
    fn takes_text(mut self, kind: &'static str, required: bool) -> Op {
        let text = ObjectBuilder::new().schema_type(SchemaType::Type(Type::String));
        self.body = Some((kind, text.into(), required));
        self
    }

    fn gives<T: ToSchema>(mut self, status: u16, what: &'static str) -> Op {
        let shape = self.shape::<T>();
        self.answers.push((status, what, Some((JSON, shape))));
        self
    }

    /// A page of a list.
    fn lists<T: ToSchema>(mut self, status: u16, what: &'static str) -> Op {
        let items = ArrayBuilder::new().items(self.shape::<T>());
        let text_or_null = SchemaType::from_iter([Type::String, Type::Null]);
        let page = ObjectBuilder::new()
            .property("items", items)
            .property("next", ObjectBuilder::new().schema_type(text_or_null))
            .required("items")
            .required("next");
        self.answers.push((status, what, Some((JSON, page.into()))));
        self
    }

    /// A list without a frame.
    fn lists_bare<T: ToSchema>(mut self, status: u16, what: &'static str) -> Op {
        let items = ArrayBuilder::new().items(self.shape::<T>());
        self.answers.push((status, what, Some((JSON, items.into()))));
        self
    }

    fn gives_text(mut self, status: u16, kind: &'static str, what: &'static str) -> Op {
        let text = ObjectBuilder::new().schema_type(SchemaType::Type(Type::String));
        self.answers.push((status, what, Some((kind, text.into()))));
        self
    }

    fn refuses(mut self, status: u16, what: &'static str) -> Op {
        self.answers.push((status, what, Some((PROBLEM, Ref::from_schema_name("Problem").into()))));
        self
    }

    fn gives_nothing(mut self, status: u16, what: &'static str) -> Op {
        self.answers.push((status, what, None));
        self
    }

    /// The statuses of problems that can come, beside those of the route itself.
    fn problems(&self, access: Access) -> Vec<(u16, &'static str)> {
        let mut all = vec![(403, "The token's scopes do not reach so far, or the Host or Origin is foreign")];
        if access == Access::Open {
            return all;
        }
        all.push((400, "Something that was sent is not understood"));
        all.push((401, "A token is needed, or this one is not known"));
        all.push((503, "The store cannot be reached or used"));
        if self.path.contains('{') || self.body.is_some() {
            all.push((404, "There is no such thing"));
        }
        if self.method != Method::GET {
            all.extend([
                (408, "The request did not come in time"),
                (409, "The state, or a key that is held, does not allow it"),
                (413, "What was sent is too large, or too deep"),
                (422, "What was sent is understood, and cannot be"),
            ]);
        }
        all
    }

    fn parameters(&self) -> Vec<Parameter> {
        let mut all = self.query.clone();
        for part in self.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
            let text = ObjectBuilder::new().schema_type(SchemaType::Type(Type::String));
            let shape = match part {
                "id" => text.format(Some(SchemaFormat::Custom("uuid".to_owned()))),
                "kind" => text.enum_values(Some(["workflow", "handler", "schedule", "queue", "webhook"])),
                "code" => text.pattern(Some("^GF[0-9]{4}$")),
                _ => text.pattern(Some(NAME)).max_length(Some(128)),
            };
            let at = ParameterBuilder::new().name(part).parameter_in(ParameterIn::Path).required(Required::True);
            all.push(at.schema(Some(shape)).build());
        }
        if self.method == Method::POST {
            let text = ObjectBuilder::new()
                .schema_type(SchemaType::Type(Type::String))
                .min_length(Some(1))
                .max_length(Some(255));
            let key = ParameterBuilder::new()
                .name("Idempotency-Key")
                .parameter_in(ParameterIn::Header)
                .required(Required::False)
                .description(Some("Sent again with the same key, the request is answered as the first time."));
            all.push(key.schema(Some(text)).build());
        }
        all
    }

    fn operation(&self, access: Access) -> utoipa::openapi::path::Operation {
        let mut operation = OperationBuilder::new()
            .operation_id(Some(operation_id(&self.method, self.path)))
            .summary(Some(self.summary))
            .tag(tag(self.path));
        for parameter in self.parameters() {
            operation = operation.parameter(parameter);
        }
        if let Some((kind, shape, required)) = &self.body {
            let content = ContentBuilder::new().schema(Some(shape.clone())).build();
            let required = if *required { Required::True } else { Required::False };
            let body = RequestBodyBuilder::new().content(*kind, content).required(Some(required)).build();
            operation = operation.request_body(Some(body));
        }
        // An answer of the route itself may come in two kinds, and hides a problem of its status.
        let mut answers: BTreeMap<u16, ResponseBuilder> = BTreeMap::new();
        for (status, what, content) in &self.answers {
            let answer = answers.remove(status).unwrap_or_else(|| ResponseBuilder::new().description(*what));
            let answer = match content {
                Some((kind, shape)) => answer.content(*kind, ContentBuilder::new().schema(Some(shape.clone())).build()),
                None => answer,
            };
            answers.insert(*status, answer);
        }
        for (status, what) in self.problems(access) {
            let shape = Ref::from_schema_name("Problem");
            let content = ContentBuilder::new().schema(Some(shape)).build();
            let answer = answers.remove(&status).unwrap_or_else(|| ResponseBuilder::new().description(what));
            answers.insert(status, answer.content(PROBLEM, content));
        }
        for (status, answer) in answers {
            operation = operation.response(status.to_string(), answer.build());
        }
        if let Access::Needs(scope) | Access::Socket(scope) = access {
            operation = operation
                .security(SecurityRequirement::new::<_, [&str; 0], &str>(BEARER, []))
                .description(Some(format!("Needs the scope `{scope}`.")));
        }
        operation.build()
    }
}

/// `postApiV1JobsIdCancel`
fn operation_id(method: &Method, path: &str) -> String {
    let mut id = method.as_str().to_lowercase();
    for part in path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|part| !part.is_empty()) {
        let (first, rest) = part.split_at(1);
        id.push_str(&first.to_uppercase());
        id.push_str(rest);
    }
    id
}

fn tag(path: &str) -> String {
    let mut parts = path.split('/').skip(1);
    match (parts.next(), parts.next(), parts.next()) {
        (Some("api"), Some("v1"), Some(noun)) => noun.to_owned(),
        (Some("api" | "flow" | "tasks" | "orders" | "sagas"), ..) => "replaced systems".to_owned(),
        _ => "server".to_owned(),
    }
}

/// The whole description. Routes of which nothing is said in `routes.rs` are left out: they speak no
/// JSON, or are described elsewhere.
pub fn description() -> OpenApi {
    let mut paths = Paths::new();
    let mut shapes = vec![("Problem".to_owned(), <ProblemView as utoipa::PartialSchema>::schema())];
    for op in routes::all() {
        let Some(row) = TABLE.iter().find(|row| row.method == op.method && row.path == op.path) else { continue };
        let method = match op.method {
            Method::POST => HttpMethod::Post,
            Method::PUT => HttpMethod::Put,
            Method::PATCH => HttpMethod::Patch,
            Method::DELETE => HttpMethod::Delete,
            _ => HttpMethod::Get,
        };
        let item = PathItem::new(method, op.operation(row.access));
        match paths.paths.get_mut(op.path) {
            Some(known) => known.merge_operations(item),
            None => {
                paths.paths.insert(op.path.to_owned(), item);
            }
        }
        shapes.extend(op.shapes);
    }
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    let components = ComponentsBuilder::new()
        .schemas_from_iter(shapes)
        .security_scheme(BEARER, SecurityScheme::Http(bearer))
        .build();
    let info = InfoBuilder::new()
        .title("goflow")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some("Background jobs and durable workflows."))
        .build();
    OpenApiBuilder::new().info(info).paths(paths).components(Some(components)).build()
}

/// As it is committed and served.
pub fn text() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| description().to_pretty_json().unwrap_or_default() + "\n")
}

pub(super) async fn document() -> Response {
    ([(CONTENT_TYPE, JSON)], text()).into_response()
}

pub(super) async fn page() -> Response {
    static PAGE: OnceLock<String> = OnceLock::new();
    let page = PAGE.get_or_init(|| page::render(&description()));
    // Nothing is loaded from anywhere.
    let policy = [(CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'")];
    (policy, Html(page.as_str())).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_described_is_in_the_table_and_once() {
        let mut seen = std::collections::BTreeSet::new();
        for op in routes::all() {
            assert!(
                TABLE.iter().any(|row| row.method == op.method && row.path == op.path),
                "{} {}",
                op.method,
                op.path
            );
            assert!(seen.insert(operation_id(&op.method, op.path)), "{} {} twice", op.method, op.path);
        }
    }

    #[test]
    fn every_route_of_the_api_is_described() {
        let described: Vec<(Method, &str)> = routes::all().into_iter().map(|op| (op.method, op.path)).collect();
        // What one goflow says to another is not for people.
        let is_told_elsewhere = |path: &str| path.starts_with("/api/v1/store");
        for row in
            TABLE.iter().filter(|row| row.path.starts_with("/api/v1/") && !matches!(row.access, Access::Socket(_)))
        {
            let told = described.contains(&(row.method.clone(), row.path)) || is_told_elsewhere(row.path);
            assert!(told, "{} {}", row.method, row.path);
        }
    }
}
