//! A PostgreSQL cluster of a test's own. The first test makes a template with initdb (once a machine
//! and user), the others copy it. The server refuses to run as root, so root lends it the user
//! `postgres`.

#![expect(clippy::disallowed_methods, reason = "waits for a process outside any runtime, by the machine's own time")]

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::port::Port;

/// How long the server may take to start. One that was killed first flushes its whole folder, a thousand files,
/// which takes a slow disk under load a minute.
const PATIENCE: Duration = Duration::from_secs(180);
/// Between two starts of a server that ends at once.
const AGAIN: Duration = Duration::from_millis(500);

/// A running server; stopped and removed when it is dropped.
pub struct Cluster {
    folder: TempDir,
    port: Port,
    server: Option<Child>,
    settings: Vec<String>,
}

impl Cluster {
    /// For tests that never stop the machine, which is all but the slowest: writes are not flushed.
    pub fn start() -> Cluster {
        Cluster::with(&["fsync=off", "full_page_writes=off"])
    }

    /// A server as it comes, with these settings changed.
    pub fn with(settings: &[&str]) -> Cluster {
        let folder = tempfile::Builder::new().prefix("goflow-pg-").tempdir().expect("a temporary folder");
        lend(folder.path());
        run(as_server("cp").args(["-a", "--"]).arg(template()).arg(folder.path().join("data")));
        let mut cluster = Cluster {
            folder,
            port: Port::claim(),
            server: None,
            settings: settings.iter().map(|setting| (*setting).to_owned()).collect(),
        };
        cluster.up();
        cluster
    }

    pub fn port(&self) -> u16 {
        self.port.number()
    }

    pub fn url(&self) -> String {
        format!("postgres://goflow@127.0.0.1:{}/postgres", self.port)
    }

