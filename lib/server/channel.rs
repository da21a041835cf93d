//! TLS for a client library without TLS: the library connects to a socket that only this process can reach, and a
//! thread encrypts the data.
//!
//! TLS begins in the middle of the login. The server greets; the client requests TLS with the first bytes of its
//! answer; then the whole answer follows, encrypted. So the server receives one packet more than the library has sent,
//! and the sequence numbers of the login's packets must be changed ([`Handshake`]). Source: MySQL Internals,
//! "Protocol::SSLRequest".

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use tempfile::TempDir;
use zeroize::Zeroizing;

use super::address::Address;
use super::refusal::Refusal;
use super::tls::{self, When};

/// The longest accepted packet of a login in bytes.
const LOGIN_MAX: usize = 64 << 10;
/// Length of the request for TLS, the first part of a client's answer: capabilities, the largest packet, character set,
/// filler.
const REQUEST: usize = 32;
/// `CLIENT_SSL` in the second byte of the capabilities.
const SSL: u8 = 0x08;
/// Length of a packet's header: three bytes of length, one of sequence number.
const HEADER: usize = 4;
/// How many bytes are read at a time.
const PIECE: usize = 64 << 10;

/// A listening socket for the library, and the thread behind it.
pub(super) struct Channel {
    dir: TempDir,
    /// The connection to the server.
    pub(super) server: Option<OwnedFd>,
    failure: Arc<Mutex<Option<String>>>,
}

/// Either side of the connection.
enum Stream {
    Tcp(TcpStream),
    Socket(UnixStream),
}

impl Channel {
    /// Connects, if the connection must be encrypted; `None` if not.
    ///
    /// # Errors
    ///
    /// The error that the server sends instead of a greeting; or that the server does not offer TLS although it is
    /// required.
    pub(super) fn open(
        address: &Address,
        when: When,
        config: Arc<ClientConfig>,
        patience: Duration,
    ) -> Result<Option<Channel>, Refusal> {
        let lost = |cause: io::Error| Refusal::broken(&cause);
        let mut server = Stream::connect(address, patience).map_err(lost)?;
        server.set_timeout(Some(patience)).map_err(lost)?;
        let mut greeting = packet(&mut server).map_err(lost)?;
        let body = greeting.get(HEADER..).unwrap_or_default();
        if let Some(refusal) = refusal(body) {
            return Err(refusal);
        }
        match capabilities(body).and_then(|at| greeting.get_mut(HEADER..)?.get_mut(at)) {
            // The library must not request it.
            Some(flags) if *flags & SSL != 0 => *flags &= !SSL,
            _ if when == When::Always => {
                let message =
                    "the server does not offer TLS, which --ssl, --ssl-mode or a certificate demands".to_owned();
                return Err(Refusal { code: None, message });
            }
            _ => return Ok(None),
        }
        let name = match address {
            Address::Tcp(host, _) => host.as_str(),
            Address::Socket(_) => "localhost",
        };
        let no_name = |_| Refusal { code: None, message: format!("{name:?} cannot be in a certificate") };
        let name = ServerName::try_from(name.to_owned()).map_err(no_name)?;
        let connection = ClientConnection::new(config, name).map_err(|cause| lost(io::Error::other(cause)))?;
        // No other user can access it.
        let dir = tempfile::Builder::new().prefix("xb-").tempdir().map_err(lost)?;
        let listener = UnixListener::bind(dir.path().join("s")).map_err(lost)?;
        let channel = Channel { dir, server: server.as_fd().try_clone_to_owned().ok(), failure: Arc::default() };
        let failure = channel.failure.clone();
        let relay = move || {
            let Ok(client) = accept(&listener, patience) else { return };
            if let Err(cause) = serve(&client, server, connection, &greeting) {
                // The library notices the end when `client` is dropped, and then asks for the reason.
                failure.lock().unwrap_or_else(PoisonError::into_inner).replace(reason(&cause));
            }
        };
        std::thread::Builder::new().name("tls".to_owned()).spawn(relay).map_err(lost)?;
        Ok(Some(channel))
    }

    /// The path to which the library connects.
    pub(super) fn path(&self) -> PathBuf {
        self.dir.path().join("s")
    }

