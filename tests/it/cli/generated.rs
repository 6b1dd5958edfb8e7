//! What is generated from the command line is committed, and is the same when it is made again.

use std::fs;
use std::path::Path;

use super::TestEnvironment;

const SHELLS: [(&str, &str); 5] = [
    ("bash", "goflow.bash"),
    ("zsh", "_goflow"),
    ("fish", "goflow.fish"),
    ("elvish", "goflow.elv"),
    ("powershell", "goflow.ps1"),
];

#[test]
fn completions_are_as_committed() {
    let env = TestEnvironment::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("completions");
    for (shell, file) in SHELLS {
        let made = env.run(&format!("completions {shell}")).ok().stdout;
        let committed = fs::read_to_string(folder.join(file)).unwrap_or_default();
        assert!(made == committed, "completions/{file} is old: goflow completions {shell} > completions/{file}");
    }
    assert_eq!(fs::read_dir(&folder).expect("the folder").count(), SHELLS.len());
}

#[test]
fn manual_pages_are_as_committed() {
    let env = TestEnvironment::new();
    env.run("man --dir made").ok();
    let read = |folder: &Path| -> Vec<(String, String)> {
        let mut pages: Vec<(String, String)> = fs::read_dir(folder)
            .expect("the folder")
            .map(|entry| entry.expect("an entry").path())
            .map(|path| {
                (
                    path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                    fs::read_to_string(&path).expect("a page"),
                )
            })
            .collect();
        pages.sort();
        pages
    };
    let (made, committed) = (read(&env.path().join("made")), read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("man")));
    let names = |pages: &[(String, String)]| pages.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&made), names(&committed), "make them again: goflow man --dir man");
    for ((name, made), (_, committed)) in made.iter().zip(&committed) {
        assert!(made == committed, "man/{name} is old: goflow man --dir man");
    }
    assert!(made.len() > 15);
}

#[test]
fn completion_knows_the_live_names_and_is_silent_without_a_store() {
    let mut env = TestEnvironment::new();
    env.run("enqueue noop -q mail").ok();
    env.set("COMPLETE", "bash").set("_CLAP_IFS", "\n").set("_CLAP_COMPLETE_INDEX", "4");
    let asked = env.run("-- goflow job list -q m").ok();
    assert_eq!(asked.line(), "mail");
    env.set("_CLAP_COMPLETE_INDEX", "1");
    assert_eq!(env.run("-- goflow worke").ok().line(), "worker");
    let other = TestEnvironment::new();
    let mut env = other;
    env.set("COMPLETE", "bash").set("_CLAP_IFS", "\n").set("_CLAP_COMPLETE_INDEX", "4");
    env.set("GOFLOW_STORE", "redis://127.0.0.1:1");
    let asked = env.run("-- goflow job list -q m");
    assert_eq!((asked.stdout.trim(), asked.stderr.as_str()), ("", ""), "{}", asked.text());
}
