//! Work in parallel: [`run`] with results in order and bounded memory, [`for_each`] without results.
//!
//! In [`run`], the calling thread feeds pieces. For each it puts a ticket into the ordered queue and the piece into the
//! work queue. Workers fill the tickets in any order, and the sink's thread redeems them in the order in which they
//! were issued. Both queues are bounded, so at most `2·n` pieces and results exist at once, and a slow sink slows the
//! feeder down.
//!
//! The first error in order wins: the sink stops at the first result that is an error, or at its own. What was fed
//! before has been written by then, nothing after it is written, and everything ends. A panic of a worker is an error,
//! too.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::error::{Error, Kind, Result};

/// Feeds the next piece; fails when more pieces are useless.
pub type Feed<'a, P> = &'a mut dyn FnMut(P) -> Result<()>;

type Job<P, R> = (P, Sender<Result<R>>);

/// Runs `feed` in this thread, `work` in `threads` others, and `sink` in one more, which gets the results in the order
/// of the pieces. With one thread everything runs in this thread, piece by piece.
///
/// `worker` is called in each thread and returns the function that works there, with its own scratch memory.
///
/// # Errors
///
/// The first error in the order of the pieces, of `work` or `sink`; otherwise that of `feed`.
pub fn run<P, R, T, W>(
    threads: usize,
    feed: impl FnOnce(Feed<'_, P>) -> Result<T>,
    worker: impl Fn() -> W + Sync,
    mut sink: impl FnMut(R) -> Result<()> + Send,
) -> Result<T>
where
    P: Send,
    R: Send,
    W: FnMut(P) -> Result<R>,
{
    if threads <= 1 {
        let mut work = worker();
        return feed(&mut |piece| sink(work(piece)?));
    }
    thread::scope(|scope| {
        let (issue, tickets) = bounded::<Receiver<Result<R>>>(2 * threads);
        let (give, jobs) = bounded::<Job<P, R>>(threads);
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                let (jobs, worker) = (jobs.clone(), &worker);
                scope.spawn(move || labour(&jobs, worker()))
            })
            .collect();
        drop(jobs);
        let redeemer = scope.spawn(move || {
            // Ends at the first error; the feeder then finds its queue closed.
            tickets.iter().try_for_each(|ticket| sink(ticket.recv().map_err(|_| lost())??))
        });
        let fed = feed(&mut |piece| {
            let (slot, ticket) = bounded(1);
            issue.send(ticket).map_err(|_| closed())?;
            give.send((piece, slot)).map_err(|_| closed())
        });
        drop((issue, give));
        let mut outcome = redeemer.join().unwrap_or_else(|_| Err(lost()));
        for worker in workers {
            let ended = worker.join().map_err(|_| lost());
            outcome = outcome.and(ended);
        }
        // The sink's error comes first in order; the feeder may only have found its queue closed.
        outcome.and(fed)
    })
}

fn labour<P, R>(jobs: &Receiver<Job<P, R>>, mut work: impl FnMut(P) -> Result<R>) {
    for (piece, slot) in jobs {
        // After an error of the sink nobody waits for the result.
        let _ = slot.send(work(piece));
    }
}

fn lost() -> Error {
    Error::internal("a thread ended before its work")
}

fn closed() -> Error {
    Error::internal("the output is closed")
}

/// The first error of any thread, shared by all threads.
#[derive(Debug, Default)]
pub struct FirstError {
    first: Mutex<Option<Error>>,
    set: AtomicBool,
}

impl FirstError {
    /// Records an error. The first one is kept, unless it is a broken pipe: when a write fails, other threads notice
    /// it, and may be faster.
    pub fn fail(&self, error: Error) {
        let mut first = self.first();
        if first.as_ref().is_none_or(|first| first.kind() == Kind::Pipe) {
            *first = Some(error);
        }
        drop(first);
        self.set.store(true, Ordering::Release);
    }

    /// True once there is an error.
    pub fn is_set(&self) -> bool {
        self.set.load(Ordering::Acquire)
    }

