//! What templates give, and what they refuse.

use serde_json::json;

use super::*;

fn scope() -> Scope {
    let input = json!({
        "amount": 120, "price": 1.0, "items": [{"sku": "a"}, {"sku": "b"}], "yes": true, "nothing": null,
        "hostile": "${{ input.amount }} {{ 7*7 }} $(id)", "order_id": "o-1",
    });
    let steps = json!({"face-detect": {"outputs": {"n": 3}, "state": "completed"}, "gone": {"outputs": null}});
    Scope::new(vec![("input", input), ("steps", steps)])
}

fn render(template: Json) -> Result<Json, ExprError> {
    Template::parse(&template)?.render(&scope())
}

fn error(template: &str) -> String {
    match render(json!(template)) {
        Ok(value) => panic!("`{template}` gave {value}"),
        Err(error) => error.with_hint(),
    }
}

#[test]
fn a_whole_scalar_keeps_its_type_and_text_is_json() {
    let cases = [
        (json!("${{ input.amount }}"), json!(120)),
        (json!("${{ input.price }}"), json!(1.0)),
        (json!("${{ input.yes }}"), json!(true)),
        (json!("${{ input.nothing }}"), json!(null)),
        (json!("${{ input.items }}"), json!([{"sku": "a"}, {"sku": "b"}])),
        (json!("${{ input.yes }} ${{ input.nothing }} ${{ input.price }}"), json!("true null 1.0")),
        (json!("i=${{ input.items }}"), json!("i=[{\"sku\":\"a\"},{\"sku\":\"b\"}]")),
        (json!({"k": ["${{ input.amount + 1 }}", 2]}), json!({"k": [121, 2]})),
        (json!("${{ input.items | map(attribute='sku') | join(',') }}"), json!("a,b")),
        (json!("${{ [true, none, 1.0] | join(' ') }}"), json!("true null 1.0")),
        (json!("${{ input.yes | string }}"), json!("true")),
        (json!("${{ input.nothing | lower }} ${{ input.yes | upper }}"), json!("null TRUE")),
        (json!("${{ input.yes | replace('t', input.nothing) }}"), json!("nullrue")),
        (json!("${{ ' a b ' | trim | split(' ') }}"), json!(["a", "b"])),
        (json!("${{ {'a': input.yes, '<': 1} | tojson }}"), json!("{\"a\":true,\"<\":1}")),
        (json!("${{ steps['face-detect'].outputs.n }}"), json!(3)),
        (json!("${{ input.typo | default('x') }}"), json!("x")),
        (json!("${{ input.typo is defined and input.typo > 1 }}"), json!(false)),
        (json!("${{ 'gone' in steps }}"), json!(true)),
        (json!("plain {{ x }} $"), json!("plain {{ x }} $")),
        (json!("${{ '${{ x }}' }}"), json!("${{ x }}")),
    ];
    for (template, expected) in cases {
        assert_eq!(render(template.clone()).as_ref(), Ok(&expected), "{template}");
    }
}

#[test]
fn what_was_rendered_is_not_rendered_again() {
    let text = "${{ input.amount }} {{ 7*7 }} $(id)";
    assert_eq!(render(json!("${{ input.hostile }}")), Ok(json!(text)));
    assert_eq!(render(json!("a ${{ input.hostile }}")), Ok(json!(format!("a {text}"))));
}

#[test]
fn missing_names_are_errors_with_the_nearest() {
    assert_eq!(error("${{ input.amuont }}"), "`input.amuont`: there is no `amuont` in `input`: did you mean `amount`?");
    assert_eq!(error("${{ inptu.a }}"), "`inptu.a`: there is no name `inptu`: did you mean `input`?");
    assert!(error("${{ [input.zzz] }}").contains("there is no `zzz` in `input`: there is `amount`"));
    assert!(error("${{ input.zzz == 1 }}").contains("no `zzz`"));
    assert!(error("a ${{ input.zzz }}").contains("no `zzz`"));
    assert!(error("${{ not input.zzz }}").contains("no `zzz`"));
    assert!(error("${{ steps.gone.outputs.id }}").contains("`steps.gone.outputs` is null"));
}

#[test]
fn what_does_not_exist_is_told_before_a_run() {
    let parse = |text: &str| Expr::parse(text).expect_err("must not parse").with_hint();
    assert_eq!(parse("input.a | uper"), "there is no filter `uper`: did you mean `upper`?");
    assert_eq!(parse("input.a is defned"), "there is no test `defned`: did you mean `defined`?");
    assert!(parse("now()").starts_with("there is no function `now`: expressions know no time"), "{}", parse("now()"));
    assert_eq!(parse("len(input.a)"), "there is no function `len`: a length is `value | length`");
    assert_eq!(parse("nowhere()"), "there is no function `nowhere`");
    assert!(parse("debug()").contains("no function"));
    assert!(parse("'a' ~ true").contains("side by side"));
    assert!(parse("input.a +").starts_with("not an expression"));
    assert!(parse("").contains("empty"));
    assert!(parse(&"1+".repeat(5000)).contains("longer"));
    assert!(Template::parse(&json!(["ok", "${{ input.a"])).is_err());
}

#[test]
fn work_and_sizes_are_bounded() {
    assert!(error("${{ range(100000000) | list }}").contains("range"));
    assert!(error("${{ 'x' * 2000000 }}").contains("larger"));
    assert!(error("${{ ('x' * 10000) | replace('x', 'y' * 10000) }}").contains("larger"));
    assert!(error("${{ range(1000) | join('y' * 10000) }}").contains("larger"));
    assert!(error("${{ 1 / 0 }}").contains("1 / 0"));
    assert!(Expr::parse(&format!("{}1{}", "(".repeat(500), ")".repeat(500))).is_err());
}

#[test]
fn a_condition_is_true_or_false() {
    let eval = |text: &str| Expr::parse(text).and_then(|expr| expr.eval_bool(&scope()));
    assert_eq!(eval("input.amount > 100 and not input.nothing"), Ok(true));
    assert_eq!(eval("input.nothing"), Ok(false));
    assert!(eval("'false'").is_err());
    assert!(eval("input.items").is_err());
}

#[test]
fn a_template_prints_what_it_was_made_from() {
    for json in [json!({"a": ["${{ input.a }}", "x ${{ b }} y", 1]}), json!("plain"), json!([1, {"b": null}])] {
        assert_eq!(Template::parse(&json).expect("a template").source(), json);
    }
}

/// Fuel counts steps, not bytes: what a filter makes is bounded while it is made, also where little of it would be left.
#[test]
fn a_filter_makes_no_more_than_may_be() {
    let told = error("${{ range(999)|join(range(999)|join('0123456789'))|length }}");
    assert!(told.contains("larger than 1 MiB"), "{told}");
}

#[test]
fn the_page_for_users_names_every_function_filter_and_test() {
    let page = include_str!("../../../docs/workflows.md");
    let names = environment::FUNCTIONS.iter().chain(environment::FILTERS).chain(environment::TESTS);
    let missing: Vec<_> = names.filter(|name| !page.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