    /// The reason why the connection has ended.
    pub(super) fn failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Waits for the library.
fn accept(listener: &UnixListener, patience: Duration) -> io::Result<Stream> {
    let time = Timespec::try_from(patience).map_err(io::Error::other)?;
    let mut ends = [PollFd::new(listener, PollFlags::IN)];
    if poll(&mut ends, Some(&time))? == 0 {
        return Err(ErrorKind::TimedOut.into());
    }
    let client = Stream::Socket(listener.accept()?.0);
    client.set_timeout(Some(patience))?;
    Ok(client)
}

/// Forwards one connection from its greeting to its end.
fn serve(mut client: &Stream, mut server: Stream, mut tls: ClientConnection, greeting: &[u8]) -> io::Result<()> {
    client.write_all(greeting)?;
    let mut answer = Zeroizing::new(packet(&mut client)?);
    let too_short = || io::Error::new(ErrorKind::InvalidData, "an answer that is too short");
    let head = answer.get_mut(HEADER..HEADER + REQUEST).ok_or_else(too_short)?;
    if let Some(flags) = head.get_mut(1) {
        *flags |= SSL;
    }
    let mut request = vec![REQUEST.to_le_bytes()[0], 0, 0, 1];
    request.extend_from_slice(head);
    server.write_all(&request)?;
    tls.complete_io(&mut server)?;
    let mut login = Handshake::default();
    login.to_server.pass(&mut answer, 1);
    tls.writer().write_all(&answer)?;
    drop(answer);
    carry(client, &server, tls, login)
}

/// Forwards data in both directions until one side ends.
fn carry(client: &Stream, server: &Stream, mut tls: ClientConnection, mut login: Handshake) -> io::Result<()> {
    client.set_nonblocking()?;
    server.set_nonblocking()?;
    let (mut piece, mut back) = (Zeroizing::new(vec![0; PIECE]), Vec::new());
    let mut ended = false;
    loop {
        if back.is_empty() && ended {
            return Ok(());
        }
        // Reads from one side only after all data for the other side has been written.
        let mut from_client = PollFlags::empty();
        from_client.set(PollFlags::OUT, !back.is_empty());
        from_client.set(PollFlags::IN, !tls.wants_write());
        let mut from_server = PollFlags::empty();
        from_server.set(PollFlags::OUT, tls.wants_write());
        from_server.set(PollFlags::IN, back.is_empty() && !ended);
        let mut ends = [PollFd::new(client, from_client), PollFd::new(server, from_server)];
        poll(&mut ends, None)?;
        let [client_is, server_is] = ends.map(|end| end.revents());
        if tls.wants_write() {
            again(tls.write_tls(&mut &*server))?;
        }
        if server_is.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) && back.is_empty() {
            ended |= again(tls.read_tls(&mut &*server))? == Some(0);
            let state = tls.process_new_packets().map_err(io::Error::other)?;
            back.resize(state.plaintext_bytes_to_read(), 0);
            tls.reader().read_exact(&mut back)?;
            login.received(&mut back);
        }
        if !back.is_empty()
            && let Some(done) = again((&*client).write(&back))?
        {
            back.drain(..done.min(back.len()));
        }
        if client_is.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR)
            && !tls.wants_write()
            && let Some(read) = again((&*client).read(&mut piece))?
        {
            if read == 0 {
                tls.send_close_notify();
                again(tls.write_tls(&mut &*server))?;
                return Ok(());
            }
            let (read, _) = piece.split_at_mut(read);
            login.sent(read);
            tls.writer().write_all(read)?;
            // The data may contain the password.
            read.fill(0);
        }
    }
}

