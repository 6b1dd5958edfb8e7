//! What `deploy/` says is run: each service's command with its environment, over a private Redis, until the
//! file's own health check finds it healthy. Containers themselves are not made here.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cli::TestEnvironment;
use crate::servers::port::Port;
use crate::servers::redis::Server;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy")
}

fn documents(file: &str) -> Vec<Value> {
    let text = fs::read_to_string(folder().join(file)).expect("a file of deploy/");
    text.split("\n---\n").map(|text| serde_saphyr::from_str(text).expect(file)).collect()
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn words(value: &Value) -> Vec<String> {
    value.as_array().expect("a list of words").iter().map(text).collect()
}

/// One service as a file describes it.
struct Service {
    name: String,
    args: Vec<String>,
    env: BTreeMap<String, String>,
    /// The health check's command, without `goflow`; none: `/ready` and `/health` are asked.
    check: Option<Vec<String>>,
}

impl Service {
    /// Runs it as described, but on this Redis and this port, and waits until it is healthy.
    fn is_healthy(&self, redis: &Server) {
        let port = Port::claim();
        let mut env = TestEnvironment::new();
        for (name, value) in &self.env {
            let value = match name.as_str() {
                "GOFLOW_REDIS" => format!("localhost:{}", redis.port()),
                "GOFLOW_PORT" => port.to_string(),
                _ => interpolated(value),
            };
            env.set(name, &value);
        }
        let child = env.command(&self.args).spawn().unwrap_or_else(|error| panic!("{}: {error}", self.name));
        let mut running = Running(child);
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let healthy = match &self.check {
                Some(check) => env.args(check).status == Some(0),
                None => ["/health", "/ready"].iter().all(|path| answers(port.number(), path)),
            };
            if healthy && self.is_known(&env) {
                return;
            }
            if let Some(status) = running.0.try_wait().expect("a status") {
                let mut said = String::new();
                let stderr = running.0.stderr.take().expect("stderr");
                let _ = { stderr }.read_to_string(&mut said);
                panic!("{} has ended with {status}: {said}", self.name);
            }
            assert!(Instant::now() < deadline, "{} is not healthy", self.name);
        }
    }

    /// A health check that looks at the store alone would be content without the process: a worker has also
    /// told the store of itself.
    fn is_known(&self, env: &TestEnvironment) -> bool {
        self.args[0] != "worker" || env.run("worker list -o json").json().as_array().is_some_and(|all| !all.is_empty())
    }
}

fn answers(port: u16, path: &str) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map(|_| answer)
    };
    ask().is_ok_and(|answer: String| answer.starts_with("HTTP/1.1 200"))
}

