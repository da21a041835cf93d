//! The documented recipes work: each, as it is written, restores the server; and after any fault, the sender's status
//! and the receiver both show it.
//!
//! Recipes are the blocks in the section RECIPES of xb-tools.7, and those of README.md that have a check. Their lines
//! are for the server's host, unless a comment says otherwise: `# on vault` is followed by commands for the other host,
//! `# here` for the server's host again, `# check` by those that verify the backup, `# restore` by those that fill a
//! directory. The page's recipe "Before use", which puts this directory into service, follows each of the others. The
//! recipe after it is for a running server, and has its own test.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::support::documents;
use crate::support::pipeline::Run;
use crate::support::sandbox::{Bench, Fault, Sandbox};
use crate::support::{Pipeline, check, root_of_package, tools, vault, wait_until};

/// A recipe that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(60);

/// The recipe that follows all others.
const LAST: &str = "Before use";
/// The recipe for point-in-time recovery.
const LATER: &str = "Point-in-time recovery";

#[derive(Default)]
struct Recipe {
    /// What it is about, for messages.
    title: String,
    /// What makes the backup.
    here: String,
    /// What receives it on the other host, if it is begun there.
    vault: String,
    check: String,
    restore: String,
}

impl Recipe {
    /// All that make a backup, and the commands of the one that ends them.
    fn all() -> (Vec<Recipe>, String) {
        let page = documents::of_page(&root_of_package().join("man/xb-tools.7"), "RECIPES");
        let page = page.into_iter().filter(|example| example.title != LATER);
        let (mut last, page): (Vec<_>, Vec<_>) = page.partition(|example| example.title == LAST);
        let last = last.pop().expect("the last recipe has another name");
        let readme = documents::of_markdown(&root_of_package().join("README.md"));
        let readme = readme.into_iter().filter(|example| example.text.contains("\n# check\n"));
        let recipes = page.into_iter().chain(readme).map(|example| Recipe::parse(&example.title, &example.text));
        (recipes.collect(), last.text)
    }

    fn parse(title: &str, text: &str) -> Recipe {
        let mut recipe = Recipe { title: title.to_owned(), ..Recipe::default() };
        let mut part = &mut recipe.here;
        for line in text.lines() {
            match line.strip_prefix("# ").map(|comment| comment.split(',').next().unwrap_or(comment)) {
                Some("on vault") => part = &mut recipe.vault,
                Some("here") => part = &mut recipe.here,
                Some("check") => part = &mut recipe.check,
                Some("restore") => part = &mut recipe.restore,
                Some(other) => panic!("{title}: what is \"# {other}\"?"),
                None => *part += &format!("{line}\n"),
            }
        }
        assert!(!recipe.here.is_empty() && !recipe.check.is_empty(), "{title}: there is no check");
        recipe
    }

    /// The directory that it ends with.
    fn directory(&self) -> &str {
        [&self.restore, &self.here, &self.vault].into_iter().find_map(|part| target(part)).expect("there is no -C")
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
        good(&bash(&sandbox, &self.check))?;
        good(&bash(&sandbox, &self.restore))?;
        let mut data = self.directory().replace("/srv", &sandbox.srv().display().to_string());
        if !self.restore.contains("--prepare") {
            good(&bash(&sandbox, &last.replace("/srv/full", self.directory())))?;
            data = sandbox.path().join("var/lib/mysql").display().to_string();
        }
        let copy = bench.server.twin(Path::new(&data)).try_start()?;
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

    /// After a fault, an exit status and the check show it, and nothing is left that could be restored.
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
        let checked = bash(&sandbox, &self.check);
        if checked.codes() == [0] {
            return Err(format!("the receiving side does not show it\n{story}\n{}", checked.story()));
        }
        let restored = bash(&sandbox, &self.restore);
        let status = bash(&sandbox, &format!("xb-redo --status {}", self.directory()));
        if status.codes() == [0] {
            return Err(format!("what is left looks like a backup\n{story}\n{}", restored.story()));
        }
        Ok(())
    }
}

/// Of the last `-C`.
fn target(script: &str) -> Option<&str> {
    script.rsplit_once("-C ")?.1.split(['\'', ' ', '\n']).next()
}

fn bash(sandbox: &Sandbox, script: &str) -> Run {
    Pipeline::new().stage(sandbox.bash(script)).limit(LIMIT).run()
}

fn good(run: &Run) -> Result<(), String> {
    if !run.late && run.codes() == [0] { Ok(()) } else { Err(run.story()) }
}

/// The commands of a recipe of the page.
fn commands(title: &str) -> String {
    let page = documents::of_page(&root_of_package().join("man/xb-tools.7"), "RECIPES");
    page.into_iter().find(|example| example.title == title).expect(title).text
}

