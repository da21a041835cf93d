//! The threads that hash and write, and the buffers that they share with the reader.

use std::collections::HashMap;
use std::sync::Mutex;
use std::thread::{Scope, ScopedJoinHandle};

use bstr::ByteSlice;
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use super::member::Member;
use super::proof::is_unlisted;
use super::target::Target;
use super::{BUFFER_MAX, BUFFER_MIN, Listing, Options, lock};
use crate::codec::pool::FirstError;
use crate::error::{Error, OrInternal as _, Result};
use crate::report::{Level, Report};
use crate::stream::native::Seen;

/// Total size of all buffers in bytes.
const POOL: usize = 12 << 20;
/// How many tasks may wait for one thread.
const QUEUE: usize = 64;
/// How many descriptors all threads together keep open.
const OPEN_FILES: usize = 256;

/// A task for a thread.
pub(super) enum Task {
    /// A member begins.
    Open { slot: usize, member: Box<Member> },
    /// Its bytes from `offset` on.
    Data { slot: usize, offset: u64, buffer: Buffer },
    /// Extends it to `end` with a hole.
    Hole { slot: usize, end: u64 },
    /// It is complete.
    End { slot: usize },
    /// All earlier tasks are done when the sender is dropped.
    Settle(Sender<()>),
}

/// A buffer that is returned when it is dropped, in any thread.
pub(super) struct Buffer {
    bytes: Vec<u8>,
    len: usize,
    home: Sender<Vec<u8>>,
}

impl Buffer {
    /// A slice of up to `want` bytes.
    pub(super) fn room(&mut self, want: usize) -> &mut [u8] {
        let want = want.min(self.bytes.len());
        self.bytes.split_at_mut(want).0
    }

    pub(super) fn set_len(&mut self, len: usize) {
        self.len = len;
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.split_at(self.len).0
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let _ = self.home.send(std::mem::take(&mut self.bytes));
    }
}

/// The state shared by the reader and the threads.
pub(super) struct Shared<'a> {
    target: Option<&'a Target<'a>>,
    list: Option<&'a Listing>,
    /// The members of a stream of ours that were read.
    pub(super) seen: Mutex<Seen>,
    pub(super) report: &'a dyn Report,
    failure: FirstError,
}

impl<'a> Shared<'a> {
    pub(super) fn new(target: Option<&'a Target<'a>>, options: &'a Options<'a>, report: &'a dyn Report) -> Self {
        Shared {
            target,
            list: options.list.as_ref(),
            seen: Mutex::new(Seen::within(&options.budget)),
            report,
            failure: FirstError::default(),
        }
    }

    /// Prepares the directory when the first chunk has arrived.
    pub(super) fn prepare(&self) -> Result<()> {
        self.target.map_or(Ok(()), Target::prepare)
    }

    /// True if members are hashed even when there is no manifest to compare them with.
    pub(super) fn wants_sums(&self) -> bool {
        self.list.is_some_and(Listing::wants_sums)
    }

    /// Fails when a thread has failed.
    pub(super) fn check(&self) -> Result<()> {
        self.failure.check()
    }

    /// Renames a complete member; `replace`: even if a file has the new name.
    pub(super) fn rename(&self, from: &[u8], to: &[u8], replace: bool) -> Result<()> {
        self.report.note(Level::Detail, format_args!("{} is renamed to {}", from.as_bstr(), to.as_bstr()));
        self.target.map_or(Ok(()), |target| target.rename(from, to, replace))
    }

    /// Removes a member.
    pub(super) fn remove(&self, path: &[u8]) -> Result<()> {
        self.report.note(Level::Detail, format_args!("{} is removed", path.as_bstr()));
        self.target.map_or(Ok(()), |target| target.remove(path))
    }

    fn fail(&self, error: Error) {
        self.failure.fail(error);
    }
}

/// The reader's error after an error of a thread, which is reported instead.
fn stopped() -> Error {
    Error::failed("stdin", "a writing thread has stopped")
}

/// The reader's side of the threads.
pub(super) struct Workers<'scope> {
    queues: Vec<Sender<Task>>,
    threads: Vec<ScopedJoinHandle<'scope, ()>>,
    /// Which thread has the member of a slot.
    owners: Vec<usize>,
    pool: Receiver<Vec<u8>>,
    home: Sender<Vec<u8>>,
    /// Size of a buffer, and how many have not been allocated yet.
    size: usize,
    unmade: usize,
    failure: &'scope FirstError,
}

