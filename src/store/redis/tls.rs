//! TLS to a server: which certificates are trusted, and which one is shown. The server's certificate is
//! always verified. It knows files and URLs, no connection.
//!
//! `rediss://host:6380/?ca=FILE`: only this authority is trusted, instead of those of the machine (which
//! `SSL_CERT_FILE` names). `&cert=FILE&key=FILE`: what is shown to a server that asks.

use std::fs;

use redis::{ClientTlsConfig, TlsCertificates};

use crate::store::contract::{Result, StoreError};

pub const NONE: TlsCertificates = TlsCertificates { client_tls: None, root_cert: None };

/// The URL without goflow's own parameters, and what they name.
pub fn read(url: &str) -> Result<(String, TlsCertificates)> {
    let (mut ca, mut cert, mut key) = (None, None, None);
    let Some((base, query)) = url.split_once('?') else {
        return Ok((url.to_owned(), NONE));
    };
    let mut rest = Vec::new();
    for part in query.split('&') {
        match part.split_once('=') {
            Some(("ca", path)) => ca = Some(file(path)?),
            Some(("cert", path)) => cert = Some(file(path)?),
            Some(("key", path)) => key = Some(file(path)?),
            _ => rest.push(part),
        }
    }
    let client_tls = match (cert, key) {
        (Some(client_cert), Some(client_key)) => Some(ClientTlsConfig { client_cert, client_key }),
        (None, None) => None,
        _ => return Err(StoreError::Refused("`cert=` and `key=` go together in a store URL".to_owned())),
    };
    let plain = if rest.is_empty() { base.to_owned() } else { format!("{base}?{}", rest.join("&")) };
    Ok((plain, TlsCertificates { client_tls, root_cert: ca }))
}

fn file(path: &str) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| StoreError::Refused(format!("{path}, which the store URL names: {error}")))
}
