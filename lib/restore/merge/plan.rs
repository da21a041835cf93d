//! What happens to each file when increments are merged into their base: a function of the manifests alone. Source:
//! `facts/mariadb-hot-backup#manifest`.
//!
//! Tablespaces are matched by id, whatever their names: between two backups tables are renamed, swap names, or are
//! dropped and created again. Only the files of the system tablespace, which share the id 0, are matched by name.

use std::collections::{BTreeMap, BTreeSet};

use crate::innodb::delta;
use crate::innodb::ids::SpaceId;
use crate::stream::native::names::{AGAIN, BEGIN, DROPPED, marked};
use crate::stream::native::{Entry, EntryKind};

/// The manifest's lines, by the final names of the files: markers (`.new`, `.del`) are resolved.
type Files<'a> = BTreeMap<Vec<u8>, &'a Entry>;

/// Identifies a tablespace file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    space_id: SpaceId,
    /// Set for a file of the system tablespace.
    name: Option<Vec<u8>>,
}

/// Where the content of a tablespace begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin<'a> {
    /// A file of the base, with its name there.
    Base(&'a Entry),
    /// A complete file in the increment with this number.
    Whole(usize, &'a Entry),
    /// It was created after the base; the first delta is complete.
    Nothing,
}

/// Two files of one backup have the same tablespace id. Nothing tells which one is the table's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Clash {
    /// 0 for the base, otherwise the number of the increment, from 1.
    pub(super) backup: usize,
    pub(super) space_id: SpaceId,
    pub(super) names: [Vec<u8>; 2],
}

/// One tablespace of the result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Space<'a> {
    pub(super) name: Vec<u8>,
    pub(super) origin: Origin<'a>,
    /// The deltas to apply, with the numbers of their increments; at least one.
    pub(super) deltas: Vec<(usize, &'a Entry)>,
}

/// What happens to each file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan<'a> {
    /// Tablespaces whose pages are written.
    pub(super) spaces: Vec<Space<'a>>,
    /// Files that are copied from the last increment, with their new names.
    pub(super) whole: Vec<(Vec<u8>, &'a Entry)>,
    /// Files that are the same in the base and in the last increment.
    pub(super) same: Vec<(Vec<u8>, &'a Entry)>,
    /// Files of the base that are renamed.
    pub(super) moves: Vec<(Vec<u8>, Vec<u8>)>,
    /// Files of the base that are removed.
    pub(super) removed: Vec<Vec<u8>>,
}

impl<'a> Plan<'a> {
    /// Makes the plan from the manifests of the base and of the increments, in order.
    pub(super) fn new(base: &'a [Entry], increments: &[&'a [Entry]]) -> Result<Self, Clash> {
        let base_files = resolve(base);
        let steps: Vec<Files<'a>> = increments.iter().map(|entries| resolve(entries)).collect();
        let base_keys = by_key(&base_files, 0)?;
        let keyed: Vec<_> = (1..).zip(&steps).map(|(number, step)| by_key(step, number)).collect::<Result<_, _>>()?;
        let mut plan = Plan::default();
        let mut kept = BTreeSet::new();
        for (name, entry) in steps.last().into_iter().flatten() {
            if entry.kind != EntryKind::Delta {
                match base_files.get(name).filter(|old| is_same(old, entry, name)) {
                    Some(_) => {
                        kept.insert(name.clone());
                        plan.same.push((name.clone(), entry));
                    }
                    None => plan.whole.push((name.clone(), entry)),
                }
                continue;
            }
            let space = trace(name, entry, &keyed, &base_keys);
            if let Origin::Base(old) = space.origin
                && let Some(path) = old.path()
            {
                if path != *name {
                    plan.moves.push((path.clone(), name.clone()));
                }
                kept.insert(path);
            }
            plan.spaces.push(space);
        }
        plan.removed = base
            .iter()
            .filter_map(Entry::path)
            .filter(|path| !kept.contains(path) && path != BEGIN.as_bytes())
            .collect();
        Ok(plan)
    }
}

