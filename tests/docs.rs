//! The documentation is correct: pages and completions are those of the programs, and every example runs.
//!
//! Examples are the ```` ```sh ```` blocks of README.md and the `.EX` … `.EE` blocks in the EXAMPLES section of a page.
//! Those of one document run in order, as one bash script with `set -euo pipefail`, in their own sandbox
//! (`support::sandbox`). The current directory contains `backup.xbs`, a full backup of the sandbox's server, and
//! `files/`, a small tree. To show an example without running it, use a ```` ```text ```` block, or another section.
//! `recipes.rs` runs the recipes of xb-tools.7.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::documents::{self, Example};
use crate::support::sandbox::{Bench, Fault, Sandbox};
use crate::support::{Pipeline, check, output, program, root_of_package, scratch, tools, xb};

/// Completions: the argument, and the path.
const SHELLS: [(&str, &str, &str); 3] =
    [("bash", "completions/", ".bash"), ("zsh", "completions/_", ""), ("fish", "completions/", ".fish")];

/// Sections that every page has.
const SECTIONS: [&str; 6] = ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "EXAMPLES"];

#[test]
fn what_is_committed_is_what_the_programs_print() {
    for tool in tools() {
        let page = format!("man/{tool}.1");
        agree(&page, &generated(&tool, "man"));
        for (shell, before, after) in SHELLS {
            agree(&format!("{before}{tool}{after}"), &generated(&tool, shell));
        }
    }
}

#[test]
fn pages_are_without_fault_and_have_every_section() {
    for page in pages() {
        let mut lint = program("mandoc");
        lint.args(["-T", "lint", "-W", "warning"]).arg(&page);
        let run = Pipeline::new().stage(lint).run();
        assert!(run.codes() == [0] && run.stdout.is_empty(), "{}", String::from_utf8_lossy(&run.stdout));
        let text = fs::read_to_string(&page).unwrap();
        if page.extension().is_some_and(|section| section == "1") {
            for section in SECTIONS {
                let heading = [format!(".SH {section}\n"), format!(".SH \"{section}\"\n")];
                assert!(heading.iter().any(|line| text.contains(line)), "{}: no section {section}", page.display());
            }
        }
        for placeholder in ["@VERSION@", "@OPTIONS@"] {
            assert!(!text.contains(placeholder), "{}: {placeholder} is left", page.display());
        }
    }
}

#[test]
fn every_option_of_the_help_is_in_the_page() {
    for tool in tools() {
        let page = generated(&tool, "man").replace("\\-", "-");
        let mut help = xb(&tool);
        help.arg("--help");
        let help = output(help);
        let options = help.split_whitespace().filter_map(|word| {
            let name: String = word.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
            (name.starts_with("--") && name.len() > 2).then_some(name)
        });
        for option in options {
            assert!(page.contains(&option), "{tool}: {option} is in --help and not in the page");
        }
    }
}

#[test]
fn every_example_of_the_pages_runs() {
    let Some(found) = Found::new() else { return };
    for page in pages() {
        let examples = documents::of_page(&page, "EXAMPLES");
        if page.extension().is_some_and(|section| section == "1") {
            assert!(!examples.is_empty(), "{}: no example", page.display());
        }
        found.run(&page, &examples);
    }
}

#[test]
fn every_command_of_the_readme_runs() {
    let Some(found) = Found::new() else { return };
    let readme = root_of_package().join("README.md");
    let sandbox = found.run(&readme, &documents::of_markdown(&readme));
    let restored = sandbox.path().join("var/lib/mysql");
    check::same(&found.bench.server, &found.bench.server.twin(&restored).start()).assert_good();
}

/// The committed pages.
fn pages() -> Vec<PathBuf> {
    let names = fs::read_dir(root_of_package().join("man")).unwrap().map(|entry| entry.unwrap().path());
    let mut pages: Vec<PathBuf> = names
        .filter(|path| path.extension().is_some_and(|section| ["1", "5", "7"].iter().any(|number| section == *number)))
        .collect();
    pages.sort();
    pages
}

fn generated(tool: &str, what: &str) -> String {
    let mut command = xb(tool);
    command.args(["--generate", what]);
    let text = output(command);
    assert!(!text.is_empty(), "{tool} --generate {what} prints nothing");
    text
}

