//! A connection: how it is made, statements, and what the server says when it refuses.

use std::collections::HashMap;
use std::fmt;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use mysql::prelude::Queryable;

use super::options::Options;
use crate::error::{Error, Kind, Result, reason};

/// Where distributions put the socket; the first that exists is taken when nothing names one.
const SOCKETS: [&str; 4] =
    ["/run/mysqld/mysqld.sock", "/var/lib/mysql/mysql.sock", "/run/mariadb/mariadb.sock", "/tmp/mysql.sock"];

/// What an operator is told when a session that a backup needs is gone.
pub const LOST: &str = "the session was killed, or the server stopped; run the backup again";

/// How to connect.
#[derive(Clone, Default)]
pub struct Login {
    /// The account; without it, the name of the system's user.
    pub user: Option<String>,
    /// Never from the command line: a file, the environment or an option file.
    pub password: Option<String>,
    /// The server's socket; not used when a host is given.
    pub socket: Option<PathBuf>,
    /// A host to reach by TCP. The data directory must be this machine's all the same.
    pub host: Option<String>,
    /// The TCP port, 3306 by default.
    pub port: Option<u16>,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("user", &self.user).field("socket", &self.socket).finish_non_exhaustive()
    }
}

/// A statement that the server refused, or a connection that broke.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The server's error number; `None` if the connection broke.
    pub code: Option<u16>,
    /// The server's words.
    pub message: String,
}

/// Its numbers are those of `mysqld_error.h`; few are told apart.
impl Refusal {
    /// `ER_LOCK_WAIT_TIMEOUT`: somebody else holds what we wait for.
    pub const LOCK_WAIT: u16 = 1205;
    /// `ER_SERVER_SHUTDOWN`, `ER_QUERY_INTERRUPTED`, `ER_CONNECTION_KILLED` (MariaDB), `ER_CLIENT_INTERACTION_TIMEOUT`
    /// (MySQL): the last words of a connection that ends.
    const FAREWELL: [u16; 4] = [1053, 1317, 1927, 4031];

    /// True if the connection is gone, and with it what the session held.
    pub fn is_lost(&self) -> bool {
        self.code.is_none_or(|code| Self::FAREWELL.contains(&code))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => write!(f, "{} (error {code})", self.message),
            None => write!(f, "the connection is lost: {}", self.message),
        }
    }
}

impl From<mysql::Error> for Refusal {
    fn from(error: mysql::Error) -> Self {
        match error {
            mysql::Error::MySqlError(error) => Refusal { code: Some(error.code), message: error.message },
            mysql::Error::IoError(cause) => Refusal { code: None, message: reason(&cause) },
            mysql::Error::DriverError(error) => {
                let words = match error {
                    mysql::DriverError::CouldNotConnect(Some((_, cause, _))) => cause,
                    other => other.to_string(),
                };
                Refusal { code: None, message: reason(&std::io::Error::other(words)) }
            }
            other => Refusal { code: None, message: other.to_string() },
        }
    }
}

impl From<Refusal> for Error {
    /// A session that is lost in the middle of a job takes the snapshot with it; anything else is for the operator.
    fn from(refusal: Refusal) -> Self {
        match refusal.is_lost() {
            true => Error::invalid("server", refusal).hint(LOST),
            false => Error::failed("server", refusal),
        }
    }
}

impl Login {
    /// Fills what the command line left open from option files; sockets of the server's own groups come last.
    pub fn or_from(mut self, options: &Options) -> Result<Self> {
        let text = |key: &str| options.client(key).map(str::to_owned);
        self.user = self.user.or_else(|| text("user"));
        self.password = self.password.or_else(|| text("password"));
        if self.socket.is_none() {
            self.host = self.host.or_else(|| text("host").filter(|host| host != "localhost"));
        }
        self.socket = self.socket.or_else(|| options.client("socket").or(options.server("socket")).map(PathBuf::from));
        if self.port.is_none() {
            let port = text("port").map(|port| port.parse().map_err(|_| Error::usage("port", port)));
            self.port = port.transpose()?;
        }
        Ok(self)
    }

