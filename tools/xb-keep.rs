//! Keeps backups: takes, lists, proves, restores and prunes them.

use std::process::ExitCode;

use xb::cli::{self, Tool};

const TOOL: Tool = Tool {
    name: env!("CARGO_BIN_NAME"),
    about: "Take, keep, watch, prove and restore sets of backups",
    man: include_str!("../man/xb-keep.1.in"),
};

fn main() -> ExitCode {
    cli::keep(&TOOL)
}
