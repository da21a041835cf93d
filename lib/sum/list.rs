//! Files of sums. The sum of a stream is a line of coreutils, `HASH  -`; that of a member is `HASH SIZE NAME`, which
//! coreutils skip.
//!
//! As in coreutils, a line whose name has a newline, a carriage return or a backslash begins with a backslash, and has
//! them as `\n`, `\r` and `\\`.

use std::collections::BTreeMap;
use std::path::Path;

use bstr::{ByteSlice, ByteVec};

use super::algorithm::Algorithm;
use crate::error::{Error, Result};

/// The sums of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Size of the content in bytes, including holes.
    pub size: u64,
    /// One for each algorithm, in their order.
    pub sums: Vec<String>,
}

/// The content of a file of sums.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List {
    /// The sums of the whole stream: one for each algorithm.
    pub stream: Vec<String>,
    /// The sums of each member, in the order in which members ended.
    pub members: Vec<(Vec<u8>, Member)>,
}

impl List {
    /// The lines for sums by these algorithms. BLAKE3 in addition to SHA-256, whose lines look the same, is written as
    /// by `b3sum --tag`, which `sha256sum -c` skips.
    pub fn write(&self, algorithms: &[Algorithm]) -> Vec<u8> {
        let mut out = Vec::new();
        for (sum, algorithm) in self.stream.iter().zip(algorithms) {
            let tagged = *algorithm == Algorithm::Blake3 && algorithms.contains(&Algorithm::Sha256);
            out.push_str(if tagged { format!("{TAG}-) = {sum}\n") } else { format!("{sum}  -\n") });
        }
        for (name, member) in &self.members {
            let (mark, name) = escape(name);
            for sum in &member.sums {
                out.push_str(format!("{mark}{sum} {} ", member.size));
                out.push_str(&name);
                out.push(b'\n');
            }
        }
        out
    }

    /// Parses lines of ours or of coreutils. All lines that are not of members must be of one file, whatever its name.
    pub fn parse(place: &str, bytes: &[u8]) -> Result<List> {
        let mut list = List::default();
        let mut known: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
        let mut stream: Option<Vec<u8>> = None;
        for (number, line) in bytes.lines().enumerate().filter(|(_, line)| !line.is_empty()) {
            let fault = |what: &str| Error::damaged(place, format_args!("line {}: {what}", number + 1));
            let line = Line::parse(line).ok_or_else(|| fault("is not HASH  NAME or HASH SIZE NAME"))?;
            let Some(size) = line.size else {
                if *stream.get_or_insert_with(|| line.name.clone()) != line.name {
                    return Err(fault("is of another file than the lines before; one stream is expected"));
                }
                list.stream.push(line.sum);
                continue;
            };
            let at = *known.entry(line.name.clone()).or_insert(list.members.len());
            match list.members.get_mut(at) {
                Some((_, member)) if member.size != size => return Err(fault("says another size than a line before")),
                Some((_, member)) => member.sums.push(line.sum),
                None => list.members.push((line.name, Member { size, sums: vec![line.sum] })),
            }
        }
        if list == List::default() {
            return Err(Error::damaged(place, "has no sum: empty")
                .hint("the run that was to write it failed, or has not ended yet"));
        }
        Ok(list)
    }

    /// Reads a file.
    pub(super) fn read(path: &Path) -> Result<List> {
        let bytes = std::fs::read(path).map_err(|cause| Error::io(path.display(), "cannot read", &cause))?;
        List::parse(&path.display().to_string(), &bytes)
    }

    /// The algorithms of the lines; if the number of digits is ambiguous, the more common one.
    pub fn algorithms(&self) -> Vec<Algorithm> {
        let members = self.members.iter().flat_map(|(_, member)| &member.sums);
        let mut found = Vec::new();
        for algorithm in self.stream.iter().chain(members).filter_map(|sum| Algorithm::of_digits(sum.len()).first()) {
            if !found.contains(algorithm) {
                found.push(*algorithm);
            }
        }
        found
    }

    /// Compares `got` with the expected sums; the error describes the first difference.
    pub(super) fn check(&self, got: &List) -> Result<(), String> {
        if !self.stream.is_empty() && !got.stream.is_empty() {
            agree("the stream", &self.stream, &got.stream)?;
        }
        let mut left: BTreeMap<&[u8], &Member> = BTreeMap::new();
        left.extend(got.members.iter().map(|(name, member)| (name.as_slice(), member)));
        let compare = !self.members.is_empty() && !left.is_empty();
        if !compare && (self.stream.is_empty() || got.stream.is_empty()) {
            return Err("nothing in common: one has sums of members, the other of a stream".to_owned());
        }
        for (name, want) in self.members.iter().filter(|_| compare) {
            let what = name.as_bstr();
            let got = left.remove(name.as_slice()).ok_or_else(|| format!("{what} is missing"))?;
            if got.size != want.size {
                return Err(format!("{what} has {} bytes, not {}", got.size, want.size));
            }
            agree(&what.to_string(), &want.sums, &got.sums)?;
        }
        match left.keys().next().filter(|_| compare) {
            Some(name) => Err(format!("{} is not expected", name.as_bstr())),
            None => Ok(()),
        }
    }
}

