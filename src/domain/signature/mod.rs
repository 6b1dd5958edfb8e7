//! Whether a webhook's request comes from who it should: the schemes by which senders sign, judged over
//! the raw bytes of the body. Pure: headers come as text, the time and the secrets as arguments. It
//! must not know HTTP, JSON of any sender but the one id that Stripe puts there, or where secrets lie.

#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use super::time::{Ms, format_duration};

/// How far the time that a sender signed may be from ours, unless a manifest says otherwise. The value
/// of Standard Webhooks and of Stripe's own libraries.
pub const TOLERANCE: Duration = Duration::from_secs(300);
/// Signatures looked at in one request: a rotation needs two.
const SIGNATURES: usize = 16;
/// Longest delivery id, in bytes.
const ID_BYTES: usize = 512;

/// How a request shows that it comes from who it should.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheme {
    /// `X-Webhook-Signature: sha256=HEX` over the body; `sha256=` may be left out.
    #[default]
    Goflow,
    /// <https://www.standardwebhooks.com>: `webhook-id`, `webhook-timestamp`, `webhook-signature`.
    StandardWebhooks,
    /// `X-Hub-Signature-256: sha256=HEX` over the body.
    Github,
    /// `Stripe-Signature: t=SECONDS,v1=HEX` over the time and the body.
    Stripe,
}

impl Scheme {
    pub const WORDS: [(&str, Scheme); 4] = [
        ("goflow", Scheme::Goflow),
        ("standard-webhooks", Scheme::StandardWebhooks),
        ("github", Scheme::Github),
        ("stripe", Scheme::Stripe),
    ];

    pub fn as_str(self) -> &'static str {
        Self::WORDS.iter().find(|(_, scheme)| *scheme == self).map_or("", |(word, _)| word)
    }

    /// Whether what is signed names its time, so that an old request can be told.
    pub fn carries_time(self) -> bool {
        matches!(self, Scheme::StandardWebhooks | Scheme::Stripe)
    }

    /// The headers that prove something, in lower case: nobody else has to see them.
    pub fn headers(self) -> &'static [&'static str] {
        match self {
            Scheme::Goflow => &["x-webhook-signature"],
            Scheme::StandardWebhooks => &["webhook-signature"],
            Scheme::Github => &["x-hub-signature-256", "x-hub-signature"],
            Scheme::Stripe => &["stripe-signature"],
        }
    }
}

/// A shared secret, as its owner wrote it. It never shows itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// White space around it is dropped; `None` if nothing is left, for an empty secret is known to all.
    pub fn new(text: &str) -> Option<Secret> {
        let text = text.trim();
        (!text.is_empty()).then(|| Secret(text.to_owned()))
    }

    /// The bytes that a scheme takes as its key.
    ///
    /// # Errors
    /// [`Refused::BadSecret`] where the scheme asks for base64 and this is none.
    fn key(&self, scheme: Scheme) -> Result<Vec<u8>, Refused> {
        if scheme != Scheme::StandardWebhooks {
            return Ok(self.0.as_bytes().to_vec());
        }
        let text = self.0.strip_prefix("whsec_").unwrap_or(&self.0);
        STANDARD.decode(text).ok().filter(|key| !key.is_empty()).ok_or(Refused::BadSecret)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Why a request is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// None, or more than one: then nobody knows which one counts.
    #[error("it has not exactly one header {0}")]
    Missing(&'static str),
    #[error("its header {header} {why}")]
    Malformed { header: &'static str, why: &'static str },
    #[error("its time is {} ago, more than {}", format_duration(*.age), format_duration(*.tolerance))]
    TooOld { age: Duration, tolerance: Duration },
    #[error("its time is {} ahead, more than {}", format_duration(*.ahead), format_duration(*.tolerance))]
    TooNew { ahead: Duration, tolerance: Duration },
    #[error("its signature does not match")]
    Mismatch,
    /// Not the sender's fault.
    #[error("there is no secret to check it by")]
    NoSecret,
    /// Not the sender's fault.
    #[error("the secret is not base64, as the scheme standard-webhooks asks: `whsec_…`")]
    BadSecret,
}

impl Refused {
    /// Whether our own set-up is what is wrong.
    pub fn is_ours(&self) -> bool {
        matches!(self, Refused::NoSecret | Refused::BadSecret)
    }
}

/// What was received: each header at most once, by its name in lower case, and the body as it came.
pub struct Request<'a> {
    /// The value of a header that is there exactly once.
    pub header: &'a dyn Fn(&str) -> Option<&'a str>,
    pub body: &'a [u8],
}

