//! Whether a connection is encrypted, and how the server's certificate is verified. The options have the names and the
//! meaning of those of both families' client programs.
//!
//! | options | by TCP | through a socket | certificate |
//! |---|---|---|---|
//! | none | if the server offers it | no | not verified |
//! | `--ssl`, `--ssl-mode=REQUIRED` | required | required | not verified |
//! | `--ssl-ca`, `--ssl-capath` | required | no | issued by one of these |
//! | `--ssl-cert`, `--ssl-key` | required | if the server offers it | not verified |
//! | `--ssl-mode=VERIFY_CA` | required | required | issued by one of `--ssl-ca` or `--ssl-capath` |
//! | `--ssl-verify-server-cert`, `--ssl-mode=VERIFY_IDENTITY` | required | required | so, and made for this host |
//! | `--skip-ssl`, `--ssl-mode=DISABLED` | no | no | |
//!
//! Sources: `mysql --help` of both families; MySQL 9.7 manual, "Command Options for Encrypted Connections".

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::{CertificateError, ClientConfig};

use super::certificates::{self, Verifier};
use super::options::Options;
use crate::error::{Error, Result};

/// Options in option files that would require more verification than is supported. To ignore them would be unsafe.
const UNKNOWN: [&str; 2] = ["ssl-crl", "ssl-crlpath"];

/// `--ssl-mode`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Never encrypt.
    Disabled,
    /// Encrypt by TCP, if the server offers it.
    Preferred,
    /// Always encrypt.
    Required,
    /// Always encrypt, with a certificate issued by a trusted authority.
    VerifyCa,
    /// Also require that the certificate is for the requested host.
    VerifyIdentity,
}

/// Options on the command line; option files provide the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// `--ssl-mode`
    pub mode: Option<Mode>,
    /// `--ssl`: true, `--skip-ssl`: false
    pub ssl: Option<bool>,
    /// `--ssl-verify-server-cert`
    pub verify: Option<bool>,
    /// `--ssl-ca`: a file with certificates of trusted authorities.
    pub ca: Option<PathBuf>,
    /// `--ssl-capath`: a directory of such files.
    pub capath: Option<PathBuf>,
    /// `--ssl-cert`: the certificate of this client.
    pub cert: Option<PathBuf>,
    /// `--ssl-key`: its private key.
    pub key: Option<PathBuf>,
}

/// When to encrypt a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum When {
    /// Never.
    #[default]
    Never,
    /// If the server offers it.
    Offered,
    /// Always: a server without TLS is refused.
    Always,
}

/// What to verify of the server's certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Verify {
    #[default]
    Nothing,
    Issuer,
    IssuerAndName,
}

/// How connections are encrypted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    tcp: When,
    socket: When,
    verify: Verify,
    ca: Option<PathBuf>,
    capath: Option<PathBuf>,
    identity: Option<(PathBuf, PathBuf)>,
}

impl Mode {
    fn named(name: &str) -> Result<Mode> {
        let modes = [
            ("DISABLED", Mode::Disabled),
            ("PREFERRED", Mode::Preferred),
            ("REQUIRED", Mode::Required),
            ("VERIFY_CA", Mode::VerifyCa),
            ("VERIFY_IDENTITY", Mode::VerifyIdentity),
        ];
        let found = modes.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, mode)| mode).ok_or_else(|| Error::usage("ssl-mode", format_args!("{name:?} is not a mode")))
    }
}

