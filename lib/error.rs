//! One error for all jobs: a kind that decides the exit code, and one line that says where and what.
//!
//! The text follows one grammar, `where: what: detail`, in lower case and without a full stop; the command line puts
//! the tool's name before it. Formats have small fault enums of their own; the code that knows the place (member,
//! stream byte, file, page) turns a fault into an [`Error`].

use std::fmt::{self, Display};
use std::io;

/// Shorthand for results of this library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a failure means to the operator; each has its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// I/O, server, permission, space: read the message.
    Failed,
    /// The command is wrong.
    Usage,
    /// The input is damaged, truncated or not what it should be: do not trust it.
    Damaged,
    /// Wrong key, or data that fails authentication.
    Key,
    /// The snapshot is not valid (redo overrun, unsafe DDL, base does not fit): run it again.
    Invalid,
    /// The reader of our output went away; the tool dies by SIGPIPE.
    Pipe,
    /// A signal ended the program, which has cleaned up; the tool dies by this signal.
    Signal(i32),
}

impl Kind {
    /// The exit code, as in the table of the README. A shell shows a death by signal as 128 + the signal's number.
    pub fn code(self) -> u8 {
        match self {
            Kind::Failed => 1,
            Kind::Usage => 2,
            Kind::Damaged => 3,
            Kind::Key => 4,
            Kind::Invalid => 5,
            Kind::Pipe => 141,
            Kind::Signal(number) => u8::try_from(128 + number).unwrap_or(1),
        }
    }
}

/// Why a job failed: kind, one line, and at most one hint.
#[derive(Clone, Debug)]
pub struct Error {
    kind: Kind,
    text: String,
    hint: Option<String>,
    unsaid: bool,
}

impl Error {
    /// `place` is a file, member, option or `stdin`; `what` says what is wrong there.
    pub fn new(kind: Kind, place: impl Display, what: impl Display) -> Self {
        Error { kind, text: format!("{place}: {what}"), hint: None, unsaid: false }
    }

    /// I/O, server, permission, space.
    pub fn failed(place: impl Display, what: impl Display) -> Self {
        Self::new(Kind::Failed, place, what)
    }

    /// A command that cannot be carried out as given.
    pub fn usage(place: impl Display, what: impl Display) -> Self {
        Self::new(Kind::Usage, place, what)
    }

    /// Input that must not be trusted.
    pub fn damaged(place: impl Display, what: impl Display) -> Self {
        Self::new(Kind::Damaged, place, what)
    }

    /// A snapshot that is not valid.
    pub fn invalid(place: impl Display, what: impl Display) -> Self {
        Self::new(Kind::Invalid, place, what)
    }

    /// A bug of this program: its own rules exclude what has happened.
    pub fn internal(what: impl Display) -> Self {
        Self::failed("internal error", format_args!("{what}; please report"))
    }

    /// A system call that failed: `sb/t.ibd: cannot read: permission denied`. A broken pipe keeps its own kind.
    pub fn io(place: impl Display, what: impl Display, cause: &io::Error) -> Self {
        let kind = if cause.kind() == io::ErrorKind::BrokenPipe { Kind::Pipe } else { Kind::Failed };
        Self::new(kind, place, format_args!("{what}: {}", reason(cause)))
    }

    /// Adds what the operator can do; shown on a line of its own.
    #[must_use]
    pub fn hint(mut self, hint: impl Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    /// Suppresses the message for a broken pipe: the reader of a listing has seen enough of it.
    #[must_use]
    pub fn unsaid(self) -> Self {
        Error { unsaid: true, ..self }
    }

    /// True if no message is to be printed.
    pub fn is_unsaid(&self) -> bool {
        self.unsaid && self.kind == Kind::Pipe
    }

    /// What the failure means.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What the operator can do about it, if anything.
    pub fn advice(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

/// A bug of this program, found where no place is known: in a format, in a buffer. `?` turns it into an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Internal(pub &'static str);

impl Display for Internal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Error::internal(self.0).fmt(f)
    }
}

impl From<Internal> for Error {
    fn from(internal: Internal) -> Self {
        Error::internal(internal.0)
    }
}

impl From<Internal> for io::Error {
    fn from(internal: Internal) -> Self {
        io::Error::other(Error::from(internal))
    }
}

/// A value that must exist by the program's own rules: an internal error in place of a default.
pub(crate) trait OrInternal<T> {
    /// Returns the value; `what` says which rule was broken.
    fn or_internal(self, what: &'static str) -> Result<T, Internal>;
}

impl<T> OrInternal<T> for Option<T> {
    fn or_internal(self, what: &'static str) -> Result<T, Internal> {
        self.ok_or(Internal(what))
    }
}

impl<T> OrInternal<T> for Result<T, std::num::TryFromIntError> {
    fn or_internal(self, what: &'static str) -> Result<T, Internal> {
        self.map_err(|_| Internal(what))
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Error {}

/// The text of the system's error without Rust's additions: `no space left on device`.
pub fn reason(cause: &io::Error) -> String {
    let text = cause.to_string();
    let text = text.split_once(" (os error").map_or(text.as_str(), |(words, _)| words);
    let mut letters = text.chars();
    match letters.next() {
        // "Input/output error" becomes "input/output error", but "I/O ..." and "EOF" keep their capitals.
        Some(first) if !letters.as_str().starts_with(|c: char| c.is_uppercase() || c == '/') => {
            first.to_lowercase().collect::<String>() + letters.as_str()
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_like_a_sentence_without_rust_words() {
        let cause = io::Error::from_raw_os_error(28);
        let error = Error::io("sb/t.ibd", "cannot write", &cause);
        assert_eq!(error.to_string(), "sb/t.ibd: cannot write: no space left on device");
        assert_eq!(error.kind().code(), 1);
    }

    #[test]
    fn a_broken_pipe_is_its_own_kind() {
        let error = Error::io("stdout", "cannot write", &io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(error.kind(), Kind::Pipe);
    }
}
