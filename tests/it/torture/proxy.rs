//! A network that misbehaves: everything goes through a proxy that delays, swallows, cuts in
//! mid-reply, and resets, connection by connection.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::site::{Ground, Process, Site};
use super::size;
use crate::servers::{postgres::Cluster, redis::Server};

/// What happens to a connection.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Fair,
    /// Each piece of an answer comes so much later.
    Slow(Duration),
    /// After so many bytes of answers the connection is cut, often in the middle of one.
    CutAfter(usize),
    /// After so many bytes of answers nothing comes any more, though requests still arrive.
    OneWayAfter(usize),
    /// After so many bytes of requests nothing passes any more, in either direction.
    BlackHoleAfter(usize),
}

struct Proxy {
    port: u16,
    troubled: Arc<AtomicBool>,
    faults: Arc<AtomicU64>,
}

impl Proxy {
    fn before(target: u16) -> Proxy {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = listener.local_addr().expect("a port").port();
        let troubled = Arc::new(AtomicBool::new(true));
        let faults = Arc::new(AtomicU64::new(0));
        let (trouble, count) = (troubled.clone(), faults.clone());
        std::thread::spawn(move || {
            for (nth, client) in listener.incoming().enumerate() {
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(("127.0.0.1", target))) else { continue };
                let bytes = 200 + (nth * 7_919) % 60_000;
                let fate = match nth % 5 {
                    _ if !trouble.load(Ordering::SeqCst) => Fate::Fair,
                    0 => Fate::Slow(Duration::from_millis(30)),
                    1 => Fate::CutAfter(bytes),
                    2 => Fate::OneWayAfter(bytes),
                    3 => Fate::BlackHoleAfter(bytes),
                    _ => Fate::Fair,
                };
                carry(client, server, fate, trouble.clone(), count.clone());
            }
        });
        Proxy { port, troubled, faults }
    }

    fn calm(&self) {
        self.troubled.store(false, Ordering::SeqCst);
    }
}

/// Carries both directions until one end closes. When the trouble is over, connections that lie dead
/// are cut, as a network that comes back would do.
fn carry(client: TcpStream, server: TcpStream, fate: Fate, troubled: Arc<AtomicBool>, faults: Arc<AtomicU64>) {
    let dead = Arc::new(AtomicBool::new(false));
    let copy = |from: &TcpStream, to: &TcpStream, is_answer: bool| {
        let (mut from, mut to) = (from.try_clone().expect("a socket"), to.try_clone().expect("a socket"));
        let (dead, troubled, faults) = (dead.clone(), troubled.clone(), faults.clone());
        std::thread::spawn(move || {
            let mut carried = 0;
            let mut buffer = [0; 4096];
            loop {
                let count = match from.read(&mut buffer) {
                    Ok(count) if count > 0 => count,
                    _ => break,
                };
                carried += count;
                let over = |limit: usize| carried > limit;
                let swallow = match fate {
                    Fate::Fair => false,
                    Fate::Slow(delay) => {
                        if is_answer && troubled.load(Ordering::SeqCst) {
                            std::thread::sleep(delay);
                        }
                        false
                    }
                    Fate::CutAfter(limit) if is_answer && over(limit) => {
                        faults.fetch_add(1, Ordering::SeqCst);
                        let part = count / 2;
                        let _ = to.write_all(&buffer[..part]);
                        break;
                    }
                    Fate::OneWayAfter(limit) => is_answer && over(limit),
                    Fate::BlackHoleAfter(limit) => {
                        if !is_answer && over(limit) {
                            dead.store(true, Ordering::SeqCst);
                        }
                        dead.load(Ordering::SeqCst)
                    }
                    Fate::CutAfter(_) => false,
                };
                if swallow {
                    faults.fetch_add(1, Ordering::SeqCst);
                    if !troubled.load(Ordering::SeqCst) {
                        break;
                    }
                    continue;
                }
                if to.write_all(&buffer[..count]).is_err() {
                    break;
                }
            }
            let _ = from.shutdown(Shutdown::Both);
            let _ = to.shutdown(Shutdown::Both);
        });
    };
    copy(&client, &server, false);
    copy(&server, &client, true);
}

fn a_bad_network_loses_nothing(mut site: Site, target: u16, url: impl Fn(u16) -> String) {
    let proxy = Proxy::before(target);
    let direct = url(target);
    site.env.set("GOFLOW_STORE", &url(proxy.port));
    let mut workers: Vec<Process> = Vec::new();
    let begun = Instant::now();
    let length = Duration::from_secs(size(40, 1_800) as u64);
    let mut acknowledged = 0;
    let mut spawned = 0;
    // How many connections are made in that time is up to the machine: it goes on until enough of them broke.
    let enough = || proxy.faults.load(Ordering::SeqCst) >= 10;
    while begun.elapsed() < length || (!enough() && begun.elapsed() < length * 4) {
        workers.retain_mut(|worker| !worker.has_ended());
        // A worker whose very first connection fails may end with 5: a supervisor starts it again.
        while workers.len() < 2 {
            workers.push(site.start(&format!("worker-{}", spawned % 2), "worker -c 5"));
            spawned += 1;
        }
        let answer = site.env.feed("enqueue work --text-lines", "a\nb\nc\nd\n");
        if answer.status == Some(0) {
            acknowledged += 4;
        }
    }
    proxy.calm();
    site.env.set("GOFLOW_STORE", &direct);
    let faults = proxy.faults.load(Ordering::SeqCst);
    assert!(faults >= 10 && acknowledged > 0, "{faults} faults, {acknowledged} jobs: this proves nothing");
    let _fresh = site.start("fresh", "worker -c 10");
    let drained = site.wait("everything is done after the trouble", Duration::from_secs(120), || site.is_drained());
    site.verify();
    let jobs = site.jobs();
    println!("{faults} faults, {acknowledged} acknowledged, {} kept, drained in {drained:?}", jobs.len());
    assert!(jobs.len() >= acknowledged, "{} jobs are kept of {acknowledged} acknowledged", jobs.len());
    let witness = site.witness();
    for job in &jobs {
        let crashes = job["crashes"].as_u64().expect("a count");
        let executions = witness.of(job["id"].as_str().expect("an id")).len() as u64;
        assert!(job["state"] == "completed" || crashes == 3, "{job:#}");
        assert!(executions <= 1 + crashes, "{executions} executions: {job:#}");
    }
}

#[test]
fn a_bad_network_to_redis_loses_nothing() {
    let server = Server::start(&[]);
    let port = server.port();
    a_bad_network_loses_nothing(Site::on(Ground::Redis(server), "5s"), port, |port| {
        format!("redis://127.0.0.1:{port}/")
    });
}

#[test]
fn a_bad_network_to_postgres_loses_nothing() {
    let cluster = Cluster::with(&[]);
    let port = cluster.port();
    let url = |port| format!("postgres://goflow@127.0.0.1:{port}/postgres");
    a_bad_network_loses_nothing(Site::on(Ground::Postgres(cluster), "5s"), port, url);
}
