//! Small objects of a store: a JSON object with a sum of its bytes, so that a bit that flips on disk is noticed.
//!
//! ```text
//! {"body":{ … },"blake3":"64 hexadecimal digits"}
//! ```
//!
//! The sum is that of the bytes of the body as they stand in the file.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Internal, Result};

const BEFORE: &[u8] = b"{\"body\":";
const BETWEEN: &[u8] = b",\"blake3\":\"";
const AFTER: &[u8] = b"\"}\n";
/// Length of a BLAKE3 sum in hexadecimal.
const SUM: usize = 64;

/// The bytes of the object.
///
/// # Errors
///
/// Failed, if the value cannot be JSON.
pub fn write(body: &impl Serialize) -> Result<Vec<u8>> {
    let body = serde_json::to_vec(body).map_err(|_| Internal("an object of the store cannot be written as JSON"))?;
    let sum = blake3::hash(&body).to_hex();
    Ok([BEFORE, &body, BETWEEN, sum.as_bytes(), AFTER].concat())
}

/// The value in the object `name`.
///
/// # Errors
///
/// Damaged, if the form, the sum or the content is wrong.
pub fn read<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T> {
    let body = body(bytes).ok_or_else(|| {
        Error::damaged(name, "damaged: its sum is wrong").hint("take it from another copy of the store")
    })?;
    serde_json::from_slice(body).map_err(|cause| Error::damaged(name, format_args!("cannot be read: {cause}")))
}

/// The bytes of the body, if the form and the sum are right.
fn body(bytes: &[u8]) -> Option<&[u8]> {
    let rest = bytes.strip_prefix(BEFORE)?.strip_suffix(AFTER)?;
    let (rest, sum) = rest.split_at_checked(rest.len().checked_sub(SUM)?)?;
    let body = rest.strip_suffix(BETWEEN)?;
    (blake3::hash(body).to_hex().as_bytes() == sum).then_some(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_is_noticed() {
        let bytes = write(&serde_json::json!({"a": 1, "b": "text"})).unwrap();
        assert_eq!(read::<serde_json::Value>("m", &bytes).unwrap()["a"], 1);
        serde_json::from_slice::<serde_json::Value>(&bytes).unwrap();
        for at in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[at / 8] ^= 1 << (at % 8);
            assert!(read::<serde_json::Value>("m", &damaged).is_err(), "bit {at}");
        }
        for len in 0..bytes.len() {
            assert!(read::<serde_json::Value>("m", &bytes[..len]).is_err(), "{len} bytes");
        }
    }
}