/// A request that is believed, by the sender's name for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// What tells this delivery from others, the same each time it is sent: 64 hexadecimal digits.
    pub delivery: String,
}

/// Judges a request by any of several secrets, as during a rotation.
///
/// # Errors
/// Why it is not believed.
pub fn verify(
    scheme: Scheme,
    secrets: &[Secret],
    request: &Request<'_>,
    now: Ms,
    tolerance: Duration,
) -> Result<Verified, Refused> {
    if secrets.is_empty() {
        return Err(Refused::NoSecret);
    }
    let keys = secrets.iter().map(|secret| secret.key(scheme)).collect::<Result<Vec<_>, _>>()?;
    let (signed, signatures) = match scheme {
        Scheme::Goflow => (Vec::new(), hex_signatures(request, "x-webhook-signature", true)?),
        Scheme::Github => (Vec::new(), hex_signatures(request, "x-hub-signature-256", false)?),
        Scheme::StandardWebhooks => standard(request, now, tolerance)?,
        Scheme::Stripe => stripe(request, now, tolerance)?,
    };
    let mut believed = false;
    for key in &keys {
        let mac = mac(key, &signed, request.body)?;
        // Each signature is compared, and each in constant time: how long it takes tells nothing.
        believed = signatures.iter().fold(believed, |any, one| mac.clone().verify_slice(one).is_ok() | any);
    }
    if believed { Ok(Verified { delivery: delivery(scheme, request) }) } else { Err(Refused::Mismatch) }
}

/// Signs a body, for those who send: the value of the scheme's signature header.
///
/// # Errors
/// [`Refused::BadSecret`].
pub fn sign(scheme: Scheme, secret: &Secret, id: &str, at: Ms, body: &[u8]) -> Result<String, Refused> {
    let seconds = at.0.div_euclid(1_000);
    let key = secret.key(scheme)?;
    let bytes = |before: String| Ok(mac(&key, before.as_bytes(), body)?.finalize().into_bytes());
    Ok(match scheme {
        Scheme::Goflow | Scheme::Github => format!("sha256={}", hex(&bytes(String::new())?)),
        Scheme::StandardWebhooks => format!("v1,{}", STANDARD.encode(bytes(format!("{id}.{seconds}."))?)),
        Scheme::Stripe => format!("t={seconds},v1={}", hex(&bytes(format!("{seconds}."))?)),
    })
}

fn mac(key: &[u8], before: &[u8], body: &[u8]) -> Result<Hmac<Sha256>, Refused> {
    // A key of any length will do (RFC 2104).
    let mut mac = Hmac::<Sha256>::new_from_slice(key).map_err(|_| Refused::BadSecret)?;
    mac.update(before);
    mac.update(body);
    Ok(mac)
}

fn one<'a>(request: &Request<'a>, header: &'static str) -> Result<&'a str, Refused> {
    (request.header)(header).map(str::trim).filter(|value| !value.is_empty()).ok_or(Refused::Missing(header))
}

/// `sha256=HEX`, several with commas between them; `bare`: the prefix may be left out.
fn hex_signatures(request: &Request<'_>, header: &'static str, bare: bool) -> Result<Vec<[u8; 32]>, Refused> {
    let wrong = |why| Refused::Malformed { header, why };
    let mut found = Vec::new();
    for part in one(request, header)?.split(',').map(str::trim) {
        let digits = match part.strip_prefix("sha256=") {
            Some(digits) => digits,
            None if bare => part,
            None => return Err(wrong("does not begin with sha256=")),
        };
        found.push(unhex(digits).ok_or_else(|| wrong("is not 64 hexadecimal digits"))?);
    }
    bounded(found, header)
}

fn bounded(found: Vec<[u8; 32]>, header: &'static str) -> Result<Vec<[u8; 32]>, Refused> {
    match found.len() {
        0 => Err(Refused::Malformed { header, why: "holds no signature of a version that is known" }),
        1..=SIGNATURES => Ok(found),
        _ => Err(Refused::Malformed { header, why: "holds too many signatures" }),
    }
}