/// Follows a tablespace back to the backup that has all of it.
fn trace<'a>(
    name: &[u8],
    last: &'a Entry,
    steps: &[BTreeMap<Key, &'a Entry>],
    base: &BTreeMap<Key, &'a Entry>,
) -> Space<'a> {
    let space = |origin, mut deltas: Vec<_>| {
        deltas.reverse();
        Space { name: name.to_vec(), origin, deltas }
    };
    let mut deltas = Vec::new();
    let Some(key) = key(name, last) else { return space(Origin::Nothing, vec![(steps.len() - 1, last)]) };
    for (number, step) in steps.iter().enumerate().rev() {
        match step.get(&key) {
            Some(entry) if entry.kind == EntryKind::Delta => deltas.push((number, *entry)),
            Some(entry) => return space(Origin::Whole(number, entry), deltas),
            None => return space(Origin::Nothing, deltas),
        }
    }
    space(base.get(&key).map_or(Origin::Nothing, |entry| Origin::Base(entry)), deltas)
}

fn key(name: &[u8], entry: &Entry) -> Option<Key> {
    let space_id = entry.space_id?;
    Some(Key { space_id, name: (space_id == SpaceId::SYSTEM).then(|| name.to_vec()) })
}

fn by_key<'a>(files: &Files<'a>, backup: usize) -> Result<BTreeMap<Key, &'a Entry>, Clash> {
    let mut keyed: BTreeMap<Key, &'a Entry> = BTreeMap::new();
    for (name, entry) in files {
        let Some(key) = key(name, entry) else { continue };
        let space_id = key.space_id;
        if let Some(other) = keyed.insert(key, entry) {
            let names = [other, *entry].map(|entry| entry.path().unwrap_or_default());
            return Err(Clash { backup, space_id, names });
        }
    }
    Ok(keyed)
}

fn resolve(entries: &[Entry]) -> Files<'_> {
    let named = || entries.iter().filter_map(|entry| Some((entry.path()?, entry)));
    let mut files = Files::new();
    let mut markers = Vec::new();
    for (path, entry) in named() {
        match entry.kind {
            EntryKind::Delta => {
                files.insert(path.strip_suffix(delta::DELTA).unwrap_or(&path).to_vec(), entry);
            }
            EntryKind::Meta if path.ends_with(delta::META) => {}
            // The merge writes a new one.
            _ if path == BEGIN.as_bytes() => {}
            _ if marked(&path, AGAIN).or(marked(&path, DROPPED)).is_some() => markers.push((path, entry)),
            _ => {
                files.insert(path, entry);
            }
        }
    }
    for (path, _) in &markers {
        marked(path, DROPPED).and_then(|name| files.remove(&name));
    }
    for (path, entry) in &markers {
        if let Some(name) = marked(path, AGAIN) {
            files.insert(name, entry);
        }
    }
    files
}

