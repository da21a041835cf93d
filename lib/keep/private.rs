//! A server of our own on a restored directory: no network, no users, no plugins that the directory brings.

mod verdict;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mysql::prelude::Queryable as _;
use mysql::{Conn, OptsBuilder, Row, Value};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::CapabilitySet;

use super::Keep;
use super::meta::Meta;
use crate::error::{Error, Result};
use crate::io::{confine, small};
use crate::metadata;
use crate::server::Family;
use crate::server::program::{self, Program};

/// How long a server may take until it answers.
const START: Duration = Duration::from_secs(600);
/// How long it may take to end.
const STOP: Duration = Duration::from_secs(300);
/// How long the end of its process may come after that of its connection.
const GONE: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_millis(50);
/// The longest path of a socket.
const SOCKET_MAX: usize = 107;

/// What the directory needs to be read, out of its `backup-my.cnf`, and the characters of its value.
const NEEDED: [(&str, &str); 5] = [
    ("innodb_page_size", "0123456789"),
    ("innodb_undo_tablespaces", "0123456789"),
    ("lower_case_table_names", "012"),
    ("innodb_data_file_path", "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_-.:;"),
    ("innodb_checksum_algorithm", "abcdefghijklmnopqrstuvwxyz_0123456789"),
];

/// A running server; it is killed if this is dropped.
pub struct Private {
    child: Child,
    conn: Conn,
    log: PathBuf,
}

impl Private {
    /// Starts a server on `data`; its socket and its log are in `room`.
    ///
    /// # Errors
    ///
    /// Damaged, if it finds bad data in the directory; Failed, if it does not start for another reason, or none is here.
    pub fn start(keep: &Keep, meta: &Meta, data: &Path, room: &Path) -> Result<Private> {
        Private::start_with(keep, meta, data, room, &[])
    }

    /// The same with options that come after all others.
    ///
    /// # Errors
    ///
    /// As [`Private::start`].
    pub fn start_with(keep: &Keep, meta: &Meta, data: &Path, room: &Path, more: &[String]) -> Result<Private> {
        let version = meta.server.version.as_deref().and_then(program::version);
        let release = version.ok_or_else(|| Error::failed(&meta.id, "the version of its server is not known"))?;
        let release = crate::server::Release { family: meta.server.family.unwrap_or(release.family), ..release };
        let program = program::find(release, keep.settings.restore.server.as_deref())?;
        let (socket, log, plugins) = (room.join("socket"), room.join("server.log"), room.join("plugins"));
        if socket.as_os_str().len() > SOCKET_MAX {
            return Err(
                Error::failed(room.display(), "its path is too long for a socket").hint("choose another --scratch")
            );
        }
        fs::create_dir(&plugins).map_err(|cause| Error::io(plugins.display(), "cannot create", &cause))?;
        let stderr = fs::File::create(&log).map_err(|cause| Error::io(log.display(), "cannot create", &cause))?;
        let keyed = keep.settings.restore.server_options.iter().any(|option| option.starts_with("plugin"));
        let mut command = command(&program, data, room, &socket, keyed);
        command.args(of_backup(data)?);
        command.args(keep.settings.restore.server_options.iter().map(|option| format!("--{option}")));
        command.args(more);
        command.current_dir(data).stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        let (child, _) = confine::spawn(&mut command, &[data, room], CapabilitySet::empty())
            .map_err(|cause| Error::io(program.path.display(), "cannot run", &cause))?;
        let mut child = Ending(Some(child));
        let begun = Instant::now();
        loop {
            let running = child.0.as_mut().map(Child::try_wait).transpose();
            let ended = running.map_err(|cause| Error::io("server", "cannot be waited for", &cause))?.flatten();
            if let Some(status) = ended {
                return Err(verdict::ended(&meta.id, "no server starts on it", status, &said(&log)));
            }
            if let Ok(conn) = connect(&socket)
                && let Some(child) = child.0.take()
            {
                return Ok(Private { child, conn, log });
            }
            if begun.elapsed() > START {
                return Err(Error::failed("server", format_args!("does not answer: {}", verdict::last(&said(&log)))));
            }
            std::thread::sleep(TICK);
        }
    }

