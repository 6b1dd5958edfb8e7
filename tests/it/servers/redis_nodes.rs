//! Several redis-servers of one test's own: a cluster, made by the tool that comes with the server, and a
//! master with its replicas and the sentinels that watch it. All on loopback, gone with the test.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::port::Port;
use super::redis::Server;

/// How long a change of roles may take.
const PATIENCE: Duration = Duration::from_secs(40);

#[track_caller]
fn wait(what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    begun.elapsed()
}

/// The last words of a tool that must succeed.
fn tool(args: &[&str]) -> String {
    let output = Command::new("redis-cli").args(args).stdin(Stdio::null()).output().expect("redis-cli is installed");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "redis-cli {args:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// A cluster: nodes with even shares of the slots, in order, then their replicas.
pub struct Nodes {
    pub nodes: Vec<Server>,
    _buses: Vec<Port>,
}

impl Nodes {
    pub fn start(masters: usize, replicas: usize, settings: &[&str]) -> Nodes {
        let mut names = Vec::new();
        let (mut nodes, mut buses) = (Vec::new(), Vec::new());
        for _ in 0..masters * (1 + replicas) {
            let port = Port::claim();
            let bus = port.to_string();
            let own = ["--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-node-timeout", "1500"];
            let node = Server::start(&[&own[..], settings].concat());
            names.push(format!("127.0.0.1:{}@{bus}", node.port()));
            nodes.push(node);
            buses.push(port);
        }
        let count = replicas.to_string();
        let mut line: Vec<&str> = vec!["--cluster", "create"];
        line.extend(names.iter().map(String::as_str));
        line.extend(["--cluster-replicas", &count, "--cluster-yes"]);
        tool(&line);
        let cluster = Nodes { nodes, _buses: buses };
        cluster.wait_until_sound(masters, replicas);
        cluster
    }

    /// Every node sees every slot served by so many masters, each with so many replicas, which are in step.
    pub fn wait_until_sound(&self, masters: usize, replicas: usize) {
        let sees_all = |node: &Server| {
            let mut plain = node.plain();
            let state: String = redis::cmd("CLUSTER").arg("INFO").query(&mut plain).unwrap_or_default();
            let rows: Vec<Vec<redis::Value>> = redis::cmd("CLUSTER").arg("SLOTS").query(&mut plain).unwrap_or_default();
            // First slot, last slot, the master, its replicas.
            let complete = rows.iter().all(|row| row.len() >= 3 + replicas);
            complete && state.contains("cluster_state:ok") && state.contains(&format!("cluster_size:{masters}"))
        };
        wait("the cluster is sound", || {
            self.nodes.iter().filter(|node| node.is_up()).all(sees_all)
                && self.nodes.iter().filter(|node| is_master_with(node, replicas)).count() >= masters
        });
    }

    pub fn url(&self) -> String {
        let hosts: Vec<String> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port())).collect();
        format!("redis+cluster://{}/", hosts.join(","))
    }

    /// Which node serves the keys of a key space, as all who answer see it.
    pub fn home(&self, space: u16) -> Option<usize> {
        let slot = |plain: &mut redis::Connection| -> Option<u16> {
            redis::cmd("CLUSTER").arg("KEYSLOT").arg(format!("gf:{space}")).query(plain).ok()
        };
        let mut found = None;
        for node in self.nodes.iter().filter(|node| node.is_up()) {
            let mut plain = node.plain();
            let slot = slot(&mut plain)?;
            type Row = (u16, u16, (String, u16));
            let rows: Vec<Vec<redis::Value>> = redis::cmd("CLUSTER").arg("SLOTS").query(&mut plain).ok()?;
            let read = |row: &Vec<redis::Value>| -> Option<Row> {
                let number = |at: usize| redis::from_redis_value_ref::<u16>(row.get(at)?).ok();
                let (host, port, ..): (String, u16, redis::Value, redis::Value) =
                    redis::from_redis_value_ref(row.get(2)?).ok()?;
                Some((number(0)?, number(1)?, (host, port)))
            };
            let row = rows.iter().filter_map(read).find(|(first, last, _)| (*first..=*last).contains(&slot))?;
            let home = self.nodes.iter().position(|node| node.port() == row.2.1)?;
            if found.is_some_and(|other| other != home) {
                return None;
            }
            found = Some(home);
        }
        found
    }

    pub fn is_master(&self, at: usize) -> bool {
        is_master_with(&self.nodes[at], 0)
    }

    /// Moves so many slots of one node, the lowest first, to another, while everything goes on.
    pub fn reshard(&self, from: usize, to: usize, slots: usize) {
        let id = |at: usize| -> String {
            redis::cmd("CLUSTER").arg("MYID").query(&mut self.nodes[at].plain()).expect("an id")
        };
        let (address, count) = (format!("127.0.0.1:{}", self.nodes[from].port()), slots.to_string());
        let (from, to) = (id(from), id(to));
        tool(&[
            "--cluster",
            "reshard",
            &address,
            "--cluster-from",
            &from,
            "--cluster-to",
            &to,
            "--cluster-slots",
            &count,
            "--cluster-yes",
        ]);
    }
}

