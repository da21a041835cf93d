//! Speaks the command lines of mariadb-backup, xtrabackup, xbstream and their kin.

use std::alloc::System;
use std::ffi::OsString;
use std::process::ExitCode;

use clap::Args;
use xb::Error;
use xb::cli::{self, Tool};
use xb::front;
use zeroizing_alloc::ZeroAlloc;

/// What is freed is overwritten: a command line may have had a password.
#[global_allocator]
static MEMORY: ZeroAlloc<System> = ZeroAlloc(System);

const TOOL: Tool = Tool {
    name: env!("CARGO_BIN_NAME"),
    about: "Carry out command lines of mariadb-backup, xtrabackup and their kin",
    man: include_str!("../man/xb-front.1.in"),
};

#[derive(Args)]
struct Front {
    /// The stock program; a symbolic link with its name to xb-front does the same
    #[arg(value_name = "NAME", value_parser = front::NAMES)]
    name: String,
    /// Its arguments; NAME --help lists them
    #[arg(value_name = "ARGS", trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

fn main() -> ExitCode {
    cli::front(std::env::args_os().collect()).unwrap_or_else(|| {
        cli::run(&TOOL, |front: Front, _| {
            let _ = front.arguments;
            Err(Error::usage(front.name, "stands first").hint("xb-front NAME ARGS"))
        })
    })
}
