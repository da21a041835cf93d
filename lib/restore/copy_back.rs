//! `xb-redo --copy-back`: copies an applied backup into an empty data directory.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::backup::{Backup, Progress};
use super::destinations::{Destinations, Settings, apart};
use super::files::{self, Item, fail};
use super::state::{State, Step};
use super::{apply, clone};
use crate::error::{Error, Result};
use crate::io::{accounts, copy};
use crate::report::{Level, Report};
use crate::server::options::Sources;
use crate::stream::native::names::INCOMPLETE;

const COPYING: &str = "xb-redo --copy-back";
/// Files at the root that mariadb-backup and xtrabackup do not copy back either
/// (`facts/mariadb-hot-backup#stock-prepare`), with both generations of names.
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
    /// The data directory, empty or new; by default that of the option file.
    pub datadir: Option<PathBuf>,
    /// The option file of the server that will run on it.
    pub defaults_file: Option<PathBuf>,
    /// Read groups of the option file with this suffix, too.
    pub group_suffix: Option<String>,
    /// Options for file locations; they override the option file.
    pub server_options: BTreeMap<String, String>,
    /// Directories outside the data directory to which tables with DATA DIRECTORY may return.
    pub directories: Vec<PathBuf>,
    /// Accept a data directory with other files, and keep them.
    pub keep: bool,
    /// Move the files instead of copying them.
    pub take: bool,
    /// `USER[:GROUP]`, names or numbers; by default the owner of the data directory.
    pub owner: Option<String>,
    /// Number of threads that copy.
    pub threads: usize,
}

/// Copies or moves the files of an applied backup.
///
/// # Errors
///
/// - Usage: no data directory, unknown owner, or a directory inside of the other.
/// - Damaged: the backup is incomplete, or has changed since it was applied.
/// - Failed: it is not applied, the data directory is not empty, or files cannot be written.
///
/// Until all files are copied, the data directory has a marker, `xb_incomplete`, and another run with the same backup
/// continues there. With `take`, the backup records the move as soon as it begins.
pub fn run(options: &Options, report: &dyn Report) -> Result<()> {
    let mut backup = Backup::read(&options.dir)?;
    if backup.waiting.is_some() {
        apply::run(&apply::Options::usual(&options.dir, options.threads), report)?;
        backup = Backup::read(&options.dir)?;
    }
    let mut places = places(options, &backup, report)?;
    if !(options.take && goes_on(&backup, &places.datadir)?) {
        let applied = backup.progress == Progress::Applied;
        backup.check()?;
        if !applied {
            return Err(Error::failed(options.dir.display(), "is not applied yet: no server would start on it")
                .hint(format_args!("xb-redo --apply {}", options.dir.display())));
        }
    }
    let items: Vec<Item> = files::list(&options.dir)?.into_iter().filter(|item| !is_metadata(item)).collect();
    let stay = places.send_back(&options.directories, &backup, &items);
    let datadir = places.datadir.as_path();
    // What else is in those directories stays, so the backup may be below them.
    places.outside().into_iter().try_for_each(|dir| apart(&options.dir, dir, true))?;
    let again = datadir.join(INCOMPLETE).exists();
    if let Some((_, path)) = places.occupied(&items, options.keep).filter(|_| !again) {
        return Err(Error::failed(path.display(), "is there already, where a file of the backup is to be")
            .hint("move it away; nothing was written"));
    }
    let account = options.owner.as_deref().map(Account::find).transpose()?;
    clone::claim(datadir, COPYING, &backup, options.keep)?;
    let owner = owner(account, datadir)?;
    for dir in places.outside() {
        make(dir, owner)?;
    }
    report.stage(if options.take { "moving" } else { "copying" });
    report.expect(items.iter().map(|item| item.size).sum());
    if options.take {
        take(&backup, options, &places, &items, owner, report)?;
    } else {
        clone::tree(&options.dir, &|path| places.of(path), &items, owner, options.threads, report)?;
    }
    for (link, place) in places.links() {
        fs::write(&link, place.as_os_str().as_bytes()).map_err(|cause| fail(&link, "cannot write", &cause))?;
        files::give(&link, owner)?;
    }
    for dir in places.outside() {
        files::sync(dir)?;
    }
    files::sync(datadir)?;
    if options.take {
        note(&backup, Step::Moved, datadir)?;
    }
    // The owner's server cannot enter before this.
    give_directory(datadir, owner)?;
    files::remove(&datadir.join(INCOMPLETE))?;
    let bytes: u64 = items.iter().map(|item| item.size).sum();
    let count = items.iter().filter(|item| !item.is_dir).count();
    report.facts(serde_json::json!({
        "directory": datadir.display().to_string(),
        "backup_id": backup.id(),
        "files": count,
        "data_bytes": bytes,
    }));
    report.note(
        Level::Info,
        format_args!("{}: {count} files, {bytes} bytes; a server can be started on it", datadir.display()),
    );
    if backup.state.as_ref().is_some_and(|state| state.forced) {
        let what = "was recovered over damaged pages (--force-recovery), and rows may be missing: dump the tables, and load \
            them into a new server";
        report.note(Level::Warning, format_args!("{}: {what}", datadir.display()));
    }
    if owner.is_some_and(|(user, _)| user == 0) {
        let what = "belongs to root now, and servers do not run as root; --owner changes it";
        report.note(Level::Warning, format_args!("{}: {what}", datadir.display()));
    }
    for (table, place) in &stay {
        let what = format_args!(
            "{}: is in the data directory; it was at {} (DATA DIRECTORY), where --innodb-directories puts it back",
            table.display(),
            place.display()
        );
        report.note(Level::Info, what);
    }
    needs(&backup, options, report);
    Ok(())
}

