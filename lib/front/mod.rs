//! The command lines of the stock programs, carried out by ours.
//!
//! `table` says what becomes of each option, `line` takes a command line apart, `plan` turns it into programs of ours with
//! their arguments, which is pure and tested as a table; `run` starts them, judges every one, and says at the end what
//! callers of the stock programs look for (`words`). No byte of a backup passes through here.

mod argv;
mod decode;
mod line;
mod page;
mod plan;
mod run;
mod table;
mod words;

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::crypt::keyfile;
use crate::error::{Error, Result};
use crate::server::options::{Options, SYSTEM, Sources};
use line::{Grammar, Line, Secret};
pub use page::troff;
use plan::{Plan, Surroundings};
use words::Style;

/// Groups of option files that only programs for backups have.
const GROUPS: [&str; 3] = ["xtrabackup", "mariabackup", "mariadb-backup"];
/// The same, and those of the server: what `--print-defaults` prints.
const ALL_GROUPS: [&str; 9] = [
    "xtrabackup",
    "mariabackup",
    "mariadb-backup",
    "mysqld",
    "server",
    "mariadb",
    "mariadbd",
    "client-server",
    "galera",
];
/// What of a server's options says where its files are.
const PLACES: [&str; 7] = [
    "datadir",
    "innodb-data-home-dir",
    "innodb-data-file-path",
    "innodb-log-group-home-dir",
    "innodb-undo-directory",
    "innodb-page-size",
    "aria-log-dir-path",
];

/// Says that damaged pages are passed over.
const FORCED: &str = "innodb-force-recovery";

/// The names under which a stock program is called.
pub const NAMES: [&str; 7] =
    ["mariadb-backup", "mariabackup", "xtrabackup", "innobackupex", "mbstream", "xbstream", "xbcrypt"];

/// A stock program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// Of MariaDB.
    MariadbBackup,
    /// Of Percona.
    Xtrabackup,
    /// Of Percona, the older one.
    Innobackupex,
    /// Of MariaDB.
    Mbstream,
    /// Of Percona.
    Xbstream,
    /// Of Percona.
    Xbcrypt,
}

/// Where a front speaks.
pub trait Voice: Send + Sync {
    /// A line on standard error.
    fn say(&self, line: &str);
    /// Text on standard output.
    ///
    /// # Errors
    ///
    /// Failed, when it cannot be written.
    fn print(&self, text: &str) -> Result<()>;
}

/// A call of a stock program.
#[derive(Debug)]
pub struct Call {
    program: Program,
    /// As it was called.
    name: String,
    arguments: Vec<OsString>,
    /// How many arguments stand before these, the program's name included.
    before: usize,
}

impl Program {
    /// By the name under which it is called.
    pub fn named(name: &OsStr) -> Option<Program> {
        Some(match name.to_str()? {
            "mariadb-backup" | "mariabackup" => Program::MariadbBackup,
            "xtrabackup" => Program::Xtrabackup,
            "innobackupex" => Program::Innobackupex,
            "mbstream" => Program::Mbstream,
            "xbstream" => Program::Xbstream,
            "xbcrypt" => Program::Xbcrypt,
            _ => return None,
        })
    }

    /// Its usual name.
    pub fn name(self) -> &'static str {
        match self {
            Program::MariadbBackup => "mariadb-backup",
            Program::Xtrabackup => "xtrabackup",
            Program::Innobackupex => "innobackupex",
            Program::Mbstream => "mbstream",
            Program::Xbstream => "xbstream",
            Program::Xbcrypt => "xbcrypt",
        }
    }

    fn grammar(self) -> Grammar {
        let tables: &[&[table::Row]] = match self {
            Program::MariadbBackup | Program::Xtrabackup => &[table::BACKUP, table::COMMON],
            Program::Innobackupex => &[table::INNOBACKUPEX, table::COMMON],
            Program::Mbstream | Program::Xbstream => &[table::XBSTREAM],
            Program::Xbcrypt => &[table::XBCRYPT],
        };
        Grammar { program: self.name(), tables, prefixes: self != Program::MariadbBackup }
    }

    fn style(self) -> Style {
        match self {
            Program::MariadbBackup => Style::Mariadb,
            Program::Xtrabackup => Style::Xtrabackup,
            Program::Innobackupex => Style::Innobackupex,
            Program::Mbstream | Program::Xbstream | Program::Xbcrypt => Style::Plain,
        }
    }
}

impl Call {
    /// What a process was called for: `arguments` begin with its own name, which may be that of a stock program; otherwise
    /// the next one may be. `None` if neither is.
    pub fn of(mut arguments: Vec<OsString>) -> Option<Call> {
        let own = arguments.first().map(Path::new).and_then(Path::file_name).map(OsStr::to_owned);
        let mut before = 1;
        let mut name = own.filter(|name| Program::named(name).is_some());
        if name.is_none() {
            name = arguments.get(1).cloned();
            before = 2;
        }
        let name = name?;
        let mut program = Program::named(&name)?;
        let is_older = arguments.get(before).is_some_and(|word| word == "--innobackupex");
        if program == Program::MariadbBackup && is_older {
            program = Program::Innobackupex;
            before += 1;
        }
        let arguments = arguments.split_off(before.min(arguments.len()));
        Some(Call { program, name: name.to_string_lossy().into_owned(), arguments, before })
    }

