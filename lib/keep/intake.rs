//! A stream on its way into the store: summed, checked by the rules of the format, and indexed while it passes.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};

use super::index::{Builder, Index};
use super::meta::Stored;
use super::stages;
use super::store::{Store, Upload};
use crate::error::{Error, OrInternal as _, Result};
use crate::io::BUFFER;
use crate::report::Report;
use crate::stream::chunk::MAGIC;
use crate::stream::native::{BEGIN, MANIFEST, Verifier, plain_name};
use crate::stream::{Body, Members, Reader};

/// A stream that has arrived. It exists in the store once the upload is published.
pub struct Arrived {
    /// The object.
    pub upload: Box<dyn Upload>,
    /// Its name, size and sum.
    pub stored: Stored,
    /// Where its members are, unless it is coded as a whole.
    pub index: Option<Index>,
    /// The suffixes that compression and encryption gave to members.
    pub suffixes: Vec<Vec<u8>>,
    /// Its first bytes.
    pub start: Vec<u8>,
}

/// Reads a stream to its end. `prefix` is `backups/ID/`.
///
/// # Errors
///
/// Damaged, if the stream is empty, damaged or truncated; Failed, if it cannot be read or stored.
pub fn take(store: &dyn Store, prefix: &str, mut input: impl Read, report: &dyn Report) -> Result<Arrived> {
    let mut start = Vec::new();
    let most = MAGIC.len() as u64;
    Read::by_ref(&mut input).take(most).read_to_end(&mut start).map_err(|cause| unread(&cause))?;
    if start.is_empty() {
        return Err(
            Error::damaged("stream", "empty: no bytes arrived").hint("the last program of the pipeline sent nothing")
        );
    }
    let object = format!("stream.xbs{}", stages::suffix(&start));
    let upload = store.create(&format!("{prefix}{object}"))?;
    let input = start.as_slice().chain(input);
    let mut tee = Tee { input, upload, sum: blake3::Hasher::new(), bytes: 0, report, fault: None };
    let known = if start.starts_with(&MAGIC) { members(&mut tee) } else { whole(&mut tee) };
    let Tee { upload, sum, bytes, fault, .. } = tee;
    if let Some(fault) = fault {
        return Err(fault);
    }
    let (index, suffixes) = known?;
    let stored = Stored { object, bytes, blake3: sum.finalize().to_hex().to_string() };
    Ok(Arrived { upload, stored, index, suffixes, start })
}

/// What is known of a stream at its end: its index, and the suffixes of its members.
type Known = (Option<Index>, Vec<Vec<u8>>);

/// A stream that is coded as a whole: its bytes.
fn whole(tee: &mut impl Read) -> Result<Known> {
    let mut buffer = vec![0; BUFFER];
    while tee.read(&mut buffer).map_err(|cause| unread(&cause))? > 0 {}
    Ok((None, Vec::new()))
}

/// A stream with members.
fn members(tee: &mut impl Read) -> Result<Known> {
    const PLACE: &str = "stream";
    let mut reader = Reader::new(tee, PLACE);
    let (mut members, mut verifier, mut index) = (Members::default(), Verifier::default(), Builder::default());
    let (mut suffixes, mut buffer) = (BTreeSet::new(), vec![0; BUFFER]);
    while let Some(head) = reader.next()? {
        verifier.chunk(PLACE, &head)?;
        let step = members.accept(PLACE, &head)?;
        if step.opened {
            suffixes.insert(head.path.get(plain_name(&head.path).len()..).unwrap_or_default().to_vec());
        }
        loop {
            let count = reader.payload(&mut buffer)?;
            if count == 0 {
                break;
            }
            if matches!(head.path.as_slice(), BEGIN | MANIFEST) {
                let part = buffer.get(..count).or_internal("a read beyond its buffer")?;
                verifier.payload(PLACE, &head.path, part, members.count(), |_, _| Ok(()))?;
            }
        }
        match head.body {
            Body::Rename(_) | Body::Remove => index.entangle(),
            Body::Skipped => {}
            Body::End => {
                verifier.end(PLACE, &head.path)?;
                index.chunk(&head.path, step.opened, head.at, reader.position())?;
            }
            _ => index.chunk(&head.path, step.opened, head.at, reader.position())?,
        }
    }
    let bytes = reader.position();
    members.finish(PLACE, bytes)?;
    verifier.finish(PLACE, bytes)?;
    verifier.check_log(PLACE)?;
    Ok((index.finish(bytes), suffixes.into_iter().collect()))
}

fn unread(cause: &io::Error) -> Error {
    Error::io("stream", "cannot read", cause)
}

/// Everything that is read is stored.
struct Tee<'a, R> {
    input: R,
    upload: Box<dyn Upload>,
    sum: blake3::Hasher,
    bytes: u64,
    report: &'a dyn Report,
    /// Why it could not be stored.
    fault: Option<Error>,
}

impl<R: Read> Read for Tee<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        let part = buffer.get(..count).or_internal("a read beyond its buffer")?;
        if let Err(cause) = self.upload.write_all(part) {
            self.fault = Some(Error::failed("store", format_args!("cannot write: {}", crate::error::reason(&cause))));
            return Err(cause);
        }
        self.sum.update(part);
        self.bytes = self.bytes.saturating_add(count as u64);
        self.report.advance(count as u64);
        Ok(count)
    }
}
