//! What is written down is true: pages and completions are those of the programs, and every example runs.
//!
//! Examples are the ```` ```sh ```` blocks of README.md and the `.EX` … `.EE` blocks in the EXAMPLES section of a page.
//! Those of one document run in order, as one script of bash with `set -euo pipefail`, in a sandbox of its own:
//!
//! * the programs under test come first in `PATH`; `~/.my.cnf` leads to a private server with some data;
//! * the current directory holds `backup.xbs` (a full backup of that server) and `files/` (a small tree);
//! * `/srv` and `/var/lib/mysql` in an example stand for directories of the sandbox, empty at first;
//! * `ssh HOST COMMAND` runs the command here; `systemctl` and `sudo` do what they must for an example to go on;
//! * an account `mysql:mysql` stands for whoever runs the test.
//!
//! An example that is not to be run is a ```` ```text ```` block, or stands in another section.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Load, Pipeline, Server, output, program, scratch, skip, xb};

/// Completions: what to ask for, and where it is kept.
const SHELLS: [(&str, &str, &str); 3] =
    [("bash", "completions/", ".bash"), ("zsh", "completions/_", ""), ("fish", "completions/", ".fish")];

/// Sections that a page has, so that an operator finds the same things in each.
const SECTIONS: [&str; 6] = ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "EXAMPLES"];

#[test]
fn what_is_committed_is_what_the_programs_print() {
    for tool in tools() {
        let page = format!("man/{tool}.1");
        if written(&tool) {
            agree(&page, &generated(&tool, "man"));
        }
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
        for placeholder in ["@VERSION@", "@OPTIONS@", "@SYNOPSIS@"] {
            assert!(!text.contains(placeholder), "{}: {placeholder} is left", page.display());
        }
    }
}

