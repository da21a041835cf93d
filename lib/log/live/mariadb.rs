//! The live redo log of MariaDB: read only with pread, while the server writes it.

use std::fs::{File, Metadata};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::innodb::ids::Lsn;
use crate::innodb::redo::Fault;
use crate::innodb::redo::mariadb::{CHECKPOINT, CHECKPOINTS, Checkpoint, Header, Ring, START};

/// How long a block may look as if it were being written.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Length of the header and checkpoint blocks.
const HEAD: usize = CHECKPOINTS[1] + CHECKPOINT;

/// An open log file, and how LSNs map to it.
#[derive(Debug)]
pub(crate) struct Live {
    file: File,
    path: PathBuf,
    /// Device, inode and size: another log has others.
    identity: (u64, u64, u64),
    pub(crate) header: Header,
    pub(crate) ring: Ring,
}

impl Live {
    /// Opens the log; an unsupported format is an error that names it.
    pub(crate) fn open(path: &Path) -> Result<Live> {
        let start = Instant::now();
        loop {
            match Self::try_open(path)? {
                Ok(live) => return Ok(live),
                // Checksums are wrong while a block is being written.
                Err(Fault::Checksum { .. }) if start.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(fault) => return Err(Error::failed(path.display(), fault)),
            }
        }
    }

    fn try_open(path: &Path) -> Result<Result<Live, Fault>> {
        let fail = |cause: &std::io::Error| {
            Error::io(path.display(), "cannot open the redo log", cause)
                .hint("xb-redo runs on the server's host and must be able to read its log; --datadir says where it is")
        };
        let file = File::open(path).map_err(|cause| fail(&cause))?;
        let identity = identity(&file.metadata().map_err(|cause| fail(&cause))?);
        let mut head = [0; HEAD];
        if let Err(cause) = file.read_exact_at(&mut head, 0) {
            let short = cause.kind() == std::io::ErrorKind::UnexpectedEof;
            return if short { Ok(Err(Fault::Size(identity.2))) } else { Err(fail(&cause)) };
        }
        let opened = Header::parse(&head).and_then(|header| {
            let ring = Ring::new(header.first_lsn, identity.2)?;
            Ok(Live { file, path: path.to_owned(), identity, header, ring })
        });
        Ok(opened)
    }

    /// The newest checkpoint; `None` while its block or the header is being written.
    pub(crate) fn checkpoint(&self) -> Result<Option<Checkpoint>> {
        let mut head = [0; HEAD];
        self.read_at(&mut head, 0)?;
        match Header::parse(&head) {
            Ok(header) if header != self.header => Err(Error::invalid(
                self.path.display(),
                format_args!("the redo log was made anew at lsn {}: has the server been restarted?", header.first_lsn),
            )),
            Ok(_) => Ok(Checkpoint::newest(&head, self.ring.first_lsn())),
            Err(_) => Ok(None),
        }
    }

    /// The log that has replaced this one under its name (`SET GLOBAL innodb_log_file_size`), once it is complete.
    pub(crate) fn successor(&self) -> Result<Option<Live>> {
        let named = std::fs::metadata(&self.path)
            .map_err(|cause| Error::io(self.path.display(), "the redo log is gone", &cause))?;
        if identity(&named) == self.identity {
            return Ok(None);
        }
        let Ok(next) = Self::try_open(&self.path)? else { return Ok(None) };
        if (next.header.format, next.header.encryption) != (self.header.format, self.header.encryption) {
            return Err(Error::invalid(
                self.path.display(),
                "encryption of the redo log was changed during the backup",
            ));
        }
        Ok(Some(next))
    }

    /// Fills `bytes` with the log from `lsn` on, across the end of the ring if needed.
    pub(crate) fn read(&self, lsn: Lsn, bytes: &mut [u8]) -> Result<()> {
        let (mut lsn, mut rest) = (lsn, bytes);
        while !rest.is_empty() {
            let offset = self.ring.offset(lsn);
            let room = (START as u64 + self.ring.capacity()).saturating_sub(offset);
            let count = usize::try_from(room).unwrap_or(usize::MAX).min(rest.len());
            let (part, after) = rest.split_at_mut(count);
            self.read_at(part, offset)?;
            rest = after;
            lsn = lsn.saturating_add(count as u64);
        }
        Ok(())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> Result<()> {
        let read = self.file.read_exact_at(bytes, offset);
        read.map_err(|cause| Error::io(self.path.display(), "cannot read the redo log", &cause))
    }
}

fn identity(metadata: &Metadata) -> (u64, u64, u64) {
    (metadata.dev(), metadata.ino(), metadata.size())
}