impl Asked {
    /// The settings from the command line, then option files.
    ///
    /// # Errors
    ///
    /// Usage: an unknown mode or value, verification without a trusted authority, a certificate without its key, or
    /// options that contradict each other.
    pub fn or_from(&self, options: &Options) -> Result<Tls> {
        if let Some(name) = UNKNOWN.iter().find(|name| options.client(name).is_some_and(|value| !value.is_empty())) {
            return Err(Error::usage(*name, "lists of revoked certificates are not supported").hint(
                "remove it from the group that xb-snap reads, or connect through the socket with --no-defaults",
            ));
        }
        let file = |given: &Option<PathBuf>, name: &str| {
            given.clone().or_else(|| options.client(name).filter(|text| !text.is_empty()).map(PathBuf::from))
        };
        let (ca, capath) = (file(&self.ca, "ssl-ca"), file(&self.capath, "ssl-capath"));
        let identity = match (file(&self.cert, "ssl-cert"), file(&self.key, "ssl-key")) {
            (None, None) => None,
            (Some(cert), Some(key)) => Some((cert, key)),
            (Some(_), None) => return Err(Error::usage("--ssl-cert", "needs --ssl-key")),
            (None, Some(_)) => return Err(Error::usage("--ssl-key", "needs --ssl-cert")),
        };
        let has_ca = ca.is_some() || capath.is_some();
        let ssl = self.ssl.map_or_else(|| switch(options, "ssl"), |on| Ok(Some(on)))?;
        let check = self.verify.map_or_else(|| switch(options, "ssl-verify-server-cert"), |on| Ok(Some(on)))?;
        let named = match (self.mode, options.client("ssl-mode")) {
            (Some(mode), _) => Some(mode),
            // The command line has priority over the file.
            (None, Some(name)) if self.ssl.is_none() && self.verify.is_none() => Some(Mode::named(name)?),
            _ => None,
        };
        let mode = match (named, ssl, check) {
            (Some(Mode::Disabled | Mode::Preferred), _, Some(true)) => {
                return Err(Error::usage("--ssl-verify-server-cert", "contradicts --ssl-mode"));
            }
            (Some(_), _, Some(true)) => Some(Mode::VerifyIdentity),
            (Some(mode), ..) => Some(mode),
            (None, Some(false), _) => Some(Mode::Disabled),
            (None, _, Some(true)) => Some(Mode::VerifyIdentity),
            (None, Some(true), _) => Some(Mode::Required),
            (None, None, _) => None,
        };
        let verify = match mode {
            Some(Mode::VerifyIdentity) => Verify::IssuerAndName,
            Some(Mode::VerifyCa) => Verify::Issuer,
            Some(Mode::Required) | None if has_ca => Verify::Issuer,
            _ => Verify::Nothing,
        };
        if verify != Verify::Nothing && !has_ca {
            return Err(Error::usage("TLS", "the server's certificate cannot be verified: no authority is named")
                .hint("name it with --ssl-ca or --ssl-capath"));
        }
        let (tcp, socket) = match mode {
            Some(Mode::Disabled) => (When::Never, When::Never),
            Some(Mode::Preferred) => (When::Offered, When::Never),
            Some(Mode::Required | Mode::VerifyCa | Mode::VerifyIdentity) => (When::Always, When::Always),
            None if identity.is_some() => (When::Always, When::Offered),
            None if has_ca => (When::Always, When::Never),
            None => (When::Offered, When::Never),
        };
        Ok(Tls { tcp, socket, verify, ca, capath, identity })
    }
}

/// `NAME`, `NAME=1`, `NAME=ON`, `skip-NAME`, `disable-NAME` in an option file; if both an option and its opposite are
/// given, the opposite is used.
fn switch(options: &Options, name: &str) -> Result<Option<bool>> {
    let is = |name: &str| match options.client(name).map(str::to_ascii_lowercase).as_deref() {
        None => Ok(None),
        Some("" | "1" | "on" | "true" | "yes") => Ok(Some(true)),
        Some("0" | "off" | "false" | "no") => Ok(Some(false)),
        Some(other) => Err(Error::usage(name, format_args!("{other:?} is neither on nor off"))),
    };
    let off = is(&format!("skip-{name}"))?.or(is(&format!("disable-{name}"))?);
    if off == Some(true) { Ok(Some(false)) } else { is(name) }
}

impl Tls {
    /// When to encrypt a connection by TCP.
    pub fn tcp(&self) -> When {
        self.tcp
    }

    /// When to encrypt a connection through a socket.
    pub fn socket(&self) -> When {
        self.socket
    }

    /// The configuration of the TLS library.
    ///
    /// # Errors
    ///
    /// Failed, if a certificate or key cannot be read or parsed.
    pub fn config(&self) -> Result<ClientConfig> {
        let provider = Arc::new(ring::default_provider());
        let invalid = |place: &Path, cause: &dyn std::fmt::Display| Error::failed(place.display(), cause);
        let fail = |cause: rustls::Error| Error::failed("TLS", cause);
        let trusted = match self.verify {
            Verify::Nothing => None,
            Verify::Issuer | Verify::IssuerAndName => {
                Some(certificates::authorities(self.ca.as_deref(), self.capath.as_deref())?)
            }
        };
        let verifier = Verifier::new(provider.clone(), trusted, self.verify == Verify::IssuerAndName)?;
        let config =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(fail)?;
        let config = config.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
        match &self.identity {
            None => Ok(config.with_no_client_auth()),
            Some((cert, key)) => {
                let (chain, private) = (certificates::of(cert)?, certificates::key(key)?);
                config.with_client_auth_cert(chain, private).map_err(|cause| invalid(key, &cause))
            }
        }
    }
}

