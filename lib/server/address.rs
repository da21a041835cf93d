//! Which server the connection options lead to. They mean what they mean to the client programs of both families. Where
//! these differ, or two options name two servers, they are refused.
//!
//! Sources: `mysql_real_connect` of both families' libraries; MariaDB's `client/mysql.cc` for `--port` and `--socket`,
//! which choose the protocol there (`facts/mariadb-hot-backup#connection`).

use std::fmt;
use std::path::PathBuf;

use super::options::Options;
use crate::error::{Error, Result};

/// Where distributions put the socket; the first that exists is used if no option names one.
const SOCKETS: [&str; 4] =
    ["/run/mysqld/mysqld.sock", "/var/lib/mysql/mysql.sock", "/run/mariadb/mariadb.sock", "/tmp/mysql.sock"];
/// The host name that means the socket, unless an option asks for TCP.
const LOCAL: &str = "localhost";
/// The default port.
const PORT: u16 = 3306;
/// Environment variables; the first that is set is used.
const HOSTS: [&str; 2] = ["MARIADB_HOST", "MYSQL_HOST"];
const PORTS: [&str; 1] = ["MYSQL_TCP_PORT"];
const UNIX_PORTS: [&str; 2] = ["MYSQL_UNIX_PORT", "MARIADB_UNIX_PORT"];

/// How the connection is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Through a port of a host.
    Tcp,
    /// Through a socket on this host.
    Socket,
}

/// Options on the command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// `--socket`
    pub socket: Option<PathBuf>,
    /// `--host`
    pub host: Option<String>,
    /// `--port`
    pub port: Option<u16>,
    /// `--protocol`
    pub protocol: Option<Protocol>,
}

/// The address of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A socket on this host.
    Socket(PathBuf),
    /// A port of a host.
    Tcp(String, u16),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Socket(path) => path.display().fmt(f),
            Address::Tcp(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

impl Address {
    /// The address from the command line, then option files, then the environment. Of the server's own groups only
    /// `socket` is used, and last.
    ///
    /// # Errors
    ///
    /// Usage, if options contradict each other or have invalid values.
    pub fn of(asked: &Asked, options: &Options, variable: &dyn Fn(&str) -> Option<String>) -> Result<Address> {
        let first = |names: &[&str]| names.iter().find_map(|name| variable(name).filter(|value| !value.is_empty()));
        let host = asked.host.clone().or_else(|| options.client("host").map(str::to_owned)).or_else(|| first(&HOSTS));
        let host = host.filter(|host| !host.is_empty());
        let far = host.as_deref().filter(|host| *host != LOCAL);
        let port = port(asked, options, first(&PORTS))?;
        let protocol = match (asked.protocol, options.client("protocol")) {
            (Some(protocol), _) => Some(protocol),
            // A port or socket on the command line has priority over the file.
            _ if asked.port.is_some() || asked.socket.is_some() => None,
            (None, Some(name)) => Some(Protocol::named(name)?),
            (None, None) => None,
        };
        let tcp = || Ok(Address::Tcp(host.clone().unwrap_or_else(|| LOCAL.into()), port));
        match protocol {
            Some(Protocol::Tcp) => tcp(),
            Some(Protocol::Socket) if asked.port.is_some() && asked.socket.is_none() => {
                Err(two("--protocol=socket", "--port").hint("leave one of them out"))
            }
            Some(Protocol::Socket) => {
                match far {
                    Some(host) => Err(two("protocol=socket", format_args!("the host {host}"))
                        .hint("--host=localhost, or --protocol=tcp")),
                    None => Ok(Address::Socket(socket(asked, options, first(&UNIX_PORTS)))),
                }
            }
            None => match (far, &asked.socket, asked.port) {
                (Some(host), Some(_), _) => {
                    Err(two("--socket", format_args!("the host {host}")).hint("--host=localhost, or --protocol=tcp"))
                }
                (None, Some(_), Some(_)) => {
                    Err(two("--socket", "--port")
                        .hint("leave one of them out, or say --protocol=socket or --protocol=tcp"))
                }
                (Some(_), None, _) | (None, None, Some(_)) => tcp(),
                (None, _, None) => Ok(Address::Socket(socket(asked, options, first(&UNIX_PORTS)))),
            },
        }
    }
}

impl Protocol {
    /// A protocol as client programs read it: in any case, and possibly abbreviated.
    fn named(name: &str) -> Result<Protocol> {
        let is = |protocol: &str| {
            let beginning = protocol.get(..name.len()).unwrap_or_default();
            !name.is_empty() && beginning.eq_ignore_ascii_case(name)
        };
        match () {
            () if is("tcp") => Ok(Protocol::Tcp),
            () if is("socket") => Ok(Protocol::Socket),
            () if is("pipe") || is("memory") => {
                Err(Error::usage("protocol", format_args!("{name} is for Windows only"))
                    .hint("--protocol=socket or --protocol=tcp"))
            }
            () => Err(Error::usage("protocol", format_args!("{name:?} is neither tcp nor socket"))),
        }
    }
}

/// Port 0 means the default port.
fn port(asked: &Asked, options: &Options, variable: Option<String>) -> Result<u16> {
    let number = |place: &str, text: String| {
        text.trim().parse::<u16>().map_err(|_| Error::usage(place, format_args!("{text:?} is no port")))
    };
    let file = options.client("port").map(|text| number("port", text.to_owned())).transpose()?;
    let variable = variable.map(|text| number("MYSQL_TCP_PORT", text)).transpose()?;
    let given = [asked.port, file, variable].into_iter().flatten().find(|port| *port != 0);
    Ok(given.unwrap_or(PORT))
}

fn socket(asked: &Asked, options: &Options, variable: Option<String>) -> PathBuf {
    let file = || options.client("socket").map(PathBuf::from);
    let server = || options.server("socket").map(PathBuf::from);
    let there = || SOCKETS.iter().map(PathBuf::from).find(|path| path.exists());
    let first = || SOCKETS.first().map(PathBuf::from).unwrap_or_default();
    asked
        .socket
        .clone()
        .or_else(file)
        .or_else(|| variable.map(PathBuf::from))
        .or_else(server)
        .or_else(there)
        .unwrap_or_else(first)
}

/// The error for two options that may name two servers.
fn two(one: &str, other: impl fmt::Display) -> Error {
    Error::usage(one, format_args!("contradicts {other}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_named_as_clients_name_them() {
        assert_eq!(Protocol::named("T").unwrap(), Protocol::Tcp);
        assert_eq!(Protocol::named("Socket").unwrap(), Protocol::Socket);
        for (name, says) in
            [("pipe", "for Windows only"), ("MEMORY", "for Windows only"), ("", "neither"), ("tcpx", "neither")]
        {
            assert!(Protocol::named(name).unwrap_err().to_string().contains(says), "{name}");
        }
    }
}
