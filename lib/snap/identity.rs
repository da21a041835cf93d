//! Proves that the data directory belongs to the server that answers. A clone of it, or the directory of another
//! server, has the same names, ids and contents.
//!
//! The server is made to do something that shows in its data directory at once, several times, at moments and in sizes
//! that nobody else knows. That works over TCP, from another container, and with every account that can make a backup.
//! Where it does not work, the kernel tells which process listens at the socket, and which process holds the locks on
//! the files. Source: `facts/mariadb-hot-backup#identity`; `facts/mysql-hot-backup#identity`.

use std::fs::{self, File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Flock, FlockType, Pid, fcntl_getlk};

use super::running::Running;
use crate::error::{Error, Result};
use crate::io::random;
use crate::report::{Level, Report};
use crate::server::address::Address;
use crate::server::mariadb::locks::{Stage, Stages};
use crate::server::{Login, Session};

/// Hints for a wrong directory, and for a directory that nothing could be shown of.
const CHOOSE: &str =
    "--socket, or --host and --port, choose the server; --datadir is the path of its data directory on this host";
const SHOW: &str = "let the account do it, or connect through the server's socket, on its host and outside of containers; \
    --trust-datadir accepts it if you know that it is";
/// How often the server must do it.
const ROUNDS: u32 = 2;
/// How many temporary tables, each larger than the last, are made at most.
const QUERIES: u32 = 8;
/// How often a round is repeated because another backup of the server came between.
const AGAIN: u32 = 5;
/// How long a file of the server may look unchanged: network file systems show changes late.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often the file is looked at.
const POLL: Duration = Duration::from_millis(5);
/// Longer than a tick of the clock that sets file times.
const TICK: Duration = Duration::from_millis(20);

/// What the data directory showed of the server's actions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Evidence {
    /// It belongs to this server.
    Given,
    /// The expected change did not appear: it belongs to another server. Says what was expected.
    Missing(String),
    /// Nothing could be shown. Says why.
    Untried(String),
}

/// The claim that a directory is the data directory of the server at an address.
pub(super) struct Claim {
    pub(super) address: Address,
    /// The data directory, as the server names it.
    pub(super) datadir: PathBuf,
    /// The process that listens at the address.
    pub(super) peer: Option<Pid>,
}

impl Claim {
    /// Fails if the directory belongs to another server, or if nothing can be shown and the operator does not vouch for
    /// it.
    pub(super) fn prove(
        &self,
        server: &mut dyn Running,
        login: &Login,
        trust: bool,
        report: &dyn Report,
    ) -> Result<()> {
        let (why, missing) = match server.evidence(login)? {
            Evidence::Given => return Ok(()),
            Evidence::Missing(why) => (why, true),
            Evidence::Untried(why) => (why, false),
        };
        let datadir = &server.layout().datadir;
        // A file outside the data directory proves nothing about it.
        let guarded = server.guarded().into_iter().filter(|path| path.parent() == Some(datadir));
        let holders: Vec<Option<Pid>> = guarded.filter_map(|path| holder(&path)).collect();
        if self.peer.is_some() && holders.contains(&self.peer) {
            return Ok(());
        }
        let runs = match holders.first() {
            None => "no server runs on it".to_owned(),
            Some(None) => "a server runs on it, in another container".to_owned(),
            Some(Some(pid)) => format!("process {} runs on it", pid.as_raw_nonzero()),
        };
        let what = format!(
            "not shown to be the data directory of the server at {}, which names {}: {why}; {runs}",
            self.address,
            self.datadir.display()
        );
        let other = missing || self.peer.is_some_and(|peer| holders.iter().flatten().any(|pid| are_two(peer, *pid)));
        match (other, trust) {
            (true, _) => Err(Error::invalid(datadir.display(), what).hint(CHOOSE)),
            (false, false) => Err(Error::invalid(datadir.display(), what).hint(SHOW)),
            (false, true) => {
                report.note(
                    Level::Warning,
                    format_args!("{}: {what}; taken on trust (--trust-datadir)", datadir.display()),
                );
                Ok(())
            }
        }
    }
}

/// True if both processes run the same program: these are two servers. Otherwise the one that listens may be a proxy,
/// or systemd.
fn are_two(one: Pid, other: Pid) -> bool {
    let name = |pid: Pid| fs::read(format!("/proc/{}/comm", pid.as_raw_nonzero())).ok();
    one != other && name(one).is_some_and(|program| name(other) == Some(program))
}

/// The process that holds a lock on this file; `Some(None)`: a process that is not visible from here.
fn holder(path: &Path) -> Option<Option<Pid>> {
    let lock = fcntl_getlk(open(path).ok()?, &Flock::from(FlockType::ReadLock)).ok()??;
    Some(lock.pid)
}