/// Compares sums with the same number of digits. If one side has more of them (SHA-256 and BLAKE3), those of the other
/// must be among them.
fn agree(what: &str, want: &[String], got: &[String]) -> Result<(), String> {
    let mut compared = false;
    for digits in want.iter().map(String::len) {
        let of = |sums: &[String]| sums.iter().filter(|sum| sum.len() == digits).cloned().collect::<Vec<_>>();
        let (mut few, mut many) = (of(want), of(got));
        if few.len() > many.len() {
            std::mem::swap(&mut few, &mut many);
        }
        if few.iter().any(|sum| !many.contains(sum)) {
            return Err(format!("{what} differs"));
        }
        compared |= !few.is_empty();
    }
    if compared { Ok(()) } else { Err(format!("{what}: sums of different kinds cannot be compared")) }
}

/// How lines of BLAKE3 begin if they must be distinguished from others.
const TAG: &str = "BLAKE3 (";

struct Line {
    sum: String,
    size: Option<u64>,
    name: Vec<u8>,
}

impl Line {
    fn parse(line: &[u8]) -> Option<Line> {
        if let Some((name, sum)) = line.strip_prefix(TAG.as_bytes()).and_then(|line| line.rsplit_once_str(") = ")) {
            return Line::new(sum, None, name.to_vec());
        }
        let escaped = line.strip_prefix(b"\\");
        let (sum, rest) = escaped.unwrap_or(line).split_once_str(" ")?;
        // The second blank of coreutils, or the asterisk of its binary mode.
        let (size, name) = match rest.strip_prefix(b" ").or_else(|| rest.strip_prefix(b"*")) {
            Some(name) => (None, name),
            None => {
                let (size, name) = rest.split_once_str(" ")?;
                (Some(size.to_str().ok()?.parse().ok()?), name)
            }
        };
        let name = if escaped.is_some() { unescape(name)? } else { name.to_vec() };
        Line::new(sum, size, name)
    }

    fn new(sum: &[u8], size: Option<u64>, name: Vec<u8>) -> Option<Line> {
        if name.is_empty() || Algorithm::of_digits(sum.len()).is_empty() || !sum.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        Some(Line { sum: sum.to_str().ok()?.to_ascii_lowercase(), size, name })
    }
}

fn escape(name: &[u8]) -> (&'static str, Vec<u8>) {
    if name.find_byteset(b"\\\n\r").is_none() {
        return ("", name.to_vec());
    }
    ("\\", name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r"))
}

fn unescape(name: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut bytes = name.iter();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'\\' => match bytes.next()? {
                b'n' => b'\n',
                b'r' => b'\r',
                b'\\' => b'\\',
                _ => return None,
            },
            byte => *byte,
        });
    }
    Some(out)
}

/// True if this is the sum of an empty input.
pub(super) fn is_of_nothing(sum: &str) -> bool {
    Algorithm::of_digits(sum.len()).iter().any(|algorithm| algorithm.begin().finish() == sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_back_as_they_were() {
        let member = |digit: &str| Member { size: 5, sums: vec![digit.repeat(40), digit.repeat(64)] };
        let list = List {
            stream: vec!["a".repeat(40)],
            members: vec![(b"db/t.ibd".to_vec(), member("0")), (b"a\n\\b \xff".to_vec(), member("f"))],
        };
        let algorithms = [Algorithm::Sha1, Algorithm::Sha256];
        assert_eq!(List::parse("x", &list.write(&algorithms)).unwrap(), list);
        assert_eq!(list.algorithms(), algorithms);
    }

    #[test]
    fn what_is_no_list_is_refused() {
        let (a, b) = ("a".repeat(40), "b".repeat(40));
        for text in [
            "",
            "\n",
            "hello\n",
            &format!("{a}\n"),
            &format!("{a}x  -\n"),
            &format!("{a}  x\n{b}  y\n"),
            &format!("{a} x y\n"),
        ] {
            assert!(List::parse("x", text.as_bytes()).is_err(), "{text:?}");
        }
        assert_eq!(List::parse("x", format!("{} *x\n", a.to_uppercase()).as_bytes()).unwrap().stream, [a]);
    }
}
