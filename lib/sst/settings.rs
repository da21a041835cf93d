//! What the option files say about transfers: `[sst]` with the names of the stock scripts, `[sst-xb]` with ours. An
//! option that cannot be honoured is an error before data move.

use std::path::{Path, PathBuf};
use std::time::Duration;

use regex::Regex;

use super::args::Role;
use super::asked::{Asked, refused};
use super::tls::Files;
use super::{SERVER, keep};
use crate::error::Result;
use crate::server::options::Options;

/// How bytes get to the other node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    /// By this program.
    Own,
    /// By socat, with these words behind its address.
    Socat(String),
}

/// Who is told how far a transfer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Nobody,
    ErrorLog,
    File(PathBuf),
}

/// What holds for a transfer.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) transport: Transport,
    pub(super) tls: Option<Files>,
    /// A shell command before the transport.
    pub(super) compressor: Option<String>,
    /// A shell command behind it.
    pub(super) decompressor: Option<String>,
    /// The algorithm of `xb-zip`.
    pub(super) compress: Option<String>,
    /// The key of `xb-crypt`.
    pub(super) key_file: Option<PathBuf>,
    pub(super) rate: Option<String>,
    pub(super) progress: Progress,
    /// Say how long each step took.
    pub(super) time: bool,
    /// What stays in the data directory.
    pub(super) keep: Regex,
    /// How long to wait for the donor; `None`: for ever.
    pub(super) initial: Option<Duration>,
    /// How long the other side may be silent.
    pub(super) silence: Duration,
    pub(super) backup_words: Vec<String>,
    pub(super) apply_words: Vec<String>,
    pub(super) move_words: Vec<String>,
    pub(super) use_memory: Option<String>,
    pub(super) threads: Option<String>,
    /// Where the donor keeps what cannot be sent yet.
    pub(super) tmpdir: Option<String>,
    /// The donor's port for administrators, to be used instead of its socket.
    pub(super) extra_port: Option<u16>,
    /// Where older logs go; `None`: they are overwritten.
    pub(super) archive: Option<PathBuf>,
    /// The tag under which syslog gets the messages; `None`: they go to standard error.
    pub(super) syslog: Option<String>,
    /// `user:password`, if the server says nothing.
    pub(super) auth: Option<String>,
}

impl Settings {
    /// Files that a transfer needs, on either side.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let tls =
            self.tls.iter().flat_map(|tls| [Some(&tls.cert), Some(&tls.key), tls.ca.as_ref(), tls.capath.as_ref()]);
        tls.chain([self.key_file.as_ref()]).flatten().cloned().collect()
    }

    /// Reads and checks them.
    ///
    /// # Errors
    ///
    /// Usage: an option cannot be honoured.
    pub(super) fn of(options: &Options, role: Role) -> Result<Settings> {
        let asked = Asked(options);
        let owned = |value: Option<&str>| value.map(str::to_owned);
        if let Some(other) = asked.sst("streamfmt").filter(|name| !matches!(*name, "mbstream" | "xbstream")) {
            return Err(refused("streamfmt", other, "is not supported: a backup is an xbstream"));
        }
        let sockopt = asked.sst("sockopt").map(|text| text.trim_matches(',').to_owned());
        let transport = match (asked.sst("transferfmt"), sockopt) {
            (None, None) => Transport::Own,
            (None | Some("socat"), options) => Transport::Socat(options.unwrap_or_default()),
            (Some(other), _) => {
                return Err(refused("transferfmt", other, "is not supported")
                    .hint("without this option, the program sends the data itself; socat does it, too"));
            }
        };
        let compress = owned(asked.backup("compress").filter(|name| *name != "none"));
        if let Some(name) = compress.as_deref().filter(|name| !matches!(*name, "zstd" | "lz4")) {
            return Err(refused("compress", name, "is not supported: zstd and lz4 are"));
        }
        let progress = match asked.sst("progress") {
            None | Some("none" | "0") => Progress::Nobody,
            Some("1") => Progress::ErrorLog,
            Some(path) => Progress::File(PathBuf::from(path)),
        };
        let initial = asked.seconds("sst-initial-timeout", 300)?;
        let silence = asked.seconds("silence-timeout", 60)?;
        if silence.is_zero() {
            return Err(refused("silence-timeout", "0", "would let a dead node be waited for for ever"));
        }
        let keep = keep::pattern(asked.sst("cpat").unwrap_or(keep::USUAL))?;
        let rate = owned(asked.sst("rlimit").filter(|_| asked.sst("progress") != Some("none")));
        Ok(Settings {
            tls: Files::of(&asked, role)?,
            transport,
            compressor: owned(asked.sst("compressor")),
            decompressor: owned(asked.sst("decompressor")),
            compress,
            key_file: asked.ours("key-file").map(PathBuf::from),
            rate,
            progress,
            time: asked.switch("time", false)?,
            keep,
            initial: Some(initial).filter(|time| !time.is_zero()),
            silence,
            backup_words: asked.words("inno-backup-opts")?,
            apply_words: asked.words("inno-apply-opts")?,
            move_words: asked.words("inno-move-opts")?,
            use_memory: owned(asked.backup("use-memory")),
            threads: owned(asked.shared("backup-threads")),
            tmpdir: asked.shared("tmpdir").and_then(|dirs| dirs.split(':').next()).map(str::to_owned),
            extra_port: extra_port(&asked, role)?,
            archive: asked
                .switch("sst-log-archive", true)?
                .then(|| PathBuf::from(asked.sst("sst-log-archive-dir").unwrap_or("/tmp/sst_log_archive"))),
            syslog: syslog(&asked)?,
            auth: owned(asked.sst("wsrep-sst-auth")),
        })
    }
}

