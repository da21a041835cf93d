//! The archive of binary logs: pieces of the server's files, each an object that is never changed.
//!
//! `binlogs/SERVER/FILE/FROM-TO.SUM[.end][.zst][.xbseal]` has the bytes FROM up to TO of FILE. `.end` says that the file has
//! no more. Pieces that follow each other without a hole are the server's file, byte for byte.

pub mod events;
pub mod follow;
pub mod pieces;
pub mod replay;
pub mod until;

use std::collections::BTreeMap;

use super::meta::Meta;
use super::store::{Object, Store};
use crate::error::Result;

/// Where binary logs are: `binlogs/…`.
pub const BINLOGS: &str = "binlogs/";
/// After the sum of the last piece of a file.
const END: &str = "end";

/// A piece of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Its name in the store.
    pub object: Object,
    /// Its first byte in the file.
    pub from: u64,
    /// The byte after its last.
    pub to: u64,
    /// The beginning of the BLAKE3 of its bytes in the file.
    pub sum: String,
    /// The file has no more.
    pub last: bool,
    /// What was done to it: `zst`, `xbseal`.
    pub coded: Vec<String>,
}

/// A file of the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// Its name.
    pub name: String,
    /// Its name without the number.
    pub series: String,
    /// Its number.
    pub number: u64,
    /// Its pieces, in the order of their bytes.
    pub pieces: Vec<Piece>,
}

impl Log {
    /// The pieces that follow each other from the first byte on.
    pub fn whole(&self) -> Vec<&Piece> {
        let (mut whole, mut at) = (Vec::new(), 0);
        for piece in &self.pieces {
            if piece.from == at && (piece.to > at || piece.last) {
                at = piece.to;
                whole.push(piece);
            }
        }
        whole
    }

    /// How many bytes are there without a hole.
    pub fn bytes(&self) -> u64 {
        self.whole().last().map_or(0, |piece| piece.to)
    }

    /// True if all of the file is there.
    pub fn is_finished(&self) -> bool {
        self.whole().last().is_some_and(|piece| piece.last)
    }
}

/// The binary logs of one server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Archive {
    /// The server, as names of objects have it.
    pub server: String,
    /// Its files, by series and number.
    pub logs: Vec<Log>,
}

impl Archive {
    /// The binary logs of all servers.
    ///
    /// # Errors
    ///
    /// Failed, if the store cannot be read.
    pub fn all(store: &dyn Store) -> Result<Vec<Archive>> {
        Ok(of(store.list(BINLOGS)?))
    }

    /// Those of the server of a backup.
    ///
    /// # Errors
    ///
    /// As [`Archive::all`].
    pub fn of_backup(store: &dyn Store, meta: &Meta) -> Result<Archive> {
        Archive::of_server(store, &server(meta.server.uuid.as_deref()))
    }

    /// Those of a server.
    ///
    /// # Errors
    ///
    /// As [`Archive::all`].
    pub fn of_server(store: &dyn Store, server: &str) -> Result<Archive> {
        let found = of(store.list(&format!("{BINLOGS}{server}/"))?).into_iter().next();
        Ok(found.unwrap_or_else(|| Archive { server: server.to_owned(), logs: Vec::new() }))
    }

    /// The newest file.
    pub fn newest(&self) -> Option<&Log> {
        self.logs.last()
    }

    /// The file with this name.
    pub fn log(&self, name: &str) -> Option<&Log> {
        self.logs.iter().find(|log| log.name == name)
    }

    /// The file after this one, if the archive has it or a later one of its series; the next has the next number.
    fn later(&self, log: &Log) -> Option<&Log> {
        self.logs.iter().find(|other| other.series == log.series && other.number > log.number)
    }

    /// The next file.
    ///
    /// # Errors
    ///
    /// What is missing, if there are later files and not all between.
    pub fn next(&self, log: &Log) -> Result<Option<&Log>, String> {
        let Some(later) = self.later(log) else { return Ok(None) };
        if later.number != log.number + 1 {
            return Err(format!("between {} and {} files are missing", log.name, later.name));
        }
        if !log.is_finished() {
            return Err(format!("{} is there up to byte {} and not to its end", log.name, log.bytes()));
        }
        Ok(Some(later))
    }

