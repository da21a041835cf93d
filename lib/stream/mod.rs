//! The xbstream format: chunks, members, and what our own streams add to it.
//!
//! A stream is a sequence of chunks, each of which names its file (its *member*). It has no header, no end and no
//! count, so [`native`] adds a first member that describes the stream and a last one that proves it complete. [`chunk`]
//! parses and writes headers; [`Reader`] and [`Writer`] read and write whole streams, and [`Pass`] passes them on
//! unchanged; [`Members`] checks the rules that span chunks.

pub mod chunk;
pub mod foreign;
pub mod holes;
pub mod members;
pub mod name;
pub mod native;
mod pass;
pub mod pick;
mod reader;
pub(crate) mod table;
mod writer;
pub(crate) mod written;

pub use members::Members;
pub use pass::Pass;
pub(crate) use reader::SENDER;
pub use reader::{Body, Head, Reader};
pub(crate) use table::Table;
pub use writer::Writer;
