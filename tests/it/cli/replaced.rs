//! The spellings and the configuration of the system that goflow replaces, as they were typed there.

use serde_json::json;

use super::TestEnvironment;

const CONFIG: &str = r#"server: {port: 8080, cors: {allowed_origins: ["*"]}}
database: {address: "localhost:6379", password: "", database: 0}
queue: {name: jobs, max_retries: 3}
worker: {concurrency: 10}
llm: {provider: openai, api_key: "${OPENAI_API_KEY}"}
webhooks: {secret: "${WEBHOOK_SECRET}"}
"#;

#[test]
fn its_configuration_loads_unchanged() {
    let mut env = TestEnvironment::new();
    env.file("config.yaml", CONFIG);
    env.set("OPENAI_API_KEY", "sk-1").set("WEBHOOK_SECRET", "hush-hush");
    let shown = env.run("config show --origin -o json").ok();
    assert_eq!(shown.stderr, "");
    assert!(!shown.stdout.contains("sk-1") && !shown.stdout.contains("hush"), "{}", shown.stdout);
    let settings = shown.json();
    let value = |key: &str| {
        let found = settings.as_array().expect("a list").iter().find(|one| one["key"] == key);
        found.unwrap_or_else(|| panic!("{key} is not shown"))["value"].as_str().expect("text").to_owned()
    };
    assert_eq!(value("store"), "redis://localhost:6379");
    assert_eq!([value("queue.name"), value("queue.max_retries")], ["jobs", "3"]);
    assert_eq!([value("worker.concurrency"), value("server.port")], ["10", "8080"]);
    assert_eq!(value("server.cors.allowed_origins"), "*");
    assert_eq!([value("llm.provider"), value("llm.api_key"), value("webhooks.secret")], ["openai", "***", "***"]);
    // Found by its flag under any name; without its variables it loads too, and says so once each.
    let env = TestEnvironment::new();
    env.file("theirs.yml", CONFIG);
    let shown = env.run("--config theirs.yml config show -o json").ok();
    assert_eq!(shown.stderr.matches("OPENAI_API_KEY").count(), 1, "{}", shown.stderr);
    assert_eq!(shown.stderr.lines().count(), 2, "{}", shown.stderr);
}

#[test]
fn its_commands_work_as_typed() {
    let env = TestEnvironment::new();
    let typed = |args: &[&str]| env.args(args).ok();
    let id = typed(&["job", "enqueue", "-t", "send_email", "-d", "{\"to\":\"a@b.c\"}", "-p", "5"]).line().to_owned();
    let listed = typed(&["job", "list", "-s", "pending", "-n", "10"]);
    assert!(listed.stdout.contains("send_email"), "{}", listed.stdout);
    assert!(typed(&["job", "status", &id]).stdout.contains("send_email"));
    typed(&["queue", "stats"]);
    typed(&["job", "cancel", &id]);
    assert_eq!(typed(&["job", "retry", &id]).line(), "retried 1 job");
    typed(&["job", "cancel", &id]);
    let fail = json!({"message": "no", "retry": false}).to_string();
    let dead = typed(&["job", "enqueue", "-t", "fail", "-d", &fail]).line().to_owned();
    typed(&["-v", "worker", "-c", "5", "-q", "default", "--until-empty"]);
    assert!(typed(&["dlq", "list"]).stdout.contains(&dead));
    assert_eq!(typed(&["dlq", "retry", &dead]).line(), "retried 1 job");
    typed(&["worker", "-c", "5", "-q", "default", "--until-empty"]);
    assert_eq!(typed(&["dlq", "retry-all", "--yes"]).line(), "retried 1 job");
    typed(&["worker", "-c", "5", "--until-empty"]);
    assert_eq!(typed(&["dlq", "purge", "--yes"]).line(), "deleted 1 job");
    let events = typed(&["events", "-j", "-n", "3"]);
    assert_eq!(events.stdout.lines().count(), 3, "{}", events.stdout);
}

#[test]
fn their_names_for_states_are_understood() {
    let env = TestEnvironment::new();
    env.run("enqueue noop").ok();
    env.run("enqueue noop --delay 1h").ok();
    for (state, n) in [("waiting", 1), ("queued", 1), ("delayed", 1), ("failed", 0), ("waiting,delayed", 2)] {
        for args in [vec!["-s".to_owned(), state.to_owned()], vec!["--where".to_owned(), format!("state:{state}")]] {
            let listed = env.args([&["job".to_owned(), "list".into(), "-o".into(), "name".into()][..], &args].concat());
            assert_eq!(listed.ok().stdout.lines().count(), n, "{args:?}");
        }
    }
}
