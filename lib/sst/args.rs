//! What the server calls the script with: role, address, account.

use std::path::PathBuf;

use zeroize::Zeroizing;

use super::protocol::Position;
use crate::error::{Error, Result};

/// The port that is used if the address has none.
pub const PORT: u16 = 4444;
/// The longest line of an account that is accepted, in bytes.
const ACCOUNT_MAX: usize = 4096;

/// Which side of a transfer this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The node that lacks the data.
    Joiner,
    /// The node that has them.
    Donor,
}

/// A call of the script by mariadbd.
#[derive(Debug)]
pub struct Call {
    /// Which side this is.
    pub role: Role,
    /// Where the joiner listens.
    pub address: Address,
    /// The data directory.
    pub datadir: PathBuf,
    /// The only option file.
    pub defaults_file: Option<PathBuf>,
    /// An option file that is read after the system's.
    pub defaults_extra_file: Option<PathBuf>,
    /// A suffix of groups in option files.
    pub defaults_group_suffix: Option<String>,
    /// The joiner's mariadbd.
    pub parent: Option<i32>,
    /// The donor's socket for clients.
    pub socket: Option<PathBuf>,
    /// The donor's position; in a bypass, the joiner's.
    pub position: Option<Position>,
    /// True if the joiner needs no data, for an incremental transfer follows.
    pub bypass: bool,
    /// The base name of the binary log, as it is configured.
    pub binlog: Option<PathBuf>,
    /// Where its index is.
    pub binlog_index: Option<PathBuf>,
}

/// `HOST[:PORT][/MODULE[/LSN[/VERSION]]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Name or number, without brackets.
    pub host: String,
    /// The port; `None`: [`PORT`].
    pub port: Option<u16>,
    /// What the joiner has put behind the port: how it wants the data; empty if nothing.
    pub module: String,
}

impl Address {
    /// Parses an address of the server.
    ///
    /// # Errors
    ///
    /// Usage: it has characters that no host has, or no valid port.
    pub fn parse(text: &str) -> Result<Address> {
        let fail = |what: &str| Error::usage("--address", format_args!("{text:?}: {what}"));
        let text = text.rsplit_once('@').map_or(text, |(_, rest)| rest);
        let (place, rest) = text.split_once('/').unwrap_or((text, ""));
        let module = rest.split('/').next().unwrap_or_default().to_owned();
        let (host, port) = match place.strip_prefix('[') {
            Some(inner) => {
                let (host, port) = inner.split_once(']').ok_or_else(|| fail("has no closing bracket"))?;
                match port.strip_prefix(':') {
                    Some(port) => (host, Some(port)),
                    None if port.is_empty() => (host, None),
                    None => return Err(fail("has something else than a port behind the bracket")),
                }
            }
            // IPv6 without brackets cannot have a port.
            None if place.matches(':').count() > 1 => (place, None),
            None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
        };
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '%');
        if host.is_empty() || host.starts_with('-') || !host.chars().all(is_plain) {
            return Err(fail("is not a host"));
        }
        let number = |port: &str| port.parse().ok().filter(|port| *port != 0).ok_or_else(|| fail("has no valid port"));
        let port = port.filter(|port| !port.is_empty()).map(number).transpose()?;
        Ok(Address { host: host.to_owned(), port, module })
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(PORT)
    }

    /// `HOST:PORT`, with brackets around an IPv6 address.
    pub fn place(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port()),
            false => format!("{}:{}", self.host, self.port()),
        }
    }
}

/// The accounts of a donor.
#[derive(Default)]
pub struct Accounts {
    /// The name of the account with which the data are read.
    pub user: Option<String>,
    /// Its password.
    pub password: Option<Zeroizing<String>>,
    /// What the joiner has put before its address: only somebody who has read it is a donor.
    pub secret: Option<Zeroizing<String>>,
}

