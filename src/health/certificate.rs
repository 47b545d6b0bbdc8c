//! Until when a server's certificate holds.
//!
//! The client for HTTP does not show it, so a second handshake reads it. Nothing is sent there, and
//! whom to trust was decided in the first: the certificate is not verified again.

use anyhow::{Context, Result, bail};
use chrono::{DateTime, Utc};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};
use x509_cert::Certificate;
use x509_cert::der::Decode;

/// When the certificate of a server expires.
pub(super) fn expiry(host: &str, port: u16, deadline: Instant) -> Result<DateTime<Utc>> {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Reader(provider)))
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).context("its name is none that TLS knows")?;
    let mut connection = ClientConnection::new(Arc::new(config), name)?;
    let mut socket = connect(host, port, deadline)?;
    while connection.is_handshaking() {
        let left = left(deadline)?;
        socket.set_read_timeout(Some(left))?;
        socket.set_write_timeout(Some(left))?;
        if connection.wants_write() {
            connection.write_tls(&mut socket)?;
        } else if connection.read_tls(&mut socket)? == 0 {
            bail!("it hung up");
        } else {
            connection.process_new_packets()?;
        }
    }
    let first = connection.peer_certificates().and_then(|chain| chain.first()).context("it shows none")?;
    let certificate = Certificate::from_der(first).context("it is no certificate that can be read")?;
    let end = certificate.tbs_certificate().validity().not_after.to_unix_duration();
    DateTime::from_timestamp(i64::try_from(end.as_secs())?, 0).context("its end is no time")
}

fn connect(host: &str, port: u16, deadline: Instant) -> Result<TcpStream> {
    let mut failure = anyhow::anyhow!("it has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, left(deadline)?) {
            Ok(socket) => return Ok(socket),
            Err(error) => failure = error.into(),
        }
    }
    Err(failure)
}

fn left(deadline: Instant) -> Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { bail!("there was no time left") } else { Ok(left) }
}

/// Takes any certificate: it is only read.
#[derive(Debug)]
struct Reader(Arc<CryptoProvider>);

impl ServerCertVerifier for Reader {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
