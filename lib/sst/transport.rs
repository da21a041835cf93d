//! The connection between the two nodes: our own, in clear text or TLS, or socat's.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::args::Address;
use super::children::{Journal, Work};
use super::link::Link;
use super::settings::{Settings, Transport};
use super::socat;
use super::watch::Watch;
use crate::error::{Error, OrInternal as _, Result};

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long somebody who has connected may take until it is known who it is.
const GREETING: Duration = Duration::from_secs(10);
/// How often a listener looks whether it is to end.
const BEAT: Duration = Duration::from_millis(50);
/// How long socat may take until it listens.
const SOCAT: Duration = Duration::from_secs(10);

/// What the joiner puts behind its address, so that the donor knows how the data are expected.
pub(super) fn module(settings: &Settings) -> &'static str {
    match (&settings.transport, &settings.tls) {
        (Transport::Own, None) => "xb-plain",
        (Transport::Own, Some(_)) => "xb-tls",
        (Transport::Socat(_), None) => "xb-socat",
        (Transport::Socat(_), Some(_)) => "xb-socat-tls",
    }
}

/// Fails if the joiner expects the data in another way than this donor sends them.
pub(super) fn agree(settings: &Settings, joiner: &str) -> Result<()> {
    let own = module(settings);
    if own == joiner {
        return Ok(());
    }
    let what = match (own.ends_with("tls"), joiner.ends_with("tls")) {
        (true, false) => "wants clear text, and this node's options want TLS",
        (false, true) => "wants TLS, and this node has no certificate for transfers",
        _ => "wants another transport than this node's options",
    };
    Err(Error::usage("joiner", format_args!("{what} ({joiner}, not {own})"))
        .hint("transferfmt, sockopt, encrypt and ssl-… must agree on all nodes"))
}

/// One end of the connection.
pub(super) enum End {
    /// Both directions.
    Link(Box<Link>),
    /// To socat.
    To(io::PipeWriter, Work),
    /// From socat.
    From(std::process::ChildStdout, Work),
}

impl End {
    /// True if the other side can answer.
    pub(super) fn answers(&self) -> bool {
        matches!(self, End::Link(_))
    }

    /// From now on the other side may be silent as long as the watch allows.
    pub(super) fn known(&mut self) -> Result<()> {
        match self {
            End::Link(link) => patience(link.stream(), None),
            End::To(..) | End::From(..) => Ok(()),
        }
    }

    /// Nothing more is sent; waits until socat has sent all.
    pub(super) fn close(self) -> Result<()> {
        match self {
            End::Link(mut link) => {
                link.close();
                Ok(())
            }
            End::To(pipe, work) => {
                drop(pipe);
                work.judge()
            }
            End::From(pipe, work) => {
                drop(pipe);
                work.judge()
            }
        }
    }
}

impl Read for End {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            End::Link(link) => link.read(buffer),
            End::From(pipe, _) => pipe.read(buffer),
            End::To(..) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

impl Write for End {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            End::Link(link) => link.write(bytes),
            End::To(pipe, _) => pipe.write(bytes),
            End::From(..) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            End::Link(link) => link.flush(),
            _ => Ok(()),
        }
    }
}

/// Connects to the joiner.
pub(super) fn connect(address: &Address, settings: &Settings, journal: &Arc<Journal>, watch: &Watch) -> Result<End> {
    let place = address.place();
    if let Transport::Socat(options) = &settings.transport {
        let program = socat::sender(address, settings.tls.as_ref(), options)?;
        let (reader, writer) = io::pipe().map_err(|cause| Error::io("pipe", "cannot make one", &cause))?;
        let work = start(program, reader.into(), Stdio::null(), journal, watch)?;
        return Ok(End::To(writer, work));
    }
    let fail = |cause: &io::Error| Error::io(&place, "cannot connect to the joiner", cause);
    let found: Vec<_> =
        (address.host.as_str(), address.port()).to_socket_addrs().map_err(|cause| fail(&cause))?.collect();
    let mut outcome = Err(fail(&io::ErrorKind::AddrNotAvailable.into()));
    for one in found {
        outcome = TcpStream::connect_timeout(&one, CONNECT).map_err(|cause| fail(&cause));
        if outcome.is_ok() {
            break;
        }
        watch.check()?;
    }
    let stream = outcome?;
    prepare(&stream, watch, settings.silence)?;
    Ok(End::Link(Box::new(Link::connected(stream, &address.host, settings.tls.as_ref())?)))
}

