//! Where a copy may begin: at a checkpoint after which no existing tablespace was imported. A server that recovers
//! skips all log records of a tablespace whose file was deleted (`facts/mariadb-hot-backup#deleted-files`).

use std::collections::HashSet;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bstr::ByteSlice;

use super::start::Start;
use crate::error::{Error, Kind, Result};
use crate::innodb::ids::{Lsn, SpaceId};
use crate::innodb::space;
use crate::log::ddl_watch::mariadb;
use crate::server::Refusal;
use crate::server::dictionary::Dictionary;
use crate::server::files::{Identity, Layout};
use crate::server::{Login, Session};
use crate::snap::catalog::{Catalog, Table};
use crate::snap::copy::Listed;
use crate::snap::filter::Filter;
use crate::snap::running::Hot;
use crate::stream::native::Redo;

/// How long to wait for a newer checkpoint that the server has been asked for.
const ASKED: Duration = Duration::from_secs(60);
/// The same if the server refused: it may make a checkpoint by itself.
const REFUSED: Duration = Duration::from_secs(5);
/// How often the log is checked for it.
const PAUSE: Duration = Duration::from_millis(200);

/// Reads the checkpoint LSN, then lists the tables. If one was imported since the checkpoint LSN, waits for a newer
/// checkpoint. If the log is encrypted, also records the files, because the log does not tell enough of what is done to
/// them later.
pub(super) fn look(
    session: &mut Session,
    layout: &Layout,
    filter: &Filter,
    hot: &Hot<'_>,
) -> Result<(Redo, Catalog, Option<Listed>)> {
    let begun = Instant::now();
    let mut asked = None;
    loop {
        let start = Start::read(&layout.redo)?;
        let dictionary = Dictionary::of_mariadb(session, &layout.datadir)?;
        let catalog = Catalog::list(&layout.datadir, filter, Some(dictionary))?;
        let listed = start.header().encrypted().then(|| list(session, layout, &catalog)).transpose()?;
        let patience = asked.as_ref().map_or(ASKED, Checkpoint::patience);
        match unimported(session, layout, &start, &catalog) {
            // A table was imported, or the log was overwritten while it was read.
            Err(error) if error.kind() == Kind::Invalid && begun.elapsed() < patience => {}
            done => return done.map(|()| (start.redo(), catalog, listed)),
        }
        if asked.is_none() {
            hot.report.stage("waiting for a checkpoint");
            asked = Some(Checkpoint::ask(hot.login)?);
        }
        std::thread::sleep(PAUSE);
    }
}

/// A checkpoint that the server has been asked for. The statement needs a privilege that a backup does not need
/// otherwise. The job does not wait for its end: the server continues until it has written all pages at one moment,
/// which takes hours under load, and KILL does not end it (`facts/mariadb-hot-backup#deleted-files`). So it has a
/// session that holds no lock.
struct Checkpoint(JoinHandle<Result<(), Refusal>>);

impl Checkpoint {
    fn ask(login: &Login) -> Result<Self> {
        let mut session = login.connect()?;
        let ask = move || session.run("SET GLOBAL innodb_log_checkpoint_now=ON");
        let thread = std::thread::Builder::new().name("checkpoint".to_owned()).spawn(ask);
        Ok(Checkpoint(thread.map_err(|cause| Error::io("checkpoint", "cannot start a thread", &cause))?))
    }

    /// How long to wait for it. The thread has ended if the server has done the checkpoint, or refused it.
    fn patience(&self) -> Duration {
        if self.0.is_finished() { REFUSED } else { ASKED }
    }
}

/// Which files exist, and an LSN that the log had not reached before.
fn list(session: &mut Session, layout: &Layout, catalog: &Catalog) -> Result<Listed> {
    let mut files = HashSet::new();
    for table in catalog.tables() {
        let path = table.path(&layout.datadir);
        match std::fs::metadata(&path) {
            Ok(meta) => files.extend(Some(Identity::of(&meta)).filter(Identity::is_unique)),
            Err(cause) if cause.kind() == ErrorKind::NotFound => {}
            Err(cause) => return Err(Error::io(path.display(), "cannot look at", &cause)),
        }
    }
    Ok(Listed { lsn: Lsn::new(session.status("Innodb_lsn_current")?), files })
}

/// Fails if one of the tables was imported.
fn unimported(session: &mut Session, layout: &Layout, start: &Start, catalog: &Catalog) -> Result<()> {
    let now = Lsn::new(session.status("Innodb_lsn_flushed")?).max(start.checkpoint.end_lsn);
    let deletions = mariadb::between(&layout.redo, start.checkpoint, now)?;
    if deletions.is_empty() {
        return Ok(());
    }
    for table in catalog.tables() {
        let Some(space) = number(&table.path(&layout.datadir))? else { continue };
        if let Some(lsn) = deletions.of(space, opened(table, &layout.datadir), now) {
            return Err(mariadb::imported(table.name.as_bstr(), space, lsn, &deletions));
        }
    }
    Ok(())
}

/// Length in bytes of the name by which the server opens it.
fn opened(table: &Table, datadir: &Path) -> usize {
    match table.is_external() {
        true => table.path(datadir).as_os_str().len(),
        false => "./".len() + table.name.len(),
    }
}

/// The tablespace's id; `None` if the file no longer exists, or its page 0 is not initialized.
fn number(path: &Path) -> Result<Option<SpaceId>> {
    let mut head = [0; 64];
    match File::open(path).and_then(|file| file.read_exact_at(&mut head, 0)) {
        Err(cause) if matches!(cause.kind(), ErrorKind::NotFound | ErrorKind::UnexpectedEof) => Ok(None),
        Err(cause) => Err(Error::io(path.display(), "cannot read", &cause)),
        Ok(()) => Ok(Some(space::id(&head)).filter(|space| *space != SpaceId::SYSTEM)),
    }
}
