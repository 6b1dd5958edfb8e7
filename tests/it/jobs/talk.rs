//! What running jobs tell: their output is kept while they run, and the last of it too.

use std::time::Duration;

use super::*;

on_every_store! {
    what_a_job_prints_is_kept_while_it_runs
    the_last_words_are_kept_before_the_end
}

const LIMIT: Duration = Duration::from_secs(60);

fn log(site: &Site, job: &str) -> String {
    let job = id(job);
    let kept = beside(site, async |store| store.log(job, 0).await.expect("log"));
    kept.chunks.into_iter().map(|chunk| chunk.text).collect()
}

fn what_a_job_prints_is_kept_while_it_runs(site: &Site) {
    let job = site.env.run("enqueue talks").ok().line().to_owned();
    let _worker = site.start("worker", "worker");
    site.wait("its words are kept", LIMIT, || {
        let log = log(site, &job);
        log.contains("first\n") && log.contains("second \u{e9}\n")
    });
    assert_eq!(show(site, &job)["state"], "running");
}

fn the_last_words_are_kept_before_the_end(site: &Site) {
    let ids: Vec<String> =
        (0..5).map(|n| site.env.run(&format!("enqueue log -d {n}")).ok().line().to_owned()).collect();
    site.env.run("worker --until-empty").ok();
    for (n, job) in ids.iter().enumerate() {
        assert_eq!(log(site, job), format!("{n}\n"));
    }
}
