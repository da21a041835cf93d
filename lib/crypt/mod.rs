//! Encryption of streams: the container [`seal`], Percona's [`xbcrypt`], and [`key`]s.

pub mod coder;
pub mod key;
pub mod keyfile;
pub mod seal;
pub mod xbcrypt;
