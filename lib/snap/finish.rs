//! What follows after the locks: the log becomes durable; the spool, the metadata and the manifest are sent; the
//! results are printed.

use std::collections::BTreeMap;
use std::fs::File;
use std::time::{Duration, Instant};

use jiff::Zoned;

use super::Job;
use super::copy::Copier;
use super::lsndir::LsnDir;
use super::meta::Members;
use crate::bytes::Part as _;
use crate::error::{Error, Result};
use crate::innodb::ids::{Lsn, SpaceId};
use crate::io::spool::Spool;
use crate::metadata::Facts;
use crate::metadata::{CHECKPOINTS, INFO};
use crate::report::{Level, Report};
use crate::server::Session;
use crate::server::locks::Times;
use crate::stream::Writer;
use crate::stream::native::{Begin, Binlog, EntryKind, FORMAT, PAGES, Trailer, begin_bytes, begin_digest};

/// How long the server may take to make its log durable up to the end LSN.
const DURABLE: Duration = Duration::from_secs(60);

/// The server's positions while commits were blocked.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    /// The end LSN.
    pub(super) end_lsn: Lsn,
    /// MySQL: ids of tablespaces that a partial backup leaves out.
    pub(super) left_out: Vec<SpaceId>,
    pub(super) binlog: Option<Binlog>,
    pub(super) replica: Option<String>,
    pub(super) galera: Option<String>,
    pub(super) times: Times,
}

/// The last steps, for running and stopped servers.
pub(super) struct Finish<'a> {
    pub(super) job: &'a Job,
    pub(super) report: &'a dyn Report,
    /// Options that recovery needs.
    pub(super) options: &'a BTreeMap<String, String>,
    pub(super) begin: &'a Begin,
    pub(super) start: Zoned,
    pub(super) began: Instant,
    pub(super) copier: &'a Copier<'a>,
}

