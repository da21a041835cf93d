//! Starts programs that may write only to some directories (Landlock, since Linux 5.13).
//!
//! What a server reads from a backup may name any file of the host: tables with DATA DIRECTORY, names in redo and Aria
//! logs, an index of binary logs. Each of these is checked where possible; this restriction covers all.

use std::io;
use std::path::Path;
use std::process::{Child, Command};

use landlock::{
    ABI, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetStatus,
};
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};

/// A program may have this as a standard stream; it is opened after the rules are in effect.
const NOWHERE: &str = "/dev/null";
/// The access rights that this module knows; an older kernel restricts those that it knows.
const KNOWN: ABI = ABI::V3;

/// Starts a program that can write only below these files and directories, if the kernel supports that; also returns
/// whether it does. The program gains no privileges by executing others, and has only those of root's capabilities that
/// are in `keep`.
pub fn spawn(command: &mut Command, writable: &[&Path], keep: CapabilitySet) -> io::Result<(Child, bool)> {
    // The settings apply to the thread that makes them, and to all its children.
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let confined = restrict(writable)?;
            drop_capabilities(keep);
            command.spawn().map(|child| (child, confined))
        });
        thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread was lost")))
    })
}

/// A program of root starts with the bounding set. Without the right to change that set there is nothing to drop.
fn drop_capabilities(keep: CapabilitySet) {
    for one in (CapabilitySet::all() - keep).iter() {
        let _ = remove_capability_from_bounding_set(one);
    }
}

fn restrict(writable: &[&Path]) -> io::Result<bool> {
    let access = AccessFs::from_write(KNOWN);
    let rules = || {
        let mut rules =
            Ruleset::default().set_compatibility(CompatLevel::BestEffort).handle_access(access)?.create()?;
        for path in writable {
            if let Ok(place) = PathFd::new(path) {
                rules = rules.add_rule(PathBeneath::new(place, access))?;
            }
        }
        let null = PathBeneath::new(PathFd::new(NOWHERE)?, access & AccessFs::from_file(KNOWN));
        Ok(rules.add_rule(null)?.restrict_self()?)
    };
    let status = rules().map_err(|fault: Box<dyn std::error::Error>| io::Error::other(fault.to_string()))?;
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_outside_cannot_be_written_created_or_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (inside, outside) = (dir.path().join("inside"), dir.path().join("outside"));
        for place in [&inside, &outside] {
            std::fs::create_dir(place).unwrap();
            std::fs::write(place.join("kept"), "kept").unwrap();
        }
        let script = "for to in outside inside; do echo x >> $to/kept; echo x > $to/new; rm $to/kept; mv inside/new $to/moved; done";
        let mut command = Command::new("sh");
        command.args(["-c", script]).current_dir(dir.path()).stderr(std::process::Stdio::null());
        let (mut child, confined) =
            spawn(&mut command, &[&inside, Path::new("/nonexistent")], CapabilitySet::empty()).unwrap();
        child.wait().unwrap();
        if confined {
            assert_eq!(std::fs::read(outside.join("kept")).unwrap(), b"kept");
            assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
        }
        assert_eq!(std::fs::read(inside.join("moved")).unwrap(), b"x\n");
        assert!(!inside.join("kept").exists());
        // This thread is not restricted.
        std::fs::write(outside.join("mine"), "").unwrap();
    }

    #[test]
    fn a_program_has_no_capabilities_but_those_it_keeps() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let sets = |keep: CapabilitySet| {
            let mut command = Command::new("grep");
            command.args(["^CapEff", "/proc/self/status"]).stdout(std::process::Stdio::piped());
            let output = spawn(&mut command, &[], keep).unwrap().0.wait_with_output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            u64::from_str_radix(text.trim_start_matches("CapEff:").trim(), 16).unwrap()
        };
        assert_eq!(sets(CapabilitySet::empty()), 0);
        let search = CapabilitySet::DAC_READ_SEARCH;
        assert_eq!(sets(search) & !search.bits(), 0);
    }
}
