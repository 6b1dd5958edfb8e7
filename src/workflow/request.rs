//! An HTTP request with all data in its place: the payload of a step's job, ready to be sent. Renders
//! and encodes only, and knows where data may stand in a URL; nothing is sent here.

use serde_json::{Map, Value as Json, json};

use super::command::BadCommand;
use super::expr::{Expr, ExprError, Part, Scope, Template, value};
use super::spec::{self, HttpBody, HttpSpec, Outputs};

/// The methods that a request may have.
pub const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];

/// Whether a request of this method usually carries a body.
pub fn has_body(method: &str) -> bool {
    matches!(method, "POST" | "PUT" | "PATCH")
}

/// A request with all data in its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// One of [`METHODS`].
    pub method: String,
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub body: RequestBody,
    /// Data took part in the URL: only public addresses may be reached, and those of `allow_hosts`.
    pub public_only: bool,
    pub allow_hosts: Vec<String>,
    pub outputs: Option<Outputs>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum RequestBody {
    None,
    /// The job itself, as whoever sends it writes it.
    Job,
    Json(Json),
    Text(String),
    /// Encoded as `application/x-www-form-urlencoded`.
    Form(String),
}

/// Names whose values goflow or an operator chose, not whoever enqueued the job.
const TRUSTED: [&str; 5] = ["job", "run", "step", "secrets", "env"];

fn carries_data(expr: &Expr) -> bool {
    expr.refs().iter().any(|found| !TRUSTED.contains(&found.path[0].as_str()))
}

impl Request {
    /// # Errors
    /// An expression that fails, and data that would lead a URL elsewhere (`..`).
    pub fn render(spec: &HttpSpec, scope: &Scope) -> Result<Request, ExprError> {
        let (mut url, mut public_only) = render_url(&spec.url, scope)?;
        if !spec.query.is_empty() {
            let (path, fragment) = url.split_once('#').unwrap_or((&url, ""));
            let joint = if path.contains('?') { '&' } else { '?' };
            let fragment = if fragment.is_empty() { String::new() } else { format!("#{fragment}") };
            url = format!("{path}{joint}{}{fragment}", pairs(&spec.query, scope)?);
            public_only |= spec.query.iter().any(|(_, value)| has_data(value));
        }
        let headers = spec.headers.iter().map(|(name, value)| Ok((name.clone(), value.render_text(scope)?)));
        let body = match &spec.body {
            None => RequestBody::None,
            Some(HttpBody::Json(template)) => RequestBody::Json(template.render(scope)?),
            Some(HttpBody::Text(template)) => RequestBody::Text(template.render_text(scope)?),
            Some(HttpBody::Form(fields)) => RequestBody::Form(pairs(fields, scope)?),
        };
        Ok(Request {
            method: spec.method.clone(),
            url,
            headers: headers.collect::<Result<_, ExprError>>()?,
            body,
            public_only,
            allow_hosts: spec.allow_hosts.clone(),
            outputs: spec.outputs.clone(),
        })
    }
}

/// `a=1&b=2`, percent-encoded.
fn pairs(fields: &[(String, Template)], scope: &Scope) -> Result<String, ExprError> {
    let pair =
        |(name, value): &(String, Template)| Ok(format!("{}={}", encoded(name), encoded(&value.render_text(scope)?)));
    Ok(fields.iter().map(pair).collect::<Result<Vec<_>, ExprError>>()?.join("&"))
}

fn has_data(template: &Template) -> bool {
    let mut exprs = Vec::new();
    template.exprs(&mut exprs);
    exprs.into_iter().any(carries_data)
}

