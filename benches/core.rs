//! What the parts cost by themselves, without a server or a disk: `cargo bench`. Whole systems are what
//! `goflow bench` measures.
#![expect(clippy::expect_used, reason = "a measurement that cannot begin has no answer")]

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use goflow::api::filter::Filter;
use goflow::domain::{Job, JobId, Json, Ms, Name, Place, Shard};
use goflow::store::{Stored, codec};
use goflow::tui::msg::{Code, Key, Msg};
use goflow::tui::once;
use goflow::tui::state::{About, Page, State};
use goflow::tui::theme::{Colours, Theme};
use goflow::tui::update::update;
use goflow::tui::views::View;
use goflow::workflow::{Definition, Manifest, Script, parse, simulate};

fn main() {
    divan::main();
}

const SAGA: &str = include_str!("../workflows/order-saga.yaml");

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

fn definition(text: &str) -> Definition {
    let manifests = parse("bench.yaml", text).expect("it is right");
    let workflow = manifests.into_iter().find_map(|manifest| match manifest {
        Manifest::Workflow(definition) => Some(definition),
        _ => None,
    });
    workflow.expect("a workflow")
}

fn job(nth: u64) -> Job {
    let payload = Json::string(&"x".repeat(198));
    Job::new(JobId::from_parts(Ms(1_000), Shard(0), nth), name("send_email"), name("default"), payload)
}

/// A manifest: its text read, its graph checked, its expressions compiled.
#[divan::bench]
fn manifest() -> usize {
    parse("order-saga.yaml", black_box(SAGA)).map_or(0, |manifests| manifests.len())
}

mod advance {
    use super::*;

    /// All of a run of so many steps one after the other; per step.
    #[divan::bench(args = [5, 50])]
    fn sequence(bencher: Bencher<'_, '_>, steps: usize) {
        let line = |nth: usize| match nth {
            0 => "  - {id: s0, job: noop}\n".to_owned(),
            nth => format!("  - {{id: s{nth}, job: noop, needs: [s{}]}}\n", nth - 1),
        };
        play(bencher, &format!("name: w\nsteps:\n{}", (0..steps).map(line).collect::<String>()), Json::null(), steps);
    }

    /// All of a run that goes over so many items; per item. It must not rise with their number.
    #[divan::bench(args = [10, 100, 1_000, 10_000])]
    fn foreach(bencher: Bencher<'_, '_>, items: usize) {
        let text = "name: w\ninput: {items: {type: array}}\nsteps:\n  - {id: each, foreach: {items: input.items, max_parallel: 100}, job: noop}\n";
        let list = serde_json::json!({"items": (0..items).collect::<Vec<_>>()}).to_string();
        play(bencher, text, Json::parse(&list, 1 << 24).expect("JSON"), items);
    }

    fn play(bencher: Bencher<'_, '_>, text: &str, input: Json, steps: usize) {
        let (definition, script) = (definition(text), Script::default());
        let run = || simulate(&definition, &[], input.clone(), &script, Ms(1_000)).expect("it runs");
        bencher.counter(ItemsCount::new(steps)).bench(run);
    }
}

mod record {
    use super::*;

    #[divan::bench]
    fn write_job(bencher: Bencher<'_, '_>) {
        let job = job(1);
        bencher.bench(|| codec::encode(black_box(&job)).expect("bytes"));
    }

    #[divan::bench]
    fn read_job(bencher: Bencher<'_, '_>) {
        let job = job(1);
        let bytes = codec::encode(&job).expect("bytes");
        bencher.bench(|| codec::read_job(job.id, black_box(&bytes)));
    }
}

/// A filter that must look into each record; per record.
#[divan::bench]
fn filter(bencher: Bencher<'_, '_>) {
    let jobs: Vec<Stored> = (0..1_000).map(|nth| Stored::idle(job(nth), Place::Dead, Ms(1_000))).collect();
    let filter = Filter::parse("state:dead type:send_* error~timeout !meta.customer:42").expect("a filter");
    let matching = || jobs.iter().filter(|job| filter.matches(job, Ms(60_000))).count();
    bencher.counter(ItemsCount::new(jobs.len())).bench(matching);
}

mod console {
    use super::*;

    const SIZES: [(u16, u16); 3] = [(80, 24), (120, 40), (200, 60)];

    /// The page of jobs, with a thousand of them in the store.
    fn jobs(size: (u16, u16)) -> State {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let library = goflow::Client::connect("memory:").await.expect("a store");
            let client = library.api();
            let mut producer = client.producer(Default::default());
            let jobs = (0..1_000).map(|_| goflow::store::NewJob::now(Job { id: client.job_id(), ..job(0) })).collect();
            producer.send(jobs).await.expect("they are taken");
            let about = About {
                store: "memory:".to_owned(),
                read_only: false,
                is_recording: false,
                sharded: false,
                user: "me".to_owned(),
            };
            let theme = Theme { colours: Colours::Own, unicode: true };
            let mut state = State::new(about, theme, size, client.clock().now());
            state.stack = vec![Page::new(View::Jobs)];
            once::once(state, client).await.expect("a page")
        })
    }

    /// From a key to the frame that shows what it did.
    #[divan::bench(args = SIZES)]
    fn key_to_frame(bencher: Bencher<'_, '_>, size: (u16, u16)) {
        let mut state = jobs(size);
        let keys = [Code::Down, Code::Up].map(|code| Msg::Key(Key { code, ctrl: false }));
        let mut turn = 0;
        bencher.bench_local(move || {
            turn += 1;
            let effects = update(&mut state, keys[turn % 2].clone());
            (effects, once::frame(&state))
        });
    }
}
