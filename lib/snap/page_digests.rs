//! Collects the digests of all pages during the copy, for `xb_pages`. They are kept outside of memory, like the lines
//! of the manifest.
//!
//! If a tablespace is copied again, or was dropped, its first digests are void. They may be in a file by then, so they
//! are left out when the member is sent.

use std::collections::HashSet;
use std::hash::Hasher;
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::bytes::Part as _;
use crate::error::{Error, OrInternal as _, Result};
use crate::innodb::Space;
use crate::io::spool::Spool;
use crate::stream::Writer;
use crate::stream::members::{Key, key};
use crate::stream::native::names::{AGAIN, DROPPED, marked};
use crate::stream::native::pages::{self, Digest, End, FIXED, File, MOST};
use crate::stream::native::{Entry, EntryKind, PAGES};

/// How many bytes are kept in memory; the digests of a terabyte of pages have 500 MB.
const MEMORY: usize = 1 << 20;
/// Size of a chunk of the member in bytes.
const CHUNK: usize = 256 << 10;
/// The flag in the spool before each record: the digests are from the first copy.
const FIRST: u8 = 0;
const SECOND: u8 = 1;

/// The digests so far.
#[derive(Debug)]
pub(super) struct Noted {
    /// `None`: no digests are wanted.
    state: Option<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    spool: Spool,
    /// Names of files whose first copy does not count.
    void: HashSet<Key>,
}

/// The digests of one file's pages, in order.
#[derive(Debug)]
pub(super) struct Notes<'a> {
    noted: &'a Noted,
    file: File,
    again: bool,
    first: u32,
    digests: Vec<Digest>,
}

impl Noted {
    /// Records that do not fit into memory go to a file in `dir`. `wanted` is false if the pages that are not sent have
    /// unknown digests: for an increment on a base without digests.
    pub(super) fn new(dir: &Path, wanted: bool) -> Self {
        let state = || State { spool: Spool::new(MEMORY, dir, u64::MAX), void: HashSet::new() };
        Noted { state: wanted.then(|| Mutex::new(state())) }
    }

    /// True if digests are wanted.
    pub(super) fn wanted(&self) -> bool {
        self.state.is_some()
    }

