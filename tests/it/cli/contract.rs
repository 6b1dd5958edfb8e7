//! What every command must keep, checked over the whole tree of them: a command that is added has to
//! be given a row here, or this fails.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Arg, Command, CommandFactory};
use goflow::cli::args::Cli;
use serde_json::Value;

use super::TestEnvironment;

/// What a command prints with `-o json`.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Prints {
    /// An array; on an empty store an empty one.
    List,
    /// An object or an array.
    Value,
    /// Text of its own kind: a shell's, a manual's.
    Text,
    /// Nothing: there is no such thing, and that is told. What it does has tests of its own.
    Missing,
    /// Nothing, until it is stopped: it has tests of its own.
    Stays,
}

use Prints::{List, Missing, Stays, Text};

/// How to call a command so that it does something in the place that [`place`] prepares: its words, its
/// arguments, what it prints, and whether it asks the store at all.
const ROWS: &[(&str, &str, Prints, bool)] = &[
    ("apply", "hello.yaml", Prints::Value, true),
    ("bench http", "-n 10 -c 2", Prints::Value, true),
    ("bench jobs", "-n 10", Prints::Value, true),
    ("bench workflows", "-n 1", Prints::Value, true),
    ("completions", "bash", Text, false),
    ("config show", "", Prints::Value, false),
    ("delete", "workflow hello --dry-run", Prints::Value, true),
    ("diff", "hello.yaml", Prints::Value, true),
    ("dlq delete", "{dead} --dry-run", Prints::Value, true),
    ("dlq export", "", List, true),
    ("dlq list", "", List, true),
    ("dlq purge", "--dry-run", Prints::Value, true),
    ("dlq retry", "--all --dry-run", Prints::Value, true),
    ("dlq retry-all", "--dry-run", Prints::Value, true),
    ("dlq show", "{dead}", Prints::Value, true),
    ("doctor", "", Prints::Value, true),
    ("enqueue", "noop", Prints::Value, true),
    ("events", "", List, true),
    ("explain", "GF0001", Prints::Value, false),
    ("get", "workflows", List, true),
    ("job cancel", "{scheduled} --dry-run", Prints::Value, true),
    ("job delete", "{done} --dry-run", Prints::Value, true),
    ("job edit", "{scheduled}", Prints::Value, true),
    ("job enqueue", "noop", Prints::Value, true),
    ("job list", "", List, true),
    ("job logs", "{done}", Prints::Value, true),
    ("job retry", "{dead} --dry-run", Prints::Value, true),
    ("job show", "{done}", Prints::Value, true),
    ("job wait", "{done}", Prints::Value, true),
    ("lock break", "zzz", Missing, true),
    ("lock list", "", List, true),
    ("lock run", "door -- true", Stays, false),
    ("man", "", Text, false),
    ("queue list", "", List, true),
    ("queue pause", "mail", Prints::Value, true),
    ("queue purge", "mail --dry-run", Prints::Value, true),
    ("queue resume", "mail", Prints::Value, true),
    ("queue set", "mail --concurrency 3", Prints::Value, true),
    ("queue stats", "", List, true),
    ("run", "hello.yaml", Prints::Value, true),
    ("schedule list", "", List, true),
    ("schedule next", "@daily", Prints::Value, false),
    ("schedule pause", "nightly", Prints::Value, true),
    ("schedule resume", "nightly", Prints::Value, true),
    ("schedule trigger", "nightly", Prints::Value, true),
    ("scale", "--shards 1", Prints::Value, true),
    ("scale advise", "", Prints::Value, true),
    ("scheduler", "", Stays, true),
    ("semaphore break", "zzz", Missing, true),
    ("semaphore list", "", List, true),
    ("semaphore run", "door --limit 2 -- true", Stays, false),
    ("server", "", Stays, true),
    ("webhook list", "", List, true),
    ("webhook enable", "hook", Prints::Value, true),
    ("webhook disable", "hook", Prints::Value, true),
    ("token create", "ci --scope read", Prints::Value, true),
    ("token list", "", List, true),
    ("token revoke", "zzz", Missing, true),
    ("shard add", "sqlite:two.db", Prints::Value, true),
    // Whatever has no shards has nothing to drain or remove, and says so with 4: tests of their own.
    ("shard drain", "9", Stays, true),
    ("shard list", "", List, true),
    ("shard remove", "9", Stays, true),
    ("top", "--once", Text, true),
    ("up", "", Stays, true),
    ("validate", "hello.yaml", Prints::Value, false),
    ("workflow approve", "zzz", Missing, true),
    ("workflow cancel", "zzz", Missing, true),
    ("workflow graph", "hello.yaml", Text, false),
    ("workflow history", "{run}", Prints::Value, true),
    ("workflow list", "", List, true),
    ("workflow pause", "zzz", Missing, true),
    ("workflow reject", "zzz", Missing, true),
    ("workflow resume", "zzz", Missing, true),
    ("workflow retry", "zzz", Missing, true),
    ("workflow show", "{run}", Prints::Value, true),
    ("workflow signal", "zzz go", Missing, true),
    ("workflow simulate", "hello.yaml", Prints::Value, false),
    ("workflow start", "hello", Prints::Value, true),
    ("worker", "--until-empty", Prints::Value, true),
    ("worker drain", "--all", Prints::Value, true),
    ("worker list", "", List, true),
];

