//! A backup of MariaDB whose log waits (`xb-redo --apply --wait`): increments fit as long as it is not applied, and a server
//! that is started on the directory applies it by itself.
//!
//! For that server files must have their final names, and the log needs room. Both is undone before anything else is done
//! to the directory: `xb_waits` says what, and is on disk before the first change. If a server has run meanwhile, nothing
//! is undone: the directory is the data of that server.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::files::{self, Item, fail};
use super::lock;
use crate::error::{Error, Result};
use crate::innodb::ids::Lsn;
use crate::innodb::redo::mariadb;
use crate::io;
use crate::log::captured::mariadb::{Captured, extend};
use crate::report::Report;
use crate::stream::native::names::{AGAIN, ASIDE, DROPPED, WAITS, marked};

/// Version of the file; a greater one is refused.
const FORMAT: u32 = 1;
/// Bytes at the beginning of the log by which a server is noticed that has run on the directory.
const HEAD: u64 = 64 << 10;

/// `xb_waits`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Waiting {
    /// [`FORMAT`].
    format: u32,
    /// Bytes that the log had when it was unpacked.
    log_size: u64,
    /// BLAKE3 of its first bytes, up to [`HEAD`], in hex: with its checkpoints, which every server writes anew.
    log_head: String,
    /// Files that have another name meanwhile, in the order in which they got it.
    moves: Vec<(String, String)>,
}

impl Waiting {
    /// What a directory waits with; `None` if it does not wait.
    pub(super) fn read(dir: &Path) -> Result<Option<Waiting>> {
        let Some(bytes) = io::small(&dir.join(WAITS))? else { return Ok(None) };
        let fault = |what: String| Error::damaged(dir.join(WAITS).display(), what);
        let waiting: Waiting =
            serde_json::from_slice(&bytes).map_err(|cause| fault(format!("cannot be read: {cause}")))?;
        let names = waiting.moves.iter().flat_map(|(from, to)| [from, to]);
        if waiting.format > FORMAT {
            return Err(fault("it is newer than this program".into()).hint("use newer xb-tools"));
        }
        if let Some(name) = names.into_iter().find(|name| crate::stream::name::clean(name.as_bytes()).is_err()) {
            return Err(fault(format!("{name} is no name of a file in it")));
        }
        Ok(Some(waiting))
    }

    /// Where a file is meanwhile that the manifest has under `path`.
    pub(super) fn place<'p>(&'p self, path: &'p Path) -> &'p Path {
        self.moves.iter().find(|(from, _)| Path::new(from) == path).map_or(path, |(_, to)| Path::new(to))
    }

    /// Makes sure that no server has run on the directory since: it would be that server's, and no backup any more.
    pub(super) fn untouched(&self, dir: &Path) -> Result<()> {
        let log = dir.join(mariadb::FILE);
        let same = || -> std::io::Result<bool> {
            let mut file = File::open(&log)?;
            if file.metadata()?.len() < self.log_size || head(&mut file, self.log_size)? != self.log_head {
                return Ok(false);
            }
            file.seek(SeekFrom::Start(self.log_size))?;
            let mut room = vec![0; io::BUFFER];
            loop {
                match file.read(&mut room)? {
                    0 => return Ok(true),
                    count if room.iter().take(count).any(|byte| *byte != 0) => return Ok(false),
                    _ => {}
                }
            }
        };
        match same() {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::damaged(dir.display(), "a server has run on it: it is no backup any more")
                .hint("unpack the backup again, into a new directory")),
            Err(cause) => Err(fail(&log, "cannot read", &cause)),
        }
    }

    /// Bytes that a file of the directory has, as the manifest counts them.
    pub(super) fn size(&self, path: &Path, size: u64) -> u64 {
        if path == Path::new(mariadb::FILE) { size.min(self.log_size) } else { size }
    }
}

/// What waiting would change in a directory; `None` if it cannot be undone: a name that is no text, or a rename that another
/// program has noted.
pub(super) fn plan(dir: &Path) -> Result<Option<Waiting>> {
    let log = dir.join(mariadb::FILE);
    let look = || {
        let mut file = File::open(&log)?;
        let size = file.metadata()?.len();
        Ok((size, head(&mut file, size)?))
    };
    let (log_size, log_head) = look().map_err(|cause: std::io::Error| fail(&log, "cannot read", &cause))?;
    Ok(moves(&files::list(dir)?).map(|moves| Waiting { format: FORMAT, log_size, log_head, moves }))
}

/// Digest of the first bytes of a log that has so many.
fn head(file: &mut File, size: u64) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    file.take(HEAD.min(size)).read_to_end(&mut bytes)?;
    Ok(blake3::hash(&bytes).to_hex().to_string())
}

fn moves(items: &[Item]) -> Option<Vec<(String, String)>> {
    let text = |path: &Path| path.to_str().map(str::to_owned);
    let has = |path: &Path| items.iter().any(|item| item.path == path);
    let mut moves = Vec::new();
    for item in items.iter().filter(|item| !item.is_dir && item.path.components().count() == 2) {
        let name = text(&item.path)?;
        let meant = |ending: &[u8]| marked(name.as_bytes(), ending).and_then(|name| String::from_utf8(name).ok());
        match item.path.extension().and_then(|suffix| suffix.to_str()) {
            Some("del") => {
                let table = meant(DROPPED)?;
                if has(Path::new(&table)) {
                    moves.push((table, format!("{ASIDE}{}", moves.len())));
                }
                moves.push((name, format!("{ASIDE}{}", moves.len())));
            }
            Some("new") => {
                let table = meant(AGAIN)?;
                if has(Path::new(&table)) {
                    moves.push((table.clone(), format!("{ASIDE}{}", moves.len())));
                }
                moves.push((name, table));
            }
            Some("ren" | "xb_to" | "isl") => return None,
            _ => {}
        }
    }
    Some(moves)
}

