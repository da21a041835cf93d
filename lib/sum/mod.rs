//! `xb-sum`: passes anything on and sums it meanwhile.
//!
//! One thread reads and writes; each algorithm, and whatever follows the stream's structure, has a thread of its own.
//! All of them see the same buffers, which come back when the last is done with them, so memory is bounded and the
//! slowest sets the pace.

mod algorithm;
mod file;
mod list;
mod members;

use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{Scope, ScopedJoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::budget::Budget;
use crate::error::{Error, Result};
use crate::io::BUFFER;
use crate::report::Report;
#[cfg(doc)]
use crate::stream::holes::Holes;
pub use algorithm::Algorithm;
use file::Target;
pub use list::{List, Member};
use members::Sent;

/// How many buffers are under way: enough that a hiccup of one thread does not stop the others.
const BUFFERS: usize = 8;

/// What is summed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The stream as a whole.
    Stream,
    /// Each of its members.
    Members,
    /// Both.
    Both,
}

/// How to sum.
#[derive(Clone, Debug)]
pub struct Options {
    /// By which algorithms; when there are none, those of `check`, or SHA-1.
    pub algorithms: Vec<Algorithm>,
    /// What is summed.
    pub what: What,
    /// Where the sums go.
    pub output: Option<PathBuf>,
    /// A file of sums that must be met.
    pub check: Option<PathBuf>,
    /// Take an input of no bytes, which is otherwise an error.
    pub allow_empty: bool,
    /// Memory for names, open members and sums of members.
    pub budget: Budget,
    /// Most bytes of zeros that holes are summed as, beside [`Holes::RATIO`] times the content.
    pub holes: u64,
}

/// Passes `input` on to `output`; the lines of its sums. When this returns with success, the sums are on disk, if they
/// are to go to a file; `output` must be kept open until then.
pub fn run(options: &Options, input: File, output: &File, report: &dyn Report) -> Result<Vec<u8>> {
    let expected = options.check.as_deref().map(List::read).transpose()?;
    let target = options.output.as_deref().map(Target::prepare).transpose()?;
    let mut algorithms = options.algorithms.clone();
    if algorithms.is_empty() {
        algorithms = expected.as_ref().map_or_else(|| vec![Algorithm::Sha1], List::algorithms);
    }
    let listed = |part: fn(&List) -> bool| expected.as_ref().is_some_and(part);
    let stream = options.what != What::Members || listed(|list| !list.stream.is_empty());
    let members = options.what != What::Stream || listed(|list| !list.members.is_empty());
    let list = pass(options, &algorithms, (stream, members), input, output, report)?;
    if let Some(expected) = &expected {
        let what = |what: String| Error::damaged("stdin", format_args!("not what the sums say: {what}"));
        expected.check(&list).map_err(what)?;
    }
    let empty = list.members.is_empty() && list.stream.iter().all(|sum| list::is_of_nothing(sum));
    if empty && !options.allow_empty {
        return Err(Error::damaged("stdin", "empty: not one byte came")
            .hint("the sender failed before it began; see its message and exit status (--allow-empty takes this)"));
    }
    let lines = list.write(&algorithms);
    if let Some(target) = target {
        target.write(&lines)?;
    }
    Ok(lines)
}

/// Compares two files of sums; an error says what differs.
pub fn compare(a: &std::path::Path, b: &std::path::Path) -> Result<()> {
    let place = a.display();
    let (one, two) = (List::read(a)?, List::read(b)?);
    let differ = |what: String| Error::damaged(&place, format_args!("differs from {}: {what}", b.display()));
    one.check(&two).map_err(differ)?;
    two.check(&one).map_err(differ)?;
    if one.stream.iter().any(|sum| list::is_of_nothing(sum)) {
        return Err(Error::damaged(&place, "equal, but these are the sums of no bytes at all")
            .hint("the sender failed before it sent anything; check its exit status (set -o pipefail)"));
    }
    Ok(())
}

/// A buffer on loan; dropped, it returns.
struct Lent {
    bytes: Box<[u8]>,
    len: usize,
    home: Sender<Box<[u8]>>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        self.bytes.split_at(self.len).0
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // There is room for all; after the end nobody wants it.
        let _ = self.home.send(std::mem::take(&mut self.bytes));
    }
}

fn pass(
    options: &Options,
    algorithms: &[Algorithm],
    (stream, members): (bool, bool),
    input: File,
    output: &File,
    report: &dyn Report,
) -> Result<List> {
    std::thread::scope(|scope| {
        let mut readers = Vec::new();
        let mut queue = || {
            let (send, receive) = bounded(BUFFERS);
            readers.push(send);
            receive
        };
        let mut sums = Vec::new();
        for algorithm in algorithms.iter().filter(|_| stream) {
            let buffers: Receiver<Arc<Lent>> = queue();
            let work = move || {
                let mut sum = algorithm.begin();
                buffers.iter().for_each(|buffer| sum.update(buffer.as_ref().as_ref()));
                sum.finish()
            };
            sums.push(spawn(scope, work)?);
        }
        let buffers = queue();
        let work = move || {
            let buffers = buffers.into_iter().map(Shared);
            members::follow(Sent { buffers, current: None, taken: 0 }, members.then_some(algorithms), options)
        };
        let follower = spawn(scope, work)?;
        // The queues end with the copy, and with them the threads.
        let copied = copy(input, output, readers, report);
        let sums: Result<Vec<String>> = sums.into_iter().map(join).collect();
        let members = join(follower).and_then(|followed| followed);
        copied?;
        Ok(List { stream: sums?, members: members? })
    })
}

/// One of several who look at a buffer.
struct Shared(Arc<Lent>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        self.0.as_ref().as_ref()
    }
}

/// Reads, shows, writes. A thread that has ended is not shown more.
fn copy(mut input: File, mut output: &File, mut readers: Vec<Sender<Arc<Lent>>>, report: &dyn Report) -> Result<()> {
    let (home, free) = bounded(BUFFERS);
    for _ in 0..BUFFERS {
        let _ = home.send(vec![0; BUFFER].into_boxed_slice());
    }
    // The loans hold the other ends.
    while let Ok(mut bytes) = free.recv() {
        let len = loop {
            match input.read(&mut bytes) {
                Err(cause) if cause.kind() == std::io::ErrorKind::Interrupted => {}
                other => break other.map_err(|cause| Error::io("stdin", "cannot read", &cause))?,
            }
        };
        if len == 0 {
            break;
        }
        let lent = Arc::new(Lent { bytes, len, home: home.clone() });
        readers.retain(|reader| reader.send(lent.clone()).is_ok());
        output.write_all(lent.as_ref().as_ref()).map_err(|cause| Error::io("stdout", "cannot write", &cause))?;
        report.advance(len as u64);
    }
    Ok(())
}

fn spawn<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, T>> {
    let spawned = std::thread::Builder::new().spawn_scoped(scope, work);
    spawned.map_err(|cause| Error::io("xb-sum", "cannot start a thread", &cause))
}

fn join<T>(thread: ScopedJoinHandle<'_, T>) -> Result<T> {
    thread.join().map_err(|_| Error::internal("a thread panicked"))
}
