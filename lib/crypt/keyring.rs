//! MySQL's keyring: the data file of `component_keyring_file`, which has the server's master keys in clear. Source:
//! `facts/mysql-hot-backup#encryption`.
//!
//! ```text
//! {"version":"1.0","elements":[{"user":"","data_id":"INNODBKey-UUID-1","data_type":"AES","data":"HEX","extension":[]}]}
//! ```

use std::borrow::Cow;
use std::fmt;
use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use zeroize::Zeroizing;

use super::key;
use super::keyfile::harden;
use crate::error::{Error, Kind, Result};
use crate::report::{Level, Report};

/// Length of a master key in bytes.
const LENGTH: usize = 32;
/// The largest accepted file in bytes: a key takes 200.
const LARGEST: u64 = 4 << 20;
/// How often to read again: the server rewrites the file in place when a key is added.
const ATTEMPTS: usize = 20;
const PAUSE: Duration = Duration::from_millis(50);

/// Keys of 32 bytes, by name. Overwritten on drop, and never printed.
pub struct Keyring(Vec<(String, Box<Zeroizing<[u8; LENGTH]>>)>);

/// Bytes that are not a keyring. The reason is not reported, because it could quote a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault;

#[derive(Deserialize)]
struct Content<'a> {
    #[serde(borrow)]
    elements: Vec<Element<'a>>,
}

#[derive(Deserialize)]
struct Element<'a> {
    #[serde(borrow)]
    data_id: Cow<'a, str>,
    /// Hexadecimal, which needs no escapes in JSON, so it is used in place.
    data: &'a str,
}

impl Keyring {
    /// Reads the file. The server decides about its owner and mode, so any are accepted, with a warning if every user
    /// can read or change it. Before that, it disables core files of the process.
    ///
    /// # Errors
    ///
    /// Failed, if the file cannot be read; Key, if it is not a keyring.
    pub fn read(path: &Path, report: &dyn Report) -> Result<Keyring> {
        harden()?;
        for attempt in 1.. {
            let (bytes, meta) = content(path)?;
            let mode = meta.mode() & 0o7777;
            if mode & 0o007 != 0 && attempt == 1 {
                let what =
                    format_args!("{}: its mode {mode:04o} lets every user read or change the keys", path.display());
                report.note(Level::Warning, what);
            }
            // A pipe can be read only once. An empty file may be in the middle of a rewrite.
            let last = attempt >= ATTEMPTS || !meta.is_file();
            match Self::parse(&bytes) {
                Ok(keyring) if last || !bytes.is_empty() => return Ok(keyring),
                Err(Fault) if last => break,
                _ => std::thread::sleep(PAUSE),
            }
        }
        let what = "is not the data file of component_keyring_file";
        Err(Error::new(Kind::Key, path.display(), what).hint(WHERE))
    }

    /// Parses the content. A server that has no key yet leaves the file empty.
    pub fn parse(bytes: &[u8]) -> Result<Keyring, Fault> {
        if bytes.is_empty() {
            return Ok(Keyring(Vec::new()));
        }
        let content: Content<'_> = serde_json::from_slice(bytes).map_err(|_| Fault)?;
        let keys = content.elements.iter().filter_map(|element| {
            let mut key = Box::new(Zeroizing::new([0; LENGTH]));
            let length = key::hex(element.data.as_bytes(), &mut **key)?.len();
            // Other components store other secrets there.
            (length == LENGTH).then(|| (element.data_id.clone().into_owned(), key))
        });
        Ok(Keyring(keys.collect()))
    }

    /// The key with this name.
    pub fn key(&self, name: &str) -> Option<&[u8; LENGTH]> {
        self.0.iter().find(|(data_id, _)| data_id == name).map(|(_, key)| &***key)
    }
}

/// The hint where the path can be found.
pub const WHERE: &str = "component_keyring_file.cnf, beside the plugins or in the data directory, has its path";