    /// Says why it failed, as the stock program would.
    pub fn tell(&self, error: &Error, voice: &dyn Voice) {
        let style = self.program.style();
        let now = jiff::Zoned::now();
        let text = if style == Style::Plain { format!("{}: {error}", self.name) } else { error.to_string() };
        voice.say(&words::line(style, &now, words::Tone::Error, &text));
        if let Some(hint) = error.advice() {
            voice.say(&words::line(style, &now, words::Tone::Note, &format!("hint: {hint}")));
        }
    }

    /// Carries it out.
    ///
    /// # Errors
    ///
    /// Usage for a command line that cannot be carried out; otherwise what a program of ours that failed has said before.
    pub fn run(&mut self, voice: &Arc<dyn Voice>) -> Result<()> {
        let grammar = self.program.grammar();
        let mut secrets = Vec::new();
        let parsed = line::parse(&grammar, &self.arguments, &mut secrets);
        // At once, whatever else is wrong.
        let wiped = argv::wipe(&self.absolute(&secrets));
        self.arguments.clear();
        let line = parsed?;
        let password = line.any_value("password").map(password).transpose()?;
        if password.is_some() {
            keyfile::harden()?;
            let seen = if wiped { "until it was wiped just now" } else { "and could not be wiped" };
            let what =
                format!("--password: other users could see it on the command line {seen}; an option file is the place");
            voice.say(&words::line(self.program.style(), &jiff::Zoned::now(), words::Tone::Warning, &what));
        }
        let (options, line) = self.with_files(&grammar, line)?;
        let around = Surroundings {
            now: jiff::Zoned::now().strftime("%Y-%m-%d_%H-%M-%S").to_string(),
            option_file: SYSTEM.iter().map(Path::new).find(|file| file.exists()).map(Path::to_owned),
        };
        let plan = plan::of(self.program, &line, &around)?;
        let runner = run::Runner { style: self.program.style(), voice: voice.clone(), password };
        if matches!(plan, Plan::Run(_) | Plan::Decode(_)) {
            for text in line.ignored() {
                runner.say(words::Tone::Warning, &text);
            }
        }
        match plan {
            Plan::Help => voice.print(&page::help(&self.name, &grammar)),
            Plan::Version => {
                voice.say(&words::version(&self.name, self.program));
                Ok(())
            }
            Plan::Defaults => voice.print(&words::defaults(&self.name, options.all(&ALL_GROUPS))),
            Plan::Parameters => {
                let places = PLACES.iter().filter_map(|key| {
                    let asked = (*key == "datadir").then(|| line.text(key)).flatten();
                    Some((*key, asked.or_else(|| options.server(key).map(str::to_owned))?))
                });
                voice.print(&words::parameters(places))
            }
            Plan::Run(pipeline) => runner.run(&pipeline),
            Plan::Decode(decode) => decode::run(&runner, &decode),
        }
    }

    /// Option files, and the command line behind what they say.
    fn with_files(&self, grammar: &Grammar, line: Line) -> Result<(Options, Line)> {
        if self.program.style() == Style::Plain {
            return Ok((Options::default(), line));
        }
        let sources = Sources {
            file: line.value("defaults-file").map(Into::into),
            extra: line.value("defaults-extra-file").map(Into::into),
            none: line.has("no-defaults"),
            suffix: line.text("defaults-group-suffix"),
            // For xb-snap only.
            login_path: None,
        };
        let options = sources.read(&())?;
        let mut settings: Vec<_> =
            options.all(&GROUPS).map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        // Of a server's options in a file that is named, the stock program takes this one when it prepares.
        let prepares = line.has("prepare") || line.has("apply-log");
        let forced = options.server(FORCED).filter(|_| prepares && line.value("defaults-file").is_some());
        settings.extend(forced.map(|level| (FORCED.to_owned(), level.to_owned())));
        Ok((options, line.behind(grammar, &settings)?))
    }

    /// Where secrets stand among all arguments of the process, with their lengths: from the first byte of them all.
    fn absolute(&self, secrets: &[Secret]) -> Vec<argv::Place> {
        let place = |secret: &Secret| {
            let argument = self.arguments.get(secret.argument)?;
            let len = argument.len().checked_sub(secret.from)?;
            Some(argv::Place { argument: self.before.checked_add(secret.argument)?, from: secret.from, len })
        };
        secrets.iter().filter_map(place).collect()
    }
}

/// A password as a line of text.
fn password(value: &OsStr) -> Result<Zeroizing<String>> {
    let text = value.to_str().filter(|text| text.len() <= 4096 && !text.contains(['\n', '\r']));
    let text =
        text.ok_or_else(|| Error::usage("--password", "is longer than 4096 bytes, no UTF-8, or has a line break"))?;
    Ok(Zeroizing::new(format!("{text}\n")))
}

#[cfg(test)]
mod tests;
