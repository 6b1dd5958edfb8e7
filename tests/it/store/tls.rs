//! TLS to servers with certificates of their own: it is spoken, and whoever is not trusted is refused with a line
//! that says so.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use goflow::store::{PostgresStore, RedisOptions, RedisStore, Store, StoreError, StoreUrl};

use super::make::*;
use crate::servers::certificates;
use crate::servers::port::Port;
use crate::servers::postgres::{Cluster, lend};
use crate::servers::redis::Server;

struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    fn new() -> Files {
        let folder = tempfile::tempdir().expect("a temporary folder");
        certificates::make(folder.path());
        Files { folder }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }
}

/// A server with TLS on a port of its own, which insists on a certificate of its clients.
fn server(files: &Files, settings: &[&str]) -> (Server, Port) {
    let port = Port::claim();
    let (ca, own, key) = (files.path("ca.pem"), files.path("own.pem"), files.path("own.key"));
    let text = port.to_string();
    let tls = ["--tls-port", &text, "--tls-cert-file", &own, "--tls-key-file", &key, "--tls-ca-cert-file", &ca];
    (Server::start(&[&tls[..], &["--tls-auth-clients", "yes"], settings].concat()), port)
}

async fn refused(url: &str) -> String {
    url.parse::<StoreUrl>().expect("it is a store URL");
    match RedisStore::open(url, RedisOptions::default()).await.err() {
        Some(StoreError::Refused(why)) => why,
        other => panic!("{url}: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_speaks_tls_and_is_verified() {
    let files = Files::new();
    let (_plain, port) = server(&files, &[]);
    let (ca, own, key) = (files.path("ca.pem"), files.path("own.pem"), files.path("own.key"));
    let base = format!("rediss://127.0.0.1:{port}/");
    let url = format!("{base}?ca={ca}&cert={own}&key={key}");
    let store = RedisStore::open(&url, RedisOptions::default()).await.expect("opens");
    let mut hints = store.hints();
    hints.mark_unchanged();
    put(&store, job()).await;
    tokio::time::timeout(Duration::from_secs(20), hints.changed()).await.expect("a hint").expect("the store lives");
    assert_eq!(store.stats().await.expect("stats")[0].pending, 1);
    // An authority that nobody knows, a name that is not the server's, a file that is not there.
    let elsewhere = base.replace("127.0.0.1", "localhost");
    for (wrong, words) in [
        (format!("{base}?cert={own}&key={key}"), "certificate is not trusted"),
        (format!("{elsewhere}?ca={ca}&cert={own}&key={key}"), "certificate is not trusted"),
        (format!("{base}?ca=/no/such/file"), "/no/such/file"),
    ] {
        let why = refused(&wrong).await;
        assert!(why.contains(words) && !why.contains('\n'), "{wrong}: {why}");
    }
}

/// Some servers hang up on a client without a certificate before they say why.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_without_the_certificate_that_is_asked_for_is_told_of_it() {
    let files = Files::new();
    let (_plain, port) = server(&files, &[]);
    let url = format!("rediss://127.0.0.1:{port}/?ca={}", files.path("ca.pem"));
    let error = RedisStore::open(&url, RedisOptions::default()).await.err().expect("is not let in");
    assert!(error.to_string().contains("`cert`"), "{error:?}");
}

/// A cluster of one node, which does not know its own name: it is the one that was asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_speaks_tls() {
    let files = Files::new();
    let bus = Port::claim();
    let own_bus = bus.to_string();
    let (node, port) =
        server(&files, &["--cluster-enabled", "yes", "--cluster-port", &own_bus, "--tls-cluster", "yes"]);
    let mut plain = node.plain();
    let () = redis::cmd("CLUSTER").arg("ADDSLOTSRANGE").arg(0).arg(16_383).query(&mut plain).expect("slots");
    let (ca, own, key) = (files.path("ca.pem"), files.path("own.pem"), files.path("own.key"));
    let url = format!("rediss+cluster://127.0.0.1:{port}/?ca={ca}&cert={own}&key={key}");
    // It takes a moment to believe that it serves them.
    let patience = std::time::Instant::now() + Duration::from_secs(20);
    let store = loop {
        match RedisStore::open(&url, RedisOptions::default()).await {
            Ok(store) => break store,
            Err(error) => assert!(std::time::Instant::now() < patience && error.is_transient(), "{error:?}"),
        }
    };
    put(&store, job()).await;
    let health = store.health().await.expect("health");
    assert!(health.server.ends_with(&format!("127.0.0.1:{port} of a cluster of 1 master")), "{health:?}");
    let why = refused(&format!("rediss+cluster://127.0.0.1:{port}/?cert={own}&key={key}")).await;
    assert!(why.contains("certificate is not trusted"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_speaks_tls_and_is_verified() {
    let files = Files::new();
    let (ca, own, key) = (files.path("ca.pem"), files.path("own.pem"), files.path("own.key"));
    let secret = std::path::PathBuf::from(&key);
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).expect("permissions");
    for path in [files.folder.path(), &secret] {
        lend(path);
    }
    let settings = [format!("ssl_cert_file={own}"), format!("ssl_key_file={key}"), format!("ssl_ca_file={ca}")];
    let settings: Vec<&str> = settings.iter().map(String::as_str).chain(["ssl=on", "fsync=off"]).collect();
    let cluster = Cluster::with(&settings);
    let base = cluster.url();
    for mode in ["verify-full", "require"] {
        let url = format!("{base}?sslmode={mode}&sslrootcert={ca}&sslcert={own}&sslkey={key}");
        url.parse::<StoreUrl>().expect("it is a store URL");
        let store = PostgresStore::open(&url).await.expect("opens");
        put(&store, job()).await;
        let health = store.health().await.expect("health");
        assert!(health.settings["tls"].starts_with("TLSv1."), "{health:?}");
    }
    let plain = PostgresStore::open(&format!("{base}?sslmode=disable")).await.expect("opens");
    assert!(plain.health().await.expect("health").settings["tls"].starts_with("none"));
    let elsewhere = base.replace("127.0.0.1", "localhost");
    for (wrong, words) in [
        (format!("{base}?sslmode=verify-full"), "certificate is not trusted"),
        (format!("{elsewhere}?sslmode=verify-full&sslrootcert={ca}"), "certificate is not trusted"),
        (format!("{base}?sslmode=verify-full&sslrootcert=/no/such/file"), "/no/such/file"),
        (format!("{base}?sslmode=verify-full&sslrootcert={key}"), "holds no certificate"),
    ] {
        match PostgresStore::open(&wrong).await.err() {
            Some(StoreError::Refused(why)) => assert!(why.contains(words) && !why.contains('\n'), "{wrong}: {why}"),
            other => panic!("{wrong}: {other:?}"),
        }
    }
    let bare = Cluster::start();
    let error = PostgresStore::open(&format!("{}?sslmode=verify-full", bare.url())).await.err();
    assert!(matches!(&error, Some(StoreError::Refused(why)) if why.contains("TLS")), "{error:?}");
}