/// `None` if the other side is not ready yet.
fn again<T>(done: io::Result<T>) -> io::Result<Option<T>> {
    match done {
        Ok(done) => Ok(Some(done)),
        Err(cause) if matches!(cause.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(None),
        Err(cause) => Err(cause),
    }
}

/// The reason of an error; for a certificate, in terms of the options.
fn reason(cause: &io::Error) -> String {
    let tls = cause.get_ref().and_then(|cause| cause.downcast_ref());
    tls.map_or_else(|| crate::error::reason(cause), tls::reason)
}

/// Reads a packet of a login, including its header.
fn packet(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let closed = |cause: io::Error| match cause.kind() {
        ErrorKind::UnexpectedEof => io::Error::new(cause.kind(), "the connection was closed before the login"),
        _ => cause,
    };
    let mut header = [0; HEADER];
    from.read_exact(&mut header).map_err(closed)?;
    let [a, b, c, _] = header;
    let len = u32::from_le_bytes([a, b, c, 0]) as usize;
    if len > LOGIN_MAX {
        return Err(io::Error::new(ErrorKind::InvalidData, "this is not a MySQL or MariaDB server"));
    }
    let mut packet = header.to_vec();
    packet.resize(HEADER + len, 0);
    from.read_exact(packet.split_at_mut(HEADER).1).map_err(closed)?;
    Ok(packet)
}

/// The error that a server sends instead of a greeting.
fn refusal(body: &[u8]) -> Option<Refusal> {
    let [0xff, low, high, message @ ..] = body else { return None };
    let message = message.strip_prefix(b"#").and_then(|rest| rest.get(5..)).unwrap_or(message);
    Some(Refusal {
        code: Some(u16::from_le_bytes([*low, *high])),
        message: String::from_utf8_lossy(message).into_owned(),
    })
}

/// The offset in a greeting of the capability byte with `CLIENT_SSL`: after the protocol version, the server version,
/// the connection id, 8 bytes of the challenge and a zero.
fn capabilities(greeting: &[u8]) -> Option<usize> {
    let (10, rest) = greeting.split_first()? else { return None };
    let version = rest.iter().position(|byte| *byte == 0)?;
    let at = 1 + version + 1 + 4 + 8 + 1 + 1;
    (at < greeting.len()).then_some(at)
}

/// Changes the sequence numbers of packets until the login is complete: the server counts the request for TLS, the
/// library does not.
#[derive(Debug, Default)]
struct Handshake {
    to_server: Packets,
    to_client: Packets,
    over: bool,
}

/// The position in the packets of one direction.
#[derive(Debug, Default)]
struct Packets {
    /// The bytes of a header that have arrived.
    header: Vec<u8>,
    /// How many bytes of the packet are still to come.
    left: usize,
}

impl Handshake {
    fn sent(&mut self, bytes: &mut [u8]) {
        if !self.over {
            self.to_server.pass(bytes, 1);
        }
    }

    fn received(&mut self, bytes: &mut [u8]) {
        if !self.over {
            // The login ends with OK or with an error.
            self.over = self.to_client.pass(bytes, u8::MAX).iter().any(|first| matches!(first, 0x00 | 0xff));
        }
    }
}

impl Packets {
    /// Adds `more` to the sequence number of each packet, and returns the first byte of each.
    fn pass(&mut self, mut bytes: &mut [u8], more: u8) -> Vec<u8> {
        let mut firsts = Vec::new();
        while !bytes.is_empty() {
            if self.left > 0 {
                let (body, rest) = bytes.split_at_mut(self.left.min(bytes.len()));
                if let (HEADER, [first, ..]) = (self.header.len(), &*body) {
                    firsts.push(*first);
                    self.header.clear();
                }
                self.left -= body.len();
                bytes = rest;
                continue;
            }
            let Some((byte, rest)) = bytes.split_first_mut() else { break };
            if self.header.len() >= HEADER {
                // The packet before was empty.
                self.header.clear();
            }
            self.header.push(*byte);
            if let [a, b, c, _] = *self.header {
                *byte = byte.wrapping_add(more);
                self.left = u32::from_le_bytes([a, b, c, 0]) as usize;
            }
            bytes = rest;
        }
        firsts
    }
}

impl Stream {
    fn connect(address: &Address, patience: Duration) -> io::Result<Stream> {
        match address {
            Address::Socket(path) => UnixStream::connect(path).map(Stream::Socket),
            Address::Tcp(host, port) => {
                let mut last = io::Error::new(ErrorKind::NotFound, "the host has no address");
                for place in (host.as_str(), *port).to_socket_addrs()? {
                    match TcpStream::connect_timeout(&place, patience) {
                        Ok(stream) => {
                            stream.set_nodelay(true)?;
                            return Ok(Stream::Tcp(stream));
                        }
                        Err(cause) => last = cause,
                    }
                }
                Err(last)
            }
        }
    }

    fn set_timeout(&self, patience: Option<Duration>) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.set_read_timeout(patience),
            Stream::Socket(stream) => stream.set_read_timeout(patience),
        }
    }

    fn set_nonblocking(&self) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.set_nonblocking(true),
            Stream::Socket(stream) => stream.set_nonblocking(true),
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Stream::Tcp(stream) => stream.as_fd(),
            Stream::Socket(stream) => stream.as_fd(),
        }
    }
}

impl Read for &Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => (&*stream).read(buffer),
            Stream::Socket(stream) => (&*stream).read(buffer),
        }
    }
}

impl Write for &Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => (&*stream).write(bytes),
            Stream::Socket(stream) => (&*stream).write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(number: u8, body: &[u8]) -> Vec<u8> {
        let mut packet = u32::try_from(body.len()).unwrap().to_le_bytes().to_vec();
        packet[3] = number;
        packet.extend_from_slice(body);
        packet
    }

    #[test]
    fn numbers_of_packets_change_until_the_login_is_over() {
        let sent: Vec<u8> =
            [packet(2, b"\xfeplugin"), packet(4, b""), packet(6, b"\x01\x03"), packet(7, b"\x00ok")].concat();
        let want: Vec<u8> =
            [packet(1, b"\xfeplugin"), packet(3, b""), packet(5, b"\x01\x03"), packet(6, b"\x00ok")].concat();
        for piece in 1..sent.len() {
            let mut login = Handshake::default();
            let mut got = sent.clone();
            got.chunks_mut(piece).for_each(|chunk| login.received(chunk));
            assert_eq!(got, want, "in pieces of {piece}");
            assert!(login.over);
            let mut later = packet(0, b"\x03SELECT 1");
            login.sent(&mut later);
            assert_eq!(later, packet(0, b"\x03SELECT 1"));
        }
        let mut login = Handshake::default();
        let mut answer = packet(3, b"password\0");
        login.sent(&mut answer);
        assert_eq!(answer, packet(4, b"password\0"));
    }

    #[test]
    fn a_greeting_says_whether_tls_is_offered() {
        let mut greeting = b"\x0a10.11.19-MariaDB\0".to_vec();
        greeting.extend([0; 4 + 8 + 1]);
        greeting.extend([0xff, 0xf7, 8]);
        let at = capabilities(&greeting).unwrap();
        assert_eq!(greeting[at], 0xf7);
        for cut in 0..=at {
            assert_eq!(capabilities(&greeting[..cut]), None);
        }
        assert_eq!(capabilities(b"\xffanything"), None);
        let refused = refusal(b"\xff\x10\x04#08004Too many connections").unwrap();
        assert_eq!((refused.code, refused.message.as_str()), (Some(1040), "Too many connections"));
    }
}
