//! Keeps data out of code: an expression must not reach a shell, or another interpreter, as part of
//! its script. Data goes by environment, standard input or as an argument after the script.

use super::expr::{Part, Template, scan};
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
    ("sed", "e"),
    ("su", "c"),
    ("psql", "c"),
    ("mysql", "e"),
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
    let words: Vec<Option<String>> = argv.iter().map(literal).collect();
    for nth in (1..argv.len()).filter(|nth| words[*nth].is_none()) {
        // `-c` and the script, or both in one argument: `--eval=…`.
        let joined = match &argv[nth] {
            Template::Text(parts) => match parts.first() {
                Some(Part::Text(text)) => is_script_option(&words[..nth], text.trim_end_matches('=')),
                _ => false,
            },
            _ => false,
        };
        let option = words[nth - 1].as_deref();
        if joined || option.is_some_and(|option| is_script_option(&words[..nth - 1], option)) {
            let hint = "put it in env:, or give it as an argument after the script";
            reader.wrong_hint(items[nth].place, "data in a script would be run as code", hint);
        }
    }
}

/// Whether `option`, behind these words, is an interpreter's own option that announces a script. The
/// interpreter may stand behind `env`, `nice` or `timeout`; behind its script options are the script's.
fn is_script_option(before: &[Option<String>], option: &str) -> bool {
    let is_option = |word: &Option<String>| word.as_ref().is_some_and(|word| word.starts_with('-'));
    let options = before.iter().rev().take_while(|word| is_option(word)).count();
    let program = before.len().checked_sub(options + 1).and_then(|at| before[at].as_deref());
    program.is_some_and(|program| takes_script(program, option))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_announce_a_script_are_known_where_they_stand() {
        let words = |line: &str| line.split(' ').map(|word| Some(word.to_owned())).collect::<Vec<_>>();
        for line in
            ["sh -c", "/bin/bash -e -c", "bash -lc", "env A=1 sh -c", "python3.11 -c", "node --eval", "perl -ne"]
        {
            let mut before = words(line);
            let option = before.pop().flatten().expect("an option");
            assert!(is_script_option(&before, &option), "{line}");
        }
        for line in ["bash ./deploy.sh -c", "grep -e", "sh -x", "tar -c", "sh --"] {
            let mut before = words(line);
            let option = before.pop().flatten().expect("an option");
            assert!(!is_script_option(&before, &option), "{line}");
        }
    }
}
