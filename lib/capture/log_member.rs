//! The member with the captured log: head, log from the checkpoint LSN to the end LSN, padding.

use crate::bytes::Part as _;
use crate::error::{Error, Result};
use crate::innodb::ids::Lsn;
use crate::innodb::redo::mariadb::mtr;
use crate::log::captured::format::LogFormat;
use crate::log::queue::{FollowStats, Queue};
use crate::stream::Writer;
use crate::stream::native::{Entry, EntryKind};

/// The smallest part that is sent before the end, in bytes.
const LEAST: u64 = 256 << 10;
/// The size of a part and of a chunk, in bytes, at most: the longest mini-transaction fits. A multiple of the block
/// size.
const WINDOW: usize = mtr::MAX.next_multiple_of(64 << 10) + (64 << 10);

/// The member, as far as it has been sent.
pub(super) struct LogMember {
    format: LogFormat,
    /// Everything before is sent.
    lsn: Lsn,
    size: u64,
    digest: blake3::Hasher,
    window: Vec<u8>,
}

impl LogMember {
    /// A captured log with this format.
    pub(super) fn new(format: LogFormat) -> Self {
        LogMember { lsn: format.first(), format, size: 0, digest: blake3::Hasher::new(), window: Vec::new() }
    }

    /// Its format.
    pub(super) fn format(&self) -> &LogFormat {
        &self.format
    }

    /// How far the log may be sent now, if the part is large enough: up to the newest durable LSN mark, and a position
    /// at which the log may be cut. A mark was written before the manifest, so it cannot exceed the end LSN; an LSN
    /// that the server's checkpoint proves durable can.
    pub(super) fn due(&self, queue: &Queue) -> Option<Lsn> {
        let (mark, captured) = queue.reached();
        let until = self.format.settled(mark.min(captured));
        if until.since(self.lsn) < LEAST {
            return None;
        }
        Some(self.format.settled(queue.cut(self.lsn, until))).filter(|cut| *cut > self.lsn)
    }

    /// Sends what is before `until`, a result of [`LogMember::due`]; returns the number of bytes.
    pub(super) fn part(&mut self, until: Lsn, queue: &Queue, writer: &Writer) -> Result<u64> {
        let begin = self.lsn;
        // All of it: what is sent must end at a boundary of mini-transactions, from which the rest is parsed.
        while self.lsn < until {
            let mut bytes = std::mem::take(&mut self.window);
            let wanted = usize::try_from(until.since(self.lsn)).unwrap_or(WINDOW).min(WINDOW);
            fill(&mut bytes, wanted, queue)?;
            if bytes.is_empty() {
                return Err(Error::failed("spool", "captured log is lost"));
            }
            self.log(&bytes, writer)?;
            bytes.clear();
            self.window = bytes;
        }
        Ok(self.lsn.since(begin))
    }

    /// Sends the rest up to exactly `end`, where it must be possible to cut the log; then padding and the end mark.
    pub(super) fn complete(mut self, end: Lsn, queue: &Queue, writer: &Writer) -> Result<(Entry, FollowStats)> {
        let stats = queue.end(end)?;
        let mut bytes = std::mem::take(&mut self.window);
        let until = self.format.until(end);
        while self.lsn < until {
            fill(&mut bytes, WINDOW, queue)?;
            let taken = self.format.take(&mut bytes, self.lsn, end)?;
            self.log(bytes.part(..taken)?, writer)?;
            bytes.drain(..taken);
        }
        self.log(&[], writer)?;
        self.send(&vec![0; self.format.padding(self.size)], writer)?;
        let name = self.format.name().as_bytes();
        writer.end(name)?;
        Ok((Entry::new(name, EntryKind::Redo, self.size, &self.digest.finalize()), stats))
    }

    fn log(&mut self, bytes: &[u8], writer: &Writer) -> Result<()> {
        if self.size == 0 {
            let head = std::mem::take(&mut self.format.head);
            self.send(&head, writer)?;
        }
        self.send(bytes, writer)?;
        self.lsn = self.lsn.saturating_add(bytes.len() as u64);
        Ok(())
    }

    fn send(&mut self, bytes: &[u8], writer: &Writer) -> Result<()> {
        if !bytes.is_empty() {
            writer.payload(self.format.name().as_bytes(), self.size, bytes)?;
            self.digest.update(bytes);
            self.size += bytes.len() as u64;
        }
        Ok(())
    }
}

