//! The cryptography behind TLS, chosen once for the process.

use std::sync::Once;

/// Lets rustls know which provider it is to use. Another one that was installed before is as good.
pub fn install() {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
}