    /// Connects: by TCP if there is a host, else by socket.
    pub fn connect(&self) -> Result<Session> {
        let user = self.user.clone().unwrap_or_else(system_user);
        let opts = mysql::OptsBuilder::new().user(Some(&user)).pass(self.password.as_ref()).stmt_cache_size(0);
        let (opts, place) = match &self.host {
            Some(host) => {
                let port = self.port.unwrap_or(3306);
                let opts = opts.ip_or_hostname(Some(host)).tcp_port(port).prefer_socket(false);
                (opts, format!("{host}:{port}"))
            }
            None => {
                let socket = self.socket();
                (opts.socket(Some(socket.to_string_lossy())), socket.display().to_string())
            }
        };
        let conn = mysql::Conn::new(opts).map_err(|cause| {
            let refusal = Refusal::from(cause);
            let detail = match refusal.code {
                Some(_) => refusal.to_string(),
                None => refusal.message,
            };
            let error = Error::failed(format_args!("server {place}"), format_args!("cannot connect as {user}: {detail}"));
            if refusal.code.is_none() && self.host.is_none() && !listens(&self.socket()) {
                return error.hint("is the server running? --socket and --defaults-file say where, --offline copies one that is stopped");
            }
            error.hint("name the server with --socket or --defaults-file, the account with --user and --password-file")
        })?;
        Ok(Session { conn })
    }

    fn socket(&self) -> PathBuf {
        let there = || SOCKETS.iter().map(PathBuf::from).find(|path| path.exists());
        self.socket.clone().or_else(there).unwrap_or_else(|| SOCKETS.first().map(PathBuf::from).unwrap_or_default())
    }
}

/// True unless nobody is there.
fn listens(socket: &Path) -> bool {
    let outcome = std::os::unix::net::UnixStream::connect(socket);
    !outcome.is_err_and(|cause| matches!(cause.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused))
}

/// Reads the first line of a password file, which only its owner may read.
pub fn password_file(path: &Path) -> Result<String> {
    let fail = |cause| Error::io(path.display(), "cannot read", &cause);
    let meta = std::fs::metadata(path).map_err(fail)?;
    if meta.is_file() && meta.mode() & 0o077 != 0 {
        return Err(Error::new(Kind::Usage, path.display(), "other users may read this password")
            .hint(format_args!("chmod 600 {}", path.display())));
    }
    let text = std::fs::read_to_string(path).map_err(fail)?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// The name clients use by default.
fn system_user() -> String {
    let uid = rustix::process::geteuid().as_raw();
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let named = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, id) = (fields.next()?, fields.nth(1)?);
        (id == uid.to_string()).then(|| name.to_owned())
    });
    named.or_else(|| std::env::var("USER").ok()).unwrap_or_else(|| "root".into())
}

/// An open connection.
#[derive(Debug)]
pub struct Session {
    conn: mysql::Conn,
}

/// A row by column names, in lower case. NULL is left out.
pub type Record = HashMap<String, String>;

impl Session {
    /// The server's number of this connection.
    pub fn id(&self) -> u32 {
        self.conn.connection_id()
    }

    /// Runs a statement without result.
    pub fn run(&mut self, sql: &str) -> Result<(), Refusal> {
        Ok(self.conn.query_drop(sql)?)
    }

    /// All rows of a small result.
    pub fn records(&mut self, sql: &str) -> Result<Vec<Record>, Refusal> {
        let rows: Vec<mysql::Row> = self.conn.query(sql)?;
        Ok(rows.into_iter().map(record).collect())
    }

    /// The first row, if there is one.
    pub fn record(&mut self, sql: &str) -> Result<Option<Record>, Refusal> {
        Ok(self.records(sql)?.into_iter().next())
    }

    /// The first column of the first row.
    pub fn value(&mut self, sql: &str) -> Result<Option<String>, Refusal> {
        let row: Option<mysql::Row> = self.conn.query_first(sql)?;
        Ok(row.and_then(|row| row.unwrap().into_iter().next()).and_then(text))
    }

    /// A number of `SHOW GLOBAL STATUS`.
    pub fn status(&mut self, name: &str) -> Result<u64> {
        let found = self.record(&format!("SHOW GLOBAL STATUS LIKE '{name}'"))?;
        let value = found.and_then(|record| record.get("value").and_then(|value| value.parse().ok()));
        value.ok_or_else(|| Error::failed("server", format_args!("status {name} is not there")))
    }
}

fn record(row: mysql::Row) -> Record {
    let names: Vec<String> = row.columns_ref().iter().map(|column| column.name_str().to_lowercase()).collect();
    names.into_iter().zip(row.unwrap()).filter_map(|(name, value)| Some((name, text(value)?))).collect()
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
