//! Lists the files for a stream, and their names.

use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bstr::ByteSlice;

use super::{Options, below};
use crate::error::{Error, Result};
use crate::io::spool::Spool;
use crate::report::{Level, Report};
use crate::stream::Table;
use crate::stream::members::key;
use crate::stream::name;
use crate::stream::native::names;
use crate::stream::native::{BEGIN, INCOMPLETE, MANIFEST, MARK, PAGES, plain_name};

/// How many bytes of names are kept in memory; the rest goes to an unlinked temporary file.
const NAMES_IN_MEMORY: usize = 2 << 20;
/// The longest line of a list in bytes: far more than any valid name.
const LINE_MAX: u64 = 64 << 10;

/// A list of files and directories.
#[derive(Debug, Clone)]
pub struct List {
    /// The path of the list; `-` is stdin.
    pub file: PathBuf,
    /// True if names end with a NUL byte instead of a newline.
    pub null: bool,
}

/// The names, each preceded by its length, in the order of the stream.
pub(super) struct Plan {
    names: Spool,
    /// Total size of all files in bytes, when they were listed.
    pub(super) bytes: u64,
    /// The manifest's name, if the directory contains it and `xb_begin`; neither is among the names. It is encrypted if
    /// the directory was unpacked before decryption.
    pub(super) manifest: Option<Vec<u8>>,
}

struct Gather<'a> {
    options: &'a Options,
    report: &'a dyn Report,
    plan: Plan,
    known: Table<()>,
    begin: bool,
    manifest: Option<Vec<u8>>,
    /// Names that begin with a dot: the first one, and their number.
    dotted: Option<(Vec<u8>, usize)>,
}

impl Plan {
    /// Lists everything to be packed; opens only directories.
    pub(super) fn gather(options: &Options, report: &dyn Report) -> Result<Plan> {
        let names = Spool::new(NAMES_IN_MEMORY, &options.spool_dir, u64::MAX);
        let plan = Plan { names, bytes: 0, manifest: None };
        let known = Table::default();
        let mut gather = Gather { options, report, plan, known, begin: false, manifest: None, dotted: None };
        for path in &options.paths {
            gather.operand(path.as_os_str().as_bytes())?;
        }
        if let Some(list) = &options.list {
            gather.list(list)?;
        }
        gather.finish()
    }

    /// The next name; `None` after the last one.
    pub(super) fn next(&mut self) -> Result<Option<Vec<u8>>> {
        let mut len = [0; 2];
        if self.names.pull(&mut len)? < len.len() {
            return Ok(None);
        }
        let mut name = vec![0; usize::from(u16::from_le_bytes(len))];
        self.names.pull(&mut name)?;
        Ok(Some(name))
    }
}

