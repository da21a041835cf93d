//! Encrypt.
fn main() {}
