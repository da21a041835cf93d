//! What travels over the one connection: a line that says who sends what, then frames. The end is a frame, so that a
//! connection that breaks never looks like one that ended.
//!
//! A frame is a letter, three bytes of length (big-endian), and as many bytes.

use std::io::{self, Read, Write};

use zeroize::Zeroizing;

use super::protocol::Position;
use crate::error::{Error, Result};
use crate::io::random;

/// The most that one frame carries, in bytes.
pub(super) const PIECE: usize = 256 << 10;
/// The longest first line in bytes.
const HELLO_MAX: usize = 256;
const NAME: &str = "xb-sst 1";

/// What a donor says first.
#[derive(Debug)]
pub(super) struct Hello {
    /// True if no data follow.
    pub(super) bypass: bool,
    pub(super) position: Position,
    /// What the joiner had put into its address.
    pub(super) secret: Zeroizing<String>,
}

/// A piece of the conversation.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// Bytes of the stream; they are in the reader's buffer.
    Data,
    /// The sender is alive, and has nothing to send now.
    Alive,
    /// All has been sent: so many bytes.
    End(u64),
    /// The receiver has all, verified.
    Taken,
    /// The sender has failed, and why.
    Failed(String),
}

impl Hello {
    pub(super) fn line(&self) -> Zeroizing<String> {
        let kind = if self.bypass { "ist" } else { "full" };
        Zeroizing::new(format!("{NAME} {kind} {} {}\n", self.position, self.secret.as_str()))
    }

    /// Parses the line without its end.
    pub(super) fn parse(line: &str) -> Option<Hello> {
        let rest = line.strip_prefix(NAME)?.strip_prefix(' ')?;
        let (kind, rest) = rest.split_once(' ')?;
        let (position, secret) = rest.rsplit_once(' ')?;
        let bypass = match kind {
            "ist" => true,
            "full" => false,
            _ => return None,
        };
        Some(Hello { bypass, position: Position::parse(position).ok()?, secret: Zeroizing::new(secret.to_owned()) })
    }

    /// Reads it; `None` if somebody else speaks.
    pub(super) fn read(from: &mut impl Read) -> io::Result<Option<Hello>> {
        let mut line = Zeroizing::new(Vec::with_capacity(HELLO_MAX));
        let mut byte = [0];
        while line.len() < HELLO_MAX {
            from.read_exact(&mut byte)?;
            match byte {
                [b'\n'] => return Ok(std::str::from_utf8(&line).ok().and_then(Hello::parse)),
                _ => line.extend(byte),
            }
        }
        Ok(None)
    }
}

/// Sends a frame with these bytes.
fn send(to: &mut impl Write, kind: u8, bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes();
    let [0, a, b, c] = length else { return Err(io::Error::other("a frame is too long")) };
    to.write_all(&[kind, a, b, c])?;
    to.write_all(bytes)?;
    to.flush()
}

/// Sends bytes of the stream, at most [`PIECE`].
pub(super) fn data(to: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    send(to, b'D', bytes)
}

/// Sends anything else.
pub(super) fn tell(to: &mut impl Write, frame: &Frame) -> io::Result<()> {
    match frame {
        Frame::Data => Ok(()),
        Frame::Alive => send(to, b'K', &[]),
        Frame::End(bytes) => send(to, b'E', &bytes.to_be_bytes()),
        Frame::Taken => send(to, b'A', &[]),
        Frame::Failed(why) => send(to, b'F', why.as_bytes().get(..PIECE).unwrap_or(why.as_bytes())),
    }
}

/// Receives a frame; `buffer` then has the bytes of [`Frame::Data`].
pub(super) fn receive(from: &mut impl Read, buffer: &mut Vec<u8>) -> io::Result<Frame> {
    let mut head = [0; 4];
    from.read_exact(&mut head)?;
    let [kind, a, b, c] = head;
    let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap_or(usize::MAX);
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    if length > PIECE {
        return Err(invalid("a frame is too long"));
    }
    buffer.resize(length, 0);
    from.read_exact(buffer)?;
    match (kind, buffer.as_slice()) {
        (b'D', _) => Ok(Frame::Data),
        (b'K', []) => Ok(Frame::Alive),
        (b'E', &[a, b, c, d, e, f, g, h]) => Ok(Frame::End(u64::from_be_bytes([a, b, c, d, e, f, g, h]))),
        (b'A', []) => Ok(Frame::Taken),
        (b'F', why) => Ok(Frame::Failed(String::from_utf8_lossy(why).into_owned())),
        _ => Err(invalid("something else than a frame")),
    }
}

/// What the other side has said of its failure.
pub(super) fn failure(side: &str, why: &str) -> Error {
    let why: String = why.chars().filter(|c| !c.is_control()).take(300).collect();
    Error::failed(side, why)
}

/// A new secret: 16 random bytes in hexadecimal digits.
pub(super) fn secret() -> Result<Zeroizing<String>> {
    let mut bytes = Zeroizing::new([0_u8; 16]);
    random::fill(&mut *bytes)?;
    Ok(Zeroizing::new(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversation_is_read_as_it_was_written() {
        let position = Position::parse("9e6d297b-ea46-11f1-aaef-13470fd074e5:7 3").unwrap();
        let secret = secret().unwrap();
        let hello = Hello { bypass: false, position: position.clone(), secret: secret.clone() };
        let mut bytes = hello.line().as_bytes().to_vec();
        data(&mut bytes, b"abc").unwrap();
        for frame in [Frame::Alive, Frame::End(3), Frame::Taken, Frame::Failed("why".into())] {
            tell(&mut bytes, &frame).unwrap();
        }
        let mut from = bytes.as_slice();
        let read = Hello::read(&mut from).unwrap().unwrap();
        assert_eq!((read.bypass, &read.position, &read.secret), (false, &position, &secret));
        let mut buffer = Vec::new();
        assert_eq!(receive(&mut from, &mut buffer).unwrap(), Frame::Data);
        assert_eq!(buffer, b"abc");
        for frame in [Frame::Alive, Frame::End(3), Frame::Taken, Frame::Failed("why".into())] {
            assert_eq!(receive(&mut from, &mut buffer).unwrap(), frame);
        }
        assert_eq!(receive(&mut from, &mut buffer).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn strangers_and_broken_frames_are_refused() {
        for line in [
            "GET / HTTP/1.1\n",
            "xb-sst 2 full 9e6d297b-ea46-11f1-aaef-13470fd074e5:7 3 s\n",
            "xb-sst 1 half 9e6d297b-ea46-11f1-aaef-13470fd074e5:7 3 s\n",
            "xb-sst 1 full 7 3 s\n",
            "xb-sst 1\n",
            &"x".repeat(300),
        ] {
            assert!(Hello::read(&mut line.as_bytes()).unwrap().is_none(), "{line}");
        }
        let mut buffer = Vec::new();
        for bytes in [b"D\xff\xff\xff".as_slice(), b"K\0\0\x01x", b"E\0\0\x01x", b"Z\0\0\0"] {
            assert_eq!(receive(&mut &*bytes, &mut buffer).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
        assert!(data(&mut Vec::new(), &vec![0; 1 << 24]).is_err());
    }
}
