//! A stored stream on its way out: read, compared with its sum, and turned into a plain stream by the programs that undo
//! its stages.

use std::fs::File;
use std::io::{self, Read, Write};
use std::process::{ChildStdout, Stdio};
use std::sync::Mutex;
use std::thread::ScopedJoinHandle;

use super::catalog::Backup;
use super::chain::{self, Ear};
use super::index::Index;
use super::meta::Stored;
use super::store::Store;
use super::subset::{self, Picks, Told};
use crate::bytes::Part as _;
use crate::error::{Error, Kind, OrInternal as _, Result};
use crate::io::BUFFER;
use crate::report::Report;
use crate::stream::native::{BEGIN, MANIFEST, plain_name};

/// What of a stream is wanted.
#[derive(Clone, Copy)]
pub enum Wanted<'a> {
    /// All of it, as it is.
    Whole,
    /// Some members, as a stream of their own, and perhaps what the manifest says of all.
    Members {
        /// Which, by their names in the stream, with or without the suffixes of compression and encryption.
        picks: Picks<'a>,
        /// Whether [`Told::entries`] is wanted.
        entries: bool,
    },
}

/// Where a stream is.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// The store.
    pub store: &'a dyn Store,
    /// `backups/ID/`.
    pub prefix: &'a str,
    /// The stream.
    pub stream: &'a Stored,
    /// Where its members are, if it has an index.
    pub index: Option<&'a Stored>,
    /// The programs that turn it into a plain stream.
    pub undo: &'a [Vec<String>],
}

