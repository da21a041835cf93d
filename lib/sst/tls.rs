//! Which certificates a transfer has, and what is verified of the other side's.

use std::path::PathBuf;

use super::args::Role;
use super::asked::{Asked, refused};
use super::settings::file;
use crate::error::{Error, Result};

/// What is verified of the other side's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Check {
    /// Nothing: whoever answers gets the data.
    Nothing,
    /// That an authority has issued it.
    Chain,
    /// The same, and by the donor that it names the joiner.
    ChainAndName,
}

/// Files of a transfer over TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Files {
    pub(super) ca: Option<PathBuf>,
    pub(super) capath: Option<PathBuf>,
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
    /// Parameters for socat; our own TLS has no key exchange that needs any.
    pub(super) dhparams: Option<PathBuf>,
    pub(super) check: Check,
}

/// Files that options name.
#[derive(Default)]
struct Named {
    ca: Option<PathBuf>,
    capath: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    dhparams: Option<PathBuf>,
}

impl Named {
    fn any(&self) -> bool {
        self.ca.is_some() || self.capath.is_some() || self.cert.is_some() || self.key.is_some()
    }

    fn has_ca(&self) -> bool {
        self.ca.is_some() || self.capath.is_some()
    }

    /// A directory as the file of authorities is one of many.
    fn sorted(self) -> Named {
        match self.ca {
            Some(dir) if dir.is_dir() => Named { ca: None, capath: Some(dir), ..self },
            _ => self,
        }
    }

    fn with(self, option: &str, check: Check) -> Result<Option<Files>> {
        let lacks = |what: &str| Error::usage(option, format_args!("needs {what}"));
        if check != Check::Nothing && !self.has_ca() {
            return Err(lacks("the certificate of an authority: tca or ssl-ca"));
        }
        let cert = self.cert.ok_or_else(|| lacks("a certificate: tcert or ssl-cert"))?;
        let key = self.key.ok_or_else(|| lacks("the key of the certificate: tkey or ssl-key"))?;
        let (ca, capath) = if check == Check::Nothing { (None, None) } else { (self.ca, self.capath) };
        for path in [Some(&cert), Some(&key), ca.as_ref(), self.dhparams.as_ref()].into_iter().flatten() {
            std::fs::File::open(path).map_err(|cause| {
                let error = Error::io(path.display(), "cannot read", &cause);
                Error::usage(option, error)
            })?;
        }
        Ok(Some(Files { ca, capath, cert, key, dhparams: self.dhparams, check }))
    }
}

