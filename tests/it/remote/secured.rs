//! A server behind https: a proxy that ends TLS with a certificate by an authority of its own. And the
//! commands that stay: the scheduler and the console over a server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};

use crate::cli::TestEnvironment;
use crate::server::Site;
use crate::servers::certificates;

/// Takes TLS off what comes, and hands it on; the port it listens on.
fn proxy(folder: &std::path::Path, to: std::net::SocketAddr) -> u16 {
    goflow::sys::tls::install();
    let chain: Vec<_> =
        CertificateDer::pem_file_iter(folder.join("own.pem")).and_then(Iterator::collect).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(folder.join("own.key")).expect("a key");
    let config = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).expect("they fit");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.set_nonblocking(true).expect("it does not block");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let listener = TcpListener::from_std(listener).expect("it listens");
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(mut outside) = acceptor.accept(stream).await else { return };
                    let Ok(mut inside) = TcpStream::connect(to).await else { return };
                    let _ = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
                });
            }
        });
    });
    port
}

#[test]
fn a_server_behind_https_is_used_with_an_authority_of_ones_own() {
    let folder = tempfile::tempdir().expect("a folder");
    certificates::make(folder.path());
    let mut env = TestEnvironment::new();
    env.set("GOFLOW_TOKEN", "a-long-secret-of-the-operator");
    let site = Site::of(env, &[]);
    let url = format!("https://127.0.0.1:{}", proxy(folder.path(), site.address));
    let mut outside = TestEnvironment::new();
    outside.set("GOFLOW_SERVER", &url);
    outside.set("GOFLOW_TOKEN", "a-long-secret-of-the-operator");
    // The authority is nobody's that this machine trusts.
    let stranger = outside.run("job list -o json");
    assert_eq!(stranger.status, Some(5), "{}", stranger.text());
    assert!(stranger.stderr.contains("certificate"), "{}", stranger.text());
    outside.set("SSL_CERT_FILE", &folder.path().join("ca.pem").display().to_string());
    let id = outside.run("enqueue echo -d {\"a\":1}").ok().line().to_owned();
    outside.run("worker --until-empty").ok();
    assert_eq!(outside.run(&format!("job show {id} -o json")).ok().json()["state"], "completed");
    assert_eq!(outside.run("config show -o json").status, Some(0));
    // The certificate is for the address alone.
    outside.set("GOFLOW_SERVER", &url.replace("127.0.0.1", "localhost"));
    assert_eq!(outside.run("job list").status, Some(5));
}

#[test]
fn the_scheduler_and_the_console_stand_over_a_server() {
    crate::server::on_sqlite_and_redis(over_a_server);
}

fn over_a_server(env: TestEnvironment) {
    let site = Site::of(env, &[]);
    let mut outside = TestEnvironment::new();
    outside.set("GOFLOW_SERVER", &format!("http://{}", site.address));
    outside.file("often.yaml", "{kind: Schedule, name: often, every: 1s, job: echo, queue: ticks}\n");
    outside.run("apply often.yaml").ok();
    let mut scheduler = outside.command(["scheduler"]).spawn().expect("it starts");
    let deadline = Instant::now() + Duration::from_secs(90);
    let ticks = loop {
        let jobs = outside.run("job list -q ticks -n 0 -o json").ok().json();
        let ticks = jobs.as_array().map_or(0, Vec::len);
        if ticks >= 3 {
            break ticks;
        }
        assert!(Instant::now() < deadline, "{ticks} ticks only");
        std::thread::sleep(Duration::from_millis(50));
    };
    scheduler.kill().expect("it ends");
    scheduler.wait().expect("it has ended");
    let shown = outside.run("top --once").ok().stdout;
    assert!(shown.contains("ticks") && shown.contains(&site.address.to_string()), "{ticks} ticks: {shown}");
    assert_eq!(outside.run("schedule list -o json").ok().json()[0]["name"], "often");
}
