//! GTID sets: for each source and tag, the numbers of its transactions. Source: `rpl_gtid_set.cc`.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

/// A server's UUID.
pub type Uuid = [u8; 16];

/// Source, and tag (may be empty).
type Key = (Uuid, String);

/// A GTID set. Intervals are half open, sorted, and neither overlap nor touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GtidSet {
    sources: BTreeMap<Key, Vec<(u64, u64)>>,
}

impl GtidSet {
    /// Parses `uuid:1-5:7:tag:1-3,uuid:…`, with blanks and line ends anywhere between. `None` if it is not a set.
    pub fn parse(text: &str) -> Option<Self> {
        let mut set = GtidSet::default();
        for source in text.split(',').map(str::trim).filter(|source| !source.is_empty()) {
            let mut parts = source.split(':').map(str::trim);
            let uuid = parse_uuid(parts.next()?)?;
            let mut tag = String::new();
            for part in parts {
                if !part.starts_with(|letter: char| letter.is_ascii_digit()) {
                    tag = part.to_ascii_lowercase();
                    continue;
                }
                let (first, last) = part.split_once('-').unwrap_or((part, part));
                let (first, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
                set.add(uuid, &tag, first, last.checked_add(1)?);
            }
        }
        Some(set)
    }

    /// Adds the numbers from `start` to `end`, exclusive.
    pub fn add(&mut self, uuid: Uuid, tag: &str, start: u64, end: u64) {
        if start >= end {
            return;
        }
        let intervals = self.sources.entry((uuid, tag.to_owned())).or_default();
        // Usually this is the next transaction of the same source.
        if let Some(last) = intervals.last_mut().filter(|last| last.0 <= start && start <= last.1) {
            last.1 = last.1.max(end);
            return;
        }
        intervals.push((start, end));
        intervals.sort_unstable();
        let mut joined: Vec<(u64, u64)> = Vec::with_capacity(intervals.len());
        for &(start, end) in intervals.iter() {
            match joined.last_mut().filter(|last| start <= last.1) {
                Some(last) => last.1 = last.1.max(end),
                None => joined.push((start, end)),
            }
        }
        *intervals = joined;
    }

    /// Adds all GTIDs of another set.
    pub fn merge(&mut self, other: &GtidSet) {
        for ((uuid, tag), intervals) in &other.sources {
            for &(start, end) in intervals {
                self.add(*uuid, tag, start, end);
            }
        }
    }

    /// True if all of `other` is in this set.
    pub fn contains(&self, other: &GtidSet) -> bool {
        other.sources.iter().all(|(key, intervals)| {
            let ours = self.sources.get(key).map(Vec::as_slice).unwrap_or_default();
            intervals.iter().all(|one| ours.iter().any(|our| our.0 <= one.0 && one.1 <= our.1))
        })
    }

    /// True if the set has no GTID.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }
}

impl fmt::Display for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut source = None;
        for ((uuid, tag), intervals) in &self.sources {
            if source != Some(uuid) {
                f.write_str(if source.is_some() { "," } else { "" })?;
                for (at, byte) in uuid.iter().enumerate() {
                    f.write_str(if matches!(at, 4 | 6 | 8 | 10) { "-" } else { "" })?;
                    write!(f, "{byte:02x}")?;
                }
                source = Some(uuid);
            }
            if !tag.is_empty() {
                write!(f, ":{tag}")?;
            }
            for (start, end) in intervals {
                f.write_char(':')?;
                match end - start {
                    1 => write!(f, "{start}")?,
                    _ => write!(f, "{start}-{}", end - 1)?,
                }
            }
        }
        Ok(())
    }
}

/// Thirty-two hexadecimal digits, with or without dashes.
fn parse_uuid(text: &str) -> Option<Uuid> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|&letter| letter != '-')
        .map(|digit| digit.to_digit(16))
        .map(|digit| u8::try_from(digit?).ok())
        .collect::<Option<_>>()?;
    let bytes: Vec<u8> =
        digits.chunks_exact(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect();
    (digits.len() == 32).then(|| bytes.try_into().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
    const B: &str = "4e11fa47-71ca-11e1-9e33-c80aa9429562";

    fn set(text: &str) -> GtidSet {
        GtidSet::parse(&text.replace('A', A).replace('B', B)).unwrap()
    }

    #[test]
    fn sets_are_written_as_the_server_writes_them() {
        for (text, expect) in [
            ("", ""),
            ("A:1", "A:1"),
            ("A:1-5:7", "A:1-5:7"),
            ("B:2-3,\nA:7:1-5:6", "A:1-7,B:2-3"),
            ("A:1-16:tag_one:1-3", "A:1-16:tag_one:1-3"),
            ("A:b:1:a:4, A:2", "A:2:a:4:b:1"),
            ("A:3-5:1-4:9:8", "A:1-5:8-9"),
        ] {
            assert_eq!(set(text).to_string(), expect.replace('A', A).replace('B', B), "{text}");
        }
        for text in ["A", "nonsense:1", "3e11fa47:1"] {
            let parsed = GtidSet::parse(&text.replace('A', A));
            assert!(parsed.is_none_or(|set| set.is_empty()), "{text}");
        }
    }

    #[test]
    fn a_set_contains_what_it_was_made_of() {
        let (small, large) = (set("A:2-3,B:t:1"), set("A:1-9,B:t:1-2,B:1"));
        assert!(large.contains(&small) && !small.contains(&large));
        assert!(!set("A:1-2:4-5").contains(&set("A:2-4")));
        assert!(!set("B:1").contains(&set("B:t:1")));
        let mut both = set("A:1:5");
        both.merge(&set("A:2-4,B:7"));
        assert_eq!(both, set("A:1-5,B:7"));
        assert!(small.contains(&GtidSet::default()));
    }
}
