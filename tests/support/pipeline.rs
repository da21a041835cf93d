//! Programs in a real pipe; keeps every exit status and stderr, and every wait has a time limit.
//!
//! ```ignore
//! let run = Pipeline::new().stage(producer).relay(Relay::rate(10 << 20)).stage(consumer).stdout_to(&file).run();
//! run.assert_ok();
//! ```

use std::fs::File;
use std::io::{ErrorKind, PipeWriter, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use xb::process::{self, Chain};

/// A pipeline that takes longer hangs, as far as a test is concerned.
const LIMIT: Duration = Duration::from_secs(240);

/// Stages from left to right, to be run.
#[derive(Default)]
pub struct Pipeline {
    stages: Vec<Command>,
    /// What stands behind stage n, in place of a plain pipe.
    relays: Vec<Option<Relay>>,
    input: Input,
    output: Option<PathBuf>,
    limit: Option<Duration>,
}

#[derive(Default)]
enum Input {
    #[default]
    Null,
    Bytes(Vec<u8>),
    File(PathBuf),
}

/// What happens to the bytes between two stages; by default nothing.
#[derive(Clone, Debug, Default)]
pub struct Relay {
    rate: Option<u64>,
    stall: Option<(u64, Duration)>,
    cut: Option<u64>,
    kill: Option<(usize, u64)>,
    flip: Option<u64>,
}

impl Relay {
    /// At most so many bytes a second.
    #[must_use]
    pub fn rate(bytes_per_second: u64) -> Self {
        Relay { rate: Some(bytes_per_second), ..Relay::default() }
    }

    /// After so many bytes, nothing moves for this long.
    #[must_use]
    pub fn stall(mut self, after: u64, time: Duration) -> Self {
        self.stall = Some((after, time));
        self
    }

    /// Lets so many bytes through, then closes both ends: the sender gets SIGPIPE, the reader an early end.
    #[must_use]
    pub fn cut(mut self, after: u64) -> Self {
        self.cut = Some(after);
        self
    }

    /// Sends SIGKILL to a stage (counted from 0) when so many bytes have gone through here.
    #[must_use]
    pub fn kill(mut self, stage: usize, after: u64) -> Self {
        self.kill = Some((stage, after));
        self
    }

    /// Inverts the lowest bit of the byte at this offset.
    #[must_use]
    pub fn flip(mut self, at: u64) -> Self {
        self.flip = Some(at);
        self
    }
}

impl Pipeline {
    pub fn new() -> Self {
        Pipeline::default()
    }

    /// The next program. Accepts what `Command`'s methods return.
    #[must_use]
    pub fn stage(mut self, command: impl Into<Stage>) -> Self {
        self.stages.push(command.into().0);
        self.relays.push(None);
        self
    }

    /// Stands between the last stage and the next.
    #[must_use]
    pub fn relay(mut self, relay: Relay) -> Self {
        *self.relays.last_mut().expect("a relay stands behind a stage") = Some(relay);
        self
    }

    /// Standard input of the first stage; otherwise `/dev/null`.
    #[must_use]
    pub fn stdin_from(mut self, path: &Path) -> Self {
        self.input = Input::File(path.to_path_buf());
        self
    }

    /// Standard input of the first stage.
    #[must_use]
    pub fn stdin_bytes(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = Input::Bytes(bytes.into());
        self
    }

    /// Standard output of the last stage; otherwise it is collected in [`Run::stdout`].
    #[must_use]
    pub fn stdout_to(mut self, path: &Path) -> Self {
        self.output = Some(path.to_path_buf());
        self
    }

    /// Kills everything after this long, which a [`Run`] then tells. The default is four minutes.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Runs to the end of every stage.
    pub fn run(self) -> Run {
        self.start().wait()
    }

    /// Starts all stages in one process group.
    pub fn start(self) -> Running {
        assert!(!self.stages.is_empty(), "a pipeline has a stage");
        let mut threads = Vec::new();
        let input = input(self.input, &mut threads);
        let output = match &self.output {
            Some(path) => File::create(path).expect("cannot create the output file").into(),
            None => Stdio::piped(),
        };
        let stderrs: Arc<Vec<Mutex<Vec<u8>>>> = Arc::new(self.stages.iter().map(|_| Mutex::default()).collect());
        let said = stderrs.clone();
        let mut relays = Vec::new();
        let between = |stage: usize, output: ChildStdout| {
            let Some(relay) = self.relays[stage].clone() else { return Ok(output.into()) };
            let (reader, writer) = std::io::pipe()?;
            relays.push((relay, output, writer));
            Ok(reader.into())
        };
        let line = move |stage: usize, line: &[u8]| {
            let mut text = said[stage].lock().unwrap();
            text.extend_from_slice(line);
            text.push(b'\n');
        };
        let stages = self.stages.len();
        let mut chain =
            Chain::start_with(self.stages, input, output, between, line).unwrap_or_else(|error| panic!("{error}"));
        let stdout = chain.output().map(collect);
        let (through, over): (Arc<AtomicU64>, Arc<AtomicBool>) = Default::default();
        for (relay, from, to) in relays {
            let victim = relay.kill.map(|(stage, _)| chain.process(stage).unwrap());
            let (through, over) = (through.clone(), over.clone());
            threads.push(std::thread::spawn(move || carry(&relay, from, to, victim, &through, &over)));
        }
        let limit = self.limit.unwrap_or(LIMIT);
        Running { chain, stages, stderrs, stdout, threads, through, over, start: Instant::now(), limit }
    }
}

fn input(input: Input, threads: &mut Vec<JoinHandle<()>>) -> Stdio {
    match input {
        Input::Null => Stdio::null(),
        Input::File(path) => File::open(path).expect("cannot open the input file").into(),
        Input::Bytes(bytes) => {
            let (reader, mut writer) = std::io::pipe().expect("cannot make a pipe");
            threads.push(std::thread::spawn(move || drop(writer.write_all(&bytes))));
            reader.into()
        }
    }
}

/// A program with its arguments, however it was put together.
pub struct Stage(Command);

impl From<Command> for Stage {
    fn from(command: Command) -> Self {
        Stage(command)
    }
}

impl From<&mut Command> for Stage {
    /// A copy of program, arguments, environment and directory.
    fn from(command: &mut Command) -> Self {
        let mut copy = Command::new(command.get_program());
        copy.args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => copy.env(name, value),
                None => copy.env_remove(name),
            };
        }
        if let Some(directory) = command.get_current_dir() {
            copy.current_dir(directory);
        }
        Stage(copy)
    }
}

