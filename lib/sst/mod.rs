//! wsrep_sst_xb: mariadbd calls it when a node joins a Galera cluster, on the joiner and on the donor.
//!
//! `args`, `protocol`, `wire`, `settings`, `asked`, `tls`, `keep` and `socat` are pure: what the server says and is told, what the
//! nodes say to each other, and what option files mean. `transport` and `link` are the connection, `children` the
//! programs that do the work, `watch` what ends all of it early, `datadir` and `places` the joiner's directories. The order
//! of steps stands in `donor` and `joiner`. `seed` is for a node whose data come from a backup.
//!
//! The joiner removes nothing before a donor has given back the secret of the joiner's address, which only members of
//! the cluster get to know, and all data have arrived, were verified and applied. If there is no room for both, the first
//! member of the stream must have arrived, and say that the new data fit in where the old ones are.

pub mod args;
mod asked;
mod children;
mod datadir;
mod donor;
mod joiner;
mod keep;
mod link;
mod logs;
mod places;
pub mod protocol;
pub mod seed;
mod settings;
mod socat;
mod tls;
mod transport;
mod watch;
mod wire;

use std::ffi::OsString;
use std::io::{IsTerminal, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use crate::crypt::keyfile;
use crate::error::{Error, Result};
use crate::server::options::{Options, Sources};
use args::{Accounts, Call, Role};
use children::Journal;
use datadir::Datadir;
use places::Places;
use protocol::Line;
use settings::{Progress, Settings};
use watch::Watch;

/// How long the server may take to say its account.
const ACCOUNT: Duration = Duration::from_secs(10);
/// The longest that is read of it.
const ACCOUNT_MAX: u64 = 64 << 10;
/// Groups with options of the server.
const SERVER: [&str; 6] = ["mysqld", "server", "mariadb", "mariadbd", "client-server", "galera"];
/// Where a transfer speaks.
pub trait Voice: Send + Sync {
    /// A line for mariadbd.
    ///
    /// # Errors
    ///
    /// Failed: it cannot be written.
    fn tell(&self, line: &str) -> Result<()>;
    /// A line for people.
    fn say(&self, line: &str);
}

/// Hears the lines of programs, and from which place each comes.
type Ear = Box<dyn Fn(usize, &[u8]) + Send + Sync>;

/// What every step needs.
struct Stage {
    watch: Watch,
    journal: Arc<Journal>,
    voice: Arc<dyn Voice>,
    role: Role,
    syslog: Option<logs::Syslog>,
}

impl Stage {
    fn tell(&self, line: &Line<'_>) -> Result<()> {
        self.voice.tell(&line.to_string())
    }

    fn say(&self, text: &str) {
        match &self.syslog {
            Some(syslog) if syslog.say(text) => {}
            _ => self.voice.say(&logs::line("INFO", text)),
        }
    }

    /// Says how long a step took, if options ask for it.
    fn took(&self, settings: &Settings, what: &str, begun: Instant) {
        if settings.time {
            self.say(&format!("{what} took {:.3} s", begun.elapsed().as_secs_f64()));
        }
    }

    /// A log file; the one that is there goes to the archive.
    fn log(&self, name: &str, settings: &Settings, dir: &Path) -> Result<Arc<Journal>> {
        let path = dir.join(name);
        let anew = logs::archive(&path, settings.archive.as_deref(), |text| self.say(text));
        Journal::open(&path, anew)
    }
}

/// Does what mariadbd has called the script for; `arguments` are those of mariadbd itself.
///
/// # Errors
///
/// Whatever ends the transfer. The joiner's server ends then, too; the donor's goes on.
pub fn run(call: &Call, arguments: &[OsString], voice: &Arc<dyn Voice>) -> Result<()> {
    keyfile::harden()?;
    // The server has left descriptors open, its own pipes among them: no program may keep them.
    close_fds::set_fds_cloexec_threadsafe(3, &[]);
    let sources = Sources {
        login_path: None,
        file: call.defaults_file.clone(),
        extra: call.defaults_extra_file.clone(),
        none: false,
        suffix: call.defaults_group_suffix.clone(),
    };
    let options = sources.read(&())?;
    let settings = Settings::of(&options, call.role)?;
    let watch = Watch::start(call.parent)?;
    let outcome = transfer(call, arguments, &options, &settings, &watch, voice);
    outcome.map_err(|error| watch.blame(error))
}

fn transfer(
    call: &Call,
    arguments: &[OsString],
    options: &Options,
    settings: &Settings,
    watch: &Watch,
    voice: &Arc<dyn Voice>,
) -> Result<()> {
    let data = Datadir::claim(&call.datadir, watch)?;
    let syslog = settings.syslog.as_deref().map(|tag| logs::Syslog::start(tag, call.role)).transpose()?;
    let name = match call.role {
        Role::Donor => "innobackup.backup.log",
        Role::Joiner => "innobackup.receive.log",
    };
    let path = data.path().join(name);
    let say = |text: &str| voice.say(&logs::line("WARNING", text));
    let journal = Journal::open(&path, logs::archive(&path, settings.archive.as_deref(), say))?;
    let stage = Stage { watch: watch.clone(), journal, voice: voice.clone(), role: call.role, syslog };
    match call.role {
        Role::Donor => donor::run(call, settings, accounts(settings)?, &stage),
        Role::Joiner => joiner::run(call, settings, &data, &places(call, arguments, options, settings), &stage),
    }
}

/// A line for people about a failure.
pub fn failure(error: &Error) -> String {
    let hint =
        error.advice().map_or(String::new(), |hint| format!("\n{}", logs::line("INFO", &format!("hint: {hint}"))));
    logs::line("ERROR", &error.to_string()) + &hint
}

/// The donor's accounts: from the environment (10.11), from standard input (11), or from option files.
fn accounts(settings: &Settings) -> Result<Accounts> {
    let variable = |name: &str| std::env::var(name).ok().map(Zeroizing::new);
    let (auth, remote) = (variable("WSREP_SST_OPT_AUTH"), variable("WSREP_SST_OPT_REMOTE_AUTH"));
    let plain = |text: &Option<Zeroizing<String>>| text.as_ref().map(|text| text.to_string());
    let mut found = Accounts::from_environment(plain(&auth).as_deref(), plain(&remote).as_deref());
    if auth.is_none() && !std::io::stdin().is_terminal() {
        found.read(&standard_input()?)?;
    }
    if found.user.is_none() {
        let filed = Accounts::from_environment(settings.auth.as_deref(), None);
        found = Accounts { secret: found.secret, ..filed };
    }
    Ok(found)
}

/// All that the server writes there, within a limit of time.
fn standard_input() -> Result<Zeroizing<String>> {
    let (to, from) = crossbeam_channel::bounded(1);
    let read = move || {
        let mut text = Zeroizing::new(String::new());
        let read = std::io::stdin().take(ACCOUNT_MAX).read_to_string(&mut text);
        let _ = to.send(read.map(|_| text));
    };
    let thread = std::thread::Builder::new().name("account".to_owned()).spawn(read);
    thread.map_err(|cause| Error::io("stdin", "cannot start a thread", &cause))?;
    match from.recv_timeout(ACCOUNT) {
        Ok(read) => read.map_err(|cause| Error::io("stdin", "cannot read the account", &cause)),
        Err(_) => Err(Error::failed("stdin", "the server does not say its account")),
    }
}

/// Where the server's files are: its command line goes before option files.
fn places(call: &Call, arguments: &[OsString], options: &Options, settings: &Settings) -> Places {
    let mut found: Vec<(String, String)> = Vec::new();
    let mut note = |key: &str, value: &str| {
        let key = key.replace('-', "_");
        if places::counts(&key) && !value.is_empty() && !found.iter().any(|(known, _)| *known == key) {
            found.push((key, value.to_owned()));
        }
    };
    for argument in arguments.iter().rev().filter_map(|argument| argument.to_str()) {
        if let Some((key, value)) = argument.strip_prefix("--").and_then(|rest| rest.split_once('=')) {
            note(key, value);
        }
    }
    for (key, value) in options.all(&SERVER).rev() {
        note(key, value);
    }
    Places {
        datadir: call.datadir.clone(),
        options: found,
        binlog: call.binlog.clone(),
        binlog_index: call.binlog_index.clone(),
        own: settings.files(),
    }
}

/// What also gets the lines of the program at this place, which shows progress.
fn progress_file(settings: &Settings, place: usize, stage: &Stage) -> Result<Ear> {
    let own = move |at: usize| at == place;
    Ok(match &settings.progress {
        Progress::Nobody => Box::new(|_, _| {}),
        Progress::ErrorLog => {
            let (voice, role) = (stage.voice.clone(), stage.role);
            Box::new(move |at, text| {
                if own(at) {
                    voice.say(&logs::line("INFO", &format!("{role:?}: {}", String::from_utf8_lossy(text))));
                }
            })
        }
        Progress::File(path) => {
            let file = logs::progress(path)?;
            Box::new(move |at, text| {
                if own(at) {
                    logs::append(&file, text);
                }
            })
        }
    })
}