fn places(options: &Options, backup: &Backup, report: &dyn Report) -> Result<Destinations> {
    let Options { datadir, defaults_file, server_options, .. } = options;
    match (defaults_file, datadir) {
        (None, Some(datadir)) if server_options.is_empty() => Ok(Destinations::plain(datadir, backup.family)),
        (None, None) => Err(Error::usage("--copy-back", "no data directory is given")
            .hint("--datadir DIR, or --defaults-file FILE of the server")),
        (file, datadir) => {
            let sources = Sources {
                file: file.clone(),
                none: file.is_none(),
                suffix: options.group_suffix.clone(),
                ..Sources::default()
            };
            let settings = Settings::read(&sources, server_options, report)?;
            Destinations::read(&settings, datadir.as_deref(), backup)
        }
    }
}

/// Creates a directory that the option file names. An existing one is left unchanged, unless it is root's and empty.
fn make(dir: &Path, owner: Option<(u32, u32)>) -> Result<()> {
    if !dir.exists() {
        fs::create_dir_all(dir).map_err(|cause| fail(dir, "cannot create", &cause))?;
        return give_directory(dir, owner);
    }
    let facts = fs::metadata(dir).map_err(|cause| fail(dir, "cannot read", &cause))?;
    let mut entries = fs::read_dir(dir).map_err(|cause| fail(dir, "cannot list", &cause))?;
    if facts.uid() == 0 && entries.next().is_none() { files::give(dir, owner) } else { Ok(()) }
}

/// Gives a directory to the server's account and closes it to others.
fn give_directory(dir: &Path, owner: Option<(u32, u32)>) -> Result<()> {
    let mode = fs::metadata(dir).map_err(|cause| fail(dir, "cannot read", &cause))?.mode();
    let tight = fs::Permissions::from_mode(mode & 0o050 | 0o700);
    fs::set_permissions(dir, tight).map_err(|cause| fail(dir, "cannot set the mode", &cause))?;
    files::give(dir, owner)
}