/// True if the base has the same file under the same name, so that nothing needs to be done.
fn is_same(old: &Entry, new: &Entry, name: &[u8]) -> bool {
    old.kind != EntryKind::Delta
        && old.path().as_deref() == Some(name)
        && (old.size, &old.blake3) == (new.size, &new.blake3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(path: &str, id: u32) -> Entry {
        let mut entry = Entry::new(path.as_bytes(), EntryKind::Innodb, 4096, &blake3::hash(path.as_bytes()));
        entry.space_id = Some(SpaceId::new(id));
        entry
    }

    fn delta(path: &str, id: u32) -> Entry {
        let mut entry = whole(&format!("{path}.delta"), id);
        entry.kind = EntryKind::Delta;
        entry
    }

    fn file(path: &str, content: &str) -> Entry {
        Entry::new(path.as_bytes(), EntryKind::File, content.len() as u64, &blake3::hash(content.as_bytes()))
    }

    fn text(name: &[u8]) -> String {
        String::from_utf8(name.to_vec()).unwrap()
    }

    /// `name: origin + number of deltas`, then `from>to`, then `-removed`.
    fn told(base: &[Entry], increments: &[&[Entry]]) -> String {
        let plan = Plan::new(base, increments).unwrap();
        let spaces = plan.spaces.iter().map(|space| {
            let origin = match space.origin {
                Origin::Base(entry) => text(&entry.path().unwrap()),
                Origin::Whole(number, entry) => format!("{number}/{}", text(&entry.path().unwrap())),
                Origin::Nothing => "new".into(),
            };
            let numbers: Vec<String> = space.deltas.iter().map(|(number, _)| number.to_string()).collect();
            format!("{}: {origin} {}", text(&space.name), numbers.join("+"))
        });
        let whole = plan.whole.iter().map(|(name, entry)| format!("{}={}", text(name), text(&entry.path().unwrap())));
        let same = plan.same.iter().map(|(name, _)| format!("{}=", text(name)));
        let moves = plan.moves.iter().map(|(from, to)| format!("{}>{}", text(from), text(to)));
        let removed = plan.removed.iter().map(|name| format!("-{}", text(name)));
        spaces.chain(whole).chain(same).chain(moves).chain(removed).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn tables_are_found_by_their_ids() {
        let base = [whole("ibdata1", 0), whole("ibdata2", 0), whole("d/a.ibd", 5), whole("d/b.ibd", 6)];
        let swapped = [delta("ibdata1", 0), delta("ibdata2", 0), delta("d/a.ibd", 6), delta("d/b.ibd", 5)];
        assert_eq!(
            told(&base, &[&swapped]),
            "d/a.ibd: d/b.ibd 0, d/b.ibd: d/a.ibd 0, ibdata1: ibdata1 0, ibdata2: ibdata2 0, d/b.ibd>d/a.ibd, \
             d/a.ibd>d/b.ibd"
        );
        let back = [delta("d/a.ibd", 5), delta("d/b.ibd", 6)];
        assert_eq!(told(&base, &[&swapped, &back]), "d/a.ibd: d/a.ibd 0+1, d/b.ibd: d/b.ibd 0+1, -ibdata1, -ibdata2");
    }

    #[test]
    fn two_files_of_one_id_are_refused_wherever_they_are() {
        let one = [whole("ibdata1", 0), whole("ibdata2", 0), whole("d/t.ibd", 5)];
        let two = [whole("d/t.ibd", 5), whole("d/z_copy.ibd", 5)];
        let deltas = [delta("d/a_copy.ibd", 5), delta("d/t.ibd", 5)];
        let renamed = [whole("d/t.ibd", 5), file("d/t.del", ""), whole("d/u.new", 5)];
        let clash = |base: &[Entry], steps: &[&[Entry]]| {
            let clash = Plan::new(base, steps).unwrap_err();
            (clash.backup, clash.names.map(|name| text(&name)).join(" "))
        };
        let good = [delta("d/t.ibd", 5)];
        assert_eq!(clash(&two, &[&good]), (0, "d/t.ibd d/z_copy.ibd".into()));
        assert_eq!(clash(&one, &[&good, &deltas]), (2, "d/a_copy.ibd.delta d/t.ibd.delta".into()));
        assert_eq!(clash(&one, &[&deltas, &good]).0, 1);
        assert!(Plan::new(&one, &[&good]).is_ok() && Plan::new(&renamed, &[&good]).is_ok());
    }

    #[test]
    fn a_recreated_table_shares_nothing_with_the_old() {
        let base = [whole("d/a.ibd", 5)];
        let again = [delta("d/a.ibd", 9)];
        assert_eq!(told(&base, &[&again]), "d/a.ibd: new 0, -d/a.ibd");
        assert_eq!(told(&base, &[&again, &again]), "d/a.ibd: new 0+1, -d/a.ibd");
        assert_eq!(told(&base, &[&again, &base]), "d/a.ibd=");
    }

    #[test]
    fn markers_are_resolved_in_base_and_increment() {
        let base =
            [whole("d/a.ibd", 5), whole("d/a.new", 9), whole("d/b.ibd", 6), file("d/b.del", ""), file("d/c.frm", "c")];
        let step =
            [delta("d/a.ibd", 9), delta("d/x.ibd", 7), file("d/x.del", ""), whole("d/n.new", 7), file("d/c.frm", "c")];
        assert_eq!(
            told(&base, &[&step]),
            "d/a.ibd: d/a.new 0, d/n.ibd=d/n.new, d/c.frm=, d/a.new>d/a.ibd, -d/a.ibd, -d/b.ibd, -d/b.del"
        );
        // The next increment changes a file that this one has complete.
        let next = [delta("d/n.ibd", 7)];
        assert_eq!(
            told(&base, &[&step, &next]),
            "d/n.ibd: 0/d/n.new 1, -d/a.ibd, -d/a.new, -d/b.ibd, -d/b.del, -d/c.frm"
        );
    }

    #[test]
    fn other_files_come_from_the_last_increment() {
        let base = [file("d/t.frm", "old"), file("d/gone.frm", ""), file("d/same.frm", "x"), file("ib_logfile0", "1")];
        let first = [file("d/t.frm", "new"), file("d/between.frm", ""), file("ib_logfile0", "2")];
        let last = [file("d/t.frm", "newer"), file("d/same.frm", "x"), file("ib_logfile0", "3")];
        assert_eq!(
            told(&base, &[&first, &last]),
            "d/t.frm=d/t.frm, ib_logfile0=ib_logfile0, d/same.frm=, -d/t.frm, -d/gone.frm, -ib_logfile0"
        );
    }
}
