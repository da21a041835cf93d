//! `.mylogin.cnf`: an option file that `mysql_config_editor` writes, obscured but not secret. Source: MySQL's
//! `my_default.cc`.
//!
//! Four bytes without a meaning, 20 bytes of which the key is made, then the lines, each encrypted by itself with
//! AES-128-ECB: a length of four bytes (little-endian), and as many bytes, which are whole blocks with PKCS #7 padding.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use aes::Aes128;
use aes::cipher::{BlockCipherDecrypt, KeyInit};
use zeroize::{Zeroize, Zeroizing};

use crate::error::{Error, Result};

/// Where the file is, if not in the home directory.
const VARIABLE: &str = "MYSQL_TEST_LOGIN_FILE";
const NAME: &str = ".mylogin.cnf";
const UNUSED: usize = 4;
const KEY: usize = 20;
const BLOCK: usize = 16;
/// Bytes of an encrypted line; MySQL's limit for a line is 4096.
const LINE_MAX: usize = 8192;
/// Bytes of the file.
const FILE_MAX: u64 = 1 << 20;

/// The text of the file, as an option file has it.
///
/// # Errors
///
/// Failed, when there is none, or other users may read it; damaged, when it is none.
pub(super) fn text() -> Result<Zeroizing<String>> {
    let path = std::env::var_os(VARIABLE)
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(NAME)))
        .ok_or_else(|| Error::failed("--login-path", format_args!("HOME is not set; {NAME} would be there")))?;
    let place = path.display();
    let fail = |cause| {
        Error::io(&place, "cannot read", &cause).hint("mysql_config_editor set --login-path=NAME makes this file")
    };
    let facts = std::fs::metadata(&path).map_err(fail)?;
    if facts.mode() & 0o077 != 0 {
        // What is in it is obscured, not encrypted. MySQL's programs do not read it, either.
        return Err(Error::failed(&place, "not used: other users may read or change it")
            .hint(format_args!("chmod 600 {place}")));
    }
    if !facts.is_file() || facts.len() > FILE_MAX {
        return Err(Error::damaged(&place, "is no file of mysql_config_editor"));
    }
    let bytes = std::fs::read(&path).map_err(fail)?;
    decode(&bytes).map_err(|what| Error::damaged(&place, what))
}

/// The lines of such a file; otherwise what is wrong with it.
///
/// # Errors
///
/// What is wrong, with the byte.
pub fn decode(bytes: &[u8]) -> Result<Zeroizing<String>, String> {
    let (head, mut rest) =
        bytes.split_at_checked(UNUSED + KEY).ok_or("is shorter than its head of 24 bytes".to_owned())?;
    let mut key = Zeroizing::new([0u8; BLOCK]);
    for (at, byte) in head.iter().skip(UNUSED).enumerate() {
        if let Some(part) = key.get_mut(at % BLOCK) {
            *part ^= byte;
        }
    }
    let cipher = Aes128::new((&*key).into());
    let mut text = Zeroizing::new(String::with_capacity(bytes.len()));
    while !rest.is_empty() {
        let at = bytes.len().saturating_sub(rest.len());
        let fault = |what: &str| format!("the line at byte {at} {what}");
        let (len, behind) = rest.split_first_chunk::<4>().ok_or_else(|| fault("is cut"))?;
        let len = usize::try_from(u32::from_le_bytes(*len)).unwrap_or(usize::MAX);
        if len == 0 || len > LINE_MAX || len % BLOCK != 0 {
            return Err(fault("has an impossible length"));
        }
        let (line, behind) = behind.split_at_checked(len).ok_or_else(|| fault("is cut"))?;
        let mut plain = Zeroizing::new(line.to_vec());
        for block in plain.chunks_exact_mut(BLOCK) {
            let block: &mut [u8; BLOCK] = block.try_into().map_err(|_| fault("is cut"))?;
            cipher.decrypt_block(block.into());
        }
        let padding = plain.last().copied().map_or(0, usize::from);
        let end = len.checked_sub(padding).filter(|_| (1..=BLOCK).contains(&padding));
        let (said, filler) = end.and_then(|end| plain.split_at_checked(end)).ok_or_else(|| fault("is damaged"))?;
        if filler.iter().any(|byte| usize::from(*byte) != padding) {
            return Err(fault("is damaged"));
        }
        text.push_str(std::str::from_utf8(said).map_err(|_| fault("is no text"))?);
        rest = behind;
    }
    key.zeroize();
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by mysql_config_editor 9.7.
    const VECTOR: &[u8] = include_bytes!("../../tests/vectors/login/mylogin.cnf");

    #[test]
    fn what_mysql_config_editor_has_written_is_read() {
        let text = decode(VECTOR).unwrap();
        assert!(text.starts_with("[client]\nuser = \"nobody\"\n[backup]\nuser = \"keeper\"\n"), "{}", *text);
        assert!(text.ends_with("[far]\nuser = \"other\"\nhost = \"db.example\"\nport = 3307\n"), "{}", *text);
    }

    #[test]
    fn what_is_damaged_is_told() {
        let whole = decode(VECTOR).unwrap().len();
        for end in 0..VECTOR.len() {
            let lines = decode(&VECTOR[..end]);
            assert!(lines.map_or(true, |text| text.len() < whole), "{end}");
        }
        for at in 4..VECTOR.len() {
            let mut bytes = VECTOR.to_vec();
            bytes[at] ^= 0x80;
            let _ = decode(&bytes);
        }
        assert!(decode(&[&VECTOR[..24], &[1, 0, 0, 0, 7]].concat()).unwrap_err().contains("impossible length"));
        assert!(decode(&[&VECTOR[..24], &[16, 0, 0, 0, 7]].concat()).unwrap_err().contains("cut"));
    }
}
