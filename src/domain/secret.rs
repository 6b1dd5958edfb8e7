//! What must not be shown: which names hold secrets, how known secrets are taken out of a text, and
//! what of a URL and of a manifest may be shown. Knows no place where anything is shown.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::Json;

/// What stands in the place of a secret.
pub const HIDDEN: &str = "***";
/// A shorter secret hides nothing, and to black it out would only tell where it stands.
const SHORTEST: usize = 4;
/// Parts of names whose values are secrets, in lower case and with `_` between words.
const TELLING: [&str; 13] = [
    "token",
    "secret",
    "password",
    "passwd",
    "passphrase",
    "apikey",
    "api_key",
    "auth_key",
    "access_key",
    "private_key",
    "credential",
    "authorization",
    "cookie",
];
/// Ends of names that say where a secret is and not what.
const ABOUT: [&str; 5] = ["_file", "_path", "_name", "_id", "_url"];

/// What may stand before a secret in a header.
const SCHEMES: [&str; 3] = ["Bearer", "Basic", "Token"];

/// Whether what a variable, header or parameter of this name holds is a secret.
pub fn is_secret_name(name: &str) -> bool {
    let name: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect();
    TELLING.iter().any(|part| name.contains(part)) && !ABOUT.iter().any(|end| name.ends_with(end))
}

/// Texts that must not be shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Secrets {
    /// The longest first: one may be a part of another.
    texts: Vec<String>,
}

impl Secrets {
    pub fn new(texts: impl IntoIterator<Item = String>) -> Secrets {
        let mut found = Vec::new();
        for text in texts {
            // A key of many lines is printed line by line, and `Bearer abc` without the first word.
            found.extend(text.lines().filter(|line| *line != text).map(str::to_owned));
            let scheme = text.split_once(' ').filter(|(word, _)| SCHEMES.contains(word));
            found.extend(scheme.map(|(_, rest)| rest.to_owned()));
            found.push(text);
        }
        found.retain(|text| text.trim().len() >= SHORTEST);
        found.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        found.dedup();
        Secrets { texts: found }
    }

    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// These and others.
    pub fn and(&self, others: impl IntoIterator<Item = String>) -> Secrets {
        Secrets::new(self.texts.iter().cloned().chain(others))
    }

    /// The text with [`HIDDEN`] in the place of each secret.
    pub fn hide<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(text);
        for secret in &self.texts {
            if text.contains(secret.as_str()) {
                text = Cow::Owned(text.replace(secret.as_str(), HIDDEN));
            }
        }
        text
    }

    /// The same for every text in a value, names of fields among them.
    pub fn hide_json(&self, json: Json) -> Json {
        if self.is_empty() {
            return json;
        }
        let value = json.to_value();
        let hidden = self.hide_value(&value);
        if hidden == value { json } else { Json::from_value(&hidden) }
    }

    fn hide_value(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => self.hide(text).into_owned().into(),
            Value::Array(items) => items.iter().map(|item| self.hide_value(item)).collect(),
            Value::Object(fields) => {
                let fields = fields.iter().map(|(name, value)| (self.hide(name).into_owned(), self.hide_value(value)));
                Value::Object(fields.collect())
            }
            other => other.clone(),
        }
    }
}

/// Where a URL leads: scheme, host and port. Whatever else stands in it may be a secret.
pub fn origin(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        // An expression, of which nothing is known yet.
        return if url.starts_with("${{") { url.to_owned() } else { HIDDEN.to_owned() };
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}")
}

/// As [`origin`], and a sign for each part that is not shown.
pub fn url(url: &str) -> String {
    let origin = origin(url);
    let Some((scheme, host)) = origin.split_once("://") else { return origin };
    let user = format!("@{host}");
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let who = if authority.ends_with(&user) { "***@" } else { "" };
    let more = match rest[authority.len()..].trim_start_matches('/') {
        "" => &rest[authority.len()..],
        _ => "/***",
    };
    format!("{scheme}://{who}{host}{more}")
}

