//! The connection to a server: requests, their time limits, and the one place that turns what HTTP says
//! into a [`StoreError`].

use std::error::Error as _;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Client, Response, StatusCode, Url, redirect};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Token;
use crate::domain::text::clip;
use crate::domain::time::format_duration;
use crate::store::contract::{Result, StoreError};
use crate::store::wire::{self, Call, HINTS, HintWish, PROTOCOL, PROTOCOL_HEADER, VERSION, VERSION_HEADER};

const CONNECT: Duration = Duration::from_secs(3);
/// How long a call may take: the server's own store has a few seconds.
const ANSWER: Duration = Duration::from_secs(10);
/// For calls that look at everything that is kept.
const LONG: Duration = Duration::from_secs(600);
/// Connections that nobody uses are closed before the server does it, so that no request meets its end.
const IDLE: Duration = Duration::from_secs(15);
/// Shown of an answer that is no message.
const QUOTED: usize = 300;

/// Where a server is: `http://` or `https://`, a host, perhaps a port and a path before its own.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerUrl(Url);

impl FromStr for ServerUrl {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<ServerUrl, String> {
        let url = Url::parse(text).map_err(|error| error.to_string())?;
        match url.scheme() {
            "http" | "https" => {}
            other => return Err(format!("it begins with http:// or https://, not {other}:")),
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err("the host is missing, as in http://localhost:8080".to_owned());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("a token does not belong in it: name a file with --token-file, or set GOFLOW_TOKEN".to_owned());
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("it ends after the path".to_owned());
        }
        Ok(ServerUrl(url))
    }
}

impl ServerUrl {
    /// The address of a path below it.
    fn at(&self, path: &str) -> Url {
        let mut url = self.0.clone();
        let base = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{base}{path}"));
        url
    }

    /// Host and port, if it is without TLS.
    pub fn plain(&self) -> Option<(&str, u16)> {
        let port = self.0.port_or_known_default()?;
        self.0.host_str().filter(|_| self.0.scheme() == "http").map(|host| (host, port))
    }

