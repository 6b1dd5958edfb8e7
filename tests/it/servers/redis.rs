//! A redis-server of one test's own: on a free port of the loopback, with its files in a temporary
//! folder, gone with the test.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::port::Port;

pub struct Server {
    folder: tempfile::TempDir,
    port: Port,
    settings: Vec<String>,
    environment: Vec<(String, String)>,
    child: Option<Child>,
}

impl Server {
    /// Starts a server with the append-only file on; `settings` come last and so win.
    pub fn start(settings: &[&str]) -> Server {
        Server::start_in(settings, Vec::new())
    }

    /// The same, with more in its environment.
    pub fn start_in(settings: &[&str], environment: Vec<(String, String)>) -> Server {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let port = Port::claim();
        let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let mut server = Server { folder, port, settings, environment, child: None };
        server.revive();
        server
    }

    pub fn port(&self) -> u16 {
        self.port.number()
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// Starts it (again) on the files it has, and waits until it answers.
    pub fn revive(&mut self) {
        let log = std::fs::File::create(self.folder.path().join("log")).expect("a log");
        let child = Command::new("redis-server")
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", "", "--daemonize", "no"])
            .args(["--appendonly", "yes", "--appendfsync", "everysec", "--auto-aof-rewrite-percentage", "0"])
            .args(&self.settings)
            .envs(self.environment.iter().cloned())
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("redis-server is installed");
        self.child = Some(child);
        let client = redis::Client::open(self.url()).expect("a URL");
        let patience = Instant::now() + Duration::from_secs(20);
        loop {
            let pong =
                client.get_connection().and_then(|mut connection| redis::cmd("PING").query::<String>(&mut connection));
            match pong {
                Ok(_) => return,
                Err(error) => {
                    let told = error.code() == Some("NOAUTH");
                    if told {
                        return;
                    }
                    assert!(Instant::now() < patience, "redis-server does not start: {error}\n{}", self.log());
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        }
    }

    /// Kills it at once, as `kill -9` does.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("kill");
            child.wait().expect("wait");
        }
    }

    /// Sends it a signal. One that is stopped still takes connections, and answers nothing.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let child = self.child.as_ref().expect("it runs");
        let pid = rustix::process::Pid::from_child(child);
        rustix::process::kill_process(pid, signal).expect("it runs");
    }

    pub fn is_up(&self) -> bool {
        self.child.is_some()
    }

    /// The append-only file that is written to.
    pub fn append_file(&self) -> PathBuf {
        let folder = self.folder.path().join("appendonlydir");
        let is_increment = |path: &PathBuf| path.to_string_lossy().ends_with(".incr.aof");
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(&folder).expect("files").map(|entry| entry.expect("a file").path()).collect();
        files.retain(is_increment);
        files.sort();
        files.pop().expect("an increment")
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder().join("log")).unwrap_or_default()
    }

    /// Waits until the append-only file has been written anew, if that is under way.
    pub fn wait_for_log(&self) {
        let mut plain = self.plain();
        let patience = Instant::now() + Duration::from_secs(20);
        loop {
            let info: String = redis::cmd("INFO").arg("persistence").query(&mut plain).expect("info");
            if info.contains("aof_rewrite_in_progress:0") && info.contains("aof_rewrite_scheduled:0") {
                return;
            }
            assert!(Instant::now() < patience, "{info}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A plain connection, for looking and setting behind the store's back.
    pub fn plain(&self) -> redis::Connection {
        redis::Client::open(self.url()).and_then(|client| client.get_connection()).expect("connects")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
