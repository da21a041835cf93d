//! Programs that the kernel keeps from writing elsewhere than they should (Landlock, since Linux 5.13).
//!
//! What a server reads from a backup may name any file of the host: tables with a directory of their own, names in redo
//! and Aria logs, an index of binary logs. Each is looked at where that is possible; this holds for all.

use std::io;
use std::path::Path;
use std::process::{Child, Command};

use landlock::{
    ABI, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetStatus,
};
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};

/// What a program may get in the place of standard streams; it is opened after the rules hold.
const NOWHERE: &str = "/dev/null";
/// The rights that are known here; of a kernel that knows fewer, those.
const KNOWN: ABI = ABI::V3;

/// Starts a program that can write only below these files and directories, as far as the kernel can see to that; whether
/// it can. It also gains no rights by programs that would give it some, and has none of root's capabilities but those in
/// `keep`.
pub fn spawn(command: &mut Command, writable: &[&Path], keep: CapabilitySet) -> io::Result<(Child, bool)> {
    // What is set holds for the thread that sets it, and for all that it starts.
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let confined = restrict(writable)?;
            drop_capabilities(keep);
            command.spawn().map(|child| (child, confined))
        });
        thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread was lost")))
    })
}

/// What root's programs begin with is the bounding set. Without the right to change it there is nothing to lose.
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
        // This thread is not confined.
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