/// True if the files are being moved into this data directory. It has its marker until the end; only the files already
/// moved and those still in the backup together are a complete backup.
fn goes_on(backup: &Backup, datadir: &Path) -> Result<bool> {
    let Some(state) = backup.state.as_ref().filter(|state| matches!(state.step, Step::Moving | Step::Moved)) else {
        return Ok(false);
    };
    let same =
        datadir.canonicalize().is_ok_and(|datadir| state.datadir.as_deref() == Some(&*datadir.to_string_lossy()));
    let marker = datadir.join(INCOMPLETE);
    Ok(same && marker.try_exists().map_err(|cause| fail(&marker, "cannot read", &cause))?)
}

/// Records in the backup how far it has been moved, and to where. A backup that another program applied has no state
/// file before.
fn note(backup: &Backup, step: Step, datadir: &Path) -> Result<()> {
    let datadir = datadir.canonicalize().map_err(|cause| fail(datadir, "cannot open", &cause))?;
    let state = backup.state.clone().unwrap_or_else(|| {
        let (start, end) = (backup.start_lsn.unwrap_or_default(), backup.end_lsn.unwrap_or_default());
        State { without_log: backup.without_innodb(), ..State::new(step, backup.id(), start, end) }
    });
    State { step, datadir: Some(datadir.to_string_lossy().into_owned()), ..state }.write(&backup.path)
}

/// Renames files where possible. From the beginning the directory is not a backup any more, and its state says so.
fn take(
    backup: &Backup,
    options: &Options,
    places: &Destinations,
    items: &[Item],
    owner: Option<(u32, u32)>,
    report: &dyn Report,
) -> Result<()> {
    note(backup, Step::Moving, &places.datadir)?;
    for item in items.iter().filter(|item| item.is_dir) {
        clone::directory(&options.dir.join(&item.path), &places.of(&item.path), owner)?;
    }
    let files: Vec<&Item> = items.iter().filter(|item| !item.is_dir).collect();
    files::each(&files, options.threads, |item| {
        let (from, to) = (options.dir.join(&item.path), places.of(&item.path));
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

/// Prints the options without which the server refuses or misreads the files.
fn needs(backup: &Backup, options: &Options, report: &dyn Report) {
    for (key, usual) in [("innodb_page_size", "16384"), ("innodb_data_file_path", "ibdata1:12M:autoextend")] {
        // The server's own option file has the same number of files.
        let told = options.defaults_file.is_some() && key == "innodb_data_file_path";
        if let Some(value) = backup.options.get(key).filter(|value| *value != usual && !value.is_empty() && !told) {
            report.note(Level::Info, format_args!("the server needs {key}={value}"));
        }
    }
}

/// The account that is to own the files.
struct Account {
    uid: u32,
    /// `None`: the group of the data directory.
    gid: Option<u32>,
}

impl Account {
    /// From `USER[:GROUP]`, names or numbers.
    fn find(text: &str) -> Result<Account> {
        let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
        let group = group.filter(|group| !group.is_empty());
        let unknown = |what: &str, name: &str| Error::usage("--owner", format_args!("there is no {what} {name}"));
        let entry = accounts::user(user)?;
        let uid = entry.map(|(id, _)| id).or_else(|| user.parse().ok()).ok_or_else(|| unknown("user", user))?;
        let gid = match group {
            Some(name) => {
                let id = accounts::group(name)?.or_else(|| name.parse().ok());
                Some(id.ok_or_else(|| unknown("group", name))?)
            }
            None => entry.map(|(_, group)| group),
        };
        Ok(Account { uid, gid })
    }
}

/// The owner that files get; `None` without root, which owns the files in any case.
fn owner(account: Option<Account>, datadir: &Path) -> Result<Option<(u32, u32)>> {
    let data = fs::metadata(datadir).map_err(|cause| fail(datadir, "cannot read", &cause))?;
    Ok(match account {
        Some(Account { uid, gid }) => Some((uid, gid.unwrap_or(data.gid()))),
        None => rustix::process::geteuid().is_root().then_some((data.uid(), data.gid())),
    })
}
