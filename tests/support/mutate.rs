//! What somebody may change in a stream on purpose, with the sums around it right again.

use std::hash::Hasher;

use twox_hash::{XxHash32, XxHash64};
use xb::innodb::{Lsn, SpaceId};
use xb::stream::native::{Entry, Trailer, begin_digest};

use super::made::Manifest;
use super::tool::{Dice, chunk};

/// A chunk as it is in a stream, but for its CRC.
#[derive(Clone, Debug)]
pub struct Chunk {
    pub flags: u8,
    pub kind: u8,
    pub path: Vec<u8>,
    pub offset: u64,
    pub payload: Vec<u8>,
}

fn take(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// The chunks of a stream of ours.
pub fn chunks(mut stream: &[u8]) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    while !stream.is_empty() {
        let (flags, kind) = (stream[8], stream[9]);
        let len = u32::from_le_bytes(stream[10..14].try_into().unwrap()) as usize;
        let path = stream[14..14 + len].to_vec();
        stream = &stream[14 + len..];
        let (mut offset, mut payload) = (0, Vec::new());
        if kind == b'P' {
            let size = take(stream, 0) as usize;
            offset = take(stream, 8);
            payload = stream[20..20 + size].to_vec();
            stream = &stream[20 + size..];
        }
        chunks.push(Chunk { flags, kind, path, offset, payload });
    }
    chunks
}

/// With CRCs that are right.
pub fn stream(chunks: &[Chunk]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for Chunk { flags, kind, path, offset, payload } in chunks {
        let mut rest = Vec::new();
        match kind {
            b'P' => {
                rest.extend((payload.len() as u64).to_le_bytes());
                rest.extend(offset.to_le_bytes());
                rest.extend(crc32fast::hash(payload).to_le_bytes());
                rest.extend(payload);
            }
            b'S' => rest.extend(offset.to_le_bytes()),
            b'R' => {
                rest.extend(u32::try_from(payload.len().min(500)).unwrap().to_le_bytes());
                rest.extend(&payload[..payload.len().min(500)]);
            }
            _ => {}
        }
        bytes.extend(chunk(*kind, *flags, path, &rest));
    }
    bytes
}

/// One change of what a stream consists of.
pub fn mutate(chunks: &mut Vec<Chunk>, other: &[Chunk], dice: &mut Dice) -> &'static str {
    let (count, at) = (chunks.len(), dice.below(chunks.len()));
    let name = |dice: &mut Dice, chunks: &[Chunk]| chunks[dice.below(chunks.len())].path.clone();
    match dice.below(16) {
        0 => {
            chunks.remove(at);
            "a chunk lost"
        }
        1 => {
            let twice = chunks[at].clone();
            chunks.insert(dice.below(count + 1), twice);
            "a chunk doubled"
        }
        2 => {
            chunks.swap(at, dice.below(count));
            "chunks reordered"
        }
        3 => {
            chunks.insert(at, other[dice.below(other.len())].clone());
            "a chunk of another backup"
        }
        4 => {
            let from = dice.below(other.len());
            chunks.truncate(at);
            chunks.extend_from_slice(&other[from..]);
            "the end of another backup"
        }
        5 => {
            chunks.truncate(at + 1);
            "cut"
        }
        6 => {
            let name = name(dice, chunks);
            chunks[at].path = name;
            "another name"
        }
        7 => {
            chunks[at].kind = b"PESRDx"[dice.below(6)];
            "another kind"
        }
        8 => {
            chunks[at].offset = [dice.next() >> dice.below(64), 0, 1, u64::MAX][dice.below(4)];
            "another offset"
        }
        9 => {
            chunks[at].flags ^= 1 << dice.below(8);
            "another flag"
        }
        10 => {
            let (one, two) = (dice.below(count), chunks[at].payload.clone());
            chunks[one].payload = two;
            "the content of another chunk"
        }
        _ => bytes(chunks, dice),
    }
}

/// One change of bytes in a member.
fn bytes(chunks: &mut [Chunk], dice: &mut Dice) -> &'static str {
    match any(chunks, dice, |payload| !payload.is_empty()) {
        Some(payload) => change(payload, dice),
        None => "nothing",
    }
}

/// The payload of one of the chunks that are wanted.
fn any<'a>(chunks: &'a mut [Chunk], dice: &mut Dice, wanted: impl Fn(&[u8]) -> bool) -> Option<&'a mut Vec<u8>> {
    let found: Vec<usize> = (0..chunks.len()).filter(|at| wanted(&chunks[*at].payload)).collect();
    let at = *found.get(dice.below(found.len().max(1)))?;
    Some(&mut chunks[at].payload)
}

