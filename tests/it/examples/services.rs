//! The order that calls a user and a product service: what is asked of them, and what is undone.

use super::{place, workflows};
use crate::servers::http::{Asked, HttpServer, Reply};

/// A stand-in for all services. Products by name; `sold-out` cannot be reserved; `flaky` answers at the second time.
fn services() -> HttpServer {
    HttpServer::start(|nth, asked| {
        let status = |status| Reply::status(status);
        match (asked.method.as_str(), asked.path.as_str()) {
            ("GET", "/users/ann") => Reply::json(r#"{"id": "ann", "active": true}"#),
            ("GET", "/users/eve") => Reply::json(r#"{"id": "eve", "active": false}"#),
            ("GET", "/products/flaky") if nth < 3 => status(503),
            ("GET", path) if path.starts_with("/products/") => Reply::json(r#"{"price": 7}"#),
            ("POST", "/reservations") if asked.json()["product_id"] == "sold-out" => status(409),
            ("POST", "/reservations") => Reply::json("{}"),
            ("DELETE", _) => status(204),
            ("POST", "/orders") => Reply::json(r#"{"order_id": "o-1"}"#),
            _ => status(404),
        }
    })
}

fn order(server: &HttpServer, user: &str, products: &[&str]) -> (serde_json::Value, Vec<Asked>) {
    let env = place(None);
    let items: Vec<_> =
        products.iter().map(|product| serde_json::json!({"product_id": product, "quantity": 2})).collect();
    let input = serde_json::json!({"services": server.url(""), "user_id": user, "items": items}).to_string();
    let path = workflows("order-services.yaml").display().to_string();
    let answer = env.args(["run", &path, "-i", &input, "-o", "json"]);
    (answer.json(), server.asked())
}

fn count(asked: &[Asked], method: &str, path: &str) -> usize {
    asked.iter().filter(|one| one.method == method && one.path.starts_with(path)).count()
}

#[test]
fn an_order_calls_its_services() {
    let server = services();
    let (run, asked) = order(&server, "ann", &["book", "flaky"]);
    assert_eq!(run["state"], "completed", "{run:#}");
    assert_eq!(run["output"]["order"]["order_id"], "o-1", "{run:#}");
    assert!(count(&asked, "GET", "/products/flaky") >= 2, "it was tried again");
    assert_eq!(count(&asked, "POST", "/reservations"), 2);
    let created = asked.iter().find(|one| one.path == "/orders").expect("an order");
    assert_eq!(created.json()["prices"], serde_json::json!([{"price": 7}, {"price": 7}]));
    assert!(created.header("idempotency-key").is_some());
}

#[test]
fn an_order_that_cannot_be_reserved_is_undone() {
    let server = services();
    let (run, asked) = order(&server, "ann", &["book", "pen", "sold-out"]);
    assert_eq!(run["state"], "compensated", "{run:#}");
    assert_eq!(count(&asked, "POST", "/orders"), 0);
    let mut released: Vec<&str> =
        asked.iter().filter(|one| one.method == "DELETE").map(|one| one.path.as_str()).collect();
    released.sort_unstable();
    let reserved = count(&asked, "POST", "/reservations") - 1;
    assert_eq!(released.len(), reserved, "each reservation that was made is released: {released:?}");
    assert!(!released.contains(&"/reservations/sold-out"));
}

#[test]
fn a_user_who_may_not_order_gets_nothing() {
    let server = services();
    let (run, asked) = order(&server, "eve", &["book"]);
    assert!(run["state"] == "failed" || run["state"] == "compensated", "{run:#}");
    assert_eq!(count(&asked, "POST", ""), 0);
    assert!(run["error"]["message"].as_str().is_some_and(|why| why.contains("eve may not order")), "{run:#}");
}