/// The URL, and whether data took part in it. Data behind the host is percent-encoded, so that it
/// stays within the segment or parameter it was written into.
fn render_url(template: &Template, scope: &Scope) -> Result<(String, bool), ExprError> {
    let Template::Text(parts) = template else {
        return Ok((template.render_text(scope)?, has_data(template)));
    };
    let mut url = String::new();
    let mut carries = false;
    for part in parts {
        match part {
            Part::Text(text) => url.push_str(text),
            Part::Expr(expr) => {
                carries |= carries_data(expr);
                let text = value::text(&expr.eval(scope)?);
                match behind_host(&url) {
                    true => url.push_str(&encoded(&text)),
                    false => url.push_str(&text),
                }
            }
        }
    }
    if carries && climbs(&url) {
        let message = "data in the URL gives a path segment `.` or `..`, which leads elsewhere".to_owned();
        return Err(ExprError { message, hint: None, at: 0 });
    }
    Ok((url, carries))
}

fn behind_host(url: &str) -> bool {
    url.split_once("://").is_some_and(|(_, rest)| rest.contains(['/', '?', '#']))
}

/// Everything but the unreserved characters of RFC 3986 is percent-encoded.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Whether the path has a segment that stands for a folder above or for itself, as URL parsers read it.
fn climbs(url: &str) -> bool {
    let path = url.split(['?', '#']).next().unwrap_or(url);
    path.split(['/', '\\']).any(|segment| {
        let segment = segment.to_ascii_lowercase().replace("%2e", ".");
        segment == "." || segment == ".."
    })
}

impl Request {
    /// The payload of a step's job.
    pub fn to_json(&self) -> Json {
        let mut map = Map::new();
        map.insert("method".into(), json!(self.method));
        map.insert("url".into(), json!(self.url));
        if !self.headers.is_empty() {
            let headers = self.headers.iter().map(|(name, value)| (name.clone(), json!(value)));
            map.insert("headers".into(), Json::Object(headers.collect()));
        }
        match &self.body {
            RequestBody::None | RequestBody::Job => {}
            RequestBody::Json(json) => {
                map.insert("json".into(), json.clone());
            }
            RequestBody::Text(text) => {
                map.insert("text".into(), json!(text));
            }
            RequestBody::Form(form) => {
                map.insert("form".into(), json!(form));
            }
        }
        if self.public_only {
            map.insert("public_only".into(), json!(true));
        }
        if !self.allow_hosts.is_empty() {
            map.insert("allow_hosts".into(), json!(self.allow_hosts));
        }
        spec::put(&mut map, "outputs", self.outputs.as_ref().map(Outputs::to_json));
        Json::Object(map)
    }