impl Accounts {
    /// Of MariaDB 10.11: two environment variables.
    pub fn from_environment(auth: Option<&str>, remote: Option<&str>) -> Accounts {
        let pair = |text: &str| match text.split_once(':') {
            Some((user, password)) => (user.to_owned(), Some(Zeroizing::new(password.to_owned()))),
            None => (text.to_owned(), None),
        };
        let auth = auth.filter(|text| !text.is_empty()).map(pair);
        let (user, password) = auth.map_or((None, None), |(user, password)| (Some(user), password));
        let secret = remote.map(pair).and_then(|(_, secret)| secret);
        Accounts { user: user.filter(|user| !user.is_empty()), password, secret }
    }

    /// Of MariaDB 11: lines of standard input. What is there already stays.
    ///
    /// # Errors
    ///
    /// Failed: a line is too long to be one of an account.
    pub fn read(&mut self, text: &str) -> Result<()> {
        for line in text.lines() {
            if line.len() > ACCOUNT_MAX {
                return Err(Error::failed("stdin", "a line is too long for an account"));
            }
            match line.split_once('=') {
                Some(("sst_user", user)) if self.user.is_none() => self.user = Some(user.to_owned()),
                Some(("sst_password", text)) if self.password.is_none() => {
                    self.password = Some(Zeroizing::new(text.to_owned()));
                }
                Some(("sst_remote_password", text)) if self.secret.is_none() => {
                    self.secret = Some(Zeroizing::new(text.to_owned()));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        for (text, want) in [
            ("10.0.0.1:4567", Ok(("10.0.0.1", 4567, ""))),
            ("10.0.0.1", Ok(("10.0.0.1", 4444, ""))),
            ("10.0.0.1:", Ok(("10.0.0.1", 4444, ""))),
            ("node-1.example:24444/xb-plain//1", Ok(("node-1.example", 24444, "xb-plain"))),
            ("xb:c0ffee@node1:24444/xb-tls//1", Ok(("node1", 24444, "xb-tls"))),
            ("[::1]:24444/xb-plain//1", Ok(("::1", 24444, "xb-plain"))),
            ("[fe80::1%eth0]", Ok(("fe80::1%eth0", 4444, ""))),
            ("::1", Ok(("::1", 4444, ""))),
            ("[::1", Err("closing bracket")),
            ("[::1]x", Err("something else")),
            ("a:0", Err("valid port")),
            ("a:70000", Err("valid port")),
            ("", Err("not a host")),
            ("-u:1", Err("not a host")),
            ("a b:1", Err("not a host")),
            ("a,fork:1", Err("not a host")),
        ] {
            match (Address::parse(text), want) {
                (Ok(found), Ok((host, port, module))) => {
                    assert_eq!((found.host.as_str(), found.port(), found.module.as_str()), (host, port, module));
                }
                (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{text}: {error}"),
                (found, want) => panic!("{text}: {found:?}, not {want:?}"),
            }
        }
        assert_eq!(Address::parse("[::1]:2").unwrap().place(), "[::1]:2");
        assert_eq!(Address::parse("a").unwrap().place(), "a:4444");
    }

    #[test]
    fn accounts_come_from_environment_or_standard_input() {
        let plain = |text: &Option<Zeroizing<String>>| text.as_ref().map(|text| text.as_str().to_owned());
        for (auth, remote, input, want) in [
            (Some("sst:se:cret"), None, "", (Some("sst"), Some("se:cret"), None)),
            (Some("sst:"), Some("xb:abc"), "", (Some("sst"), Some(""), Some("abc"))),
            (Some("sst"), None, "", (Some("sst"), None, None)),
            (Some(""), None, "", (None, None, None)),
            (
                None,
                None,
                "sst_user=u\nsst_password=p=q\nsst_remote_user=xb\nsst_remote_password=s\n",
                (Some("u"), Some("p=q"), Some("s")),
            ),
            (Some("sst:p"), None, "sst_user=u\nsst_password=q\n", (Some("sst"), Some("p"), None)),
            (None, None, "nonsense\n\n", (None, None, None)),
        ] {
            let mut found = Accounts::from_environment(auth, remote);
            found.read(input).unwrap();
            let (user, password, secret) = want;
            assert_eq!(found.user.as_deref(), user);
            assert_eq!(plain(&found.password).as_deref(), password);
            assert_eq!(plain(&found.secret).as_deref(), secret);
        }
        assert!(Accounts::default().read(&"x".repeat(5000)).is_err());
    }
}
