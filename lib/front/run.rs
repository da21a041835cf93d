//! Programs of ours at work: started, listened to, judged.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Zoned;
use rustix::process::Signal;
use serde_json::Value;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use zeroize::Zeroizing;

use super::Voice;
use super::plan::{Ending, Input, Output, Pipeline, Stage};
use super::words::{self, Style, Tone};
use crate::error::{Error, Kind, Result};
use crate::metadata::{BINLOG_INFO, since_11_1};
use crate::process::{self, Chain, Ended};
use crate::stream::native::names::BINLOG_POSITION;
use crate::stream::native::names::SERVER_LOG;

/// How a tool ends that has found its input damaged.
const DAMAGED: i32 = 3;

/// Starts programs for a stock program.
pub(super) struct Runner {
    /// How it speaks.
    pub(super) style: Style,
    pub(super) voice: Arc<dyn Voice>,
    /// With a line break behind it.
    pub(super) password: Option<Zeroizing<String>>,
}

/// Hears what the programs say.
struct Ear {
    style: Style,
    voice: Arc<dyn Voice>,
    /// With what each ended, by its place.
    facts: Mutex<Vec<(usize, Value)>>,
}

impl Ear {
    fn hear(&self, place: usize, text: &[u8]) {
        let plain = || String::from_utf8_lossy(text).into_owned();
        if self.style == Style::Plain {
            return self.voice.say(&plain());
        }
        let Ok(object) = serde_json::from_slice::<Value>(text) else {
            // Of the system, or of the allocator.
            return self.say(Tone::Warning, &plain());
        };
        let word = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
        match word("event") {
            "summary" => self.facts.lock().unwrap_or_else(PoisonError::into_inner).push((place, object)),
            "" => {
                let (level, message, tool) = (word("level"), word("message"), word("tool"));
                match level {
                    "hint" => self.say(Tone::Note, &format!("hint: {message}")),
                    "warning" => self.say(Tone::Warning, &format!("{tool}: {message}")),
                    "error" => self.say(Tone::Error, &format!("{tool}: {message}")),
                    _ => self.say(Tone::Note, &format!("{tool}: {message}")),
                }
            }
            // How far it is.
            _ => {}
        }
    }

    fn say(&self, tone: Tone, text: &str) {
        self.voice.say(&words::line(self.style, &Zoned::now(), tone, text));
    }

    /// With what the program at this place ended.
    fn facts(&self, place: usize) -> Value {
        let facts = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        facts.iter().find(|(of, _)| *of == place).map(|(_, facts)| facts.clone()).unwrap_or_default()
    }
}

impl Runner {
    pub(super) fn say(&self, tone: Tone, text: &str) {
        self.voice.say(&words::line(self.style, &Zoned::now(), tone, text));
    }

    /// Runs a pipeline, and says how it went.
    pub(super) fn run(&self, pipeline: &Pipeline) -> Result<()> {
        if let (Ending::Backup { dir, .. }, Output::Nowhere) = (&pipeline.ending, &pipeline.output) {
            // Callers remove it also when there was no backup.
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
            made.map_err(|cause| Error::io(dir.display(), "cannot create", &cause))?;
        }
        let outcome = self.chain(pipeline);
        if let (Err(_), Output::File(path)) = (&outcome, &pipeline.output)
            && fs::symlink_metadata(path).is_ok_and(|facts| facts.is_file())
        {
            // Half of it is not to be taken for all.
            let _ = fs::remove_file(path);
        }
        let facts = outcome?;
        let lines = match &pipeline.ending {
            Ending::Silent => return Ok(()),
            Ending::Done => Vec::new(),
            Ending::Backup { dir, replica } => words::of_backup(self.style, &absolute(dir), *replica, &facts),
            Ending::Prepared(dir) => position(dir).into_iter().chain(shutdown(dir)).collect(),
        };
        lines.iter().for_each(|line| self.say(Tone::Note, line));
        self.done();
        Ok(())
    }

    /// What all callers look for.
    pub(super) fn done(&self) {
        self.say(Tone::Note, "completed OK!");
    }

