//! `--verify --pages`: checks the pages of InnoDB tablespaces while the stream is read. The flags of a tablespace show
//! its family.

use std::sync::{Arc, Mutex};

use bstr::ByteSlice;

use super::{Inspect, lock};
use crate::error::{Error, Result};
use crate::innodb::Scan;
use crate::innodb::delta::{self, DELTA};
use crate::innodb::scan::{BadPage, Found};
use crate::innodb::space::Tally;
use crate::report::{Level, Report};
use crate::stream::native::names::{AGAIN, marked};
use crate::stream::native::plain_name;

/// Checks every tablespace of a stream. They are recognized by their names: `*.ibd`, `undo001`, `ibdata1`; for MySQL
/// also `undo_001` and `*.ibu`; with `.new` if xb-snap copied them again; `*.delta` in increments.
#[derive(Default)]
pub struct Pages {
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    files: u64,
    tally: Tally,
    /// Number of members whose pages could not be checked: compressed or encrypted, out of order, or without page 0.
    unread: u64,
    /// Files of the system tablespace: whether it was copied again, first page, number of pages, name.
    system: Vec<(bool, u64, u64, Vec<u8>)>,
}

impl Pages {
    /// The inspector of the member with this name, if it is a tablespace.
    pub fn inspect(&self, path: &[u8]) -> Option<Box<dyn Inspect>> {
        let plain = plain_name(path);
        let kind = kind(plain)?;
        if plain.len() < path.len() {
            lock(&self.seen).unread += 1;
            return None;
        }
        let (scan, system) = match kind {
            Kind::Table => (Scan::table(), false),
            Kind::System => (Scan::system(), true),
            Kind::Delta => {
                let scan = Some(delta::Scan::default());
                return Some(Box::new(Changes { path: path.to_vec(), scan, next: 0, seen: self.seen.clone() }));
            }
        };
        Some(Box::new(Tablespace { path: path.to_vec(), scan: Some(scan), system, next: 0, seen: self.seen.clone() }))
    }

    /// After the whole stream: checks that the files of the system tablespace are consecutive, and reports the counts.
    pub fn finish(&self, report: &dyn Report) -> Result<()> {
        let mut seen = lock(&self.seen);
        seen.system.sort();
        let mut ends = [0; 2];
        for (again, first, pages, path) in &seen.system {
            let [once, twice] = &mut ends;
            let end = if *again { twice } else { once };
            if first != end {
                let what = format_args!("begins with page {first}, where page {end} is missing");
                return Err(Error::damaged(path.as_bstr(), what));
            }
            *end += pages;
        }
        let Seen { files, tally, unread, .. } = &*seen;
        let Tally { verified, zero, unverified, .. } = tally;
        let unsummed = if *unverified > 0 { format!(", {unverified} without a checksum") } else { String::new() };
        report.note(
            Level::Info,
            format_args!("stdin: pages: {verified} verified, {zero} empty{unsummed}, in {files} tablespace files"),
        );
        if *unread > 0 {
            report.note(
                Level::Warning,
                format_args!("stdin: pages of {unread} tablespaces not checked: compressed, encrypted, not in order, or without page 0"),
            );
        }
        Ok(())
    }
}

enum Kind {
    Table,
    System,
    Delta,
}

fn kind(path: &[u8]) -> Option<Kind> {
    let name = base_name(path);
    let digits = |rest: &[u8]| !rest.is_empty() && rest.iter().all(u8::is_ascii_digit);
    if name.ends_with(DELTA) {
        return Some(Kind::Delta);
    }
    let meant = marked(path, AGAIN);
    let name = meant.as_deref().map_or(name, base_name);
    let undo = name.strip_prefix(b"undo").map(|rest| rest.strip_prefix(b"_").unwrap_or(rest)).is_some_and(digits);
    if undo || [b".ibd", b".ibu"].iter().any(|end| name.ends_with(*end)) {
        return Some(Kind::Table);
    }
    name.strip_prefix(b"ibdata").is_some_and(digits).then_some(Kind::System)
}

fn base_name(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
}

/// The check of one tablespace file.
struct Tablespace {
    path: Vec<u8>,
    /// `None` after bytes have come out of order.
    scan: Option<Scan>,
    system: bool,
    next: u64,
    seen: Arc<Mutex<Seen>>,
}

impl Tablespace {
    /// Bytes before `offset` that did not come are a hole; earlier bytes cannot be checked again.
    fn reach(&mut self, offset: u64) -> Result<()> {
        match (offset.checked_sub(self.next), &mut self.scan) {
            (None, _) => self.scan = None,
            (Some(hole), Some(scan)) => scan.zeros(hole).map_err(|bad| damaged(&self.path, bad))?,
            (Some(_), None) => {}
        }
        self.next = offset;
        Ok(())
    }
}

impl Inspect for Tablespace {
    fn bytes(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.reach(offset)?;
        self.next = offset.saturating_add(bytes.len() as u64);
        match &mut self.scan {
            Some(scan) => scan.bytes(bytes).map_err(|bad| damaged(&self.path, bad)),
            None => Ok(()),
        }
    }

    fn end(&mut self, size: u64) -> Result<()> {
        self.reach(size.max(self.next))?;
        let Some(scan) = self.scan.take() else {
            lock(&self.seen).unread += 1;
            return Ok(());
        };
        let Found { tally, range, unread } = scan.end().map_err(|bad| damaged(&self.path, bad))?;
        let mut seen = lock(&self.seen);
        seen.files += 1;
        seen.tally += tally;
        seen.unread += u64::from(unread);
        if let Some((first, pages)) = range.filter(|_| self.system) {
            seen.system.push((self.path.ends_with(AGAIN), first, pages, self.path.clone()));
        }
        Ok(())
    }
}

/// The check of one delta.
struct Changes {
    path: Vec<u8>,
    /// `None` after bytes have come out of order.
    scan: Option<delta::Scan>,
    next: u64,
    seen: Arc<Mutex<Seen>>,
}

impl Inspect for Changes {
    fn bytes(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.scan.take_if(|_| offset != self.next);
        self.next = offset.saturating_add(bytes.len() as u64);
        match &mut self.scan {
            Some(scan) => scan.bytes(bytes).map_err(|bad| damaged(&self.path, bad)),
            None => Ok(()),
        }
    }

    fn end(&mut self, size: u64) -> Result<()> {
        let scan = self.scan.take().filter(|_| size == self.next);
        let tally = scan.map_or(Ok(None), delta::Scan::end).map_err(|bad| damaged(&self.path, bad))?;
        let mut seen = lock(&self.seen);
        match tally {
            Some(tally) => {
                seen.files += 1;
                seen.tally += tally;
            }
            None => seen.unread += 1,
        }
        Ok(())
    }
}

fn damaged(path: &[u8], (number, fault): BadPage) -> Error {
    Error::damaged(path.as_bstr(), format_args!("page {number}: {fault}"))
        .hint("the page was damaged before it came into the stream; check the server's disk and memory")
}
