//! `xb-redo --copy-back`: an applied backup goes into an empty data directory.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::clone;
use super::directory::{Directory, Progress};
use super::files::{self, Item, fail};
use super::state::{State, Step};
use crate::error::{Error, Result};
use crate::io::copy;
use crate::names::INCOMPLETE;
use crate::report::{Level, Report};

const COPYING: &str = "xb-redo --copy-back";
/// Files at the root that mariadb-backup and xtrabackup do not copy back either (spec section 16); both generations of
/// names.
const METADATA: [&str; 7] = [
    "backup-my.cnf",
    "xtrabackup_binary",
    "xtrabackup_binlog_info",
    "xtrabackup_checkpoints",
    "xtrabackup_tablespaces",
    "mariadb_backup_binlog_info",
    "mariadb_backup_checkpoints",
];

/// How to copy back.
#[derive(Clone, Debug)]
pub struct Options {
    /// The applied backup.
    pub dir: PathBuf,
    /// The data directory, empty or new.
    pub datadir: PathBuf,
    /// Take the files away from the backup instead of copying them.
    pub take: bool,
    /// `USER[:GROUP]`, names or numbers; otherwise the data directory's own.
    pub owner: Option<String>,
    /// Threads that copy.
    pub threads: usize,
}

/// Copies or moves the files of an applied backup.
pub fn run(options: &Options, report: &dyn Report) -> Result<()> {
    let directory = Directory::read(&options.dir)?;
    if !(options.take && goes_on(&directory, &options.datadir)?) {
        let applied = directory.progress == Progress::Applied;
        directory.check()?;
        if !applied {
            return Err(Error::failed(options.dir.display(), "is not applied yet: no server would start on it")
                .hint(format_args!("xb-redo --apply {}", options.dir.display())));
        }
    }
    clone::claim(&options.datadir, COPYING, &directory)?;
    let owner = owner(options)?;
    let items: Vec<Item> = files::list(&options.dir)?.into_iter().filter(|item| !is_metadata(item)).collect();
    report.stage(if options.take { "moving" } else { "copying" });
    report.expect(items.iter().map(|item| item.size).sum());
    if options.take {
        take(&directory, options, &items, owner, report)?;
    } else {
        clone::tree(&options.dir, &options.datadir, &items, owner, options.threads, report)?;
    }
    files::sync(&options.datadir)?;
    if options.take {
        note(&directory, Step::Moved, &options.datadir)?;
    }
    files::remove(&options.datadir.join(INCOMPLETE))?;
    let bytes: u64 = items.iter().map(|item| item.size).sum();
    let count = items.iter().filter(|item| !item.is_dir).count();
    report.note(
        Level::Info,
        format_args!("{}: {count} files, {bytes} bytes; a server can be started on it", options.datadir.display()),
    );
    needs(&directory, report);
    Ok(())
}

/// True if the files are on their way into this data directory. It is still marked then; only what an earlier run has put
/// there and what it has left together are a backup.
fn goes_on(directory: &Directory, datadir: &Path) -> Result<bool> {
    let Some(state) = directory.state.as_ref().filter(|state| matches!(state.step, Step::Moving | Step::Moved)) else {
        return Ok(false);
    };
    let same =
        datadir.canonicalize().is_ok_and(|datadir| state.datadir.as_deref() == Some(&*datadir.to_string_lossy()));
    let marker = datadir.join(INCOMPLETE);
    Ok(same && marker.try_exists().map_err(|cause| fail(&marker, "cannot read", &cause))?)
}

/// Notes in the backup how far it has been moved, and where. One that another program has applied has no note before.
fn note(directory: &Directory, step: Step, datadir: &Path) -> Result<()> {
    let datadir = datadir.canonicalize().map_err(|cause| fail(datadir, "cannot open", &cause))?;
    let state = directory.state.clone().unwrap_or_else(|| {
        State::new(step, directory.id(), directory.start_lsn.unwrap_or_default(), directory.end_lsn.unwrap_or_default())
    });
    State { step, datadir: Some(datadir.to_string_lossy().into_owned()), ..state }.write(&directory.path)
}

