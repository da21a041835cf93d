//! The programs that do the work, and what they say: everything goes into a log file, the reason of a failure also to
//! the server's error log.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use super::watch::Watch;
use crate::error::{Error, Kind, Result};
use crate::process::{self, Chain, Ended};

/// How many of the last lines of each program are kept.
const LINES: usize = 4;
/// What must not get into the environment of programs: accounts.
const SECRET: [&str; 3] = ["WSREP_SST_OPT_AUTH", "WSREP_SST_OPT_REMOTE_AUTH", "MYSQL_PWD"];

/// One of our programs.
pub(super) fn tool(name: &str) -> Command {
    mortal(process::tool(name).as_os_str())
}

/// A shell that runs what an option says.
pub(super) fn shell(command: &str) -> Command {
    let mut shell = mortal(OsStr::new("/bin/sh"));
    shell.args(["-c", command]);
    shell
}

/// A program that ends when this process does, however that ends.
pub(super) fn mortal(program: &OsStr) -> Command {
    let mut command = match Path::new("/usr/bin/setpriv").exists() {
        true => {
            let mut command = Command::new("/usr/bin/setpriv");
            command.args(["--pdeathsig", "TERM", "--"]).arg(program);
            command
        }
        false => Command::new(program),
    };
    for name in SECRET {
        command.env_remove(name);
    }
    command
}

/// A log file for what programs say.
pub(super) struct Journal {
    path: PathBuf,
    file: Mutex<File>,
    last: Mutex<Vec<VecDeque<String>>>,
}

impl Journal {
    /// Opens it, empty or behind what it has.
    pub(super) fn open(path: &Path, anew: bool) -> Result<Arc<Journal>> {
        let mut options = OpenOptions::new();
        options.create(true).mode(0o640).custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed());
        let file = if anew { options.write(true).truncate(true) } else { options.append(true) }.open(path);
        let file = file.map_err(|cause| Error::io(path.display(), "cannot create", &cause))?;
        Ok(Arc::new(Journal { path: path.to_owned(), file: Mutex::new(file), last: Mutex::default() }))
    }

    fn hear(&self, place: usize, text: &[u8]) {
        let text = String::from_utf8_lossy(text).into_owned();
        // A full disk is no reason to fail: the status of the program counts.
        let _ = self.file.lock().unwrap_or_else(PoisonError::into_inner).write_all(format!("{text}\n").as_bytes());
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() <= place {
            last.resize_with(place + 1, VecDeque::new);
        }
        if let Some(lines) = last.get_mut(place) {
            lines.truncate(LINES - 1);
            lines.push_front(text);
        }
    }

    /// What the program at this place has said last that is not a hint.
    fn reason(&self, place: usize) -> Option<String> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.get(place)?.iter().find(|line| !line.starts_with("hint: ") && !line.is_empty()).cloned()
    }
}

/// Programs at work.
pub(super) struct Work {
    chain: Chain,
    journal: Arc<Journal>,
    watch: Watch,
}

impl Work {
    /// Starts programs that end with the transfer. `also` gets their lines, too.
    pub(super) fn start(
        programs: Vec<Command>,
        input: Stdio,
        output: Stdio,
        journal: &Arc<Journal>,
        watch: &Watch,
        also: impl Fn(usize, &[u8]) + Send + Sync + 'static,
    ) -> Result<Work> {
        let ear = journal.clone();
        let hear = move |place: usize, text: &[u8]| {
            ear.hear(place, text);
            also(place, text);
        };
        let chain = Chain::start(programs, input, output, hear)?;
        watch.group(chain.group());
        Ok(Work { chain, journal: journal.clone(), watch: watch.clone() })
    }

    /// What the last one writes.
    pub(super) fn output(&mut self) -> Option<std::process::ChildStdout> {
        self.chain.output()
    }

    /// True if all `programs` have ended.
    pub(super) fn ended(&mut self, programs: usize) -> Result<bool> {
        for index in 0..programs {
            if self.chain.try_wait(index)?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Waits for all of them; every one has to have succeeded.
    ///
    /// # Errors
    ///
    /// The reason why the transfer has ended early, or which program has failed and why.
    pub(super) fn judge(self) -> Result<()> {
        let ended = self.chain.wait()?;
        self.watch.check()?;
        judge(&ended, &self.journal)
    }
}

fn judge(ended: &[Ended], journal: &Journal) -> Result<()> {
    let Some(failed) = process::cause(ended) else { return Ok(()) };
    let place = ended.iter().position(|one| std::ptr::eq(one, failed)).unwrap_or_default();
    let how = failed.how();
    let kind = match failed.status.code() {
        Some(2) => Kind::Usage,
        Some(3) => Kind::Damaged,
        Some(4) => Kind::Key,
        Some(5) => Kind::Invalid,
        _ => Kind::Failed,
    };
    let error = match journal.reason(place) {
        Some(said) => Error::new(kind, said, format_args!("({how})")),
        None => Error::new(kind, &failed.name, how),
    };
    Err(error.hint(format_args!("all messages are in {}", journal.path.display())))
}
