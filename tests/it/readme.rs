//! What the README promises, as a user would type it, on every store: the main job.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::cli::TestEnvironment;
use crate::servers::{postgres::Cluster, redis::Server};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// `find | goflow enqueue checksum --text-lines`, then a worker: what sha256sum itself prints.
fn the_main_job(url: Option<&str>) {
    let mut env = TestEnvironment::new();
    if let Some(url) = url {
        env.set("GOFLOW_STORE", url);
    }
    env.file("goflow.yaml", fs::read_to_string(root().join("goflow.yaml")).expect("the README's configuration"));
    let files: Vec<String> = ["src/domain", "src/engine", "workflows", "tests/it/store"]
        .iter()
        .flat_map(|folder| fs::read_dir(root().join(folder)).expect("a folder"))
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_file())
        .map(|path| path.display().to_string())
        .collect();
    // A name that a shell would trip over reaches sha256sum as it is.
    let hostile = env.file("$(id) 'quoted' -rf", "text").display().to_string();
    let lines: Vec<&String> = files.iter().chain([&hostile]).collect();
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let enqueued = env.feed("enqueue checksum --text-lines", text).ok();
    assert_eq!(enqueued.line(), format!("enqueued {} jobs", lines.len()));
    env.run("worker -c 10 --until-empty").ok();

    let jobs = env.run("job list -s completed -n 0 -o json").ok().json();
    let mut ours: Vec<String> =
        jobs.as_array().expect("a list").iter().map(|job| job["result"].as_str().expect("text").to_owned()).collect();
    let printed = Command::new("sha256sum").args(&lines).output().expect("sha256sum");
    let mut theirs: Vec<String> = String::from_utf8_lossy(&printed.stdout).lines().map(str::to_owned).collect();
    ours.sort();
    theirs.sort();
    assert_eq!(ours, theirs);
}

#[test]
fn the_main_job_runs_on_the_embedded_store() {
    the_main_job(None);
}

#[test]
fn the_main_job_runs_on_redis() {
    the_main_job(Some(&Server::start(&[]).url()));
}

#[test]
fn the_main_job_runs_on_postgres() {
    the_main_job(Some(&Cluster::start().url()));
}