#[test]
fn every_option_of_the_help_is_in_the_page() {
    for tool in tools().into_iter().filter(|tool| written(tool)) {
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
    let pages: Vec<(PathBuf, Vec<String>)> = pages().into_iter().map(|page| (page.clone(), of_page(&page))).collect();
    let Some(sandboxes) = Sandbox::server() else { return };
    for (page, examples) in pages {
        if page.extension().is_some_and(|section| section == "1") {
            assert!(!examples.is_empty(), "{}: no example", page.display());
        }
        sandboxes.run(&page, &examples);
    }
}

#[test]
fn every_command_of_the_readme_runs() {
    let readme = root().join("README.md");
    let examples = of_markdown(&fs::read_to_string(&readme).unwrap());
    assert!(examples.len() >= 2, "README.md has lost its commands");
    if let Some(sandboxes) = Sandbox::server() {
        sandboxes.run(&readme, &examples);
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The package's programs.
fn tools() -> Vec<String> {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let tables = manifest.split("[[bin]]").skip(1);
    tables.map(|table| table.split('"').nth(1).unwrap().to_owned()).collect()
}

/// Whether the prose of a page is there; a page that is not begun cannot be right or wrong.
fn written(tool: &str) -> bool {
    let source = fs::read_to_string(root().join(format!("man/{tool}.1.in"))).unwrap_or_default();
    let written = source.contains(".SH NAME");
    if !written {
        skip(&format!("man/{tool}.1.in is not written"));
    }
    written
}

/// The committed pages.
fn pages() -> Vec<PathBuf> {
    let names = fs::read_dir(root().join("man")).unwrap().map(|entry| entry.unwrap().path());
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

/// The file holds this text; with `XB_BLESS=1`, from now on.
fn agree(name: &str, text: &str) {
    let path = root().join(name);
    if std::env::var_os("XB_BLESS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    assert!(there == text, "{name} is not what the program prints; run: make man");
}

/// The `sh` blocks of a text in Markdown.
fn of_markdown(text: &str) -> Vec<String> {
    let blocks = text.split("\n```sh\n").skip(1);
    blocks.map(|block| block.split("\n```").next().unwrap().to_owned()).collect()
}

/// The `.EX` blocks in a page's EXAMPLES, without its escapes.
fn of_page(page: &Path) -> Vec<String> {
    let text = fs::read_to_string(page).unwrap();
    let after = text.split(".SH EXAMPLES\n").nth(1).unwrap_or_default();
    let section = after.split("\n.SH ").next().unwrap_or_default();
    let plain = |block: &str| {
        let block = block.split("\n.EE").next().unwrap();
        [("\\-", "-"), ("\\(aq", "'"), ("\\(dq", "\""), ("\\&", ""), ("\\e", "\\"), ("\\(ti", "~"), ("\\(ha", "^")]
            .iter()
            .fold(block.to_owned(), |text, (escape, letter)| text.replace(escape, letter))
    };
    section.split(".EX\n").skip(1).map(plain).collect()
}

/// Where examples run: a server, and a fresh directory for each document.
struct Sandbox {
    server: Server,
    backup: Vec<u8>,
}

impl Sandbox {
    /// None while the programs for a backup are not built.
    fn server() -> Option<Sandbox> {
        let built = tools();
        if ["xb-snap", "xb-redo", "xb-unpack"].iter().any(|name| !built.iter().any(|tool| tool == name)) {
            skip("examples need xb-snap, xb-redo and xb-unpack");
            return None;
        }
        let server = Server::new().start();
        Load::on(&server).bank(1).engines(1).prepare();
        let run = Pipeline::new().stage(xb("xb-snap").args(server.options())).stage(xb("xb-redo")).run();
        run.assert_ok();
        Some(Sandbox { server, backup: run.stdout })
    }

    /// Runs the examples of a document, and shows how far they came when one fails.
    fn run(&self, document: &Path, examples: &[String]) {
        let sandbox = scratch();
        let here = sandbox.path();
        self.furnish(here);
        let me = output({
            let mut id = program("id");
            id.arg("-un");
            id
        });
        let script: String = examples
            .iter()
            .map(|example| {
                let example = example
                    .replace("/srv", &here.join("srv").display().to_string())
                    .replace("/var/lib/mysql", &here.join("var/lib/mysql").display().to_string())
                    .replace("mysql:mysql", me.trim());
                format!("{example}\n")
            })
            .collect();
        let mut bash = program("bash");
        bash.args(["-euxo", "pipefail", "-c", &script]).current_dir(here).env("HOME", here);
        bash.env("PATH", format!("{}:{}:/usr/sbin", here.join("bin").display(), std::env::var("PATH").unwrap()));
        let run = Pipeline::new().stage(bash).run();
        assert!(run.codes() == [0], "{}: {}", document.display(), run.story());
    }

    fn furnish(&self, here: &Path) {
        for directory in ["bin", "srv", "var/lib/mysql", "files/db"] {
            fs::create_dir_all(here.join(directory)).unwrap();
        }
        fs::write(here.join("backup.xbs"), &self.backup).unwrap();
        fs::write(here.join("files/readme"), "a file\n").unwrap();
        fs::write(here.join("files/db/t.ibd"), vec![7; 100_000]).unwrap();
        fs::copy(self.server.option_file(), here.join(".my.cnf")).unwrap();
        for (name, script) in [("ssh", "shift; exec bash -c \"$*\""), ("sudo", "exec \"$@\""), ("systemctl", "exit 0")]
        {
            executable(&here.join("bin").join(name), &format!("#!/bin/sh\n{script}\n"));
        }
        for tool in tools() {
            std::os::unix::fs::symlink(xb(&tool).get_program(), here.join("bin").join(tool)).unwrap();
        }
    }
}

fn executable(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn install_puts_everything_where_it_is_looked_for() {
    let into = scratch();
    let mut make = program("make");
    // What cargo has built for the tests stands for the release build.
    make.args(["--old-file=build", "install", "PREFIX=/usr", "CARGO=false"]).current_dir(root());
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
    for page in pages() {
        let section = page.extension().unwrap().to_string_lossy().into_owned();
        let place = format!("share/man/man{section}/{}", page.file_name().unwrap().to_string_lossy());
        assert!(usr.join(&place).exists(), "{place} is missing");
    }
}
