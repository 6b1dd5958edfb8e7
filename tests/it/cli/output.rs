//! The output contracts: formats, colours, help, closed pipes.

use std::io::Read;
use std::process::Stdio;

use super::TestEnvironment;
use super::contract::{is_group, tree};

#[test]
fn an_empty_list_is_an_empty_list_in_every_format() {
    let env = TestEnvironment::new();
    for (format, stdout) in
        [("json", "[]\n"), ("yaml", "[]\n"), ("jsonl", ""), ("name", ""), ("table", ""), ("wide", "")]
    {
        for command in ["job list", "dlq list", "queue list"] {
            let answer = env.run(&format!("{command} -o {format}")).ok();
            assert_eq!((answer.stdout.as_str(), answer.stderr.as_str()), (stdout, ""), "{command} -o {format}");
        }
    }
}

#[test]
fn a_pipe_gets_no_colour_unless_it_is_asked_for() {
    let mut env = TestEnvironment::new();
    env.run("enqueue noop").ok();
    let colours = |env: &TestEnvironment, line: &str| env.run(line).ok().stdout.contains('\u{1b}');
    assert!(!colours(&env, "job list"));
    assert!(colours(&env, "job list --color always"));
    env.set("CLICOLOR_FORCE", "1");
    assert!(colours(&env, "job list"));
    assert!(!colours(&env, "job list --color never"));
    assert!(!colours(&env, "job list -o json"));
    env.set("NO_COLOR", "1");
    assert!(!colours(&env, "job list"));
}

#[test]
fn goflow_alone_prints_short_help_and_fails() {
    let env = TestEnvironment::new();
    let alone = env.run("");
    assert_eq!((alone.status, alone.stdout.as_str()), (Some(2), ""));
    let asked = env.run("-h").ok();
    assert_eq!(asked.stdout, alone.stderr);
    // Each command is named in it, however many there are.
    for (path, command) in tree().iter().filter(|(path, _)| !path.contains(' ')) {
        let named = asked.stdout.split(|c: char| c.is_whitespace() || c == ',').any(|word| word == path);
        assert!(named || command.is_hide_set(), "{path} is not in\n{}", asked.stdout);
    }
}

#[test]
fn short_help_fits_a_screen_and_long_help_ends_with_examples() {
    let env = TestEnvironment::new();
    let mut seen = 0;
    let root = std::iter::once((String::new(), true));
    let commands = tree().into_iter().map(|(path, command)| (path, !is_group(&command)));
    for (command, acts) in root.chain(commands) {
        let short = env.run(&format!("{command} -h")).ok().stdout;
        assert!(short.lines().count() <= 24, "{command} -h has {} lines:\n{short}", short.lines().count());
        let long = env.run(&format!("{command} --help")).ok().stdout;
        if acts {
            assert!(long.contains("\nExamples:\n"), "{command} --help has no examples:\n{long}");
            assert!(long.contains("goflow "), "{command} --help");
        }
        seen += 1;
    }
    assert!(seen > 20, "{seen} commands were seen");
}

#[test]
fn a_closed_pipe_ends_a_command_quietly() {
    let env = TestEnvironment::new();
    env.feed("enqueue noop --text-lines", "x\n".repeat(3_000)).ok();
    let mut child = env.command(["job", "list", "-n", "0", "-o", "jsonl"]).spawn().expect("it starts");
    let mut stdout = child.stdout.take().expect("stdout");
    let mut some = [0u8; 10];
    stdout.read_exact(&mut some).expect("some output");
    drop(stdout);
    let mut stderr = String::new();
    child.stderr.take().expect("stderr").read_to_string(&mut stderr).expect("stderr");
    let status = child.wait().expect("it ends");
    assert_eq!((status.code(), stderr.as_str()), (Some(0), ""));
}

#[test]
fn a_full_disk_below_stdout_is_told() {
    let env = TestEnvironment::new();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
    let output = env.command(["explain", "GF0001"]).stdout(Stdio::from(full)).output().expect("it runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("the output could not be written: no space left on device [GF0025]"), "{stderr}");
}

#[test]
fn settings_are_shown_with_their_sources_and_without_secrets() {
    let mut env = TestEnvironment::new();
    env.file("goflow.yaml", "database: {address: 'db:6379', password: s3cret}\nwebhooks: {secret: \"${HOOK}\"}\n");
    env.set("WORKER_CONCURRENCY", "4").set("HOOK", "s3cret2");
    let answer = env.run("config show --origin").ok();
    assert!(!answer.stdout.contains("s3cret"), "{}", answer.stdout);
    insta::assert_snapshot!(answer.text(), @r"
    exit 0
    --- stdout
    KEY                      VALUE                 ORIGIN
    store                    redis://:***@db:6379  goflow.yaml:1:21
    database.address         db:6379               goflow.yaml:1:21
    database.password        ***                   goflow.yaml:1:42
    shards.strategy          hash                  default
    queue.name               default               default
    queue.max_retries        3                     default
    worker.concurrency       4                     environment WORKER_CONCURRENCY
    worker.shutdown_timeout  25s                   default
    worker.lease             15s                   default
    server.port              8080                  default
    server.bind              127.0.0.1             default
    webhooks.secret          ***                   goflow.yaml:2:20
    ");
}
