//! Vectors that senders publish, what is wrong with a request one byte at a time, and any header at all.
//! They know no HTTP.

use proptest::prelude::*;

use super::*;

/// Published: <https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries>.
const GITHUB: (&str, &str, &str) = (
    "It's a Secret to Everybody",
    "Hello, World!",
    "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
);
/// From the test suite of the Standard Webhooks libraries.
const STANDARD_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const STANDARD_ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
const STANDARD_BODY: &str = r#"{"test": 2432232314}"#;
const STANDARD_SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
const STANDARD_AT: i64 = 1_614_265_330;

fn judge(
    scheme: Scheme,
    secrets: &[&str],
    headers: &[(&str, &str)],
    body: &[u8],
    seconds: i64,
) -> Result<Verified, Refused> {
    let secrets: Vec<Secret> = secrets.iter().filter_map(|text| Secret::new(text)).collect();
    let header = |name: &str| {
        let mut found = headers.iter().filter(|(other, _)| *other == name);
        found.next().filter(|_| found.next().is_none()).map(|(_, value)| *value)
    };
    verify(scheme, &secrets, &Request { header: &header, body }, Ms(seconds * 1_000), TOLERANCE)
}

fn standard(id: &str, time: &str, signature: &str, body: &str, now: i64) -> Result<Verified, Refused> {
    let headers = [("webhook-id", id), ("webhook-timestamp", time), ("webhook-signature", signature)];
    judge(Scheme::StandardWebhooks, &[STANDARD_SECRET], &headers, body.as_bytes(), now)
}

#[test]
fn githubs_example_is_believed_and_no_other_byte_is() {
    let (secret, body, signature) = GITHUB;
    let of = |signature: &str, body: &str| {
        judge(Scheme::Github, &[secret], &[("x-hub-signature-256", signature)], body.as_bytes(), 0)
    };
    assert!(of(signature, body).is_ok());
    assert_eq!(of(signature, "Hello, World?"), Err(Refused::Mismatch));
    assert_eq!(of(&signature.replace("17", "16"), body), Err(Refused::Mismatch));
    assert_eq!(judge(Scheme::Github, &[secret], &[], body.as_bytes(), 0), Err(Refused::Missing("x-hub-signature-256")));
    for bad in ["sha256=", "sha256=7571", &signature[7..], "sha1=757107ea", &signature[..70]] {
        assert!(matches!(of(bad, body), Err(Refused::Malformed { .. })), "{bad}");
    }
    let twice = [("x-hub-signature-256", signature), ("x-hub-signature-256", signature)];
    assert_eq!(
        judge(Scheme::Github, &[secret], &twice, body.as_bytes(), 0),
        Err(Refused::Missing("x-hub-signature-256")),
        "of two headers nobody knows which one counts"
    );
}

#[test]
fn the_vector_of_standard_webhooks_is_believed_in_its_time() {
    let time = STANDARD_AT.to_string();
    let at = |now| standard(STANDARD_ID, &time, STANDARD_SIGNATURE, STANDARD_BODY, now);
    assert!(at(STANDARD_AT).is_ok() && at(STANDARD_AT + 300).is_ok() && at(STANDARD_AT - 300).is_ok());
    assert!(matches!(at(STANDARD_AT + 301), Err(Refused::TooOld { .. })));
    assert!(matches!(at(STANDARD_AT - 301), Err(Refused::TooNew { .. })));
    let rotated = format!("v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA= v1a,zzz {STANDARD_SIGNATURE}");
    assert!(standard(STANDARD_ID, &time, &rotated, STANDARD_BODY, STANDARD_AT).is_ok(), "any of several");
    let other = standard("msg_other", &time, STANDARD_SIGNATURE, STANDARD_BODY, STANDARD_AT);
    assert_eq!(other, Err(Refused::Mismatch), "the id is signed");
    let moved = standard(&format!("{STANDARD_ID}.1"), &time, STANDARD_SIGNATURE, STANDARD_BODY, STANDARD_AT);
    assert!(matches!(moved, Err(Refused::Malformed { header: "webhook-id", .. })));
    for bad in ["", "soon", "+1614265330", "1614265330.5", "9999999999999"] {
        let refused = standard(STANDARD_ID, bad, STANDARD_SIGNATURE, STANDARD_BODY, STANDARD_AT);
        assert!(matches!(refused, Err(Refused::Malformed { .. } | Refused::Missing(_))), "{bad}: {refused:?}");
    }
    let short = standard(STANDARD_ID, &time, "v1,g0hM9SsE", STANDARD_BODY, STANDARD_AT);
    assert!(matches!(short, Err(Refused::Malformed { .. })));
}

