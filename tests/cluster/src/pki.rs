//! Keys, certificates and tokens of one control plane. Nothing here outlives its folder.

use std::{fs, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::Path};

use anyhow::{Context as _, Result};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

/// A certificate with its private key, both as PEM.
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// The cluster's authority and the API server's certificate, valid for loopback alone.
pub(crate) struct Authority {
    pub(crate) ca: String,
    pub(crate) server: Pair,
}

/// Makes an authority and lets it sign a certificate for the API server.
pub(crate) fn authority() -> Result<Authority> {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "penstock test control plane");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    let ca_key = KeyPair::generate().context("can't make the authority's key")?;
    let ca = params
        .self_signed(&ca_key)
        .context("can't sign the authority's certificate")?;
    let issuer = Issuer::new(params, ca_key);

    let names = [
        "127.0.0.1",
        "127.0.1.1",
        "localhost",
        "kubernetes.default.svc",
    ];
    let mut params = CertificateParams::new(names.map(String::from))?;
    params
        .distinguished_name
        .push(DnType::CommonName, "kube-apiserver");
    let key = KeyPair::generate().context("can't make the API server's key")?;
    let certificate = params
        .signed_by(&key, &issuer)
        .context("can't sign the API server's certificate")?;
    Ok(Authority {
        ca: ca.pem(),
        server: Pair {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        },
    })
}

/// A self-signed certificate for 127.0.0.1.
pub(crate) fn loopback_certificate() -> Result<rcgen::CertifiedKey<KeyPair>> {
    rcgen::generate_simple_self_signed([String::from("127.0.0.1")])
        .context("can't make a certificate")
}

/// The key that signs service account tokens: the private half, and the public half.
pub(crate) fn service_account_key() -> Result<(String, String)> {
    let key = KeyPair::generate().context("can't make the service accounts' key")?;
    Ok((key.serialize_pem(), key.public_key_pem()))
}

/// A token that can't be guessed.
pub(crate) fn token() -> String {
    format!(
        "{}{}",
        uuid::Uuid::new_v4().simple(),
        uuid::Uuid::new_v4().simple()
    )
}

/// Writes a file that only its owner can read.
pub(crate) fn write_secret(path: &Path, text: &str) -> Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("can't write {}", path.display()))?;
    file.write_all(text.as_bytes())
        .with_context(|| format!("can't write {}", path.display()))
}
