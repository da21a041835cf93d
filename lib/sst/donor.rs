//! The donor: makes a backup, and sends it while it is made.

use std::io::{ErrorKind, Read, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};
use zeroize::Zeroizing;

use super::args::{Accounts, Call};
use super::children::{self, Work};
use super::protocol::{Line, Position};
use super::settings::{Progress, Settings};
use super::transport::{self, End};
use super::wire::{self, Frame, Hello, PIECE};
use super::{Stage, link, progress_file};
use crate::error::{Error, Kind, OrInternal as _, Result};

/// How often the joiner hears that the donor is alive.
const BEAT: Duration = Duration::from_secs(5);
/// How many pieces wait to be sent.
const QUEUE: usize = 8;
/// How long a joiner's server has to end when its script is gone, before the cluster hears of it: at the same moment,
/// both could make it wait for ever.
const LAST: Duration = Duration::from_secs(1);

/// Sends the data, or says that an incremental transfer follows.
pub(super) fn run(call: &Call, settings: &Settings, mut accounts: Accounts, stage: &Stage) -> Result<()> {
    let position = call.position.clone().ok_or_else(|| Error::usage("--gtid", "is missing"))?;
    if let Some(files) = &settings.tls {
        link::usable(files)?;
    }
    // Somebody else than a joiner of ours: a receiver of plain backups, with garbd.
    let plain = !call.address.module.starts_with("xb-");
    if !plain {
        transport::agree(settings, &call.address.module)?;
    }
    if call.bypass {
        stage.tell(&Line::Continue)?;
    }
    stage.watch.limit(Some(settings.silence), "the joiner cannot be reached");
    let mut end = transport::connect(&call.address, settings, &stage.journal, &stage.watch)?;
    let secret = accounts.secret.take().unwrap_or_default();
    let outcome = converse(call, settings, &accounts, stage, &mut end, &position, (!plain).then_some(secret));
    if let Err(error) = &outcome
        && !plain
    {
        // If it is not there to hear it, it knows anyway.
        let _ = wire::tell(&mut end, &Frame::Failed(error.to_string()));
        if error.kind() == Kind::Pipe {
            std::thread::sleep(LAST);
        }
    }
    outcome.map_err(|error| stage.watch.blame(error))?;
    stage.watch.limit(Some(settings.silence), "the joiner does not take the end of the data");
    end.close().map_err(|error| stage.watch.blame(error))?;
    stage.watch.relax();
    stage.watch.check()?;
    stage.tell(&Line::Done(&position))
}

/// The joiner is not there any more.
#[allow(clippy::needless_pass_by_value, reason = "as map_err gives it")]
fn lost(cause: std::io::Error) -> Error {
    Error::new(Kind::Pipe, "joiner", format_args!("the connection broke: {}", crate::error::reason(&cause)))
}

fn converse(
    call: &Call,
    settings: &Settings,
    accounts: &Accounts,
    stage: &Stage,
    end: &mut End,
    position: &Position,
    secret: Option<Zeroizing<String>>,
) -> Result<()> {
    let framed = secret.is_some();
    if let Some(secret) = secret {
        let hello = Hello { bypass: call.bypass, position: position.clone(), secret };
        end.write_all(hello.line().as_bytes()).and_then(|()| end.flush()).map_err(lost)?;
    }
    let sent = match call.bypass {
        true => 0,
        false => send(call, settings, accounts, stage, end, framed)?,
    };
    if !framed {
        return Ok(());
    }
    wire::tell(end, &Frame::End(sent)).map_err(lost)?;
    if !end.answers() {
        return Ok(());
    }
    let mut buffer = Vec::new();
    loop {
        stage.watch.limit(Some(settings.silence), "the joiner has said nothing for too long");
        match wire::receive(end, &mut buffer).map_err(lost)? {
            Frame::Alive => {}
            Frame::Taken => return Ok(()),
            Frame::Failed(why) => return Err(wire::failure("joiner", &why)),
            Frame::Data | Frame::End(_) => return Err(Error::damaged("joiner", "says something that makes no sense")),
        }
    }
}

/// Runs the backup; returns how many bytes it had.
fn send(
    call: &Call,
    settings: &Settings,
    accounts: &Accounts,
    stage: &Stage,
    end: &mut End,
    framed: bool,
) -> Result<u64> {
    let (reader, mut writer) = std::io::pipe().map_err(|cause| Error::io("pipe", "cannot make one", &cause))?;
    if let Some(password) = &accounts.password {
        // It fits into the pipe.
        let line = Zeroizing::new(format!("{}\n", password.as_str()));
        writer.write_all(line.as_bytes()).map_err(|cause| Error::io("pipe", "cannot write", &cause))?;
    }
    drop(writer);
    let programs = programs(call, settings, accounts);
    let pace = programs.len().saturating_sub(1 + usize::from(settings.compressor.is_some()));
    let also = progress_file(settings, pace, stage)?;
    let mut work = Work::start(programs, reader.into(), Stdio::piped(), &stage.journal, &stage.watch, also)?;
    let output = work.output().or_internal("a backup has no output")?;
    let sent = pump(read(output)?, settings, stage, end, framed);
    match sent {
        // The backup is judged first: if it failed, it is the cause.
        Ok(bytes) => work.judge().map(|()| bytes),
        Err(error) => Err(error),
    }
}