/// Commands that hold others and do nothing themselves.
pub fn is_group(command: &Command) -> bool {
    command.get_subcommands().next().is_some() && command.is_subcommand_required_set()
}

/// Every command with its words, groups too.
pub fn tree() -> Vec<(String, Command)> {
    fn collect(command: &Command, path: &str, all: &mut Vec<(String, Command)>) {
        for sub in command.get_subcommands() {
            let path = format!("{path} {}", sub.get_name()).trim().to_owned();
            collect(sub, &path, all);
            all.push((path, sub.clone()));
        }
    }
    let mut root = Cli::command();
    root.build();
    let mut all = Vec::new();
    collect(&root, "", &mut all);
    all
}

/// A store with a job in each state that rests, and a workflow file.
fn place() -> (TestEnvironment, BTreeMap<&'static str, String>) {
    let mut env = TestEnvironment::new();
    env.set("EDITOR", "sed -i s/:.0,/:1,/");
    env.file("hello.yaml", include_str!("../../../workflows/hello.yaml"));
    let id = |line: &[&str]| env.args(line).ok().line().to_owned();
    let dead = id(&["enqueue", "fail", "-d", "{\"retry\": false}"]);
    let done = id(&["enqueue", "noop", "-q", "mail"]);
    env.run("worker --until-empty").ok();
    let scheduled = id(&["enqueue", "noop", "--delay", "1h"]);
    env.file("nightly.yaml", "kind: Schedule\nname: nightly\ncron: '0 3 * * *'\njob: noop\n");
    env.file("hook.yaml", "kind: Webhook\nname: hook\njob: noop\n");
    env.run("apply hello.yaml nightly.yaml hook.yaml").ok();
    let run = id(&["workflow", "start", "hello"]);
    let ids = [("{dead}", dead), ("{done}", done), ("{scheduled}", scheduled), ("{run}", run)];
    (env, ids.into())
}

fn words(path: &str, args: &str, ids: &BTreeMap<&str, String>) -> Vec<String> {
    let fill = |word: &str| ids.get(word).cloned().unwrap_or_else(|| word.to_owned());
    path.split_whitespace().chain(args.split_whitespace()).map(fill).collect()
}

#[test]
fn every_command_has_its_row_here() {
    let rows: Vec<&str> = ROWS.iter().map(|(path, ..)| *path).collect();
    let commands: Vec<String> =
        tree().into_iter().filter(|(_, command)| !is_group(command)).map(|(path, _)| path).collect();
    for command in &commands {
        assert!(rows.contains(&command.as_str()), "`goflow {command}` has no row in ROWS: give it one");
    }
    for row in rows {
        assert!(commands.iter().any(|command| command == row), "`goflow {row}` is in ROWS and is no command");
    }
}

