//! Certificates, keys and authorities in files, and how the certificate of another side is verified: of a server by
//! `xb-snap`, of another node by `wsrep_sst_xb`.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::error::{Error, Result};

/// The certificates in a PEM file.
///
/// # Errors
///
/// Failed, if there is none, or something else.
pub(crate) fn of(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let is_none = |cause| Error::failed(path.display(), format_args!("is not a certificate: {cause}"));
    let found: Vec<_> =
        CertificateDer::pem_file_iter(path).map_err(is_none)?.collect::<Result<_, _>>().map_err(is_none)?;
    if found.is_empty() { Err(Error::failed(path.display(), "has no certificate in PEM format")) } else { Ok(found) }
}

/// The private key in a PEM file.
///
/// # Errors
///
/// Failed, if there is none.
pub(crate) fn key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_file(path)
        .map_err(|cause| Error::failed(path.display(), format_args!("is not a private key: {cause}")))
}

/// Trusted authorities, of a file and of all files in a directory.
///
/// # Errors
///
/// Failed, if there is none, or something else in the file.
pub(crate) fn authorities(file: Option<&Path>, dir: Option<&Path>) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let mut add = |path: &Path, certs: Vec<CertificateDer<'static>>| {
        certs.into_iter().try_for_each(|cert| {
            let is_none = |cause: rustls::Error| {
                Error::failed(path.display(), format_args!("not a certificate authority: {cause}"))
            };
            roots.add(cert).map_err(is_none)
        })
    };
    if let Some(file) = file {
        add(file, of(file)?)?;
    }
    if let Some(dir) = dir {
        let fail = |cause| Error::io(dir.display(), "cannot read", &cause);
        for entry in std::fs::read_dir(dir).map_err(fail)? {
            let path = entry.map_err(fail)?.path();
            // The directory may also contain lists of revoked certificates.
            if path.is_file()
                && let Ok(certs) = of(&path)
            {
                add(&path, certs)?;
            }
        }
    }
    match (roots.is_empty(), dir) {
        (true, Some(dir)) => Err(Error::failed(dir.display(), "has no certificate of an authority")),
        (true, None) => Err(Error::failed("TLS", "no authority is trusted")),
        (false, _) => Ok(roots),
    }
}

/// Verifies the certificate of the side that was connected to, as far as requested.
#[derive(Debug)]
pub(crate) struct Verifier {
    provider: Arc<CryptoProvider>,
    issuer: Option<Arc<WebPkiServerVerifier>>,
    name: bool,
}

impl Verifier {
    /// Accepts certificates of these authorities, or any if there are none; `name`: only for the host that was asked for.
    ///
    /// # Errors
    ///
    /// Failed, if the library does not take the authorities.
    pub(crate) fn new(provider: Arc<CryptoProvider>, trusted: Option<RootCertStore>, name: bool) -> Result<Verifier> {
        let build = |roots| WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
        let issuer = trusted.map(build).transpose().map_err(|cause| Error::failed("TLS", cause))?;
        Ok(Verifier { provider, issuer, name })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(issuer) = &self.issuer else { return Ok(ServerCertVerified::assertion()) };
        match issuer.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The name is checked last.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.name => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        match &self.issuer {
            Some(issuer) => issuer.verify_tls12_signature(message, cert, signed),
            None => Ok(HandshakeSignatureValid::assertion()),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        match &self.issuer {
            Some(issuer) => issuer.verify_tls13_signature(message, cert, signed),
            None => Ok(HandshakeSignatureValid::assertion()),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
