//! A private server: its own directory, a socket, no network, no option files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder, Row};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::vault::free_port;
use super::{Family, Flavour, template};

/// Long enough for crash recovery on a busy machine.
const START: Duration = Duration::from_secs(90);
/// Long enough to purge and write out everything.
const STOP: Duration = Duration::from_secs(120);
/// No statement of a test takes longer; a hang becomes a failure.
const STATEMENT: Duration = Duration::from_secs(180);

/// The description of a server.
#[derive(Clone, Debug)]
pub struct Builder {
    flavour: Flavour,
    layout: Vec<String>,
    options: Vec<String>,
    data: Option<PathBuf>,
}

impl Builder {
    /// Which server; otherwise the installed one.
    #[must_use]
    pub fn flavour(mut self, flavour: Flavour) -> Self {
        self.flavour = flavour;
        self
    }

    /// The family of the server.
    pub fn family(&self) -> Family {
        self.flavour.family()
    }

    /// An option that shapes the data directory, so that it is needed from the first start on, and by a server on a
    /// restored copy: `layout("innodb-page-size", "4k")`. `@HOME@` in the value is the server's directory.
    #[must_use]
    pub fn layout(mut self, name: &str, value: &str) -> Self {
        self.layout.push(format!("--{name}={value}"));
        self
    }

    /// Any other option of the server; later ones win over the defaults of this library.
    #[must_use]
    pub fn option(mut self, name: &str, value: &str) -> Self {
        self.options.push(format!("--{name}={value}"));
        self
    }

    /// An option without a value, as `skip-log-bin`.
    #[must_use]
    pub fn flag(mut self, name: &str) -> Self {
        self.options.push(format!("--{name}"));
        self
    }

    /// Size of the redo log; a small one wraps during a backup.
    #[must_use]
    pub fn log_size(self, size: &str) -> Self {
        match self.flavour.family() {
            Family::Mariadb => self.option("innodb-log-file-size", size),
            Family::Mysql => self.option("innodb-redo-log-capacity", size),
        }
    }

    /// Tables, system tablespace and redo log encrypted by `file_key_management`.
    #[must_use]
    pub fn encrypted(self) -> Self {
        self.layout("plugin-load-add", "file_key_management")
            .layout("file-key-management-filename", "@HOME@/keys")
            .layout("innodb-encrypt-tables", "ON")
            .layout("innodb-encrypt-log", "ON")
            .layout("innodb-encryption-threads", "1")
    }

    /// Undo tablespaces in a directory of their own, `home()/undo`.
    #[must_use]
    pub fn undo_apart(self) -> Self {
        self.layout("innodb-undo-directory", "@HOME@/undo")
    }

    /// Answers on a port of this host, too (`SELECT @@port`): replication knows no sockets.
    #[must_use]
    pub fn networked(self) -> Self {
        self.option("skip-networking", "OFF")
            .option("bind-address", "127.0.0.1")
            .option("port", &free_port().to_string())
    }

    /// Runs on this data directory, which stays where it is, instead of a fresh one.
    #[must_use]
    pub fn on(mut self, data: &Path) -> Self {
        self.data = Some(data.to_path_buf());
        self
    }

    /// Starts it and waits until it answers. Panics with the end of its log if it does not.
    pub fn start(self) -> Server {
        self.try_start().unwrap_or_else(|log| panic!("the server did not start:\n{log}"))
    }

    /// As [`Builder::start`]; a server that does not start gives its log.
    pub fn try_start(self) -> Result<Server, String> {
        let home = tempfile::Builder::new().prefix("xb-server-").tempdir().expect("cannot make a server's directory");
        let data = match &self.data {
            Some(data) => {
                template::skeleton(home.path());
                data.clone()
            }
            None => {
                template::lay_out(self.flavour, &self.layout, home.path());
                home.path().join("data")
            }
        };
        let home = if std::env::var_os("XB_KEEP").is_some() { Home::Kept(home.keep()) } else { Home::Scratch(home) };
        let mut server = Server { build: self, home, data, child: None };
        server.launch()?;
        Ok(server)
    }
}

/// A private server, running or stopped. On drop it is killed and its directory removed.
pub struct Server {
    build: Builder,
    home: Home,
    data: PathBuf,
    child: Option<Child>,
}

enum Home {
    Scratch(TempDir),
    Kept(PathBuf),
}

impl Server {
    /// Begins the description of a server.
    #[expect(clippy::new_ret_no_self, reason = "Server::new().start() reads as what it does")]
    pub fn new() -> Builder {
        Builder { flavour: Flavour::Installed, layout: Vec::new(), options: Vec::new(), data: None }
    }

    /// A server like this one, for a restored copy: same flavour, same layout, undo logs beside the data, no binlog.
    pub fn twin(&self, data: &Path) -> Builder {
        let mut twin = Server::new().flavour(self.build.flavour).on(data).flag("skip-log-bin");
        twin.layout = self.build.layout.clone();
        twin.layout.retain(|option| !option.starts_with("--innodb-undo-directory"));
        twin
    }