    /// Starts the server, and waits until it takes connections.
    pub fn up(&mut self) {
        self.launch();
        let patience = Instant::now() + PATIENCE;
        let port = self.port.to_string();
        while !quiet(Command::new(binary("pg_isready")).args(["-q", "-h", "127.0.0.1", "-p", &port])) {
            let log = || fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < patience, "the server does not start: {}", log());
            std::thread::sleep(Duration::from_millis(10));
            // It refuses to start, and ends, while a child of one that was killed is still at work.
            if self.server.as_mut().is_some_and(|server| !matches!(server.try_wait(), Ok(None))) {
                std::thread::sleep(AGAIN);
                self.launch();
            }
        }
    }

    fn launch(&mut self) {
        let data = self.folder.path().join("data");
        let log = fs::File::create(self.folder.path().join("log")).expect("a log");
        let mut command = as_server(&binary("postgres"));
        command.arg("-D").arg(&data).args(["-p", &self.port.to_string(), "-k", ""]);
        command.args(["-c", "listen_addresses=127.0.0.1"]);
        for setting in &self.settings {
            command.args(["-c", setting]);
        }
        let errors = log.try_clone().expect("a log");
        let server = command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn().expect("postgres starts");
        self.server = Some(server);
    }

    /// Ends the server and all its processes at once, as `kill -9` does.
    pub fn kill(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        server.kill().expect("a signal");
        server.wait().expect("the server ends");
        // Its children see that it is gone and end too, each when it looks: `up` waits for them.
    }

    /// A server that was killed leaves its segment of shared memory to the machine, which has 4,096 of them. Its number
    /// is the second of the seventh line of its note about itself.
    fn free_memory(&self) {
        let note = fs::read_to_string(self.folder.path().join("data").join("postmaster.pid")).unwrap_or_default();
        let segment = note.lines().nth(6).and_then(|line| line.split_whitespace().nth(1));
        if let Some(segment) = segment {
            quiet(Command::new("ipcrm").args(["-m", segment]));
        }
    }

    /// Runs statements past the store.
    pub fn sql(&self, statements: &str) {
        self.psql(&["-c", statements]);
    }

    /// Runs the statements of a file.
    pub fn load(&self, file: &Path) {
        self.psql(&["-f", &file.display().to_string()]);
    }

    fn psql(&self, what: &[&str]) {
        let url = self.url();
        run(Command::new(binary("psql")).args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", &url]).args(what));
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            // Nothing of it is kept: the quickest way down will do.
            let _ = server.kill();
            let _ = server.wait();
        }
        self.free_memory();
        // Its children may still be at work in the folder for a moment.
        for _ in 0..100 {
            if fs::remove_dir_all(self.folder.path().join("data")).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// pgbouncer before a cluster, in transaction mode, with few server processes for many clients.
pub struct Pooler {
    folder: TempDir,
    port: Port,
    child: Child,
}

impl Pooler {
    pub fn is_installed() -> bool {
        quiet(Command::new("pgbouncer").arg("--version"))
    }

    pub fn before(cluster: &Cluster) -> Pooler {
        let port = Port::claim();
        let folder = tempfile::Builder::new().prefix("goflow-bouncer-").tempdir().expect("a temporary folder");
        lend(folder.path());
        let settings = format!(
            "[databases]\npostgres = host=127.0.0.1 port={} user=goflow\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nauth_type = any\npool_mode = transaction\ndefault_pool_size = 3\nunix_socket_dir =\n\
             ignore_startup_parameters = extra_float_digits\n",
            cluster.port()
        );
        let file = folder.path().join("pgbouncer.ini");
        fs::write(&file, settings).expect("a file");
        let log = fs::File::create(folder.path().join("log")).expect("a log");
        let mut command = as_server("pgbouncer");
        let child = command.arg(&file).stdin(Stdio::null()).stdout(log.try_clone().expect("a log")).stderr(log).spawn();
        let pooler = Pooler { folder, port, child: child.expect("pgbouncer starts") };
        let patience = Instant::now() + PATIENCE;
        let port = pooler.port.to_string();
        while !quiet(Command::new(binary("pg_isready")).args(["-q", "-h", "127.0.0.1", "-p", &port])) {
            let log = || fs::read_to_string(pooler.folder.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < patience, "the pooler does not start: {}", log());
            std::thread::sleep(Duration::from_millis(10));
        }
        pooler
    }

    pub fn url(&self) -> String {
        format!("postgres://goflow@127.0.0.1:{}/postgres", self.port)
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The newest PostgreSQL of the machine: in the path, or where Debian keeps it.
fn binary(name: &str) -> String {
    let mut versions: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .map(|found| {
            found.flatten().map(|entry| entry.path().join("bin").join(name)).filter(|path| path.exists()).collect()
        })
        .unwrap_or_default();
    versions.sort();
    versions.pop().map_or_else(|| name.to_owned(), |path| path.display().to_string())
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// A command as the user under whom the server runs, that ends with this process.
fn as_server(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    if is_root() {
        command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]);
    }
    command.args(["--pdeathsig=QUIT", "--", program]);
    command.current_dir("/");
    command
}

/// Gives a file or folder to the user that the server runs as.
pub fn lend(folder: &Path) {
    if is_root() {
        let number = |flag: &str| -> u32 {
            let answer = Command::new("id").args([flag, "postgres"]).output().expect("id");
            String::from_utf8_lossy(&answer.stdout).trim().parse().expect("the user postgres")
        };
        chown(folder, Some(number("-u")), Some(number("-g"))).expect("a folder for the server");
    }
}

fn run(command: &mut Command) {
    let output = command.output().expect("the command starts");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn quiet(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// A fresh data folder, made once.
fn template() -> PathBuf {
    let version = Command::new(binary("postgres")).arg("--version").output().expect("PostgreSQL is installed");
    let version: String = String::from_utf8_lossy(&version.stdout).chars().filter(char::is_ascii_digit).collect();
    let user = fs::metadata("/proc/self").expect("a process").uid();
    let template = std::env::temp_dir().join(format!("goflow-pg-template-{version}-{user}"));
    if template.join("data/PG_VERSION").exists() {
        return template.join("data");
    }
    // Whoever is first puts theirs in place, whole; the others throw theirs away.
    let made = tempfile::Builder::new().prefix("goflow-pg-new-").tempdir().expect("a temporary folder");
    lend(made.path());
    let mut initdb = as_server(&binary("initdb"));
    run(initdb
        .args(["--no-sync", "-A", "trust", "-U", "goflow", "-E", "UTF8", "--locale=C", "-D"])
        .arg(made.path().join("data")));
    if fs::rename(made.path(), &template).is_ok() {
        let _ = made.keep();
    }
    template.join("data")
}