/// `use-extra`: by the port for administrators, if the server has a thread pool, which may have no thread to spare.
fn extra_port(asked: &Asked<'_>, role: Role) -> Result<Option<u16>> {
    let pool = asked.first(&SERVER, "thread-handling") == Some("pool-of-threads");
    if !asked.switch("use-extra", false)? || !pool || role == Role::Joiner {
        return Ok(None);
    }
    let port = asked.first(&SERVER, "extra-port").and_then(|text| text.parse().ok()).filter(|port| *port != 0);
    port.map(Some).ok_or_else(|| refused("use-extra", "1", "needs extra-port of the server"))
}

/// `sst-syslog` decides; otherwise whether `[mysqld_safe]` has `syslog`.
fn syslog(asked: &Asked<'_>) -> Result<Option<String>> {
    let safe =
        asked.0.of(&["mysqld_safe"], "syslog").is_some() && asked.0.of(&["mysqld_safe"], "skip-syslog").is_none();
    let on = match asked.sst("sst-syslog") {
        None | Some("0") => safe,
        Some("1") => true,
        Some("-1") => false,
        Some(other) => return Err(refused("sst-syslog", other, "is none of 1, 0 and -1")),
    };
    let tag = asked.first(&["mysqld_safe"], "syslog-tag").unwrap_or_default();
    Ok(on.then(|| tag.to_owned()))
}

/// A file that an option names.
pub(super) fn file(path: &str) -> PathBuf {
    Path::new(path).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::options::Sources;

    pub(in crate::sst) fn options(text: &str) -> Options {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("my.cnf");
        std::fs::write(&path, text).unwrap();
        Sources { file: Some(path), ..Sources::default() }.read(&()).unwrap()
    }

    #[test]
    fn what_cannot_be_honoured_is_refused() {
        for (line, words) in [
            ("streamfmt=tar", "xbstream"),
            ("transferfmt=nc", "not supported"),
            ("compress=quicklz", "zstd and lz4"),
            ("sst-initial-timeout=soon", "no number"),
            ("silence-timeout=0", "for ever"),
            ("time=maybe", "neither on nor off"),
            ("sst-syslog=2", "none of"),
            ("inno-backup-opts=--tables=`id`", "shell"),
            ("cpat=[", "cpat"),
            ("encrypt=1", "encrypt=1"),
            ("encrypt=9", "encrypt=9"),
            ("ssl-mode=PERHAPS", "ssl-mode"),
            ("use-extra=perhaps", "neither on nor off"),
        ] {
            for role in [Role::Donor, Role::Joiner] {
                let error = Settings::of(&options(&format!("[sst]\n{line}\n")), role).unwrap_err();
                assert!(error.to_string().contains(words), "{line}: {error}");
                assert_eq!(error.kind(), crate::error::Kind::Usage);
            }
        }
    }

    #[test]
    fn values_come_from_the_first_group_that_has_one() {
        let text = "[sst]\nrlimit=20m\nuse_memory=1g\nsst-initial-timeout=0\nsockopt=,pf=ip6\nwsrep_sst_auth=a:b\n\
                    inno-backup-opts=--lock-ddl=early -j 2\n[mariabackup]\nuse-memory=2g\n[mysqld]\nbackup-threads=3\n\
                    [sst-xb]\nrlimit=10m\n[mysqld_safe]\nsyslog\nsyslog-tag=t\n";
        let found = Settings::of(&options(text), Role::Donor).unwrap();
        assert_eq!(found.rate.as_deref(), Some("10m"));
        assert_eq!(found.use_memory.as_deref(), Some("1g"));
        assert_eq!(found.threads.as_deref(), Some("3"));
        assert_eq!(found.initial, None);
        assert_eq!(found.transport, Transport::Socat("pf=ip6".into()));
        assert_eq!(found.auth.as_deref(), Some("a:b"));
        assert_eq!(found.backup_words, ["--lock-ddl=early", "-j", "2"]);
        assert_eq!(found.syslog.as_deref(), Some("t"));
        let usual = Settings::of(&options(""), Role::Joiner).unwrap();
        assert_eq!((usual.transport, usual.tls, usual.syslog), (Transport::Own, None, None));
        assert_eq!(usual.silence, Duration::from_secs(60));
        assert_eq!(usual.archive.as_deref(), Some(Path::new("/tmp/sst_log_archive")));
        assert_eq!((usual.extra_port, usual.tmpdir), (None, None));
        let pool = "[sst]\nuse-extra=1\n[mysqld]\ntmpdir=/a:/b\nthread-handling=pool-of-threads\n";
        let found = Settings::of(&options(&format!("{pool}extra_port=4000\n")), Role::Donor).unwrap();
        assert_eq!((found.extra_port, found.tmpdir.as_deref()), (Some(4000), Some("/a")));
        let error = Settings::of(&options(pool), Role::Donor).unwrap_err().to_string();
        assert!(error.contains("needs extra-port"), "{error}");
        let none = Settings::of(&options("[sst]\nrlimit=1m\nprogress=none\n"), Role::Donor).unwrap();
        assert_eq!((none.rate, none.progress), (None, Progress::Nobody));
    }
}
