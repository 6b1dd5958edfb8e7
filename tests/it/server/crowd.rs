//! What many requests may take together, and what is not read at all.

use std::io::Write;

use super::client::read;
use super::{Reply, Site};

/// Sends the head of a request whose body never comes.
fn head(site: &Site, path: &str, length: usize) -> Reply {
    let mut stream = site.connect();
    let host = site.address;
    write!(stream, "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n").expect("it is sent");
    read(stream)
}

#[test]
fn of_a_body_that_no_webhook_wants_nothing_is_read() {
    let site = Site::start();
    // The answer comes though the body does not, and the connection ends with it.
    let unknown = head(&site, "/webhooks/nobody/knows", 500_000);
    assert_eq!((unknown.status, unknown.header("connection")), (404, Some("close")));
    let manifest = "{kind: Webhook, name: off, secret: 'env:SECRET', job: noop, enabled: false}";
    site.ask("POST", "/api/webhooks", &[], manifest).expect(201);
    assert_eq!(head(&site, "/webhooks/off", 500_000).status, 503);
}