impl Files {
    /// As the options say; `None`: in clear text. Whoever has named certificates does not get clear text.
    ///
    /// # Errors
    ///
    /// Usage: options contradict each other, or a file is missing.
    pub(super) fn of(asked: &Asked<'_>, role: Role) -> Result<Option<Files>> {
        let side = if role == Role::Joiner { "ssl-server-" } else { "ssl-client-" };
        let old = |key: &str| asked.sst(key).map(file);
        let own = |key: &str| {
            let value = asked.shared(&format!("{side}{key}")).or_else(|| asked.shared(&format!("ssl-{key}")));
            value.map(file)
        };
        let only = |key: &str| asked.backup(&format!("ssl-{key}")).is_some();
        let t =
            Named { ca: old("tca"), capath: old("tcapath"), cert: old("tcert"), key: old("tkey"), ..Named::default() };
        let ssl =
            Named { ca: own("ca"), capath: own("capath"), cert: own("cert"), key: own("key"), ..Named::default() };
        // The servers' own certificates are for their clients; those of a transfer are not to be ignored.
        let meant = t.any() || only("ca") || only("capath") || only("cert") || only("key");
        let dhparams = asked.shared("ssl-dhparams").map(file);
        let named = Named { dhparams, ..if t.any() { t } else { ssl }.sorted() };
        let mode = asked.shared("ssl-mode").map(str::to_ascii_uppercase);
        let by_mode = match mode.as_deref() {
            None | Some("DISABLED") => None,
            Some("REQUIRED") => Some(Check::Nothing),
            Some("VERIFY_CA") => Some(Check::Chain),
            Some("VERIFY_IDENTITY") => Some(Check::ChainAndName),
            Some(other) => return Err(refused("ssl-mode", other, "is not a mode")),
        };
        match (asked.shared("encrypt"), by_mode) {
            (Some("2"), _) => {
                let cert = named.cert.clone();
                Named { key: cert, ..named }.with("encrypt=2", Check::Chain)
            }
            (Some("3"), _) => {
                let check = if named.has_ca() { Check::ChainAndName } else { Check::Nothing };
                named.with("encrypt=3", check)
            }
            (Some("4"), _) => named.with("encrypt=4", by_mode.unwrap_or(Check::Chain)),
            (None | Some("0"), Some(check)) => named.with("ssl-mode", check),
            (Some("0"), None) => Ok(None),
            (None, None) if mode.is_some() => Ok(None),
            (None, None) if meant => named.with("[sst]", Check::ChainAndName),
            (None, None) if named.has_ca() && named.cert.is_some() && named.key.is_some() => {
                named.with("ssl-ca, ssl-cert, ssl-key", Check::ChainAndName)
            }
            (None, None) => Ok(None),
            (Some("1"), _) => Err(refused("encrypt", "1", "is not supported: it does not authenticate the data")
                .hint("key-file in [sst-xb] encrypts with xb-crypt; encrypt=4 is TLS")),
            (Some(other), _) => Err(refused("encrypt", other, "is none of 0, 2, 3 and 4")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::settings::Settings;
    use super::*;
    use crate::server::options::Sources;

    #[test]
    fn options_mean_what_the_table_says() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["ca", "cert", "key"] {
            std::fs::write(dir.path().join(name), "x").unwrap();
        }
        let all = "ssl-ca=D/ca\nssl-cert=D/cert\nssl-key=D/key\n";
        for (text, want) in [
            ("[sst]\n", Ok(None)),
            ("[sst]\nencrypt=0\ntcert=D/cert\n", Ok(None)),
            ("[sst]\nencrypt=2\ntcert=D/cert\ntca=D/ca\n", Ok(Some(Check::Chain))),
            ("[sst]\nencrypt=2\ntcert=D/cert\n", Err("authority")),
            ("[sst]\nencrypt=3\ntcert=D/cert\ntkey=D/key\n", Ok(Some(Check::Nothing))),
            ("[sst]\nencrypt=3\ntcert=D/cert\ntkey=D/key\ntca=D/ca\n", Ok(Some(Check::ChainAndName))),
            ("[sst]\nencrypt=3\ntcert=D/cert\n", Err("needs the key")),
            ("[sst]\nencrypt=4\n@", Ok(Some(Check::Chain))),
            ("[sst]\nencrypt=4\n", Err("authority")),
            ("[sst]\nencrypt=4\nssl-ca=D/ca\nssl-cert=D/nothing\nssl-key=D/key\n", Err("cannot read")),
            ("[sst]\nencrypt=4\nssl-dhparams=D/cert\n@", Ok(Some(Check::Chain))),
            ("[sst]\nencrypt=4\nssl-dhparams=D/none\n@", Err("cannot read")),
            ("[sst]\nssl-mode=REQUIRED\n@", Ok(Some(Check::Nothing))),
            ("[sst]\nssl-mode=VERIFY_CA\n@", Ok(Some(Check::Chain))),
            ("[sst]\nssl-mode=verify_identity\n@", Ok(Some(Check::ChainAndName))),
            ("[sst]\nssl-mode=VERIFY_CA\n", Err("authority")),
            ("[sst]\nssl-mode=DISABLED\n@", Ok(None)),
            ("[sst]\n@", Ok(Some(Check::ChainAndName))),
            ("[mysqld]\n@", Ok(Some(Check::ChainAndName))),
            ("[mysqld]\nssl-cert=D/cert\nssl-key=D/key\n", Ok(None)),
            ("[sst]\nssl-cert=D/cert\nssl-key=D/key\n", Err("authority")),
            ("[sst]\ntcert=D/cert\ntca=D/ca\n", Err("needs the key")),
        ] {
            let path = dir.path().join("my.cnf");
            std::fs::write(&path, text.replace('@', all).replace("D/", &format!("{}/", dir.path().display()))).unwrap();
            let options = Sources { file: Some(path), ..Sources::default() }.read(&()).unwrap();
            for role in [Role::Donor, Role::Joiner] {
                match (Settings::of(&options, role).map(|found| found.tls.map(|tls| tls.check)), &want) {
                    (Ok(found), Ok(want)) => assert_eq!(found, *want, "{text}"),
                    (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{text}: {error}"),
                    (found, want) => panic!("{text}: {found:?}, not {want:?}"),
                }
            }
        }
    }
}
