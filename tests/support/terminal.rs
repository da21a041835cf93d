//! A terminal of a given width, and what a shell's command shows on it.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::path::Path;
use std::process::Command;

use rustix::fs::OFlags;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::xb;

/// What was on the screen.
pub struct Shown {
    /// Lines that were left, from top to bottom.
    pub rows: Vec<String>,
    /// What the line of the cursor was whenever it was about to be erased.
    pub erased: Vec<String>,
    pub ok: bool,
}

/// Runs a command of bash, as the foreground of a terminal so wide; `TOOLS` is the directory of our programs.
pub fn shown(width: u16, command: &str) -> Shown {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    tcsetwinsize(&master, Winsize { ws_row: 24, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let flags = i32::try_from(OFlags::NOCTTY.bits()).unwrap();
    let slave = std::os::unix::fs::OpenOptionsExt::custom_flags(OpenOptions::new().read(true).write(true), flags)
        .open(name.to_str().unwrap())
        .unwrap();
    let tools = Path::new(xb("xb-pack").get_program()).to_owned();
    let mut shell = Command::new("setsid");
    // The terminal is standard input of the session's leader; no stage reads from it.
    shell.args(["--ctty", "--wait", "bash", "-o", "pipefail", "-c", command]);
    shell.env("TOOLS", tools.parent().unwrap()).env("TERM", "xterm");
    let ours = || slave.try_clone().unwrap();
    let mut child = shell.stdin(ours()).stdout(ours()).stderr(ours()).spawn().unwrap();
    drop((shell, slave));
    let mut bytes = Vec::new();
    // A terminal that nobody has open any more is EIO.
    let _ = File::from(master).read_to_end(&mut bytes);
    let ok = child.wait().unwrap().success();
    let mut shown = Shown { rows: vec![String::new()], erased: Vec::new(), ok };
    shown.play(&String::from_utf8(bytes).unwrap());
    shown
}

impl Shown {
    /// Does what a terminal does with the few sequences that we use, but never wraps.
    fn play(&mut self, text: &str) {
        let (mut row, mut column): (Vec<char>, usize) = (Vec::new(), 0);
        let mut rest = text;
        while let Some(char) = rest.chars().next() {
            if let Some(after) = rest.strip_prefix("\x1b[K") {
                if !row.is_empty() {
                    self.erased.push(row.iter().collect());
                }
                row.truncate(column);
                rest = after;
                continue;
            }
            match char {
                '\r' => column = 0,
                '\n' => {
                    *self.rows.last_mut().unwrap() = row.drain(..).collect();
                    self.rows.push(String::new());
                }
                char => {
                    assert!(!char.is_control(), "{char:?} before {rest:?}");
                    row.resize(row.len().max(column + 1), ' ');
                    row[column] = char;
                    column += 1;
                }
            }
            rest = &rest[char.len_utf8()..];
        }
        *self.rows.last_mut().unwrap() = row.into_iter().collect();
    }
}
