//! `xb-snap | xb-redo`: passes a stream on and adds the redo log that the server writes meanwhile.
//!
//! One thread moves the stream; once `xb_begin` has arrived, another one follows the log. The first to fail ends the
//! program at once, even if the other is blocked in a read or write: a backup that can no longer become valid must not
//! continue for hours.

mod log_member;
mod manifest_buffer;
mod pace;
mod relay;
mod tablespaces;
mod unlogged;

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender};

use self::log_member::LogMember;
use self::manifest_buffer::ManifestBuffer;
use self::pace::Pace;
use self::relay::Relay;
use crate::budget::Budget;
use crate::error::{Error, Result};
use crate::innodb::ids::Lsn;
use crate::io::spool::Spool;
use crate::log::follow;
use crate::log::queue::{FollowStats, Queue};
use crate::report::{Level, Report};
use crate::stream::{Members, Pass, Writer};

/// How often progress is reported.
const TICK: Duration = Duration::from_millis(200);

/// Options of the filter.
#[derive(Clone, Debug)]
pub struct Options {
    /// The directory of the log, if it is not where the stream says.
    pub datadir: Option<PathBuf>,
    /// The server's keys, if its log is encrypted: the file of MySQL's `component_keyring_file`.
    pub keyring: Option<PathBuf>,
    /// Directory for an unlinked file with log and manifest that cannot be sent yet.
    pub spool_dir: PathBuf,
    /// How many bytes are kept in memory before that file is used.
    pub spool_memory: u64,
    /// How many bytes are kept in all, at most.
    pub spool_limit: u64,
    /// Memory for names, open members and the tablespaces of the manifest.
    pub budget: Budget,
}

/// The result of a thread.
enum End {
    Followed,
    Streamed(relay::Summary),
}

/// Passes the stream `input` on to `output` and adds the redo log, which ends exactly at the end LSN in the manifest.
///
/// # Errors
///
/// - Damaged: the stream is damaged or truncated, or did not come directly from xb-snap.
/// - Invalid: the server has overwritten log that was not captured, or the log shows that the backup is not consistent.
/// - Key: the keyring does not have the key of the log.
/// - Pipe: the reader of `output` ended.
/// - Failed: all else, such as a log that cannot be read.
///
/// After an error `output` has no manifest, so every reader reports the stream as truncated. A thread may still be
/// blocked on `input` or `output`; the caller must end the process.
pub fn run(options: &Options, input: File, output: File, report: &dyn Report) -> Result<()> {
    Spool::check(&options.spool_dir)?;
    let sink = output.try_clone().map_err(|cause| Error::io("stdout", "cannot use", &cause))?;
    let (mut pass, writer) = (Pass::new(input, "stdin", output), Writer::new(sink));
    let (begin, begun) = relay::begin(&mut pass)?;
    let members = Members::within(&options.budget, 0);
    if begin.without_innodb {
        report.expect(begin.estimated_bytes);
        unlogged::run(pass, &writer, begun, members, report)?;
        report.note(Level::Info, format_args!("stdin: the server has no InnoDB, so no redo log; completed OK!"));
        return Ok(());
    }
    let (follower, format) = follow::open(&begin, options.datadir.as_deref(), options.keyring.as_deref(), report)?;
    let (name, start) = (format.name(), format.checkpoint());
    report.expect(begin.estimated_bytes);
    report.note(Level::Detail, format_args!("{name}: following from lsn {start}"));

    let memory = usize::try_from(options.spool_memory).unwrap_or(usize::MAX);
    let spool = Spool::new(memory, &options.spool_dir, options.spool_limit);
    let queue = Arc::new(Queue::new(spool, format.first()));
    let moved = Arc::new(AtomicU64::new(0));
    let log_member = LogMember::new(format);
    let manifest = ManifestBuffer::new(&options.spool_dir, &options.budget);
    let relay =
        Relay { pass, writer, log_member, manifest, members, queue: queue.clone(), moved: moved.clone(), credit: 0 };
    let (tell, told) = crossbeam_channel::bounded(2);
    let captured = queue.clone();
    spawn("follower", &queue, tell.clone(), move || follow::run(follower, &captured).map(|()| End::Followed))?;
    spawn("stream", &queue, tell, move || relay.run(begun).map(End::Streamed))?;

    let mut pace = Pace::new(&queue);
    loop {
        let end = told.recv_timeout(TICK);
        let passed = moved.swap(0, Relaxed);
        report.advance(passed);
        if let Some(warning) = pace.look(passed, &queue) {
            report.note(Level::Warning, format_args!("{name}: {warning}"));
        }
        match end {
            Ok(Ok(End::Streamed(summary))) => {
                say(report, name, start, &summary, &queue);
                return Ok(());
            }
            Ok(Err(error)) => return Err(error),
            Ok(Ok(End::Followed)) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(Error::internal("a thread was lost")),
        }
    }
}

/// Runs `work` in a thread that reports its result, even if it panics.
fn spawn(
    name: &str,
    queue: &Arc<Queue>,
    tell: Sender<Result<End>>,
    work: impl FnOnce() -> Result<End> + Send + 'static,
) -> Result<()> {
    let queue = queue.clone();
    let body = move || {
        let end = catch_unwind(AssertUnwindSafe(work));
        let end = end.unwrap_or_else(|_| Err(Error::internal("a thread panicked")));
        let failed = end.is_err();
        // Report the cause before the other thread fails because of it.
        let _ = tell.send(end);
        if failed {
            queue.close();
        }
    };
    let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(body);
    spawned.map(drop).map_err(|cause| Error::io("xb-redo", "cannot start a thread", &cause))
}

/// Reports what an operator needs to choose the size of the log.
fn say(report: &dyn Report, name: &str, start: Lsn, summary: &relay::Summary, queue: &Queue) {
    let relay::Summary { end, stats } = summary;
    let FollowStats { spare, capacity, resized, .. } = stats;
    let bytes = end.since(start);
    report.facts(serde_json::json!({
        "start_lsn": start,
        "end_lsn": end,
        "log_bytes": bytes,
        "log_capacity": capacity,
        "spare_bytes": spare,
        "most_waiting_bytes": queue.peak(),
    }));
    report.note(Level::Info, format_args!("{name}: from lsn {start} to lsn {end}, {bytes} bytes"));
    let share = u128::from(*spare) * 100 / u128::from((*capacity).max(1));
    let replaced = if *resized > 0 { format!(", which was replaced {resized} times") } else { String::new() };
    report.note(
        Level::Info,
        format_args!(
            "redo log of {capacity} bytes: wrapped {} times{replaced}; at least {spare} bytes ({share} %) were left before \
             an overrun; at most {} bytes waited to be sent; completed OK!",
            bytes / (*capacity).max(1),
            queue.peak(),
        ),
    );
}
