//! Page formats that only MySQL has: its page compression and encryption. Source: `facts/mysql-hot-backup#page-header`,
//! `facts/mysql-hot-backup#page-checks` and `facts/mysql-hot-backup#encryption`; `fil0types.h`, `os0file.cc`.
//!
//! Both keep the page's header except bytes 26 to 34, which describe the change:
//!
//! ```text
//! 24  2  type: 14 squeezed, 15 encrypted, 16 both, 17 encrypted R-tree
//! 26  1  version             30  2  bytes of the plain body
//! 27  1  algorithm           32  2  bytes of the squeezed body
//! 28  2  the plain type
//! ```

use std::ops::Range;

use super::SpaceId;
use super::page::{Fault, HEADER, Page, TYPE};
use crate::bytes::Fields as _;

/// Ids of undo tablespaces (`dict_sys_t::s_min_undo_space_id`). No MariaDB server has ids that large.
pub(super) const UNDO: Range<u32> = 0xffff_fff0 - UNDO_SPACES * 400_000..0xffff_fff0;
/// The largest number of undo tablespaces. Each truncation lowers the id of one by this much.
const UNDO_SPACES: u32 = 127;

/// An id that does not change: for an undo tablespace, the first id that it had.
pub fn lasting_id(id: SpaceId) -> SpaceId {
    let first = |end: u32| SpaceId::new(end - 1 - (end - 1 - id.get()) % UNDO_SPACES);
    if is_undo(id) { first(UNDO.end) } else { id }
}

/// True for the id of an undo tablespace.
pub fn is_undo(id: SpaceId) -> bool {
    UNDO.contains(&id.get())
}

/// The type of a page whose body is compressed.
pub(super) const SQUEEZED: u16 = 14;
/// The types of pages whose body is encrypted, compressed or not.
const ENCRYPTED: u16 = 15;
const SQUEEZED_ENCRYPTED: u16 = 16;
const ENCRYPTED_RTREE: u16 = 17;

const ALGORITHM: usize = 27;
const PLAIN_TYPE: usize = 28;
const PLAIN_LEN: usize = 30;
const LEN: usize = 32;

/// True if the checksum of the page is encrypted with it, so that the page cannot be verified without a key.
pub(super) fn is_encrypted(page: Page<'_>) -> bool {
    matches!(page.kind(), ENCRYPTED | SQUEEZED_ENCRYPTED | ENCRYPTED_RTREE)
}

/// Checks what can be checked of an encrypted page without a key: whether the lengths in its header are possible.
pub(super) fn check_encrypted(page: Page<'_>) -> Result<(), Fault> {
    if page.kind() != SQUEEZED_ENCRYPTED {
        return Ok(());
    }
    let (len, plain) = (page.head.be_u16::<LEN>(), page.head.be_u16::<PLAIN_LEN>());
    let fits = |len: u16| usize::from(len) + HEADER <= page.bytes.len();
    if fits(plain) && len <= plain && len > 0 { Ok(()) } else { Err(Fault::Length { len: len.into() }) }
}

/// The uncompressed page, which the checksum in its header covers.
pub(super) fn unsqueezed(page: Page<'_>) -> Result<Vec<u8>, Fault> {
    let len = page.head.be_u16::<LEN>();
    let whole = HEADER + usize::from(page.head.be_u16::<PLAIN_LEN>());
    let squeezed = page.bytes.get(HEADER..HEADER + usize::from(len)).filter(|_| whole == page.bytes.len());
    let Some(squeezed) = squeezed else { return Err(Fault::Length { len: len.into() }) };
    let mut plain = page.bytes.to_vec();
    let Some((head, body)) = plain.split_first_chunk_mut::<HEADER>() else {
        return Err(Fault::Length { len: len.into() });
    };
    let [algorithm] = page.head.field::<ALGORITHM, 1>();
    let written = match algorithm {
        1 => miniz_oxide::inflate::decompress_slice_iter_to_slice(body, std::iter::once(squeezed), true, false).ok(),
        2 => lz4_flex::block::decompress_into(squeezed, body).ok(),
        _ => None,
    };
    if written != Some(body.len()) {
        return Err(Fault::Squeezed { algorithm });
    }
    head.set::<TYPE, 2>(&page.head.field::<PLAIN_TYPE, 2>());
    Ok(plain)
}
