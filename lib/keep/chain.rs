//! Programs at work: started, listened to, judged one by one.

mod ear;

use std::path::PathBuf;
use std::process::{ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::process::Signal;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

pub use self::ear::Ear;
use super::stages;
use crate::error::{Error, Kind, OrInternal as _, Result};
use crate::process::{self, Chain, Ended, Group};

/// Our programs that take `--log=json`.
const OURS: [&str; 8] = ["xb-snap", "xb-redo", "xb-pack", "xb-unpack", "xb-zip", "xb-crypt", "xb-throttle", "xb-sum"];

/// Running programs.
pub struct Running {
    chain: Chain,
    ear: Ear,
}

/// Starts programs by their argument vectors, with nothing as their input and a pipe at their end. One that is ours is the
/// one beside this program.
///
/// # Errors
///
/// Failed, if one cannot be started.
pub fn start(programs: &[Vec<String>], ear: &Ear) -> Result<Running> {
    start_with(programs, Stdio::null(), Stdio::piped(), ear, |_, output| Ok(output.into()))
}

/// Runs a program to its end.
///
/// # Errors
///
/// As [`Running::wait`].
pub fn run(program: Vec<String>, ear: &Ear) -> Result<()> {
    start_with(&[program], Stdio::null(), Stdio::null(), ear, |_, output| Ok(output.into()))?.wait().map(drop)
}

/// The same as [`start`], between an input and an output; `between` gets the output of each but the last, and its place, and returns the input of the next.
///
/// # Errors
///
/// As [`start`].
pub fn start_with(
    programs: &[Vec<String>],
    input: Stdio,
    output: Stdio,
    ear: &Ear,
    between: impl FnMut(usize, ChildStdout) -> std::io::Result<Stdio>,
) -> Result<Running> {
    let listener = ear.clone();
    let names: Vec<String> = programs.iter().map(|run| stages::name(run).to_owned()).collect();
    let commands: Vec<Command> = programs.iter().map(|run| command(run)).collect::<Result<_>>()?;
    let told = Told::get()?;
    // One that came between two chains counts, too.
    told.check()?;
    let hear = move |place: usize, line: &[u8]| {
        listener.hear(place, names.get(place).map_or("", String::as_str), line);
    };
    let chain = Chain::start_with(commands, input, output, between, hear)?;
    told.groups().push(chain.group());
    if told.check().is_err() {
        // It came while they were started.
        chain.group().signal(Signal::TERM);
    }
    Ok(Running { chain, ear: ear.clone() })
}

impl Running {
    /// The output of the last program, if it was started with a pipe.
    ///
    /// # Errors
    ///
    /// Internal, if it was not.
    pub fn output(&mut self) -> Result<ChildStdout> {
        Ok(self.chain.output().or_internal("a chain without a pipe at its end")?)
    }

    /// True if the first program has ended.
    ///
    /// # Errors
    ///
    /// Failed, if its status cannot be read.
    pub fn has_ended(&mut self) -> Result<bool> {
        Ok(self.chain.try_wait(0)?.is_some())
    }

    /// Waits for all programs; the exit status of each.
    ///
    /// # Errors
    ///
    /// The kind of the program that failed, with its last message; Signal, if this program was told to end.
    pub fn wait(self) -> Result<Vec<i32>> {
        let ended = self.chain.wait();
        Told::get()?.check()?;
        let ended = ended?;
        judge(&ended, &self.ear)?;
        Ok(ended.iter().map(|one| one.status.code().unwrap_or(-1)).collect())
    }
}

/// What this process was told by a signal, from the first chain on. The programs are told to end, and so does the verb.
#[derive(Clone, Debug, Default)]
struct Told {
    signal: Arc<AtomicI32>,
    /// Those that have ended hear nothing.
    groups: Arc<Mutex<Vec<Group>>>,
}

static TOLD: OnceLock<Told> = OnceLock::new();

impl Told {
    fn get() -> Result<Told> {
        if let Some(told) = TOLD.get() {
            return Ok(told.clone());
        }
        let fail = |cause: std::io::Error| Error::io("signals", "cannot be caught", &cause);
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(fail)?;
        let told = TOLD.get_or_init(Told::default).clone();
        let mine = told.clone();
        let watch = move || {
            for signal in signals.forever() {
                mine.signal.store(signal, Relaxed);
                mine.groups().iter().for_each(|group| group.signal(Signal::TERM));
            }
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(watch).map_err(fail)?;
        Ok(told)
    }

    fn groups(&self) -> MutexGuard<'_, Vec<Group>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self) -> Result<()> {
        match self.signal.load(Relaxed) {
            0 => Ok(()),
            signal => Err(Error::new(Kind::Signal(signal), "signal", format_args!("ended by signal {signal}"))),
        }
    }
}

/// For a verb that waits: an error if this program was told to end.
///
/// # Errors
///
/// Signal, if it was.
pub fn check() -> Result<()> {
    Told::get()?.check()
}

/// Every program has to have ended well.
fn judge(ended: &[Ended], ear: &Ear) -> Result<()> {
    let Some(one) = process::cause(ended) else { return Ok(()) };
    let place = ended.iter().position(|other| std::ptr::eq(one, other));
    let last = place.and_then(|place| ear.error(place)).map(|text| format!(": {text}"));
    let kind = match one.status.code().filter(|_| OURS.contains(&one.name.as_str())) {
        Some(3) => Kind::Damaged,
        Some(4) => Kind::Key,
        Some(5) => Kind::Invalid,
        _ => Kind::Failed,
    };
    Err(Error::new(kind, &one.name, format_args!("{}{}", one.how(), last.unwrap_or_default())))
}

fn command(run: &[String]) -> Result<Command> {
    let program = run.first().or_internal("a stage without a program")?;
    let name = stages::name(run);
    let ours = OURS.contains(&name);
    let mut command =
        Command::new(if ours && !program.contains('/') { process::tool(name) } else { PathBuf::from(program) });
    command.args(run.iter().skip(1));
    if ours {
        command.args(["--log=json", "--progress=never"]);
    }
    Ok(command)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn shell(scripts: &[&str]) -> (String, Result<Vec<i32>>, Ear) {
        let programs: Vec<Vec<String>> =
            scripts.iter().map(|script| ["/bin/sh", "-c", script].map(str::to_owned).to_vec()).collect();
        let (mut out, ear) = (String::new(), Ear::default());
        let mut running = start(&programs, &ear).unwrap();
        running.output().unwrap().read_to_string(&mut out).unwrap();
        (out, running.wait(), ear)
    }

    #[test]
    fn the_program_that_failed_is_named_with_its_last_words() {
        let (out, codes, _) = shell(&["echo a", "cat"]);
        assert_eq!((out.as_str(), codes.unwrap()), ("a\n", vec![0, 0]));
        let (_, outcome, ear) = shell(&["exec yes", "echo first >&2; echo no space left >&2; exit 3"]);
        let error = outcome.unwrap_err();
        assert_eq!(error.to_string(), "sh: ended with exit status 3: no space left");
        assert_eq!(error.kind(), Kind::Failed, "only our programs have these exit codes");
        assert_eq!(ear.log(), "sh: first\nsh: no space left\n");
        assert!(shell(&["kill -9 $$", "cat"]).1.unwrap_err().to_string().starts_with("sh: was ended by signal 9"));
    }
}
