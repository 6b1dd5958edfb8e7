//! Keeps data out of code: an expression must not reach a shell, or another interpreter, as part of
//! its script. Data goes by environment, standard input or as an argument after the script.

use super::expr::{Template, scan};
use super::read::Reader;
use super::yaml::Node;

/// Programs that take a script as the argument after an option, and the letters of that option.
const INTERPRETERS: &[(&str, &str)] = &[
    ("sh", "c"),
    ("ash", "c"),
    ("bash", "c"),
    ("dash", "c"),
    ("fish", "c"),
    ("ksh", "c"),
    ("mksh", "c"),
    ("zsh", "c"),
    ("busybox", "c"),
    ("python", "c"),
    ("pypy", "c"),
    ("node", "ep"),
    ("bun", "e"),
    ("perl", "eE"),
    ("ruby", "e"),
    ("lua", "e"),
    ("php", "r"),
];

/// A line for the shell holds no expression at all.
pub fn check_line(reader: &mut Reader<'_>, node: &Node, line: &str) {
    let mut from = 0;
    while let Some(open) = line[from..].find(scan::OPEN) {
        let rest = &line[from + open..];
        let whole = rest.find("}}").map_or(rest, |close| &rest[..close + 2]);
        let name = match scan::uses(whole[scan::OPEN.len()..].trim_end_matches("}}")).refs.first() {
            Some(found) => found.path.last().map_or("NAME".to_owned(), |last| variable(last)),
            None => "NAME".to_owned(),
        };
        let at = crate::workflow::expr::ExprError {
            message: "data in a shell line would be run as code".to_owned(),
            hint: Some(format!("put it in env: `env: {{{name}: \"{whole}\"}}`, and write \"${name}\" here")),
            at: 0,
        };
        reader.wrong_expr(node, whole, &at);
        from += open + whole.len();
    }
}

/// An environment variable's name for a name of an expression.
fn variable(name: &str) -> String {
    let name: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) { format!("_{name}") } else { name }
}

/// The program is written out, and so is the script of an interpreter.
pub fn check_argv(reader: &mut Reader<'_>, items: &[Node], argv: &[Template]) {
    let literal = |template: &Template| match template {
        Template::Literal(serde_json::Value::String(text)) => Some(text.clone()),
        _ => None,
    };
    let Some(program) = argv.first().and_then(literal) else {
        if let Some(node) = items.first() {
            let hint = "write the program out, and give it the data as an argument";
            reader.wrong_hint(node.place, "data would choose the program to run", hint);
        }
        return;
    };
    if program.is_empty() {
        reader.wrong(items[0].place, "the program of `run` is empty");
    }
    for (nth, _) in argv.iter().enumerate().filter(|(nth, item)| *nth > 0 && literal(item).is_none()) {
        // An interpreter may stand behind `env`, `nice` or `timeout`: whatever stands before counts.
        let script = (1..nth).any(|option| {
            let (Some(word), Some(before)) = (literal(&argv[option]), argv.get(..option)) else { return false };
            option + 1 == nth && before.iter().filter_map(literal).any(|program| takes_script(&program, &word))
        });
        if script {
            let hint = "put it in env:, or give it as an argument after the script";
            reader.wrong_hint(items[nth].place, "data in a script would be run as code", hint);
        }
    }
}

fn takes_script(program: &str, option: &str) -> bool {
    let base = program.rsplit('/').next().unwrap_or(program);
    let base = base.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    let Some((_, letters)) = INTERPRETERS.iter().find(|(name, _)| *name == base) else { return false };
    matches!(option, "--eval" | "--command" | "--print" | "--run")
        || option
            .strip_prefix('-')
            .is_some_and(|short| !short.starts_with('-') && short.chars().any(|letter| letters.contains(letter)))
}
