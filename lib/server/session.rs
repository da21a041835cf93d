//! A connection to the server: login, statements, and errors.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io::ErrorKind;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use mysql::prelude::Queryable;
use rustix::net::sockopt::socket_peercred;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags};
use zeroize::Zeroizing;

use super::address::{Address, Asked};
use super::channel::Channel;
use super::options::Options;
use super::password::Password;
use super::refusal::Refusal;
use super::tls::{self, Tls, When};
use crate::error::{Error, Kind, Result};
use crate::io::accounts;

/// How long a server that accepts the connection may be silent; client programs have the same limit.
const CONNECT: Duration = Duration::from_secs(10);
/// How long an answer that waits for no lock may take: the server may have to list all its tables, or write a large
/// cache.
const ANSWER: Duration = Duration::from_secs(600);
/// The largest answer that is accepted, in bytes. Without it the library would ask the server, which does not answer if
/// its `sql_select_limit` is 0.
const PACKET_MAX: usize = 1 << 30;
/// The process namespace of the host, which shows all processes. Source: `proc_ns.h` (`PROC_PID_INIT_INO`).
const HOST_PROCESSES: &str = "pid:[4026531836]";

/// Settings of every session, whatever the server's defaults and its `init_connect`: no timeout while it is idle or
/// waits, complete and unchanged answers, autocommit. `DEFAULT` would be the server's.
const NEUTRAL: &str = "SET SESSION wait_timeout=31536000, interactive_timeout=31536000, net_read_timeout=31536000, \
    net_write_timeout=31536000, sql_mode='', autocommit=1, sql_select_limit=18446744073709551615, sql_big_selects=1, \
    sql_safe_updates=0, sql_quote_show_create=1, lock_wait_timeout=60, \
    group_concat_max_len=1048576, big_tables=0";
/// The same for variables that only some servers have.
const NEUTRAL_WHERE_KNOWN: [&str; 4] =
    ["max_statement_time=0", "max_execution_time=0", "wsrep_sync_wait=0", "innodb_lock_wait_timeout=50"];

/// How to connect.
#[derive(Clone, Default)]
pub struct Login {
    /// The account; by default the name of the system user.
    pub user: Option<String>,
    /// From a file, the environment or an option file; never from the command line.
    pub password: Password,
    /// The connection options on the command line.
    pub asked: Asked,
    /// How long connecting may take.
    pub patience: Option<Duration>,
    /// How long an answer that waits for locks may take.
    pub lock_timeout: Duration,
    /// The address by all sources, including option files and the environment; set by [`Login::or_from`].
    pub address: Option<Address>,
    /// How connections are encrypted, as far as the command line says.
    pub encryption: tls::Asked,
    /// How they are, by option files, too; found out by [`Login::or_from`].
    pub tls: Tls,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("user", &self.user).field("asked", &self.asked).finish_non_exhaustive()
    }
}

impl Login {
    /// Adds options from option files and the environment that the command line lacks.
    pub fn or_from(mut self, options: &Options) -> Result<Self> {
        let variable = |name: &str| std::env::var(name).ok();
        self.address = Some(Address::of(&self.asked, options, &variable)?);
        self.tls = self.encryption.or_from(options)?;
        self.user = self.user.or_else(|| options.client("user").map(str::to_owned));
        self.password.or(|| options.client("password").map(|text| Zeroizing::new(text.to_owned())));
        if self.patience.is_none() {
            let seconds = options.client("connect-timeout").map(|text| {
                text.parse()
                    .map_err(|_| Error::usage("connect-timeout", format_args!("{text:?} is not a number of seconds")))
            });
            self.patience = seconds.transpose()?.filter(|seconds| *seconds > 0).map(Duration::from_secs);
        }
        Ok(self)
    }

    /// The address of the server.
    pub fn address(&self) -> Result<Address> {
        match &self.address {
            Some(address) => Ok(address.clone()),
            None => Address::of(&self.asked, &Options::default(), &|_| None),
        }
    }