/// Stages at work. Dropped, all of them are killed.
pub struct Running {
    chain: Chain,
    stages: usize,
    stderrs: Arc<Vec<Mutex<Vec<u8>>>>,
    stdout: Option<JoinHandle<Vec<u8>>>,
    threads: Vec<JoinHandle<()>>,
    through: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    start: Instant,
    limit: Duration,
}

impl Running {
    /// Bytes that have passed the relays so far.
    pub fn through(&self) -> u64 {
        self.through.load(Relaxed)
    }

    /// Process id of a stage, counted from 0.
    pub fn pid(&self, stage: usize) -> u32 {
        self.chain.process(stage).unwrap().as_raw_nonzero().get().cast_unsigned()
    }

    /// Sends a signal to one stage: `Signal::KILL`, `STOP`, `CONT`, `TERM`, `INT`.
    pub fn signal(&self, stage: usize, signal: Signal) {
        let _ = kill_process(self.chain.process(stage).unwrap(), signal);
    }

    /// Has this stage ended?
    pub fn ended(&mut self, stage: usize) -> bool {
        self.chain.try_wait(stage).expect("cannot wait for a stage").is_some()
    }

    /// Waits for every stage; after the limit all are killed, which the [`Run`] tells.
    pub fn wait(mut self) -> Run {
        let mut late = false;
        for stage in 0..self.stages {
            while !self.ended(stage) {
                if !late && self.start.elapsed() > self.limit {
                    late = true;
                    self.kill();
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        // A grandchild that holds a pipe would keep the readers waiting.
        self.kill();
        self.threads.into_iter().for_each(|thread| thread.join().expect("a relay panicked"));
        let ended = self.chain.wait().expect("cannot wait for a stage");
        let stages = ended.into_iter().zip(self.stderrs.iter()).map(|(process::Ended { name, status }, text)| Ended {
            name,
            status,
            stderr: String::from_utf8_lossy(&text.lock().unwrap()).into_owned(),
        });
        Run {
            stages: stages.collect(),
            stdout: self.stdout.take().map(|thread| thread.join().unwrap()).unwrap_or_default(),
            late,
        }
    }

    fn kill(&self) {
        self.over.store(true, Relaxed);
        self.chain.group().signal(Signal::KILL);
    }
}

/// How a stage ended.
#[derive(Clone, Debug)]
pub struct Ended {
    pub name: String,
    pub status: ExitStatus,
    pub stderr: String,
}

impl Ended {
    /// The exit code as a shell shows it: 128 + n for a death by signal n.
    pub fn code(&self) -> i32 {
        self.status.code().or_else(|| Some(128 + self.status.signal()?)).unwrap_or(-1)
    }
}

/// How a pipeline ended.
#[derive(Debug)]
pub struct Run {
    pub stages: Vec<Ended>,
    /// Empty when it went to a file.
    pub stdout: Vec<u8>,
    /// It had to be killed for taking too long.
    pub late: bool,
}

impl Run {
    /// Exit codes from left to right, as `PIPESTATUS` has them.
    pub fn codes(&self) -> Vec<i32> {
        self.stages.iter().map(Ended::code).collect()
    }

    /// The stderr of a stage, counted from 0.
    pub fn stderr(&self, stage: usize) -> &str {
        &self.stages[stage].stderr
    }

    /// All stages, for a failed assertion.
    pub fn story(&self) -> String {
        let late = if self.late { "(killed: it took too long)\n" } else { "" };
        let told = self.stages.iter().map(|ended| format!("{} -> {}\n{}\n", ended.name, ended.code(), ended.stderr));
        format!("{late}{}", told.collect::<String>())
    }

    /// Every stage ended with 0.
    #[track_caller]
    pub fn assert_ok(&self) -> &Self {
        assert!(!self.late && self.stages.iter().all(|ended| ended.status.success()), "{}", self.story());
        self
    }

    /// Exactly these exit codes.
    #[track_caller]
    pub fn assert_codes(&self, codes: &[i32]) -> &Self {
        assert!(!self.late && self.codes() == codes, "expected {codes:?}, got {:?}\n{}", self.codes(), self.story());
        self
    }
}

/// Reads to the end in a thread.
fn collect(mut from: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        bytes
    })
}

/// Moves bytes from one stage to the next, as the relay says.
fn carry(
    relay: &Relay,
    mut from: ChildStdout,
    mut to: PipeWriter,
    victim: Option<Pid>,
    sum: &AtomicU64,
    over: &AtomicBool,
) {
    let start = Instant::now();
    let (mut done, mut stalled, mut killed) = (0u64, false, false);
    let mut buffer = vec![0; 64 << 10];
    loop {
        // The next event sets how much may move at once, so that each happens at its very byte.
        let events = [relay.cut, relay.stall.map(|(at, _)| at), relay.kill.map(|(_, at)| at)];
        let room = events.into_iter().flatten().filter(|&at| at > done).map(|at| at - done).min();
        let want = room.map_or(buffer.len(), |room| buffer.len().min(usize::try_from(room).unwrap_or(usize::MAX)));
        if relay.cut.is_some_and(|at| done >= at) {
            return;
        }
        if let (Some((_, at)), Some(victim)) = (relay.kill, victim)
            && done >= at
            && !killed
        {
            killed = true;
            let _ = kill_process(victim, Signal::KILL);
        }
        if let Some((at, time)) = relay.stall
            && done >= at
            && !stalled
        {
            stalled = true;
            pause(time, over);
        }
        let length = match from.read(&mut buffer[..want]) {
            Ok(0) => return,
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        if let Some(at) = relay.flip.and_then(|at| usize::try_from(at.checked_sub(done)?).ok())
            && at < length
        {
            buffer[at] ^= 1;
        }
        if to.write_all(&buffer[..length]).is_err() {
            return;
        }
        done += length as u64;
        sum.fetch_add(length as u64, Relaxed);
        if let Some(rate) = relay.rate {
            pause(Duration::from_secs_f64(done as f64 / rate as f64).saturating_sub(start.elapsed()), over);
        }
    }
}

/// Sleeps, unless the pipeline is over.
fn pause(time: Duration, over: &AtomicBool) {
    let start = Instant::now();
    while !over.load(Relaxed) && start.elapsed() < time {
        std::thread::sleep(Duration::from_millis(5).min(time.saturating_sub(start.elapsed())));
    }
}