    pub fn flavour(&self) -> Flavour {
        self.build.flavour
    }

    /// The option that a backup needs under a load of DDL: an encrypted log does not show which files were deleted, so
    /// DDL must be blocked.
    pub fn safe_options(&self) -> &'static [&'static str] {
        let encrypted = self.build.layout.iter().any(|option| option.starts_with("--innodb-encrypt-log"));
        if encrypted { &["--lock-ddl=early"] } else { &[] }
    }

    /// The option of `xb-redo --apply` for the plugins' directory, if it is not the program's default: a backup cannot
    /// set it.
    pub fn plugins(&self) -> Vec<String> {
        let told = self.build.layout.iter().find_map(|option| option.strip_prefix("--plugin-dir="));
        match (told, self.build.flavour.family()) {
            (Some(place), _) => vec![format!("--server-option=plugin-dir={place}")],
            (None, Family::Mariadb) => {
                vec![format!("--server-option=plugin-dir={}", self.build.flavour.plugins().display())]
            }
            (None, Family::Mysql) => Vec::new(),
        }
    }

    /// A program of this server's flavour.
    pub fn program(&self, name: &str) -> Command {
        self.build.flavour.program(name)
    }

    /// The directory that holds `data`, `undo`, `outside`, `tmp`, the socket and the log.
    pub fn home(&self) -> &Path {
        match &self.home {
            Home::Scratch(dir) => dir.path(),
            Home::Kept(dir) => dir,
        }
    }

    pub fn data(&self) -> &Path {
        &self.data
    }

    pub fn socket(&self) -> PathBuf {
        self.home().join("socket")
    }

    /// Process id of a running server.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the server is not running").id()
    }

    /// Connection options, to be the first ones, for our tools and the stock ones: an option file of this server's own,
    /// so that those of the machine are not read.
    pub fn options(&self) -> Vec<String> {
        vec![format!("--defaults-file={}", self.option_file().display())]
    }

    /// Says `[client]` where the socket is, and that we are root.
    pub fn option_file(&self) -> PathBuf {
        self.home().join("my.cnf")
    }

    /// What the server has said so far.
    pub fn log(&self) -> String {
        fs::read(self.home().join("error.log"))
            .map_or_else(|_| String::new(), |log| String::from_utf8_lossy(&log).into())
    }

    /// A connection of one's own.
    pub fn connect(&self) -> Conn {
        self.try_connect().expect("cannot connect to the server")
    }

    pub fn try_connect(&self) -> mysql::Result<Conn> {
        connect(&self.socket())
    }

    /// Runs statements, separated by `;`. Panics on an error of any of them.
    pub fn sql(&self, statements: &str) {
        if let Err(error) = each(&mut self.connect(), statements) {
            panic!("{error}\nin: {statements}");
        }
    }

    /// Rows as text; NULL is `NULL`.
    pub fn rows(&self, query: &str) -> Vec<Vec<String>> {
        let rows: Vec<Row> = self.connect().query(query).unwrap_or_else(|error| panic!("{error}\nin: {query}"));
        rows.into_iter().map(|row| row.unwrap().into_iter().map(text).collect()).collect()
    }

    /// The first column of the first row.
    pub fn value(&self, query: &str) -> String {
        let rows = self.rows(query);
        rows.first().and_then(|row| row.first()).unwrap_or_else(|| panic!("no row: {query}")).clone()
    }

    /// A number from `SHOW GLOBAL STATUS`.
    pub fn status(&self, name: &str) -> u64 {
        let rows = self.rows(&format!("SHOW GLOBAL STATUS LIKE '{name}'"));
        rows.first().and_then(|row| row.get(1)?.parse().ok()).unwrap_or_else(|| panic!("no status {name}"))
    }

    /// Ends it as `systemctl stop` does, and waits.
    pub fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let _ = kill_process(pid(&child), Signal::TERM);
        match wait(&mut child, STOP) {
            Some(status) => assert!(status.success(), "the server ended with {status}:\n{}", tail(&self.log())),
            None => {
                let _ = child.kill();
                let _ = child.wait();
                panic!("the server did not stop:\n{}", tail(&self.log()));
            }
        }
    }

    /// Ends it by SIGKILL: like a power cut, except for the page cache.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it again after [`Server::stop`] or [`Server::kill`].
    pub fn start_again(&mut self) {
        self.launch().unwrap_or_else(|log| panic!("the server did not start again:\n{log}"));
    }

    pub fn restart(&mut self) {
        self.stop();
        self.start_again();
    }

    fn launch(&mut self) -> Result<(), String> {
        assert!(self.child.is_none(), "the server is running");
        let home = self.home().to_path_buf();
        assert!(self.socket().as_os_str().len() < 108, "TMPDIR is too long for a socket: {}", home.display());
        let client = format!("[client]\nsocket={}\nuser=root\n", self.socket().display());
        fs::write(self.option_file(), client).expect("cannot write my.cnf");
        let layout = placed(&self.build.layout, &home);
        let options = placed(&self.build.options, &home);
        let mut command = mortal(Command::new(self.flavour().server()));
        command
            .args(base_arguments(self.build.flavour, &home))
            .arg(format!("--datadir={}", self.data.display()))
            .args(running_arguments(self.flavour(), &home))
            .args(layout)
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut child = command.spawn().expect("cannot run the server");
        let start = Instant::now();
        loop {
            if let Ok(Some(status)) = child.try_wait() {
                return Err(format!("{status}\n{}", tail(&self.log())));
            }
            if self.try_connect().is_ok() {
                self.child = Some(child);
                return Ok(());
            }
            if start.elapsed() > START {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("no answer after {START:?}\n{}", tail(&self.log())));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() && self.child.is_some() {
            eprintln!("end of the log of {}:\n{}", self.home().display(), tail(&self.log()));
        }
        self.kill();
    }
}

