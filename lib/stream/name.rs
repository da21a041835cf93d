//! Valid names of members.
//!
//! Members are files beneath a directory that the reader chooses. A name that leads out of it, or that the kernel would
//! interpret differently, is refused, for every chunk type with a name. The original programs check only some types,
//! and exit with success after a refusal (`xbstream.cc`).

use std::borrow::Cow;
use std::fmt;

use super::chunk::PATH_MAX;

/// Why a name is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It has no bytes, or only `.` and slashes.
    Empty,
    /// It begins with a slash.
    Absolute,
    /// It has a `..` component.
    Upwards,
    /// It has a NUL byte, where the kernel would cut it.
    Nul,
    /// It is longer than 511 bytes.
    Long,
    /// It ends with a slash; the format has no directories.
    Directory,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::Empty => "empty name",
            Fault::Absolute => "absolute name",
            Fault::Upwards => "name with a '..' component",
            Fault::Nul => "name with a NUL byte",
            Fault::Long => "name longer than 511 bytes",
            Fault::Directory => "name ends with a slash",
        })
    }
}

/// The normalized name: `./d//f` becomes `d/f` (`mbstream -c ./d/f` writes such names).
pub fn clean(path: &[u8]) -> Result<Cow<'_, [u8]>, Fault> {
    if path.is_empty() {
        return Err(Fault::Empty);
    }
    if path.len() > PATH_MAX {
        return Err(Fault::Long);
    }
    if path.first() == Some(&b'/') {
        return Err(Fault::Absolute);
    }
    if path.contains(&0) {
        return Err(Fault::Nul);
    }
    let parts = || path.split(|byte| *byte == b'/');
    if parts().any(|part| part == b"..") {
        return Err(Fault::Upwards);
    }
    if matches!(parts().next_back(), Some(b"" | b".")) {
        return Err(if parts().all(|part| part.is_empty() || part == b".") { Fault::Empty } else { Fault::Directory });
    }
    if parts().all(|part| !part.is_empty() && part != b".") {
        return Ok(Cow::Borrowed(path));
    }
    let kept: Vec<&[u8]> = parts().filter(|part| !part.is_empty() && *part != b".").collect();
    Ok(Cow::Owned(kept.join(&b'/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_lead_out_are_refused() {
        for (path, fault) in [
            (&b""[..], Fault::Empty),
            (b".", Fault::Empty),
            (b".//.", Fault::Empty),
            (b"/etc/passwd", Fault::Absolute),
            (b"..", Fault::Upwards),
            (b"a/../b", Fault::Upwards),
            (b"../a", Fault::Upwards),
            (b"a/..", Fault::Upwards),
            (b"a\0b", Fault::Nul),
            (b"a/", Fault::Directory),
            (&[b'a'; 512], Fault::Long),
        ] {
            assert_eq!(clean(path), Err(fault), "{path:?}");
        }
        for (path, name) in [
            (&b"a"[..], &b"a"[..]),
            (b"./a", b"a"),
            (b"a//b/./c", b"a/b/c"),
            (b".hidden", b".hidden"),
            (b"...", b"..."),
            (b"a/..b", b"a/..b"),
            (b"\xff\xfe", b"\xff\xfe"),
        ] {
            assert_eq!(clean(path).as_deref(), Ok(name));
        }
    }
}