/// Reads pieces in a thread of its own, so that the joiner can be told something meanwhile.
fn read(mut output: impl Read + Send + 'static) -> Result<Receiver<std::io::Result<Vec<u8>>>> {
    let (to, from) = bounded(QUEUE);
    let work = move || {
        loop {
            let mut piece = vec![0; PIECE];
            let read = match output.read(&mut piece) {
                Ok(0) => return,
                Err(cause) if cause.kind() == ErrorKind::Interrupted => continue,
                read => read,
            };
            let failed = read.is_err();
            let piece = read.map(|length| {
                piece.truncate(length);
                piece
            });
            if to.send(piece).is_err() || failed {
                return;
            }
        }
    };
    let thread = std::thread::Builder::new().name("backup".to_owned()).spawn(work);
    thread.map_err(|cause| Error::io("backup", "cannot start a thread", &cause))?;
    Ok(from)
}

fn pump(
    pieces: Receiver<std::io::Result<Vec<u8>>>,
    settings: &Settings,
    stage: &Stage,
    end: &mut End,
    framed: bool,
) -> Result<u64> {
    let mut sent = 0_u64;
    loop {
        let piece = pieces.recv_timeout(BEAT);
        stage.watch.check()?;
        stage.watch.limit(Some(settings.silence), "the joiner has taken nothing for too long");
        let told = match piece {
            Ok(Ok(piece)) => {
                sent = sent.saturating_add(piece.len() as u64);
                if framed { wire::data(end, &piece) } else { end.write_all(&piece) }
            }
            Ok(Err(cause)) => return Err(Error::io("backup", "cannot read it", &cause)),
            Err(RecvTimeoutError::Timeout) if framed => wire::tell(end, &Frame::Alive),
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Err(RecvTimeoutError::Disconnected) => {
                stage.watch.relax();
                return Ok(sent);
            }
        };
        told.map_err(lost)?;
        stage.watch.relax();
    }
}

/// `xb-snap | xb-redo [| xb-zip] [| xb-crypt] [| xb-throttle] [| compressor]`
fn programs(call: &Call, settings: &Settings, accounts: &Accounts) -> Vec<Command> {
    let mut snap = children::tool("xb-snap");
    for (option, file) in
        [("--defaults-file", &call.defaults_file), ("--defaults-extra-file", &call.defaults_extra_file)]
    {
        if let Some(file) = file {
            snap.arg(option).arg(file);
        }
    }
    if let Some(suffix) = &call.defaults_group_suffix {
        snap.args(["--defaults-group-suffix", suffix]);
    }
    if let Some(user) = &accounts.user {
        snap.args(["--user", user]);
    }
    if accounts.password.is_some() {
        snap.args(["--password-file", "/dev/stdin"]);
    }
    match (settings.extra_port, &call.socket) {
        (Some(port), _) => {
            snap.args(["--host", "127.0.0.1", "--port", &port.to_string()]);
        }
        (None, Some(socket)) => {
            snap.arg("--socket").arg(socket);
        }
        (None, None) => {}
    }
    snap.arg("--galera-info").arg("--datadir").arg(&call.datadir);
    threads(&mut snap, settings);
    snap.args(&settings.backup_words);
    // The stream says where its log is, which need not be the data directory.
    let mut redo = children::tool("xb-redo");
    if let Some(dir) = &settings.tmpdir {
        snap.args(["--spool-dir", dir]);
        redo.args(["--spool-dir", dir]);
    }
    let mut programs = vec![snap, redo];
    if let Some(algorithm) = &settings.compress {
        let mut zip = children::tool("xb-zip");
        zip.args(["-a", algorithm]);
        threads(&mut zip, settings);
        programs.push(zip);
    }
    if let Some(key) = &settings.key_file {
        let mut crypt = children::tool("xb-crypt");
        crypt.arg("--key-file").arg(key);
        programs.push(crypt);
    }
    programs.extend(throttle(settings, "donor", settings.rate.as_deref()));
    programs.extend(settings.compressor.as_deref().map(children::shell));
    programs
}

/// What limits the rate, or shows progress.
pub(super) fn throttle(settings: &Settings, name: &str, rate: Option<&str>) -> Option<Command> {
    if rate.is_none() && settings.progress == Progress::Nobody {
        return None;
    }
    let mut throttle = children::tool("xb-throttle");
    throttle.args(["-L", rate.unwrap_or("0"), "--interval", "10", "--name", name]);
    if settings.progress == Progress::Nobody {
        throttle.arg("--quiet");
    }
    Some(throttle)
}

/// How many threads a program uses.
pub(super) fn threads(command: &mut Command, settings: &Settings) {
    if let Some(number) = &settings.threads {
        command.args(["--threads", number]);
    }
}
