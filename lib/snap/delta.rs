//! Copies what changed in a tablespace since the base, as `t.ibd.delta` and `t.ibd.meta`. Source:
//! `facts/mariadb-hot-backup#increments` and `facts/mariadb-hot-backup#delta`, and `facts/mysql-hot-backup#increments`.
//!
//! The list of a cluster precedes its pages, and a cluster may have 1 GiB. So the file is read twice: once for the
//! LSNs; then, whenever a list is full, the chosen pages again. A page that the server changed in between is as good,
//! because the log begins before both reads.
//!
//! A page that is not newer is unchanged only if the server and the base have the same history. They do not if the
//! server was restored from an older backup, or the server of the base was. So each such page is compared with its
//! digest in the base. Base and increment together are then equal to a full backup, whatever the base.

use std::io::Write;

use bstr::ByteSlice;

use super::base::pages::BaseDigests;
use super::copy::{Copier, Pages, Since};
use super::open::{Open, Part};
use super::unique_names::fits;
use super::workers::{BATCH, Buffers};
use crate::bytes::Part as _;
use crate::codec::pool::FirstError;
use crate::error::{OrInternal as _, Result};
use crate::innodb::delta::{Cluster, DELTA, META, Meta, capacity};
use crate::innodb::ids::Lsn;
use crate::innodb::space::Tally;
use crate::innodb::{is_undo, is_zero, page};
use crate::io::cache::{ALIGN, Aligned};
use crate::report::Level;
use crate::stream::Writer;
use crate::stream::native::pages::{self, Digest};
use crate::stream::native::{Entry, EntryKind};

/// Most runs of zero pages in a line of the manifest, which readers keep in memory; further ones are sent as pages.
const RUNS: usize = 32 << 10;

/// The changed pages found in a tablespace.
#[derive(Debug, Default)]
struct Changes {
    /// Numbers of pages that go into the delta and have not been sent yet; ascending.
    pages: Vec<u32>,
    /// Their digests.
    digests: Vec<Digest>,
    zero: Vec<(u32, u32)>,
    /// Number of pages that differ from the base although they are not newer.
    different: u64,
}

/// A delta that is being written.
struct Member<'a, W> {
    out: &'a Writer<W>,
    name: Vec<u8>,
    digest: blake3::Hasher,
    sent: u64,
    /// Collects pages, so that a single page does not become a chunk.
    gathered: Vec<u8>,
    /// Pages of the last cluster that had changed when they were read again.
    changed: Vec<(u32, Digest)>,
}

impl Copier<'_> {
    /// Copies the pages of a tablespace that `since` selects.
    pub(super) fn delta(
        &self,
        out: &Writer<impl Write>,
        buffers: &mut Buffers,
        file: Pages<'_>,
        mut open: Open<'_>,
        part: Part<'_>,
        since: Since<'_>,
    ) -> Result<()> {
        fits(file.name, true)?;
        let page_size = part.space.page_size;
        let zip_size = part.space.zip_size();
        let space_flags = since.flags.then_some(part.space.flags);
        let meta = Meta { page_size, zip_size, space_id: part.space.id, space_flags };
        self.made(out, &[file.name, META].concat(), EntryKind::Meta, meta.text().as_bytes())?;
        let mut member = Member::new(out, &[file.name, DELTA].concat());
        let size = page_size.bytes();
        let (mut changes, mut tally, mut place) = (Changes::default(), Tally::default(), 0u32);
        let mut notes = self.noted.file(file.name, part.space);
        // MySQL creates an undo tablespace anew when it truncates it, and does not log its first pages.
        let undo = is_undo(part.space.id);
        let mut before = since.pages.map(|base| Before { known: base.of(file.name, part.space), pages: Vec::new() });
        loop {
            self.abort.check()?;
            let offset = page_size.offset(place);
            let Some(read) = open.batch(&mut buffers.batch, offset)? else { break };
            let whole = read - read % size;
            let pages = buffers.batch.as_mut().part_mut(..whole)?;
            let first = part.first.checked_add(place).or_internal(BEYOND)?;
            let good = match &mut before {
                Some(before) => before.verify(&mut open, pages, place, part, &mut tally, &mut buffers.again)?,
                None => open.verify(pages, first, offset, part, &mut tally, &mut buffers.again)?,
            };
            for (index, page) in pages.part(..good)?.chunks_exact(size).enumerate() {
                let compared = before.as_ref().and_then(|before| before.pages.get(index)).copied();
                let number = part.first.checked_add(place).or_internal(BEYOND)?;
                let anyway = undo || part.doublewrite.is_some_and(|area| area.covers(number));
                changes.look(place, page, since.lsn, compared, anyway);
                notes.add(compared.map_or(0, |compared| compared.now))?;
                place = place.saturating_add(1);
            }
            self.report.advance(good as u64);
            // A full cluster must not be the last, so it is sent when another page follows.
            while changes.pages.len() > capacity(page_size) {
                let full: Vec<u32> = changes.pages.drain(..capacity(page_size)).collect();
                let digests: Vec<Digest> = changes.digests.drain(..full.len()).collect();
                member.cluster((&full, &digests), false, &mut open, buffers, part, self.abort)?;
                notes.fix(&std::mem::take(&mut member.changed))?;
            }
            if good < whole || whole < BATCH {
                break;
            }
        }
        member.cluster((&changes.pages, &changes.digests), true, &mut open, buffers, part, self.abort)?;
        notes.fix(&std::mem::take(&mut member.changed))?;
        notes.end()?;
        if let Some(base) = since.pages {
            base.count(u64::from(place), changes.different);
        }
        if changes.different > 0 {
            let (name, count) = (file.name.as_bstr(), changes.different);
            self.report
                .note(Level::Detail, format_args!("{name}: {count} pages differ from the base and are not newer"));
        }
        let (name, sent, digest) = member.end()?;
        let mut entry = Entry::new(&name, EntryKind::Delta, sent, &digest);
        entry.space_id = Some(part.space.id);
        entry.flags = Some(part.space.flags);
        entry.page_size = Some(page_size.get());
        entry.there_since = self.there_since(open.identity);
        entry.pages = Some(place);
        entry.zero_runs = changes.zero;
        entry.location = file.external.then(|| file.path.display().to_string());
        self.done(&entry, &name, sent)?;
        self.count(tally);
        Ok(())
    }
}

