//! The recipes of xb-tools.7 are good for what they promise: each, as it is written there, brings the server back; and
//! when something goes wrong in it, the sender's status and the receiving side both show it.
//!
//! A recipe is a block of the section RECIPES. Its lines stand for the server's host, unless a comment says otherwise:
//! `# on vault` for what runs on the other host meanwhile, `# here` for the server's host again, `# check` for what finds
//! out whether the backup is whole, `# restore` for what leads to `/srv/full`. The last recipe, which takes `/srv/full`
//! into service, follows each of the others.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use crate::support::documents::{self, Example};
use crate::support::pipeline::Run;
use crate::support::sandbox::{Bench, Fault, Sandbox};
use crate::support::{Pipeline, check, root_of_package, vault, wait_until};

/// A recipe that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(60);

/// The recipe that ends all others.
const LAST: &str = "Before use";

#[derive(Default)]
struct Recipe {
    title: String,
    /// What makes the backup.
    here: String,
    /// What receives it on the other host, if it is begun there.
    vault: String,
    check: String,
    restore: String,
}

fn examples() -> Vec<Example> {
    documents::of_page(&root_of_package().join("man/xb-tools.7"), "RECIPES")
}

impl Recipe {
    /// All but the last.
    fn all() -> Vec<Recipe> {
        examples().iter().filter(|example| example.title != LAST).map(Recipe::parse).collect()
    }

    fn parse(example: &Example) -> Recipe {
        let mut recipe = Recipe { title: example.title.clone(), ..Recipe::default() };
        let mut part = &mut recipe.here;
        for line in example.text.lines() {
            match line.strip_prefix("# ").map(|comment| comment.split(',').next().unwrap_or(comment)) {
                Some("on vault") => part = &mut recipe.vault,
                Some("here") => part = &mut recipe.here,
                Some("check") => part = &mut recipe.check,
                Some("restore") => part = &mut recipe.restore,
                Some(other) => panic!("{}: what is \"# {other}\"?", example.title),
                None => *part += &format!("{line}\n"),
            }
        }
        assert!(!recipe.here.is_empty() && !recipe.check.is_empty(), "{}: there is no check", recipe.title);
        recipe
    }

    /// Makes the backup: how it ended here, and on the other host if it was begun there.
    fn take(&self, sandbox: &Sandbox) -> Vec<Run> {
        let receiver = (!self.vault.is_empty()).then(|| {
            let mut receiver = sandbox.faulty(&self.vault);
            let running = Pipeline::new().stage(receiver.env("XB_WHERE", "vault")).limit(LIMIT).start();
            wait_until("the listener", LIMIT, || vault::listens(sandbox.port));
            running
        });
        let sender = Pipeline::new().stage(sandbox.faulty(&self.here)).limit(LIMIT).run();
        let receiver = receiver.map(|running| running.wait());
        [Some(sender), receiver].into_iter().flatten().collect()
    }

    /// Takes the backup, checks, restores and serves it: what comes out is the server.
    fn restores(&self, bench: &Bench, last: &str) -> Result<(), String> {
        let sandbox = Sandbox::new(bench, Fault::None);
        for run in self.take(&sandbox) {
            good(&run)?;
        }
        good(&run(&sandbox, &self.check))?;
        good(&run(&sandbox, &self.restore))?;
        let data = if self.restore.contains("--prepare") {
            sandbox.srv().join("full")
        } else {
            good(&run(&sandbox, last))?;
            sandbox.path().join("var/lib/mysql")
        };
        let copy = bench.server.twin(&data).try_start()?;
        let verdict = check::same(&bench.server, &copy);
        if verdict.problems.is_empty() && verdict.tables > 0 { Ok(()) } else { Err(format!("{:?}", verdict.problems)) }
    }

    /// The programs that the stream passes, each with the host that it is on: `here:xb-zip`.
    fn programs(&self, bench: &Bench) -> Result<BTreeSet<String>, String> {
        let sandbox = Sandbox::new(bench, Fault::None);
        for run in self.take(&sandbox) {
            good(&run)?;
        }
        let mut programs: BTreeSet<String> =
            fs::read_to_string(sandbox.notes()).unwrap().lines().map(str::to_owned).collect();
        // An ssh that only begins something on the other host is passed by nothing.
        if self.here.contains("wait $!") {
            programs.remove("here:ssh");
        }
        Ok(programs)
    }

    /// When something goes wrong, a status says so, and the check; and nothing is left that could be restored.
    fn shows(&self, bench: &Bench, fault: &Fault) -> Result<(), String> {
        let sandbox = Sandbox::new(bench, fault.clone());
        let runs = self.take(&sandbox);
        let story: String = runs.iter().map(Run::story).collect();
        let notes = fs::read_to_string(sandbox.notes()).unwrap();
        let failed = match fault {
            Fault::Killed(_) if !notes.contains("killed") => return Err(format!("it was not killed\n{story}")),
            Fault::Killed(victim) if victim.starts_with("vault:") => runs.last().unwrap().codes() != [0],
            Fault::Killed(_) => runs[0].codes() != [0],
            Fault::DiskFull | Fault::None => runs.iter().any(|run| run.codes() != [0]),
        };
        if !failed || runs.iter().any(|run| run.late) {
            return Err(format!("no status shows it\n{story}"));
        }
        let checked = run(&sandbox, &self.check);
        if checked.codes() == [0] {
            return Err(format!("the receiving side does not show it\n{story}\n{}", checked.story()));
        }
        let restored = run(&sandbox, &self.restore);
        let status = run(&sandbox, "xb-redo --status /srv/full");
        if status.codes() == [0] {
            return Err(format!("what is left looks like a backup\n{story}\n{}", restored.story()));
        }
        Ok(())
    }
}

fn run(sandbox: &Sandbox, script: &str) -> Run {
    Pipeline::new().stage(sandbox.bash(script)).limit(LIMIT).run()
}

fn good(run: &Run) -> Result<(), String> {
    if !run.late && run.codes() == [0] { Ok(()) } else { Err(run.story()) }
}

/// All of them, however many fail.
fn report(failures: &[String]) {
    assert!(failures.is_empty(), "{} do not hold:\n\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn every_recipe_brings_the_server_back() {
    let Some(bench) = Bench::start() else { return };
    let last = examples().into_iter().find(|example| example.title == LAST).expect("the last recipe").text;
    let mut failures = Vec::new();
    for recipe in Recipe::all() {
        let start = std::time::Instant::now();
        if let Err(story) = recipe.restores(&bench, &last) {
            failures.push(format!("{}:\n{story}", recipe.title));
        }
        eprintln!("{:?} {}", start.elapsed(), recipe.title);
    }
    report(&failures);
}

#[test]
fn every_recipe_shows_on_both_sides_that_a_program_was_killed_or_the_disk_was_full() {
    let Some(bench) = Bench::start() else { return };
    let mut failures = Vec::new();
    for recipe in Recipe::all() {
        let start = std::time::Instant::now();
        let programs = recipe.programs(&bench).unwrap_or_else(|story| panic!("{}:\n{story}", recipe.title));
        let faults = programs.into_iter().map(Fault::Killed).chain([Fault::DiskFull]);
        for fault in faults {
            let start = std::time::Instant::now();
            if let Err(story) = recipe.shows(&bench, &fault) {
                failures.push(format!("{}, {fault:?}:\n{story}", recipe.title));
            }
            eprintln!("  {:?} {fault:?}", start.elapsed());
        }
        eprintln!("{:?} {}", start.elapsed(), recipe.title);
    }
    report(&failures);
}
