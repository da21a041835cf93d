//! The joiner: takes a backup, proves and applies it, and only then replaces the data that were there.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use subtle::ConstantTimeEq;

use super::args::Call;
use super::children::{self, Journal, Work};
use super::datadir::{Datadir, Room};
use super::donor::{threads, throttle};
use super::places::Places;
use super::protocol::Line;
use super::settings::Settings;
use super::transport::{self, End, Port};
use super::wire::{self, Frame, Hello};
use super::{Stage, link, progress_file};
use crate::error::{Error, Result};
use crate::stream::native::{names, parse_begin};

/// How often the donor hears that the joiner is at work.
const BEAT: Duration = Duration::from_secs(5);
/// How long the server may take to end when it has heard from the cluster that no state will come. If it heard of this
/// program's end in the same moment, its two ways to end could wait for each other for ever (MariaDB 10.11).
const LAST: Duration = Duration::from_secs(5);

/// Takes the data, or hears that an incremental transfer follows.
pub(super) fn run(call: &Call, settings: &Settings, data: &Datadir, places: &Places, stage: &Stage) -> Result<()> {
    if let Some(files) = &settings.tls {
        link::usable(files)?;
    }
    let port = Port::open(&call.address, settings, &stage.journal, &stage.watch)?;
    data.begin()?;
    let secret = wire::secret()?;
    let ready = Line::Ready { secret: &secret, address: &call.address, module: transport::module(settings) };
    stage.tell(&ready)?;
    let (mut end, hello) = greet(port, settings, &secret, stage).map_err(|error| stage.watch.blame(error))?;
    if hello.bypass {
        stage.say("an incremental transfer follows; the data stay");
        ist(&mut end).inspect_err(|_| stage.watch.outlive(LAST))?;
    } else {
        let taken = take(settings, data, places, &mut end, stage).map_err(|error| stage.watch.blame(error));
        if let Err(error) = &taken
            && end.answers()
        {
            // If it is not there to hear it, it knows anyway.
            let _ = wire::tell(&mut end, &Frame::Failed(error.to_string()));
        }
        if taken.is_err() {
            stage.watch.outlive(LAST);
        }
        taken?;
        if end.answers() {
            wire::tell(&mut end, &Frame::Taken).map_err(|cause| Error::io("donor", "the connection broke", &cause))?;
        }
        stage.watch.limit(Some(settings.silence), "the donor does not end the connection");
        end.close().map_err(|error| stage.watch.blame(error))?;
        stage.watch.relax();
        put_in_place(settings, data, places, stage)?;
    }
    stage.watch.check()?;
    data.finish()?;
    stage.tell(&Line::InPlace(&hello.position))
}

/// Waits for a donor. Whoever else connects is sent away.
fn greet(mut port: Port, settings: &Settings, secret: &str, stage: &Stage) -> Result<(End, Hello)> {
    let begun = Instant::now();
    loop {
        let left = settings.initial.map(|all| all.saturating_sub(begun.elapsed()));
        stage.watch.limit(left, "no donor has come");
        let (met, rest) = port.accept(settings, &stage.watch)?;
        let refused = match met.and_then(|end| known(end, secret)) {
            Ok(found) => {
                stage.watch.relax();
                return stage.watch.check().map(|()| found);
            }
            Err(error) => error,
        };
        stage.watch.check()?;
        // Nobody else can connect to socat.
        let Some(rest) = rest else { return Err(refused) };
        stage.say(&format!("{refused}; still waiting for the donor"));
        port = rest;
    }
}

/// Reads who it is.
fn known(mut end: End, secret: &str) -> Result<(End, Hello)> {
    let hello = match Hello::read(&mut end) {
        Ok(hello) => hello,
        // socat may know more of it.
        Err(cause) if !end.answers() => {
            let error = Error::io("connection", "broke before anybody spoke", &cause);
            return Err(end.close().err().unwrap_or(error));
        }
        Err(cause) => return Err(Error::io("connection", "broke before anybody spoke", &cause)),
    };
    let hello = hello.filter(|hello| bool::from(hello.secret.as_bytes().ct_eq(secret.as_bytes())));
    let hello = hello.ok_or_else(|| Error::failed("connection", "refused: not that of a donor of this transfer"))?;
    end.known()?;
    Ok((end, hello))
}

/// There are no data; the donor goes on when it knows that this is understood.
fn ist(end: &mut End) -> Result<()> {
    let lost = |cause: std::io::Error| Error::io("donor", "the connection broke", &cause);
    match wire::receive(end, &mut Vec::new()).map_err(lost)? {
        Frame::End(0) if end.answers() => wire::tell(end, &Frame::Taken).map_err(lost),
        Frame::End(0) => Ok(()),
        Frame::Failed(why) => Err(wire::failure("donor", &why)),
        _ => Err(Error::damaged("donor", "sends something in an incremental transfer")),
    }
}