const BEYOND: &str = "a page beyond the last that there can be";

/// The digest of a page now and in the base; 0 means unknown.
#[derive(Clone, Copy, Debug)]
struct Compared {
    now: Digest,
    before: Digest,
}

impl Compared {
    fn same(self) -> bool {
        self.before != 0 && self.before == self.now
    }
}

/// The digests that the base has of a file.
struct Before<'a> {
    /// `None`: the base does not have this tablespace, so all its pages are wanted.
    known: Option<BaseDigests<'a>>,
    /// The digests for a batch of pages.
    pages: Vec<Compared>,
}

impl Before<'_> {
    /// Compares a batch of pages with the base and verifies those that differ. The others were verified when the base
    /// was made, so a digest of each is enough. Returns how many bytes are good, as [`Open::verify`].
    fn verify(
        &mut self,
        open: &mut Open<'_>,
        pages: &mut [u8],
        place: u32,
        part: Part<'_>,
        tally: &mut Tally,
        again: &mut Aligned,
    ) -> Result<usize> {
        let size = part.space.page_size.bytes();
        self.pages.clear();
        for (place, page) in (place..).zip(pages.chunks_exact(size)) {
            let before = self.known.as_mut().map_or(Ok(0), |known| known.digest(place))?;
            self.pages.push(Compared { now: pages::digest(page), before });
        }
        let mut done = 0;
        for run in self.pages.chunk_by_mut(|a, b| a.same() == b.same()) {
            let bytes = done * size..(done + run.len()) * size;
            if run.first().is_some_and(|page| page.same()) {
                tally.skipped += run.len() as u64;
            } else {
                let at = u32::try_from(done).ok().and_then(|done| place.checked_add(done)).or_internal(BEYOND)?;
                let offset = part.space.page_size.offset(at);
                let pages = pages.part_mut(bytes.clone())?;
                let first = part.first.checked_add(at).or_internal(BEYOND)?;
                let good = open.verify(pages, first, offset, part, tally, again)?;
                // Torn pages were read again.
                run.iter_mut().zip(pages.chunks_exact(size)).for_each(|(run, page)| run.now = pages::digest(page));
                if good < pages.len() {
                    return Ok(bytes.start + good);
                }
            }
            done += run.len();
        }
        Ok(pages.len())
    }
}

impl Changes {
    /// Decides on one page. Page 0 is always copied: a restart may change it without a new LSN. Pages that an import
    /// wrote have no LSN (`facts/mariadb-hot-backup#pages-without-lsn`). `compared` has the digests, if the base has
    /// any. `anyway`: the page may also differ within one history, as a page of the doublewrite area does between any
    /// two copies.
    fn look(&mut self, place: u32, page: &[u8], since: Lsn, compared: Option<Compared>, anyway: bool) {
        let lsn = page::lsn(page).unwrap_or_default();
        let changed = match lsn {
            _ if place == 0 => true,
            Lsn::ZERO if is_zero(page) => !self.add_zero(place),
            Lsn::ZERO => true,
            lsn if lsn > since => true,
            _ if compared.is_some_and(|compared| !compared.same()) => {
                self.different += u64::from(!anyway);
                true
            }
            _ => false,
        };
        if changed {
            self.pages.push(place);
            self.digests.push(compared.map_or(0, |compared| compared.now));
        }
    }

