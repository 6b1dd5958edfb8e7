//! What a user meets only on Redis: a server that may throw jobs away.

use super::TestEnvironment;
use crate::servers::redis::Server;

#[test]
fn an_evicting_server_is_refused_with_the_cure_unless_one_insists() {
    let server = Server::start(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]);
    let env = TestEnvironment::new();
    let url = server.url();
    for command in [&["enqueue", "noop"][..], &["worker", "--until-empty"], &["doctor"]] {
        let told = env.args([&["--store", &url][..], command].concat());
        assert_eq!(told.status, Some(5), "{}", told.text());
        for part in ["allkeys-lru", "CONFIG SET maxmemory-policy noeviction", "--allow-eviction", "[GF0006]"] {
            assert!(told.stderr.contains(part), "{part}: {}", told.text());
        }
    }
    let insist = |command: &[&str]| env.args([&["--store", &url, "--allow-eviction"][..], command].concat()).ok();
    assert_eq!(insist(&["job", "list", "-o", "json"]).line(), "[]", "the refused one was not stored");
    insist(&["enqueue", "noop"]);
    let worked = insist(&["worker", "--until-empty"]);
    assert_eq!(worked.line(), "completed 1 job");
    assert!(worked.stderr.contains("maxmemory-policy allkeys-lru may throw jobs away"), "{}", worked.text());
}
