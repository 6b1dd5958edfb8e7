//! From an HTTP answer to an outcome: what its status means, when to come back, and what of its body
//! becomes the result.

use reqwest::header::{CONTENT_TYPE, DATE, HeaderMap, LOCATION, RETRY_AFTER};
use reqwest::{Response, StatusCode};

use std::time::Duration;

use crate::domain::job::{Outcome, RetryHint};
use crate::domain::text::{clip, size};
use crate::domain::{Json, Ms, limits};
use crate::exec::verdict::failed;
use crate::exec::{Settings, Work};
use crate::workflow::{Outputs, Request};

/// Read of a body at most, in bytes: as much as a result may have.
const BODY_BYTES: usize = limits::VALUE_BYTES;
/// What an error message quotes of a body, in bytes.
const QUOTED_BYTES: usize = 1 << 10;
/// The longest `Retry-After` that is heeded.
const LONGEST_DELAY: Duration = Duration::from_secs(24 * 3600);

/// A body as far as it was read.
enum Body {
    Whole(Vec<u8>),
    TooLarge(Vec<u8>),
    Broken(String),
}

pub(super) async fn outcome(
    mut response: Response,
    origin: &str,
    http: &Request,
    work: &Work,
    settings: &Settings,
) -> Outcome {
    let body = read(&mut response).await;
    let (status, headers) = (response.status(), response.headers());
    if !status.is_success() {
        return refused(status, headers, &body, origin, settings);
    }
    match result(headers, &body, http.outputs.as_ref()) {
        Ok(result) => Outcome::Completed { result: result.filter(|result| !result.is_null()) },
        Err(why) if http.outputs.is_none() => {
            // Nobody asked for it: the call has done its work.
            settings.sink.note(work, &format!("no result is kept of the answer of {origin}: {why}"));
            Outcome::Completed { result: None }
        }
        Err(why) => failed("output", format!("the answer of {origin} {why}"), RetryHint::Never),
    }
}

async fn read(response: &mut Response) -> Body {
    let mut bytes = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if bytes.len() + chunk.len() > BODY_BYTES => {
                bytes.extend_from_slice(&chunk[..BODY_BYTES - bytes.len()]);
                return Body::TooLarge(bytes);
            }
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
            Ok(None) => return Body::Whole(bytes),
            Err(error) => return Body::Broken(error.without_url().to_string()),
        }
    }
}

/// What a status that is no success means. A request that the other side finds fault with would be
/// found fault with again: it is tried again only where `retry.errors` names the class.
fn refused(status: StatusCode, headers: &HeaderMap, body: &Body, origin: &str, settings: &Settings) -> Outcome {
    let hint = match status.as_u16() {
        408 | 425 | 429 | 500..=599 => match retry_after(headers, settings.clock.now()) {
            Some(delay) => RetryHint::NotBefore(delay),
            None => RetryHint::Policy,
        },
        _ => RetryHint::IfNamed,
    };
    let reason = status.canonical_reason().map(|reason| format!(" {reason}")).unwrap_or_default();
    let mut message = format!("{}{reason} from {origin}", status.as_u16());
    if status.is_redirection() && headers.contains_key(LOCATION) {
        message.push_str(": it has moved, and a request with a body does not follow; write its new address");
    }
    let quoted = match body {
        Body::Whole(bytes) | Body::TooLarge(bytes) => String::from_utf8_lossy(bytes).trim().to_owned(),
        Body::Broken(_) => String::new(),
    };
    if !quoted.is_empty() {
        message.push_str(": ");
        message.push_str(&clip(&quoted, QUOTED_BYTES));
    }
    failed(format!("http:{}", status.as_u16()), message, hint)
}

/// `Retry-After` of RFC 9110, section 10.2.3: seconds, or a date, which is compared with the date of
/// the answer itself where it has one, so that two clocks need not agree.
fn retry_after(headers: &HeaderMap, now: Ms) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let delay = match value.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let then = http_date(value)?;
            let now = headers.get(DATE).and_then(|date| http_date(date.to_str().ok()?)).unwrap_or(now);
            then.since(now)
        }
    };
    Some(delay.min(LONGEST_DELAY))
}