/// All failures, not only the first.
fn report(failures: &[String]) {
    assert!(failures.is_empty(), "{} do not hold:\n\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn every_recipe_brings_the_server_back() {
    let Some(bench) = Bench::start() else { return };
    let (recipes, last) = Recipe::all();
    let outcomes = recipes.iter().map(|recipe| (recipe, recipe.restores(&bench, &last)));
    let failures = outcomes.filter_map(|(recipe, outcome)| Some(format!("{}:\n{}", recipe.title, outcome.err()?)));
    report(&failures.collect::<Vec<_>>());
}

#[test]
fn the_binary_log_brings_a_backup_up_to_the_present() {
    let Some(bench) = Bench::start() else { return };
    let sandbox = Sandbox::new(&bench, Fault::None);
    good(&bash(&sandbox, "xb-snap | xb-redo | xb-unpack -C /srv/full")).unwrap();
    // In the file that the backup names, and in two behind it.
    for round in 0..3 {
        bench.server.sql(&format!("INSERT INTO bank.noise VALUES (-{round}, 'later'); FLUSH BINARY LOGS"));
    }
    good(&bash(&sandbox, &commands(LAST))).unwrap();
    let copy = bench.server.twin(&sandbox.path().join("var/lib/mysql")).start();
    assert!(!check::same(&bench.server, &copy).problems.is_empty(), "the copy has what came after the backup");
    let logs = sandbox.srv().join("binlog");
    fs::create_dir(&logs).unwrap();
    for log in bench.server.rows("SHOW BINARY LOGS") {
        fs::copy(bench.server.data().join(&log[0]), logs.join(&log[0])).unwrap();
    }
    fs::copy(copy.option_file(), sandbox.path().join(".my.cnf")).unwrap();
    good(&bash(&sandbox, &commands(LATER))).unwrap();
    check::same(&bench.server, &copy).assert_good();
}

#[test]
#[ignore = "a minute"]
fn every_recipe_shows_a_fault_on_both_sides() {
    let Some(bench) = Bench::start() else { return };
    let mut failures = Vec::new();
    for recipe in Recipe::all().0 {
        let title = &recipe.title;
        let programs = recipe.programs(&bench).unwrap_or_else(|story| panic!("{title}:\n{story}"));
        for fault in programs.into_iter().map(Fault::Killed).chain([Fault::DiskFull]) {
            let outcome = recipe.shows(&bench, &fault);
            failures.extend(outcome.err().map(|story| format!("{title}, {fault:?}: {story}")));
        }
    }
    report(&failures);
}

/// What people do instead, and why the recipes do not.
#[test]
fn recipes_that_would_hide_a_fault_are_found() {
    let Some(bench) = Bench::start() else { return };
    let restore = "# restore\nxb-unpack -C /srv/full < /srv/full.xbs";
    let verify = "# check\nxb-unpack --verify < /srv/full.xbs";
    let size = "# check\ntest -s /srv/full.xbs";
    let halves = "# check\ncmp /srv/copy /srv/full.xbs";
    let hidden = [
        ("here:xb-snap", "set +o pipefail; xb-snap | cat > /srv/full.xbs", verify, "no status shows it"),
        ("here:xb-redo", "xb-snap | xb-redo > /srv/full.xbs", size, "the receiving side does not show it"),
        (
            "here:xb-redo",
            "xb-snap | xb-redo | tee /srv/copy | ssh vault 'cat > /srv/full.xbs'",
            halves,
            "the receiving side does not show it",
        ),
    ];
    for (victim, here, check, complaint) in hidden {
        let recipe = Recipe::parse(here, &format!("{here}\n{check}\n{restore}"));
        let found = recipe.shows(&bench, &Fault::Killed(victim.to_owned())).expect_err(here);
        assert!(found.contains(complaint), "{here}: {found}");
    }
}

#[test]
fn no_tool_and_no_program_has_lost_its_recipe() {
    let recipes: String = Recipe::all().0.iter().flat_map(|recipe| [&*recipe.here, &*recipe.vault]).collect();
    let others =
        ["ssh", "nc -l", "nc -N", "socat", "tee", "pv", "gzip", "openssl", "zstd", "mariadb-backup", "mbstream"];
    // xb-front, xb-keep and wsrep_sst_xb run pipelines themselves; their own tests have the command lines.
    let own = ["xb-front", "xb-keep", "wsrep_sst_xb"];
    for program in tools().iter().map(String::as_str).filter(|tool| !own.contains(tool)).chain(others) {
        assert!(recipes.contains(program), "there is no recipe with {program}");
    }
}
