//! TLS of both sides: certificates from PEM files, and what SCRAM binds itself to.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use ring::digest;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring::default_provider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use tokio_rustls::TlsAcceptor;

use crate::config::{DbTls, ServerTls};

/// Takes clients that want TLS.
#[derive(Clone)]
pub struct Acceptor {
    pub tls: TlsAcceptor,
    /// The hash of our certificate, for SCRAM-SHA-256-PLUS.
    pub binding: Option<Arc<[u8]>>,
}

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Acceptor")
    }
}

impl Acceptor {
    /// Reads certificate and key.
    ///
    /// # Errors
    /// If one cannot be read, or they do not belong together.
    pub fn load(files: &DbTls) -> anyhow::Result<Self> {
        let chain = certificates(&files.certificate)?;
        let binding = chain.first().and_then(|leaf| binding(leaf)).map(Into::into);
        Ok(Self {
            tls: TlsAcceptor::from(server_config(files)?),
            binding,
        })
    }
}

/// How clients are taken by TLS.
///
/// # Errors
/// If certificate or key cannot be read, or they do not belong together.
pub fn server_config(files: &DbTls) -> anyhow::Result<Arc<ServerConfig>> {
    let chain = certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .with_context(|| format!("cannot read the key {}", files.key.display()))?;
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .with_context(|| format!("{}", files.certificate.display()))?;
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let name = path.display();
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = read.with_context(|| format!("cannot read the certificate {name}"))?;
    if certificates.is_empty() {
        bail!("{name} has no certificate in it");
    }
    Ok(certificates)
}

/// How servers are reached by TLS; `None` without TLS.
pub fn client_config(
    tls: ServerTls,
    ca: Option<&Path>,
) -> anyhow::Result<Option<Arc<ClientConfig>>> {
    let provider = Arc::new(default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?;
    let config = match tls {
        ServerTls::Disable => return Ok(None),
        ServerTls::Prefer | ServerTls::Require => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
            .with_no_client_auth(),
        ServerTls::VerifyFull => {
            let ca = ca.context("server_tls = \"verify-full\" needs server_ca")?;
            let mut roots = RootCertStore::empty();
            for certificate in certificates(ca)? {
                roots.add(certificate)?;
            }
            builder.with_root_certificates(roots).with_no_client_auth()
        }
    };
    Ok(Some(Arc::new(config)))
}

/// Encryption without identity, as libpq's `sslmode=require` has it.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// The binding of the server that we are connected to.
pub fn binding_of_peer(connection: &rustls::ClientConnection) -> Option<Vec<u8>> {
    binding(connection.peer_certificates()?.first()?)
}

/// `tls-server-end-point` (RFC 5929): the certificate's hash, by the algorithm of its signature,
/// SHA-256 at least. `None` where the signature has no such algorithm.
fn binding(certificate: &[u8]) -> Option<Vec<u8>> {
    // Object identifiers as they stand in DER; the last one in the certificate is its signature's.
    const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
    const ECDSA_SHA2: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03];
    let after = |oid: &[u8]| {
        let finder = memchr::memmem::rfind(certificate, oid)?;
        Some((finder, *certificate.get(finder + oid.len())?))
    };
    let rsa = after(RSA).map(|(at, last)| {
        (
            at,
            match last {
                0x0c => Some(&digest::SHA384),
                0x0d => Some(&digest::SHA512),
                4 | 5 | 0x0b => Some(&digest::SHA256),
                _ => None,
            },
        )
    });
    let ecdsa = after(ECDSA_SHA2).map(|(at, last)| {
        (
            at,
            match last {
                2 => Some(&digest::SHA256),
                3 => Some(&digest::SHA384),
                4 => Some(&digest::SHA512),
                _ => None,
            },
        )
    });
    let (_, algorithm) = rsa.into_iter().chain(ecdsa).max_by_key(|(at, _)| *at)?;
    Some(digest::digest(algorithm?, certificate).as_ref().to_vec())
}
