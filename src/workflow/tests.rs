//! Manifests as a whole: every bad one with all that is told about it, and the good ones.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn folder(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Rewrites the expected texts instead of comparing them, when set: then read the difference.
const ACCEPT: &str = "GOFLOW_ACCEPT_FIXTURES";

#[test]
#[expect(clippy::disallowed_methods, reason = "whoever changes a message rewrites the expectations by it")]
fn every_bad_manifest_is_told_in_full() {
    let mut seen = 0;
    let mut wrong = Vec::new();
    for entry in fs::read_dir(folder("tests/fixtures/bad")).expect("the folder") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|kind| kind != "yaml") {
            continue;
        }
        seen += 1;
        let file = path.file_name().expect("a name").to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).expect("text");
        let told = match parse(&file, &text) {
            Ok(_) => panic!("{file} was taken"),
            Err(problems) => problems.render() + "\n",
        };
        let expected_at = path.with_extension("expected");
        if std::env::var_os(ACCEPT).is_some() {
            fs::write(&expected_at, &told).expect("written");
        }
        let expected = fs::read_to_string(&expected_at).unwrap_or_default();
        if told != expected {
            wrong.push(format!("{file}: told\n{told}\nexpected\n{expected}"));
        }
    }
    assert!(seen >= 55, "only {seen} fixtures");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The page for users shows nothing that would be refused, and leaves no verb and no key out.
#[test]
fn the_page_for_users_tells_the_whole_language() {
    let page = include_str!("../../docs/workflows.md");
    let mut shown = 0;
    for part in page.split("```yaml\n").skip(1) {
        let text = part.split("```").next().expect("a part");
        parse("docs/workflows.md", text).unwrap_or_else(|problems| panic!("{}", problems.render()));
        shown += 1;
    }
    assert_eq!(shown, 2);
    let keys = step_read::KEYS.iter().chain(workflow_read::KEYS).chain(workflow_read::INPUT_KEYS);
    let names = verb_read::VERBS.iter().chain(keys);
    let missing: Vec<_> =
        names.filter(|name| !["`", ": "].iter().any(|end| page.contains(&format!("{name}{end}")))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_good_manifest_reads_back_as_the_same_from_its_canonical_form() {
    let mut kinds = std::collections::BTreeSet::new();
    for entry in fs::read_dir(folder("tests/fixtures/good")).expect("the folder") {
        let path = entry.expect("an entry").path();
        let text = fs::read_to_string(&path).expect("text");
        let manifests =
            parse(&path.to_string_lossy(), &text).unwrap_or_else(|problems| panic!("{}", problems.render()));
        for manifest in manifests {
            kinds.insert(manifest.kind());
            let canonical = manifest.text();
            let again = Manifest::load(&canonical).unwrap_or_else(|problems| panic!("{problems}\n{canonical}"));
            assert_eq!(again.text(), canonical);
            let as_text = parse("canonical", &canonical).unwrap_or_else(|problems| panic!("{}", problems.render()));
            assert_eq!(as_text[0].text(), canonical);
            if let (Manifest::Workflow(one), Manifest::Workflow(other)) = (&manifest, &again) {
                assert_eq!(one.spec(), other.spec());
            }
        }
    }
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), manifest::Kind::ALL);
}

#[test]
fn what_may_not_have_been_meant_is_remarked_and_what_is_named_is_referred_to() {
    let text = "kind: Schedule\nname: s\ncron: '*/45 * * * *'\nworkflow: w\n---\n\
                name: x\nsteps: [{id: a, call: y}]\n";
    let parsed = parse_whole("t.yaml", text).expect("good");
    let remarks: Vec<String> = parsed.remarks.iter().map(ToString::to_string).collect();
    assert!(remarks.len() == 1 && remarks[0].starts_with("t.yaml:3:7: "), "{remarks:?}");
    let named: Vec<String> = parsed.references.iter().map(|one| format!("{} {}", one.name, one.missing)).collect();
    assert_eq!(named, ["w t.yaml:4:11: there is no workflow `w`", "y t.yaml:7:23: there is no workflow `y`"]);
}