    /// Connects to the server.
    ///
    /// # Errors
    ///
    /// - Usage: options contradict each other.
    /// - Failed: the server cannot be reached, does not answer in time, or refuses the account.
    pub fn connect(&self) -> Result<Session> {
        let address = self.address()?;
        let user = self.user.clone().unwrap_or_else(system_user);
        let fail = |detail: &dyn fmt::Display| {
            Error::failed(format_args!("server {address}"), format_args!("cannot connect as {user}: {detail}"))
                .hint("name the server with --socket or --defaults-file, the account with --user and --password-file")
        };
        let patience = self.patience.unwrap_or(CONNECT);
        let opts = mysql::OptsBuilder::new()
            .user(Some(&user))
            .pass(self.password.copy())
            .stmt_cache_size(0)
            .max_allowed_packet(Some(PACKET_MAX))
            .read_timeout(Some(ANSWER.saturating_add(self.lock_timeout)))
            .tcp_connect_timeout(Some(patience));
        let when = match &address {
            Address::Tcp(..) => self.tls.tcp(),
            Address::Socket(_) => self.tls.socket(),
        };
        let config = if when == When::Never { None } else { Some(Arc::new(self.tls.config()?)) };
        let (password, to) = (self.password.clone(), address.clone());
        // A stopped (SIGSTOP) server still accepts connections, and then is silent.
        let (sender, receiver) = mpsc::channel();
        let connect = move || {
            let channel = config.map(|config| Channel::open(&to, when, config, patience)).transpose();
            let session = channel.and_then(|channel| Session::open(opts, &to, channel.flatten(), &password));
            let _ = sender.send(session);
        };
        std::thread::Builder::new()
            .name("connect".to_owned())
            .spawn(connect)
            .map_err(|cause| Error::io("connect", "cannot start a thread", &cause))?;
        match receiver.recv_timeout(patience) {
            Ok(Ok(session)) => Ok(session),
            Ok(Err(Refusal { code: None, message })) => Err(match &address {
                Address::Socket(path) if !listens(path) => fail(&message).hint(
                    "is the server running? --socket and --defaults-file say where, --offline copies one that is stopped",
                ),
                _ => fail(&message),
            }),
            Ok(Err(refusal)) => Err(fail(&refusal)),
            Err(_) => {
                let what = format!("it has not answered within {} s (--connect-timeout)", patience.as_secs());
                Err(Error::failed(format_args!("server {address}"), what)
                    .hint("is it stopped, or starting? Its error log may tell"))
            }
        }
    }
}

/// False if nobody listens at the socket.
fn listens(socket: &Path) -> bool {
    let outcome = std::os::unix::net::UnixStream::connect(socket);
    !outcome.is_err_and(|cause| matches!(cause.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused))
}

/// Reads the first line of a password file, which only its owner may read.
pub fn password_file(path: &Path) -> Result<Zeroizing<String>> {
    let fail = |cause| Error::io(path.display(), "cannot read", &cause);
    let meta = std::fs::metadata(path).map_err(fail)?;
    if meta.is_file() && meta.mode() & 0o077 != 0 {
        return Err(Error::new(Kind::Usage, path.display(), "other users may read this password")
            .hint(format_args!("chmod 600 {}", path.display())));
    }
    let text = Zeroizing::new(std::fs::read_to_string(path).map_err(fail)?);
    Ok(Zeroizing::new(text.lines().next().unwrap_or_default().to_owned()))
}

/// The default account name of clients.
fn system_user() -> String {
    accounts::own_name().or_else(|| std::env::var("USER").ok()).unwrap_or_else(|| "root".into())
}

/// An open connection.
#[derive(Debug)]
pub struct Session {
    conn: mysql::Conn,
    /// Connected to the server's socket; `None` over TCP.
    socket: Option<OwnedFd>,
}

/// A row by column names, in lower case, without NULL values.
pub type Record = HashMap<String, String>;

/// A value that every row of `from` must have, as text or as a number. The error shows what the server answered.
pub fn told<T: std::str::FromStr>(record: &Record, from: &str, column: &str) -> Result<T> {
    record.get(column).and_then(|value| value.parse().ok()).ok_or_else(|| {
        let answer: BTreeMap<_, _> = record.iter().collect();
        Error::failed("server", format_args!("{from}: a row without a valid {column}: {answer:?}"))
    })
}

impl Session {
    /// The server's id of this connection.
    pub fn id(&self) -> u32 {
        self.conn.connection_id()
    }

    /// Logs in.
    fn open(
        opts: mysql::OptsBuilder,
        address: &Address,
        channel: Option<Channel>,
        password: &Password,
    ) -> Result<Session, Refusal> {
        let opts = match (&channel, address) {
            (Some(channel), _) => opts.socket(Some(channel.path().to_string_lossy())),
            (None, Address::Tcp(host, port)) => opts.ip_or_hostname(Some(host)).tcp_port(*port).prefer_socket(false),
            (None, Address::Socket(path)) => opts.socket(Some(path.to_string_lossy())),
        };
        let opts = mysql::Opts::from(opts);
        let copy = Password::place(opts.get_pass());
        let conn = mysql::Conn::new(opts).map_err(|error| match (Refusal::from(error), &channel) {
            // The library only saw the end of the connection.
            (Refusal { code: None, message }, Some(channel)) => {
                Refusal { code: None, message: channel.failure().unwrap_or(message) }
            }
            (refusal, _) => refusal,
        })?;
        password.wipe(copy);
        let socket = match (address, channel) {
            (Address::Tcp(..), _) => None,
            (Address::Socket(_), Some(channel)) => channel.server,
            (Address::Socket(_), None) => descriptor(&conn),
        };
        let mut session = Session { conn, socket };
        session.neutral()?;
        Ok(session)
    }

