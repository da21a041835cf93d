//! Keys as bytes and as text; `keyfile` reads and creates them.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::engine::{DecodePaddingMode, general_purpose::STANDARD};
use zeroize::Zeroizing;

/// A secret of fixed size. It stays at one address on the heap, so moving it leaves no copy, and is overwritten on
/// drop.
type Secret<const N: usize> = Box<Zeroizing<[u8; N]>>;

/// A key, by its length. Never printed.
pub enum Key {
    /// 16 bytes.
    Bits128(Secret<16>),
    /// 24 bytes.
    Bits192(Secret<24>),
    /// 32 bytes.
    Bits256(Secret<32>),
}

/// A key of 32 bytes, which seal requires.
pub struct SealKey(Secret<32>);

impl SealKey {
    pub(super) fn bytes(&self) -> &[u8] {
        &**self.0
    }
}

/// Why bytes are not a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The number of bytes, without a newline at the end.
    pub seen: usize,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no key in {} bytes: a key is 16, 24 or 32 raw bytes, or those in hex or base64", self.seen)
    }
}

/// The longest text of a key: 32 bytes in hexadecimal, and a newline.
pub const TEXT_MAX: usize = 66;

/// Parses a key: 16, 24 or 32 bytes are the key itself, as in Percona's programs (mostly the 32 characters that
/// `openssl rand -base64 24` prints). A longer text is hexadecimal or base64 of so many bytes. A newline at the end is
/// ignored.
pub fn parse(bytes: &[u8]) -> Result<Key, Fault> {
    if let Some(key) = raw(bytes) {
        return Ok(key);
    }
    let text = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    let mut decoded = Zeroizing::new([0; TEXT_MAX]);
    let key = raw(text).or_else(|| raw(hex(text, &mut *decoded)?)).or_else(|| raw(base64(text, &mut *decoded)?));
    key.ok_or(Fault { seen: text.len() })
}

/// The text that `--generate-key` writes: base64 and a newline.
pub fn text(bytes: &[u8; 32]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(TEXT_MAX));
    STANDARD.encode_string(bytes, &mut text);
    text.push('\n');
    text
}

impl Key {
    /// Length of the key in bytes.
    pub fn length(&self) -> usize {
        match self {
            Key::Bits128(_) => 16,
            Key::Bits192(_) => 24,
            Key::Bits256(_) => 32,
        }
    }

    /// The key for seal, if it has 32 bytes.
    pub fn for_seal(&self) -> Option<SealKey> {
        match self {
            Key::Bits256(key) => Some(SealKey(key.clone())),
            _ => None,
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({} bytes)", self.length())
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey")
    }
}

fn raw(bytes: &[u8]) -> Option<Key> {
    fn secret<const N: usize>(bytes: &[u8]) -> Option<Secret<N>> {
        let mut secret = Box::new(Zeroizing::new([0; N]));
        (bytes.len() == N).then(|| {
            secret.copy_from_slice(bytes);
            secret
        })
    }
    secret(bytes)
        .map(Key::Bits128)
        .or_else(|| secret(bytes).map(Key::Bits192))
        .or_else(|| secret(bytes).map(Key::Bits256))
}

pub(super) fn hex<'a>(text: &[u8], decoded: &'a mut [u8]) -> Option<&'a [u8]> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, []) = text.as_chunks::<2>() else { return None };
    let decoded = decoded.get_mut(..pairs.len())?;
    for ([high, low], byte) in pairs.iter().zip(decoded.iter_mut()) {
        *byte = digit(high)? << 4 | digit(low)?;
    }
    Some(decoded)
}

fn base64<'a>(text: &[u8], decoded: &'a mut [u8]) -> Option<&'a [u8]> {
    const LENIENT: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let engine = GeneralPurpose::new(&base64::alphabet::STANDARD, LENIENT);
    let length = engine.decode_slice(text, decoded).ok()?;
    decoded.get(..length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(key: &Key) -> &[u8] {
        match key {
            Key::Bits128(key) => &***key,
            Key::Bits192(key) => &***key,
            Key::Bits256(key) => &***key,
        }
    }

    #[test]
    fn a_key_is_raw_hex_or_base64() {
        let secret: Vec<u8> = (0x81..0xa1).collect();
        for length in [16, 24, 32] {
            let secret = &secret[..length];
            let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
            let mut forms = vec![secret.to_vec()];
            // The hexadecimal form of 16 bytes has the length of a raw key, and is parsed as one.
            if length > 16 {
                forms.extend([hex.clone().into_bytes(), hex.to_uppercase().into_bytes()]);
            }
            if length == 32 {
                forms.push(STANDARD.encode(secret).into_bytes());
                forms.push(STANDARD.encode(secret).trim_end_matches('=').as_bytes().to_vec());
            }
            for form in forms {
                for end in ["", "\n", "\r\n"] {
                    let text = [&form, end.as_bytes()].concat();
                    assert_eq!(bytes(&parse(&text).unwrap()), secret, "{text:?}");
                }
            }
        }
        let text = text(&[0xfb; 32]);
        assert_eq!(bytes(&parse(text.as_bytes()).unwrap()), [0xfb; 32]);
    }

    #[test]
    fn bytes_of_a_keys_length_are_the_key_itself() {
        for text in ["0123456789abcdef", "MDEyMzQ1Njc4OWFiY2RlZg==", "0123456789abcdef0123456789abcdef"] {
            assert_eq!(bytes(&parse(text.as_bytes()).unwrap()), text.as_bytes());
        }
        // Ends with a newline, which belongs to the key: 32 random bytes may.
        assert_eq!(bytes(&parse(&[b'\n'; 32]).unwrap()), [b'\n'; 32]);
    }

    #[test]
    fn what_is_no_key_is_told_with_its_length() {
        for (text, seen) in [("", 0), ("\n", 0), ("short", 5), (&"x".repeat(64), 64), (&"ab".repeat(33), 66)] {
            assert_eq!(parse(text.as_bytes()).unwrap_err(), Fault { seen });
        }
        assert_eq!(parse(&[0; 34]).unwrap_err(), Fault { seen: 34 });
    }

    #[test]
    fn a_key_is_never_shown() {
        let key = parse(b"0123456789abcdef0123456789abcdef").unwrap();
        let shown = format!("{key:?} {:?}", key.for_seal().unwrap());
        assert_eq!(shown, "Key(32 bytes) SealKey");
    }
}