/// Makes a directory wait. It is locked, and its log, which ends at `end`, names no file that is elsewhere.
pub(super) fn begin(dir: &Path, waiting: &Waiting, end: Lsn) -> Result<()> {
    // Strings, numbers and lists of them always serialise.
    let text = serde_json::to_string(waiting).map_err(|_| Error::internal("a note cannot be written as JSON"))? + "\n";
    files::replace(dir, WAITS, text.as_bytes())?;
    for (from, to) in &waiting.moves {
        rename(&dir.join(from), &dir.join(to))?;
    }
    extend(dir, Captured::open(dir)?.roomy(end))?;
    files::sync(dir)
}

/// Gives a directory that waits the form in which it was unpacked. May be repeated.
pub(super) fn end(dir: &Path, report: &dyn Report) -> Result<()> {
    if !dir.join(WAITS).exists() {
        return Ok(());
    }
    let lock = lock::take(dir, report)?;
    if let Some(waiting) = Waiting::read(dir)? {
        waiting.untouched(dir).inspect_err(|_| drop(lock::give_back(dir)))?;
        for (from, to) in waiting.moves.iter().rev() {
            let (from, to) = (dir.join(from), dir.join(to));
            if to.exists() && !from.exists() {
                rename(&to, &from)?;
            }
        }
        let log: PathBuf = dir.join(mariadb::FILE);
        let file = OpenOptions::new().write(true).open(&log);
        let cut = file.and_then(|file| {
            let longer = file.metadata()?.len() > waiting.log_size;
            if longer { file.set_len(waiting.log_size).and_then(|()| file.sync_all()) } else { Ok(()) }
        });
        cut.map_err(|cause| fail(&log, "cannot cut", &cause))?;
        files::sync(dir)?;
        files::remove(&dir.join(WAITS))?;
    }
    lock::give_back(dir)?;
    drop(lock);
    Ok(())
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(|cause| fail(from, "cannot rename", &cause))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(names: &[&str]) -> Option<Vec<(String, String)>> {
        let item = |name: &&str| Item { path: name.into(), is_dir: false, size: 0 };
        moves(&names.iter().map(item).collect::<Vec<_>>())
    }

    #[test]
    fn markers_are_resolved_by_moves_that_can_be_undone() {
        let pairs = |pairs: &[(&str, &str)]| {
            Some(pairs.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect::<Vec<_>>())
        };
        assert_eq!(moved(&["d/t.ibd", "x.new", "ibdata1"]), pairs(&[]));
        assert_eq!(moved(&["d/t.new"]), pairs(&[("d/t.new", "d/t.ibd")]));
        assert_eq!(moved(&["d/t.ibd", "d/t.new"]), pairs(&[("d/t.ibd", "xb_aside.0"), ("d/t.new", "d/t.ibd")]));
        assert_eq!(moved(&["d/t.del", "d/t.ibd"]), pairs(&[("d/t.ibd", "xb_aside.0"), ("d/t.del", "xb_aside.1")]));
        assert_eq!(moved(&["d/t.ren"]), None);
        assert_eq!(moved(&["d/t.isl"]), None);
    }

    #[test]
    fn a_directory_that_waited_is_what_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("d")).unwrap();
        let files = [("ib_logfile0", "log"), ("d/t.ibd", "old"), ("d/t.new", "new"), ("d/u.del", ""), ("d/u.ibd", "u")];
        for (name, text) in files {
            fs::write(at(name), text).unwrap();
        }
        let waiting = plan(dir.path()).unwrap().unwrap();
        let text = serde_json::to_string(&waiting).unwrap();
        // Killed after so many renames.
        for steps in 0..=waiting.moves.len() {
            fs::write(at(WAITS), &text).unwrap();
            for (from, to) in waiting.moves.iter().take(steps) {
                rename(&at(from), &at(to)).unwrap();
            }
            fs::write(at("ib_logfile0"), "log\0\0").unwrap();
            assert_eq!(Waiting::read(dir.path()).unwrap().unwrap(), waiting);
            end(dir.path(), &()).unwrap();
            for (name, text) in files {
                assert_eq!(fs::read_to_string(at(name)).unwrap(), text, "{name} after {steps}");
            }
            assert_eq!(files::list(dir.path()).unwrap().len(), files.len() + 1, "{steps}");
        }
    }

    #[test]
    fn nothing_is_undone_where_a_server_has_run() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("d")).unwrap();
        for (name, text) in [("ib_logfile0", "log"), ("d/t.new", "t")] {
            fs::write(at(name), text).unwrap();
        }
        let waiting = plan(dir.path()).unwrap().unwrap();
        fs::rename(at("d/t.new"), at("d/t.ibd")).unwrap();
        for log in ["LOG\0\0", "log\0more", "lo"] {
            fs::write(at(WAITS), serde_json::to_string(&waiting).unwrap()).unwrap();
            fs::write(at("ib_logfile0"), log).unwrap();
            assert!(end(dir.path(), &()).unwrap_err().to_string().contains("a server has run"), "{log:?}");
            assert_eq!(fs::read_to_string(at("ib_logfile0")).unwrap(), log);
            assert!(at("d/t.ibd").exists() && at(WAITS).exists());
        }
    }
}
