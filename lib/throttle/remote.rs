//! Changing the rate of a running xb-throttle: `xb-throttle -R PID -L RATE`.
//!
//! Each xb-throttle listens at a socket in the abstract namespace, named by its process id: a kill leaves nothing
//! behind, and no file can be in the way. Both sides ask the kernel for the other's identity. One line goes each way:
//! the rate in bytes per second, and `ok`.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use rustix::net::sockopt::socket_peercred;
use rustix::process::{Pid, geteuid, getpid};

use crate::error::{Error, Result};

/// How long each side waits for the other.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest line: twenty digits and a newline.
const LINE: u64 = 21;

/// Lets others change `rate` (bytes per second, 0 for no limit) from now on, in a thread that ends with the process.
pub fn listen(rate: Arc<AtomicU64>) -> io::Result<()> {
    let listener = UnixListener::bind_addr(&address(getpid())?)?;
    let body = move || {
        for stream in listener.incoming().flatten() {
            // An invalid request gets no answer.
            let _ = answer(&stream, &rate);
        }
    };
    std::thread::Builder::new().name("remote".to_owned()).spawn(body).map(drop)
}

fn answer(mut stream: &UnixStream, rate: &AtomicU64) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let peer = socket_peercred(stream)?.uid;
    if peer != geteuid() && !peer.is_root() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let mut line = String::new();
    BufReader::new(stream.take(LINE)).read_line(&mut line)?;
    let wanted = line.trim_end().parse().map_err(|_| io::ErrorKind::InvalidData)?;
    rate.store(wanted, Relaxed);
    stream.write_all(b"ok\n")
}

/// Sets the rate of the xb-throttle with this process id; it is in effect when this returns.
///
/// # Errors
///
/// Usage, if `process` is not a process id; Failed, if no xb-throttle runs there, or it belongs to another user.
pub fn change(process: i32, rate: u64) -> Result<()> {
    let place = format!("-R {process}");
    let pid = Pid::from_raw(process).filter(|_| process > 0);
    let pid = pid.ok_or_else(|| Error::usage(&place, "is not the id of a process"))?;
    let none = |cause: &io::Error| match cause.kind() {
        io::ErrorKind::ConnectionRefused => Error::failed(&place, "no xb-throttle runs with this process id")
            .hint("pgrep -a xb-throttle lists those that run"),
        _ => Error::io(&place, "cannot be reached", cause),
    };
    let mut stream =
        address(pid).and_then(|address| UnixStream::connect_addr(&address)).map_err(|cause| none(&cause))?;
    // Any process may take the name, but only one has the process id.
    let peer = socket_peercred(&stream).map_err(|errno| none(&errno.into()))?;
    if peer.pid != pid {
        return Err(Error::failed(&place, format_args!("process {} answers in its place", peer.pid)));
    }
    let ask = |stream: &mut UnixStream| {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(format!("{rate}\n").as_bytes())?;
        let mut reply = String::new();
        stream.take(LINE).read_to_string(&mut reply)?;
        Ok(reply)
    };
    match ask(&mut stream).as_deref() {
        Ok("ok\n") => Ok(()),
        Ok(_) => Err(Error::failed(&place, "refused: it belongs to another user")),
        Err(cause) => Err(Error::io(&place, "does not answer", cause)),
    }
}

fn address(pid: Pid) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(format!("xb-throttle.{pid}"))
}
