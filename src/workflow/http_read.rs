//! Reading an HTTP request of a step or a handler: where it goes, what it carries, how the answer is read.

use super::expr::{Part, Template};
use super::manifest::outputs;
use super::read::Reader;
use super::request::METHODS;
use super::spec::{HttpBody, HttpSpec, Outputs};
use super::yaml::Node;

pub(super) const KEYS: &[&str] = &["method", "url", "headers", "query", "json", "text", "form", "allow_hosts"];
const BODIES: [&str; 3] = ["json", "text", "form"];
/// What the connection itself is steered by.
const OWN: [&str; 5] = ["host", "content-length", "transfer-encoding", "connection", "expect"];

/// `usual` is the method of a request that names none and carries nothing.
pub fn http(reader: &mut Reader<'_>, node: &Node, outputs: Option<Outputs>, usual: &'static str) -> Option<HttpSpec> {
    let keys = reader.fields(node, "`http`", KEYS)?;
    let bodies: Vec<&str> = BODIES.into_iter().filter(|body| keys.get(body).is_some()).collect();
    if let [first, second, ..] = bodies.as_slice() {
        let place = keys.place_of(second);
        reader.wrong_hint(place, format!("a request has one body, not `{first}` and `{second}`"), "leave one out");
    }
    let body = bodies.first().and_then(|word| {
        let node = keys.get(word)?;
        Some(match *word {
            "json" => HttpBody::Json(reader.template(node)),
            "text" => HttpBody::Text(reader.text_template(node, "`text`")),
            _ => HttpBody::Form(pairs(reader, node, "`form`")),
        })
    });
    let method = match keys.get("method") {
        Some(node) => reader.word(node, "`method`", &METHODS.map(|method| (method, method)))?,
        None if body.is_some() => "POST",
        None => usual,
    };
    if let (Some(word), "GET" | "HEAD") = (bodies.first(), method) {
        reader.wrong_hint(keys.place_of(word), format!("a {method} request has no body"), "`query:` adds to the URL");
    }
    let headers = keys.get("headers").map(|node| headers(reader, node)).unwrap_or_default();
    let query = keys.get("query").map(|node| pairs(reader, node, "`query`")).unwrap_or_default();
    let allow_hosts = keys.get("allow_hosts").map(|node| hosts(reader, node)).unwrap_or_default();
    let Some(node) = keys.get("url") else {
        reader.wrong_hint(node.place, "`http` has no `url`", "`http: {url: https://example.com/orders}`");
        return None;
    };
    let url = reader.text_template(node, "`url`");
    let begins = match &url {
        Template::Literal(serde_json::Value::String(text)) => Some(text.as_str()),
        Template::Text(parts) => parts.first().and_then(|part| match part {
            Part::Text(text) => Some(text.as_str()),
            Part::Expr(_) => None,
        }),
        _ => None,
    };
    let known = |text: &str| ["http://", "https://"].iter().any(|scheme| text.to_ascii_lowercase().starts_with(scheme));
    if begins.is_some_and(|text| !known(text)) {
        reader.wrong(node.place, "`url` begins with http:// or https://");
    }
    Some(HttpSpec { method: method.to_owned(), url, headers, query, body, allow_hosts, outputs })
}

/// How the answer is read; it is one value, so names mean nothing.
pub fn outputs_of(reader: &mut Reader<'_>, node: &Node) -> Option<Outputs> {
    let found = outputs(reader, node)?;
    if let Outputs::Names(_) = found {
        let hint = "the answer is one value: name its parts where they are used";
        reader.wrong_hint(node.place, "`outputs` of an HTTP request is `text` or `json`", hint);
        return None;
    }
    Some(found)
}

fn pairs(reader: &mut Reader<'_>, node: &Node, what: &str) -> Vec<(String, Template)> {
    let entries = reader.entries(node, what).unwrap_or_default();
    let pair = |entry: &super::yaml::Entry| {
        let value = reader.text_template(&entry.value, &format!("`{}`", entry.key));
        (entry.key.clone(), value)
    };
    entries.iter().map(pair).collect()
}

fn headers(reader: &mut Reader<'_>, node: &Node) -> Vec<(String, Template)> {
    let entries = reader.entries(node, "`headers`").unwrap_or_default();
    for (nth, entry) in entries.iter().enumerate() {
        let name = entry.key.to_ascii_lowercase();
        // A token of RFC 9110, section 5.6.2.
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_token) {
            reader.wrong(entry.place, format!("`{}` cannot name a header", entry.key));
        } else if OWN.contains(&name.as_str()) {
            reader.wrong(entry.place, format!("the header `{}` is set by goflow", entry.key));
        } else if entries[..nth].iter().any(|other| other.key != entry.key && other.key.eq_ignore_ascii_case(&name)) {
            reader.wrong(entry.place, format!("the header `{}` stands twice", entry.key));
        }
    }
    pairs(reader, node, "`headers`")
}

fn hosts(reader: &mut Reader<'_>, node: &Node) -> Vec<String> {
    let mut hosts = Vec::new();
    for item in reader.list(node, "`allow_hosts`").unwrap_or_default() {
        let Some(host) = reader.text(item, "a host") else { continue };
        let name = host.strip_prefix("*.").unwrap_or(&host);
        let fits = |c: char| c.is_alphanumeric() || "-._:[]".contains(c);
        if name.is_empty() || !name.chars().all(fits) {
            let hint = "write pay.internal, *.internal or 10.0.0.7: no scheme, no path";
            reader.wrong_hint(item.place, format!("`{host}` is not a host"), hint);
        }
        hosts.push(host.to_ascii_lowercase());
    }
    hosts
}