    /// Begins a file; `name` is that of its member without `.delta`.
    pub(super) fn file(&self, name: &[u8], space: &Space) -> Notes<'_> {
        let again = marked(name, AGAIN);
        let file = File {
            name: again.clone().unwrap_or_else(|| name.to_vec()),
            space_id: space.id,
            flags: space.flags,
            page_size: space.page_size,
        };
        Notes { noted: self, file, again: again.is_some(), first: 0, digests: Vec::new() }
    }

    /// Must be called for each member. If it is another copy of a tablespace, or says that one was dropped, the digests
    /// of the first copy are void.
    pub(super) fn member(&self, name: &[u8]) {
        if let (Some(mut state), Some(file)) = (self.state(), marked(name, AGAIN).or_else(|| marked(name, DROPPED))) {
            state.void.insert(key(&file));
        }
    }

    fn push(&self, again: bool, record: &[u8]) -> Result<()> {
        let Some(mut state) = self.state() else { return Ok(()) };
        state.spool.push(&[if again { SECOND } else { FIRST }])?;
        state.spool.push(record)
    }

    fn state(&self) -> Option<MutexGuard<'_, State>> {
        self.state.as_ref().map(|state| state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Sends the member and writes it to `copy` as well; returns its line for the manifest.
    pub(super) fn send(
        &self,
        backup_id: &str,
        out: &Writer<impl Write>,
        copy: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<Option<Entry>> {
        let Some(mut state) = self.state() else { return Ok(None) };
        let State { spool, void } = &mut *state;
        let (mut sum, mut digest) = (twox_hash::XxHash3_64::new(), blake3::Hasher::new());
        let (mut sent, mut records, mut piece) = (0u64, 0u64, pages::head(backup_id));
        let mut flush = |piece: &mut Vec<u8>| {
            out.payload(PAGES, sent, piece)?;
            copy(piece)?;
            digest.update(piece);
            sent += piece.len() as u64;
            piece.clear();
            Ok::<_, Error>(())
        };
        sum.write(&piece);
        while let Some((again, record)) = next(spool)? {
            let fixed = fixed(&record)?;
            if !again && void.contains(&key(fixed.name(&record).map_err(|_| lost())?)) {
                continue;
            }
            sum.write(&record);
            records += 1;
            if piece.len() + record.len() > CHUNK {
                flush(&mut piece)?;
            }
            piece.extend_from_slice(&record);
        }
        piece.extend(pages::end(End { records, digest: sum.finish() }));
        flush(&mut piece)?;
        out.end(PAGES)?;
        Ok(Some(Entry::new(PAGES, EntryKind::Meta, sent, &digest.finalize())))
    }
}

/// Reads the next record from the spool.
fn next(spool: &mut Spool) -> Result<Option<(bool, Vec<u8>)>> {
    let mut front = [0; 1 + FIXED];
    match spool.pull(&mut front)? {
        0 => return Ok(None),
        got if got < front.len() => return Err(lost()),
        _ => {}
    }
    let [again, start @ ..] = front;
    let mut record = start.to_vec();
    record.resize(fixed(&record)?.size(), 0);
    let rest = record.part_mut(FIXED..)?;
    if spool.pull(rest)? < rest.len() {
        return Err(lost());
    }
    Ok(Some((again == SECOND, record)))
}

fn fixed(record: &[u8]) -> Result<pages::Fixed> {
    record.first_chunk().and_then(|start| pages::parse_fixed(start).ok()).ok_or_else(lost)
}

fn lost() -> Error {
    Error::failed("spool", "digests of pages are lost")
}

impl Notes<'_> {
    /// Adds the digest of the next page.
    pub(super) fn add(&mut self, digest: Digest) -> Result<()> {
        if !self.noted.wanted() {
            return Ok(());
        }
        if self.digests.len() == MOST {
            self.flush(false)?;
        }
        self.digests.push(digest);
        Ok(())
    }

    /// Adds the digests of the next pages.
    pub(super) fn pages(&mut self, pages: &[u8]) -> Result<()> {
        if !self.noted.wanted() {
            // Do not compute them either.
            return Ok(());
        }
        let size = self.file.page_size.bytes();
        pages.chunks_exact(size).try_for_each(|page| self.add(pages::digest(page)))
    }

    /// Replaces digests of earlier pages, which changed in the copy; ascending.
    pub(super) fn fix(&self, fixed: &[(u32, Digest)]) -> Result<()> {
        fixed.chunks(MOST).try_for_each(|some| self.noted.push(self.again, &pages::fix(&self.file, some)?))
    }

    /// Ends the file.
    pub(super) fn end(mut self) -> Result<()> {
        self.flush(true)
    }

    fn flush(&mut self, last: bool) -> Result<()> {
        self.noted.push(self.again, &pages::run(&self.file, self.first, &self.digests, last)?)?;
        self.first = self
            .first
            .saturating_add(u32::try_from(self.digests.len()).or_internal("digests of more pages than a file has")?);
        self.digests.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::innodb::ids::{PageSize, SpaceId};
    use crate::snap::base::pages::BasePages;
    use crate::stream::{Body, Reader};
    use std::io::{Seek, SeekFrom};

    const ID: &str = "00112233445566778899aabbccddeeff";

    fn space(id: u32, flags: u32) -> Space {
        let id = SpaceId::new(id);
        let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/pages/full-plain.zst");
        let page = zstd::decode_all(std::fs::File::open(golden).unwrap()).unwrap();
        let mut space = Space::parse(&page).unwrap().unwrap();
        (space.id, space.flags) = (id, flags);
        space
    }

    /// The member that is sent.
    fn member(noted: &Noted) -> Vec<u8> {
        let (mut file, mut copied) = (tempfile::tempfile().unwrap(), Vec::new());
        let out = Writer::new(file.try_clone().unwrap());
        let mut copy = |bytes: &[u8]| {
            copied.extend_from_slice(bytes);
            Ok(())
        };
        let entry = noted.send(ID, &out, &mut copy).unwrap().unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        let (mut reader, mut content) = (Reader::new(file, "stream"), Vec::new());
        while let Some(head) = reader.next().unwrap() {
            if let Body::Payload { len, .. } = head.body {
                let mut payload = vec![0; usize::try_from(len).unwrap()];
                reader.fill(&mut payload).unwrap();
                content.extend(payload);
            }
        }
        assert!(content == copied);
        assert_eq!((entry.size, entry.blake3), (content.len() as u64, blake3::hash(&content).to_hex().to_string()));
        content
    }

    fn open(bytes: &[u8]) -> Result<BasePages> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        BasePages::open(file, "xb_pages", ID)
    }

    fn note(noted: &Noted, name: &str, id: u32, digests: impl Iterator<Item = u64>, fixed: &[(u32, u64)]) {
        let mut notes = noted.file(name.as_bytes(), &space(id, 0x15));
        digests.for_each(|digest| notes.add(digest).unwrap());
        notes.fix(fixed).unwrap();
        notes.end().unwrap();
        noted.member(name.as_bytes());
    }

    #[test]
    fn what_is_noted_is_found_again() {
        let noted = Noted::new(Path::new("/nonexistent"), true);
        let count = 2 * u32::try_from(MOST).unwrap() + 5;
        note(&noted, "d/t.ibd", 5, (1..).take(count as usize), &[(7, 70), (8200, 0)]);
        note(&noted, "ibdata1", 0, 100..110, &[]);
        note(&noted, "ibdata2", 0, 200..210, &[]);
        note(&noted, "d/empty.ibd", 6, 0..0, &[]);
        note(&noted, "d/dropped.ibd", 7, 0..9, &[(3, 4)]);
        noted.member(b"d/dropped.del");
        note(&noted, "d/again.ibd", 8, 10..20, &[]);
        note(&noted, "d/again.new", 9, 30..32, &[]);
        note(&noted, "d/one.ibd", 11, 10..20, &[]);
        note(&noted, "d/two.ibd", 11, 10..20, &[]);
        let base = open(&member(&noted)).unwrap();
        let ask = |name: &str, id: u32, places: &[u32]| -> Option<Vec<u64>> {
            let mut known = base.of(name.as_bytes(), &space(id, 0x15))?;
            Some(places.iter().map(|place| known.digest(*place).unwrap()).collect())
        };
        let places = [0, 7, 8191, 8192, 8200, count - 1, count, u32::MAX, 7];
        assert_eq!(ask("d/renamed.ibd", 5, &places).unwrap(), [1, 70, 8192, 8193, 0, u64::from(count), 0, 0, 70]);
        assert_eq!(ask("ibdata2", 0, &[9, 10]), Some(vec![209, 0]));
        assert_eq!(ask("ibdata3", 0, &[0]), None);
        assert_eq!(ask("d/empty.ibd", 6, &[0]), Some(vec![0]));
        assert_eq!(ask("d/dropped.ibd", 7, &[0]), None, "dropped");
        assert_eq!(ask("d/again.ibd", 8, &[0]), None, "copied again");
        assert_eq!(ask("d/again.ibd", 9, &[0, 1, 2]), Some(vec![30, 31, 0]));
        assert_eq!(ask("d/one.ibd", 11, &[0]), None, "there are two");
        assert!(base.of(b"d/t.ibd", &space(5, 0x16)).is_none(), "other flags");
        let mut zip = space(5, 0x15);
        zip.page_size = PageSize::new(2 * zip.page_size.get()).unwrap();
        assert!(base.of(b"d/t.ibd", &zip).is_none(), "pages of another size");
    }

    #[test]
    fn cut_or_changed_at_any_byte_it_is_refused() {
        let noted = Noted::new(Path::new("/nonexistent"), true);
        note(&noted, "d/t.ibd", 5, 1..20, &[(7, 70)]);
        note(&noted, "d/u.ibd", 6, 1..9, &[]);
        let whole = member(&noted);
        open(&whole).unwrap();
        for at in 0..whole.len() {
            assert!(open(&whole[..at]).is_err(), "cut at byte {at}");
            let mut bad = whole.clone();
            bad[at] ^= 1;
            assert!(open(&bad).is_err(), "changed at byte {at}");
        }
        assert!(open(&[&whole[..], b"x"].concat()).is_err());
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&whole).unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        let error = BasePages::open(file, "xb_pages", "another").unwrap_err().to_string();
        assert_eq!(error, format!("xb_pages: is of backup {ID}, and stands beside backup another"));
    }

    #[test]
    fn runs_that_do_not_follow_one_another_are_refused() {
        let file = |name: &str| File {
            name: name.into(),
            space_id: SpaceId::new(5),
            flags: 0x15,
            page_size: PageSize::new(4096).unwrap(),
        };
        let made = |records: &[Vec<u8>]| {
            let mut bytes = [pages::head(ID), records.concat()].concat();
            let mut sum = twox_hash::XxHash3_64::new();
            sum.write(&bytes);
            bytes.extend(pages::end(End { records: records.len() as u64, digest: sum.finish() }));
            open(&bytes).map(drop).map_err(|error| error.to_string())
        };
        let run = |name: &str, first, last| pages::run(&file(name), first, &[1, 2], last).unwrap();
        assert_eq!(made(&[run("a", 0, false), run("b", 0, true), run("a", 2, true)]), Ok(()));
        let wrong = Err("xb_pages: damaged: the records of a file do not follow one another".to_owned());
        assert_eq!(made(&[run("a", 0, false)]), wrong, "no end");
        assert_eq!(made(&[run("a", 2, true)]), wrong, "no beginning");
        assert_eq!(made(&[run("a", 0, false), run("a", 3, true)]), wrong, "a gap");
        assert_eq!(made(&[run("a", 0, true), run("a", 2, true)]), wrong, "two ends");
        assert_eq!(
            made(&[run("a", 0, true), pages::fix(&file("a"), &[(2, 1)]).unwrap()]),
            wrong,
            "a fix beyond the end"
        );
    }
}