impl<'a> Source<'a> {
    /// Of a backup, whose prefix is given, and the programs that undo its stages.
    pub fn new(store: &'a dyn Store, prefix: &'a str, backup: &'a Backup, undo: &'a [Vec<String>]) -> Source<'a> {
        let meta = &backup.meta;
        Source { store, prefix, stream: &meta.stream, index: meta.index.as_ref(), undo }
    }

    /// The name of an object.
    fn object(&self, stored: &Stored) -> String {
        format!("{}{}", self.prefix, stored.object)
    }

    /// The bytes as they are stored.
    ///
    /// # Errors
    ///
    /// Damaged, if they are not those that were stored; Pipe, if the reader has gone.
    pub fn raw(&self, mut output: impl Write, report: &dyn Report) -> Result<()> {
        let name = self.object(self.stream);
        report.expect(self.stream.bytes);
        let mut input = self.store.read(&name, 0, Some(self.stream.bytes))?;
        let (mut sum, mut buffer) = (blake3::Hasher::new(), vec![0; BUFFER]);
        loop {
            let count = read(&mut input, &mut buffer, &name)?;
            if count == 0 {
                return compare(&name, self.stream, &sum);
            }
            let part = buffer.part(..count)?;
            sum.update(part);
            output.write_all(part).map_err(|cause| Error::io("stdout", "cannot write", &cause))?;
            report.advance(count as u64);
        }
    }

    /// Reads the index, and compares it with its sum.
    ///
    /// # Errors
    ///
    /// Damaged, if it is; Failed, if it cannot be read.
    pub fn index(&self) -> Result<Option<Index>> {
        let Some(stored) = self.index else { return Ok(None) };
        let name = self.object(stored);
        let mut input = Summing { input: self.store.read(&name, 0, Some(stored.bytes))?, sum: blake3::Hasher::new() };
        // A sum that is wrong says more than a line that cannot be read.
        let index = Index::read(&name, &mut input);
        io::copy(&mut input, &mut io::sink()).map_err(|cause| Error::io(&name, "cannot read", &cause))?;
        compare(&name, stored, &input.sum)?;
        let index = index?;
        if index.bytes != self.stream.bytes {
            return Err(Error::damaged(name, "is that of another stream"));
        }
        Ok(Some(index))
    }

    /// Sends what is wanted through the programs that undo the stages, then through `then`, to `output`. `ear` hears what
    /// they say.
    ///
    /// # Errors
    ///
    /// Damaged, if the stored bytes are; those of the programs; Pipe, if the reader has gone.
    pub fn run(
        &self,
        wanted: Wanted<'_>,
        then: &[Vec<String>],
        output: File,
        ear: &Ear,
        report: &dyn Report,
    ) -> Result<Told> {
        let programs = [self.undo, then].concat();
        let index = match wanted {
            Wanted::Whole => None,
            Wanted::Members { .. } => self.index()?,
        };
        let plan = Plan::new(self, wanted, index.as_ref());
        let told = Mutex::new(Told::default());
        let pass = |input: &mut dyn Read, output: &mut dyn Write| -> Result<()> {
            let Wanted::Members { picks, entries } = wanted else {
                return Err(Error::internal("the whole stream is passed on as it is"));
            };
            let options = subset::Options { picks, entries, complete: index.is_none() };
            let done = subset::pass(input, &self.object(self.stream), output, options)?;
            *told.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = done;
            Ok(())
        };
        std::thread::scope(|scope| -> Result<()> {
            let feed = |output: &mut dyn Write| match plan.pass_at {
                Some(0) => {
                    let (mut reader, writer) = pipe()?;
                    let parts = scope.spawn(|| plan.feed(self, writer, report));
                    both(pass(&mut reader, output), || drop(reader), parts)
                }
                _ => plan.feed(self, output, report),
            };
            if programs.is_empty() {
                return feed(&mut &output);
            }
            let (reader, mut writer) = pipe()?;
            let feeder = scope.spawn(move || feed(&mut writer));
            let last = plan.pass_at.filter(|at| *at > 0 && *at == programs.len());
            let passers = Mutex::new(Vec::new());
            let between = |place: usize, mut out: ChildStdout| -> io::Result<Stdio> {
                if plan.pass_at != Some(place + 1) {
                    return Ok(out.into());
                }
                let (reader, mut writer) = io::pipe()?;
                let passer = scope.spawn(move || pass(&mut out, &mut writer));
                passers.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(passer);
                Ok(reader.into())
            };
            let end = match last {
                Some(_) => Stdio::piped(),
                None => output.try_clone().map_err(|cause| Error::io("stdout", "cannot use", &cause))?.into(),
            };
            let mut running = chain::start_with(&programs, reader.into(), end, ear, between)?;
            let passed = match last {
                Some(_) => pass(&mut running.output()?, &mut &output),
                None => Ok(()),
            };
            let ended = running.wait();
            let fed = join(feeder);
            let passers = passers.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
            let between: Vec<Result<()>> = passers.into_iter().map(join).collect();
            first([fed].into_iter().chain(between).chain([passed]), ended.map(drop))
        })?;
        Ok(told.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

/// How a part of a stream is read.
struct Plan {
    /// The places in the stored stream; `None` for all of it.
    places: Option<Vec<(u64, u64)>>,
    /// After so many programs the manifest is plain, and the part is made a stream of its own; `None` for a whole stream.
    pass_at: Option<usize>,
}

impl Plan {
    fn new(source: &Source<'_>, wanted: Wanted<'_>, index: Option<&Index>) -> Plan {
        let Wanted::Members { picks, .. } = wanted else { return Plan { places: None, pass_at: None } };
        let Some(index) = index else { return Plan { places: None, pass_at: Some(source.undo.len()) } };
        let mut manifest = None;
        let own = |path: &[u8]| path == BEGIN || plain_name(path) == MANIFEST;
        let (places, _) = index.places(|path| {
            if plain_name(path) == MANIFEST {
                manifest = Some(path.to_vec());
            }
            own(path) || picks(path)
        });
        // Members are decrypted before they are decompressed.
        let sealed = manifest.is_some_and(|path| path.ends_with(b".xbseal") || path.ends_with(b".xbcrypt"));
        let crypt = source.undo.iter().position(|run| super::stages::name(run) == "xb-crypt").map_or(0, |at| at + 1);
        Plan { places: Some(places), pass_at: Some(if sealed { crypt } else { 0 }) }
    }

    /// Sends the bytes.
    fn feed(&self, source: &Source<'_>, mut output: impl Write, report: &dyn Report) -> Result<()> {
        let Some(places) = &self.places else { return source.raw(output, report) };
        let name = source.object(source.stream);
        report.expect(places.iter().fold(0, |sum: u64, (_, len)| sum.saturating_add(*len)));
        let mut buffer = vec![0; BUFFER];
        for (at, len) in places {
            let mut input = source.store.read(&name, *at, Some(*len))?;
            loop {
                let count = read(&mut input, &mut buffer, &name)?;
                if count == 0 {
                    break;
                }
                let part = buffer.part(..count)?;
                output.write_all(part).map_err(|cause| Error::io("stdout", "cannot write", &cause))?;
                report.advance(count as u64);
            }
        }
        Ok(())
    }
}

fn pipe() -> Result<(io::PipeReader, io::PipeWriter)> {
    io::pipe().map_err(|cause| Error::io("pipe", "cannot make one", &cause))
}

fn join(thread: ScopedJoinHandle<'_, Result<()>>) -> Result<()> {
    thread.join().unwrap_or_else(|_| Err(Error::internal("a thread ended before its work")))
}

/// The outcome of a reader and of the thread that feeds it. `end` closes the reader, so that the thread ends.
fn both(read: Result<()>, end: impl FnOnce(), feeder: ScopedJoinHandle<'_, Result<()>>) -> Result<()> {
    end();
    let fed = join(feeder);
    first([fed, read].into_iter(), Ok(()))
}

/// The error that explains the others: damage of what is stored, then that of a program, then a reader that has gone.
fn first(ours: impl Iterator<Item = Result<()>>, programs: Result<()>) -> Result<()> {
    if let Err(error) = &programs
        && matches!(error.kind(), Kind::Signal(_))
    {
        return programs;
    }
    let errors: Vec<Error> = ours.filter_map(Result::err).collect();
    let real = errors.iter().find(|error| error.kind() != Kind::Pipe).cloned();
    match real {
        Some(error) => Err(error),
        None => programs.and_then(|()| errors.into_iter().next().map_or(Ok(()), Err)),
    }
}

fn read(input: &mut dyn Read, buffer: &mut [u8], name: &str) -> Result<usize> {
    loop {
        match input.read(buffer) {
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome.map_err(|cause| Error::io(name, "cannot read", &cause)),
        }
    }
}

/// The bytes of an object are those that were stored.
fn compare(name: &str, stored: &Stored, sum: &blake3::Hasher) -> Result<()> {
    if sum.finalize().to_hex().as_str() == stored.blake3 {
        return Ok(());
    }
    Err(Error::damaged(name, "damaged: its sum is not the one that was recorded when it was stored")
        .hint("take it from another copy of the store"))
}

/// Sums what is read.
struct Summing<R> {
    input: R,
    sum: blake3::Hasher,
}

impl<R: Read> Read for Summing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.sum.update(buffer.get(..count).or_internal("a read beyond its buffer")?);
        Ok(count)
    }
}
