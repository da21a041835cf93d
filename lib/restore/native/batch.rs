//! Collects the log by page, as far as the memory goes, and applies it.

use std::sync::Mutex;

use super::Run;
use super::images::{self, Images};
use super::page::{self, Image, Last};
use super::survey::{self, Survey};
use super::tablespaces::Tablespaces;
use crate::codec::pool::{self, FirstError};
use crate::error::{Error, Result};
use crate::innodb::SpaceId;
use crate::log::captured::mariadb::Captured;
use crate::report::Report;

/// Pages that a thread takes at a time.
const PIECE: usize = 32;
/// The fewest records and bytes of pages, whatever the memory.
const LEAST_RUNS: usize = 1 << 12;
const LEAST_BYTES: u64 = 4 << 20;

/// The log, one batch after another.
pub(super) struct Batches<'a> {
    run: &'a Run<'a>,
    captured: &'a Captured,
    log: &'a [u8],
    survey: &'a Survey,
    spaces: &'a Tablespaces,
    images: &'a mut Images,
    report: &'a dyn Report,
    runs: Vec<survey::Run>,
    most_runs: usize,
    bytes: u64,
    pages: u64,
}

impl<'a> Batches<'a> {
    pub(super) fn new(
        run: &'a Run<'a>,
        captured: &'a Captured,
        log: &'a [u8],
        survey: &'a Survey,
        spaces: &'a Tablespaces,
        images: &'a mut Images,
        report: &'a dyn Report,
    ) -> Batches<'a> {
        // Half of the memory is for records, half for pages.
        let most_runs = usize::try_from(run.memory / 2).unwrap_or(usize::MAX) / size_of::<survey::Run>();
        let most_runs = most_runs.max(LEAST_RUNS);
        Batches { run, captured, log, survey, spaces, images, report, runs: Vec::new(), most_runs, bytes: 0, pages: 0 }
    }

    /// Adds a mini-transaction.
    pub(super) fn add(&mut self, at: u64, mtr: &[u8]) -> Result<()> {
        let lsns = (self.captured.lsn(at), self.captured.lsn(at + mtr.len() as u64));
        let (runs, survey, spaces) = (&mut self.runs, self.survey, self.spaces);
        survey::each_run(mtr, at, lsns, |run, _| {
            if !survey.passes_over(&run) && spaces.get(run.page.space).is_some() {
                runs.push(run);
            }
            Ok(())
        })?;
        self.bytes += mtr.len() as u64;
        if self.runs.len() >= self.most_runs { self.apply() } else { Ok(()) }
    }

    /// Applies the rest; returns how many pages were written.
    pub(super) fn finish(mut self) -> Result<u64> {
        self.apply()?;
        Ok(self.pages)
    }

    fn apply(&mut self) -> Result<()> {
        let mut runs = std::mem::take(&mut self.runs);
        runs.sort_unstable_by_key(|run| (run.page, run.at));
        let groups: Vec<&[survey::Run]> = runs.chunk_by(|a, b| a.page == b.page).collect();
        let budget = (self.run.memory / 2).max(LEAST_BYTES);
        let mut rest = &groups[..];
        while !rest.is_empty() {
            let mut bytes = 0;
            let count = rest.iter().take_while(|group| {
                let size = group.first().and_then(|run| self.spaces.get(run.page.space));
                bytes += size.map_or(0, |here| u64::from(here.space.page_size));
                bytes <= budget
            });
            let (round, after) = rest.split_at(count.count().max(1).min(rest.len()));
            rest = after;
            self.round(round)?;
        }
        runs.clear();
        self.runs = runs;
        self.report.advance(std::mem::take(&mut self.bytes));
        Ok(())
    }

    fn round(&mut self, groups: &[&[survey::Run]]) -> Result<()> {
        let done: Mutex<Vec<Image>> = Mutex::default();
        let lost = || Error::internal("a thread was lost");
        let threads = self.run.threads.max(1);
        let (survey, spaces, log, end) = (self.survey, self.spaces, self.log, self.run.end_lsn);
        pool::for_each(threads, &FirstError::default(), groups.chunks(PIECE).map(Ok), Last::default, |last, piece| {
            let mut images = Vec::with_capacity(piece.len());
            for group in piece {
                let id = group.first().map_or(SpaceId::SYSTEM, |run| run.page.space);
                let here = spaces.get(id).ok_or_else(|| Error::internal("a tablespace was lost"))?;
                images.extend(page::bring(here, group, survey, log, end, last)?);
            }
            done.lock().map_err(|_| lost())?.append(&mut images);
            Ok(())
        })?;
        let mut done = done.into_inner().map_err(|_| lost())?;
        done.sort_unstable_by(|a, b| (&a.path, a.at).cmp(&(&b.path, b.at)));
        self.images.keep(&done)?;
        self.pages += done.len() as u64;
        pool::for_each(threads, &FirstError::default(), done.chunks(PIECE).map(Ok), Last::default, |last, piece| {
            piece.iter().try_for_each(|image| images::write(last, image))
        })
    }
}