#[test]
fn a_status_that_there_is_not_is_remarked_and_what_is_kept_with_it_is_read() {
    let text = "name: t\nsteps:\n  - {id: a, job: x, retry: {errors: ['http:9xx', 'exit:300', 'http:dns', 'exit:7x', 'http:5xx']}}\n";
    let remarks = parse_whole("t.yaml", text).expect("good").remarks;
    let remarks: Vec<String> = remarks.iter().map(ToString::to_string).collect();
    let both = remarks.iter().zip(["no error is of the class `http:9xx`", "no error is of the class `exit:300`"]);
    assert!(remarks.len() == 2 && both.clone().all(|(told, part)| told.contains(part)), "{remarks:?}");
    assert!(Definition::load(one(text).text()).is_ok());
}

fn one(text: &str) -> Definition {
    match parse("t.yaml", text).unwrap_or_else(|problems| panic!("{}", problems.render())).remove(0) {
        Manifest::Workflow(definition) => definition,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_definition_is_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<std::sync::Arc<Definition>>();
    shared::<HandlerDef>();
}

const RICH: &str = r#"
# A comment does not change what a workflow is.
name: rich
input:
  amount: {type: number, required: true}
  country: {type: string, default: NO}
  code: {type: string, default: 010}
timeout: 1d2h3m4s
defaults: {timeout: 30s, retry: {max: 4, initial: 2s}}
steps:
  - id: validate
    run: [./bin/validate, --amount, "${{ input.amount }}", 1.50, 010, NO, true, ~x]
    outputs: json
  - id: face-detect
    needs: [validate]
    if: input.amount > 3 and steps.validate.state == 'completed'
    job: echo
    with: {n: 1.0, s: "a ${{ input.amount }} b", l: ["${{ steps.validate.outputs.x }}", null]}
    retry: {max: 6, errors: [timeout, "http:5xx"]}
    queue: slow
    priority: -5
    continue_on_error: true
    compensate: {scope: attempted, job: echo, with: "${{ steps['face-detect'].outputs }}", retry: {max: 2}}
  - id: ship
    needs: [face-detect]
    env: {KEY: "${{ step.key }}", N: 1.50}
    run: ./ship "$KEY"
    outputs: [tracking]
    timeout: 250ms
outputs: {t: "${{ steps.ship.outputs.tracking }}", all: "${{ steps }}"}
"#;

#[test]
fn a_stored_definition_reloads_exactly() {
    let definition = one(RICH);
    let again = Definition::load(definition.text()).expect("loads");
    assert_eq!(again.hash(), definition.hash());
    assert_eq!(again.spec(), definition.spec());
    assert_eq!(again.text(), definition.text());
    // The canonical form is a manifest too.
    assert_eq!(one(definition.text()).hash(), definition.hash());
    assert_eq!(definition.hash().len(), 64);
    assert_eq!(definition.short_hash().len(), 16);
    assert!(Definition::load("{}").is_err());
    assert!(Definition::load("nonsense").is_err());
}

#[test]
fn the_hash_follows_the_content_alone() {
    let same = RICH.replace("# A comment", "# Another comment").replace("timeout: 1d2h3m4s", "timeout: \"1d2h3m4s\"");
    assert_eq!(one(&same).hash(), one(RICH).hash());
    for (from, to) in [("max: 4", "max: 5"), ("1.50, 010", "1.5, 010"), ("1d2h3m4s", "1d2h3m5s"), ("-5", "-6")] {
        assert_ne!(one(&RICH.replace(from, to)).hash(), one(RICH).hash(), "{from} → {to}");
    }
}

#[test]
fn scalars_are_kept_as_written_where_text_is_meant() {
    let text = one(RICH).text().to_owned();
    assert!(text.contains(r#""${{ input.amount }}","1.50","010","NO","true","~x""#), "{text}");
    assert!(text.contains(r#""default":"NO""#) && text.contains(r#""default":"010""#), "{text}");
    assert!(text.contains(r#""with":{"n":1.0,"#) && text.contains(r#""N":"1.50""#), "{text}");
}

#[test]
fn several_documents_and_kinds_are_read() {
    let text = "kind: Handler\nname: mail\nrun: [mail, \"${{ payload.to }}\"]\nretry: {max: 1}\n---\n\
                apiVersion: goflow/v1\nkind: Workflow\nname: w\nsteps: [{id: a, job: mail}]\n---\n# empty\n";
    let manifests = parse("t.yaml", text).expect("good");
    let names: Vec<_> = manifests.iter().map(|found| format!("{} {}", found.kind().as_str(), found.name())).collect();
    assert_eq!(names, ["Handler mail", "Workflow w"]);
    let Manifest::Handler(handler) = &manifests[0] else { panic!("a handler") };
    assert_eq!(handler.retry.as_ref().map(|retry| retry.max), Some(1));
    for manifest in &manifests {
        assert_eq!(Manifest::load(&manifest.text()).expect("good").text(), manifest.text());
    }
}

#[test]
fn example_workflows_are_good() {
    let mut seen = 0;
    let read = |name: &str| fs::read_dir(folder(name)).expect("the folder");
    for entry in read("workflows").chain(read("workflows/patterns")) {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|kind| kind != "yaml") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("text");
        if let Err(problems) = parse(&path.to_string_lossy(), &text) {
            panic!("{}", problems.render());
        }
        seen += 1;
    }
    assert!(seen >= 40);
}

#[test]
fn a_manifest_larger_than_a_mebibyte_is_refused() {
    let text = format!("name: x\nsteps: [{{id: a, job: echo, with: \"{}\"}}]\n", "x".repeat(1 << 20));
    let problems = parse("big.yaml", &text).expect_err("too large").to_string();
    assert_eq!(problems, "big.yaml: a file of 1.0 MiB is larger than 1.0 MiB");
}

#[test]
fn commands_reach_jobs_as_rendered_data() {
    let definition = one(RICH);
    let id = crate::domain::RunId::from_parts(crate::domain::Ms(5), crate::domain::Shard(7), 3);
    let input = crate::domain::Json::from_value(&json!({"amount": 12}));
    let started = start(&definition, id, input, crate::domain::Ms(9)).expect("starts");
    assert_eq!(started.timers, [("timeout".to_owned(), std::time::Duration::from_secs(93_784))]);
    let job = &started.jobs[0];
    assert_eq!((job.kind.as_str(), job.id.shard().0, job.id.created_at().0), (RUN_KIND, 7, 9));
    assert!(is_reserved(&job.kind));
    let command = Command::from_json(&job.payload.to_value()).expect("a command");
    let argv = ["./bin/validate", "--amount", "12", "1.50", "010", "NO", "true", "~x"];
    assert_eq!(command.program, Program::Argv(argv.map(str::to_owned).to_vec()));
    assert_eq!((command.outputs, job.timeout_ms, job.retry.max), (Some(Outputs::Json), Some(30_000), 4));
    assert_eq!(job.link.as_ref().map(|link| (link.run, link.step.as_str(), link.undo)), Some((id, "validate", false)));
}

proptest! {
    /// Whatever is done to a manifest, it is taken or refused with a place, and never worse.
    #[test]
    fn a_damaged_manifest_is_taken_or_refused(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..6usize, "[a-z:{}\\[\\]'\"$|&*!%#\n\t -]{0,4}"), 1..4),
    ) {
        let mut text: Vec<char> = RICH.chars().collect();
        for (at, cut, put) in edits {
            let at = at.index(text.len());
            let to = (at + cut).min(text.len());
            text.splice(at..to, put.chars());
        }
        let text: String = text.into_iter().collect();
        match parse("t.yaml", &text) {
            Ok(manifests) => for manifest in manifests {
                let again = Manifest::load(&manifest.text());
                prop_assert_eq!(again.map(|again| again.text()).ok(), Some(manifest.text()));
            },
            Err(problems) => {
                prop_assert!(!problems.0.is_empty());
                for problem in &problems.0 {
                    prop_assert!(problem.line > 0, "{} in\n{}", problem, text);
                }
                prop_assert!(!problems.render().is_empty());
            }
        }
    }
}
