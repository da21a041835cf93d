//! Pages as only MySQL stores them: squeezed by page compression, and encrypted. Source:
//! `facts/mysql-hot-backup#page-header`, `facts/mysql-hot-backup#page-checks` and `facts/mysql-hot-backup#encryption`;
//! `fil0types.h`, `os0file.cc`.
//!
//! Both keep the page's header but for bytes 26 to 34, which say how to undo them:
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

/// Numbers of undo tablespaces (`dict_sys_t::s_min_undo_space_id`); no MariaDB has come as far.
pub(super) const UNDO: Range<u32> = 0xffff_fff0 - UNDO_SPACES * 400_000..0xffff_fff0;
/// There are so many undo tablespaces at most; each gets a number this much smaller whenever it is truncated.
const UNDO_SPACES: u32 = 127;

/// A number that stays with a tablespace: the first one that it had, if it is one of undo.
pub fn lasting_id(id: SpaceId) -> SpaceId {
    let first = |end: u32| SpaceId::new(end - 1 - (end - 1 - id.get()) % UNDO_SPACES);
    if is_undo(id) { first(UNDO.end) } else { id }
}

/// True for the number of an undo tablespace.
pub fn is_undo(id: SpaceId) -> bool {
    UNDO.contains(&id.get())
}

/// The type of a page whose body is squeezed.
pub(super) const SQUEEZED: u16 = 14;
/// Types of pages whose body is encrypted, squeezed before or not.
const ENCRYPTED: u16 = 15;
const SQUEEZED_ENCRYPTED: u16 = 16;
const ENCRYPTED_RTREE: u16 = 17;

const ALGORITHM: usize = 27;
const PLAIN_TYPE: usize = 28;
const PLAIN_LEN: usize = 30;
const LEN: usize = 32;

/// True if the sum of the page is encrypted with it, so that only a key could tell whether the page is whole.
pub(super) fn is_encrypted(page: Page<'_>) -> bool {
    matches!(page.kind(), ENCRYPTED | SQUEEZED_ENCRYPTED | ENCRYPTED_RTREE)
}

/// What can be said of an encrypted page without a key: that the lengths in its header are possible.
pub(super) fn check_encrypted(page: Page<'_>) -> Result<(), Fault> {
    if page.kind() != SQUEEZED_ENCRYPTED {
        return Ok(());
    }
    let (len, plain) = (page.head.be_u16::<LEN>(), page.head.be_u16::<PLAIN_LEN>());
    let fits = |len: u16| usize::from(len) + HEADER <= page.bytes.len();
    if fits(plain) && len <= plain && len > 0 { Ok(()) } else { Err(Fault::Length { len: len.into() }) }
}

/// The page as it was before it was squeezed; the sum in its header is over that.
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
