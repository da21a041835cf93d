//! Lists the members of a stream.

use std::io::{BufWriter, Write};
use std::sync::Mutex;

use bstr::ByteSlice;
use serde::Serialize;

use super::lock;
use super::member::Member;
use crate::error::{Error, Result};

/// The format of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `SIZE NAME`, with control characters in names escaped.
    Text,
    /// A JSON object on each line.
    Json,
}

/// Where and in which format members are listed.
pub struct Listing {
    out: Mutex<Box<dyn Write + Send>>,
    format: Format,
}

#[derive(Serialize)]
struct Line<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name_hex: Option<String>,
    size: u64,
    stream_byte: u64,
    holes: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    blake3: Option<String>,
}

impl Listing {
    /// Lists on `out`.
    pub fn new(out: impl Write + Send + 'static, format: Format) -> Self {
        Listing { out: Mutex::new(Box::new(BufWriter::new(out))), format }
    }

    pub(super) fn wants_sums(&self) -> bool {
        self.format == Format::Json
    }

    pub(super) fn member(&self, member: &Member, size: u64, digest: Option<blake3::Hash>) -> Result<()> {
        let line = match self.format {
            Format::Text => format!("{size:>15} {}\n", escaped(&member.path)),
            Format::Json => {
                let name = member.path.to_str().ok();
                let line = Line {
                    name,
                    name_hex: name.is_none().then(|| member.path.iter().map(|byte| format!("{byte:02x}")).collect()),
                    size,
                    stream_byte: member.at,
                    holes: member.holes,
                    blake3: digest.map(|digest| digest.to_hex().to_string()),
                };
                serde_json::to_string(&line).unwrap_or_default() + "\n"
            }
        };
        lock(&self.out).write_all(line.as_bytes()).map_err(fail)
    }

    /// Flushes the list.
    pub(super) fn flush(&self) -> Result<()> {
        lock(&self.out).flush().map_err(fail)
    }
}

fn fail(cause: std::io::Error) -> Error {
    Error::io("stdout", "cannot write", &cause).unsaid()
}

/// A name for a terminal: bytes that are not UTF-8, and control characters, are shown in hexadecimal.
fn escaped(name: &[u8]) -> String {
    let mut text = String::new();
    for (start, end, letter) in name.char_indices() {
        let raw = name.get(start..end).unwrap_or_default();
        if letter.is_control() || letter == '\\' || (letter == '\u{fffd}' && raw != "\u{fffd}".as_bytes()) {
            text.extend(raw.iter().map(|byte| format!("\\x{byte:02x}")));
        } else {
            text.push(letter);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn names_cannot_disturb_a_terminal() {
        assert_eq!(escaped("d/é.ibd".as_bytes()), "d/é.ibd");
        assert_eq!(escaped(b"a\nb\x1b[2J\xff\\"), "a\\x0ab\\x1b[2J\\xff\\x5c");
    }
}
