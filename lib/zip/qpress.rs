//! qpress archives with one file, as written by `--compress=quicklz`; read only. Source: `qpress.cpp` of qpress,
//! `quicklz.c`.
//!
//! ```text
//! archive  "qpress10", 8 most content of a block
//! file     "F", 4 length of the name, name, 0
//! block    "NEWBNEWB", 8 position in the file, 4 Adler-32 of the packet, packet
//! trailer  "ENDSENDS", 8 zero
//! packet   1 flags: 0 compressed, 1 long head, 2-3 level; 1 (long: 4) length of the packet; 1 (4) of the content; data
//! ```
//!
//! qpress verifies only the Adler-32 and the trailer, and Percona's program neither; this module verifies all fields.

use super::Job;
use crate::bytes::Part as _;
use crate::codec::{Cut, Fault, Flow, PIECE};

/// The first bytes of an archive.
pub const MAGIC: [u8; 8] = *b"qpress10";
/// The largest content of a block that is accepted. The original programs write 64 KiB by default.
pub const BLOCK_MAX: usize = 64 << 20;
/// By how much a packet can be longer than its content.
const OVERHEAD: usize = 400;
/// Length of a block before its packet in bytes.
const BLOCK_HEAD: usize = 20;
/// The longest accepted name; real ones are far shorter.
const NAME_MAX: usize = 4096;

/// Which part of an archive is expected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Archive,
    File,
    Blocks,
    Ended,
}

/// An archive that is being read.
#[derive(Debug, Default)]
pub struct Archive {
    stage: Stage,
    /// The largest content of a block.
    block: usize,
    /// Size of the content so far.
    position: u64,
}

impl Archive {
    /// See [`crate::codec::Codec::cut`].
    pub fn cut(&mut self, waiting: &[u8], flow: Flow) -> Result<Cut<Job>, Fault> {
        let step = match self.stage {
            Stage::Archive => self.archive(waiting)?,
            Stage::File => self.file(waiting)?,
            Stage::Blocks => self.blocks(waiting)?,
            Stage::Ended if waiting.is_empty() => return Ok(Cut::More(1)),
            Stage::Ended if waiting.first() == Some(&b'F') || waiting.first() == Some(&b'U') => {
                return Err(Fault::refused(0, "qpress archive of several files").hint_qpress());
            }
            Stage::Ended => return Err(Fault::damaged(0, "bytes follow the end of the qpress archive")),
        };
        match step {
            Cut::More(_) if flow == Flow::Last => {
                Err(Fault::truncated(waiting.len(), "the member ends in a qpress archive"))
            }
            step => Ok(step),
        }
    }

    fn archive(&mut self, waiting: &[u8]) -> Result<Cut<Job>, Fault> {
        let Some((magic, size)) = waiting.get(..16).and_then(|head| head.split_first_chunk::<8>()) else {
            return Ok(Cut::More(PIECE));
        };
        if *magic != MAGIC {
            return Err(Fault::damaged(0, "no qpress archive begins here"));
        }
        let size = size.first_chunk().map_or(0, |size| u64::from_le_bytes(*size));
        self.block = match usize::try_from(size) {
            Ok(size @ 1..=BLOCK_MAX) => size,
            _ => {
                let what = format_args!("qpress archive with blocks of {size} bytes; {BLOCK_MAX} is the limit");
                return Err(Fault::refused(8, what));
            }
        };
        self.stage = Stage::File;
        Ok(Cut::Serial(16))
    }

    fn file(&mut self, waiting: &[u8]) -> Result<Cut<Job>, Fault> {
        match waiting.first() {
            None => return Ok(Cut::More(PIECE)),
            Some(b'F') => {}
            Some(b'D') => return Err(Fault::refused(0, "qpress archive of a directory").hint_qpress()),
            Some(_) => return Err(Fault::damaged(0, "no file begins here in the qpress archive")),
        }
        let Some(len) = waiting.get(1..5).and_then(|len| len.first_chunk()) else { return Ok(Cut::More(PIECE)) };
        let len = u32::from_le_bytes(*len) as usize;
        if len > NAME_MAX {
            return Err(Fault::damaged(1, format_args!("qpress archive with a name of {len} bytes")));
        }
        // A name contains no zero; otherwise a wrong length would hide blocks.
        let name = waiting.get(5..5 + len).unwrap_or_default();
        match waiting.get(5 + len) {
            None => Ok(Cut::More(PIECE)),
            Some(0) if !name.contains(&0) => {
                self.stage = Stage::Blocks;
                Ok(Cut::Serial(6 + len))
            }
            Some(_) => Err(Fault::damaged(5 + len, "name in a qpress archive without its end")),
        }
    }