    /// Records a page of zeros; false if there are too many runs.
    fn add_zero(&mut self, place: u32) -> bool {
        let room = self.zero.len() < RUNS;
        match self.zero.last_mut() {
            Some((first, count)) if first.checked_add(*count) == Some(place) => *count += 1,
            _ if room => self.zero.push((place, 1)),
            _ => return false,
        }
        true
    }
}

impl<'a, W: Write> Member<'a, W> {
    fn new(out: &'a Writer<W>, name: &[u8]) -> Self {
        Member {
            out,
            name: name.to_vec(),
            digest: blake3::Hasher::new(),
            sent: 0,
            gathered: Vec::new(),
            changed: Vec::new(),
        }
    }

    /// Sends one cluster and reads its pages again. Takes page numbers, and the digests of the pages as first read.
    fn cluster(
        &mut self,
        (places, digests): (&[u32], &[Digest]),
        last: bool,
        open: &mut Open<'_>,
        buffers: &mut Buffers,
        part: Part<'_>,
        abort: &FirstError,
    ) -> Result<()> {
        self.put(&Cluster::head(part.space.page_size, places, last)?)?;
        let size = part.space.page_size.bytes();
        let most = ((BATCH - ALIGN) / size).max(1);
        let (mut rest, mut digests) = (places, digests.iter());
        while let Some(&first) = rest.first() {
            abort.check()?;
            let neighbours = (first..).zip(rest).take(most).take_while(|(expected, place)| expected == *place).count();
            rest = rest.part(neighbours..)?;
            let offset = part.space.page_size.offset(first);
            let want = neighbours * size;
            let range = open.range(&mut buffers.batch, offset, want)?;
            let pages = buffers.batch.as_mut().part_mut(range)?;
            let whole = pages.len() - pages.len() % size;
            let pages = pages.part_mut(..whole)?;
            let number = part.first.checked_add(first).or_internal(BEYOND)?;
            let good = open.verify(pages, number, offset, part, &mut Tally::default(), &mut buffers.again)?;
            let pages = pages.part(..good)?;
            // The digest must be that of the page sent; a page that no longer exists has none.
            for (place, before) in (first..).zip(digests.by_ref().take(neighbours)) {
                let at = (place - first) as usize * size;
                let now = pages.get(at..at.saturating_add(size)).map_or(0, pages::digest);
                if *before != 0 && now != *before {
                    self.changed.push((place, now));
                }
            }
            self.put(pages)?;
            // The file was truncated in the meantime (an undo tablespace); the log writes these pages again.
            self.put(&vec![0; want - good])?;
        }
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        if self.gathered.len() + bytes.len() > BATCH {
            self.flush()?;
        }
        self.gathered.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        if !self.gathered.is_empty() {
            self.digest.update(&self.gathered);
            self.out.payload(&self.name, self.sent, &self.gathered)?;
            self.sent += self.gathered.len() as u64;
            self.gathered.clear();
        }
        Ok(())
    }

    fn end(mut self) -> Result<(Vec<u8>, u64, blake3::Hash)> {
        self.flush()?;
        self.out.end(&self.name)?;
        Ok((self.name, self.sent, self.digest.finalize()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(lsn: u64, fill: u8) -> Vec<u8> {
        let mut page = vec![fill; 4096];
        page[16..24].copy_from_slice(&lsn.to_be_bytes());
        page
    }

    #[test]
    fn pages_are_chosen_by_lsn_and_zeros_are_noted() {
        let mut changes = Changes::default();
        let zero = page(0, 0);
        let pages = [page(5, 1), page(100, 1), page(101, 1), zero.clone(), zero.clone(), page(0, 1), page(7, 1), zero];
        for (place, page) in (0..).zip(&pages) {
            changes.look(place, page, Lsn::new(100), None, false);
        }
        assert_eq!(changes.pages, [0, 2, 5], "page 0, a newer one, and one without an lsn");
        assert_eq!(changes.zero, [(3, 2), (7, 1)]);
    }

    #[test]
    fn old_pages_that_differ_from_the_base_are_chosen() {
        let mut changes = Changes::default();
        let old = page(5, 1);
        for (place, (page, now, before, area)) in (1..).zip([
            (&old, 7, 7, false),
            (&old, 7, 8, false),
            (&old, 7, 0, false),
            (&old, 7, 8, true),
            (&page(101, 1), 7, 8, false),
            (&page(0, 0), 7, 8, false),
        ]) {
            changes.look(place, page, Lsn::new(100), Some(Compared { now, before }), area);
        }
        assert_eq!((changes.pages, changes.different), (vec![2, 3, 4, 5], 2));
        assert_eq!(changes.zero, [(6, 1)], "zeros are put there anyway");
    }

    #[test]
    fn too_many_runs_of_zeros_become_pages() {
        let (mut changes, zero) = (Changes::default(), page(0, 0));
        for place in (1..).take(RUNS + 5) {
            changes.look(place * 2, &zero, Lsn::new(1), None, false);
        }
        assert_eq!((changes.zero.len(), changes.pages.len()), (RUNS, 5));
    }
}
