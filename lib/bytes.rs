//! Parts of slices, and numbers in arrays, at offsets that the program has checked.
//!
//! Bytes are checked once, where they enter. After that, an index beyond the end is a bug and not a fault of the input:
//! [`Part`] makes it an internal error, never a shorter result; [`Fields`] lets the compiler prove that it cannot
//! happen.

use std::slice::SliceIndex;

use crate::error::{Internal, OrInternal as _};

/// Parts of a slice that must exist.
pub(crate) trait Part<T> {
    /// The elements of a range.
    fn part<I: SliceIndex<[T]>>(&self, range: I) -> Result<&I::Output, Internal>;
    /// The elements of a range, mutable.
    fn part_mut<I: SliceIndex<[T]>>(&mut self, range: I) -> Result<&mut I::Output, Internal>;
}

const BEYOND: &str = "an index beyond the end of a buffer";

impl<T> Part<T> for [T] {
    fn part<I: SliceIndex<[T]>>(&self, range: I) -> Result<&I::Output, Internal> {
        self.get(range).or_internal(BEYOND)
    }

    fn part_mut<I: SliceIndex<[T]>>(&mut self, range: I) -> Result<&mut I::Output, Internal> {
        self.get_mut(range).or_internal(BEYOND)
    }
}

/// Numbers at fixed offsets of an array; an offset that is not inside does not compile.
pub(crate) trait Fields {
    /// The `N` bytes at `AT`.
    fn field<const AT: usize, const N: usize>(&self) -> [u8; N];
    /// The last `N` bytes.
    fn last_field<const N: usize>(&self) -> [u8; N];
    /// Sets the `N` bytes at `AT`.
    fn set<const AT: usize, const N: usize>(&mut self, bytes: &[u8; N]);
    /// Sets the last `N` bytes.
    fn set_last<const N: usize>(&mut self, bytes: &[u8; N]);

    /// Two bytes, big-endian.
    fn be_u16<const AT: usize>(&self) -> u16 {
        u16::from_be_bytes(self.field::<AT, 2>())
    }

    /// Four bytes, big-endian.
    fn be_u32<const AT: usize>(&self) -> u32 {
        u32::from_be_bytes(self.field::<AT, 4>())
    }

    /// Eight bytes, big-endian.
    fn be_u64<const AT: usize>(&self) -> u64 {
        u64::from_be_bytes(self.field::<AT, 8>())
    }

    /// Four bytes, little-endian.
    fn le_u32<const AT: usize>(&self) -> u32 {
        u32::from_le_bytes(self.field::<AT, 4>())
    }

    /// Eight bytes, little-endian.
    fn le_u64<const AT: usize>(&self) -> u64 {
        u64::from_le_bytes(self.field::<AT, 8>())
    }
}

#[expect(clippy::indexing_slicing, reason = "the compiler has checked that they are inside")]
impl<const LEN: usize> Fields for [u8; LEN] {
    fn field<const AT: usize, const N: usize>(&self) -> [u8; N] {
        const { assert!(AT + N <= LEN, "a field lies inside its array") };
        std::array::from_fn(|at| self[AT + at])
    }

    fn last_field<const N: usize>(&self) -> [u8; N] {
        const { assert!(N <= LEN, "a field lies inside its array") };
        std::array::from_fn(|at| self[LEN - N + at])
    }

    fn set<const AT: usize, const N: usize>(&mut self, bytes: &[u8; N]) {
        const { assert!(AT + N <= LEN, "a field lies inside its array") };
        self[AT..AT + N].copy_from_slice(bytes);
    }

    fn set_last<const N: usize>(&mut self, bytes: &[u8; N]) {
        const { assert!(N <= LEN, "a field lies inside its array") };
        self[LEN - N..].copy_from_slice(bytes);
    }
}

/// The distance of an offset from the last multiple of `unit`.
#[expect(clippy::cast_possible_truncation, reason = "less than `unit`")]
pub(crate) fn within(place: u64, unit: usize) -> usize {
    (place % unit as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_there_or_an_internal_error() {
        let mut bytes = [1, 2, 3, 4, 5, 6, 7, 8];
        assert_eq!((bytes.part(2..4), bytes.part(8..)), (Ok(&[3, 4][..]), Ok(&[][..])));
        assert!(bytes.part(7..9).is_err() && bytes.part_mut(9..).is_err() && bytes.part(8).is_err());
        assert_eq!(
            crate::error::Error::from(bytes.part(9..).unwrap_err()).to_string(),
            "internal error: an index beyond the end of a buffer; please report"
        );
        assert_eq!((bytes.be_u16::<1>(), bytes.le_u32::<4>()), (0x0203, 0x0807_0605));
        assert_eq!((bytes.be_u64::<0>(), bytes.le_u64::<0>()), (0x0102_0304_0506_0708, 0x0807_0605_0403_0201));
        bytes.set::<0, 2>(&[9, 10]);
        bytes.set_last(&[11, 12, 13]);
        assert_eq!((bytes, bytes.last_field()), ([9, 10, 3, 4, 5, 11, 12, 13], [12, 13]));
    }
}