impl<'scope> Workers<'scope> {
    pub(super) fn start<'env>(
        scope: &'scope Scope<'scope, 'env>,
        shared: &'env Shared<'env>,
        options: &Options<'_>,
    ) -> Self {
        let count = options.threads.max(1);
        let size = options.buffer.clamp(BUFFER_MIN, BUFFER_MAX);
        let (home, pool) = unbounded();
        let (mut queues, mut threads) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let (queue, tasks) = bounded(QUEUE);
            let keep = (OPEN_FILES / count).max(1);
            threads.push(scope.spawn(move || Worker { shared, open: HashMap::new(), files: 0, keep }.run(&tasks)));
            queues.push(queue);
        }
        Workers { queues, threads, owners: Vec::new(), pool, home, size, unmade: POOL / size, failure: &shared.failure }
    }

    /// An empty buffer; waits for one if all are in use.
    pub(super) fn buffer(&mut self) -> Result<Buffer> {
        let bytes = match self.pool.try_recv() {
            Ok(bytes) => bytes,
            Err(_) if self.unmade > 0 => {
                self.unmade -= 1;
                vec![0; self.size]
            }
            Err(_) => self.pool.recv().map_err(|_| stopped())?,
        };
        Ok(Buffer { bytes, len: 0, home: self.home.clone() })
    }

    /// Gives a new member to the thread with the fewest waiting tasks.
    pub(super) fn send_to_idlest(&mut self, slot: usize, task: Task) -> Result<()> {
        let idlest = self.queues.iter().enumerate().min_by_key(|(_, queue)| queue.len()).map_or(0, |(index, _)| index);
        if self.owners.len() <= slot {
            self.owners.resize(slot + 1, 0);
        }
        *self.owners.get_mut(slot).or_internal("a member that is open has no slot")? = idlest;
        self.send(slot, task)
    }

    /// Gives a task to the thread that has the slot's member.
    pub(super) fn send(&self, slot: usize, task: Task) -> Result<()> {
        let queue = self.owners.get(slot).and_then(|owner| self.queues.get(*owner)).ok_or_else(stopped)?;
        queue.send(task).map_err(|_| stopped())
    }

    /// Waits until the threads have done all their tasks; fails if one of them failed.
    pub(super) fn settle(&self) -> Result<()> {
        let (answer, settled) = bounded(0);
        for queue in &self.queues {
            queue.send(Task::Settle(answer.clone())).map_err(|_| stopped())?;
        }
        drop(answer);
        // Ends when every thread has dropped its sender.
        let _ = settled.recv();
        self.failure.check()
    }

    /// Ends the threads after they have done their tasks and removed incomplete files.
    pub(super) fn join(self, shared: &Shared<'_>) {
        drop(self.queues);
        for thread in self.threads {
            if thread.join().is_err() {
                shared.fail(stopped());
            }
        }
    }
}

/// One thread.
struct Worker<'a> {
    shared: &'a Shared<'a>,
    open: HashMap<usize, Box<Member>>,
    /// Number of open descriptors, and the limit.
    files: usize,
    keep: usize,
}

impl Worker<'_> {
    fn run(mut self, tasks: &Receiver<Task>) {
        for task in tasks {
            // After an error, tasks are only removed from the queue, so that the reader is never blocked.
            if self.shared.failure.is_set() {
                continue;
            }
            if let Err(error) = self.task(task) {
                self.shared.fail(error);
            }
        }
        for member in self.open.values_mut().filter(|member| member.is_unfinished()) {
            member.close();
            if let Some(target) = self.shared.target {
                // The directory is marked, so an incomplete file that cannot be removed does no harm.
                let _ = target.remove(&member.path);
            }
        }
    }

    fn task(&mut self, task: Task) -> Result<()> {
        let target = self.shared.target;
        match task {
            Task::Open { slot, mut member } => {
                if let Some(target) = target.filter(|_| member.picked) {
                    self.make_room();
                    member.create(target)?;
                    self.files += 1;
                }
                self.open.insert(slot, member);
                Ok(())
            }
            Task::Data { slot, offset, buffer } => {
                if self.open.get(&slot).is_some_and(|member| member.is_unfinished() && !member.is_open()) {
                    self.make_room();
                    self.files += 1;
                }
                let member = self.open.get_mut(&slot).ok_or_else(stopped)?;
                member.bytes(offset, buffer.bytes(), target)
            }
            Task::Hole { slot, end } => {
                self.open.get_mut(&slot).ok_or_else(stopped)?.hole(end);
                Ok(())
            }
            Task::End { slot } => {
                let mut member = self.open.remove(&slot).ok_or_else(stopped)?;
                self.files -= usize::from(member.is_open());
                self.end(&mut member)
            }
            Task::Settle(answer) => {
                drop(answer);
                Ok(())
            }
        }
    }

    fn end(&self, member: &mut Member) -> Result<()> {
        let ended = member.end(self.shared.target);
        if let (Err(_), Some(target)) = (&ended, self.shared.target) {
            let _ = target.remove(&member.path);
        }
        let (size, digest) = ended?;
        if let Some(digest) = digest.filter(|_| !is_unlisted(&member.path)) {
            lock(&self.shared.seen).add(&member.path, size, &digest)?;
        }
        self.shared.report.note(Level::Detail, format_args!("{}: {size} bytes", member.path.as_bstr()));
        match self.shared.list {
            Some(list) if member.picked => list.member(member, size, digest),
            _ => Ok(()),
        }
    }

    /// Closes a file if the limit is reached; any will do, because it is opened again when needed.
    fn make_room(&mut self) {
        if self.files < self.keep {
            return;
        }
        if let Some(member) = self.open.values_mut().find(|member| member.is_open()) {
            member.close();
            self.files -= 1;
        }
    }
}
