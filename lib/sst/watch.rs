//! What ends a transfer early: the joiner's server is gone, a signal, or a side that has been silent for too long. All
//! that may block is then ended, so that whoever waits for it gets an error and can clean up.

use std::net::{Shutdown, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::error::{Error, Kind, Result};
use crate::process::Group;

/// How often everything is looked at.
const BEAT: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// How long programs get to clean up.
const GRACE: Duration = Duration::from_secs(3);

/// Clones watch together.
#[derive(Clone, Default)]
pub(super) struct Watch(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// mariadbd.
    parent: Option<Arc<OwnedFd>>,
    groups: Vec<Group>,
    links: Vec<TcpStream>,
    /// Until when something has to happen, and what is said if it does not.
    limit: Option<(Instant, String)>,
    cause: Option<Error>,
}

impl Watch {
    /// Starts to watch this process, and signals.
    ///
    /// # Errors
    ///
    /// Failed: the process is gone already, or signals cannot be caught.
    pub(super) fn start(parent: Option<i32>) -> Result<Watch> {
        let gone = || Error::failed("mariadbd", "is gone");
        let open = |pid: i32| {
            let pid = Pid::from_raw(pid).ok_or_else(gone)?;
            pidfd_open(pid, PidfdFlags::empty()).map_err(|_| gone())
        };
        let parent = parent.map(open).transpose()?.map(Arc::new);
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])
            .map_err(|cause| Error::io("signals", "cannot be caught", &cause))?;
        let watch = Watch(Arc::new(Mutex::new(State { parent: parent.clone(), ..State::default() })));
        let (own, from) = (watch.clone(), watch.clone());
        let look = move || own.look(parent.as_deref());
        let hear = move || {
            for signal in signals.forever() {
                from.end(Error::new(Kind::Signal(signal), "signal", format_args!("ended by signal {signal}")));
            }
        };
        for (name, work) in [("watch", Box::new(look) as Box<dyn FnOnce() + Send>), ("signals", Box::new(hear))] {
            let thread = std::thread::Builder::new().name(name.to_owned()).spawn(work);
            thread.map_err(|cause| Error::io(name, "cannot start a thread", &cause))?;
        }
        Ok(watch)
    }

    fn look(&self, parent: Option<&OwnedFd>) {
        loop {
            let mut files: Vec<_> = parent.iter().map(|file| PollFd::new(*file, PollFlags::IN)).collect();
            let gone = poll(&mut files, Some(&BEAT)).is_ok_and(|ready| ready > 0);
            if gone {
                self.end(Error::failed("mariadbd", "is gone; nobody waits for the data any more"));
                return;
            }
            let late = self.lock().limit.take_if(|(until, _)| Instant::now() > *until);
            if let Some((_, what)) = late {
                self.end(Error::failed("transfer", what));
            }
        }
    }

    /// From now on these programs end with the transfer.
    pub(super) fn group(&self, group: Group) {
        let mut state = self.lock();
        if state.cause.is_some() {
            group.signal(Signal::KILL);
        }
        state.groups.push(group);
    }

    /// From now on this connection ends with the transfer.
    pub(super) fn link(&self, link: &TcpStream) -> Result<()> {
        let link = link.try_clone().map_err(|cause| Error::io("connection", "cannot be watched", &cause))?;
        let mut state = self.lock();
        if state.cause.is_some() {
            let _ = link.shutdown(Shutdown::Both);
        }
        state.links.push(link);
        Ok(())
    }

    /// Something has to happen within this time, otherwise the transfer ends for this reason; `None`: no limit.
    pub(super) fn limit(&self, time: Option<Duration>, what: &str) {
        let until = time.and_then(|time| Instant::now().checked_add(time));
        self.lock().limit = until.map(|until| (until, what.to_owned()));
    }

    /// There is no limit any more.
    pub(super) fn relax(&self) {
        self.lock().limit = None;
    }

    /// Waits until the process is gone, but not for longer than this.
    pub(super) fn outlive(&self, time: Duration) {
        let parent = self.lock().parent.clone();
        let time = Timespec { tv_sec: time.as_secs().cast_signed(), tv_nsec: time.subsec_nanos().into() };
        if let Some(parent) = parent {
            // An interrupted wait is only shorter.
            let _ = poll(&mut [PollFd::new(&*parent, PollFlags::IN)], Some(&time));
        }
    }

    /// The reason why the transfer has ended early.
    ///
    /// # Errors
    ///
    /// That reason.
    pub(super) fn check(&self) -> Result<()> {
        self.lock().cause.clone().map_or(Ok(()), Err)
    }

    /// The reason why the transfer has ended early, or, if there is none, this error.
    pub(super) fn blame(&self, error: Error) -> Error {
        self.check().err().unwrap_or(error)
    }

    fn end(&self, cause: Error) {
        let groups = {
            let mut state = self.lock();
            state.cause.get_or_insert(cause);
            for link in &state.links {
                let _ = link.shutdown(Shutdown::Both);
            }
            state.groups.clone()
        };
        groups.iter().for_each(|group| group.signal(Signal::TERM));
        std::thread::sleep(GRACE);
        groups.iter().for_each(|group| group.signal(Signal::KILL));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;
    use crate::process::Chain;

    #[test]
    fn programs_end_when_the_server_is_gone() {
        let mut server = Command::new("sleep").arg("1000").spawn().unwrap();
        let watch = Watch::start(i32::try_from(server.id()).ok()).unwrap();
        let sleep = |time: &str| {
            let mut command = Command::new("sleep");
            command.arg(time);
            command
        };
        let chain = Chain::start([sleep("1000")], Stdio::null(), Stdio::null(), |_, _| {}).unwrap();
        watch.group(chain.group());
        watch.check().unwrap();
        // A zombie, whose number is still taken.
        server.kill().unwrap();
        let begun = Instant::now();
        chain.wait().unwrap();
        assert!(begun.elapsed() < Duration::from_secs(10));
        watch.outlive(Duration::from_secs(1000));
        assert!(watch.check().unwrap_err().to_string().contains("mariadbd: is gone"));
        server.wait().unwrap();
        let gone = i32::try_from(server.id()).ok();
        assert!(Watch::start(gone).is_err());
    }

    #[test]
    fn silence_ends_a_connection() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut link = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let watch = Watch::start(None).unwrap();
        watch.link(&link).unwrap();
        watch.limit(Some(Duration::from_millis(200)), "no word for 0.2 s");
        assert_eq!(std::io::Read::read(&mut link, &mut [0]).unwrap(), 0);
        assert_eq!(watch.check().unwrap_err().to_string(), "transfer: no word for 0.2 s");
        watch.limit(None, "");
        watch.relax();
    }
}
