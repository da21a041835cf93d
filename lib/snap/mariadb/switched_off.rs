//! A MariaDB server whose InnoDB is switched off (`skip_innodb`). InnoDB's files, if any, are copied as those of a
//! stopped server, because no server writes them. If there are none, the backup has no redo log either.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::{ARIA_CONTROL, stopped};
use crate::error::{Error, Result};
use crate::innodb::ids::Lsn;
use crate::innodb::redo::mariadb::FILE;
use crate::io::cache::Policy;
use crate::report::{Level, Report};
use crate::server::Variables;
use crate::server::files::{self, Layout, SYSTEM_DATABASE};
use crate::snap::catalog::Catalog;
use crate::snap::fileset;
use crate::snap::filter::Filter;
use crate::snap::open::system_space;
use crate::snap::steps::{Found, readable};
use crate::snap::stopped::Log;

/// How many bytes of a `.frm` are read.
const FRM: usize = 64;
/// The first bytes of the `.frm` of a table; that of a view is text.
const FRM_MAGIC: [u8; 2] = [0xfe, 0x01];
/// The number of InnoDB, in the bytes of a `.frm` that name the engine of a table and of its partitions. Source:
/// `handler.h` (`legacy_db_type`), `table.cc` (`init_from_binary_frm_image`).
const INNODB: u8 = 12;
const ENGINE: usize = 3;
const PARTITION_ENGINE: usize = 61;
/// Offset of the version of the server that wrote a `.frm`: 101119 for 10.11.19.
const VERSION: usize = 51;

/// InnoDB of such a server.
#[derive(Debug)]
pub(in crate::snap) struct SwitchedOff {
    /// Where its files are. Without a system tablespace there are none.
    pub(super) layout: Layout,
    /// Its log before the copy.
    log: Option<Log>,
}

impl SwitchedOff {
    /// Looks for its files, and adds the variables that such a server does not report.
    pub(in crate::snap) fn find(variables: &mut Variables, policy: Policy, report: &dyn Report) -> Result<Self> {
        let layout = files(Layout::of(variables)?, variables)?;
        let Some(first) = layout.system.first() else {
            report.note(Level::Info, format_args!("server: InnoDB is switched off, and has no files"));
            return Ok(SwitchedOff { layout, log: None });
        };
        readable(&layout)?;
        let log = stopped::log(&layout.redo)?;
        if !log.clean {
            let what = "InnoDB is switched off, and was not shut down cleanly before";
            return Err(Error::failed("server", what)
                .hint("let the server start and stop with InnoDB once, so that it can recover"));
        }
        let (space, _) = system_space(first, policy)?;
        variables.set("innodb_page_size", space.page_size.to_string());
        variables.set("innodb_undo_tablespaces", super::undo(&layout)?.len().to_string());
        let what = "InnoDB is switched off; its files are copied as those of a stopped server";
        report.note(Level::Info, format_args!("server: {what}"));
        Ok(SwitchedOff { layout, log: Some(log) })
    }

    /// Lists what is to be copied.
    pub(super) fn look(&self, filter: &Filter) -> Result<Found> {
        let found = stopped::found(&self.layout, filter)?;
        fileset::distinct(&found, &self.layout)?;
        Ok(found)
    }

    /// The end LSN.
    pub(super) fn end_lsn(&self) -> Lsn {
        self.log.as_ref().map_or(Lsn::ZERO, |log| log.end_lsn)
    }

    /// Fails if its files were changed while they were copied.
    pub(super) fn unchanged(&self, catalog: &Catalog) -> Result<()> {
        let log = self.log.as_ref().map(|_| stopped::log(&self.layout.redo)).transpose()?;
        if log == self.log && catalog.missed().is_none() && is_same(&self.layout)? {
            return Ok(());
        }
        let what = "the files of InnoDB, which is switched off, were changed while they were copied";
        Err(Error::invalid(self.layout.datadir.display(), what).hint("run it again"))
    }
}

/// True if there are still InnoDB files, or still none.
fn is_same(layout: &Layout) -> Result<bool> {
    Ok(!layout.system.is_empty() || first(&layout.datadir)?.is_none())
}

/// The layout, without a system tablespace if the data directory of a server has no InnoDB file. It is an error if some
/// of the files exist and others do not.
pub(super) fn files(layout: Layout, variables: &mut Variables) -> Result<Layout> {
    if is_there(&layout)? {
        return Ok(layout);
    }
    // Not a data directory at all: leave the layout as it is.
    let control = variables.dir("aria_log_dir_path").join(ARIA_CONTROL);
    if files::seen(&control)?.is_none() || !layout.datadir.join(SYSTEM_DATABASE).is_dir() {
        return Ok(layout);
    }
    if let Some(path) = first(&layout.datadir)? {
        let system = layout.system.first().map(|path| path.display().to_string()).unwrap_or_default();
        let what = format!("is a table of InnoDB, and there is no system tablespace {system}");
        return Err(Error::failed(path.display(), what)
            .hint("innodb_data_home_dir, innodb_data_file_path and innodb_log_group_home_dir in an option file say where it is"));
    }
    variables.set("innodb_data_file_path", String::new());
    Ok(Layout { system: Vec::new(), ..layout })
}

