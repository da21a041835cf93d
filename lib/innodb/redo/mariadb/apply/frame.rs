//! The bytes of a page, each access checked.

use super::Misfit;
use crate::innodb::checksum::crc32c_of;

/// A page.
#[derive(Debug)]
pub(super) struct Frame<'a>(pub(super) &'a mut [u8]);

impl Frame<'_> {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn part(&self, at: usize, len: usize) -> Result<&[u8], Misfit> {
        self.0.get(at..at.checked_add(len).ok_or(Misfit::Outside)?).ok_or(Misfit::Outside)
    }

    pub(super) fn part_mut(&mut self, at: usize, len: usize) -> Result<&mut [u8], Misfit> {
        self.0.get_mut(at..at.checked_add(len).ok_or(Misfit::Outside)?).ok_or(Misfit::Outside)
    }

    pub(super) fn u8(&self, at: usize) -> Result<u8, Misfit> {
        self.0.get(at).copied().ok_or(Misfit::Outside)
    }

    pub(super) fn set8(&mut self, at: usize, value: u8) -> Result<(), Misfit> {
        *self.0.get_mut(at).ok_or(Misfit::Outside)? = value;
        Ok(())
    }

    pub(super) fn u16(&self, at: usize) -> Result<usize, Misfit> {
        let two = self.0.get(at..).and_then(<[u8]>::first_chunk).ok_or(Misfit::Outside)?;
        Ok(u16::from_be_bytes(*two).into())
    }

    pub(super) fn set16(&mut self, at: usize, value: usize) -> Result<(), Misfit> {
        let two = u16::try_from(value).map_err(|_| Misfit::Outside)?;
        self.write(at, &two.to_be_bytes())
    }

    pub(super) fn u32(&self, at: usize) -> Result<u32, Misfit> {
        let four = self.0.get(at..).and_then(<[u8]>::first_chunk).ok_or(Misfit::Outside)?;
        Ok(u32::from_be_bytes(*four))
    }

    pub(super) fn write(&mut self, at: usize, bytes: &[u8]) -> Result<(), Misfit> {
        self.part_mut(at, bytes.len())?.copy_from_slice(bytes);
        Ok(())
    }

    /// Copies within the page; the ranges may overlap.
    pub(super) fn copy(&mut self, from: usize, len: usize, to: usize) -> Result<(), Misfit> {
        self.part(from, len)?;
        self.part(to, len)?;
        self.0.copy_within(from..from + len, to);
        Ok(())
    }

    pub(super) fn zero(&mut self, from: usize, to: usize) -> Result<(), Misfit> {
        self.0.get_mut(from..to).ok_or(Misfit::Outside)?.fill(0);
        Ok(())
    }

    /// The checksum that a debug server writes into the log: without checksums, LSN and trailer.
    pub(super) fn sum(&self) -> Result<u32, Misfit> {
        let body = self.len().checked_sub(super::SPACE + super::TRAILER).ok_or(Misfit::Outside)?;
        let head = [self.part(4, 12)?, self.part(24, 2)?].concat();
        Ok(crc32c_of(&head, self.part(super::SPACE, body)?))
    }
}
