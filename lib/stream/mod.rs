//! The xbstream format: chunks, members, and what our own streams add to it.
//!
//! A stream is a bare run of chunks, each of which names its file (its *member*). It has no head, no end and no count,
//! so [`profile`] adds a first member that announces the stream and a last one that proves it complete. [`chunk`] is
//! the bytes, [`Reader`] and [`Writer`] put them on descriptors, [`Pass`] hands them on as they came, [`Members`] and
//! [`Course`] hold the rules that span chunks, [`map`] rewrites members inside a stream.

pub mod chunk;
mod course;
pub mod foreign;
pub mod holes;
pub mod map;
pub mod members;
pub mod name;
pub mod pages;
mod pass;
pub mod pick;
pub mod prints;
pub mod profile;
mod reader;
mod table;
mod writer;
mod written;

pub use course::Course;
pub(crate) use course::check_log;
pub use members::Members;
pub use pass::Pass;
pub(crate) use reader::SENDER;
pub use reader::{Body, Head, Reader};
pub(crate) use table::Table;
pub use writer::Writer;