    /// As many whole blocks as there are, up to a piece of content; or the trailer.
    fn blocks(&mut self, waiting: &[u8]) -> Result<Cut<Job>, Fault> {
        let (mut len, mut content) = (0, 0);
        let needs = loop {
            let rest = waiting.part(len..)?;
            match block(rest).map_err(|fault| fault.shifted(len))? {
                Look::Needs(needs) => break len + needs,
                Look::Trailer if len > 0 => break len,
                Look::Trailer => {
                    self.stage = Stage::Ended;
                    return Ok(Cut::Serial(16));
                }
                Look::Block { position, .. } if position != self.position => {
                    let what = format_args!("qpress block for byte {position} where {} is due", self.position);
                    return Err(Fault::damaged(len, what));
                }
                Look::Block { packet, .. } if packet.content > self.block => {
                    let what =
                        format_args!("qpress block of {} bytes; the archive allows {}", packet.content, self.block);
                    return Err(Fault::damaged(len, what));
                }
                Look::Block { packet, .. } => {
                    let end = len + BLOCK_HEAD + packet.len;
                    if waiting.len() < end {
                        break end;
                    }
                    if len > 0 && content + packet.content > PIECE {
                        break len;
                    }
                    self.position += packet.content as u64;
                    content += packet.content;
                    len = end;
                    if packet.content > PIECE {
                        return Ok(Cut::Serial(len));
                    }
                }
            }
        };
        Ok(if len > 0 { Cut::Piece { len, job: Job::Qpress } } else { Cut::More(needs.max(PIECE)) })
    }

    /// See [`crate::codec::Codec::serial`]. Takes all bytes: heads, or a block that is larger than a piece.
    pub fn serial(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        if bytes.starts_with(b"NEWBNEWB") { blocks(bytes, out) } else { Ok(()) }
    }
}

impl Fault {
    fn hint_qpress(self) -> Self {
        Fault { hint: Some("backup programs make archives of one file each; unpack this one with qpress"), ..self }
    }
}

/// What some bytes begin with.
enum Look {
    /// This many bytes are needed to decide.
    Needs(usize),
    Trailer,
    Block {
        position: u64,
        adler: u32,
        packet: Packet,
    },
}

fn block(bytes: &[u8]) -> Result<Look, Fault> {
    let Some((tag, rest)) = bytes.split_first_chunk::<8>() else { return Ok(Look::Needs(16)) };
    let Some((position, rest)) = rest.split_first_chunk::<8>() else { return Ok(Look::Needs(16)) };
    let position = u64::from_le_bytes(*position);
    match tag {
        b"ENDSENDS" if position == 0 => return Ok(Look::Trailer),
        b"NEWBNEWB" => {}
        _ => return Err(Fault::damaged(0, "no block begins here in the qpress archive")),
    }
    let Some((adler, rest)) = rest.split_first_chunk::<4>() else { return Ok(Look::Needs(BLOCK_HEAD + 9)) };
    match packet(rest).map_err(|fault| fault.shifted(BLOCK_HEAD))? {
        Some(packet) => Ok(Look::Block { position, adler: u32::from_le_bytes(*adler), packet }),
        None => Ok(Look::Needs(BLOCK_HEAD + 9)),
    }
}

/// Appends the content of whole blocks; verifies the Adler-32 of each.
pub(super) fn blocks(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
    let mut at = 0;
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let Look::Block { adler, packet, .. } = block(rest).map_err(|fault| fault.shifted(at))? else {
            return Err(Fault::truncated(at, "qpress block"));
        };
        let Some(data) = rest.get(BLOCK_HEAD..BLOCK_HEAD + packet.len) else {
            return Err(Fault::truncated(at, "qpress block"));
        };
        if simd_adler32::adler32(&data) != adler {
            return Err(Fault::damaged(at, "checksum of a qpress block is wrong"));
        }
        let Some(body) = data.get(packet.head..) else { return Err(Fault::truncated(at, "quicklz packet")) };
        unpack(&packet, body, out).ok_or(Fault::damaged(at, "quicklz packet that cannot be decoded"))?;
        at += BLOCK_HEAD + packet.len;
    }
    Ok(())
}

