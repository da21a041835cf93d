//! Calls of stock programs: where xb-front prints, and how it ends.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::Mode;
use rustix::process::umask;

use super::end;
use crate::error::{Error, Kind, Result};
use crate::front::{Call, Voice};

/// Standard error and standard output, a whole line at a time.
#[derive(Default)]
struct Streams(Mutex<()>);

impl Voice for Streams {
    fn say(&self, line: &str) {
        let _one = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody who listens is no reason to fail.
        let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
    }

    fn print(&self, text: &str) -> Result<()> {
        crate::io::stdout()?.write_all(text.as_bytes()).map_err(|cause| Error::io("stdout", "cannot write", &cause))
    }
}

/// Does what a process was called for, if that is a stock program: `arguments` begin with the process's own name. The exit
/// status is 0 or 1, as theirs is; a signal that ended the run ends the process.
pub fn front(arguments: Vec<OsString>) -> Option<ExitCode> {
    let mut call = Call::of(arguments)?;
    umask(umask(Mode::RWXO) | Mode::RWXO | Mode::WGRP);
    let voice: Arc<dyn Voice> = Arc::new(Streams::default());
    Some(match call.run(&voice) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            call.tell(&error, &*voice);
            match error.kind() {
                Kind::Signal(_) => end(error.kind()),
                _ => ExitCode::FAILURE,
            }
        }
    })
}