#[test]
fn every_command_prints_json_and_every_empty_list_is_one() {
    let empty = TestEnvironment::new();
    let mut wrong = Vec::new();
    for (path, args, prints, _) in ROWS.iter().filter(|row| row.2 != Stays) {
        let (env, ids) = place();
        let mut words = words(path, args, &ids);
        words.extend(["-o".to_owned(), "json".to_owned()]);
        let answer = env.args(&words);
        let value = serde_json::from_str::<Value>(&answer.stdout);
        let fits = match (prints, &value) {
            (Missing, _) => answer.stdout.is_empty() && answer.stderr.contains("\"GF0012\""),
            (Text, _) => !answer.stdout.is_empty(),
            (List, Ok(value)) => value.is_array(),
            (_, Ok(value)) => value.is_object() || value.is_array(),
            (_, Err(_)) => false,
        };
        // Talk beside JSON is JSON too, a line each.
        let talk_fits =
            *prints == Text || answer.stderr.lines().all(|line| serde_json::from_str::<Value>(line).is_ok());
        let exit = if *prints == Missing { 3 } else { 0 };
        if answer.status != Some(exit) || !fits || !talk_fits || answer.stdout.contains('\u{1b}') {
            wrong.push(format!("goflow {}\n{}", words.join(" "), answer.text()));
        }
        if *prints == List {
            let none = empty.args(&words);
            if (none.status, none.stdout.as_str(), none.stderr.as_str()) != (Some(0), "[]\n", "") {
                wrong.push(format!("empty: goflow {}\n{}", words.join(" "), none.text()));
            }
        }
    }
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_store_that_is_away_is_told_by_every_command_that_needs_one() {
    let (env, ids) = place();
    let mut wrong = Vec::new();
    for (path, args, _, needs_store) in ROWS {
        let mut words = words(path, args, &ids);
        words.extend(["--redis".to_owned(), "127.0.0.1:1".to_owned()]);
        let answer = env.args(&words);
        let told = answer.status == Some(5) && answer.stderr.contains("[GF0005]");
        if told != *needs_store || (!needs_store && answer.status != Some(0)) {
            wrong.push(format!("goflow {}\n{}", words.join(" "), answer.text()));
        }
    }
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

fn own_args(command: &Command) -> impl Iterator<Item = &Arg> {
    let global = [
        "help",
        "version",
        "store",
        "redis",
        "server",
        "token_file",
        "allow_eviction",
        "config",
        "output",
        "color",
        "log_format",
        "verbose",
    ];
    command.get_arguments().filter(move |arg| !global.contains(&arg.get_id().as_str()))
}

#[test]
fn every_command_and_every_flag_says_what_it_does() {
    let mut seen = 0;
    for (path, command) in tree() {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        assert!(!about.is_empty() && !about.ends_with('.'), "`goflow {path}`: {about:?}");
        for arg in command.get_arguments().filter(|arg| arg.get_id() != "version") {
            let (id, help) = (arg.get_id(), arg.get_help().map(ToString::to_string).unwrap_or_default());
            assert!(!help.is_empty(), "`goflow {path}`: {id} has no help");
            assert!(
                !help.ends_with('.') && help.starts_with(|c: char| !c.is_lowercase()),
                "`goflow {path}` {id}: {help}"
            );
            seen += 1;
        }
        for arg in own_args(&command).filter(|arg| arg.get_action().takes_values()) {
            let name = arg.get_value_names().unwrap_or_default().first().map(ToString::to_string).unwrap_or_default();
            assert!(
                !name.is_empty() && name == name.to_uppercase(),
                "`goflow {path}`: {} takes {name:?}",
                arg.get_id()
            );
        }
        let examples = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
        if !is_group(&command) {
            assert!(examples.contains("Examples:\n"), "`goflow {path}` has no examples");
            let own = if path == "job enqueue" { "enqueue" } else { &path };
            assert!(examples.contains(&format!("goflow {own}")), "`goflow {path}` has none of its own:\n{examples}");
        }
    }
    assert!(seen > 200, "only {seen} arguments were seen");
}

#[test]
fn a_flag_that_is_mistyped_is_told_with_the_nearest_one() {
    let env = TestEnvironment::new();
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for (path, command) in tree() {
        let answer = env.args(path.split_whitespace().chain(["--frobnicate"]));
        if answer.status != Some(2) || !answer.stderr.starts_with("error: ") || !answer.stderr.contains("[GF0001]") {
            wrong.push(format!("goflow {path} --frobnicate\n{}", answer.text()));
        }
        for long in own_args(&command).filter_map(Arg::get_long).filter(|long| long.len() > 5) {
            let mistyped = format!("--{}{}x", &long[..2], &long[3..]);
            let answer = env.args(path.split_whitespace().chain([mistyped.as_str()]));
            let near = format!("did you mean `--{long}`?");
            if answer.status != Some(2) || !answer.stderr.contains(&near) {
                wrong.push(format!("goflow {path} {mistyped} wants {near}\n{}", answer.text()));
            }
            seen += 1;
        }
    }
    assert!(seen > 20, "only {seen} flags were seen");
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
    for (path, command) in tree().iter().filter(|(_, command)| is_group(command)) {
        let sub = command.get_subcommands().find(|sub| sub.get_name().len() > 3).expect("a command").get_name();
        let answer = env.args(path.split_whitespace().chain([format!("{sub}x").as_str()]));
        assert!(
            answer.status == Some(2) && answer.stderr.contains(&format!("did you mean `{sub}`?")),
            "{}",
            answer.text()
        );
    }
}

#[test]
fn every_code_in_the_source_of_errors_can_be_explained() {
    let env = TestEnvironment::new();
    let pages = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/errors");
    let mut seen = 0;
    for entry in std::fs::read_dir(pages).expect("the pages") {
        let name = entry.expect("an entry").file_name().to_string_lossy().trim_end_matches(".md").to_owned();
        let told = env.run(&format!("explain {name}")).ok();
        assert!(told.stdout.starts_with(&format!("# {name}: ")), "{}", told.stdout);
        seen += 1;
    }
    assert_eq!(env.run("explain -o name").ok().stdout.lines().count(), seen);
}