/// Where the joiner waits for its donor.
pub(super) enum Port {
    Own(TcpListener),
    Socat(std::process::ChildStdout, Work),
}

impl Port {
    /// Listens; from now on the donor can connect.
    pub(super) fn open(address: &Address, settings: &Settings, journal: &Arc<Journal>, watch: &Watch) -> Result<Port> {
        let place = address.place();
        let busy = |cause: &io::Error| {
            Error::io(&place, "cannot listen", cause).hint("another transfer, or another program, may use this port")
        };
        if let Transport::Socat(options) = &settings.transport {
            let program = socat::receiver(address, settings.tls.as_ref(), options)?;
            if socat::listens(address.port()) {
                return Err(busy(&rustix::io::Errno::ADDRINUSE.into()));
            }
            let mut work = start(program, Stdio::null(), Stdio::piped(), journal, watch)?;
            let begun = Instant::now();
            while !socat::listens(address.port()) {
                if work.ended(1)? || begun.elapsed() > SOCAT {
                    return Err(work.judge().err().unwrap_or_else(|| Error::failed("socat", "does not listen")));
                }
                watch.check()?;
                std::thread::sleep(BEAT);
            }
            let output = work.output().or_internal("socat has no output")?;
            return Ok(Port::Socat(output, work));
        }
        let name = (address.host.as_str(), address.port());
        let listener = match TcpListener::bind(name) {
            // The address is that of a host in between.
            Err(cause) if cause.kind() == io::ErrorKind::AddrNotAvailable => {
                TcpListener::bind(("::", address.port())).or_else(|_| TcpListener::bind(("0.0.0.0", address.port())))
            }
            bound => bound,
        };
        let listener = listener.map_err(|cause| busy(&cause))?;
        listener.set_nonblocking(true).map_err(|cause| busy(&cause))?;
        Ok(Port::Own(listener))
    }

    /// Waits for somebody who connects; with the port, if others can, too. A connection that cannot be made is not the
    /// end: it may be a stranger's.
    #[allow(clippy::type_complexity, reason = "a connection that failed leaves the port open")]
    pub(super) fn accept(self, settings: &Settings, watch: &Watch) -> Result<(Result<End>, Option<Port>)> {
        let listener = match self {
            Port::Socat(output, work) => return Ok((Ok(End::From(output, work)), None)),
            Port::Own(listener) => listener,
        };
        let fail = |cause: &io::Error| Error::io("connection", "cannot be accepted", cause);
        loop {
            watch.check()?;
            match listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false).map_err(|cause| fail(&cause))?;
                    let link = prepare(&stream, watch, settings.silence)
                        .and_then(|()| patience(&stream, Some(GREETING)))
                        .and_then(|()| Link::accepted(stream, settings.tls.as_ref()));
                    return Ok((link.map(|link| End::Link(Box::new(link))), Some(Port::Own(listener))));
                }
                Err(cause) if matches!(cause.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionAborted) => {
                    std::thread::sleep(BEAT);
                }
                Err(cause) => return Err(fail(&cause)),
            }
        }
    }
}

fn patience(stream: &TcpStream, time: Option<Duration>) -> Result<()> {
    let set = stream.set_read_timeout(time);
    set.map_err(|cause| Error::io("connection", "cannot be set up", &cause))
}

fn start(program: Command, input: Stdio, output: Stdio, journal: &Arc<Journal>, watch: &Watch) -> Result<Work> {
    Work::start(vec![program], input, output, journal, watch, |_, _| {})
}

/// A host that is gone, without a word, is noticed.
fn prepare(stream: &TcpStream, watch: &Watch, silence: Duration) -> Result<()> {
    use rustix::net::sockopt;
    let fail = |cause: io::Error| Error::io("connection", "cannot be set up", &cause);
    let milliseconds = u32::try_from(silence.as_millis()).unwrap_or(u32::MAX);
    stream.set_nodelay(true).map_err(fail)?;
    sockopt::set_socket_keepalive(stream, true).map_err(|cause| fail(cause.into()))?;
    sockopt::set_tcp_keepidle(stream, Duration::from_secs(10)).map_err(|cause| fail(cause.into()))?;
    sockopt::set_tcp_keepintvl(stream, Duration::from_secs(10)).map_err(|cause| fail(cause.into()))?;
    sockopt::set_tcp_user_timeout(stream, milliseconds).map_err(|cause| fail(cause.into()))?;
    watch.link(stream)
}
