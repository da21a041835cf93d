//! A connection of our own, in clear text or TLS.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
};

use super::tls::{Check, Files};
use crate::error::{Error, Result};
use crate::server::certificates::{self, Verifier};

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

/// Files that cannot be used are a fault of the options.
fn refused(error: Error) -> Error {
    Error::usage("TLS", error)
}

fn identity(files: &Files) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let key = certificates::key(&files.key).map_err(refused)?;
    Ok((certificates::of(&files.cert).map_err(refused)?, key))
}

/// `None`: whoever has a certificate is accepted.
fn authorities(files: &Files) -> Result<Option<RootCertStore>> {
    if files.check == Check::Nothing {
        return Ok(None);
    }
    certificates::authorities(files.ca.as_deref(), files.capath.as_deref()).map(Some).map_err(refused)
}

fn client(files: &Files) -> Result<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let name = files.check == Check::ChainAndName;
    let verifier = Verifier::new(provider.clone(), authorities(files)?, name)?;
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
    let config = match authorities(files)? {
        None => config.with_no_client_auth(),
        Some(roots) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
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
