//! Certificates of a test's own.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// An authority of its own, and a certificate by it for the loopback address: their files.
pub fn make(folder: &Path) {
    let authority_key = KeyPair::generate().expect("a key");
    let mut authority = CertificateParams::new(Vec::<String>::new()).expect("parameters");
    // A certificate whose subject is its issuer's passes for self-signed.
    authority.distinguished_name.push(DnType::CommonName, "an authority of its own");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_cert = authority.self_signed(&authority_key).expect("a certificate");
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().expect("a key");
    let names = vec!["127.0.0.1".to_owned()];
    let own = CertificateParams::new(names).expect("parameters").signed_by(&key, &issuer).expect("a certificate");
    for (name, text) in [("ca.pem", authority_cert.pem()), ("own.pem", own.pem()), ("own.key", key.serialize_pem())] {
        std::fs::write(folder.join(name), text).expect("a file");
    }
}
