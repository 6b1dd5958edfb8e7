//! An HTTP request as a manifest describes it, for steps and handlers alike.

use serde_json::{Map, Value as Json, json};

use super::Outputs;
use super::canonical::{put, templates};
use crate::workflow::expr::Template;

/// `http: {method, url, headers, query, json | text | form, allow_hosts}`, with `outputs` beside it.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpSpec {
    /// In capitals; `GET` where nothing is said, `POST` where there is a body.
    pub method: String,
    pub url: Template,
    pub headers: Vec<(String, Template)>,
    /// Added to the URL, percent-encoded.
    pub query: Vec<(String, Template)>,
    /// A handler's request without one sends the job itself, where its method has a body.
    pub body: Option<HttpBody>,
    /// Hosts that may be reached although data took part in the URL and their addresses are not public:
    /// `pay.internal`, `*.internal`, `10.0.0.7`.
    pub allow_hosts: Vec<String>,
    /// Of the answer's body; where nothing is said JSON if the answer says that it is, else text.
    pub outputs: Option<Outputs>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum HttpBody {
    Json(Template),
    Text(Template),
    /// `application/x-www-form-urlencoded`.
    Form(Vec<(String, Template)>),
}

impl HttpSpec {
    pub fn templates(&self) -> Vec<&Template> {
        let pairs = self.headers.iter().chain(&self.query).map(|(_, value)| value);
        let mut found: Vec<&Template> = [&self.url].into_iter().chain(pairs).collect();
        match &self.body {
            Some(HttpBody::Json(body) | HttpBody::Text(body)) => found.push(body),
            Some(HttpBody::Form(fields)) => found.extend(fields.iter().map(|(_, value)| value)),
            None => {}
        }
        found
    }

    pub(in crate::workflow) fn canonical(&self, into: &mut Map<String, Json>) {
        let mut map = Map::new();
        map.insert("method".into(), json!(self.method));
        map.insert("url".into(), self.url.source());
        if !self.headers.is_empty() {
            map.insert("headers".into(), templates(&self.headers));
        }
        if !self.query.is_empty() {
            map.insert("query".into(), templates(&self.query));
        }
        match &self.body {
            Some(HttpBody::Json(body)) => put(&mut map, "json", Some(body.source())),
            Some(HttpBody::Text(body)) => put(&mut map, "text", Some(body.source())),
            Some(HttpBody::Form(fields)) => put(&mut map, "form", Some(templates(fields))),
            None => {}
        }
        if !self.allow_hosts.is_empty() {
            map.insert("allow_hosts".into(), json!(self.allow_hosts));
        }
        into.insert("http".into(), Json::Object(map));
        put(into, "outputs", self.outputs.as_ref().map(Outputs::to_json));
    }
}
