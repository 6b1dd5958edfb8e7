//! TLS to a server: which certificates are trusted, and which one is shown. The server's certificate is
//! always verified. It knows files, and neither URLs nor connections.
//!
//! With `?ca=FILE` only this authority is trusted, instead of those of the machine (which `SSL_CERT_FILE`
//! names). `&cert=FILE&key=FILE`: what is shown to a server that asks.

use std::fs;

use redis::{ClientTlsConfig, TlsCertificates};

use super::address::Files;
use crate::store::contract::{Result, StoreError};

/// Reads the files.
///
/// # Errors
/// [`StoreError::Refused`] for one that cannot be read.
pub fn certificates(files: &Files) -> Result<TlsCertificates> {
    let root_cert = files.ca.as_deref().map(read).transpose()?;
    let client_tls = match (&files.cert, &files.key) {
        (Some(cert), Some(key)) => Some(ClientTlsConfig { client_cert: read(cert)?, client_key: read(key)? }),
        _ => None,
    };
    Ok(TlsCertificates { client_tls, root_cert })
}

fn read(path: &str) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| StoreError::Refused(format!("{path}, which the store URL names: {error}")))
}