/// One change of bytes, of which there is at least one.
pub fn change(payload: &mut Vec<u8>, dice: &mut Dice) -> &'static str {
    // Heads and ends are where lengths and sums are.
    let len = payload.len();
    let near = dice.below(len.min(64));
    let place = [near, len - 1 - near, dice.below(len)][dice.below(3)];
    match dice.below(5) {
        0 => {
            payload[place] ^= 1 << dice.below(8);
            "a bit flipped"
        }
        1 => {
            payload[place] = [0, 0xff, 0x7f, b'9', b'"', b'\n'][dice.below(6)];
            "another byte"
        }
        2 => {
            payload.truncate(place);
            "content cut"
        }
        3 => {
            let piece = payload[place..len.min(place + 1 + dice.below(100))].to_vec();
            drop(payload.splice(place..place, piece));
            "content repeated"
        }
        _ => {
            let value = [u64::MAX, 1 << 62, 1 << 32, 0][dice.below(4)].to_le_bytes();
            let end = len.min(place + 8);
            payload[place..end].copy_from_slice(&value[..end - place]);
            "another number"
        }
    }
}

const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
const LZ4: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
const XBCRYPT: &[u8] = b"XBCRYP03";
/// Bytes before the encrypted ones of an xbcrypt chunk.
const XBCRYPT_HEAD: usize = 60;

/// One change inside a frame or chunk of a codec that needs no key, whose own sums are made anew.
pub fn inner(chunks: &mut [Chunk], dice: &mut Dice) -> &'static str {
    let coded = |payload: &[u8]| [&ZSTD[..], &LZ4, XBCRYPT].iter().any(|magic| payload.starts_with(magic));
    let Some(payload) = any(chunks, dice, coded) else { return "no frame" };
    let magic = payload[..8].to_vec();
    // Beside the magic everything is open to change, the heads above all.
    let mut rest = payload.split_off(if magic == XBCRYPT { 8 } else { 4 });
    change(&mut rest, dice);
    payload.extend(rest);
    if magic == XBCRYPT {
        resum_xbcrypt(payload);
        return "an xbcrypt chunk with its CRC";
    }
    match payload.starts_with(&ZSTD) {
        true => resum_zstd(payload).map_or("a zstd frame that cannot be decoded", |()| "a zstd frame with its sum"),
        false => resum_lz4(payload).map_or("an lz4 frame that cannot be decoded", |()| "an lz4 frame with its sums"),
    }
}

/// Gives a frame of ours, whose content is changed, the sum of that.
fn resum_zstd(frame: &mut [u8]) -> Option<()> {
    let (sum, mut unsummed) = (frame.len().checked_sub(4)?, frame.to_vec());
    // Without the flag a decoder does not look for the sum.
    *unsummed.get_mut(4)? &= !4;
    let content = zstd::decode_all(unsummed.get(..sum)?).ok()?;
    let mut hash = XxHash64::with_seed(0);
    hash.write(&content);
    frame[sum..].copy_from_slice(&hash.finish().to_le_bytes()[..4]);
    Some(())
}

/// The same of lz4, and the sum of the head.
fn resum_lz4(frame: &mut [u8]) -> Option<()> {
    let hash = |bytes: &[u8]| {
        let mut hash = XxHash32::with_seed(0);
        hash.write(bytes);
        hash.finish() as u32
    };
    // Flags, block size, content size.
    let head = hash(frame.get(4..14)?).to_le_bytes()[1];
    *frame.get_mut(14)? = head;
    let (mut at, mut content) = (15, Vec::new());
    loop {
        let size = u32::from_le_bytes(frame.get(at..at + 4)?.try_into().ok()?);
        at += 4;
        if size == 0 {
            break;
        }
        let block = frame.get(at..at + (size & 0x7fff_ffff) as usize)?;
        match size >> 31 {
            1 => content.extend(block),
            _ => content.extend(lz4_flex::block::decompress(block, 4 << 20).ok()?),
        }
        at += block.len();
    }
    frame.get_mut(at..at + 4)?.copy_from_slice(&hash(&content).to_le_bytes());
    Some(())
}

/// The sizes and the CRC of a chunk whose encrypted bytes are changed.
fn resum_xbcrypt(bytes: &mut [u8]) {
    let Some(encrypted) = bytes.get(XBCRYPT_HEAD..) else { return };
    // Where several chunks are in a payload, the first one is as long as it was.
    let said = u64::from_le_bytes(bytes[24..32].try_into().unwrap());
    let size = said.min(encrypted.len() as u64);
    let sum = crc32fast::hash(&encrypted[..size as usize]);
    bytes[16..24].copy_from_slice(&size.to_le_bytes());
    bytes[24..32].copy_from_slice(&size.to_le_bytes());
    bytes[32..36].copy_from_slice(&sum.to_le_bytes());
}