impl Gather<'_> {
    fn list(&mut self, list: &List) -> Result<()> {
        let place = list.file.display();
        let fail = |cause: io::Error| Error::io(place.to_string(), "cannot read", &cause);
        let input: Box<dyn Read> = match list.file.as_os_str().as_bytes() {
            b"-" => Box::new(crate::io::stdin()?),
            _ => Box::new(fs::File::open(&list.file).map_err(fail)?),
        };
        let mut input = BufReader::new(input);
        let end = if list.null { 0 } else { b'\n' };
        loop {
            let mut line = Vec::new();
            if input.by_ref().take(LINE_MAX).read_until(end, &mut line).map_err(fail)? == 0 {
                return Ok(());
            }
            let name = line.strip_suffix(&[end]).unwrap_or(&line);
            if !name.is_empty() {
                self.operand(name)?;
            }
        }
    }

    /// Adds a file, or a directory with everything below it.
    fn operand(&mut self, given: &[u8]) -> Result<()> {
        let place = given.as_bstr();
        let parts = given.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".");
        let clean = parts.collect::<Vec<_>>().join(&b'/');
        if given.first() == Some(&b'/') || clean.split(|byte| *byte == b'/').any(|part| part == b"..") {
            return Err(Error::usage(place, "names in a stream are relative and have no '..'")
                .hint("give the directory with -C, and names below it"));
        }
        if given.is_empty() {
            return Err(Error::usage("''", "empty name"));
        }
        let path = below(&self.options.dir, &clean);
        let facts = fs::metadata(&path).map_err(|cause| Error::io(path.display(), "cannot read", &cause))?;
        if facts.is_dir() {
            return self.directory(&clean, &facts, &mut Vec::new());
        }
        if !facts.is_file() {
            return Err(Error::failed(place, "is not a regular file"));
        }
        self.file(clean, &facts)
    }

    /// Lists a directory, sorted by name. Follows symbolic links, as the original does: a stream has none.
    fn directory(&mut self, name: &[u8], facts: &Metadata, above: &mut Vec<(u64, u64)>) -> Result<()> {
        let path = below(&self.options.dir, name);
        let identity = (facts.dev(), facts.ino());
        if above.contains(&identity) {
            return Err(Error::failed(path.display(), "a symlink leads back to a directory above it"));
        }
        above.push(identity);
        let fail = |path: &Path, cause: &io::Error| Error::io(path.display(), "cannot read", cause);
        let entries = fs::read_dir(&path).map_err(|cause| fail(&path, &cause))?;
        let names: io::Result<Vec<OsString>> = entries.map(|entry| entry.map(|entry| entry.file_name())).collect();
        let mut names = names.map_err(|cause| fail(&path, &cause))?;
        names.sort_unstable();
        if names.is_empty() && !name.is_empty() {
            self.report.note(Level::Info, format_args!("{}: empty directory: a stream cannot hold it", name.as_bstr()));
        }
        for entry in names {
            let child = if name.is_empty() { entry.into_vec() } else { [name, b"/", entry.as_bytes()].concat() };
            if self.options.exclude.excludes(&child) {
                continue;
            }
            let path = below(&self.options.dir, &child);
            let facts = fs::metadata(&path).map_err(|cause| fail(&path, &cause))?;
            if facts.is_dir() {
                self.directory(&child, &facts, above)?;
            } else if facts.is_file() {
                self.file(child, &facts)?;
            } else {
                let what = "left out: not a regular file (socket, pipe or device)";
                self.report.note(Level::Warning, format_args!("{}: {what}", child.as_bstr()));
            }
        }
        above.pop();
        Ok(())
    }

    fn file(&mut self, name: Vec<u8>, facts: &Metadata) -> Result<()> {
        if self.options.exclude.excludes(&name) {
            return Ok(());
        }
        name::clean(&name).map_err(|fault| Error::failed(name.as_bstr(), fault))?;
        match name.as_slice() {
            BEGIN => self.begin = true,
            _ if plain_name(&name) == MANIFEST => self.manifest = Some(name.clone()),
            INCOMPLETE => {
                return Err(Error::failed(name.as_bstr(), "marks a directory whose unpacking did not finish")
                    .hint("unpack it again; --exclude 'xb_*' packs what is there as plain files"));
            }
            // The manifest lists it.
            PAGES => {}
            _ if names::is_ours(&name) => {
                self.report.note(Level::Detail, format_args!("{}: left out: a mark of xb-tools", name.as_bstr()));
                return Ok(());
            }
            _ if name.starts_with(MARK) && self.options.manifest => {
                return Err(Error::failed(name.as_bstr(), "this name is reserved for xb-snap and xb-redo")
                    .hint("leave it out: --exclude 'xb_mark.*'"));
            }
            _ => {}
        }
        let root = name.split(|byte| *byte == b'/').next().filter(|root| root.len() < name.len());
        if self.options.manifest && root.is_some_and(|root| root == BEGIN || root == MANIFEST) {
            return Err(Error::failed(name.as_bstr(), "is in a directory with the name of a member of our own")
                .hint("rename the directory, or pack without those members: --no-manifest"));
        }
        if !self.known.insert(key(&name), ())? {
            self.report.note(Level::Detail, format_args!("{}: named twice, packed once", name.as_bstr()));
            return Ok(());
        }
        if name == BEGIN || plain_name(&name) == MANIFEST {
            return Ok(());
        }
        if name.first() == Some(&b'.') {
            self.dotted.get_or_insert_with(|| (name.clone(), 0)).1 += 1;
        }
        self.plan.bytes = self.plan.bytes.saturating_add(facts.len());
        let len = u16::try_from(name.len()).unwrap_or(u16::MAX);
        self.plan.names.push(&len.to_le_bytes())?;
        self.plan.names.push(&name)
    }

    fn finish(mut self) -> Result<Plan> {
        if self.begin != self.manifest.is_some() {
            let (here, gone) = if self.begin { ("xb_begin", "xb_manifest") } else { ("xb_manifest", "xb_begin") };
            return Err(Error::failed(
                here,
                format_args!("packed without {gone}, it would make a stream look damaged"),
            )
            .hint("pack the whole directory, or leave it out: --exclude 'xb_*'"));
        }
        self.plan.manifest = self.manifest;
        if let Some((name, count)) = &self.dotted {
            let more = if *count > 1 { format!(" (and {} more)", count - 1) } else { String::new() };
            let text = format_args!("{}{more}: mbstream refuses names that begin with a dot", name.as_bstr());
            self.report.note(Level::Warning, text);
        }
        Ok(self.plan)
    }
}
