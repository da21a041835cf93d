//! The progress line on a terminal, which the tools of a pipeline share: one of them draws it, cut to the width.
//!
//! A name that only one process can own decides which one: an abstract Unix socket address (`unix(7)`) made of the
//! terminal and the process group. The kernel releases the name when its owner ends in any way, and the next tool that
//! draws gets it. No tool waits for it. A pipeline in the background does not draw.

use std::io::Write;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often the line is drawn.
const INTERVAL: Duration = Duration::from_millis(125);
/// The width of a terminal that does not report it.
const WIDTH: u16 = 80;
/// Moves to the start of the line and erases it.
const ERASE: &str = "\r\x1b[K";

/// The state of this tool.
pub(super) struct Screen {
    /// The purpose of this tool is to show progress: it has priority over the others.
    asked: AtomicBool,
    line: Mutex<Line>,
}

struct Line {
    drawn: bool,
    next: Instant,
    /// Held while this tool draws.
    seat: Option<UnixDatagram>,
}

impl Screen {
    pub(super) fn new() -> Self {
        let line = Line { drawn: false, next: Instant::now() + INTERVAL, seat: None };
        Screen { asked: AtomicBool::new(false), line: Mutex::new(line) }
    }

    /// Says that this tool's purpose is to show progress.
    pub(super) fn ask(&self) {
        self.asked.store(true, Relaxed);
    }

    /// Draws the line, if it is due and this tool's turn.
    pub(super) fn draw(&self, text: impl FnOnce() -> String) {
        let Ok(mut line) = self.line.try_lock() else { return };
        if Instant::now() < line.next {
            return;
        }
        line.next = Instant::now() + INTERVAL;
        if !foreground() {
            line.seat = None;
            line.drawn = false;
        } else if line.sit(self.asked.load(Relaxed)) {
            let width = usize::from(width());
            put(&format!("{ERASE}{}", cut(&text(), width.saturating_sub(1))));
            line.drawn = true;
        } else {
            // The tool that draws now overwrites it.
            line.drawn = false;
        }
    }

    /// Writes a line of text in place of the drawn line, whichever tool has drawn it.
    pub(super) fn say(&self, text: &str) {
        let _line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        put(&format!("{ERASE}{text}\n"));
    }

    /// Erases the line, and lets another tool draw.
    pub(super) fn clear(&self) {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut line.drawn) {
            put(ERASE);
        }
        line.seat = None;
    }
}

impl Line {
    /// Takes the name, if it is free. True if this tool has it and no other has priority.
    fn sit(&mut self, asked: bool) -> bool {
        let Some([first, other]) = seats() else { return false };
        let (mine, before) = if asked { (&first, None) } else { (&other, Some(&first)) };
        if self.seat.is_none() {
            self.seat = UnixDatagram::bind_addr(mine).ok();
        }
        self.seat.is_some() && before.is_none_or(|seat| !taken(seat))
    }
}

/// The names for this process group at this terminal: for a tool with priority, and for any other.
fn seats() -> Option<[SocketAddr; 2]> {
    let terminal = rustix::fs::fstat(rustix::stdio::stderr()).ok()?.st_rdev;
    let group = rustix::process::getpgrp().as_raw_nonzero();
    let seat = |who: &str| SocketAddr::from_abstract_name(format!("xb-tools/meter/{terminal:x}/{group}/{who}")).ok();
    Some([seat("asked")?, seat("any")?])
}

fn taken(seat: &SocketAddr) -> bool {
    UnixDatagram::unbound().and_then(|socket| socket.connect_addr(seat)).is_ok()
}

/// False if the terminal reports that another process group is in the foreground.
fn foreground() -> bool {
    rustix::termios::tcgetpgrp(rustix::stdio::stderr()).map_or(true, |group| group == rustix::process::getpgrp())
}

fn width() -> u16 {
    let size = rustix::termios::tcgetwinsize(rustix::stdio::stderr());
    size.map_or(WIDTH, |size| if size.ws_col == 0 { WIDTH } else { size.ws_col })
}

/// Cuts a text to this many columns. A character that is not ASCII counts as two; control characters, which a name in a
/// stream may contain, become `?`.
fn cut(text: &str, columns: usize) -> String {
    let mut left = columns;
    let fits = |char: &char| {
        let need = if char.is_ascii() { 1 } else { 2 };
        left.checked_sub(need).map(|rest| left = rest).is_some()
    };
    text.chars().map(|char| if char.is_control() { '?' } else { char }).take_while(fits).collect()
}

/// Writes at once. Errors are ignored: a closed stderr must not end a backup.
fn put(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_to_the_columns_that_it_has() {
        for (text, columns, line) in [
            ("", 5, ""),
            ("abcdef", 0, ""),
            ("abcdef", 5, "abcde"),
            ("abcde", 5, "abcde"),
            ("日本語", 5, "日本"),
            ("ä1", 2, "ä"),
            ("a\x1b[2J\n\r", 20, "a?[2J??"),
        ] {
            assert_eq!(cut(text, columns), line, "{text:?}");
        }
    }
}