/// The head of a quicklz packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Packet {
    compressed: bool,
    level: u8,
    /// Length of the head, of the packet, and of its content.
    head: usize,
    len: usize,
    content: usize,
}

/// Parses a packet's head; `None` if more bytes are needed.
fn packet(bytes: &[u8]) -> Result<Option<Packet>, Fault> {
    let Some(flags) = bytes.first() else { return Ok(None) };
    let level = flags >> 2 & 3;
    // Bit 6 is always set, bit 7 never: there is no streaming buffer.
    if flags & 0xf0 != 0x40 || level == 0 {
        return Err(Fault::damaged(0, "no quicklz packet begins here"));
    }
    let (head, sizes) = match flags & 2 {
        0 => {
            (3, bytes.get(1..3).and_then(|sizes| sizes.first_chunk()).map(|[a, b]| (usize::from(*a), usize::from(*b))))
        }
        _ => {
            let word = |at: usize| bytes.get(at..).and_then(|word| word.first_chunk()).map(|w| u32::from_le_bytes(*w));
            (9, word(1).zip(word(5)).map(|(len, content)| (len as usize, content as usize)))
        }
    };
    let Some((len, content)) = sizes else { return Ok(None) };
    let compressed = flags & 1 != 0;
    let fits = if compressed { len >= head + 9 && len <= content + OVERHEAD } else { len == head + content };
    if !fits || content == 0 || content > BLOCK_MAX {
        return Err(Fault::damaged(1, "quicklz packet with lengths that do not fit"));
    }
    Ok(Some(Packet { compressed, level, head, len, content }))
}

/// Appends the content of a packet with this `body`.
fn unpack(packet: &Packet, body: &[u8], out: &mut Vec<u8>) -> Option<()> {
    if !packet.compressed {
        out.extend_from_slice(body);
        return Some(());
    }
    match packet.level {
        1 => Unpacking::new(body, out, Newest([0; 4096])).run(packet.content),
        2 => Unpacking::new(body, out, Four { places: [[0; 4]; 2048], count: [0; 2048] }).run(packet.content),
        _ => Unpacking::new(body, out, Distance).run(packet.content),
    }
}

/// How a level encodes matches.
trait Level {
    /// True if positions are entered into a table.
    const TABLE: bool;
    /// Enters a position with its three bytes. Positions count from 1, so that 0 means unused.
    fn enter(&mut self, three: u32, place: u32);
    /// Parses a match from the next four bytes: position, length and bytes taken. `next` is the position of the next
    /// byte.
    fn find(&self, four: u32, next: u32) -> (u32, usize, usize);
}

/// Level 1: the last position of each hash.
struct Newest([u32; 4096]);

impl Level for Newest {
    const TABLE: bool = true;

    fn enter(&mut self, three: u32, place: u32) {
        if let Some(slot) = self.0.get_mut((three >> 12 ^ three) as usize & 0xfff) {
            *slot = place;
        }
    }

    fn find(&self, four: u32, _: u32) -> (u32, usize, usize) {
        let place = self.0.get((four >> 4) as usize & 0xfff).copied().unwrap_or(0);
        match four & 15 {
            0 => (place, (four >> 16 & 0xff) as usize, 3),
            short => (place, short as usize + 2, 2),
        }
    }
}

/// Level 2: the last four positions of each hash.
struct Four {
    places: [[u32; 4]; 2048],
    count: [u8; 2048],
}

impl Level for Four {
    const TABLE: bool = true;

    fn enter(&mut self, three: u32, place: u32) {
        let hash = (three >> 9 ^ three >> 13 ^ three) as usize & 0x7ff;
        if let (Some(places), Some(count)) = (self.places.get_mut(hash), self.count.get_mut(hash)) {
            if let Some(slot) = places.get_mut(usize::from(*count & 3)) {
                *slot = place;
            }
            *count = count.wrapping_add(1);
        }
    }

    fn find(&self, four: u32, _: u32) -> (u32, usize, usize) {
        let places = self.places.get((four >> 5) as usize & 0x7ff);
        let place = places.and_then(|places| places.get((four & 3) as usize)).copied().unwrap_or(0);
        match four & 28 {
            0 => (place, (four >> 16 & 0xff) as usize, 3),
            short => (place, (short >> 2) as usize + 2, 2),
        }
    }
}

