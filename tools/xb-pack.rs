//! Turn files into an xbstream.
fn main() {}