type Signed = (Vec<u8>, Vec<[u8; 32]>);

fn standard(request: &Request<'_>, now: Ms, tolerance: Duration) -> Result<Signed, Refused> {
    const HEADER: &str = "webhook-signature";
    let id = one(request, "webhook-id")?;
    // A full stop stands between the parts: in one of them it would move the border.
    if id.contains('.') || id.len() > ID_BYTES {
        return Err(Refused::Malformed { header: "webhook-id", why: "is not an id" });
    }
    let time = one(request, "webhook-timestamp")?;
    in_time(time, "webhook-timestamp", now, tolerance)?;
    // Signatures of other versions are somebody else's.
    let parts = one(request, HEADER)?.split(' ').filter_map(|part| part.strip_prefix("v1,"));
    let decode = |text: &str| STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
    let found: Option<Vec<[u8; 32]>> = parts.map(decode).collect();
    let found = found.ok_or(Refused::Malformed { header: HEADER, why: "is not base64 of 32 bytes" })?;
    Ok((format!("{id}.{time}.").into_bytes(), bounded(found, HEADER)?))
}

fn stripe(request: &Request<'_>, now: Ms, tolerance: Duration) -> Result<Signed, Refused> {
    const HEADER: &str = "stripe-signature";
    let wrong = |why| Refused::Malformed { header: HEADER, why };
    let (mut time, mut found) = (None, Vec::new());
    for part in one(request, HEADER)?.split(',') {
        match part.trim().split_once('=') {
            Some(("t", _)) if time.is_some() => return Err(wrong("names its time twice")),
            Some(("t", text)) => time = Some(text),
            Some(("v1", digits)) => found.push(unhex(digits).ok_or_else(|| wrong("is not 64 hexadecimal digits"))?),
            // Other versions, such as the v0 of test events, prove nothing.
            Some(_) => {}
            None => return Err(wrong("is not name=value with commas between")),
        }
    }
    let time = time.ok_or_else(|| wrong("names no time"))?;
    in_time(time, HEADER, now, tolerance)?;
    Ok((format!("{time}.").into_bytes(), bounded(found, HEADER)?))
}

/// Seconds since 1970, not too far from now.
fn in_time(text: &str, header: &'static str, now: Ms, tolerance: Duration) -> Result<(), Refused> {
    let digits = (1..=12).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = text.parse::<i64>().ok().filter(|_| digits);
    let seconds = seconds.ok_or(Refused::Malformed { header, why: "names a time that is not seconds since 1970" })?;
    let then = Ms(seconds * 1_000);
    let (age, ahead) = (now.since(then), then.since(now));
    if age > tolerance {
        return Err(Refused::TooOld { age, tolerance });
    }
    if ahead > tolerance {
        return Err(Refused::TooNew { ahead, tolerance });
    }
    Ok(())
}

/// What the sender calls this delivery; where it says nothing, two with the same body are one.
fn delivery(scheme: Scheme, request: &Request<'_>) -> String {
    let header = |name: &str| (request.header)(name).map(str::trim).filter(|id| !id.is_empty()).map(str::to_owned);
    let id = match scheme {
        Scheme::Goflow => ["x-webhook-id", "x-webhook-delivery", "idempotency-key"].into_iter().find_map(header),
        Scheme::StandardWebhooks => header("webhook-id"),
        Scheme::Github => header("x-github-delivery"),
        // Sent again, an event is signed anew at another time: its own id is what stays.
        Scheme::Stripe => event_id(request.body),
    };
    let mut digest = Sha256::new();
    match id {
        Some(id) => digest.update([b"id\n", id.as_bytes()].concat()),
        None => digest.update([b"body\n", request.body].concat()),
    }
    hex(&digest.finalize())
}

fn event_id(body: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Event {
        id: String,
    }
    serde_json::from_slice::<Event>(body).ok().map(|event| event.id).filter(|id| !id.is_empty())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let text = text.as_bytes();
    if text.len() != 64 {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let mut bytes = [0; 32];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::try_from(digit(text[2 * at])? << 4 | digit(text[2 * at + 1])?).ok()?;
    }
    Some(bytes)
}
