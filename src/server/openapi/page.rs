//! The description as a page to read: plain HTML that loads nothing.

use std::fmt::Write as _;

use utoipa::openapi::path::Operation;
use utoipa::openapi::{OpenApi, RefOr, Schema};

/// Method, path, and what is said of them.
type Listed<'a> = (&'static str, &'a String, &'a Operation);

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;\
color:#1a1a1a;background:#fff}summary{cursor:pointer;padding:.2rem 0}code,pre{font-family:ui-monospace,monospace}\
pre{background:#f4f4f4;padding:.7rem;overflow:auto}.m{display:inline-block;width:4.5rem;font-weight:600}\
h2{margin-top:2rem;border-bottom:1px solid #ddd}dt{font-weight:600}\
@media(prefers-color-scheme:dark){body{color:#ddd;background:#161616}pre{background:#222}h2{border-color:#333}}";

pub fn render(api: &OpenApi) -> String {
    let mut html = String::new();
    let title = safe(&format!("{} {}", api.info.title, api.info.version));
    let _ = write!(
        html,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>{title}</title><style>{STYLE}</style></head><body><h1>{title}</h1>\
         <p>The API as OpenAPI 3.1: <a href=\"/openapi.json\">/openapi.json</a>.</p>"
    );
    let mut tags: Vec<(String, Vec<Listed<'_>>)> = Vec::new();
    for (path, item) in &api.paths.paths {
        let methods = [
            ("GET", &item.get),
            ("POST", &item.post),
            ("PUT", &item.put),
            ("PATCH", &item.patch),
            ("DELETE", &item.delete),
        ];
        for (method, operation) in methods.into_iter().filter_map(|(method, one)| Some((method, one.as_ref()?))) {
            let tag = operation.tags.as_ref().and_then(|tags| tags.first()).cloned().unwrap_or_default();
            match tags.iter_mut().find(|(known, _)| *known == tag) {
                Some((_, all)) => all.push((method, path, operation)),
                None => tags.push((tag, vec![(method, path, operation)])),
            }
        }
    }
    for (tag, operations) in tags {
        let _ = write!(html, "<h2>{}</h2>", safe(&tag));
        for (method, path, operation) in operations {
            one(&mut html, method, path, operation);
        }
    }
    shapes(&mut html, api);
    html.push_str("</body></html>\n");
    html
}

fn one(html: &mut String, method: &str, path: &str, operation: &Operation) {
    let summary = safe(operation.summary.as_deref().unwrap_or_default());
    let _ = write!(
        html,
        "<details><summary><span class=\"m\">{method}</span><code>{}</code> {summary}</summary>",
        safe(path)
    );
    if let Some(description) = &operation.description {
        let _ = write!(html, "<p>{}</p>", safe(description));
    }
    html.push_str("<dl>");
    for parameter in operation.parameters.iter().flatten() {
        let description = safe(parameter.description.as_deref().unwrap_or_default());
        let _ = write!(html, "<dt><code>{}</code></dt><dd>{description}</dd>", safe(&parameter.name));
    }
    if let Some(body) = &operation.request_body {
        for (kind, content) in &body.content {
            let _ = write!(html, "<dt>Body, {}</dt><dd>{}</dd>", safe(kind), named(content.schema.as_ref()));
        }
    }
    for (status, answer) in &operation.responses.responses {
        let RefOr::T(answer) = answer else { continue };
        let kinds: Vec<String> = answer.content.values().map(|content| named(content.schema.as_ref())).collect();
        let _ = write!(html, "<dt>{}</dt><dd>{} {}</dd>", safe(status), safe(&answer.description), kinds.join(" "));
    }
    html.push_str("</dl></details>");
}

/// A link to a shape that has a name.
fn named(shape: Option<&RefOr<Schema>>) -> String {
    match shape {
        Some(RefOr::Ref(found)) => {
            let name = safe(found.ref_location.rsplit('/').next().unwrap_or_default());
            format!("<a href=\"#{name}\">{name}</a>")
        }
        Some(RefOr::T(shape)) => {
            let text = serde_json::to_string(shape).unwrap_or_default();
            format!("<code>{}</code>", safe(&text))
        }
        None => String::new(),
    }
}

fn shapes(html: &mut String, api: &OpenApi) {
    html.push_str("<h2>Shapes</h2>");
    for (name, shape) in api.components.iter().flat_map(|components| &components.schemas) {
        let text = serde_json::to_string_pretty(shape).unwrap_or_default();
        let name = safe(name);
        let _ = write!(
            html,
            "<details id=\"{name}\"><summary><code>{name}</code></summary><pre>{}</pre></details>",
            safe(&text)
        );
    }
}

fn safe(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