/// Level 3: the distance.
struct Distance;

impl Level for Distance {
    const TABLE: bool = false;

    fn enter(&mut self, _: u32, _: u32) {}

    fn find(&self, four: u32, next: u32) -> (u32, usize, usize) {
        let (back, len, taken) = match (four & 3, four & 127) {
            (0, _) => (four >> 2 & 0x3f, 3, 1),
            (1, _) => (four >> 2 & 0x3fff, 3, 2),
            (2, _) => (four >> 6 & 0x3ff, (four >> 2 & 15) as usize + 3, 2),
            (_, 3) => (four >> 15, (four >> 7 & 0xff) as usize + 3, 4),
            _ => (four >> 7 & 0x1_ffff, (four >> 2 & 31) as usize + 2, 3),
        };
        let place = if back == 0 { 0 } else { next.saturating_sub(back) };
        (place, len, taken)
    }
}

/// A packet that is being decoded.
struct Unpacking<'a, L> {
    body: &'a [u8],
    at: usize,
    out: &'a mut Vec<u8>,
    /// Where the packet's content begins in `out`.
    begin: usize,
    level: L,
    /// Positions that have been entered, or never will be.
    entered: usize,
}

impl<'a, L: Level> Unpacking<'a, L> {
    fn new(body: &'a [u8], out: &'a mut Vec<u8>, level: L) -> Self {
        let begin = out.len();
        Unpacking { body, at: 0, out, begin, level, entered: 0 }
    }

    fn run(mut self, content: usize) -> Option<()> {
        let mut control = 1u32;
        loop {
            if control == 1 {
                control =
                    self.body.get(self.at..).and_then(|word| word.first_chunk()).map(|w| u32::from_le_bytes(*w))?;
                self.at += 4;
            }
            if control & 1 != 0 {
                control >>= 1;
                self.copy(content)?;
            } else if self.len() + 11 < content {
                // The flags of up to four literals, as long as all are 0.
                let count = control.trailing_zeros().min(4) as usize;
                self.literals(count)?;
                control >>= count;
                self.enter_up_to(self.len().saturating_sub(2));
            } else {
                return self.last_literals(content, control);
            }
        }
    }

    fn len(&self) -> usize {
        self.out.len() - self.begin
    }

    fn literals(&mut self, count: usize) -> Option<()> {
        self.out.extend_from_slice(self.body.get(self.at..self.at + count)?);
        self.at += count;
        Some(())
    }

    /// Copies a match byte by byte: it may overlap its output.
    fn copy(&mut self, content: usize) -> Option<()> {
        let mut four = [0; 4];
        four.iter_mut().zip(self.body.get(self.at..)?).for_each(|(to, from)| *to = *from);
        let start = self.len();
        let (place, len, taken) = self.level.find(u32::from_le_bytes(four), u32::try_from(start).ok()? + 1);
        self.at += taken;
        let from = (place as usize).checked_sub(1).filter(|from| *from < start)?;
        if self.at > self.body.len() || start + len > content {
            return None;
        }
        for index in 0..len {
            let byte = *self.out.get(self.begin + from + index)?;
            self.out.push(byte);
        }
        self.enter_up_to(start + 1);
        // Positions inside the match are never entered.
        self.entered = self.entered.max(self.len());
        Some(())
    }

    /// Enters the positions below `end`.
    fn enter_up_to(&mut self, end: usize) {
        if L::TABLE {
            while self.entered < end {
                let Some(three) = self.out.get(self.begin + self.entered..).and_then(|three| three.first_chunk())
                else {
                    break;
                };
                let [b0, b1, b2] = *three;
                self.entered += 1;
                self.level.enter(u32::from_le_bytes([b0, b1, b2, 0]), u32::try_from(self.entered).unwrap_or(0));
            }
        }
    }

    /// The last bytes are literals, each with its flag.
    fn last_literals(mut self, content: usize, mut control: u32) -> Option<()> {
        while self.len() < content {
            if control == 1 {
                self.at += 4;
                control = 1 << 31;
            }
            self.literals(1)?;
            control >>= 1;
        }
        Some(())
    }
}
