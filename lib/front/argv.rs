//! Secrets on our own command line, which everybody can read, are overwritten.
//!
//! The arguments stand one behind the other, each with a NUL byte at its end, from where `/proc/self/stat` says (`arg_start`,
//! `proc_pid_stat(5)`). What is written to `/proc/self/mem` there is what others read from then on.

use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;

/// Bytes of an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The argument's number; 0 is the program's name.
    pub(super) argument: usize,
    /// From 0.
    pub(super) from: usize,
    pub(super) len: usize,
}

/// Which field of `/proc/self/stat` is `arg_start`, counted from the one behind the name, which may have anything in it.
const ARG_START: usize = 45;

/// Overwrites them; false if that was not possible. The process must not have been made undumpable, unless it is root's.
pub(super) fn wipe(places: &[Place]) -> bool {
    places.is_empty() || try_wipe(places).is_some()
}

fn try_wipe(places: &[Place]) -> Option<()> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let start: u64 = arg_start(&stat)?;
    let memory = File::options().write(true).open("/proc/self/mem").ok()?;
    let lengths: Vec<usize> = std::env::args_os().map(|argument| argument.as_bytes().len()).collect();
    for place in places {
        let (before, own) = (lengths.get(..place.argument)?, *lengths.get(place.argument)?);
        let end = place.from.checked_add(place.len)?;
        if end > own {
            return None;
        }
        let offset = before.iter().try_fold(place.from, |sum, len| sum.checked_add(*len)?.checked_add(1))?;
        // One letter stays, so that it is seen that there was something; as the client programs do it.
        let mut text = vec![0; place.len];
        if let Some(first) = text.first_mut() {
            *first = b'x';
        }
        memory.write_all_at(&text, start.checked_add(u64::try_from(offset).ok()?)?).ok()?;
    }
    Some(())
}

fn arg_start(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split(' ').nth(ARG_START)?.parse().ok().filter(|start| *start > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_of_our_arguments_is_where_stat_says() {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        let memory = File::open("/proc/self/mem").unwrap();
        let first = std::env::args_os().next().unwrap();
        let mut bytes = vec![0; first.len()];
        memory.read_exact_at(&mut bytes, arg_start(&stat).unwrap()).unwrap();
        assert_eq!(bytes, first.as_bytes());
        assert_eq!(arg_start("1 (a) b) R 1 2"), None);
    }
}