/// Unpacks the stream; its end, every digest and the log are verified there.
fn take(settings: &Settings, data: &Datadir, places: &Places, end: &mut End, stage: &Stage) -> Result<()> {
    let begun = Instant::now();
    let programs = programs(settings, data);
    let count = programs.len();
    let also = progress_file(settings, usize::from(settings.decompressor.is_some()), stage)?;
    let (reader, writer) = std::io::pipe().map_err(|cause| Error::io("pipe", "cannot make one", &cause))?;
    let mut work = Work::start(programs, reader.into(), Stdio::null(), &stage.journal, &stage.watch, also)?;
    if let Err(error) = pump(settings, data, places, end, writer, stage) {
        // A program that has failed is why nobody reads.
        let unpacked = if error.kind() == crate::error::Kind::Pipe { work.judge() } else { Ok(()) };
        return Err(unpacked.err().unwrap_or(error));
    }
    let mut told = Instant::now();
    while !work.ended(count)? {
        if end.answers() && told.elapsed() > BEAT {
            wire::tell(end, &Frame::Alive).map_err(|cause| Error::io("donor", "the connection broke", &cause))?;
            told = Instant::now();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    work.judge()?;
    stage.took(settings, "receiving", begun);
    Ok(())
}

/// `[decompressor |] [xb-throttle |] [xb-crypt -d |] [xb-zip -d |] xb-unpack`
fn programs(settings: &Settings, data: &Datadir) -> Vec<Command> {
    let mut programs: Vec<Command> = settings.decompressor.as_deref().map(children::shell).into_iter().collect();
    programs.extend(throttle(settings, "joiner", None));
    if let Some(key) = &settings.key_file {
        let mut crypt = children::tool("xb-crypt");
        crypt.arg("-d").arg("--key-file").arg(key);
        programs.push(crypt);
    }
    if settings.compress.is_some() {
        let mut zip = children::tool("xb-zip");
        zip.arg("-d");
        threads(&mut zip, settings);
        programs.push(zip);
    }
    let mut unpack = children::tool("xb-unpack");
    unpack.arg("-C").arg(data.arrival());
    threads(&mut unpack, settings);
    programs.push(unpack);
    programs
}

/// Gives the bytes of the stream to the programs. When the first member is there, it says how much room is needed.
fn pump(
    settings: &Settings,
    data: &Datadir,
    places: &Places,
    end: &mut End,
    mut to: std::io::PipeWriter,
    stage: &Stage,
) -> Result<()> {
    let lost = |cause: std::io::Error| {
        Error::damaged("donor", format_args!("the connection broke: {}", crate::error::reason(&cause)))
    };
    let begin = data.arrival().join(names::BEGIN);
    let (mut taken, mut looked) = (0_u64, false);
    let mut buffer = Vec::new();
    loop {
        stage.watch.limit(Some(settings.silence), "the donor has sent nothing for too long");
        let frame = wire::receive(end, &mut buffer).map_err(lost)?;
        stage.watch.relax();
        match frame {
            Frame::Data => {
                to.write_all(&buffer).map_err(|cause| Error::io("xb-unpack", "takes no more", &cause))?;
                taken = taken.saturating_add(buffer.len() as u64);
            }
            Frame::Alive => {}
            Frame::End(bytes) if bytes == taken => return Ok(()),
            Frame::End(_) | Frame::Taken => return Err(Error::damaged("donor", "the data are not complete")),
            Frame::Failed(why) => return Err(wire::failure("donor", &why)),
        }
        if !looked && let Ok(bytes) = std::fs::read(&begin) {
            let Ok(begin) = parse_begin("stream", &bytes) else { continue };
            looked = true;
            make_room(begin.estimated_bytes, settings, data, places, stage)?;
        }
    }
}

/// Removes the old data before the new ones are proved, but only if there is no room for both.
fn make_room(bytes: u64, settings: &Settings, data: &Datadir, places: &Places, stage: &Stage) -> Result<()> {
    match data.room(bytes, &settings.keep, places)? {
        Room::Both => Ok(()),
        Room::None { possible } => {
            let what = format_args!(
                "no room: the new data have {bytes} bytes, and without the old ones there would be {possible}; nothing was \
                 removed"
            );
            Err(Error::failed(data.path().display(), what))
        }
        Room::One { free, wanted } => {
            stage.say(&format!(
                "there is no room for old and new data ({free} bytes are free, {wanted} needed): the old ones are removed \
                 now, before the new ones are verified"
            ));
            stage.watch.check()?;
            data.clear(&settings.keep, places)
        }
    }
}

/// Recovers the backup, and puts it where the old data were.
fn put_in_place(settings: &Settings, data: &Datadir, places: &Places, stage: &Stage) -> Result<()> {
    let begun = Instant::now();
    let mut apply = children::tool("xb-redo");
    apply.arg("--apply").arg(data.arrival());
    if let Some(memory) = &settings.use_memory {
        apply.args(["--use-memory", memory]);
    }
    threads(&mut apply, settings);
    let keys = |name: &str| name.starts_with("file_key_management") || name == "plugin_dir";
    options(&mut apply, places, keys);
    apply.args(&settings.apply_words);
    work(apply, &stage.log("innobackup.prepare.log", settings, data.path())?, stage)?;
    stage.took(settings, "applying", begun);
    let begun = Instant::now();
    stage.watch.check()?;
    data.clear(&settings.keep, places)?;
    let mut put = children::tool("xb-redo");
    put.arg("--copy-back").arg(data.arrival()).args(["--move", "--keep-existing", "--datadir"]).arg(data.path());
    threads(&mut put, settings);
    options(&mut put, places, |name| name.starts_with("innodb_") || name == "aria_log_dir_path");
    put.args(&settings.move_words);
    work(put, &stage.log("innobackup.move.log", settings, data.path())?, stage)?;
    stage.took(settings, "moving", begun);
    Ok(())
}

fn options(command: &mut Command, places: &Places, wanted: impl Fn(&str) -> bool) {
    for (name, value) in places.options.iter().filter(|(name, _)| wanted(name)) {
        command.arg("--server-option").arg(format!("{name}={value}"));
    }
}

fn work(program: Command, journal: &std::sync::Arc<Journal>, stage: &Stage) -> Result<()> {
    Work::start(vec![program], Stdio::null(), Stdio::null(), journal, &stage.watch, |_, _| {})?.judge()
}
