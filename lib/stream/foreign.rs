//! Recognizes input that is not an xbstream, and names the command that handles it.

/// What an input is, by its first bytes, and how to turn it into a stream.
pub fn recognise(start: &[u8]) -> Option<(&'static str, &'static str)> {
    const KNOWN: &[(&[u8], &str, &str)] = &[
        (b"\x1f\x8b", "gzip data", "put gzip -d before it"),
        (b"\x28\xb5\x2f\xfd", "zstd data", "put zstd -d (or xb-zip -d --raw) before it"),
        (b"\x04\x22\x4d\x18", "lz4 data", "put lz4 -d (or xb-zip -d --raw) before it"),
        (b"\xfd7zXZ\0", "xz data", "put xz -d before it"),
        (b"BZh", "bzip2 data", "put bzip2 -d before it"),
        (b"qpress10", "a qpress archive", "unpack it with xb-zip -d --raw"),
        (b"XBCRYP", "xbcrypt data", "decrypt it with xb-crypt -d --raw"),
        (b"XBSEAL", "data sealed by xb-crypt", "decrypt it with xb-crypt -d --raw"),
        (b"Salted__", "data encrypted by openssl enc", "put openssl enc -d before it"),
        (b"-----BEGIN", "PEM text", "this is a key or certificate, not a backup"),
    ];
    if let Some((_, what, how)) = KNOWN.iter().find(|(magic, ..)| start.starts_with(magic)) {
        return Some((what, how));
    }
    if start.get(257..262) == Some(b"ustar") {
        return Some(("a tar archive", "unpack it with tar -x"));
    }
    let text = start.get(..start.len().min(64)).unwrap_or_default();
    if text.len() > 3 && text.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) {
        return Some(("text", "a program before this one printed into the pipe; its message is the input"));
    }
    None
}
