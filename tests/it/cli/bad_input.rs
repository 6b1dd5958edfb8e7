//! Bad input: one line that says what, where and how to mend it, the right exit code, nothing stored.

use super::TestEnvironment;

/// Arguments, exit code, code, and what the message must hold.
type Case = (&'static [&'static str], i32, &'static str, &'static [&'static str]);

const CASES: &[Case] = &[
    (&["enqeue", "x"], 2, "GF0001", &["`enqeue` is not a command", "did you mean `enqueue`?"]),
    (&["job", "lst"], 2, "GF0001", &["`lst` is not a command", "did you mean `list`?"]),
    (&["enqueue", "x", "--prioirty", "3"], 2, "GF0001", &["`--prioirty` is not known here", "`--priority`"]),
    (&["enqueue"], 2, "GF0001", &["<TYPE> is missing", "usage: goflow enqueue"]),
    (&["enqueue", "x", "-p", "101"], 2, "GF0001", &["--priority", "101 is not in -100 to 100"]),
    (&["enqueue", "x", "-p", "high"], 2, "GF0001", &["`high`"]),
    (&["enqueue", "-t", "x", "y"], 2, "GF0001", &["cannot be used with"]),
    (&["enqueue", "a/b"], 2, "GF0001", &["the name \"a/b\" holds '/'"]),
    (&["enqueue", "x", "-q", ".."], 2, "GF0001", &["the name \"..\" holds '.'"]),
    (&["enqueue", "goflow:run"], 2, "GF0023", &["the job type `goflow:run` is reserved"]),
    (&["enqueue", "x", "-d", "oops"], 2, "GF0010", &["not JSON", "column 1", "-d '\"hello\"'"]),
    (&["enqueue", "x", "-d", "{\"a\":1,}"], 2, "GF0010", &["line 1 column 8"]),
    (&["enqueue", "x", "-d", "@gone.json"], 2, "GF0015", &["gone.json cannot be read: no such file"]),
    (&["enqueue", "x", "-d", "@folder"], 2, "GF0015", &["folder cannot be read: is a directory"]),
    (&["enqueue", "x", "-d", "@large.json"], 2, "GF0011", &["large.json: the payload is larger than 1 MiB"]),
    (&["enqueue", "x", "-d", "@deep.json"], 2, "GF0011", &["nested more than 128 levels"]),
    (&["enqueue", "x", "-d", "@latin1.json"], 2, "GF0010", &["latin1.json is not UTF-8"]),
    (&["enqueue", "x", "--delay", "5"], 2, "GF0001", &["`5` has no unit: write `5s`"]),
    (&["enqueue", "x", "--delay", "-5s"], 2, "GF0001", &["`-5s` is negative"]),
    (&["enqueue", "x", "--timeout", "0s"], 2, "GF0001", &["`0s` leaves no time"]),
    (&["enqueue", "x", "--at", "2020-01-01T00:00:00Z"], 2, "GF0016", &["2020-01-01T00:00:00.000Z passed", "--delay"]),
    (&["enqueue", "x", "--at", "9999-12-31T23:59:59Z"], 2, "GF0016", &["beyond the times", "9999-12-30T22:00:00Z"]),
    (&["enqueue", "x", "--at", "2030-01-01T00:00:00"], 2, "GF0016", &["is not a time of RFC 3339", "+01:00"]),
    (&["enqueue", "x", "--delay", "5m", "--at", "2030-01-01T00:00:00Z"], 2, "GF0001", &["cannot be used with"]),
    (&["enqueue", "x", "--max-retries", "-1"], 2, "GF0001", &["-1"]),
    (&["enqueue", "x", "--meta", "novalue"], 2, "GF0001", &["`novalue` is not KEY=VALUE"]),
    (&["enqueue", "x", "--meta", "a=1", "--meta", "a=2"], 2, "GF0001", &["gives `a` twice"]),
    (&["enqueue", "x", "--unique", ""], 2, "GF0001", &["--unique"]),
    (&["enqueue", "x", "--lines", "-d", "1"], 2, "GF0001", &["cannot be used with"]),
    (
        &["job", "show", "0192f0c1-2b3c-7000-8a9b-0123456789ab"],
        3,
        "GF0012",
        &["no job has the id `0192f0c1", "goflow job list"],
    ),
    (&["job", "show", "zzz"], 3, "GF0012", &["no job has the id `zzz`"]),
    (&["job", "wait", "00"], 3, "GF0012", &["no job has the id `00`"]),
    (&["job", "list", "-s", "ded"], 2, "GF0017", &["`ded` is not a state: scheduled, pending"]),
    (&["job", "list", "--where", "stat:dead"], 2, "GF0017", &["did you mean `state:`?"]),
    (&["job", "list", "-n", "many"], 2, "GF0001", &["`many`"]),
    (&["job", "list", "-o", "xml"], 2, "GF0001", &["`xml`", "table, wide, json, jsonl, yaml, name"]),
    (&["queue", "stats", "nobody"], 3, "GF0012", &["no queue has the name `nobody`"]),
    (&["queue", "resume", "nobody"], 3, "GF0012", &["no queue has the name `nobody`"]),
    (
        &["job", "list", "--where", "age>1h error~\"x"],
        2,
        "GF0017",
        &["not closed", "  | age>1h error~\"x", "  |              ^^"],
    ),
    (&["events", "--where", "job:x"], 2, "GF0017", &["`x` is not a part of an id", "goflow explain GF0017"]),
    (&["events", "-n", "-1"], 2, "GF0001", &["-1"]),
    (&["worker", "list", "--where", "hst:a"], 2, "GF0017", &["did you mean `host:`?"]),
    (&["queue", "list", "--where", "paused:perhaps"], 2, "GF0017", &["`perhaps` is not a value of paused: yes, no"]),
    (&["queue", "pause", "nobody"], 3, "GF0012", &["no queue has the name `nobody`"]),
    (&["queue", "pause"], 2, "GF0001", &["nothing was named to pause", "--where"]),
    (&["schedule", "resume", "--where", " "], 2, "GF0001", &["an empty --where names every schedule", "--all"]),
    (&["workflow", "list", "--where", "stat:failed"], 2, "GF0017", &["did you mean `state:`?"]),
    (&["workflow", "start", "w", "-i", "{a}"], 2, "GF0010", &["the input is not JSON", "-i '{"]),
    (&["job", "cancel"], 2, "GF0001", &["nothing was named to cancel", "--where"]),
    (&["job", "cancel", "--where", " "], 2, "GF0001", &["an empty --where names every job", "--all"]),
    (&["job", "cancel", "zzz"], 3, "GF0012", &["no job has the id `zzz`"]),
    (&["job", "delete", "--all", "x"], 2, "GF0001", &["cannot be used with"]),
    (&["job", "edit", "zzz"], 3, "GF0012", &["no job has the id `zzz`"]),
    (&["job", "retry"], 2, "GF0001", &["nothing was named to retry", "--all"]),
    (&["queue", "purge", "nobody", "--yes"], 3, "GF0012", &["no queue has the name `nobody`"]),
    (&["queue", "set", "mail"], 2, "GF0001", &["nothing was named to set of mail", "--weight"]),
    (&["queue", "set", "mail", "--rate-limit", "5"], 2, "GF0001", &["`5` is not a rate", "100/s"]),
    (
        &["queue", "set", "mail", "--concurrency", "0"],
        2,
        "GF0001",
        &["`0` is not a whole number from 1 to", "nor none"],
    ),
    (&["queue", "set", "mail", "--weight", "1001"], 2, "GF0001", &["1 to 1000"]),
    (&["queue", "set", "mail", "--retention", "7"], 2, "GF0001", &["`7` has no unit"]),
    (&["worker", "drain"], 2, "GF0001", &["nothing was named to drain"]),
    (&["worker", "drain", "zzz"], 3, "GF0012", &["no worker has the id `zzz`", "goflow worker list"]),
    (&["worker", "drain", "--all", "--timeout", "5s"], 2, "GF0001", &["--wait"]),
    (&["job", "logs", "zzz"], 3, "GF0012", &["no job has the id `zzz`"]),
    (&["dlq", "show", "zzz"], 3, "GF0012", &["no job has the id `zzz`"]),
    (&["dlq", "delete"], 2, "GF0001", &["nothing was named to delete"]),
    (&["dlq", "retry", "--edit"], 2, "GF0001", &["is missing"]),
    (&["worker", "--log-format", "xml"], 2, "GF0001", &["`xml`", "text, json"]),
    (&["dlq", "retry"], 2, "GF0001", &["nothing was named to retry", "--all"]),
    (&["schedule", "next", "0 0 31 2 *"], 2, "GF0040", &["`0 0 31 2 *` never fires: February has at most 29 days"]),
    (&["schedule", "next", "* * * * * *"], 2, "GF0040", &["has 6 fields: a cron rule has five", "@every 30s"]),
    (&["schedule", "next", "61 * * * *"], 2, "GF0040", &["the minute field of `61 * * * *`: `61` is not from 0 to 59"]),
    (&["schedule", "next", "@every 5"], 2, "GF0040", &["`5` has no unit: write `5s`"]),
    (&["schedule", "next", "@dayly"], 2, "GF0040", &["did you mean @daily?"]),
    (
        &["schedule", "next", "@daily", "--timezone", "Europe/Berln"],
        2,
        "GF0040",
        &["`Europe/Berln` is not a time zone", "did you mean Europe/Berlin?"],
    ),
    (&["schedule", "next", "@daily", "--from", "2030-01-01"], 2, "GF0001", &["is not a time of RFC 3339", "+01:00"]),
    (&["schedule", "next", "@daily", "-n", "0"], 2, "GF0001", &["0 is not in 1 to 10000"]),
    (&["explain", "GF9999"], 3, "GF0012", &["`GF9999` is not an error code"]),
    (
        &["--store", "mysql://me:s3cret@h/db", "job", "list"],
        2,
        "GF0004",
        &["not a store URL", "mysql://me:***@h/db", "flag --store"],
    ),
    (&["--store", "redis://:s3cret@h:port", "job", "list"], 2, "GF0004", &["redis://:***@h:port", "HOST[:PORT]"]),
    (&["--store", "redis://a,mysql://u:s3cret@b", "job", "list"], 2, "GF0004", &["mysql://u:***@b", "not a store URL"]),
    (&["--store", "postgres://h:port/db", "job", "list"], 2, "GF0004", &["not a store URL", "port"]),
    (&["--redis", "127.0.0.1:1", "job", "list"], 5, "GF0005", &["the store is redis://127.0.0.1:1, from flag --redis"]),
    (&["--store", "sqlite:", "job", "list"], 2, "GF0004", &["the path is missing"]),
    (&["--store", "memory:", "--redis", "h:1", "job", "list"], 2, "GF0001", &["cannot be used with"]),
    (&["--config", "gone.yaml", "job", "list"], 2, "GF0002", &["gone.yaml cannot be read: no such file"]),
    (
        &["--config", "broken.yaml", "job", "list"],
        2,
        "GF0002",
        &["broken.yaml:2:9: `server.port`", "2 |   port: http", "^"],
    ),
    (&["--config", "tab.yaml", "job", "list"], 2, "GF0002", &["tab.yaml:2:1: a tab indents this line"]),
    (&["--config", "twice.yaml", "job", "list"], 2, "GF0002", &["twice.yaml:2:1: `store` stands here twice"]),
    (&["--config", "handler.yaml", "worker", "--until-empty"], 2, "GF0002", &["handler.yaml:1:12: handler `x`: "]),
    (&["apply", "gone.yaml"], 2, "GF0015", &["gone.yaml cannot be read"]),
    (&["apply", "folder"], 2, "GF0015", &["folder holds no .yaml file"]),
    (&["apply", "empty.yaml"], 2, "GF0021", &["empty.yaml"]),
    (&["apply", "cycle.yaml"], 2, "GF0021", &["a → b → a"]),
    (&["worker", "-q", "mail=0"], 2, "GF0001", &["the weight in `mail=0`"]),
    (&["worker", "--strict"], 2, "GF0001", &["--queue"]),
    (&["worker", "-c", "0"], 2, "GF0001", &["0 is not in 1 to 10000"]),
];

#[test]
fn each_mistake_is_told_in_a_line_with_its_cure_and_nothing_is_stored() {
    let env = TestEnvironment::new();
    std::fs::create_dir(env.path().join("folder")).expect("a folder");
    env.file("large.json", format!("\"{}\"", "x".repeat(1 << 20)));
    env.file("deep.json", "[".repeat(200) + &"]".repeat(200));
    env.file("latin1.json", b"\"\xe9\"");
    env.file("broken.yaml", "server:\n  port: http\n");
    env.file("tab.yaml", "server:\n\tport: 80\n");
    env.file("twice.yaml", "store: a\nstore: b\n");
    env.file("handler.yaml", "handlers: {x: {runs: [a]}}\n");
    env.file("empty.yaml", "");
    env.file("cycle.yaml", "name: c\nsteps:\n  - {id: a, run: [x], needs: [b]}\n  - {id: b, run: [x], needs: [a]}\n");
    let mut wrong = Vec::new();
    for (args, exit, code, parts) in CASES {
        let answer = env.args(*args);
        let first = answer.stderr.lines().next().unwrap_or_default();
        let is_told = first.starts_with("error: ") && first.ends_with(&format!("[{code}]"));
        let holds_all = parts.iter().all(|part| answer.stderr.contains(part));
        if answer.status != Some(*exit) || !is_told || !holds_all || !answer.stdout.is_empty() {
            wrong.push(format!("{args:?} wants {exit} {code} {parts:?}\n{}", answer.text()));
        }
        // The same as JSON: one object with the same code.
        let json = env.args(args.iter().copied().chain(["-o", "json"]));
        let object = json.stderr.lines().last().and_then(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let has_format = args.contains(&"-o");
        if !has_format && object.as_ref().map(|object| &object["error"]["code"]) != Some(&serde_json::json!(code)) {
            wrong.push(format!("{args:?} -o json\n{}", json.text()));
        }
    }
    assert!(wrong.is_empty(), "{} of {} are wrong:\n{}", wrong.len(), CASES.len(), wrong.join("\n"));
    assert_eq!(env.run("job list -o json").ok().line(), "[]");
}

#[test]
fn a_hostile_name_reaches_the_terminal_harmless() {
    let env = TestEnvironment::new();
    for args in [
        vec!["\u{1b}[31mevil\u{202e}"],
        vec!["enqueue", "\u{1b}]0;x\u{7}"],
        vec!["enqueue", "x", "-d", "\u{1b}[2J"],
        vec!["enqueue", "x", "--\u{1b}[2J"],
        vec!["job", "show", "\u{9b}31m"],
        vec!["job", "list", "--where", "\u{1b}:x"],
        vec!["--store", "\u{1b}://x", "job", "list"],
        vec!["enqueue", "x", "-d", "@\u{1b}[2J"],
        vec!["--config", "\u{1b}[2J", "job", "list"],
        vec!["explain", "\u{1b}[2J"],
    ] {
        let answer = env.args(&args);
        assert_ne!(answer.status, Some(0), "{args:?}");
        let harmless = |text: &str| text.chars().all(|c| c == '\n' || (!c.is_control() && c != '\u{202e}'));
        assert!(harmless(&answer.stderr) && harmless(&answer.stdout), "{args:?}: {:?}", answer.stderr);
        // A payload is not quoted at all; everything else is shown in its harmless form.
        assert!(args.contains(&"-d") || answer.stderr.contains("\\u{"), "{args:?}: {}", answer.stderr);
    }
}

#[test]
fn bad_environment_values_are_told_by_name() {
    for (name, value, code) in [
        ("WORKER_CONCURRENCY", "many", "GF0003"),
        ("SERVER_PORT", "99999", "GF0003"),
        ("GOFLOW_CONFIG", "gone.yaml", "GF0002"),
        ("GOFLOW_STORE", "nonsense", "GF0004"),
        ("DB_DSN", "s3cret", "GF0003"),
    ] {
        let mut env = TestEnvironment::new();
        let answer = env.set(name, value).run("job list");
        assert_eq!(answer.status, Some(2), "{name}: {}", answer.text());
        assert!(answer.stderr.contains(code), "{name}: {}", answer.stderr);
        assert!(answer.stderr.contains(name) || answer.stderr.contains(value), "{name}: {}", answer.stderr);
        assert!(!answer.stderr.contains("s3cret"), "{}", answer.stderr);
    }
}

#[test]
fn a_pipe_that_nobody_writes_to_is_refused_instead_of_waited_for() {
    let env = TestEnvironment::new();
    let made = std::process::Command::new("mkfifo").arg(env.path().join("pipe")).status().expect("mkfifo runs");
    assert!(made.success());
    for line in ["enqueue x -d @pipe", "run hello.yaml -i @pipe", "apply pipe", "run pipe", "--config pipe job list"] {
        env.file("hello.yaml", include_str!("../../../workflows/hello.yaml"));
        let answer = env.run(line);
        assert_eq!(answer.status, Some(2), "{line}: {}", answer.text());
        assert!(answer.stderr.contains("is a pipe, not a file"), "{line}: {}", answer.text());
    }
}

#[test]
fn of_an_endless_line_only_the_part_with_the_mistake_is_shown() {
    let env = TestEnvironment::new();
    env.file("goflow.yaml", format!("{}: [1, {{a: }}}}\n", "x".repeat(500_000)));
    let answer = env.run("job list");
    assert_eq!(answer.status, Some(2), "{}", answer.text());
    assert!(answer.stderr.len() < 1_000, "{} bytes", answer.stderr.len());
    let lines: Vec<&str> = answer.stderr.lines().collect();
    let mark = lines[3].find('^').expect("a mark");
    assert_eq!(lines[2].chars().nth(mark), Some(':'), "{}", answer.stderr);
}