#[test]
fn stripes_header_holds_its_time_and_several_signatures() {
    let secret = Secret::new("whsec_test").expect("a secret");
    let body = br#"{"id":"evt_1","type":"charge.succeeded"}"#;
    let header = sign(Scheme::Stripe, &secret, "", Ms(1_492_774_577_000), body).expect("signed");
    let of = |header: &str, now| judge(Scheme::Stripe, &["whsec_test"], &[("stripe-signature", header)], body, now);
    assert!(of(&header, 1_492_774_577).is_ok());
    assert!(matches!(of(&header, 1_492_774_878), Err(Refused::TooOld { .. })));
    let (time, signature) = header.split_once(',').expect("two parts");
    let several = format!("{time},v1={},{signature},v0=6ffb", "0".repeat(64));
    assert!(of(&several, 1_492_774_577).is_ok());
    assert_eq!(of(&format!("t=1492774578,{signature}"), 1_492_774_577), Err(Refused::Mismatch), "the time is signed");
    for bad in [signature, time, &format!("{time},{time},{signature}"), "t=1492774577,v1=abc", "nonsense"] {
        assert!(matches!(of(bad, 1_492_774_577), Err(Refused::Malformed { .. })), "{bad}");
    }
    // Sent again later, it is signed anew, and is the same delivery.
    let again = sign(Scheme::Stripe, &secret, "", Ms(1_492_784_577_000), body).expect("signed");
    assert_eq!(of(&header, 1_492_774_577), of(&again, 1_492_784_577));
}

#[test]
fn a_plain_signature_is_believed_with_and_without_its_prefix() {
    let secret = Secret::new("s3cret\n").expect("a secret");
    let header = sign(Scheme::Goflow, &secret, "", Ms(0), b"{}").expect("signed");
    let of = |headers: &[(&str, &str)], secrets: &[&str]| judge(Scheme::Goflow, secrets, headers, b"{}", 0);
    let plain = header.strip_prefix("sha256=").expect("a prefix");
    for value in [header.as_str(), plain, &plain.to_uppercase(), &format!("{},{plain}", "0".repeat(64))] {
        assert!(of(&[("x-webhook-signature", value)], &["s3cret"]).is_ok(), "{value}");
    }
    assert!(of(&[("x-webhook-signature", plain)], &["new", "s3cret"]).is_ok(), "the old secret of a rotation");
    assert_eq!(of(&[("x-webhook-signature", plain)], &["new"]), Err(Refused::Mismatch));
    assert_eq!(of(&[("x-webhook-signature", plain)], &[]), Err(Refused::NoSecret));
    assert_eq!(Secret::new(" \n"), None, "an empty secret is known to all");
    let named = |id| of(&[("x-webhook-signature", plain), ("x-webhook-id", id)], &["s3cret"]).expect("believed");
    assert_eq!(named("a"), named("a"));
    assert_ne!(named("a"), named("b"));
    assert_ne!(named("a"), of(&[("x-webhook-signature", plain)], &["s3cret"]).expect("believed"));
}

#[test]
fn a_standard_secret_that_is_not_base64_is_our_mistake() {
    let headers = [("webhook-id", "a"), ("webhook-timestamp", "0"), ("webhook-signature", STANDARD_SIGNATURE)];
    for bad in ["whsec_", "whsec_not base64!", "p@ss"] {
        let refused = judge(Scheme::StandardWebhooks, &[bad], &headers, b"", 0).expect_err("refused");
        assert!(refused.is_ours(), "{bad}");
    }
    assert_eq!(format!("{:?}", Secret::new("s3cret")), "Some(***)");
}

proptest! {
    #[test]
    fn no_header_brings_the_parsers_down_or_is_believed(
        scheme in prop::sample::select(Scheme::WORDS.map(|(_, scheme)| scheme).to_vec()),
        signature in r"((t=|v1=|v1,|sha256=|,|;| |=|\.|[0-9a-fA-Z+/]{0,70}){0,12})|\PC{0,200}",
        time in r"[0-9+. -]{0,14}|\PC{0,8}",
        body in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let mut headers = vec![("webhook-id", "id"), ("webhook-timestamp", time.as_str())];
        headers.extend(scheme.headers().iter().map(|name| (*name, signature.as_str())));
        prop_assert!(judge(scheme, &[STANDARD_SECRET], &headers, &body, 0).is_err());
    }

    #[test]
    fn what_was_signed_is_believed_until_one_bit_of_it_flips(
        scheme in prop::sample::select(Scheme::WORDS.map(|(_, scheme)| scheme).to_vec()),
        body in prop::collection::vec(any::<u8>(), 1..64),
        bit in any::<prop::sample::Index>(),
        now in 0i64..4_000_000_000,
    ) {
        let secret = Secret::new(STANDARD_SECRET).expect("a secret");
        let signature = sign(scheme, &secret, "id", Ms(now * 1_000), &body).expect("signed");
        let time = now.to_string();
        let headers = [("webhook-id", "id"), ("webhook-timestamp", time.as_str()), (scheme.headers()[0], &signature)];
        prop_assert!(judge(scheme, &[STANDARD_SECRET], &headers, &body, now).is_ok());
        let mut flipped = body.clone();
        let at = bit.index(body.len() * 8);
        flipped[at / 8] ^= 1 << (at % 8);
        prop_assert_eq!(judge(scheme, &[STANDARD_SECRET], &headers, &flipped, now), Err(Refused::Mismatch));
    }
}
