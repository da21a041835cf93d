//! The metadata of the package: licences and versions of its dependencies, and the documents for developers.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::support::{output, root_of_package};

/// What is linked on this machine, as `cargo metadata` knows it, without our own package.
fn crates() -> Vec<Value> {
    let mut metadata = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    metadata.args(["metadata", "--offline", "--locked", "--format-version=1", "--filter-platform"]);
    metadata.arg(format!("{}-unknown-linux-gnu", std::env::consts::ARCH)).current_dir(root_of_package());
    let metadata: Value = serde_json::from_str(&output(metadata)).unwrap();
    let crates: Vec<Value> = metadata["packages"].as_array().unwrap().clone();
    let crates: Vec<Value> = crates.into_iter().filter(|one| one["name"] != env!("CARGO_PKG_NAME")).collect();
    assert!(crates.len() > 100, "only {} crates", crates.len());
    crates
}

/// A list of `deny.toml`, or the values of a key in its tables: the words in quotes from `begin` up to the bracket.
fn denied(begin: &str) -> Vec<String> {
    let text = fs::read_to_string(root_of_package().join("deny.toml")).unwrap();
    let text: String = text.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
    let list = text.split(begin).nth(1).and_then(|rest| rest.split(']').next()).unwrap_or_default();
    let words: Vec<String> = list.split('"').skip(1).step_by(2).map(str::to_owned).collect();
    assert!(!words.is_empty(), "deny.toml has no {begin}");
    words
}

/// Whether a choice of licences in SPDX's words leaves one that is allowed.
fn allowed(expression: &str, licences: &[String]) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words = spaced.split_whitespace().peekable();
    let allowed = any_of(&mut words, licences);
    assert_eq!(words.next(), None, "{expression}");
    allowed
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any_of(words: &mut Words<'_>, licences: &[String]) -> bool {
    let mut allowed = all_of(words, licences);
    while words.next_if_eq(&"OR").is_some() {
        allowed |= all_of(words, licences);
    }
    allowed
}

fn all_of(words: &mut Words<'_>, licences: &[String]) -> bool {
    let mut allowed = one(words, licences);
    while words.next_if_eq(&"AND").is_some() {
        allowed &= one(words, licences);
    }
    allowed
}

fn one(words: &mut Words<'_>, licences: &[String]) -> bool {
    let word = words.next().unwrap_or_default();
    if word == "(" {
        let allowed = any_of(words, licences);
        assert_eq!(words.next(), Some(")"));
        return allowed;
    }
    // An exception gives more rights than the licence, never fewer.
    if words.next_if_eq(&"WITH").is_some() {
        words.next();
    }
    licences.iter().any(|licence| licence == word)
}

#[test]
fn licences_are_those_that_deny_toml_allows() {
    let licences = denied("allow = [");
    assert!(allowed("GPL-2.0 OR (MIT AND Apache-2.0 WITH LLVM-exception)", &licences));
    assert!(!allowed("MIT AND GPL-2.0", &licences) && !allowed("", &licences));
    for one in crates() {
        let licence = one["license"].as_str().unwrap_or_default();
        assert!(allowed(licence, &licences), "{} {}: its licence is {licence:?}", one["name"], one["version"]);
    }
}

#[test]
fn crates_are_of_the_registry_and_none_is_banned() {
    let banned = denied("deny = [");
    for one in crates() {
        let name = one["name"].as_str().unwrap();
        assert!(!banned.iter().any(|banned| banned == name), "{name} is banned by deny.toml");
        let source = one["source"].as_str().unwrap_or_default();
        assert_eq!(source, "registry+https://github.com/rust-lang/crates.io-index", "{name}");
    }
    let manifest = fs::read_to_string(root_of_package().join("Cargo.toml")).unwrap();
    assert!(!manifest.contains("= \"*\""), "a dependency of any version");
}

/// CI has one toolchain. clippy (`incompatible_msrv`) knows which features of the standard library are newer than
/// `rust-version`; this test knows what each crate requires.
#[test]
fn no_crate_needs_a_newer_rust_than_ours() {
    let number = |version: &str| -> Vec<u32> { version.split('.').map(|part| part.parse().unwrap()).collect() };
    let ours = number(env!("CARGO_PKG_RUST_VERSION"));
    for one in crates() {
        if let Some(needed) = one["rust_version"].as_str() {
            assert!(number(needed) <= [&ours[..], &[u32::MAX]].concat(), "{} needs Rust {needed}", one["name"]);
        }
    }
    let readme = fs::read_to_string(root_of_package().join("README.md")).unwrap();
    assert!(readme.contains(&format!("Rust {} or later", env!("CARGO_PKG_RUST_VERSION"))));
}

/// The words in backticks, and the lines of blocks, of a document.
fn said(document: &str) -> Vec<String> {
    let text = fs::read_to_string(root_of_package().join(document)).unwrap();
    let blocks = text.split("```").enumerate();
    let (blocks, prose): (Vec<_>, Vec<_>) = blocks.partition(|(number, _)| number % 2 == 1);
    let lines = blocks.iter().flat_map(|(_, block)| block.lines().skip(1).map(str::to_owned));
    let words = prose.iter().flat_map(|(_, text)| text.split('`').skip(1).step_by(2).map(str::to_owned));
    lines.chain(words).collect()
}

const DOCUMENTS: [&str; 3] = ["CONTRIBUTING.md", "RELEASING.md", "README.md"];

#[test]
fn documents_name_only_targets_that_the_makefile_has() {
    let makefile = fs::read_to_string(root_of_package().join("Makefile")).unwrap();
    for (document, line) in
        DOCUMENTS.iter().flat_map(|document| said(document).into_iter().map(move |line| (document, line)))
    {
        // Text after two spaces is an explanation.
        let Some(targets) = line.split("  ").next().and_then(|command| command.strip_prefix("make ")) else { continue };
        for target in targets.split(' ') {
            let named =
                |line: &str| line.split_once(':').is_some_and(|(names, _)| names.split(' ').any(|name| name == target));
            assert!(makefile.lines().any(named), "{document}: no make {target}");
        }
    }
}

#[test]
fn documents_name_only_tests_and_modules_that_there_are() {
    let tests = output({
        let mut list = Command::new(std::env::current_exe().unwrap());
        list.args(["--list", "--format=terse"]);
        list
    });
    for line in said("CONTRIBUTING.md") {
        let Some(filter) = line.strip_prefix("cargo test --locked --test all ") else { continue };
        let filter = filter.split_whitespace().next().unwrap();
        assert!(filter == "FILTER" || tests.lines().any(|test| test.contains(filter)), "no test for {filter}");
    }
}

#[test]
fn every_knob_is_told_and_every_knob_told_is_read() {
    let contributing = fs::read_to_string(root_of_package().join("CONTRIBUTING.md")).unwrap();
    let knobs = |text: &str| -> std::collections::BTreeSet<String> {
        text.split("XB_")
            .skip(1)
            .map(|rest| rest.chars().take_while(|c| c.is_ascii_uppercase() || *c == '_').collect())
            .collect()
    };
    let mut read = std::collections::BTreeSet::new();
    for file in [
        "tests/setup",
        "tests/fuzz/run",
        "tests/peer/run",
        "tests/docs.rs",
        "tests/support/mod.rs",
        "tests/support/server.rs",
    ] {
        read.append(&mut knobs(&fs::read_to_string(root_of_package().join(file)).unwrap()));
    }
    assert_eq!(knobs(&contributing), read);
}