    /// What is missing from this file and byte on.
    pub fn gaps(&self, file: &str, position: u64) -> Vec<String> {
        let Some(mut log) = self.log(file) else { return vec![format!("{file} is missing")] };
        let mut gaps = Vec::new();
        if log.bytes() < position {
            gaps.push(format!("{file} is there up to byte {} and not to {position}", log.bytes()));
        }
        loop {
            if log.pieces.last().is_some_and(|piece| piece.to > log.bytes()) {
                gaps.push(format!("{} has a hole at byte {}", log.name, log.bytes()));
            }
            match self.next(log) {
                Ok(None) => return gaps,
                Ok(Some(next)) => log = next,
                Err(gap) => {
                    gaps.push(gap);
                    match self.later(log) {
                        Some(later) => log = later,
                        None => return gaps,
                    }
                }
            }
        }
    }
}

/// A server in names of objects.
pub fn server(uuid: Option<&str>) -> String {
    let fits = |char: char| if char.is_ascii_alphanumeric() || char == '-' { char } else { '_' };
    let name: String = uuid.unwrap_or_default().chars().map(fits).collect();
    if name.is_empty() { "unknown".to_owned() } else { name }
}

/// The name of a series and the number: `binlog.000012`. Numbers have more than six digits after 999999.
pub fn parts(file: &str) -> Option<(&str, u64)> {
    let (series, number) = file.rsplit_once('.')?;
    Some((series, number.parse().ok()?))
}

fn of(objects: Vec<Object>) -> Vec<Archive> {
    let mut servers: BTreeMap<String, BTreeMap<String, Vec<Piece>>> = BTreeMap::new();
    for object in objects {
        let Some((server, file, piece)) = piece(object) else { continue };
        servers.entry(server).or_default().entry(file).or_default().push(piece);
    }
    let log = |(name, mut pieces): (String, Vec<Piece>)| {
        let (series, number) = parts(&name)?;
        pieces.sort_by_key(|piece| (piece.from, piece.to, piece.last));
        Some(Log { series: series.to_owned(), number, name, pieces })
    };
    let archive = |(server, files): (String, BTreeMap<String, Vec<Piece>>)| {
        let mut logs: Vec<Log> = files.into_iter().filter_map(log).collect();
        logs.sort_by(|a, b| (&a.series, a.number).cmp(&(&b.series, b.number)));
        Archive { server, logs }
    };
    servers.into_iter().map(archive).collect()
}

fn piece(object: Object) -> Option<(String, String, Piece)> {
    let mut path = object.name.strip_prefix(BINLOGS)?.split('/');
    let (server, file, name) = (path.next()?.to_owned(), path.next()?.to_owned(), path.next()?.to_owned());
    let mut words = name.split('.');
    let (from, to) = words.next()?.split_once('-')?;
    let (from, to, sum) = (from.parse().ok()?, to.parse().ok()?, words.next()?.to_owned());
    let mut coded: Vec<String> = words.map(str::to_owned).collect();
    let last = coded.first().is_some_and(|word| word == END);
    if last {
        coded.remove(0);
    }
    Some((server, file, Piece { object, from, to, sum, last, coded }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(names: &[&str]) -> Archive {
        let object = |name: &&str| Object { name: format!("{BINLOGS}s/{name}"), size: 1 };
        of(names.iter().map(object).collect()).remove(0)
    }

    #[test]
    fn what_is_missing_is_found() {
        let whole = ["b.000009/0-4.s", "b.000009/4-9.s.zst", "b.000009/9-9.s.end", "b.000010/0-7.s.zst.xbseal"];
        let good = archive(&whole);
        assert_eq!(good.gaps("b.000009", 4), Vec::<String>::new());
        assert_eq!(good.logs.iter().map(Log::bytes).collect::<Vec<_>>(), [9, 7]);
        assert_eq!(good.logs[1].pieces[0].coded, ["zst", "xbseal"]);
        assert_eq!(good.gaps("b.000010", 8), ["b.000010 is there up to byte 7 and not to 8"]);
        for gone in 0..3 {
            let mut names = whole.to_vec();
            names.remove(gone);
            assert!(!archive(&names).gaps("b.000009", 4).is_empty(), "{gone}");
        }
        let names = ["b.000009/0-4.s.end", "b.000011/0-4.s.end", "b.999999/0-4.s.end", "b.1000000/0-4.s"];
        let gaps = archive(&names).gaps("b.000009", 4);
        assert_eq!(gaps.len(), 2, "{gaps:?}");
        assert_eq!(archive(&names).gaps("b.000010", 4), ["b.000010 is missing"]);
    }

    #[test]
    fn numbers_are_compared_as_numbers() {
        assert_eq!(parts("db.one-bin.1000000"), Some(("db.one-bin", 1_000_000)));
        assert_eq!(parts("binlog"), None);
        assert_eq!((server(Some("a+/b=")), server(None)), ("a__b_".to_owned(), "unknown".to_owned()));
    }
}