impl Finish<'_> {
    /// Sends the metadata and the manifest, and reports the results. Returns what was known at the end.
    pub(super) fn send(
        &self,
        out: &Writer<File>,
        snapshot: &Snapshot,
        members: impl FnOnce(&Facts) -> Members,
    ) -> Result<Facts> {
        self.report.stage("finishing");
        let facts = self.facts(snapshot);
        let members = members(&facts);
        for (name, text) in &members {
            self.copier.made(out, name.as_bytes(), EntryKind::Meta, text.as_bytes())?;
        }
        let mut lsndir = self.job.extra_lsndir.as_deref().map(LsnDir::new).transpose()?;
        let noted = self.copier.noted.send(&self.begin.backup_id, out, &mut |bytes| match &mut lsndir {
            Some(dir) => dir.pages(bytes),
            None => Ok(()),
        })?;
        noted.map_or(Ok(()), |entry| self.copier.done(&entry, PAGES, entry.size))?;
        self.copier.manifest.send(self.trailer(snapshot)?, out)?;
        if lsndir.is_some() || self.job.history.is_some() {
            self.report.stage("waiting for the next program");
            out.taken()?;
        }
        if let Some(dir) = lsndir {
            let named = members.iter().filter(|(name, _)| CHECKPOINTS.contains(name) || INFO.contains(name));
            dir.write(named.map(|(name, text)| (*name, text.as_bytes())), &begin_bytes(self.begin)?)?;
        }
        self.print(snapshot, out.written());
        Ok(facts)
    }

    /// The checkpoint LSN.
    fn checkpoint(&self) -> Lsn {
        self.begin.redo.as_ref().map_or(Lsn::ZERO, |redo| redo.checkpoint_lsn)
    }

    fn facts(&self, snapshot: &Snapshot) -> Facts {
        Facts {
            uuid: uuid(&self.begin.backup_id),
            series: self.job.history.as_ref().map(|series| series.name.clone()).unwrap_or_default(),
            command: self.job.command.clone(),
            server_version: self.begin.server_version.clone().unwrap_or_default(),
            start: self.start.clone(),
            end: Zoned::now(),
            since: self.begin.base.as_ref().map(|base| base.lsn),
            checkpoint: self.checkpoint(),
            end_lsn: snapshot.end_lsn,
            binlog: snapshot.binlog.clone(),
            lock_time: snapshot.times.get("flush").map_or(0, |millis| millis / 1000),
            partial: self.job.filter.is_partial(),
        }
    }

    /// The last line of the manifest without its digests.
    fn trailer(&self, snapshot: &Snapshot) -> Result<Trailer> {
        Ok(Trailer {
            manifest: FORMAT,
            backup_id: self.begin.backup_id.clone(),
            begin_blake3: Some(begin_digest(&begin_bytes(self.begin)?)),
            members: 0,
            bytes: 0,
            end_lsn: self.begin.redo.as_ref().map(|_| snapshot.end_lsn),
            binlog: snapshot.binlog.clone(),
            server_options: self.options.clone(),
            locks_ms: snapshot.times.clone(),
            partial: self.job.filter.is_partial(),
            left_out: snapshot.left_out.clone(),
            end_time: jiff::Timestamp::now().to_string(),
            blake3: String::new(),
        })
    }

    /// Prints the last two lines.
    fn print(&self, snapshot: &Snapshot, sent: u64) {
        let (report, time) = (self.report, self.began.elapsed());
        let pages = *self.copier.pages.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let bytes = self.copier.manifest.bytes();
        match &snapshot.binlog {
            Some(Binlog { file, position, gtid }) => report.note(
                Level::Info,
                format_args!(
                    "binlog position: filename '{file}', position '{position}', GTID of the last change '{gtid}'"
                ),
            ),
            None => report.note(Level::Info, format_args!("binlog position: none")),
        }
        if let Some(base) = &self.job.base {
            base.tell(report);
        }
        report.facts(serde_json::json!({
            "backup_id": self.begin.backup_id,
            "data_bytes": bytes,
            "sent_bytes": sent,
            "pages": pages.pages(),
            "start_lsn": self.checkpoint(),
            "end_lsn": snapshot.end_lsn,
            "binlog": snapshot.binlog,
            "replica": snapshot.replica,
            "locks_ms": snapshot.times,
        }));
        let locked = |key: &str| snapshot.times.get(key).copied().unwrap_or(0);
        let rate = u128::from(sent).saturating_mul(1000) / time.as_millis().max(1) / (1 << 20);
        let unverified = match pages.unverified {
            0 => String::new(),
            count => format!(" ({count} without a checksum)"),
        };
        let lsn = match &self.begin.redo {
            Some(redo) => format!("lsn {} to {}", redo.checkpoint_lsn, snapshot.end_lsn),
            None => "no InnoDB, so no redo log".to_owned(),
        };
        // The backup of a stopped server needs its log, too, which may surprise the operator.
        let follows = self.job.offline && self.begin.redo.is_some();
        report.note(
            Level::Info,
            format_args!(
                "{bytes} bytes, {} pages{unverified}, {sent} sent in {:.1} s, {rate} MiB/s; blocked: writes without \
                 transactions {} ms, ddl {} ms, commits {} ms; {lsn}; {}snapshot complete",
                pages.pages(),
                time.as_secs_f64(),
                locked("flush"),
                locked("block_ddl"),
                locked("block_commit"),
                if follows { "xb-redo must follow, which adds the log; " } else { "" },
            ),
        );
    }
}

/// Waits until the log is durable up to the end LSN. This needs no lock: the content of the log up to there does not
/// change any more. With `innodb_flush_log_at_trx_commit` 0 or 2 the server may take a second
/// (`facts/mariadb-hot-backup#end-lsn`). If the account `may_flush`, the server is told to flush at once.
pub(super) fn durable(session: &mut Session, end_lsn: Lsn, may_flush: bool) -> Result<()> {
    if may_flush {
        session.run("FLUSH NO_WRITE_TO_BINLOG ENGINE LOGS")?;
    }
    let begun = Instant::now();
    while Lsn::new(session.status("Innodb_lsn_flushed")?) < end_lsn {
        if begun.elapsed() > DURABLE {
            let what = format!("the log is not durable up to lsn {end_lsn} after {} s", DURABLE.as_secs());
            return Err(Error::failed("server", what).hint("look at innodb_flush_log_at_timeout"));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Sends the chunks of the spool.
pub(super) fn drain(mut spool: Spool, out: &Writer<File>) -> Result<()> {
    let mut buffer = vec![0; crate::io::BUFFER];
    loop {
        match spool.pull(&mut buffer)? {
            0 => return Ok(()),
            count => out.put(buffer.part(..count)?, &[])?,
        }
    }
}

fn uuid(id: &str) -> String {
    let part = |from: usize, to: usize| id.get(from..to).unwrap_or_default();
    [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
}
