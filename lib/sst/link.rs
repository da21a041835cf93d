//! A connection of our own, in clear text or TLS.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, ServerConfig,
    ServerConnection, SignatureScheme, StreamOwned,
};

use super::tls::{Check, Files};
use crate::error::{Error, Result};

/// Bytes to and from the other node.
pub(super) enum Link {
    Plain(TcpStream),
    Client(StreamOwned<ClientConnection, TcpStream>),
    Server(StreamOwned<ServerConnection, TcpStream>),
}

impl Link {
    /// The donor's end.
    pub(super) fn connected(mut stream: TcpStream, host: &str, tls: Option<&Files>) -> Result<Link> {
        let Some(files) = tls else { return Ok(Link::Plain(stream)) };
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| Error::usage(host, "is no name that a certificate can have"))?;
        let config = client(files)?;
        let mut session = ClientConnection::new(Arc::new(config), name).map_err(|cause| fail("TLS", &cause))?;
        shake(|| session.complete_io(&mut stream).map(drop), "joiner")?;
        Ok(Link::Client(StreamOwned::new(session, stream)))
    }

    /// The joiner's end.
    pub(super) fn accepted(mut stream: TcpStream, tls: Option<&Files>) -> Result<Link> {
        let Some(files) = tls else { return Ok(Link::Plain(stream)) };
        let mut session = ServerConnection::new(Arc::new(server(files)?)).map_err(|cause| fail("TLS", &cause))?;
        shake(|| session.complete_io(&mut stream).map(drop), "donor")?;
        Ok(Link::Server(StreamOwned::new(session, stream)))
    }

    /// The connection below.
    pub(super) fn stream(&self) -> &TcpStream {
        match self {
            Link::Plain(stream) => stream,
            Link::Client(stream) => &stream.sock,
            Link::Server(stream) => &stream.sock,
        }
    }

    /// Says that nothing more comes.
    pub(super) fn close(&mut self) {
        // All that counts has been said and answered before.
        let _ = match self {
            Link::Plain(stream) => stream.shutdown(std::net::Shutdown::Write),
            Link::Client(stream) => {
                stream.conn.send_close_notify();
                stream.flush()
            }
            Link::Server(stream) => {
                stream.conn.send_close_notify();
                stream.flush()
            }
        };
    }
}

impl Read for Link {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Link::Plain(stream) => stream.read(buffer),
            Link::Client(stream) => stream.read(buffer),
            Link::Server(stream) => stream.read(buffer),
        }
    }
}

impl Write for Link {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Link::Plain(stream) => stream.write(bytes),
            Link::Client(stream) => stream.write(bytes),
            Link::Server(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Link::Plain(stream) => stream.flush(),
            Link::Client(stream) => stream.flush(),
            Link::Server(stream) => stream.flush(),
        }
    }
}

fn fail(place: &str, cause: &dyn std::fmt::Display) -> Error {
    Error::failed(place, format_args!("TLS: {cause}"))
}

fn shake(hands: impl FnOnce() -> io::Result<()>, side: &str) -> Result<()> {
    hands().map_err(|cause| {
        let known = cause.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        let error = match known {
            Some(rustls::Error::InvalidCertificate(reason)) => {
                Error::failed(side, format_args!("its certificate is not accepted: {}", why(reason)))
            }
            Some(rustls::Error::AlertReceived(alert)) => {
                Error::failed(side, format_args!("ended the TLS handshake: {alert:?}; its own message says why"))
            }
            _ => Error::io(side, "TLS handshake", &cause),
        };
        error.hint("the certificates are those of tca, tcert and tkey, or ssl-ca, ssl-cert and ssl-key, of both nodes")
    })
}

fn why(reason: &CertificateError) -> String {
    match reason {
        CertificateError::UnknownIssuer => "it is not issued by an authority of tca or ssl-ca".to_owned(),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "it is for another host than the joiner's address; it needs that name as subjectAltName".to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired".to_owned(),
        other => other.to_string(),
    }
}

fn identity(files: &Files) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let key = PrivateKeyDer::from_pem_file(&files.key);
    let key = key.map_err(|cause| Error::usage(files.key.display(), format_args!("is not a private key: {cause}")))?;
    Ok((certificates(&files.cert)?, key))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let is_none = |cause| Error::usage(path.display(), format_args!("is not a certificate: {cause}"));
    let found: Vec<_> =
        CertificateDer::pem_file_iter(path).map_err(is_none)?.collect::<Result<_, _>>().map_err(is_none)?;
    match found.is_empty() {
        true => Err(Error::usage(path.display(), "has no certificate in PEM format")),
        false => Ok(found),
    }
}

fn authorities(files: &Files) -> Result<Arc<RootCertStore>> {
    let mut roots = RootCertStore::empty();
    let mut found = files.ca.iter().cloned().collect::<Vec<_>>();
    if let Some(dir) = &files.capath {
        let entries = std::fs::read_dir(dir).map_err(|cause| Error::io(dir.display(), "cannot read", &cause))?;
        // The directory may also have lists of revoked certificates.
        found.extend(entries.flatten().map(|entry| entry.path()).filter(|path| certificates(path).is_ok()));
    }
    for path in &found {
        for cert in certificates(path)? {
            roots.add(cert).map_err(|cause| {
                Error::usage(path.display(), format_args!("not a certificate of an authority: {cause}"))
            })?;
        }
    }
    if roots.is_empty() {
        return Err(Error::usage("tca, ssl-ca", "there is no certificate of an authority"));
    }
    Ok(Arc::new(roots))
}

fn client(files: &Files) -> Result<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let issuer = match files.check {
        Check::Nothing => None,
        Check::Chain | Check::ChainAndName => {
            let verifier = WebPkiServerVerifier::builder_with_provider(authorities(files)?, provider.clone()).build();
            Some(verifier.map_err(|cause| fail("TLS", &cause))?)
        }
    };
    let verifier = Verifier { provider: provider.clone(), issuer, name: files.check == Check::ChainAndName };
    let (chain, key) = identity(files)?;
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    config
        .map_err(|cause| fail("TLS", &cause))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(chain, key)
        .map_err(|cause| Error::usage(files.key.display(), format_args!("does not fit the certificate: {cause}")))
}

fn server(files: &Files) -> Result<ServerConfig> {
    let provider = Arc::new(ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let config = config.map_err(|cause| fail("TLS", &cause))?;
    let config = match files.check {
        Check::Nothing => config.with_no_client_auth(),
        Check::Chain | Check::ChainAndName => {
            let verifier = WebPkiClientVerifier::builder_with_provider(authorities(files)?, provider).build();
            config.with_client_cert_verifier(verifier.map_err(|cause| fail("TLS", &cause))?)
        }
    };
    let (chain, key) = identity(files)?;
    config
        .with_single_cert(chain, key)
        .map_err(|cause| Error::usage(files.key.display(), format_args!("does not fit the certificate: {cause}")))
}

/// Fails if the certificates cannot be used, before anybody has connected.
pub(super) fn usable(files: &Files) -> Result<()> {
    client(files)?;
    server(files).map(drop)
}

/// Verifies the joiner's certificate as far as options say.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    issuer: Option<Arc<WebPkiServerVerifier>>,
    name: bool,
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
        rustls::crypto::verify_tls12_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
