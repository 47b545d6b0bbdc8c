//! Whom to trust by TLS: authorities of one's own instead of the public ones.

use anyhow::{Context, Result, ensure};
use std::path::Path;
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