    /// Reads what [`Request::to_json`] wrote.
    ///
    /// # Errors
    /// What is not of its form: a payload that `advance` did not make.
    pub fn from_json(json: &Json) -> Result<Request, BadCommand> {
        let text = |key: &str| json.get(key).and_then(Json::as_str);
        let method =
            text("method").filter(|word| METHODS.contains(word)).ok_or(BadCommand("it has no method"))?.to_owned();
        let url = text("url").ok_or(BadCommand("it has no url"))?.to_owned();
        let headers = match json.get("headers") {
            None => Vec::new(),
            Some(Json::Object(headers)) => {
                let pairs = headers.iter().map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
                pairs.collect::<Option<_>>().ok_or(BadCommand("a header is not text"))?
            }
            Some(_) => return Err(BadCommand("its headers are not an object")),
        };
        let body = match (json.get("json"), json.get("text"), json.get("form")) {
            (None, None, None) => RequestBody::None,
            (Some(json), None, None) => RequestBody::Json(json.clone()),
            (None, Some(Json::String(text)), None) => RequestBody::Text(text.clone()),
            (None, None, Some(Json::String(form))) => RequestBody::Form(form.clone()),
            _ => return Err(BadCommand("its body is neither JSON nor text")),
        };
        let hosts = json.get("allow_hosts").and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
        let hosts = hosts.iter().map(|host| host.as_str().map(str::to_owned)).collect::<Option<_>>();
        let outputs = match json.get("outputs") {
            None => None,
            Some(json) => Some(Outputs::from_json(json).ok_or(BadCommand("its outputs are unknown"))?),
        };
        Ok(Request {
            method,
            url,
            headers,
            body,
            public_only: json.get("public_only") == Some(&Json::Bool(true)),
            allow_hosts: hosts.ok_or(BadCommand("an allowed host is not text"))?,
            outputs,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str, payload: Json) -> Result<(String, bool), ExprError> {
        let template = Template::parse(&json!(text)).expect("a template");
        render_url(&template, &Scope::new(vec![("payload", payload), ("job", json!({"id": "7"}))]))
    }

    #[test]
    fn data_stays_within_its_part_of_the_url() {
        let hostile = "a/../b?x=1&y#z %\u{202e}\r\n";
        let (found, carries) = url("https://h/p/${{ payload }}/q?v=${{ payload }}", json!(hostile)).expect("rendered");
        let part = "a%2F..%2Fb%3Fx%3D1%26y%23z%20%25%E2%80%AE%0D%0A";
        assert_eq!((found, carries), (format!("https://h/p/{part}/q?v={part}"), true));
        for dots in [".", ".."] {
            assert!(url("https://h/p/${{ payload }}/q", json!(dots)).is_err(), "{dots}");
            assert!(url("https://h/p?v=${{ payload }}", json!(dots)).is_ok(), "{dots}");
        }
        assert!(url("https://h/.${{ payload }}/q", json!(".")).is_err());
    }

    #[test]
    fn what_goflow_itself_says_is_no_data() {
        assert!(!url("https://h/a/../${{ job.id }}", json!(1)).expect("rendered").1);
        assert_eq!(url("https://h/", json!(1)).expect("rendered"), ("https://h/".to_owned(), false));
        let whole = url("${{ payload.url }}", json!({"url": "http://10.0.0.1/x?y"})).expect("rendered");
        assert_eq!(whole, ("http://10.0.0.1/x?y".to_owned(), true));
        assert_eq!(url("https://${{ payload }}/", json!("a.b")).expect("rendered"), ("https://a.b/".into(), true));
    }

    #[test]
    fn query_and_form_are_encoded() {
        let fields = |value: &str| vec![("a b".to_owned(), Template::parse(&json!(value)).expect("a template"))];
        let mut spec = HttpSpec {
            method: "POST".into(),
            url: Template::Literal(json!("https://h/?x=1#top")),
            headers: Vec::new(),
            query: fields("1&2"),
            body: Some(HttpBody::Form(fields("${{ payload }}"))),
            allow_hosts: Vec::new(),
            outputs: None,
        };
        let scope = Scope::new(vec![("payload", json!("é&="))]);
        let http = Request::render(&spec, &scope).expect("rendered");
        assert_eq!((http.url.as_str(), http.public_only), ("https://h/?x=1&a%20b=1%262#top", false));
        assert_eq!(http.body, RequestBody::Form("a%20b=%C3%A9%26%3D".into()));
        spec.query = fields("${{ payload }}");
        assert!(Request::render(&spec, &scope).expect("rendered").public_only);
    }

    #[test]
    fn a_request_survives_its_payload() {
        for body in [
            RequestBody::None,
            RequestBody::Json(json!({"a": [1.5, null]})),
            RequestBody::Text("\u{1b}x\ny".into()),
            RequestBody::Form("a=1&b=%26".into()),
        ] {
            let http = Request {
                method: "PUT".into(),
                url: "https://h/".into(),
                headers: vec![("X-B".into(), "1".into()), ("X-A".into(), "é".into())],
                body,
                public_only: true,
                allow_hosts: vec!["*.internal".into()],
                outputs: Some(Outputs::Json),
            };
            assert_eq!(Request::from_json(&http.to_json()), Ok(http));
        }
        assert!(Request::from_json(&json!({"method": "CONNECT", "url": "x"})).is_err());
    }
}