    /// Runs programs to their end; with what the first one ended.
    pub(super) fn chain(&self, pipeline: &Pipeline) -> Result<Value> {
        let ear = Arc::new(Ear { style: self.style, voice: self.voice.clone(), facts: Mutex::default() });
        let listener = ear.clone();
        let commands = pipeline.stages.iter().map(command);
        let (input, feeder) = self.input(&pipeline.input)?;
        let output = output(&pipeline.output)?;
        // Before there is anything to be told.
        let caught = Arc::new(AtomicI32::new(0));
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])
            .map_err(|cause| Error::io("signals", "cannot be caught", &cause))?;
        let chain = Chain::start(commands, input, output, move |place, text| listener.hear(place, text))?;
        let (group, handle, number) = (chain.group(), signals.handle(), caught.clone());
        let watch = move || {
            for signal in signals.forever() {
                number.store(signal, Relaxed);
                group.signal(Signal::TERM);
            }
        };
        let watcher = std::thread::Builder::new().name("signals".to_owned()).spawn(watch);
        let ended = chain.wait();
        handle.close();
        if let Ok(watcher) = watcher {
            let _ = watcher.join();
        }
        if let Some(feeder) = feeder {
            let _ = feeder.join();
        }
        match caught.load(Relaxed) {
            0 => {}
            signal => return Err(Error::new(Kind::Signal(signal), "signal", format_args!("ended by signal {signal}"))),
        }
        judge(&ended?)?;
        Ok(ear.facts(0))
    }

    /// What the first program reads, and the thread that writes it.
    fn input(&self, input: &Input) -> Result<(Stdio, Option<std::thread::JoinHandle<()>>)> {
        let bytes = match (input, &self.password) {
            (Input::Ours, _) => return Ok((Stdio::inherit(), None)),
            (Input::File(path), _) => {
                let file = File::open(path).map_err(|cause| Error::io(path.display(), "cannot open", &cause))?;
                return Ok((file.into(), None));
            }
            (Input::Nothing, None) => return Ok((Stdio::null(), None)),
            (Input::Nothing, Some(password)) => Zeroizing::new(password.as_bytes().to_vec()),
            (Input::Names(names), _) => {
                Zeroizing::new(names.iter().flat_map(|name| [name, &[0][..]].concat()).collect())
            }
        };
        let fail = |cause: &std::io::Error| Error::io("pipe", "cannot make one", cause);
        let (reader, mut writer) = std::io::pipe().map_err(|cause| fail(&cause))?;
        // A reader that has gone says why by itself.
        let feed = move || drop(writer.write_all(&bytes));
        let feeder = std::thread::Builder::new().name("feeder".to_owned()).spawn(feed).map_err(|cause| fail(&cause))?;
        Ok((reader.into(), Some(feeder)))
    }
}

fn output(output: &Output) -> Result<Stdio> {
    match output {
        Output::Nowhere => Ok(Stdio::null()),
        Output::Ours => Ok(Stdio::inherit()),
        Output::File(path) => {
            let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
            Ok(file.map_err(|cause| Error::io(path.display(), "cannot create", &cause))?.into())
        }
    }
}

fn command(stage: &Stage) -> Command {
    let mut command = Command::new(process::tool(stage.tool));
    command.args(&stage.arguments);
    command
}

/// Every program has to have ended well.
fn judge(ended: &[Ended]) -> Result<()> {
    process::cause(ended).map_or(Ok(()), |one| {
        let damaged = one.name == "xb-snap" && one.status.code() == Some(DAMAGED);
        let stock = if damaged { "Database page corruption detected: " } else { "" };
        Err(Error::failed(&one.name, format_args!("{stock}{}", one.how())))
    })
}

fn absolute(dir: &Path) -> PathBuf {
    dir.canonicalize().or_else(|_| std::path::absolute(dir)).unwrap_or_else(|_| dir.to_owned())
}

/// Where in the binary log the backup stands, as preparing says it.
fn position(dir: &Path) -> Option<String> {
    let read = |name: &&str| fs::read_to_string(dir.join(name)).ok();
    let text = [BINLOG_POSITION, BINLOG_INFO, since_11_1(BINLOG_INFO)].iter().find_map(read)?;
    let mut fields = text.split_whitespace();
    Some(format!("Last binlog file '{}', position {}", fields.next()?, fields.next()?))
}

/// The last words of the server that has recovered a backup.
fn shutdown(dir: &Path) -> Option<String> {
    let log = fs::read(dir.join(SERVER_LOG)).ok()?;
    let log = String::from_utf8_lossy(&log);
    let line = log.lines().rev().find(|line| line.contains("Shutdown completed; log sequence number"))?;
    line.find("InnoDB: ").or_else(|| line.find("Shutdown")).and_then(|at| line.get(at..)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Kept(Mutex<Vec<String>>);

    impl Voice for Kept {
        fn say(&self, line: &str) {
            self.0.lock().unwrap().push(line.to_owned());
        }

        fn print(&self, _: &str) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn messages_are_worded_as_the_stock_programs() {
        let voice = Arc::new(Kept(Mutex::default()));
        let ear = Ear { style: Style::Mariadb, voice: voice.clone(), facts: Mutex::default() };
        for line in [
            r#"{"tool":"xb-snap","level":"info","message":"snapshot complete"}"#,
            r#"{"tool":"xb-snap","level":"error","message":"server: gone"}"#,
            r#"{"tool":"xb-snap","event":"progress","bytes":1}"#,
            r#"{"tool":"xb-snap","event":"summary","end_lsn":7}"#,
            "no object",
        ] {
            ear.hear(0, line.as_bytes());
        }
        let said = voice.0.lock().unwrap();
        let ends = ["xb-snap: snapshot complete", "xb-snap: server: gone", "Warning: no object"];
        assert!(said.len() == 3 && said.iter().zip(ends).all(|(line, end)| line.ends_with(end)), "{said:?}");
        assert!(said[1].starts_with("[00] FATAL ERROR: "));
        assert_eq!(ear.facts(0)["end_lsn"], 7);
        assert_eq!(ear.facts(1), Value::Null);
    }
}
