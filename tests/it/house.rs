//! The rules of the house, kept by a test: layers, forgotten test files, files that grew too long.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Lower layers first. A module uses lower layers only, never a neighbour on its own.
const LAYERS: &[&[&str]] = &[
    &["domain"],
    &["sys", "workflow"],
    &["exec", "store"],
    &["runs"],
    &["api", "engine"],
    &["server", "library"],
    &["tui"],
    &["cli"],
];

/// Longest file, in lines. Beyond it a file is split by subject.
const LONGEST: usize = 620;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// The layer module a source file belongs to; none for main.rs and lib.rs.
fn module_of(file: &Path) -> Option<String> {
    let inside = file.strip_prefix(root().join("src")).ok()?;
    let first = inside.components().next()?.as_os_str().to_str()?.to_owned();
    (!matches!(&*first, "main.rs" | "lib.rs")).then(|| first.trim_end_matches(".rs").to_owned())
}

/// Names of goflow's own modules that a line of code reaches by `crate::…` or, in the binary, `goflow::…`.
fn reached(line: &str) -> Vec<String> {
    let code = line.split("//").next().unwrap_or(line);
    let mut found = Vec::new();
    for prefix in ["crate::", "goflow::"] {
        for (at, _) in code.match_indices(prefix) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '"') {
                continue;
            }
            let rest = &code[at + prefix.len()..];
            let names = match rest.strip_prefix('{') {
                Some(list) => list.split(['}', ';']).next().unwrap_or(list).split(',').collect(),
                None => vec![rest],
            };
            for name in names {
                let name: String = name.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                found.push(name);
            }
        }
    }
    found
}

#[test]
fn modules_use_lower_layers_only() {
    let level: BTreeMap<&str, usize> = LAYERS
        .iter()
        .enumerate()
        .flat_map(|(level, modules)| modules.iter().map(move |module| (*module, level)))
        .collect();
    let mut wrong = Vec::new();
    let mut looked = 0;
    for file in rust_files(&root().join("src")) {
        let Some(module) = module_of(&file) else { continue };
        let own = *level.get(&*module).unwrap_or_else(|| panic!("{module} has no layer: give it one"));
        let text = fs::read_to_string(&file).expect("a readable file");
        for (number, line) in text.lines().enumerate() {
            for name in reached(line) {
                let Some(other) = level.get(&*name) else { continue };
                looked += 1;
                if *other > own || (*other == own && name != module) {
                    wrong.push(format!("{}:{}: {module} reaches {name}", file.display(), number + 1));
                }
            }
        }
    }
    assert!(looked > 100, "the test looked at {looked} uses only: it no longer sees the code");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_kept_in_one_place_stays_there() {
    let rules: &[(&str, &[&str])] = &[
        ("rusqlite::", &["store"]),
        ("tokio_postgres::", &["store"]),
        ("redis::", &["store"]),
        ("std::process::Command", &["exec", "sys"]),
        ("tokio::process", &["exec", "sys"]),
        ("println!", &["cli"]),
        ("eprintln!", &["cli"]),
        ("SystemTime::now", &["sys"]),
        ("env::var", &["sys"]),
        ("todo!(", &[]),
        ("unimplemented!(", &[]),
    ];
    let mut wrong = Vec::new();
    for file in rust_files(&root().join("src")) {
        let Some(module) = module_of(&file) else { continue };
        let text = fs::read_to_string(&file).expect("a readable file");
        // What a file tests itself with is its own business.
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(&text);
        let is_test = file.components().any(|part| part.as_os_str().to_string_lossy().starts_with("tests"));
        for (number, line) in code.lines().enumerate().filter(|_| !is_test) {
            let line = line.split("//").next().unwrap_or(line);
            for (word, homes) in rules {
                if line.contains(word) && !homes.contains(&&*module) && !line.contains(&format!("::{word}")) {
                    wrong.push(format!("{}:{}: {word} outside of {homes:?}", file.display(), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_file_grows_too_long_and_each_says_what_it_is_for() {
    let mut wrong = Vec::new();
    for file in rust_files(&root().join("src")).into_iter().chain(rust_files(&root().join("tests"))) {
        let text = fs::read_to_string(&file).expect("a readable file");
        let lines = text.lines().count();
        if lines > LONGEST {
            wrong.push(format!("{}: {lines} lines", file.display()));
        }
        if !text.starts_with("//!") {
            wrong.push(format!("{}: does not open with what it is for", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_test_file_is_forgotten() {
    let folder = root().join("tests/it");
    for file in rust_files(&folder) {
        let inside = file.strip_prefix(&folder).expect("a file of the folder");
        let stem = inside.file_stem().and_then(|stem| stem.to_str()).expect("a name");
        let (parent, module) = match (inside.parent().filter(|parent| parent.parent().is_some()), stem) {
            (_, "main") => continue,
            (Some(parent), "mod") => {
                let above = parent.parent().map(|above| folder.join(above)).unwrap_or(folder.clone());
                (above, parent.file_name().and_then(|name| name.to_str()).expect("a name"))
            }
            (Some(parent), stem) => (folder.join(parent), stem),
            (None, stem) => (folder.clone(), stem),
        };
        let declaring = if parent == folder { folder.join("main.rs") } else { parent.join("mod.rs") };
        let text = fs::read_to_string(&declaring).unwrap_or_default();
        let declared = text.lines().any(|line| line.trim_end_matches(';').ends_with(&format!("mod {module}")));
        assert!(declared, "{} does not declare {module}", declaring.display());
    }
}
