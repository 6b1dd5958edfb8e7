//! The rules of finding and reading a configuration, as tables.

use super::store::StoreFlags;
use super::*;

const REPLACED: &str = r#"server: {port: 8080, cors: {allowed_origins: ["*"]}}
database: {address: "localhost:6379", password: "", database: 0}
queue: {name: jobs, max_retries: 3}
worker: {concurrency: 10}
llm: {provider: openai, api_key: "${OPENAI_API_KEY}"}
webhooks: {secret: "${WEBHOOK_SECRET}"}
"#;

struct Folder(tempfile::TempDir);

impl Folder {
    fn with(files: &[(&str, &str)]) -> Folder {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
            std::fs::write(path, text).expect("a file");
        }
        Folder(folder)
    }

    fn paths(&self) -> Paths {
        Paths { config: self.0.path().join("user"), data: self.0.path().join("data") }
    }

    fn load(&self, env: Env) -> Result<Config, ConfigError> {
        let paths = self.paths();
        Config::load(Search { flag: None, folder: self.0.path(), env: &env, paths: Some(&paths) })
    }

    fn store(&self, env: Env, flags: StoreFlags<'_>) -> (String, String) {
        let choice = self.load(env.clone()).expect("loads").store(flags, &env, Some(&self.paths())).expect("a store");
        (choice.url.replace(&*self.0.path().to_string_lossy(), "~"), choice.origin.to_string())
    }
}

#[test]
fn the_replaced_systems_file_loads_unchanged() {
    let folder = Folder::with(&[("config.yaml", REPLACED)]);
    let config = folder.load([("WEBHOOK_SECRET", "s3cret")].into()).expect("loads");
    assert_eq!(config.warnings, ["config.yaml:5:34: the variable OPENAI_API_KEY is not set; it reads as empty"]);
    assert_eq!((config.queue().0, config.max_retries(), config.concurrency()), ("jobs", 3, 10));
    let shown: Vec<String> =
        config.show().into_iter().map(|(name, value, origin)| format!("{name} = {value} ({origin})")).collect();
    assert!(shown.contains(&"server.port = 8080 (config.yaml:1:16)".to_owned()), "{shown:#?}");
    assert!(shown.contains(&"webhooks.secret = *** (environment WEBHOOK_SECRET)".to_owned()), "{shown:#?}");
    assert_eq!(
        folder.store(Env::default(), StoreFlags::default()),
        ("redis://localhost:6379".into(), "config.yaml:2:21".into())
    );
}

