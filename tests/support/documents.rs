//! Examples in Markdown and in man pages.

use std::fs;
use std::path::Path;

/// A block of shell, and what it is about.
#[derive(Clone, Debug)]
pub struct Example {
    /// In a page the heading of its subsection, in Markdown the line before it.
    pub title: String,
    pub text: String,
}

/// The `sh` blocks of a file in Markdown.
pub fn of_markdown(file: &Path) -> Vec<Example> {
    let text = fs::read_to_string(file).unwrap();
    let mut before = "";
    let mut found = Vec::new();
    for part in text.split("\n```sh\n") {
        let (block, after) = part.split_once("\n```\n").unwrap_or(("", part));
        if !block.is_empty() {
            found.push(example(before.trim_end().lines().last().unwrap_or_default(), block));
        }
        before = after;
    }
    found
}

/// The `.EX` … `.EE` blocks in a section of a page, without the escapes of roff.
pub fn of_page(page: &Path, section: &str) -> Vec<Example> {
    let text = fs::read_to_string(page).unwrap();
    let after = text.split(&format!(".SH {section}\n")).nth(1).unwrap_or_default();
    let section = after.split("\n.SH ").next().unwrap_or_default();
    let mut found = Vec::new();
    for part in section.split(".SS ") {
        let title = part.lines().next().unwrap_or_default();
        let blocks = part.split(".EX\n").skip(1);
        found.extend(blocks.map(|block| example(title, &plain(block.split("\n.EE").next().unwrap()))));
    }
    found
}

fn example(title: &str, text: &str) -> Example {
    Example { title: plain(title), text: text.to_owned() }
}

fn plain(roff: &str) -> String {
    [("\\-", "-"), ("\\(aq", "'"), ("\\(dq", "\""), ("\\&", ""), ("\\e", "\\"), ("\\(ti", "~"), ("\\(ha", "^")]
        .iter()
        .fold(roff.to_owned(), |text, (escape, letter)| text.replace(escape, letter))
}
