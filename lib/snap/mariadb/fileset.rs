//! The dictionary of a server that may open its files late and run DDL while it is asked.

use std::time::Duration;

use bstr::ByteSlice;

use super::MariaDb;
use crate::error::{Error, Result};
use crate::innodb::ids::SpaceId;
use crate::report::{Level, Report};
use crate::server::dictionary::{Dictionary, Ledger};
use crate::snap::catalog::Catalog;
use crate::snap::fileset;

/// How often, and at what interval, a tablespace without a file is asked for again: DDL may have dropped it.
const LOOKS: u32 = 4;
const PAUSE: Duration = Duration::from_millis(100);

impl MariaDb<'_> {
    /// What the server has now.
    pub(super) fn dictionary(&mut self) -> Result<Dictionary> {
        Dictionary::of_mariadb(self.stages.session(), &self.layout.datadir)
    }

    /// Fails, before anything is copied, if a tablespace repeatedly has no file where the server has it.
    pub(super) fn none_unseen(&mut self, catalog: &Catalog) -> Result<()> {
        let Some(dictionary) = &catalog.dictionary else { return Ok(()) };
        let mut unseen = fileset::unseen(dictionary, |name| catalog.has(name), &self.job.filter)?;
        for _ in 0..LOOKS {
            if unseen.is_empty() {
                return Ok(());
            }
            std::thread::sleep(PAUSE);
            unseen = fileset::still_unseen(&self.dictionary()?, &unseen)?;
        }
        self.none_hidden(&unseen)
    }

    /// Fails if the server has files of these tablespaces. To find out, opens those that the server has not opened yet.
    fn none_hidden(&mut self, unseen: &[SpaceId]) -> Result<()> {
        if unseen.is_empty() {
            return Ok(());
        }
        let dictionary = self.dictionary()?;
        fileset::none_open(&dictionary, unseen)?;
        if unseen.iter().all(|id| self.lost.contains(id)) {
            return Ok(());
        }
        Dictionary::open_all(self.stages.session())?;
        let dictionary = self.dictionary()?;
        fileset::none_open(&dictionary, &fileset::still_unseen(&dictionary, unseen)?)?;
        self.lost.extend(unseen);
        Ok(())
    }

    /// Ends a review: fails if a tablespace is missing, and warns of files that are left out.
    pub(super) fn settled(&mut self, ledger: &mut Ledger<'_>, report: &dyn Report) -> Result<()> {
        fileset::take(ledger, &super::undo(&self.layout)?, &self.layout)?;
        fileset::none_missing(ledger, &self.job.filter)?;
        let unopened = fileset::unopened(ledger, &self.job.filter);
        self.none_hidden(&unopened)?;
        for row in unopened.iter().filter_map(|id| ledger.dictionary.row(*id)) {
            let what = "the server has no file of this table, as after DISCARD TABLESPACE; the backup has none either";
            report.note(Level::Warning, format_args!("{}: {what}", ledger.dictionary.name(row).as_bstr()));
        }
        fileset::tell(ledger, report);
        Ok(())
    }

    /// Without a lock: fails if tables were created or dropped since the server was asked.
    pub(super) fn none_new(&mut self, before: &Dictionary) -> Result<()> {
        if self.job.no_lock && !self.dictionary()?.agrees_with(before) {
            return Err(Error::invalid("server", "tables were made, dropped or renamed during a backup without locks")
                .hint(super::RUN_AGAIN));
        }
        Ok(())
    }
}