/// A manifest's fields without the secrets that stand in them: of `env`, `headers` and `query` the
/// values whose names say that they are some, of a URL the name and password, and such parameters.
/// An expression is none.
pub fn manifest(fields: &Value) -> Value {
    match fields {
        Value::Object(map) => {
            let shown = map.iter().map(|(key, value)| {
                let shown = match (key.as_str(), value) {
                    ("env" | "headers" | "query", Value::Object(inner)) => named(inner),
                    ("url", Value::String(url)) => without_credentials(url).into(),
                    _ => manifest(value),
                };
                (key.clone(), shown)
            });
            Value::Object(shown.collect())
        }
        Value::Array(items) => items.iter().map(manifest).collect(),
        other => other.clone(),
    }
}

fn named(fields: &Map<String, Value>) -> Value {
    let shown = fields.iter().map(|(name, value)| {
        let is_secret = is_secret_name(name) && !value.as_str().is_some_and(|text| text.contains("${{"));
        (name.clone(), if is_secret { HIDDEN.into() } else { value.clone() })
    });
    Value::Object(shown.collect())
}

fn without_credentials(url: &str) -> String {
    let (before, query) = match url.split_once('?') {
        Some((before, query)) => (before, Some(query)),
        None => (url, None),
    };
    let mut shown = match before.split_once("://") {
        Some((scheme, rest)) => {
            let authority = rest.split('/').next().unwrap_or_default();
            match authority.rsplit_once('@') {
                Some((_, host)) => format!("{scheme}://{HIDDEN}@{host}{}", &rest[authority.len()..]),
                None => before.to_owned(),
            }
        }
        None => before.to_owned(),
    };
    if let Some(query) = query {
        let pairs = query.split('&').map(|pair| match pair.split_once('=') {
            Some((name, value)) if is_secret_name(name) && !value.contains("${{") => format!("{name}={HIDDEN}"),
            _ => pair.to_owned(),
        });
        shown = format!("{shown}?{}", pairs.collect::<Vec<_>>().join("&"));
    }
    shown
}

/// The secrets that stand in a manifest's fields: what [`manifest`] does not show.
pub fn of_manifest(fields: &Value) -> Vec<String> {
    let mut found = Vec::new();
    collect(fields, &mut found);
    found
}

