//! TLS to PostgreSQL. Where a URL asks for it, the server's certificate and its name are always verified; what
//! it does not ask for is not done. It knows files and URLs, and no query.
//!
//! `sslmode=require` and `sslmode=verify-full` are the same here, because encryption to whoever answers keeps
//! nobody out. `sslrootcert=FILE`: only this authority is trusted, instead of those of the machine.
//! `sslcert=FILE&sslkey=FILE`: what is shown to a server that asks.

use std::fs;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};

use crate::store::contract::{Result, StoreError};
use crate::sys::tls;

/// What a URL says about TLS.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Asked {
    pub is_on: bool,
    root: Option<String>,
    cert: Option<String>,
    key: Option<String>,
}

/// The URL without what it says about TLS, and that. Pure.
///
/// # Errors
/// A sentence about what is wrong.
pub fn split(url: &str) -> Result<(String, Asked), String> {
    let mut asked = Asked::default();
    let Some((base, query)) = url.split_once('?') else { return Ok((url.to_owned(), asked)) };
    let mut rest = Vec::new();
    for part in query.split('&') {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let file = || (!value.is_empty()).then(|| decoded(value)).ok_or_else(|| format!("`{name}` is empty"));
        match name {
            "sslmode" => match value {
                "disable" | "prefer" => {}
                "require" | "verify-full" => asked.is_on = true,
                _ => return Err(format!("sslmode is disable, prefer, require or verify-full, not `{value}`")),
            },
            "sslrootcert" if value == "system" => {}
            "sslrootcert" => asked.root = Some(file()?),
            "sslcert" => asked.cert = Some(file()?),
            "sslkey" => asked.key = Some(file()?),
            _ => rest.push(part),
        }
    }
    if asked.cert.is_some() != asked.key.is_some() {
        return Err("`sslcert` and `sslkey` go together".to_owned());
    }
    if !asked.is_on && (asked.root.is_some() || asked.cert.is_some()) {
        return Err("`sslrootcert`, `sslcert` and `sslkey` need sslmode=verify-full".to_owned());
    }
    let plain = if rest.is_empty() { base.to_owned() } else { format!("{base}?{}", rest.join("&")) };
    Ok((plain, asked))
}

/// `%2F` and the like as the bytes that they stand for.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let code = (*first == b'%').then(|| behind.get(..2)).flatten();
        let byte = code.and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &behind[2..] } else { behind };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Makes connections with TLS. Without a configuration it is never asked to.
#[derive(Clone)]
pub struct Connector(Option<tokio_rustls::TlsConnector>);

impl Connector {
    /// Reads the files.
    ///
    /// # Errors
    /// [`StoreError::Refused`] for a file that cannot be read, or holds something else.
    pub fn new(asked: &Asked) -> Result<Connector> {
        if !asked.is_on {
            return Ok(Connector(None));
        }
        tls::install();
        let mut roots = RootCertStore::empty();
        match &asked.root {
            Some(path) => {
                let found = certificates(path)?;
                if roots.add_parsable_certificates(found).0 == 0 {
                    return Err(refused(path, "it holds no certificate"));
                }
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        let config = ClientConfig::builder().with_root_certificates(roots);
        let config = match (&asked.cert, &asked.key) {
            (Some(cert), Some(key)) => {
                let text = read(key)?;
                let secret = PrivateKeyDer::from_pem_slice(&text).map_err(|error| refused(key, &error.to_string()))?;
                config
                    .with_client_auth_cert(certificates(cert)?, secret)
                    .map_err(|error| refused(key, &error.to_string()))?
            }
            _ => config.with_no_client_auth(),
        };
        Ok(Connector(Some(Arc::new(config).into())))
    }
}

fn refused(path: &str, why: &str) -> StoreError {
    StoreError::Refused(format!("{path}, which the store URL names: {why}"))
}

fn read(path: &str) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| refused(path, &error.to_string()))
}

fn certificates(path: &str) -> Result<Vec<CertificateDer<'static>>> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    found.map_err(|error| refused(path, &error.to_string()))
}

type Tls<S> = tokio_rustls::client::TlsStream<S>;

impl<S> MakeTlsConnect<S> for Connector
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = Stream<S>;
    type TlsConnect = Handshake;
    type Error = io::Error;

    fn make_tls_connect(&mut self, host: &str) -> io::Result<Handshake> {
        // Asked for of every connection, and used by those with TLS.
        let Some(connector) = &self.0 else { return Ok(Handshake(None)) };
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        Ok(Handshake(Some((connector.clone(), name))))
    }
}

pub struct Handshake(Option<(tokio_rustls::TlsConnector, ServerName<'static>)>);

impl<S> TlsConnect<S> for Handshake
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = Stream<S>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream<S>>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        Box::pin(async move {
            let Some((connector, name)) = self.0 else { return Err(io::Error::other("TLS was not asked for")) };
            Ok(Stream(Box::new(connector.connect(name, stream).await?)))
        })
    }
}

pub struct Stream<S>(Box<Tls<S>>);

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Stream<S> {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, into)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_about_tls_is_taken_out() {
        let (plain, asked) =
            split("postgres://u:p@h/d?user=me&sslmode=verify-full&sslrootcert=%2Fx%2Fca.pem&sslcert=a&sslkey=b")
                .expect("is read");
        let files = (asked.root.as_deref(), asked.cert.as_deref(), asked.key.as_deref());
        assert_eq!((plain.as_str(), asked.is_on), ("postgres://u:p@h/d?user=me", true));
        assert_eq!(files, (Some("/x/ca.pem"), Some("a"), Some("b")));
        for quiet in ["postgres://h/d", "postgres://h/d?sslmode=disable", "postgres://h/d?sslmode=prefer"] {
            let (plain, asked) = split(quiet).expect("is read");
            assert_eq!((plain.as_str(), asked), ("postgres://h/d", Asked::default()));
        }
        for (wrong, words) in [
            ("postgres://h/d?sslmode=verify-ca", "verify-full"),
            ("postgres://h/d?sslrootcert=x", "need sslmode"),
            ("postgres://h/d?sslmode=require&sslcert=x", "go together"),
            ("postgres://h/d?sslmode=require&sslrootcert=", "is empty"),
        ] {
            assert!(split(wrong).is_err_and(|why| why.contains(words)), "{wrong}");
        }
        assert_eq!(decoded("a%2fb%zz%"), "a/b%zz%");
    }
}