/// `${NAME:-usual}` and `${NAME:?why}` as an empty environment would have them, but for what must be set.
fn interpolated(value: &str) -> String {
    match value.strip_prefix("${") {
        Some(rest) if rest.contains(":-") => {
            rest.split_once(":-").map_or("", |(_, usual)| usual).trim_end_matches('}').to_owned()
        }
        Some(_) => "a-token-for-a-test".to_owned(),
        None => value.to_owned(),
    }
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The services of goflow itself, with how many of each there are to be.
fn composed(file: &str) -> Vec<(Service, u64)> {
    let [document] = &*documents(file) else { panic!("one document") };
    let services = document["services"].as_object().expect("services");
    let own = services.iter().filter(|(_, service)| text(&service["image"]).contains("goflow"));
    own.map(|(name, service)| {
        let env = service["environment"].as_object().expect("an environment");
        let test = words(&service["healthcheck"]["test"]);
        assert_eq!(test[..2], ["CMD", "goflow"], "{name}");
        let service_of = Service {
            name: format!("{file}: {name}"),
            args: words(&service["command"]),
            env: env.iter().map(|(name, value)| (name.clone(), text(value))).collect(),
            check: Some(test[2..].to_vec()),
        };
        (service_of, service["deploy"]["replicas"].as_u64().unwrap_or(1))
    })
    .collect()
}

fn counts(services: &[(Service, u64)]) -> BTreeMap<&str, u64> {
    services.iter().map(|(service, many)| (service.args[0].as_str(), *many)).collect()
}

#[test]
fn the_compose_file_is_as_promised_and_its_services_are_healthy() {
    let services = composed("docker-compose.yml");
    assert_eq!(counts(&services), [("server", 1), ("worker", 2), ("scheduler", 1)].into());
    let redis = Server::start(&[]);
    services.iter().for_each(|(service, _)| service.is_healthy(&redis));
}

#[test]
fn the_stack_is_as_promised_and_its_services_are_healthy() {
    let services = composed("docker-stack.yml");
    assert_eq!(counts(&services), [("server", 3), ("worker", 5), ("scheduler", 1)].into());
    let redis = Server::start(&[]);
    services.iter().for_each(|(service, _)| service.is_healthy(&redis));
}

#[test]
fn the_manifests_of_kubernetes_name_probes_that_answer() {
    let kustomization = &documents("kubernetes/kustomization.yaml")[0];
    let files = words(&kustomization["resources"]);
    let all: Vec<Value> = files.iter().flat_map(|file| documents(&format!("kubernetes/{file}"))).collect();
    let present = fs::read_dir(folder().join("kubernetes")).expect("the folder").count();
    assert_eq!(present, files.len() + 1, "a file that is not named is not applied");
    let mut services = Vec::new();
    for document in all.iter().filter(|document| document["kind"] == "Deployment") {
        let name = text(&document["metadata"]["name"]);
        assert_eq!(
            document["spec"]["selector"]["matchLabels"], document["spec"]["template"]["metadata"]["labels"],
            "{name}"
        );
        let [container] = document["spec"]["template"]["spec"]["containers"].as_array().expect("containers").as_slice()
        else {
            panic!("{name}: one container")
        };
        let ready = &container["readinessProbe"];
        let check = ready["exec"]["command"].as_array().map(|command| command[1..].iter().map(text).collect());
        if check.is_none() {
            assert_eq!(
                (&ready["httpGet"]["path"], &container["livenessProbe"]["httpGet"]["path"]),
                (&"/ready".into(), &"/health".into())
            );
        }
        let env = container["env"].as_array().expect("an environment").iter();
        let env = env.map(|one| {
            let value = if one["value"].is_null() { "a-token-for-a-test".to_owned() } else { text(&one["value"]) };
            (text(&one["name"]), value)
        });
        let env = env.collect();
        services.push(Service { name, args: words(&container["args"]), env, check });
    }
    assert_eq!(services.len(), 3);
    let redis = Server::start(&[]);
    services.iter().for_each(|service| service.is_healthy(&redis));
}

#[test]
fn the_units_start_what_they_name() {
    let shared = fs::read_to_string(folder().join("systemd/goflow.env")).expect("the environment");
    let set = shared.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
    let env: BTreeMap<String, String> = set.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let redis = Server::start(&[]);
    let mut seen = Vec::new();
    for entry in fs::read_dir(folder().join("systemd")).expect("the folder") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "service") {
            continue;
        }
        let unit = fs::read_to_string(&path).expect("a unit");
        let field =
            |name: &str| unit.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name}"));
        let args: Vec<String> = field("ExecStart=/usr/bin/goflow ").split(' ').map(str::to_owned).collect();
        assert_eq!(field("EnvironmentFile="), "-/etc/goflow/goflow.env");
        let check = (args[0] != "server").then(|| vec!["doctor".to_owned()]);
        let service = Service { name: path.display().to_string(), args, env: env.clone(), check };
        service.is_healthy(&redis);
        seen.push(service.args[0].clone());
    }
    seen.sort();
    assert_eq!(seen, ["scheduler", "server", "worker"]);
}

#[test]
fn the_image_is_built_of_what_is_there() {
    let file = fs::read_to_string(folder().join("Dockerfile")).expect("the Dockerfile");
    let steps: Vec<&str> = file.lines().filter(|line| line.starts_with("FROM ")).collect();
    assert_eq!(steps.len(), 3, "{steps:?}");
    let version = env!("CARGO_PKG_RUST_VERSION");
    assert!(
        steps[0].starts_with(&format!("FROM rust:{version}")),
        "the compiler that Cargo.toml asks for: {}",
        steps[0]
    );
    assert!(steps[2].contains("distroless/static"), "the default image is the small one: {}", steps[2]);
    for last in file.split("\nFROM ").skip(2) {
        assert!(last.contains("USER 65532") && last.contains("CMD [\"server\"]"), "{last}");
    }
}

#[test]
fn a_probe_tells_a_server_that_is_away() {
    let free = Port::claim();
    let refused = TestEnvironment::new().run(&format!("server --probe -p {free}"));
    assert_eq!(refused.status, Some(5), "{}", refused.text());
    assert!(refused.stderr.contains("/ready: connection refused"), "{}", refused.text());
}
