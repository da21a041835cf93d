//! Servers: finding their programs, understanding what they say.

pub mod messages;
pub mod program;
