//! The cryptography behind TLS, chosen once for the process, and what its errors mean. It knows no connection.

use std::error::Error;
use std::io;
use std::sync::{Arc, Once};

/// Lets rustls know which provider it is to use. Another one that was installed before is as good.
pub fn install() {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
}

/// What one side of a connection holds against the other's certificate, if that is why it failed: trying
/// again does not help.
pub fn refusal(error: &(dyn Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        // A shared error passes for one of its own, and hides what it is.
        let error = match error.downcast_ref::<Arc<dyn Error + Send + Sync>>() {
            Some(shared) => &**shared as &(dyn Error + 'static),
            None => error,
        };
        let found = match error.downcast_ref::<io::Error>() {
            Some(outer) => outer.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()),
            None => error.downcast_ref::<rustls::Error>(),
        };
        match found {
            Some(rustls::Error::InvalidCertificate(why)) => {
                return Some(format!("the server's certificate is not trusted: {why}"));
            }
            Some(rustls::Error::AlertReceived(why)) => {
                return Some(format!("the server ends the TLS handshake: {why:?}"));
            }
            Some(why @ rustls::Error::InvalidMessage(_)) => return Some(format!("the server speaks no TLS: {why}")),
            _ => next = error.source(),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_told_from_lost_connections() {
        let wrapped = |error: rustls::Error| io::Error::new(io::ErrorKind::InvalidData, error);
        let unknown = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        assert!(refusal(&wrapped(unknown.clone())).is_some_and(|why| why.contains("UnknownIssuer")));
        assert!(refusal(&unknown).is_some());
        let shared: Arc<dyn Error + Send + Sync> = Arc::new(wrapped(unknown));
        assert!(refusal(&shared).is_some());
        assert!(
            refusal(&wrapped(rustls::Error::AlertReceived(rustls::AlertDescription::CertificateRequired))).is_some()
        );
        assert_eq!(refusal(&io::Error::from(io::ErrorKind::ConnectionReset)), None);
    }
}
