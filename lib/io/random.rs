//! Random bytes from the system, through `ring`.

use ring::rand::{SecureRandom, SystemRandom};

use crate::error::{Error, Result};

/// Fills `bytes`.
///
/// # Errors
///
/// [`crate::Kind::Failed`], if the system cannot provide them.
pub fn fill(bytes: &mut [u8]) -> Result<()> {
    SystemRandom::new().fill(bytes).map_err(|_| Error::failed("random numbers", "the system gives none"))
}