/// A master with so many replicas in step with it.
fn is_master_with(node: &Server, replicas: usize) -> bool {
    if !node.is_up() {
        return false;
    }
    let info: String = redis::cmd("INFO").arg("replication").query(&mut node.plain()).unwrap_or_default();
    info.contains("role:master") && info.matches("state=online").count() >= replicas
}

/// Three sentinels around a master and its replicas.
pub struct Watched {
    pub servers: Vec<Server>,
    ports: Vec<Port>,
    sentinels: Vec<Child>,
    _folder: tempfile::TempDir,
}

impl Watched {
    pub fn start(replicas: usize, settings: &[&str]) -> Watched {
        let master = Server::start(settings);
        let port = master.port().to_string();
        let mut servers = vec![master];
        for _ in 0..replicas {
            servers.push(Server::start(&[&["--replicaof", "127.0.0.1", &port], settings].concat()));
        }
        wait("the replicas are in step", || is_master_with(&servers[0], replicas));
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (mut ports, mut sentinels) = (Vec::new(), Vec::new());
        for nth in 0..3 {
            let own = Port::claim();
            let file = folder.path().join(format!("{nth}.conf"));
            let text = format!(
                "port {own}\nbind 127.0.0.1\ndir {}\nsentinel monitor jobs 127.0.0.1 {port} 2\n\
                 sentinel down-after-milliseconds jobs 1000\nsentinel failover-timeout jobs 5000\n",
                folder.path().display()
            );
            std::fs::write(&file, text).expect("a file");
            let child = Command::new("redis-sentinel")
                .arg(&file)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("redis-sentinel is installed");
            ports.push(own);
            sentinels.push(child);
        }
        let watched = Watched { servers, ports, sentinels, _folder: folder };
        wait("the sentinels know each other and the replicas", || {
            watched.ports.iter().all(|port| {
                let told = watched.ask(port, "MASTER");
                let number = |name: &str| told.get(name).and_then(|text| text.parse::<usize>().ok());
                number("num-other-sentinels") == Some(2) && number("num-slaves") == Some(replicas)
            })
        });
        watched
    }

    fn ask(&self, port: &Port, verb: &str) -> std::collections::HashMap<String, String> {
        let client = redis::Client::open(format!("redis://127.0.0.1:{port}/")).expect("a URL");
        let Ok(mut plain) = client.get_connection() else { return Default::default() };
        redis::cmd("SENTINEL").arg(verb).arg("jobs").query(&mut plain).unwrap_or_default()
    }

    pub fn url(&self) -> String {
        let hosts: Vec<String> = self.ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        format!("redis+sentinel://{}/jobs", hosts.join(","))
    }

    /// Which server the sentinels call the master, if they agree.
    pub fn master(&self) -> Option<usize> {
        let told: Vec<Option<u16>> = self
            .ports
            .iter()
            .map(|port| self.ask(port, "MASTER").get("port").and_then(|text| text.parse().ok()))
            .collect();
        let first = *told.first()?;
        let agreed = told.iter().all(|port| *port == first);
        self.servers.iter().position(|server| agreed && Some(server.port()) == first)
    }

    /// The sentinels agree on a master that so many replicas are in step with.
    pub fn wait_until_sound(&self, replicas: usize) {
        wait("the replicas are in step", || {
            self.master().is_some_and(|at| is_master_with(&self.servers[at], replicas))
        });
    }

    /// The sentinels and the server itself say that it is the master.
    pub fn wait_for_another_master(&self, than: usize) -> (usize, Duration) {
        let mut found = than;
        let took = wait("another master is made", || {
            found = self.master().unwrap_or(than);
            found != than && is_master_with(&self.servers[found], 0)
        });
        (found, took)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        for sentinel in &mut self.sentinels {
            let _ = sentinel.kill();
            let _ = sentinel.wait();
        }
    }
}