    /// The rows of a query, as text; `None` is NULL.
    ///
    /// # Errors
    ///
    /// Damaged, if the server finds bad data; Failed, if it fails for another reason.
    pub fn rows(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
        let rows: Vec<Row> = self.conn.query(sql).map_err(|cause| self.refused(sql, &cause))?;
        let text = |value: Value| match value {
            Value::NULL => None,
            Value::Bytes(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
            other => Some(other.as_sql(true)),
        };
        Ok(rows.into_iter().map(|row| row.unwrap().into_iter().map(text).collect()).collect())
    }

    /// The first row by column names, in lower case, without NULL values.
    ///
    /// # Errors
    ///
    /// As [`Private::rows`].
    pub fn record(&mut self, sql: &str) -> Result<HashMap<String, String>> {
        let row: Option<Row> = self.conn.query_first(sql).map_err(|cause| self.refused(sql, &cause))?;
        let Some(row) = row else { return Ok(HashMap::new()) };
        let names: Vec<String> = row.columns_ref().iter().map(|column| column.name_str().to_lowercase()).collect();
        let text = |value: Value| match value {
            Value::NULL => None,
            Value::Bytes(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
            other => Some(other.as_sql(true)),
        };
        Ok(names.into_iter().zip(row.unwrap()).filter_map(|(name, value)| Some((name, text(value)?))).collect())
    }

    /// Why a statement failed: the server refused it, or has ended.
    fn refused(&mut self, sql: &str, cause: &mysql::Error) -> Error {
        if let mysql::Error::MySqlError(refusal) = cause {
            let what = format_args!("{}, in: {sql}", refusal.message);
            return Error::new(verdict::kind(&refusal.message), "server", what);
        }
        let begun = Instant::now();
        while begun.elapsed() < GONE {
            if let Ok(Some(status)) = self.child.try_wait() {
                return verdict::ended("server", &format!("it ended during {sql}"), status, &said(&self.log));
            }
            std::thread::sleep(TICK);
        }
        Error::failed("server", format_args!("{cause}, in: {sql}"))
    }

    /// Has the server end, and waits for it.
    ///
    /// # Errors
    ///
    /// Damaged, if it ends badly because of bad data; Failed, if it does so for another reason, or does not end.
    pub fn stop(mut self) -> Result<()> {
        let fail = |cause: &std::io::Error| Error::io("server", "cannot be ended", cause);
        kill_process(Pid::from_child(&self.child), Signal::TERM).map_err(|errno| fail(&errno.into()))?;
        let begun = Instant::now();
        while begun.elapsed() < STOP {
            match self.child.try_wait().map_err(|cause| fail(&cause))? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => {
                    return Err(verdict::ended("server", "it ended badly", status, &said(&self.log)));
                }
                None => std::thread::sleep(TICK),
            }
        }
        Err(Error::failed("server", format_args!("did not end within {} s", STOP.as_secs())))
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server that does not answer yet.
struct Ending(Option<Child>);

impl Drop for Ending {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn command(program: &Program, data: &Path, room: &Path, socket: &Path, keyed: bool) -> Command {
    let mut command = Command::new(&program.path);
    let at = |option: &str, path: &Path| {
        let mut word = std::ffi::OsString::from(option);
        word.push(path);
        word
    };
    command.arg("--no-defaults");
    if let Some(basedir) = program.basedir().filter(|basedir| basedir != Path::new("/usr")) {
        command.arg(at("--basedir=", &basedir));
    }
    command.arg(at("--datadir=", data)).arg(at("--tmpdir=", room)).arg(at("--socket=", socket));
    command.arg(at("--pid-file=", &room.join("pid")));
    if !keyed {
        // Not even those of the server; a key, which the operator names, is a plugin of MariaDB.
        command.arg(at("--plugin-dir=", &room.join("plugins")));
    }
    command.args(["--skip-networking", "--skip-grant-tables", "--skip-log-bin", "--innodb-buffer-pool-size=128M"]);
    command.args(match program.release.family {
        Family::MariaDb => {
            &["--skip-slave-start", "--innodb-buffer-pool-load-at-startup=OFF", "--event-scheduler=DISABLED"][..]
        }
        Family::MySql => &[
            "--skip-replica-start",
            "--mysqlx=OFF",
            "--persisted-globals-load=OFF",
            "--innodb-buffer-pool-load-at-startup=OFF",
            "--secure-file-priv=NULL",
            "--auto-generate-certs=OFF",
            "--loose-caching-sha2-password-auto-generate-rsa-keys=OFF",
            "--loose-sha256-password-auto-generate-rsa-keys=OFF",
            "--upgrade=NONE",
            "--event-scheduler=OFF",
            "--server-id=0",
        ],
    });
    if rustix::process::geteuid().is_root() {
        command.arg("--user=root");
    }
    command
}

/// Options out of the backup, each of which is known and of a form that can do no harm.
fn of_backup(data: &Path) -> Result<Vec<String>> {
    let path = data.join("backup-my.cnf");
    let pairs = metadata::pairs(&small(&path)?.unwrap_or_default());
    let option = |(name, allowed): &(&str, &str)| {
        let value = pairs.get(*name)?;
        Some(match value.chars().all(|char| allowed.contains(char)) {
            true => Ok(format!("--loose-{}={value}", name.replace('_', "-"))),
            false => Err(Error::damaged(path.display(), format_args!("{name} has a value that no server has"))),
        })
    };
    NEEDED.iter().filter_map(option).collect()
}

fn connect(socket: &Path) -> mysql::Result<Conn> {
    Conn::new(OptsBuilder::new().socket(Some(socket.to_string_lossy())).user(Some("root")))
}

/// What the server said.
fn said(log: &Path) -> String {
    String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned()
}

/// True if a message of `CHECK TABLE` blames this host.
pub fn blames_host(text: &str) -> bool {
    verdict::blames_host(text)
}