/// A date as HTTP writes it: `Sun, 06 Nov 1994 08:49:37 GMT`.
fn http_date(text: &str) -> Option<Ms> {
    let date = jiff::fmt::rfc2822::parse(text.trim()).ok()?;
    Some(Ms(date.timestamp().as_millisecond()))
}

/// The result, or why there is none.
fn result(headers: &HeaderMap, body: &Body, outputs: Option<&Outputs>) -> Result<Option<Json>, String> {
    let limit = size(limits::VALUE_BYTES as u64);
    let too_large = || format!("is larger than the {limit} that a result may have");
    let bytes = match body {
        Body::Whole(bytes) => bytes,
        Body::TooLarge(_) => return Err(too_large()),
        Body::Broken(why) => return Err(format!("broke off: {why}")),
    };
    let text = std::str::from_utf8(bytes).map_err(|_| "is not UTF-8 text".to_owned())?;
    let is_json = match outputs {
        Some(Outputs::Json) => true,
        Some(_) => false,
        None => says_json(headers),
    };
    if is_json {
        if text.trim().is_empty() {
            return if outputs.is_some() { Err("is empty, not one JSON value".to_owned()) } else { Ok(None) };
        }
        return Json::parse(text, limits::VALUE_BYTES)
            .map(Some)
            .map_err(|error| format!("is not one JSON value: {error}"));
    }
    if text.is_empty() && outputs.is_none() {
        return Ok(None);
    }
    let json = Json::string(text);
    if json.as_str().len() > limits::VALUE_BYTES { Err(too_large()) } else { Ok(Some(json)) }
}

/// `application/json`, and every type that ends in `+json` (RFC 6839).
fn says_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || kind.ends_with("+json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(reqwest::header::HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().expect("a value"))).collect()
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = http_date("Sun, 06 Nov 1994 08:49:37 GMT").expect("a date");
        let after = |value: &str| retry_after(&headers(&[(RETRY_AFTER, value)]), now);
        assert_eq!(after("120"), Some(Duration::from_secs(120)));
        assert_eq!(after("Sun, 06 Nov 1994 08:50:07 GMT"), Some(Duration::from_secs(30)));
        assert_eq!(after("Sun, 06 Nov 1994 08:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(after("99999999999"), Some(LONGEST_DELAY));
        assert_eq!(after("soon"), None);
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
        let dated = headers(&[(RETRY_AFTER, "Sun, 06 Nov 1994 08:50:07 GMT"), (DATE, "Sun, 06 Nov 1994 08:50:00 GMT")]);
        assert_eq!(retry_after(&dated, now), Some(Duration::from_secs(7)), "by the other side's clock");
    }

    #[test]
    fn a_body_becomes_a_result_as_far_as_it_can() {
        let json = headers(&[(CONTENT_TYPE, "application/problem+json; charset=utf-8")]);
        let whole = |text: &str| Body::Whole(text.as_bytes().to_vec());
        let text = |found: Result<Option<Json>, String>| found.map(|json| json.map(|json| json.as_str().to_owned()));
        assert_eq!(text(result(&json, &whole("{\"a\": 1.50}"), None)), Ok(Some("{\"a\": 1.50}".into())));
        assert_eq!(text(result(&HeaderMap::new(), &whole("{}"), None)), Ok(Some("\"{}\"".into())));
        assert_eq!(text(result(&HeaderMap::new(), &whole("[1]"), Some(&Outputs::Json))), Ok(Some("[1]".into())));
        assert_eq!(text(result(&json, &whole("[1]"), Some(&Outputs::Text))), Ok(Some("\"[1]\"".into())));
        assert_eq!(text(result(&json, &whole(""), None)), Ok(None));
        assert!(result(&json, &whole(""), Some(&Outputs::Json)).is_err());
        assert!(result(&json, &whole("<html>"), None).is_err_and(|why| why.contains("not one JSON value")));
        assert!(result(&json, &Body::Whole(vec![0xff]), None).is_err_and(|why| why.contains("UTF-8")));
        assert!(result(&json, &Body::TooLarge(Vec::new()), None).is_err_and(|why| why.contains("256.0 KiB")));
        let escaped = whole(&"\u{1}".repeat(BODY_BYTES / 2));
        assert!(result(&HeaderMap::new(), &escaped, None).is_err(), "larger as JSON than as text");
    }
}