/// The content of a file or a pipe, and its metadata.
fn content(path: &Path) -> Result<(Zeroizing<Vec<u8>>, Metadata)> {
    let place = path.display();
    let file = File::open(path).map_err(|cause| Error::io(&place, "cannot open", &cause).hint(WHERE))?;
    let meta = file.metadata().map_err(|cause| Error::io(&place, "cannot look at", &cause))?;
    let most = if meta.is_file() { meta.len().min(LARGEST + 1) } else { LARGEST + 1 };
    // Has its final size, because growing would leave copies in memory.
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(most).unwrap_or(0).saturating_add(1)));
    let read = file.take(most).read_to_end(&mut bytes).map_err(|cause| Error::io(&place, "cannot read", &cause))?;
    if read as u64 > LARGEST {
        return Err(Error::new(Kind::Key, place, "is not a keyring: it is too long").hint(WHERE));
    }
    Ok((bytes, meta))
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keyring({} keys)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Arguments;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use proptest::prelude::*;

    use super::*;

    const REAL: &[u8] = include_bytes!("../../tests/vectors/mysql-redo/keyring");

    #[test]
    fn keys_of_a_real_keyring_are_found_by_name() {
        let keyring = Keyring::parse(REAL).unwrap();
        let key = keyring.key("INNODBKey-da0b9576-e5e5-11f1-b37b-02fc00000001-1").unwrap();
        assert_eq!(key[..4], [0xe3, 0x81, 0x14, 0xb7]);
        assert_eq!(keyring.key("INNODBKey-da0b9576-e5e5-11f1-b37b-02fc00000001-3"), None);
        assert_eq!(format!("{keyring:?}"), "Keyring(2 keys)");
    }

    #[test]
    fn what_is_no_key_of_innodb_is_passed_over() {
        let text =
            r#"{"version":"1.0","elements":[{"user":"a\"b","data_id":"c\u0041","data_type":"SECRET","data":"00FF"}]}"#;
        assert_eq!(Keyring::parse(text.as_bytes()).unwrap().key("cA"), None);
        assert!(Keyring::parse(b"").unwrap().key("").is_none());
        for text in ["{}", "[]", "{\"elements\":[{}]}", "key=1"] {
            assert_eq!(Keyring::parse(text.as_bytes()).unwrap_err(), Fault, "{text}");
        }
    }

    #[test]
    fn a_pipe_is_read_once_and_nothing_without_end() {
        use std::io::Write;
        use std::os::fd::AsRawFd;

        for (bytes, known) in [(REAL, true), (b"", false)] {
            let (reader, mut writer) = std::io::pipe().unwrap();
            writer.write_all(bytes).unwrap();
            drop(writer);
            let path = format!("/proc/self/fd/{}", reader.as_raw_fd());
            let keyring = Keyring::read(Path::new(&path), &()).unwrap();
            assert_eq!(keyring.key("INNODBKey-da0b9576-e5e5-11f1-b37b-02fc00000001-1").is_some(), known);
        }
        let error = Keyring::read(Path::new("/dev/zero"), &()).unwrap_err();
        assert_eq!(error.kind(), Kind::Key);
        assert!(error.to_string().contains("too long"), "{error}");
    }

    /// A server that writes its keyring while the warning is printed.
    struct Filling(PathBuf);

    impl Report for Filling {
        fn note(&self, _: Level, _: Arguments<'_>) {
            std::fs::write(&self.0, REAL).unwrap();
        }
        fn error(&self, _: &Error) {}
        fn expect(&self, _: u64) {}
        fn advance(&self, _: u64) {}
        fn stage(&self, _: &str) {}
    }

    #[test]
    fn an_empty_file_may_still_be_filled() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(format!("{:?}", Keyring::read(file.path(), &()).unwrap()), "Keyring(0 keys)");
        file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644)).unwrap();
        let filling = Filling(file.path().to_owned());
        assert_eq!(format!("{:?}", Keyring::read(file.path(), &filling).unwrap()), "Keyring(2 keys)");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(cut in 0..REAL.len(), at in 0..REAL.len(), byte: u8) {
            let mut bytes = REAL.to_vec();
            bytes[at] = byte;
            let _ = Keyring::parse(&bytes);
            let _ = Keyring::parse(&bytes[..cut]);
        }
    }
}