/// Renames where it can. The directory is no backup any more as soon as this begins, and says so.
fn take(
    directory: &Directory,
    options: &Options,
    items: &[Item],
    owner: Option<(u32, u32)>,
    report: &dyn Report,
) -> Result<()> {
    note(directory, Step::Moving, &options.datadir)?;
    for item in items.iter().filter(|item| item.is_dir) {
        clone::directory(&options.dir.join(&item.path), &options.datadir.join(&item.path), owner)?;
    }
    let files: Vec<&Item> = items.iter().filter(|item| !item.is_dir).collect();
    files::each(&files, options.threads, |item| {
        let (from, to) = (options.dir.join(&item.path), options.datadir.join(&item.path));
        match fs::rename(&from, &to) {
            Ok(()) => files::give(&to, owner)?,
            Err(cause) if cause.kind() == io::ErrorKind::CrossesDevices => {
                copy::file(&from, &to)?;
                files::give(&to, owner)?;
                let synced = fs::File::open(&to).and_then(|file| file.sync_all());
                synced.map_err(|cause| fail(&to, "cannot sync", &cause))?;
                files::remove(&from)?;
            }
            Err(cause) => return Err(fail(&from, "cannot move", &cause)),
        }
        report.advance(item.size);
        Ok(())
    })
}

fn is_metadata(item: &Item) -> bool {
    let path = &item.path;
    let name = path.as_os_str().as_bytes();
    files::is_own(item)
        || !item.is_dir && METADATA.iter().any(|known| name == known.as_bytes())
        || path.extension().is_some_and(|suffix| suffix == "qp" || suffix == "pmap")
        || path == Path::new("lost+found")
}

/// Options without which the server refuses the files, or takes them for something else.
fn needs(directory: &Directory, report: &dyn Report) {
    for (key, usual) in [("innodb_page_size", "16384"), ("innodb_data_file_path", "ibdata1:12M:autoextend")] {
        if let Some(value) = directory.options.get(key).filter(|value| *value != usual && !value.is_empty()) {
            report.note(Level::Info, format_args!("the server needs {key}={value}"));
        }
    }
}

/// Who will own the files: as asked, or whoever owns the data directory. Without root files are ours in any case.
fn owner(options: &Options) -> Result<Option<(u32, u32)>> {
    let data = fs::metadata(&options.datadir).map_err(|cause| fail(&options.datadir, "cannot read", &cause))?;
    let Some(text) = &options.owner else {
        return Ok(rustix::process::geteuid().is_root().then_some((data.uid(), data.gid())));
    };
    let (user, group) = text.split_once(':').map_or((text.as_str(), None), |(user, group)| (user, Some(group)));
    let unknown = |what: &str| Error::usage("--owner", format_args!("there is no {what} of this name: {text}"));
    let entry = account("/etc/passwd", user);
    let uid = entry.as_ref().map(|(id, _)| *id).or_else(|| user.parse().ok()).ok_or_else(|| unknown("user"))?;
    let gid = match group.filter(|group| !group.is_empty()) {
        Some(group) => account("/etc/group", group)
            .map(|(id, _)| id)
            .or_else(|| group.parse().ok())
            .ok_or_else(|| unknown("group"))?,
        None => entry.map_or(data.gid(), |(_, group)| group),
    };
    Ok(Some((uid, gid)))
}

/// Number and fourth field (a user's group) of an account. Accounts that are not in these files are given as numbers.
fn account(file: &str, name: &str) -> Option<(u32, u32)> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (known, id) = (fields.next()?, fields.nth(1)?.parse().ok()?);
        (known == name).then(|| (id, fields.next().and_then(|group| group.parse().ok()).unwrap_or(id)))
    })
}