/// Fills `bytes` up to `size` with captured log, as far as available.
fn fill(bytes: &mut Vec<u8>, size: usize, queue: &Queue) -> Result<()> {
    let have = bytes.len();
    bytes.resize(size.max(have), 0);
    let got = queue.pull(bytes.part_mut(have..)?)?;
    bytes.truncate(have + got);
    Ok(())
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "small numbers")]
mod tests {
    use super::*;
    use crate::innodb::redo::mariadb::{Checkpoint, Format, Header, START};
    use crate::io::spool::Spool;
    use crate::stream::{Body, Reader};
    use std::fs::File;
    use std::io::{Seek, SeekFrom};
    use std::path::Path;

    const START_LSN: Lsn = Lsn::new(20_000);

    /// Mini-transactions of the first lap, and where they end.
    fn log(size: usize) -> (Vec<u8>, Vec<Lsn>) {
        let (mut bytes, mut ends) = (Vec::new(), vec![START_LSN]);
        for length in (0..100u8).cycle() {
            let record = [&[0x30, length][..], &vec![length; usize::from(length) + 14]].concat();
            bytes.extend(&record);
            bytes.push(1);
            bytes.extend(crc32c::crc32c(&record).to_be_bytes());
            ends.push(START_LSN.saturating_add(bytes.len() as u64));
            if bytes.len() > size {
                break;
            }
        }
        (bytes, ends)
    }

    /// Whenever log is captured and marked, the member is the log up to exactly the end LSN.
    #[test]
    fn the_log_member_ends_at_the_end_lsn() {
        let (bytes, ends) = log(3 << 20);
        let end = ends[ends.len() - 5];
        for (mark, captured) in [(0, 4), (1, 2), (2, 1), (3, 3), (7, 5), (4, 6)] {
            let at = |eighths: usize| ends[ends.len() * eighths / 8];
            let checkpoint = Checkpoint { lsn: START_LSN, end_lsn: START_LSN };
            let header = Header { format: Format::Phys, first_lsn: START_LSN, creator: [0; 32], encryption: [0; 28] };
            let queue = Queue::new(Spool::new(8 << 20, Path::new("/nonexistent"), u64::MAX), START_LSN);
            let at_byte = |lsn: Lsn| lsn.since(START_LSN) as usize;
            let part = |from: Lsn, to: Lsn| &bytes[at_byte(from)..at_byte(to)];
            let mut output = tempfile::tempfile().unwrap();
            let writer = Writer::new(output.try_clone().unwrap());
            let mut log_member = LogMember::new(LogFormat::mariadb(&header, checkpoint));
            // In portions, as they are read.
            let portions = ends.iter().copied().step_by(1000).filter(|lsn| *lsn < at(captured)).chain([at(captured)]);
            portions.fold(START_LSN, |from, to| {
                queue.push(part(from, to), to).unwrap();
                to
            });
            queue.mark(at(mark));
            while let Some(until) = log_member.due(&queue) {
                log_member.part(until, &queue, &writer).unwrap();
            }
            assert!(at(mark.min(captured)).since(log_member.lsn) < LEAST);
            assert!(ends.contains(&log_member.lsn), "it ends inside a mini-transaction");
            // More than is wanted.
            queue.push(part(at(captured), *ends.last().unwrap()), *ends.last().unwrap()).unwrap();
            queue.conclude(FollowStats::new(1));
            let (entry, _) = log_member.complete(end, &queue, &writer).unwrap();
            output.seek(SeekFrom::Start(0)).unwrap();
            let member = content(output);
            assert_eq!(member.len() as u64, entry.size);
            assert!(member[START..].starts_with(part(START_LSN, end)));
            let padding = &member[START + at_byte(end)..];
            assert!(!padding.is_empty() && padding.iter().all(|byte| *byte == 0));
        }
    }

    fn content(stream: File) -> Vec<u8> {
        let (mut reader, mut content) = (Reader::new(stream, "stream"), Vec::new());
        while let Some(head) = reader.next().unwrap() {
            if let Body::Payload { len, .. } = head.body {
                let mut payload = vec![0; len as usize];
                reader.fill(&mut payload).unwrap();
                content.extend(payload);
            }
        }
        content
    }
}
