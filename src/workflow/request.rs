//! An HTTP request with all data in its place: the payload of a step's job, ready to be sent. Renders
//! and encodes only; nothing is sent here.

use serde_json::{Map, Value as Json, json};

use super::expr::{ExprError, Scope, Template};
use super::spec::{self, HttpBody, HttpSpec, Outputs};

/// A rendered request.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    pub method: String,
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub query: Vec<(String, String)>,
    pub body: Option<RequestBody>,
    /// How the answer's body becomes a value; `None` goes by what the answer says it is.
    pub outputs: Option<Outputs>,
    /// Data had a say in the URL: it may only lead to public addresses.
    pub public_only: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum RequestBody {
    Json(Json),
    Text(String),
    Form(Vec<(String, String)>),
}

/// A job's payload that should be a request and is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the payload is not a request: {0}")]
pub struct BadRequest(&'static str);

impl Request {
    /// # Errors
    /// An expression that fails on this data.
    pub fn render(http: &HttpSpec, scope: &Scope) -> Result<Request, ExprError> {
        let pairs = |fields: &[(String, Template)]| {
            fields
                .iter()
                .map(|(name, value)| Ok((name.clone(), value.render_text(scope)?)))
                .collect::<Result<Vec<_>, _>>()
        };
        let body = match &http.body {
            None => None,
            Some(HttpBody::Json(body)) => Some(RequestBody::Json(body.render(scope)?)),
            Some(HttpBody::Text(body)) => Some(RequestBody::Text(body.render_text(scope)?)),
            Some(HttpBody::Form(fields)) => Some(RequestBody::Form(pairs(fields)?)),
        };
        Ok(Request {
            method: http.method.clone(),
            url: http.url.render_text(scope)?,
            headers: pairs(&http.headers)?,
            query: pairs(&http.query)?,
            body,
            outputs: http.outputs.clone(),
            public_only: http.is_data_in_url(),
        })
    }

    /// `{"method", "url", "headers", "query", "json" | "text" | "form", "outputs", "public_only"}`.
    pub fn to_json(&self) -> Json {
        let object = |pairs: &[(String, String)]| {
            Json::Object(pairs.iter().map(|(name, value)| (name.clone(), json!(value))).collect())
        };
        let mut map = Map::new();
        map.insert("method".into(), json!(self.method));
        map.insert("url".into(), json!(self.url));
        spec::put(&mut map, "headers", (!self.headers.is_empty()).then(|| object(&self.headers)));
        spec::put(&mut map, "query", (!self.query.is_empty()).then(|| object(&self.query)));
        match &self.body {
            None => {}
            Some(RequestBody::Json(body)) => spec::put(&mut map, "json", Some(body.clone())),
            Some(RequestBody::Text(body)) => spec::put(&mut map, "text", Some(json!(body))),
            Some(RequestBody::Form(fields)) => spec::put(&mut map, "form", Some(object(fields))),
        }
        spec::put(&mut map, "outputs", self.outputs.as_ref().map(Outputs::to_json));
        spec::put(&mut map, "public_only", self.public_only.then_some(json!(true)));
        Json::Object(map)
    }

    /// Reads what [`Request::to_json`] wrote.
    ///
    /// # Errors
    /// What is not of its form: a payload that `advance` did not make.
    pub fn from_json(json: &Json) -> Result<Request, BadRequest> {
        let text = |key: &str, what: &'static str| {
            json.get(key).and_then(Json::as_str).map(str::to_owned).ok_or(BadRequest(what))
        };
        let pairs = |key: &str| match json.get(key) {
            None => Ok(Vec::new()),
            Some(Json::Object(fields)) => {
                let pairs = fields.iter().map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
                pairs.collect::<Option<Vec<_>>>().ok_or(BadRequest("a field is not text"))
            }
            Some(_) => Err(BadRequest("fields are not an object")),
        };
        let body = match (json.get("json"), json.get("text"), json.get("form")) {
            (Some(body), None, None) => Some(RequestBody::Json(body.clone())),
            (None, Some(Json::String(body)), None) => Some(RequestBody::Text(body.clone())),
            (None, None, Some(_)) => Some(RequestBody::Form(pairs("form")?)),
            (None, None, None) => None,
            _ => return Err(BadRequest("it has more than one body")),
        };
        let outputs = match json.get("outputs") {
            None => None,
            Some(json) => Some(Outputs::from_json(json).ok_or(BadRequest("its outputs are unknown"))?),
        };
        Ok(Request {
            method: text("method", "it has no method")?,
            url: text("url", "it has no url")?,
            headers: pairs("headers")?,
            query: pairs("query")?,
            body,
            outputs,
            public_only: json.get("public_only").and_then(Json::as_bool).unwrap_or(false),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_rendered_and_survives_its_payload() {
        let template = |json: Json| Template::parse(&json).expect("a template");
        let http = HttpSpec {
            method: "POST".into(),
            url: template(json!("https://pay.internal/refunds/${{ input.id }}")),
            headers: vec![("Idempotency-Key".into(), template(json!("${{ input.id }}")))],
            query: vec![("n".into(), template(json!("${{ input.n }}")))],
            body: Some(HttpBody::Json(template(json!({"amount": "${{ input.n }}"})))),
            outputs: Some(Outputs::Json),
        };
        let scope = Scope::new(vec![("input", json!({"id": "a/b", "n": 7}))]);
        let request = Request::render(&http, &scope).expect("rendered");
        assert_eq!((request.url.as_str(), request.public_only), ("https://pay.internal/refunds/a/b", true));
        assert_eq!((request.query[0].1.as_str(), &request.body), ("7", &Some(RequestBody::Json(json!({"amount": 7})))));
        assert_eq!(Request::from_json(&request.to_json()), Ok(request.clone()));
        let fixed = HttpSpec { url: template(json!("http://localhost/x")), body: None, ..http };
        let fixed = Request::render(&fixed, &scope).expect("rendered");
        assert!(!fixed.public_only);
        assert_eq!(Request::from_json(&fixed.to_json()), Ok(fixed));
        assert!(Request::from_json(&json!({"url": "x"})).is_err());
    }
}