/// The file has this content; with `XB_BLESS=1`, writes it.
fn agree(name: &str, text: &str) {
    let path = root_of_package().join(name);
    if std::env::var_os("XB_BLESS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    assert!(there == text, "{name} is not what the program prints; run: make man completions");
}

/// The files for the examples of a document: a full backup of the server, and a small tree.
struct Found {
    bench: Bench,
    backup: Vec<u8>,
}

impl Found {
    /// None where they cannot run.
    fn new() -> Option<Found> {
        let bench = Bench::start()?;
        let run = Pipeline::new().stage(xb("xb-snap").args(bench.server.options())).stage(xb("xb-redo")).run();
        run.assert_ok();
        Some(Found { bench, backup: run.stdout })
    }

    /// Runs the examples of a document, and shows how far they came if one fails.
    fn run(&self, document: &Path, examples: &[Example]) -> Sandbox {
        let sandbox = Sandbox::new(&self.bench, Fault::None);
        let here = sandbox.path();
        fs::create_dir_all(here.join("files/db")).unwrap();
        fs::write(here.join("backup.xbs"), &self.backup).unwrap();
        fs::write(here.join("files/readme"), "a file\n").unwrap();
        fs::write(here.join("files/db/t.ibd"), vec![7; 100_000]).unwrap();
        let script: String = examples.iter().map(|example| format!("{}\n", example.text)).collect();
        let run = Pipeline::new().stage(sandbox.bash(&script)).run();
        assert!(run.codes() == [0], "{}: {}", document.display(), run.story());
        sandbox
    }
}

#[test]
fn install_puts_everything_where_it_is_looked_for() {
    let into = scratch();
    let mut make = program("make");
    // The binaries that cargo has built for the tests replace the release build.
    make.args(["--old-file=build", "install", "PREFIX=/usr", "CARGO=false"]).current_dir(root_of_package());
    make.arg(format!("bin={}", xb("xb-unpack").get_program().to_string_lossy().trim_end_matches("/xb-unpack")));
    make.arg(format!("DESTDIR={}", into.path().display()));
    output(make);
    let usr = into.path().join("usr");
    for tool in tools() {
        let mut installed = Command::new(usr.join("bin").join(&tool));
        installed.arg("--version");
        assert!(output(installed).starts_with(&tool));
        for place in [
            format!("share/bash-completion/completions/{tool}"),
            format!("share/zsh/site-functions/_{tool}"),
            format!("share/fish/vendor_completions.d/{tool}.fish"),
        ] {
            assert!(usr.join(&place).exists(), "{place} is missing");
        }
    }
    // Below /usr/local Debian's shells look for all but fish's.
    let local = scratch();
    let mut make = program("make");
    make.args(["--old-file=build", "install", "CARGO=false"]).current_dir(root_of_package());
    make.arg(format!("bin={}", xb("xb-unpack").get_program().to_string_lossy().trim_end_matches("/xb-unpack")));
    make.arg(format!("DESTDIR={}", local.path().display()));
    output(make);
    for place in [
        "usr/local/share/man/man1/xb-zip.1",
        "usr/local/share/zsh/site-functions/_xb-zip",
        "etc/fish/completions/xb-zip.fish",
    ] {
        assert!(local.path().join(place).exists(), "{place} is missing");
    }
    for page in pages() {
        let section = page.extension().unwrap().to_string_lossy().into_owned();
        let place = format!("share/man/man{section}/{}", page.file_name().unwrap().to_string_lossy());
        assert!(usr.join(&place).exists(), "{place} is missing");
    }
}

/// The anchors of each document of `lib/facts`, by its name.
fn anchors() -> BTreeMap<String, BTreeSet<String>> {
    let files = fs::read_dir(root_of_package().join("lib/facts")).unwrap().map(|entry| entry.unwrap().path());
    let documents = files.filter(|path| path.extension().is_some_and(|suffix| suffix == "md"));
    documents
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            let ids = text.split("<a id=\"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned());
            let ids: Vec<String> = ids.collect();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let set: BTreeSet<String> = ids.iter().cloned().collect();
            assert_eq!(set.len(), ids.len(), "{name}: an anchor is there twice");
            (name, set)
        })
        .collect()
}

/// The words after each `mark` in a text, as long as they could be part of an anchor.
fn cited<'a>(text: &'a str, mark: &'a str) -> impl Iterator<Item = &'a str> {
    let part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '#';
    text.split(mark).skip(1).map(move |rest| rest.split(|c| !part(c)).next().unwrap_or_default())
}

#[test]
fn every_fact_that_is_cited_is_there() {
    let anchors = anchors();
    let mut count = 0;
    for room in ["lib", "tools", "tests"] {
        for file in tree_of(&root_of_package().join(room)) {
            let Ok(text) = fs::read_to_string(&file) else { continue };
            for citation in cited(&text, "facts/").filter(|citation| citation.contains('#')) {
                let (document, anchor) = citation.split_once('#').unwrap();
                let there = anchors.get(document).is_some_and(|anchors| anchors.contains(anchor));
                assert!(there, "{}: facts/{citation} is nowhere", file.display());
                count += 1;
            }
            let source = file.extension().is_some_and(|suffix| suffix == "rs") && !file.ends_with("tests/docs.rs");
            assert!(!(source && text.contains("spec section")), "{}: cites a section by number", file.display());
        }
    }
    assert!(count > 80, "only {count} citations were found");
    for (document, anchors) in &anchors {
        let text = fs::read_to_string(root_of_package().join(format!("lib/facts/{document}.md"))).unwrap();
        for anchor in cited(&text, "](#") {
            assert!(anchors.contains(anchor), "{document}: #{anchor} is nowhere");
        }
    }
}

/// The files below a directory that are sources or documents.
fn tree_of(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let (dirs, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let dirs = dirs.iter().filter(|dir| !["vectors", "corpus"].iter().any(|name| dir.ends_with(name)));
    let text = files.into_iter().filter(|path| path.extension().is_some_and(|suffix| suffix == "rs" || suffix == "md"));
    dirs.flat_map(|dir| tree_of(dir)).chain(text).collect()
}
