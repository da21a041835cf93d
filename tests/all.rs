//! All integration tests; one crate, so that everything links once.
mod pages;
