//! Which names the server answers to, and which web pages may ask it. Without this a page that anybody
//! opens on this machine could reach a loopback server under a name of its own (DNS rebinding).

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, ORIGIN};
use http::{HeaderMap, HeaderValue, Method, Uri};
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::app::{App, Options};
use super::listen::ServerError;
use super::problem::Problem;
use crate::api::codes::Code;

/// What may be asked of a server, by name.
#[derive(Clone, Debug)]
pub struct Hosts {
    /// Lower case, without ports. `None`: any, because a token guards every request.
    hosts: Option<Vec<String>>,
    origins: Vec<HeaderValue>,
    any_origin: bool,
}

impl Hosts {
    /// # Errors
    /// An origin that is none.
    pub(super) fn new(bound: IpAddr, options: &Options) -> Result<Hosts, ServerError> {
        let mut hosts: Vec<String> = options.allowed_hosts.iter().map(|host| host_of(host).to_lowercase()).collect();
        let is_any = hosts.iter().any(|host| host == "*") || (hosts.is_empty() && !bound.is_loopback());
        hosts.extend(["localhost", "127.0.0.1", "[::1]"].map(str::to_owned));
        hosts.push(if bound.is_ipv6() { format!("[{bound}]") } else { bound.to_string() });
        let any_origin = options.allowed_origins.iter().any(|origin| origin == "*");
        let origins = options.allowed_origins.iter().filter(|origin| *origin != "*");
        let origins = origins.map(|text| origin(text)).collect::<Result<_, _>>()?;
        Ok(Hosts { hosts: (!is_any).then_some(hosts), origins, any_origin })
    }

    fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
        let foreign = |detail: String| Problem::new(Code::ForeignHost, detail);
        // RFC 9112, 3.2.2: an absolute target replaces the header.
        let host = match uri.authority() {
            Some(authority) => authority.as_str(),
            None => headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default(),
        };
        let name = host_of(host).to_lowercase();
        if let Some(hosts) = &self.hosts
            && !hosts.contains(&name)
        {
            return Err(foreign(format!("this server does not answer to the host `{name}`: see server.allowed_hosts")));
        }
        let Some(origin) = headers.get(ORIGIN) else { return Ok(()) };
        let is_own = origin.to_str().ok().and_then(|text| text.split_once("://")).is_some_and(|(_, its)| its == host);
        if is_own || self.any_origin || self.origins.contains(origin) {
            return Ok(());
        }
        let shown = String::from_utf8_lossy(origin.as_bytes()).into_owned();
        Err(foreign(format!("pages of `{shown}` may not ask this server: see server.cors.allowed_origins")))
    }
}

/// A host without its port.
fn host_of(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !is_bare_v6(host) => name,
        _ => host,
    }
}

fn is_bare_v6(host: &str) -> bool {
    !host.starts_with('[') && host.matches(':').count() > 1
}

/// `https://app.example.com:8443`, as a browser sends it (RFC 6454, 6.1).
fn origin(text: &str) -> Result<HeaderValue, ServerError> {
    let wrong = || ServerError::Origin(text.to_owned());
    let uri: Uri = text.parse().map_err(|_| wrong())?;
    let is_bare = uri.scheme().is_some() && uri.authority().is_some() && !text.ends_with('/') && uri.path() == "/";
    if is_bare && uri.query().is_none() { HeaderValue::from_str(text).map_err(|_| wrong()) } else { Err(wrong()) }
}

pub(super) async fn check(State(app): State<App>, request: Request, next: Next) -> Response {
    match app.hosts().check(request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// CORS (the Fetch standard), if any page of another origin may ask.
pub(super) fn cors(hosts: &Hosts) -> Option<CorsLayer> {
    if hosts.origins.is_empty() && !hosts.any_origin {
        return None;
    }
    let origins = if hosts.any_origin { AllowOrigin::any() } else { AllowOrigin::list(hosts.origins.clone()) };
    let headers = [AUTHORIZATION, CONTENT_TYPE, HeaderName::from_static("idempotency-key")];
    let methods = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    Some(CorsLayer::new().allow_origin(origins).allow_headers(headers).allow_methods(methods))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_lose_their_ports_and_origins_are_bare() {
        for (host, name) in [("a:80", "a"), ("a", "a"), ("[::1]:80", "[::1]"), ("[::1]", "[::1]"), ("::1", "::1")] {
            assert_eq!(host_of(host), name);
        }
        assert!(origin("https://a.example:8443").is_ok());
        for bad in ["a.example", "https://a.example/", "https://a.example/x", "null", ""] {
            assert!(origin(bad).is_err(), "{bad}");
        }
    }
}
