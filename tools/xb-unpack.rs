//! Turn an xbstream into files.
fn main() {}
