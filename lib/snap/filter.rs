//! Which tables a partial backup has.

/// What the operator asked for. Empty: everything.
#[derive(Clone, Debug, Default)]
pub struct Filter {}

impl Filter {
    /// True if the file with this name in the stream is wanted.
    pub(super) fn wants(&self, _name: &[u8]) -> bool {
        true
    }

    /// True if anything may be left out.
    pub(super) fn is_partial(&self) -> bool {
        false
    }
}