/// `query_drop` would hide the error of the second and later statements.
fn each(connection: &mut Conn, statements: &str) -> mysql::Result<()> {
    let mut results = connection.query_iter(statements)?;
    while let Some(rows) = results.iter() {
        rows.into_iter().try_for_each(|row| row.map(drop))?;
    }
    Ok(())
}

/// A connection as root.
pub(super) fn connect(socket: &Path) -> mysql::Result<Conn> {
    let options = OptsBuilder::new()
        .socket(Some(socket.to_string_lossy()))
        .user(Some("root"))
        .read_timeout(Some(STATEMENT))
        .write_timeout(Some(STATEMENT));
    Conn::new(options)
}

/// What every server gets, also while its directory is made.
pub(super) fn base_arguments(flavour: Flavour, home: &Path) -> Vec<String> {
    let mut arguments = vec![
        "--no-defaults".to_owned(),
        format!("--datadir={}", home.join("data").display()),
        format!("--tmpdir={}", home.join("tmp").display()),
        "--skip-networking".to_owned(),
        "--innodb-buffer-pool-size=96M".to_owned(),
        "--innodb-buffer-pool-dump-at-shutdown=OFF".to_owned(),
        "--key-buffer-size=4M".to_owned(),
    ];
    let own: &[&str] = match flavour.family() {
        Family::Mariadb => {
            arguments.push(format!("--plugin-dir={}", flavour.plugins().display()));
            &["--innodb-log-file-size=32M", "--aria-pagecache-buffer-size=8M", "--performance-schema=OFF"]
        }
        Family::Mysql => &[
            "--innodb-redo-log-capacity=32M",
            "--innodb-buffer-pool-load-at-startup=OFF",
            "--mysqlx=OFF",
            "--secure-file-priv=NULL",
            "--auto-generate-certs=OFF",
        ],
    };
    arguments.extend(own.iter().map(|&option| option.to_owned()));
    // Whoever runs the tests runs the server; root has to say that it is meant.
    if super::root() {
        arguments.push("--user=root".to_owned());
    }
    arguments
}

fn running_arguments(flavour: Flavour, home: &Path) -> Vec<String> {
    let at = |name: &str| home.join(name).display().to_string();
    let mut arguments = vec![
        format!("--socket={}", at("socket")),
        format!("--pid-file={}", at("pid")),
        format!("--log-error={}", at("error.log")),
        "--log-bin=binlog".to_owned(),
        "--server-id=1".to_owned(),
        "--max-allowed-packet=64M".to_owned(),
        "--table-open-cache=1000".to_owned(),
        "--lock-wait-timeout=120".to_owned(),
    ];
    // Built in everywhere else.
    let archive = flavour.plugins().join("ha_archive.so").exists();
    let own: &[&str] = match flavour.family() {
        Family::Mariadb if archive => &["--binlog-format=ROW", "--plugin-load-add=ha_archive"],
        Family::Mariadb => &["--binlog-format=ROW"],
        Family::Mysql => &["--gtid-mode=ON", "--enforce-gtid-consistency=ON"],
    };
    arguments.extend(own.iter().map(|&option| option.to_owned()));
    arguments
}

/// `@HOME@` in options.
pub(super) fn placed(options: &[String], home: &Path) -> Vec<String> {
    options.iter().map(|option| option.replace("@HOME@", &home.display().to_string())).collect()
}

/// Dies with the thread that starts it, so that no server outlives a killed test run. A server that several threads
/// share must therefore be started by one that lives as long as all of them.
pub(super) fn mortal(command: Command) -> Command {
    if !Path::new("/usr/bin/setpriv").exists() {
        return command;
    }
    let mut wrapped = Command::new("/usr/bin/setpriv");
    wrapped.args(["--pdeathsig", "KILL", "--"]).arg(command.get_program()).args(command.get_args());
    wrapped
}

fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}

/// Waits for at most `limit`.
pub(super) fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let start = Instant::now();
    while start.elapsed() < limit {
        if let Some(status) = child.try_wait().expect("cannot wait for a child") {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    None
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

/// A value as text.
fn text(value: mysql::Value) -> String {
    match value {
        mysql::Value::NULL => "NULL".to_owned(),
        mysql::Value::Bytes(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        other => other.as_sql(true),
    }
}