    /// Host and port, as a request names them.
    pub fn host(&self) -> String {
        let host = self.0.host_str().unwrap_or_default();
        self.0.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    /// The path that its own paths stand below; empty where there is none.
    pub fn base(&self) -> &str {
        self.0.path().trim_end_matches('/')
    }

    fn is_loopback(&self) -> bool {
        let host = self.0.host_str().unwrap_or_default().trim_matches(['[', ']']);
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

pub(super) struct Link {
    client: Client,
    url: ServerUrl,
    shown: String,
    has_token: bool,
}

impl Link {
    pub fn new(url: &ServerUrl, token: Option<&Token>) -> Result<Link> {
        crate::sys::tls::install();
        let shown = url.to_string();
        let refused = |why: String| StoreError::Refused(format!("{shown} cannot be asked: {why}"));
        let mut headers = HeaderMap::new();
        headers.insert(PROTOCOL_HEADER, HeaderValue::from(PROTOCOL));
        headers.insert(VERSION_HEADER, HeaderValue::from_static(VERSION));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(wire::CONTENT_TYPE));
        if let Some(token) = token {
            let bearer = HeaderValue::from_str(&format!("Bearer {}", token.secret()));
            let mut bearer = bearer.map_err(|error| refused(error.to_string()))?;
            bearer.set_sensitive(true);
            headers.insert(AUTHORIZATION, bearer);
        }
        let mut builder = Client::builder()
            .default_headers(headers)
            // Whoever redirects would be given the token.
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT)
            .pool_idle_timeout(IDLE)
            .tcp_nodelay(true);
        if url.is_loopback() {
            builder = builder.no_proxy();
        }
        if url.0.scheme() == "http" {
            // Works on a machine without certificates, too.
            builder = builder.tls_certs_only([]);
        }
        let client = builder.build().map_err(|error| refused(reason(&error)))?;
        Ok(Link { client, url: url.clone(), shown, has_token: token.is_some() })
    }

    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// Whether a server is there that speaks the protocol and takes the token.
    pub async fn greet(&self) -> Result<()> {
        let request = self.client.get(self.url.at(wire::PATH)).timeout(ANSWER);
        let answer = request.send().await.map_err(|error| self.unanswered(&error, ANSWER))?;
        match answer.status() {
            // A token that may not look may do something else.
            StatusCode::FORBIDDEN => Ok(()),
            _ => self.judged(answer).await.map(drop),
        }
    }

    pub async fn call<T: DeserializeOwned>(&self, call: Call, arguments: &(impl Serialize + Sync)) -> Result<T> {
        let limit = match call {
            Call::Verify | Call::Find | Call::FindRuns | Call::Health | Call::Trim => LONG,
            _ => ANSWER,
        };
        self.ask(call.as_str(), arguments, limit).await
    }

    pub async fn hint(&self, wish: &HintWish) -> Result<u64> {
        self.ask(HINTS, wish, Duration::from_millis(wish.wait_ms) + ANSWER).await
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        name: &str,
        message: &(impl Serialize + Sync),
        limit: Duration,
    ) -> Result<T> {
        let body = wire::encode(message)?;
        if body.len() > wire::MESSAGE_BYTES {
            let (is, most) = (body.len(), wire::MESSAGE_BYTES);
            return Err(StoreError::Refused(format!("`{name}` with {is} bytes is more than the {most} of a message")));
        }
        let url = self.url.at(&format!("{}/{name}", wire::PATH));
        let sent = self.client.post(url).timeout(limit).body(body).send().await;
        let answer = sent.map_err(|error| self.unanswered(&error, limit))?;
        let answer = self.judged(answer).await?;
        wire::decode(&answer).map_err(|why| {
            StoreError::Corrupt(format!("what {} answers to `{name}` cannot be read: {why}", self.shown))
        })
    }

    /// The body of an answer that is one.
    async fn judged(&self, answer: Response) -> Result<Vec<u8>> {
        let (status, headers) = (answer.status(), answer.headers().clone());
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let is_message = text(CONTENT_TYPE.as_str()) == Some(wire::CONTENT_TYPE);
        let foreign = wire::same_protocol(text(PROTOCOL_HEADER), text(VERSION_HEADER)).err();
        if let Some(foreign) = foreign.filter(|_| headers.contains_key(PROTOCOL_HEADER)) {
            let (shown, version) = (&self.shown, &foreign.version);
            return Err(StoreError::Refused(format!(
                "{shown} cannot be talked to: {foreign}; use goflow {version} here"
            )));
        }
        let body = self.body(answer).await?;
        match (status, is_message) {
            (StatusCode::OK, true) => Ok(body),
            (_, true) => Err(wire::decode::<StoreError>(&body).unwrap_or_else(|why| {
                StoreError::Corrupt(format!("what {} answers cannot be read: {why}", self.shown))
            })),
            (status, false) => Err(self.no_message(status, &body)),
        }
    }

    /// All of a body, if it is not too large.
    async fn body(&self, mut answer: Response) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            match answer.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() <= wire::MESSAGE_BYTES => body.extend_from_slice(&chunk),
                Ok(Some(_)) => {
                    let most = wire::MESSAGE_BYTES;
                    return Err(StoreError::Refused(format!("{} answers with more than {most} bytes", self.shown)));
                }
                Ok(None) => return Ok(body),
                Err(error) => return Err(self.unanswered(&error, ANSWER)),
            }
        }
    }

    /// What an answer means that is none of the contract's: of the server before its store was asked, or of
    /// something on the way.
    fn no_message(&self, status: StatusCode, body: &[u8]) -> StoreError {
        let shown = &self.shown;
        let said = said(body);
        match status.as_u16() {
            401 if self.has_token => StoreError::Refused(format!("{shown} does not take the token: {said}")),
            401 => StoreError::Refused(format!(
                "{shown} wants a token: name a file with --token-file, or set GOFLOW_TOKEN"
            )),
            403 => StoreError::Refused(format!("{shown} does not allow it: {said}")),
            404 | 405 => StoreError::Refused(format!("{shown} is no goflow server, or an older one: {said}")),
            408 | 429 | 503 => StoreError::Unavailable(format!("{shown} does not take the call now: {said}")),
            300..=399 => StoreError::Refused(format!("{shown} redirects: name the server itself")),
            400..=499 => StoreError::Refused(format!("{shown} refuses the call: {said}")),
            200..=299 => StoreError::Refused(format!("{shown} is no goflow server: it answers something else")),
            // Of a proxy or a server that broke down: it may have happened.
            _ => StoreError::Unknown(format!("{shown} failed ({status}): {said}")),
        }
    }

    fn unanswered(&self, error: &reqwest::Error, limit: Duration) -> StoreError {
        let (shown, why) = (&self.shown, reason(error));
        if error.is_connect() {
            // Nothing was asked, so nothing can have happened.
            return StoreError::Unavailable(format!("cannot connect to {shown}: {why}"));
        }
        if error.is_builder() {
            return StoreError::Refused(format!("{shown} cannot be asked: {why}"));
        }
        match error.is_timeout() {
            true => StoreError::Unknown(format!("{shown} did not answer within {}", format_duration(limit))),
            false => StoreError::Unknown(format!("{shown} did not answer: {why}")),
        }
    }
}

/// The reason at the bottom of an error.
fn reason(error: &reqwest::Error) -> String {
    let mut source = error.source();
    let mut last = None;
    while let Some(error) = source {
        last = Some(error.to_string());
        source = error.source();
    }
    let text = last.unwrap_or_else(|| error.to_string());
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

/// The sentence of a problem document (RFC 9457), or the beginning of whatever it is.
fn said(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Problem {
        detail: String,
    }
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => problem.detail,
        Err(_) => clip(String::from_utf8_lossy(body).trim(), QUOTED).into_owned(),
    }
}