/// Opens the file itself; does not follow a symbolic link.
fn open(path: &Path) -> std::io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?.into())
}

/// The file's metadata after opening it again; `None` if it does not exist.
fn look(path: &Path) -> Result<Option<Metadata>> {
    // NFS guarantees current attributes only after an open.
    let metadata = open(path).and_then(|file| file.metadata()).or_else(|_| fs::symlink_metadata(path));
    match metadata {
        Ok(metadata) => Ok(Some(metadata)),
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(Error::io(path.display(), "cannot look at", &cause)),
    }
}

/// Waits for a short time until a condition is true.
fn comes(mut true_now: impl FnMut() -> Result<bool>) -> Result<bool> {
    let begun = Instant::now();
    while !true_now()? {
        if begun.elapsed() > PATIENCE {
            return Ok(false);
        }
        std::thread::sleep(POLL);
    }
    Ok(true)
}

/// A random number below `limit`, which is at most 256.
fn any(limit: u64) -> Result<u64> {
    let mut byte = [0];
    random::fill(&mut byte)?;
    Ok(byte.iter().fold(0, |_, byte| u64::from(*byte)) % limit.max(1))
}

/// MariaDB: BACKUP STAGE START empties the server's `ddl.log`, and only one session at a time can be in that stage.
pub(super) fn stages(stages: &mut Stages, log: &Path) -> Result<Evidence> {
    let stamp = |log: &Path| -> Result<_> {
        Ok(look(log)?.map(|file| (file.dev(), file.ino(), file.ctime(), file.ctime_nsec(), file.size())))
    };
    let mut disturbed = 0;
    let mut seen = 0;
    while seen < ROUNDS {
        let before = stamp(log)?;
        std::thread::sleep(TICK + Duration::from_millis(any(40)?));
        if stamp(log)? != before {
            disturbed += 1;
            if disturbed > AGAIN {
                return Ok(Evidence::Untried(format!("other backups change {} all the time", log.display())));
            }
            continue;
        }
        stages.enter(Stage::Start)?;
        let shows = comes(|| Ok(stamp(log)? != before));
        stages.end()?;
        if !shows? {
            return Ok(Evidence::Missing(format!("BACKUP STAGE START did not change {}", log.display())));
        }
        seen += 1;
    }
    Ok(Evidence::Given)
}

/// MySQL: a session's temporary tables, if they are large, are in a file of its own, which grows with them and whose
/// size the server reports. These files are in `dir`; `session` has none yet.
pub(super) fn temporary_tables(mut session: Session, dir: &Path, datadir: &Path) -> Result<Evidence> {
    if !dir.starts_with(datadir) {
        return Ok(Evidence::Untried(format!("temporary tables are outside the data directory, in {}", dir.display())));
    }
    // The default limit for recursion is lower than the number of rows.
    session.run("SET SESSION cte_max_recursion_depth=1000000")?;
    let (mut rows, mut size, mut shown) = (0, 0, 0);
    for _ in 0..QUERIES {
        // A thousand rows take more than 1 MiB.
        rows += 2000 + 250 * any(24)?;
        session.run("SET SESSION big_tables=1")?;
        session.run(&format!(
            "WITH RECURSIVE n (i, wide) AS (SELECT 1, CAST(REPEAT('x', 1000) AS CHAR(1000)) UNION ALL \
            SELECT i + 1, wide FROM n WHERE i < {rows}) SELECT COUNT(*) FROM n"
        ))?;
        session.run("SET SESSION big_tables=0")?;
        let sql = "SELECT PATH AS path, SIZE AS size FROM information_schema.INNODB_SESSION_TEMP_TABLESPACES \
            WHERE ID=CONNECTION_ID() AND PURPOSE='INTRINSIC'";
        let Some(told) = session.record(sql)? else {
            return Ok(Evidence::Untried("the server makes no temporary tablespace".into()));
        };
        let text = |key: &str| told.get(key).map(String::as_str).unwrap_or_default();
        let path = dir.join(Path::new(text("path")).file_name().unwrap_or_default());
        let told: u64 = text("size").parse().unwrap_or_default();
        if told <= size {
            // The table fit into the free space: the file grows in steps of some MiB.
            continue;
        }
        size = told;
        if !comes(|| Ok(look(&path)?.is_some_and(|file| file.is_file() && file.size() == size)))? {
            let what = format!("{} has not grown to {size} bytes with a temporary table", path.display());
            return Ok(Evidence::Missing(what));
        }
        shown += 1;
        if shown == ROUNDS {
            return Ok(Evidence::Given);
        }
    }
    Ok(Evidence::Untried("the temporary tablespace of a session does not grow".into()))
}