fn collect(fields: &Value, found: &mut Vec<String>) {
    match fields {
        Value::Object(map) => {
            for (key, value) in map {
                match (key.as_str(), value) {
                    ("env" | "headers" | "query", Value::Object(inner)) => {
                        let secret = inner.iter().filter(|(name, _)| is_secret_name(name));
                        let texts = secret.filter_map(|(_, value)| value.as_str());
                        found.extend(texts.filter(|text| !text.contains("${{")).map(str::to_owned));
                    }
                    ("url", Value::String(url)) => found.extend(credentials(url)),
                    _ => collect(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        _ => {}
    }
}

/// The password of a URL, and the parameters of it that are secrets.
fn credentials(url: &str) -> Vec<String> {
    let (before, query) = url.split_once('?').unwrap_or((url, ""));
    let authority = before.split_once("://").map_or("", |(_, rest)| rest).split('/').next().unwrap_or_default();
    let password = authority.rsplit_once('@').and_then(|(user, _)| user.split_once(':')).map(|(_, word)| word);
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let values = pairs.filter(|(name, _)| is_secret_name(name)).map(|(_, value)| value);
    password.into_iter().chain(values).filter(|text| !text.contains("${{")).map(str::to_owned).collect()
}

/// Whether a manifest holds the sign of a secret where one should stand: it was printed without its
/// secrets. Gives the path of the first.
pub fn is_missing_in(fields: &Value) -> Option<String> {
    match fields {
        Value::Object(map) => map.iter().find_map(|(key, value)| {
            let of = |inner: Option<String>| inner.map(|path| format!("{key}.{path}"));
            match (key.as_str(), value) {
                ("env" | "headers" | "query", Value::Object(inner)) => {
                    let hidden = inner.iter().find(|(_, value)| value.as_str() == Some(HIDDEN));
                    of(hidden.map(|(name, _)| name.clone()))
                }
                ("url", Value::String(url)) => {
                    let stands = [format!("://{HIDDEN}@"), format!("={HIDDEN}")];
                    stands.iter().any(|part| url.contains(part.as_str())).then(|| key.clone())
                }
                _ => of(is_missing_in(value)),
            }
        }),
        Value::Array(items) => items.iter().enumerate().find_map(|(nth, item)| {
            let path = is_missing_in(item)?;
            Some(match item.get("id").and_then(Value::as_str) {
                Some(id) => format!("{id}.{path}"),
                None => format!("{nth}.{path}"),
            })
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_tell_what_is_a_secret() {
        for name in ["TOKEN", "Authorization", "X-Api-Key", "db_password", "clientSecret", "Set-Cookie"] {
            assert!(is_secret_name(name), "{name}");
        }
        for name in ["HOST", "TOKEN_FILE", "AUTHOR", "Content-Type", "KEYBOARD", "user"] {
            assert!(!is_secret_name(name), "{name}");
        }
    }

    #[test]
    fn a_secret_is_blacked_out_wherever_it_stands() {
        let secrets = Secrets::new(["hunter2hunter2".to_owned(), "hunter2".to_owned(), "Bearer abcd1".to_owned()]);
        assert_eq!(secrets.hide("a hunter2hunter2, hunter2 b"), "a ***, *** b");
        assert_eq!(secrets.hide("abcd1"), "***");
        assert!(matches!(secrets.hide("nothing here"), Cow::Borrowed(_)));
        let json = Json::from_value(&json!({"a": ["x hunter2"], "hunter2": 7}));
        assert_eq!(secrets.hide_json(json).to_value(), json!({"a": ["x ***"], "***": 7}));
        let key = Secrets::new(["-----BEGIN\nMIIEpAIB\n-----END".to_owned()]);
        assert_eq!(key.hide("line: MIIEpAIB"), "line: ***");
        assert!(Secrets::new(["abc".to_owned()]).is_empty());
    }

    #[test]
    fn of_a_url_it_is_shown_where_it_leads() {
        for (whole, leads, shown) in [
            ("https://me:pw@h.example:8443/hook?t=1", "https://h.example:8443", "https://***@h.example:8443/***"),
            ("https://h.example", "https://h.example", "https://h.example"),
            ("https://h.example/", "https://h.example", "https://h.example/"),
            ("https://h.example?key=1", "https://h.example", "https://h.example/***"),
            ("not a url", "***", "***"),
            ("${{ payload.url }}", "${{ payload.url }}", "${{ payload.url }}"),
        ] {
            assert_eq!((origin(whole).as_str(), url(whole).as_str()), (leads, shown));
        }
    }

    #[test]
    fn a_manifest_is_shown_without_its_secrets() {
        let fields = json!({
            "http": {"url": "https://me:pw12@h/x?api_key=abcd&n=1", "headers": {"Authorization": "Bearer abcd", "A": "b"}},
            "steps": [{"id": "s", "env": {"TOKEN": "t0p53cret", "ORDER": "o", "MY_TOKEN": "${{ input.t }}"}}],
        });
        let shown = manifest(&fields);
        assert_eq!(
            shown,
            json!({
                "http": {"url": "https://***@h/x?api_key=***&n=1", "headers": {"Authorization": "***", "A": "b"}},
                "steps": [{"id": "s", "env": {"TOKEN": "***", "ORDER": "o", "MY_TOKEN": "${{ input.t }}"}}],
            })
        );
        let mut found = of_manifest(&fields);
        found.sort();
        assert_eq!(found, ["Bearer abcd", "abcd", "pw12", "t0p53cret"]);
        assert_eq!(is_missing_in(&fields), None);
        assert!(is_missing_in(&shown).is_some());
        assert_eq!(is_missing_in(&json!({"steps": [shown["steps"][0]]})).as_deref(), Some("steps.s.env.TOKEN"));
    }
}
