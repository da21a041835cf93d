//! Chains of child programs, as a shell starts them for `a | b | c`. The standard error of each is read line by line,
//! and the exit status of each is kept.
//!
//! All programs of a chain are in one process group, which is ended as a whole. They inherit only standard input,
//! output and error, provided that this program has opened its own descriptors close-on-exec.

use std::io::{self, BufRead, BufReader};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use crate::error::{Error, OrInternal as _, Result};

/// The longest line of standard error that is passed on in one piece.
const LINE: u64 = 64 << 10;

/// Running programs. They are killed if this is dropped before [`Chain::wait`].
#[derive(Debug)]
pub struct Chain {
    group: Group,
    children: Vec<(String, Child)>,
    readers: Vec<JoinHandle<()>>,
}

/// All programs of a chain, to be told something by another thread than the one that waits for them. As long as they are
/// not waited for, nobody else gets their number.
#[derive(Clone, Debug, Default)]
pub struct Group(Arc<Mutex<Option<Pid>>>);

impl Group {
    /// Sends a signal to all programs, and to what they have started. Nothing happens once they have ended.
    pub fn signal(&self, signal: Signal) {
        if let Some(group) = *self.lock() {
            // All have ended: there is nobody to be told.
            let _ = kill_process_group(group, signal);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Pid>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A program that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its name, without directories.
    pub name: String,
    /// Its exit status.
    pub status: ExitStatus,
}

impl Ended {
    /// How it ended, to be said behind its name.
    pub fn how(&self) -> String {
        match (self.status.code(), self.status.signal()) {
            (_, Some(number)) if number == Signal::PIPE.as_raw() => "ended, for its reader went away".to_owned(),
            (_, Some(number)) => format!("was ended by signal {number}"),
            (Some(code), _) => format!("ended with exit status {code}"),
            _ => "ended".to_owned(),
        }
    }
}

impl Chain {
    /// Starts `programs` and connects the output of each to the input of the next. `line` gets what they write to
    /// standard error: the program's index in the chain, and a line without its newline.
    ///
    /// # Errors
    ///
    /// Failed, when a program cannot be started; those before it are killed.
    pub fn start(
        programs: impl IntoIterator<Item = Command>,
        input: Stdio,
        output: Stdio,
        line: impl Fn(usize, &[u8]) + Send + Sync + 'static,
    ) -> Result<Chain> {
        Self::start_with(programs, input, output, |_, output| Ok(output.into()), line)
    }

    /// The same, with something between the programs: `between` gets the output of each but the last, and its index, and
    /// returns the input of the next.
    ///
    /// # Errors
    ///
    /// Failed, when a program cannot be started, or `between` fails; the programs before are killed.
    pub fn start_with(
        programs: impl IntoIterator<Item = Command>,
        input: Stdio,
        output: Stdio,
        mut between: impl FnMut(usize, ChildStdout) -> io::Result<Stdio>,
        line: impl Fn(usize, &[u8]) + Send + Sync + 'static,
    ) -> Result<Chain> {
        let line = Arc::new(line);
        let mut chain = Chain { group: Group::default(), children: Vec::new(), readers: Vec::new() };
        let (mut input, mut output) = (input, Some(output));
        let mut programs = programs.into_iter().peekable();
        while let Some(mut command) = programs.next() {
            let last = programs.peek().is_none();
            let name = name(&command);
            let failed = |cause: &io::Error| Error::io(&name, "cannot start", cause);
            command.stdin(input).stderr(Stdio::piped()).process_group(Pid::as_raw(*chain.group.lock()));
            command.stdout(if last { output.take().unwrap_or_else(Stdio::null) } else { Stdio::piped() });
            let mut child = command.spawn().map_err(|cause| failed(&cause))?;
            // The command keeps its descriptors open, and a pipe with two writers has no end.
            drop(command);
            let (said, out) = (child.stderr.take(), child.stdout.take());
            chain.group.lock().get_or_insert(Pid::from_child(&child));
            let index = chain.children.len();
            chain.children.push((name.clone(), child));
            input = match out {
                Some(out) if !last => between(index, out).map_err(|cause| failed(&cause))?,
                out => {
                    chain.children.last_mut().or_internal("a chain without programs")?.1.stdout = out;
                    Stdio::null()
                }
            };
            if let Some(said) = said {
                let line = line.clone();
                let read = move || lines(said, |text| line(index, text));
                let reader = std::thread::Builder::new().name(format!("stderr of {name}")).spawn(read);
                chain.readers.push(reader.map_err(|cause| failed(&cause))?);
            }
        }
        Ok(chain)
    }

    /// The process of the program with this index; `None` if there are not so many.
    pub fn process(&self, index: usize) -> Option<Pid> {
        self.children.get(index).map(|(_, child)| Pid::from_child(child))
    }

    /// How the program with this index has ended; `None` if it still runs.
    ///
    /// # Errors
    ///
    /// Failed, if its status cannot be read.
    pub fn try_wait(&mut self, index: usize) -> Result<Option<ExitStatus>> {
        let (name, child) = self.children.get_mut(index).or_internal("no program has this index")?;
        child.try_wait().map_err(|cause| Error::io(&*name, "cannot be waited for", &cause))
    }

    /// The output of the last program, if it was started with [`Stdio::piped`]. Returns it once.
    pub fn output(&mut self) -> Option<ChildStdout> {
        self.children.last_mut()?.1.stdout.take()
    }

    /// The receiver of signals for all programs of the chain.
    pub fn group(&self) -> Group {
        self.group.clone()
    }

    /// Waits until all programs have ended and all their lines have been passed on.
    ///
    /// # Errors
    ///
    /// Failed, if the status of a program cannot be read.
    pub fn wait(mut self) -> Result<Vec<Ended>> {
        for (_, child) in &self.children {
            // One that was waited for already is not here any more.
            let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            while matches!(waitid(WaitId::Pid(Pid::from_child(child)), ended), Err(Errno::INTR)) {}
        }
        *self.group.lock() = None;
        let mut ended = Vec::with_capacity(self.children.len());
        for (name, child) in &mut self.children {
            let status = child.wait().map_err(|cause| Error::io(&*name, "cannot be waited for", &cause))?;
            ended.push(Ended { name: name.clone(), status });
        }
        for reader in self.readers.drain(..) {
            reader.join().map_err(|_| Error::internal("a thread ended before its work"))?;
        }
        Ok(ended)
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        self.group.signal(Signal::KILL);
        if self.group.lock().take().is_some() {
            for (_, child) in &mut self.children {
                let _ = child.wait();
            }
        }
    }
}

/// The program that made the chain fail; `None` if all succeeded. A program that died because its reader was gone is
/// not the cause if the reader failed, too.
pub fn cause(ended: &[Ended]) -> Option<&Ended> {
    let failed = || ended.iter().filter(|one| !one.status.success());
    failed().find(|one| !is_broken_pipe(one.status)).or_else(|| failed().next())
}

fn is_broken_pipe(status: ExitStatus) -> bool {
    let number = Signal::PIPE.as_raw();
    status.signal() == Some(number) || status.code() == Some(128 + number)
}

/// Where one of our programs is: beside this one, wherever links to it are; otherwise it is looked for in `PATH`.
pub fn tool(name: &str) -> PathBuf {
    let beside = std::env::current_exe().ok().map(|own| own.with_file_name(name)).filter(|tool| tool.is_file());
    beside.unwrap_or_else(|| PathBuf::from(name))
}

fn name(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program());
    program.file_name().unwrap_or(command.get_program()).to_string_lossy().into_owned()
}

/// Reads lines until the end of input; longer ones come in pieces.
fn lines(from: impl io::Read, mut each: impl FnMut(&[u8])) {
    let mut from = BufReader::new(from);
    let mut text = Vec::new();
    loop {
        text.clear();
        // An error ends the reading, too: the program's exit status tells how it went.
        match io::Read::take(&mut from, LINE).read_until(b'\n', &mut text) {
            Ok(0) | Err(_) => return,
            Ok(_) => each(text.strip_suffix(b"\n").unwrap_or(&text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::sync::Mutex;

    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    fn run(scripts: &[&str]) -> (String, Vec<String>, Vec<Ended>) {
        let said = Arc::new(Mutex::new(Vec::new()));
        let keep = said.clone();
        let note = move |place: usize, text: &[u8]| {
            keep.lock().unwrap().push(format!("{place}: {}", String::from_utf8_lossy(text)));
        };
        let programs = scripts.iter().map(|script| shell(script));
        let mut chain = Chain::start(programs, Stdio::null(), Stdio::piped(), note).unwrap();
        let mut out = String::new();
        chain.output().unwrap().read_to_string(&mut out).unwrap();
        let ended = chain.wait().unwrap();
        let mut said = said.lock().unwrap().clone();
        said.sort();
        (out, said, ended)
    }

    #[test]
    fn every_status_and_every_line_is_kept() {
        let (out, said, ended) = run(&["echo hello; echo a >&2; exit 3", "echo b >&2; tr a-z A-Z", "cat; exit 5"]);
        assert_eq!(out, "HELLO\n");
        assert_eq!(said, ["0: a", "1: b"]);
        assert_eq!(ended.iter().map(|one| one.status.code()).collect::<Vec<_>>(), [Some(3), Some(0), Some(5)]);
        assert_eq!(cause(&ended).unwrap().status.code(), Some(3));
    }

    #[test]
    fn a_broken_pipe_is_not_the_cause() {
        let (_, _, ended) = run(&["exec yes", "exit 4"]);
        assert_eq!(ended.first().unwrap().status.signal(), Some(Signal::PIPE.as_raw()));
        assert_eq!(cause(&ended).unwrap().status.code(), Some(4));
        let (_, _, ended) = run(&["echo x", "cat"]);
        assert_eq!(cause(&ended), None);
    }

    #[test]
    fn what_a_program_has_started_ends_with_the_chain() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        let script = format!("sleep 1000 & echo $! > {}; wait", path.display());
        let chain = Chain::start([shell(&script)], Stdio::null(), Stdio::null(), |_, _| {}).unwrap();
        let pid = loop {
            match std::fs::read_to_string(&path) {
                Ok(text) if text.ends_with('\n') => break text.trim().to_owned(),
                _ => std::thread::sleep(std::time::Duration::from_millis(5)),
            }
        };
        drop(chain);
        // An orphan: the process that adopts it may leave it a zombie for a while.
        let runs = || std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|text| !text.contains(") Z"));
        let begun = std::time::Instant::now();
        while runs() {
            assert!(begun.elapsed().as_secs() < 10, "process {pid} runs on");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    #[test]
    fn another_thread_ends_the_chain() {
        let chain = Chain::start([shell("exec sleep 1000"), shell("cat")], Stdio::null(), Stdio::null(), |_, _| {});
        let chain = chain.unwrap();
        let group = chain.group();
        let ended = std::thread::scope(|scope| {
            scope.spawn(|| group.signal(Signal::TERM));
            chain.wait().unwrap()
        });
        assert!(ended.iter().all(|one| one.status.signal() == Some(Signal::TERM.as_raw())), "{ended:?}");
        group.signal(Signal::KILL);
    }

    #[test]
    fn a_program_that_is_not_there_ends_those_before_it() {
        let programs = [shell("exec cat"), Command::new("/nonexistent/xb-front")];
        let error = Chain::start(programs, Stdio::null(), Stdio::null(), |_, _| {}).unwrap_err();
        assert_eq!(error.to_string(), "xb-front: cannot start: no such file or directory");
    }
}