    /// The process that listens at our socket; `None` if it is unknown: over TCP, or if processes may be hidden from
    /// us, which the kernel shows by an invalid number.
    pub fn peer(&self) -> Option<Pid> {
        let host = std::fs::read_link("/proc/self/ns/pid").is_ok_and(|link| link.as_os_str() == HOST_PROCESSES);
        if !host {
            return None;
        }
        Some(socket_peercred(self.socket.as_ref()?).ok()?.pid)
    }

    /// Applies [`NEUTRAL`] to the session.
    fn neutral(&mut self) -> Result<(), Refusal> {
        self.run(NEUTRAL)?;
        self.run("SET NAMES utf8mb4")?;
        NEUTRAL_WHERE_KNOWN.iter().try_for_each(|setting| match self.run(&format!("SET SESSION {setting}")) {
            Err(refusal) if refusal.code == Some(Refusal::UNKNOWN_VARIABLE) => Ok(()),
            done => done,
        })
    }

    /// Runs a statement without a result.
    pub fn run(&mut self, sql: &str) -> Result<(), Refusal> {
        Ok(self.conn.query_drop(sql)?)
    }

    /// Returns all rows of a small result.
    pub fn records(&mut self, sql: &str) -> Result<Vec<Record>, Refusal> {
        let rows: Vec<mysql::Row> = self.conn.query(sql)?;
        Ok(rows.into_iter().map(record).collect())
    }

    /// Visits the rows of a large result as they arrive. NULL is `None`.
    pub fn each(&mut self, sql: &str, visit: &mut dyn FnMut(Vec<Option<Vec<u8>>>) -> Result<()>) -> Result<()> {
        let rows = self.conn.query_iter(sql).map_err(Refusal::from)?;
        for row in rows {
            let values = row.map_err(Refusal::from)?.unwrap().into_iter();
            visit(values.map(bytes).collect())?;
        }
        Ok(())
    }

    /// The first row, if any.
    pub fn record(&mut self, sql: &str) -> Result<Option<Record>, Refusal> {
        Ok(self.records(sql)?.into_iter().next())
    }

    /// The first column of the first row.
    pub fn value(&mut self, sql: &str) -> Result<Option<String>, Refusal> {
        let row: Option<mysql::Row> = self.conn.query_first(sql)?;
        Ok(row.and_then(|row| row.unwrap().into_iter().next()).and_then(text))
    }

    /// A numeric value of `SHOW GLOBAL STATUS`.
    pub fn status(&mut self, name: &str) -> Result<u64> {
        let found = self.record(&format!("SHOW GLOBAL STATUS LIKE '{name}'"))?;
        let value = found.and_then(|record| record.get("value").and_then(|value| value.parse().ok()));
        value.ok_or_else(|| Error::failed("server", format_args!("status {name} is not there")))
    }
}

/// A duplicate of the connection's descriptor.
fn descriptor(conn: &mysql::Conn) -> Option<OwnedFd> {
    let own = rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty()).ok()?;
    rustix::process::pidfd_getfd(own, conn.as_raw_fd(), PidfdGetfdFlags::empty()).ok()
}

fn record(row: mysql::Row) -> Record {
    let names: Vec<String> = row.columns_ref().iter().map(|column| column.name_str().to_lowercase()).collect();
    names.into_iter().zip(row.unwrap()).filter_map(|(name, value)| Some((name, text(value)?))).collect()
}

fn bytes(value: mysql::Value) -> Option<Vec<u8>> {
    match value {
        mysql::Value::Bytes(bytes) => Some(bytes),
        other => text(other).map(String::into_bytes),
    }
}

fn text(value: mysql::Value) -> Option<String> {
    match value {
        mysql::Value::NULL => None,
        mysql::Value::Bytes(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        mysql::Value::Int(number) => Some(number.to_string()),
        mysql::Value::UInt(number) => Some(number.to_string()),
        other => Some(other.as_sql(true)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_or_invalid_value_is_an_error() {
        let record = |pairs: &[(&str, &str)]| -> Record {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        assert_eq!(told::<u64>(&record(&[("id", "7")]), "TABLES", "id").unwrap(), 7);
        let none = told::<String>(&record(&[("id", "7")]), "TABLES", "name").unwrap_err();
        assert_eq!(none.to_string(), r#"server: TABLES: a row without a valid name: {"id": "7"}"#);
        let word = told::<u64>(&record(&[("name", "d/t"), ("id", "x")]), "TABLES", "id").unwrap_err();
        assert_eq!(word.to_string(), r#"server: TABLES: a row without a valid id: {"id": "x", "name": "d/t"}"#);
    }
}