/// True if there is an InnoDB file other than a table.
fn is_there(layout: &Layout) -> Result<bool> {
    for path in layout.system.iter().chain([&layout.redo.join(FILE)]) {
        if files::seen(path)?.is_some() {
            return Ok(true);
        }
    }
    Ok(!files::of_database(&layout.undo, files::is_undo)?.is_empty())
}

/// A `.frm` that names a table of InnoDB.
fn first(datadir: &Path) -> Result<Option<PathBuf>> {
    for database in files::databases(datadir)? {
        let dir = datadir.join(&database);
        for name in
            files::of_database(&dir, |name| [&b".ibd"[..], b".isl", b".frm"].iter().any(|end| name.ends_with(end)))?
        {
            let path = files::path_of(&dir, &name);
            if !name.ends_with(b".frm") || frm(&path)?.is_some_and(|frm| is_innodb(&frm)) {
                return Ok(Some(path));
            }
        }
    }
    Ok(None)
}

/// The first bytes of a table's `.frm`; `None` if it is that of a view, or no longer exists.
fn frm(path: &Path) -> Result<Option<[u8; FRM]>> {
    let mut bytes = [0; FRM];
    match File::open(path).and_then(|mut file| file.read_exact(&mut bytes)) {
        Ok(()) => Ok(Some(bytes).filter(|bytes| bytes.starts_with(&FRM_MAGIC))),
        Err(cause) if matches!(cause.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::UnexpectedEof) => {
            Ok(None)
        }
        Err(cause) => Err(Error::io(path.display(), "cannot read", &cause)),
    }
}

fn is_innodb(frm: &[u8; FRM]) -> bool {
    [ENGINE, PARTITION_ENGINE].iter().any(|at| frm.get(*at) == Some(&INNODB))
}

/// The version of the newest server that created a system table. Without a redo log nothing else tells the version.
pub(super) fn version(datadir: &Path) -> Result<String> {
    let dir = datadir.join(SYSTEM_DATABASE);
    let mut newest = 0;
    for name in files::of_database(&dir, |name| name.ends_with(b".frm"))? {
        let written = frm(&files::path_of(&dir, &name))?.and_then(|frm| frm.get(VERSION..)?.first_chunk().copied());
        newest = newest.max(written.map_or(0, u32::from_le_bytes));
    }
    match newest {
        0 => Err(Error::failed(dir.display(), "has no table that says which server made it")),
        version => Ok(format!("{}.{}.{}-MariaDB", version / 10_000, version / 100 % 100, version % 100)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(engine: u8, partitions: u8) -> Vec<u8> {
        let mut frm = vec![0; 100];
        frm[..2].copy_from_slice(&FRM_MAGIC);
        frm[ENGINE] = engine;
        frm[PARTITION_ENGINE] = partitions;
        frm[VERSION..VERSION + 4].copy_from_slice(&101_119u32.to_le_bytes());
        frm
    }

    #[test]
    fn a_table_of_innodb_without_its_files_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("mysql")).unwrap();
        let mut variables: Variables = [("datadir".to_owned(), dir.path().display().to_string())].into_iter().collect();
        variables.set("innodb_data_file_path", "ibdata1:12M".into());
        let ask = || files(Layout::of(&variables.clone()).unwrap(), &mut variables.clone()).map(|found| found.system);
        assert_eq!(ask().unwrap(), [at("ibdata1")], "no data directory at all");
        std::fs::write(at(ARIA_CONTROL), "control").unwrap();
        std::fs::write(at("mysql/user.frm"), "TYPE=VIEW\n").unwrap();
        std::fs::write(at("mysql/db.frm"), table(42, 0)).unwrap();
        assert!(ask().unwrap().is_empty());
        assert_eq!(version(dir.path()).unwrap(), "10.11.19-MariaDB");
        for frm in [table(INNODB, 0), table(20, INNODB)] {
            std::fs::write(at("mysql/t.frm"), frm).unwrap();
            let error = ask().unwrap_err().to_string();
            assert!(error.contains("mysql/t.frm: is a table of InnoDB, and there is no system tablespace"), "{error}");
        }
        std::fs::write(at("ib_logfile0"), "log").unwrap();
        assert_eq!(ask().unwrap(), [at("ibdata1")]);
    }
}
