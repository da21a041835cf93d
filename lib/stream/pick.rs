//! Selects members by shell patterns.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use bstr::ByteSlice;
use globset::{GlobBuilder, GlobMatcher};

use crate::error::{Error, Result};

/// Shell patterns that are matched with whole names and with the directories that lead to them, so that `sb` selects
/// all of `sb/`. As in tar, `*` and `?` match slashes, too.
#[derive(Debug, Default)]
pub struct Patterns {
    all: Vec<Pattern>,
}

#[derive(Debug)]
struct Pattern {
    text: String,
    matcher: GlobMatcher,
    /// A pattern without a slash may also match a last component; used by [`Patterns::excludes`].
    bare: bool,
    used: std::sync::atomic::AtomicBool,
}

impl Patterns {
    /// Parses patterns; a malformed one is a usage error.
    pub fn new(texts: &[String]) -> Result<Self> {
        let pattern = |text: &String| {
            let built = GlobBuilder::new(text).literal_separator(false).backslash_escape(true).build();
            let glob = built.map_err(|cause| Error::usage(text, format_args!("not a pattern: {}", cause.kind())))?;
            Ok(Pattern {
                text: text.clone(),
                matcher: glob.compile_matcher(),
                bare: !text.contains('/'),
                used: false.into(),
            })
        };
        Ok(Patterns { all: texts.iter().map(pattern).collect::<Result<_>>()? })
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// True if a pattern matches the name or one of its directories.
    pub fn picks(&self, name: &[u8]) -> bool {
        let mut picked = false;
        for pattern in &self.all {
            let directories = name.find_iter(b"/").filter_map(|slash| name.get(..slash));
            if std::iter::once(name).chain(directories).any(|part| pattern.matches(part)) {
                pattern.used.store(true, std::sync::atomic::Ordering::Relaxed);
                picked = true;
            }
        }
        picked
    }

    /// True if a pattern matches the name, or has no slash and matches its last component.
    pub fn excludes(&self, name: &[u8]) -> bool {
        let last = name.rsplit_str("/").next().unwrap_or(name);
        self.all.iter().any(|pattern| pattern.matches(name) || pattern.bare && pattern.matches(last))
    }

    /// The first pattern that has matched nothing.
    pub fn unused(&self) -> Option<&str> {
        let idle = |pattern: &&Pattern| !pattern.used.load(std::sync::atomic::Ordering::Relaxed);
        self.all.iter().find(idle).map(|pattern| pattern.text.as_str())
    }
}

impl Pattern {
    fn matches(&self, name: &[u8]) -> bool {
        self.matcher.is_match(OsStr::from_bytes(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_pick_names_and_directories() {
        let patterns = Patterns::new(&["sb".into(), "*.frm".into(), "d/[ab]?".into(), "never".into()]).unwrap();
        for name in [&b"sb/t.ibd"[..], b"sb", b"x/y.frm", b"d/a1", b"d/b2/x", b"\xff.frm"] {
            assert!(patterns.picks(name), "{}", name.as_bstr());
        }
        for name in [&b"sb2/t.ibd"[..], b"x/sb", b"x.frm2", b"d/c1"] {
            assert!(!patterns.picks(name), "{}", name.as_bstr());
        }
        assert_eq!(patterns.unused(), Some("never"));
        assert!(patterns.excludes(b"x/sb") && !patterns.excludes(b"x/d/a1"));
        assert!(Patterns::new(&["[".into()]).is_err());
    }
}