/// The reason why a connection cannot be encrypted.
pub(super) fn reason(error: &rustls::Error) -> String {
    use rustls::Error::{AlertReceived, InvalidCertificate};
    match error {
        InvalidCertificate(CertificateError::UnknownIssuer) => {
            "the server's certificate is not issued by an authority of --ssl-ca or --ssl-capath".to_owned()
        }
        InvalidCertificate(
            cause @ (CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }),
        ) => {
            format!("the server's certificate is for another host: {cause}")
        }
        InvalidCertificate(cause) => format!("the server's certificate is not accepted: {cause}"),
        AlertReceived(alert) => format!("the server ended the TLS handshake: {alert:?}"),
        other => format!("TLS: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Options in a file, and on the command line after `|`: how TCP and a socket are encrypted, and what is verified.
    #[test]
    fn options_mean_what_they_mean_to_client_programs() {
        use Verify::{Issuer, IssuerAndName, Nothing};
        use When::{Always, Never, Offered};
        let rows = [
            ("", Ok((Offered, Never, Nothing))),
            ("ssl", Ok((Always, Always, Nothing))),
            ("ssl=0", Ok((Never, Never, Nothing))),
            ("skip-ssl", Ok((Never, Never, Nothing))),
            ("ssl\nskip-ssl", Ok((Never, Never, Nothing))),
            ("ssl-mode=preferred", Ok((Offered, Never, Nothing))),
            ("ssl-mode=REQUIRED", Ok((Always, Always, Nothing))),
            ("ssl-mode=REQUIRED\nssl-ca=a", Ok((Always, Always, Issuer))),
            ("ssl-mode=PREFERRED\nssl-ca=a", Ok((Offered, Never, Nothing))),
            ("ssl-mode=DISABLED\nssl-ca=a", Ok((Never, Never, Nothing))),
            ("ssl-ca=a", Ok((Always, Never, Issuer))),
            ("ssl-capath=a", Ok((Always, Never, Issuer))),
            ("ssl-ca=a\nskip-ssl-verify-server-cert", Ok((Always, Never, Issuer))),
            ("ssl-ca=a\nssl-verify-server-cert", Ok((Always, Always, IssuerAndName))),
            ("ssl-mode=VERIFY_CA\nssl-ca=a", Ok((Always, Always, Issuer))),
            ("ssl-mode=VERIFY_IDENTITY\nssl-ca=a", Ok((Always, Always, IssuerAndName))),
            ("ssl-cert=c\nssl-key=k", Ok((Always, Offered, Nothing))),
            ("ssl-cert=c\nssl-key=k\nssl-ca=a", Ok((Always, Offered, Issuer))),
            ("ssl-mode=DISABLED|mode", Ok((Always, Always, Nothing))),
            ("ssl-mode=DISABLED|ssl", Ok((Always, Always, Nothing))),
            ("ssl-verify-server-cert", Err("no authority is named")),
            ("ssl-mode=VERIFY_CA", Err("no authority is named")),
            ("ssl-mode=PREFERRED\nssl-ca=a\nssl-verify-server-cert", Err("contradicts --ssl-mode")),
            ("ssl-mode=VERIFY", Err("is not a mode")),
            ("ssl=maybe", Err("neither on nor off")),
            ("ssl-cert=c", Err("needs --ssl-key")),
            ("ssl-key=k", Err("needs --ssl-cert")),
            ("ssl-crl=c", Err("not supported")),
        ];
        for (text, want) in rows {
            let (file, line) = text.split_once('|').unwrap_or((text, ""));
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("my.cnf");
            std::fs::write(&path, format!("[client]\n{file}\n")).unwrap();
            let sources = super::super::options::Sources { file: Some(path), ..Default::default() };
            let options = sources.read(&()).unwrap();
            let asked = Asked {
                mode: (line == "mode").then_some(Mode::Required),
                ssl: (line == "ssl").then_some(true),
                ..Asked::default()
            };
            match (asked.or_from(&options), want) {
                (Ok(tls), Ok(want)) => assert_eq!((tls.tcp, tls.socket, tls.verify), want, "{text:?}"),
                (Err(error), Err(says)) => assert!(error.to_string().contains(says), "{text:?}: {error}"),
                (found, want) => panic!("{text:?}: {found:?}, not {want:?}"),
            }
        }
    }
}
