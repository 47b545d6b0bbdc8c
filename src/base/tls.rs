//! Whom to trust by TLS: authorities of one's own instead of the public ones.

use anyhow::{Context, Result, ensure};
use rustls::{ClientConfig, RootCertStore};
use std::path::Path;
use std::sync::Arc;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

/// The settings of a client for HTTP that trusts the authorities in a PEM file and no others.
///
/// # Errors
/// When the file cannot be read or has no certificate; they name the file.
pub fn trusting(ca_file: &Path) -> Result<TlsConfig> {
    let certificates =
        certificates(ca_file).with_context(|| format!("cannot use the ca_file {}", ca_file.display()))?;
    Ok(TlsConfig::builder().root_certs(RootCerts::new_with_certs(&certificates)).build())
}

/// The settings of a client that trusts the public authorities, and those in a PEM file besides.
///
/// # Errors
/// When the file cannot be read or has no certificate; they name the file.
pub fn with_authority(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(path) = ca_file {
        let using = || format!("cannot use the ca_file {}", path.display());
        for certificate in certificates(path).with_context(using)? {
            roots.add(certificate.der().to_vec().into()).with_context(using)?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>> {
    let items = parse_pem(&super::beneath::read_small_file(path, super::beneath::SMALL)?)
        .collect::<Result<Vec<_>, _>>()?;
    let certificates = items.into_iter().filter_map(|item| match item {
        PemItem::Certificate(certificate) => Some(certificate),
        _ => None,
    });
    let certificates: Vec<_> = certificates.collect();
    ensure!(!certificates.is_empty(), "there is no certificate in it");
    Ok(certificates)
}