    /// Returns the first error, if there was one.
    ///
    /// # Errors
    ///
    /// That error.
    pub fn check(&self) -> Result<()> {
        if !self.is_set() {
            return Ok(());
        }
        self.first().clone().map_or(Ok(()), Err)
    }

    fn first(&self) -> std::sync::MutexGuard<'_, Option<Error>> {
        // The state is consistent at any moment.
        self.first.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Does `work` for each item, with `threads` threads that take items from one list until it is empty or there is an
/// error. `scratch` creates the working memory of a thread.
///
/// # Errors
///
/// The first error, including one that another holder of `failure` has recorded.
pub fn for_each<I: Send, S>(
    threads: usize,
    failure: &FirstError,
    items: impl Iterator<Item = Result<I>> + Send,
    scratch: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, I) -> Result<()> + Sync,
) -> Result<()> {
    let items = Mutex::new(items);
    let next = || items.lock().map_err(|_| lost()).and_then(|mut items| items.next().transpose());
    let take = || {
        let mut scratch = scratch();
        while !failure.is_set() {
            match next().and_then(|item| item.map(|item| work(&mut scratch, item)).transpose()) {
                Ok(Some(())) => {}
                Ok(None) => break,
                Err(error) => failure.fail(error),
            }
        }
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(take)).collect();
        for thread in threads {
            if thread.join().is_err() {
                failure.fail(lost());
            }
        }
    });
    failure.check()
}

/// Reusable buffers of one capacity, up to a number.
#[derive(Debug)]
pub struct Buffers {
    capacity: usize,
    keep: usize,
    idle: Mutex<Vec<Vec<u8>>>,
}

impl Buffers {
    /// Keeps at most `keep` unused buffers of `capacity` bytes.
    pub fn new(capacity: usize, keep: usize) -> Self {
        Buffers { capacity, keep, idle: Mutex::default() }
    }

    /// An empty buffer with a capacity of at least `capacity` bytes.
    pub fn take(&self) -> Vec<u8> {
        self.idle().pop().unwrap_or_else(|| Vec::with_capacity(self.capacity))
    }

