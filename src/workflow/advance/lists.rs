//! `foreach`: order, limits, failures, undoing, and that an item costs the same however many there are.

use super::tests::{Bench, done};
use super::*;
use crate::domain::run::{RunState, StepState};

fn list(items: &str, more: &str) -> Bench {
    let text = format!(
        "
name: t
steps:
  - id: each
    foreach: {{items: {items}, max_parallel: 2{more}}}
    job: echo
    with: \"${{{{ item }}}} ${{{{ loop.index }}}} ${{{{ loop.key }}}}\"
    retry: {{max: 0}}
    compensate: {{job: echo, with: \"${{{{ item }}}} ${{{{ steps.each.outputs }}}}\"}}
  - {{id: after, needs: [each], job: echo, with: \"${{{{ steps.each.outputs }}}}\"}}
"
    );
    Bench::start(&text, "null")
}

#[test]
fn items_are_done_few_at_a_time_and_their_order_is_kept() {
    let mut bench = list("[10, 20, 30]", "");
    assert_eq!(bench.open(), "each[0] each[1]");
    assert_eq!(bench.jobs[1].payload.as_str(), "\"20 1 1\"");
    bench.completes("each[1]", "\"b\"");
    assert_eq!(bench.open(), "each[0] each[2]");
    bench.completes("each[2]", "null").completes("each[0]", "\"a\"");
    assert_eq!((bench.open().as_str(), bench.jobs[3].payload.as_str()), ("after", "[\"a\",\"b\",null]"));
    bench.completes("after", "null");
    bench.check_history();
    assert_eq!(bench.states(), "completed each:completed after:completed");
}

#[test]
fn a_map_gives_an_object_and_keys_tell_items_apart() {
    let mut bench = list("\"{'x': {'n': 1}, 'y': {'n': 2}}\"", "");
    assert_eq!(bench.jobs[0].payload.as_str(), "\"{\\\"key\\\":\\\"x\\\",\\\"value\\\":{\\\"n\\\":1}} 0 x\"");
    bench.completes("each[1]", "2").completes("each[0]", "1");
    assert_eq!(bench.jobs[2].payload.as_str(), "{\"x\":1,\"y\":2}");
    let keyed = list("[{n: a}, {n: b}]", ", key: item.n");
    assert!(keyed.jobs[1].payload.as_str().ends_with(" 1 b\""), "{:?}", keyed.jobs);
    let mut empty = list("[]", "");
    assert_eq!((empty.open().as_str(), empty.jobs[0].payload.as_str()), ("after", "[]"));
    empty.completes("after", "null");
    empty.check_history();
}

#[test]
fn the_first_failure_ends_the_list_and_its_items_are_undone_last_first() {
    let mut bench = list("[10, 20, 30, 40]", "");
    bench.completes("each[1]", "\"b\"").completes("each[0]", "\"a\"");
    assert_eq!(bench.open(), "each[2] each[3]");
    bench.fails("each[2]");
    // What runs is waited for; nothing is undone before.
    assert_eq!((bench.open().as_str(), bench.run().state), ("each[3]", RunState::Running));
    bench.completes("each[3]", "\"d\"");
    let error = bench.run().error.expect("why").message;
    assert_eq!(error, "step `each` failed: item 2 failed: it broke");
    for (step, payload) in [("each[3]", "\"40 d\""), ("each[0]", "\"10 a\""), ("each[1]", "\"20 b\"")] {
        assert_eq!(bench.open(), format!("-{step}"));
        assert_eq!(bench.jobs[bench.jobs.len() - 1].payload.as_str(), payload);
        bench.undone(step, done());
    }
    assert_eq!(bench.states(), "compensated each:compensated after:cancelled");
    bench.check_history();
}

#[test]
fn a_list_that_continues_gives_null_for_what_failed() {
    let mut bench = list("[1, 2, 3]", ", on_error: continue");
    bench.fails("each[0]").completes("each[1]", "\"b\"").fails("each[2]");
    assert_eq!((bench.open().as_str(), bench.jobs[3].payload.as_str()), ("after", "[null,\"b\",null]"));
    bench.completes("after", "null");
    bench.check_history();
}

#[test]
fn a_quorum_ends_the_list_early() {
    let mut any = list("[1, 2, 3, 4]", ", wait: 2");
    any.fails("each[0]").completes("each[1]", "\"b\"").completes("each[2]", "\"c\"");
    // The step is over; what runs is asked to stop, and the run waits for it before it ends.
    assert_eq!(any.state_of("each"), StepState::Completed);
    assert_eq!((any.open().as_str(), any.cancelled.len()), ("each[3] after", 1));
    let told = any.run().step("each").and_then(|step| step.error.clone()).expect("what failed");
    assert_eq!(told.to_string(), "foreach: 1 of 4 items failed: each[0]");
    any.completes("after", "null");
    assert_eq!(any.run().state, RunState::Running);
    any.stops("each[3]");
    assert_eq!(any.states(), "completed each:completed after:completed");
    any.check_history();
    let mut lost = list("[1, 2, 3]", ", wait: 2");
    lost.fails("each[0]").fails("each[1]");
    assert_eq!(lost.open(), "each[2]");
    lost.completes("each[2]", "1");
    assert_eq!(lost.run().error.expect("why").class, "foreach");
}

#[test]
fn a_list_that_went_on_says_which_items_failed() {
    let text = "
name: t
steps:
  - id: each
    foreach: {items: \"range(8)\", max_parallel: 8, on_error: continue}
    job: echo
    retry: {max: 0}
  - {id: mend, needs: [each], if: \"steps.each.error != none\", job: echo, with: \"${{ steps.each.error.message }}\"}
";
    let mut bench = Bench::start(text, "null");
    for nth in 0..8 {
        match nth {
            2 | 5 => bench.completes(&format!("each[{nth}]"), "1"),
            _ => bench.fails(&format!("each[{nth}]")),
        };
    }
    let told = "6 of 8 items failed: each[0], each[1], each[3], each[4], each[6] and 1 more";
    assert_eq!((bench.open().as_str(), bench.jobs[8].payload.as_str()), ("mend", &*format!("\"{told}\"")));
    bench.completes("mend", "null");
    assert_eq!(bench.states(), "completed each:completed mend:completed");
    assert_eq!(bench.run().error, None);
    bench.check_history();
    let mut well = Bench::start(text, "null");
    for nth in 0..8 {
        well.completes(&format!("each[{nth}]"), "1");
    }
    assert_eq!(well.states(), "completed each:completed mend:skipped");
}

#[test]
fn items_may_be_groups_with_lists_inside() {
    let text = "
name: t
steps:
  - id: outer
    foreach: {items: \"[[1, 2], [3]]\", as: row}
    steps:
      - {id: first, job: echo, with: \"${{ row }}\"}
      - id: inner
        needs: [first]
        foreach: {items: row, as: cell}
        job: echo
        with: {cell: \"${{ cell }}\", row: \"${{ row }}\", first: \"${{ steps.first.outputs }}\"}
        compensate: {job: echo, with: \"${{ cell }}\"}
  - {id: bad, needs: [outer], job: noop}
";
    let mut bench = Bench::start(text, "null");
    bench.completes("outer[0]/first", "\"f\"");
    assert_eq!(bench.open(), "outer[1]/first outer[0]/inner[0] outer[0]/inner[1]");
    assert_eq!(bench.jobs[3].payload.as_str(), "{\"cell\":2,\"row\":[1,2],\"first\":\"f\"}");
    bench.completes("outer[0]/inner[1]", "2").completes("outer[1]/first", "1").completes("outer[1]/inner[0]", "3");
    bench.completes("outer[0]/inner[0]", "1");
    let gave = serde_json::json!([{"first": "f", "inner": [1, 2]}, {"first": 1, "inner": [3]}]);
    assert_eq!(bench.output_of("outer"), gave);
    bench.fails("bad");
    for step in ["outer[0]/inner[0]", "outer[1]/inner[0]", "outer[0]/inner[1]"] {
        assert_eq!(bench.open(), format!("-{step}"));
        bench.undone(step, done());
    }
    assert_eq!(bench.states(), "compensated outer:compensated bad:failed");
    bench.check_history();
}

/// 10,000 items with outputs and undos: the header stays small, and so does what each advance loads.
#[test]
fn an_item_costs_the_same_at_the_end_of_a_long_list() {
    let text = "
name: t
input: {items: {type: array, required: true}}
steps:
  - id: each
    foreach: {items: input.items, max_parallel: 100}
    job: echo
    with: \"${{ item }}\"
    compensate: {job: echo, with: \"${{ item }}\"}
  - {id: after, needs: [each], job: echo, with: \"${{ steps.each.outputs | length }}\"}
";
    let items: Vec<String> = (0..10_000).map(|n| format!("\"item-{n}\"")).collect();
    let mut bench = Bench::start(text, &format!("{{\"items\": [{}]}}", items.join(",")));
    let mut sizes = Vec::new();
    for round in 0..200 {
        // Not in order, and half of them with an output.
        let mut open: Vec<String> = bench.open.iter().map(|(step, _)| step.clone()).collect();
        open.sort_by_key(|step| step.len() * 7 + step.bytes().map(usize::from).sum::<usize>() % 13);
        let facts: Vec<Fact> = open
            .iter()
            .take(50)
            .enumerate()
            .map(|(nth, step)| {
                let output = (nth % 2 == 0).then(|| Json::string(step));
                bench.fact(step, false, What::Completed { output })
            })
            .collect();
        assert_eq!(facts.len(), 50, "round {round}");
        bench.take(&facts);
        sizes.push(bench.header.len());
    }
    assert_eq!((bench.open().as_str(), bench.jobs[10_000].payload.as_str()), ("after", "10000"));
    assert!(bench.largest < 64 << 10, "the header took {} bytes", bench.largest);
    assert!(sizes[190] < sizes[10] * 2 + 4_096, "{} at the end, {} at the start", sizes[190], sizes[10]);
    let last = bench.output_of("each");
    assert_eq!(last.as_array().map(Vec::len), Some(10_000));
    // And all of it is undone, the last first.
    bench.fails("after");
    let mut undone = 0;
    while let Some((step, true)) = bench.open.first().cloned() {
        bench.undone(&step, done());
        undone += 1;
    }
    assert_eq!((undone, bench.run().state), (10_000, RunState::Compensated));
}

#[test]
fn items_that_are_done_at_once_do_not_fill_one_commit() {
    let text = "
name: t
input: {items: {type: array, required: true}}
steps:
  - {id: each, foreach: {items: input.items}, set: {n: \"${{ item }}\"}}
outputs: {n: \"${{ steps.each.outputs | length }}\"}
";
    let items: Vec<String> = (0..2_500).map(|n| n.to_string()).collect();
    let mut bench = Bench::start(text, &format!("{{\"items\": [{}]}}", items.join(",")));
    let mut fired = 0;
    while bench.run().state == RunState::Running {
        bench.fires("more");
        fired += 1;
    }
    assert_eq!((fired, bench.run().state), (2, RunState::Completed));
    assert_eq!(bench.run().output, Some(Slot::Inline(Json::parse("{\"n\":2500}", 99).expect("JSON"))));
}