#[test]
fn the_store_is_the_first_found_in_order() {
    let project = "store: sqlite:project.db\ndatabase: {address: 'db:6379', password: 'p@ss', database: 2}\n";
    let folder = Folder::with(&[("goflow.yaml", project), ("user/goflow.yaml", "store: sqlite:user.db\n")]);
    let both = [("GOFLOW_STORE", "memory:"), ("DATABASE_ADDRESS", "env:6379"), ("DB_DSN", "postgres://h/db")];
    let none = StoreFlags::default();
    let flag = StoreFlags { store: Some("sqlite:flag.db"), ..none };
    let server = ("GOFLOW_SERVER", "https://jobs.example");
    let cases: [(Env, StoreFlags<'_>, &str, &str); 9] = [
        (
            [both[0], server].into(),
            StoreFlags { server: Some("http://here:1"), ..none },
            "http://here:1",
            "flag --server",
        ),
        ([both[0], server].into(), none, "https://jobs.example", "environment GOFLOW_SERVER"),
        (both.into(), flag, "sqlite:flag.db", "flag --store"),
        (both.into(), StoreFlags { redis: Some("r:1"), ..none }, "redis://:p%40ss@r:1/2", "flag --redis"),
        (both.into(), none, "memory:", "environment GOFLOW_STORE"),
        ([both[1], both[2]].into(), none, "redis://:p%40ss@env:6379/2", "environment DATABASE_ADDRESS"),
        ([("GOFLOW_REDIS", "redis://x:1/5")].into(), none, "redis://x:1/5", "environment GOFLOW_REDIS"),
        ([both[2]].into(), none, "postgres://h/db", "environment DB_DSN"),
        (Env::default(), none, "sqlite:project.db", "goflow.yaml:1:8"),
    ];
    for (env, flags, url, origin) in cases {
        assert_eq!(folder.store(env, flags), (url.into(), origin.into()));
    }
    let bare = Folder::with(&[]);
    assert_eq!(bare.store(Env::default(), none), ("sqlite:~/data/goflow.db".into(), "default".into()));
}

#[test]
fn the_project_file_hides_the_users_and_the_environment_hides_both() {
    let folder = Folder::with(&[
        ("goflow.yaml", "worker: {concurrency: 4}\nhandlers: {a: {run: [x, '${{ payload }}']}}\n"),
        ("config.yaml", "worker: {concurrency: 5}\n"),
        (
            "user/goflow.yaml",
            "worker: {concurrency: 6}\nqueue: {name: mine}\nhandlers: {a: {run: [y]}, b: {run: [z]}}\n",
        ),
    ]);
    let config = folder.load(Env::default()).expect("loads");
    assert_eq!((config.concurrency(), config.queue().0), (4, "mine"));
    let handlers: Vec<String> = config
        .handlers
        .iter()
        .map(|handler| format!("{} {} {}", handler.name, handler.fields, handler.origin))
        .collect();
    assert_eq!(handlers.len(), 2);
    assert_eq!(handlers[0], "a {\"run\":[\"x\",\"${{ payload }}\"]} goflow.yaml:2:12");
    let config = folder.load([("WORKER_CONCURRENCY", "7")].into()).expect("loads");
    assert_eq!(config.concurrency(), 7);
}

#[test]
fn mistakes_are_told_with_their_place() {
    let cases = [
        ("server:\n  port: 99999\n", "goflow.yaml:2:9: `server.port`: `99999` is out of range: 0 to 65535"),
        ("worker: {concurrency: many}\n", "goflow.yaml:1:23: `worker.concurrency`: `many` is not a whole number"),
        ("worker: 5\n", "goflow.yaml:1:9: `worker` is a mapping, not a whole number"),
        (
            "worker: {shutdown_timeout: 30}\n",
            "goflow.yaml:1:28: `worker.shutdown_timeout`: `30` has no unit: write `30s` for seconds, or ms, m, h, d",
        ),
        ("queue: {name: [a, b]}\n", "goflow.yaml:1:15: `queue.name` is a single value, not a list"),
        ("- a\n", "goflow.yaml:1:1: a configuration is a mapping, this is a list"),
    ];
    for (text, expected) in cases {
        let error = Folder::with(&[("goflow.yaml", text)]).load(Env::default()).expect_err(text);
        assert_eq!(error.to_string(), expected);
    }
    let error = Folder::with(&[]).load([("SERVER_PORT", "http")].into()).expect_err("a bad port");
    assert_eq!(error.to_string(), "the environment variable SERVER_PORT is wrong: `http` is not a whole number");
    let error = Folder::with(&[]).load([("GOFLOW_CONFIG", "gone.yaml")].into()).expect_err("no file");
    assert_eq!(error.to_string(), "the configuration gone.yaml cannot be read: no such file or directory");
}

#[test]
fn unknown_keys_warn_with_the_nearest_and_a_foreign_config_yaml_is_left_alone() {
    let folder = Folder::with(&[("goflow.yaml", "worker: {concurency: 5}\nzzz: 1\n")]);
    assert_eq!(
        folder.load(Env::default()).expect("loads").warnings,
        [
            "goflow.yaml:1:10: unknown key `worker.concurency`; did you mean `concurrency`?",
            "goflow.yaml:2:1: unknown key `zzz`"
        ]
    );
    let folder = Folder::with(&[("config.yaml", "apiVersion: v1\nfoo: 1\n")]);
    let config = folder.load(Env::default()).expect("loads");
    assert!(config.warnings.is_empty() && config.files.is_empty());
}

#[test]
fn a_variables_value_never_becomes_structure() {
    let folder = Folder::with(&[("goflow.yaml", "queue: {name: \"${Q}-${Q}-${9}-$Q\"}\n")]);
    let config = folder.load([("Q", "a\nworker: {concurrency: 1}")].into()).expect("loads");
    assert_eq!(config.queue().0, "a\nworker: {concurrency: 1}-a\nworker: {concurrency: 1}-${9}-$Q");
    assert_eq!(config.concurrency(), 10);
}
