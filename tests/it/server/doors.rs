//! Who is let in: every route with every kind of token, hosts, origins, and addresses that other
//! machines reach.

use goflow::api::tokens::Scope;
use goflow::server::scopes::{Access, rows};

use super::{Reply, Site};
use crate::cli::TestEnvironment;

/// The path of a row with something in each of its places.
fn filled(path: &str) -> String {
    let part = |part: &str| match part {
        "{id}" => "019c0000-0000-7000-8000-000000000000".to_owned(),
        part if part.starts_with('{') => "nothing".to_owned(),
        part => part.to_owned(),
    };
    path.split('/').map(part).collect::<Vec<_>>().join("/")
}

fn ask(site: &Site, method: &str, path: &str, token: Option<&str>) -> Reply {
    let bearer = token.map(|token| format!("Bearer {token}"));
    // No id of an event: a stream of events, which would never end, is refused.
    let mut headers = vec![("Last-Event-ID", "none")];
    headers.extend(bearer.iter().map(|bearer| ("Authorization", bearer.as_str())));
    site.ask(method, path, &headers, "")
}

#[test]
fn every_route_lets_in_whom_the_table_says() {
    super::on_sqlite_and_redis(every_route);
}

fn every_route(env: TestEnvironment) {
    let tokens = Scope::ALL.map(|scope| {
        let name = scope.as_str();
        (scope, env.run(&format!("token create {name} --scope {name}")).ok().line().to_owned())
    });
    let site = Site::of(env, &[]);
    let mut seen = 0;
    for row in rows() {
        let (method, path) = (row.method.as_str(), filled(row.path));
        let told = format!("{method} {path}");
        let (Access::Needs(wanted) | Access::Socket(wanted)) = row.access else {
            if row.access == Access::Open {
                let status = ask(&site, method, &path, None).status;
                assert!(status != 401 && status != 403, "{told}: {status}");
            }
            continue;
        };
        let none = ask(&site, method, &path, None);
        assert_eq!((none.status, none.header("www-authenticate")), (401, Some("Bearer")), "{told}");
        assert_eq!(ask(&site, method, &path, Some("gft_wrong")).status, 401, "{told}");
        let in_query = ask(&site, method, &format!("{path}?token={}", tokens[3].1), None).status;
        assert_eq!(in_query == 401, matches!(row.access, Access::Needs(_)), "{told} with the token in the query");
        for (scope, secret) in &tokens {
            let reply = ask(&site, method, &path, Some(secret));
            let let_in = !matches!(reply.status, 401 | 403);
            assert_eq!(let_in, scope.covers(wanted), "{told} with {scope}: {}", reply.status);
            seen += 1;
        }
    }
    assert_eq!(seen, 4 * rows().filter(|row| !matches!(row.access, Access::Open | Access::Signed)).count());
}

#[test]
fn a_foreign_host_or_origin_is_refused() {
    let site = Site::start();
    let host = |host: &str| site.ask("GET", "/health", &[("Host", host)], "").status;
    let port = site.address.port();
    for own in ["localhost", "127.0.0.1:1", "[::1]", &format!("LOCALHOST:{port}")] {
        assert_eq!(host(own), 200, "{own}");
    }
    for foreign in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", ""] {
        assert_eq!(host(foreign), 403, "{foreign}");
    }
    let own = format!("http://{}", site.address);
    for (origin, status) in [(own.as_str(), 200), ("https://evil.example", 403), ("null", 403)] {
        assert_eq!(site.ask("GET", "/health", &[("Origin", origin)], "").status, status, "{origin}");
    }
    let refused = site.ask("GET", "/health", &[("Host", "evil.example")], "").expect(403);
    assert_eq!(refused["code"], "GF0062");
    assert!(site.get("/health").header("access-control-allow-origin").is_none());
}

#[test]
fn pages_that_are_configured_may_ask_and_hosts_that_are_configured_are_answered() {
    let env = TestEnvironment::new();
    env.file(
        "goflow.yaml",
        "server: {allowed_hosts: [jobs.example], cors: {allowed_origins: ['https://app.example']}}\n",
    );
    let site = Site::of(env, &[]);
    let page = [("Host", "jobs.example:99"), ("Origin", "https://app.example")];
    let reply = site.ask("GET", "/health", &page, "");
    assert_eq!((reply.status, reply.header("access-control-allow-origin")), (200, Some("https://app.example")));
    let before = [page[0], page[1], ("Access-Control-Request-Method", "POST")];
    let reply = site.ask("OPTIONS", "/health", &before, "");
    assert_eq!(reply.status, 200);
    assert!(reply.header("access-control-allow-methods").is_some_and(|methods| methods.contains("POST")));
    assert_eq!(site.ask("GET", "/health", &[("Origin", "https://other.example")], "").status, 403);
}

#[test]
fn what_other_machines_reach_needs_a_token() {
    let mut env = TestEnvironment::new();
    let refused = env.run("server --bind 0.0.0.0 -p 0");
    assert_eq!(refused.status, Some(2), "{}", refused.text());
    assert!(refused.stderr.contains("[GF0064]") && refused.stderr.contains("GOFLOW_TOKEN"), "{}", refused.text());
    env.set("GOFLOW_TOKEN", "a-long-secret-of-the-operator");
    let site = Site::of(env, &["--bind", "0.0.0.0"]);
    assert_eq!(site.get("/health").status, 200);
    assert_eq!(site.get("/api/v1/queues").status, 401);
    let bearer = [("Authorization", "Bearer a-long-secret-of-the-operator")];
    assert_eq!(site.ask("GET", "/api/v1/queues", &bearer, "").status, 200);
}

#[test]
fn a_token_is_shown_once_kept_as_a_digest_and_gone_when_it_is_revoked() {
    let env = TestEnvironment::new();
    let created = env.run("token create ci --scope read,enqueue,read -o json").ok().json();
    assert_eq!(created["scopes"], serde_json::json!(["read", "enqueue"]));
    let secret = created["secret"].as_str().expect("a secret").to_owned();
    assert_eq!(env.run("token create ci --scope read").status, Some(4));
    let listed = env.run("token list -o json").ok();
    assert!(!listed.stdout.contains(&secret) && listed.json()[0]["name"] == "ci", "{}", listed.text());
    let home = env.path().join("home");
    let kept = walk(&home).into_iter().any(|file| {
        let bytes = std::fs::read(&file).unwrap_or_default();
        bytes.windows(secret.len()).any(|part| part == secret.as_bytes())
    });
    assert!(!kept, "the secret lies in the store");
    let site = Site::of(env, &[]);
    assert_eq!(ask(&site, "GET", "/api/v1/queues", None).status, 401);
    assert_eq!(ask(&site, "GET", "/api/v1/queues", Some(&secret)).status, 200);
    site.env.run("token revoke ci").ok();
    // The last one is gone: on the loopback address nobody needs one any more, but a wrong one is wrong.
    let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while ask(&site, "GET", "/api/v1/queues", Some(&secret)).status != 401 {
        assert!(std::time::Instant::now() < end, "the token still opens");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(ask(&site, "GET", "/api/v1/queues", None).status, 200);
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { files.extend(walk(&path)) } else { files.push(path) }
    }
    files
}
