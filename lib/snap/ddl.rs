//! Decides, under the lock, what happens to the copy of a tablespace after DDL, by the result of the copy and the state
//! of the file now. Source: `facts/mariadb-hot-backup#ddl`, rule C.

use super::copy::Outcome;
use super::open::Head;
use crate::server::files::{Identity, Tablespace};

/// What happens to the copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// The copy is right; or there is none, and none is needed.
    Keep,
    /// Copy the file again, under another name if one was sent already.
    Recopy,
    /// Copy the file for the first time: its page 0 was not initialized when it was read.
    CopyFirst,
    /// Page 0 must be read before this can be decided.
    CheckPage0,
    /// The copy is of a tablespace that the server no longer has.
    Drop,
}

/// The file as the listing under the lock found it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    identity: Identity,
    /// Its page 0; `None` if it must be read first.
    pub(super) head: Option<Head>,
}

/// What the dictionary and the log say of the tablespace.
#[derive(Clone, Copy, Debug)]
pub(super) struct Evidence {
    /// The file is the server's, by its dictionary.
    pub(super) is_servers: bool,
    /// It has content that is not in the redo log: the copy cannot be used, whatever the file looks like.
    pub(super) is_touched: bool,
    /// It has the name of a table that an ALTER is building. The restored server drops it, and no log record needs it.
    pub(super) is_temporary: bool,
}

impl Now {
    /// `read` is page 0, if it was read just now. It is not needed for an unchanged file.
    pub(super) fn of(found: &Tablespace, before: Option<&Outcome>, read: Option<Head>) -> Self {
        let unchanged = match before {
            Some(Outcome::Copied(seen) | Outcome::Foreign(seen)) => {
                let same = seen.identity == found.identity && seen.changed == found.changed && !found.twin;
                same.then_some(seen.head)
            }
            _ => None,
        };
        Now { identity: found.identity, head: read.or(unchanged) }
    }
}

/// Decides on a tablespace. `before` is the result of its copy (`None`: no listing had its name), `now` its file
/// (`None`: it no longer exists).
pub(super) fn decide(before: Option<&Outcome>, now: Option<Now>, evidence: Evidence) -> Decision {
    let without_file = match before {
        Some(Outcome::Copied(_)) => Decision::Drop,
        _ => Decision::Keep,
    };
    let Some(now) = now else { return without_file };
    if before.is_none() && evidence.is_temporary {
        return Decision::Keep;
    }
    let Some(head) = now.head else { return Decision::CheckPage0 };
    if !evidence.is_servers {
        return without_file;
    }
    match before {
        Some(&Outcome::Deferred(identity)) if identity == now.identity => Decision::CopyFirst,
        // Redo cannot have led to this page 0, so IMPORT TABLESPACE wrote it; neither the redo log nor the DDL log
        // shows that.
        Some(Outcome::Copied(seen))
            if seen.identity == now.identity && !evidence.is_touched && seen.head.leads_to(head) =>
        {
            Decision::Keep
        }
        _ => Decision::Recopy,
    }
}

#[cfg(test)]
mod tests {
    use Decision::{CheckPage0, CopyFirst, Drop, Keep, Recopy};

    use super::*;
    use crate::snap::open::Seen;

    /// Every combination that `decide` looks at, and its decision.
    #[test]
    fn every_state_of_a_copy_has_one_decision() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, "").unwrap();
            Tablespace::new(name.into(), None, &path.metadata().unwrap())
        };
        let (same, other) = (file("same"), file("other"));
        let changed = Tablespace { changed: (1, 1), ..file("changed") };
        let changed = Tablespace { identity: same.identity, ..changed };
        let twin = Tablespace { twin: true, ..file("twin") };
        let twin = Tablespace { identity: same.identity, changed: same.changed, ..twin };
        let head = |space: u32, lsn: u64| {
            let mut bytes = [0; 64];
            bytes[16..24].copy_from_slice(&lsn.to_be_bytes());
            bytes[38..42].copy_from_slice(&space.to_be_bytes());
            Head::of(&bytes)
        };
        let seen = Seen { identity: same.identity, changed: same.changed, head: head(5, 1000) };
        let (copied, foreign) = (Some(Outcome::Copied(seen)), Some(Outcome::Foreign(seen)));
        let (deferred, gone) = (Some(Outcome::Deferred(same.identity)), Some(Outcome::Gone));
        let (later, earlier, imported) = (Some(head(5, 2000)), Some(head(5, 999)), Some(head(6, 2000)));
        let servers = Evidence { is_servers: true, is_touched: false, is_temporary: false };
        let touched = Evidence { is_touched: true, ..servers };
        let nobodys = Evidence { is_servers: false, ..servers };
        let temporary = Evidence { is_temporary: true, ..nobodys };
        type Row<'f> = (Option<Outcome>, Option<(&'f Tablespace, Option<Head>)>, Evidence, Decision);
        let table: [Row<'_>; 26] = [
            // The file no longer exists.
            (copied, None, nobodys, Drop),
            (foreign, None, nobodys, Keep),
            (deferred, None, nobodys, Keep),
            (gone, None, nobodys, Keep),
            (None, None, nobodys, Keep),
            // The file is unchanged.
            (copied, Some((&same, None)), servers, Keep),
            (copied, Some((&same, None)), touched, Recopy),
            (copied, Some((&same, None)), nobodys, Drop),
            (foreign, Some((&same, None)), servers, Recopy),
            (foreign, Some((&same, None)), nobodys, Keep),
            // It may be another file; page 0 decides.
            (copied, Some((&changed, None)), servers, CheckPage0),
            (copied, Some((&twin, None)), servers, CheckPage0),
            (copied, Some((&other, None)), servers, CheckPage0),
            (deferred, Some((&same, None)), servers, CheckPage0),
            (None, Some((&other, None)), servers, CheckPage0),
            (copied, Some((&changed, later)), servers, Keep),
            (copied, Some((&changed, later)), touched, Recopy),
            (copied, Some((&changed, earlier)), servers, Recopy),
            (copied, Some((&changed, imported)), servers, Recopy),
            (copied, Some((&other, later)), servers, Recopy),
            (copied, Some((&other, later)), nobodys, Drop),
            // It was not copied.
            (deferred, Some((&same, later)), servers, CopyFirst),
            (deferred, Some((&other, later)), servers, Recopy),
            (gone, Some((&same, later)), servers, Recopy),
            (None, Some((&other, later)), servers, Recopy),
            // An ALTER is building it.
            (None, Some((&other, None)), temporary, Keep),
        ];
        for (row, (before, file, evidence, decision)) in table.into_iter().enumerate() {
            let now = file.map(|(found, read)| Now::of(found, before.as_ref(), read));
            assert_eq!(decide(before.as_ref(), now, evidence), decision, "row {row}: {before:?} {now:?} {evidence:?}");
        }
    }
}