/// Changes what the manifest says, or `xb_begin`, with all digests made anew. What is forged, if there was a manifest.
pub fn forge(chunks: &mut Vec<Chunk>, dice: &mut Dice) -> &'static str {
    let content = |chunks: &[Chunk], name: &str| -> Vec<u8> {
        chunks.iter().filter(|chunk| chunk.path == name.as_bytes()).flat_map(|chunk| chunk.payload.clone()).collect()
    };
    let Ok(text) = String::from_utf8(content(chunks, "xb_manifest")) else { return "nothing" };
    let mut lines: Vec<Entry> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let Some(mut trailer) = text.lines().last().and_then(|line| serde_json::from_str::<Trailer>(line).ok()) else {
        return "nothing";
    };
    let mut begin = content(chunks, "xb_begin");
    let what = match dice.below(8) {
        0..5 => forge_line(&mut lines, dice),
        5 => forge_end(&mut trailer, dice),
        6 => {
            change(&mut begin, dice);
            "a forged xb_begin"
        }
        _ => {
            let text = String::from_utf8_lossy(&begin).into_owned();
            let (from, to) =
                [("full", "files"), ("files", "incremental"), ("incremental", "full"), ("mariadb", "mysql")]
                    [dice.below(4)];
            begin = text.replace(from, to).into_bytes();
            "an xb_begin of another kind"
        }
    };
    trailer.begin_blake3 = Some(begin_digest(&begin));
    replace(chunks, "xb_begin", begin);
    replace(chunks, "xb_manifest", manifest(&lines, trailer));
    what
}

/// A manifest of these lines.
pub fn manifest(lines: &[Entry], trailer: Trailer) -> Vec<u8> {
    let mut manifest = Manifest::default();
    lines.iter().for_each(|line| manifest.entry(line));
    manifest.close(trailer)
}

/// Puts other content into a member's first chunk, and takes its other chunks away.
fn replace(chunks: &mut Vec<Chunk>, name: &str, content: Vec<u8>) {
    let is = |chunk: &Chunk| chunk.path == name.as_bytes() && chunk.kind == b'P';
    let Some(first) = chunks.iter().position(is) else { return };
    chunks[first].payload = content;
    let mut at = 0;
    chunks.retain(|chunk| {
        at += 1;
        at - 1 == first || !is(chunk)
    });
}

fn forge_line(lines: &mut Vec<Entry>, dice: &mut Dice) -> &'static str {
    if lines.is_empty() {
        return "nothing";
    }
    let (at, other) = (dice.below(lines.len()), dice.below(lines.len()));
    let number = dice.next() >> dice.below(64);
    let line = &mut lines[at];
    match dice.below(12) {
        0 => line.size = [number, 0, u64::MAX, line.size.wrapping_add(1)][dice.below(4)],
        1 => line.blake3 = blake3::hash(&number.to_le_bytes()).to_hex().to_string(),
        2 => line.blake3 = ["", "0", "é", "x".repeat(64).as_str()][dice.below(4)].to_owned(),
        3 => {
            use xb::stream::native::EntryKind::{Delta, File, Innodb, Meta, Redo};
            line.kind = [Innodb, File, Meta, Redo, Delta][dice.below(5)];
        }
        4 => {
            let names: [&[u8]; 8] = [b"", b"..", b"../up", b"/etc/x", b"xb_begin", b"xb_manifest", b"db", b"t\xff\0/x"];
            *line = line.renamed(names[dice.below(8)]);
        }
        5 => {
            let (space, pages) = (number as u32, [number as u32, u32::MAX, 0][dice.below(3)]);
            (line.space_id, line.flags, line.pages) = (Some(SpaceId::new(space)), Some(space), Some(pages));
        }
        6 => line.page_size = [None, Some(0), Some(number as u32), Some(1 << 16)][dice.below(4)],
        7 => line.zero_runs = vec![(number as u32, u32::MAX); 1 + dice.below(3)],
        8 => line.location = Some(["/etc/passwd", "../../x", ""][dice.below(3)].to_owned()),
        9 => {
            lines.remove(at);
            return "a line lost";
        }
        10 => {
            let twice = lines[at].clone();
            lines.insert(other, twice);
            return "a line doubled";
        }
        _ => {
            lines[at].blake3 = lines[other].blake3.clone();
            lines[at].size = lines[other].size;
        }
    }
    "a forged line"
}

fn forge_end(trailer: &mut Trailer, dice: &mut Dice) -> &'static str {
    let number = dice.next() >> dice.below(64);
    match dice.below(5) {
        0 => trailer.end_lsn = [None, Some(Lsn::new(number)), Some(Lsn::ZERO), Some(Lsn::MAX)][dice.below(4)],
        1 => trailer.backup_id = ["", "x", "../../x"][dice.below(3)].to_owned(),
        2 => trailer.partial = !trailer.partial,
        3 => trailer.left_out = vec![SpaceId::new(number as u32); dice.below(4)],
        _ => drop(trailer.server_options.insert("init_file".into(), "/etc/passwd".into())),
    }
    "a forged last line"
}