    /// Returns a buffer. One of another size is freed, and so is one too many.
    pub fn give(&self, mut buffer: Vec<u8>) {
        let mut idle = self.idle();
        if idle.len() < self.keep && (self.capacity..=2 * self.capacity).contains(&buffer.capacity()) {
            buffer.clear();
            idle.push(buffer);
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Vec<u8>>> {
        // The list is consistent at any moment.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::time::Duration;

    use super::*;

    fn numbers(count: usize) -> impl FnOnce(Feed<'_, usize>) -> Result<usize> {
        move |feed| (0..count).try_for_each(feed).map(|()| count)
    }

    #[test]
    fn results_come_in_order_whatever_the_threads() {
        for threads in [1, 2, 3, 8] {
            let mut got = Vec::new();
            let slow = || {
                |n: usize| {
                    thread::sleep(Duration::from_micros((n * 7919 % 13) as u64 * 50));
                    Ok(n * 2)
                }
            };
            let count = run(threads, numbers(200), slow, |n| {
                got.push(n);
                Ok(())
            })
            .unwrap();
            assert_eq!(count, 200);
            assert!(got.iter().copied().eq((0..200).map(|n| n * 2)), "{threads} threads");
        }
    }

    #[test]
    fn the_first_failure_in_order_wins_and_nothing_follows_it() {
        for threads in [1, 2, 4] {
            let mut got = 0;
            let work = || {
                |n: usize| match n {
                    50 => {
                        thread::sleep(Duration::from_millis(20));
                        Err(Error::damaged("piece", n))
                    }
                    51 => Err(Error::damaged("piece", n)),
                    _ => Ok(n),
                }
            };
            let error = run(threads, numbers(1_000_000), work, |_| {
                got += 1;
                Ok(())
            })
            .unwrap_err();
            assert_eq!((error.to_string().as_str(), got), ("piece: 50", 50));
        }
    }

    #[test]
    fn input_before_a_fault_is_passed_on() {
        for threads in [1, 3] {
            let mut got = 0;
            let feed = |feed: Feed<'_, usize>| {
                (0..10).try_for_each(feed)?;
                Err::<(), _>(Error::damaged("input", "cut"))
            };
            let error = run(
                threads,
                feed,
                || Ok,
                |_| {
                    got += 1;
                    Ok(())
                },
            )
            .unwrap_err();
            assert_eq!((error.to_string().as_str(), got), ("input: cut", 10));
        }
    }

    #[test]
    fn a_sink_that_fails_ends_the_run() {
        for threads in [1, 2] {
            let sink = |n: usize| if n == 3 { Err(Error::failed("stdout", "full")) } else { Ok(()) };
            let error = run(threads, numbers(1_000_000), || Ok, sink).unwrap_err();
            assert_eq!(error.to_string(), "stdout: full");
        }
    }

    #[test]
    fn a_panic_of_a_worker_is_an_error() {
        let work = || |n: usize| if n % 100 == 99 { panic!("on purpose") } else { Ok(n) };
        let error = run(2, numbers(1_000_000), work, |_| Ok(())).unwrap_err();
        assert!(error.to_string().contains("a thread ended"), "{error}");
        // All workers at once.
        let error = run(4, numbers(1_000_000), || |_: usize| -> Result<()> { panic!("on purpose") }, |()| Ok(()));
        assert!(error.is_err());
    }

    #[test]
    fn a_slow_sink_slows_the_feeder() {
        let (under_way, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let feed = |feed: Feed<'_, ()>| {
            (0..100).try_for_each(|_| {
                most.fetch_max(under_way.fetch_add(1, Relaxed) + 1, Relaxed);
                feed(())
            })
        };
        let sink = |()| {
            thread::sleep(Duration::from_micros(200));
            under_way.fetch_sub(1, Relaxed);
            Ok(())
        };
        run(3, feed, || Ok, sink).unwrap();
        // Six in the queues, one with the feeder and one with the sink.
        assert!(most.load(Relaxed) <= 8, "{} under way", most.load(Relaxed));
    }

    #[test]
    fn a_cause_counts_more_than_its_echo() {
        let failure = FirstError::default();
        failure.fail(Error::new(Kind::Pipe, "stdout", "cannot write: broken pipe"));
        failure.fail(Error::failed("spool", "no space left on device"));
        failure.fail(Error::failed("d/t.ibd", "cannot read"));
        assert_eq!(failure.check().unwrap_err().to_string(), "spool: no space left on device");
    }

    #[test]
    fn the_first_error_of_a_thread_ends_all() {
        let each = |wrong: Option<u32>| {
            let done = AtomicUsize::new(0);
            let outcome = for_each(
                4,
                &FirstError::default(),
                (0..1_000_000).map(Ok),
                || (),
                |(), item| {
                    done.fetch_add(1, Relaxed);
                    if Some(item) == wrong { Err(Error::failed("x", "y")) } else { Ok(()) }
                },
            );
            (outcome.map_err(|error| error.to_string()), done.into_inner())
        };
        assert_eq!(each(None), (Ok(()), 1_000_000));
        let (outcome, done) = each(Some(500));
        assert_eq!(outcome, Err("x: y".into()));
        assert!(done < 1_000_000);
    }

    #[test]
    fn a_panic_of_one_thread_is_the_outcome() {
        let outcome = for_each(
            2,
            &FirstError::default(),
            (0..10).map(Ok),
            || (),
            |(), item: u32| if item == 5 { panic!("on purpose") } else { Ok(()) },
        );
        assert!(outcome.unwrap_err().to_string().contains("a thread ended"));
    }

    #[test]
    fn buffers_go_round() {
        let buffers = Buffers::new(1000, 2);
        let mut buffer = buffers.take();
        buffer.push(7);
        let place = buffer.as_ptr();
        buffers.give(buffer);
        let again = buffers.take();
        assert_eq!((again.as_ptr(), again.len()), (place, 0));
        buffers.give(Vec::with_capacity(10));
        assert!(buffers.idle().is_empty());
    }
}
