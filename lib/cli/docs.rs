//! Man pages and completions, generated from the definitions of the arguments (`--generate man|bash|zsh|fish`).

use std::ffi::OsString;
use std::io::Write;

use clap::{Arg, Command, ValueEnum};

use super::Tool;

/// What `--generate` prints.
#[derive(ValueEnum, Debug, Clone, Copy)]
pub(super) enum What {
    Man,
    Bash,
    Zsh,
    Fish,
}

/// Finds `--generate WHAT` before the arguments are checked.
pub(super) fn wanted(args: impl Iterator<Item = OsString>) -> Option<What> {
    let args: Vec<OsString> = args.skip(1).collect();
    let value = match args.as_slice() {
        [one] => one.to_str()?.strip_prefix("--generate=")?.to_owned(),
        [option, value] if option == "--generate" => value.to_str()?.to_owned(),
        _ => return None,
    };
    What::from_str(&value, false).ok()
}

pub(super) fn print(tool: &Tool, command: &mut Command, what: What) {
    let mut out = Vec::new();
    match what {
        What::Man => out = man(tool, command).into_bytes(),
        What::Bash => clap_complete::generate(clap_complete::Shell::Bash, command, tool.name, &mut out),
        What::Zsh => clap_complete::generate(clap_complete::Shell::Zsh, command, tool.name, &mut out),
        What::Fish => clap_complete::generate(clap_complete::Shell::Fish, command, tool.name, &mut out),
    }
    let _ = std::io::stdout().write_all(&out);
}

/// The text of `man/NAME.1.in`, with the options inserted.
fn man(tool: &Tool, command: &Command) -> String {
    let mut command = command.clone().mut_args(with_aliases);
    command.build();
    let verbs: String = command.get_subcommands().map(verb).collect();
    let page = clap_mangen::Man::new(command);
    let mut options = Vec::new();
    // Writing to memory cannot fail.
    let _ = page.render_options_section(&mut options);
    let options = String::from_utf8_lossy(&options);
    let body = body(&options);
    tool.man
        .replace("@VERSION@", env!("CARGO_PKG_VERSION"))
        .replace("@OPTIONS@", body.trim_end())
        .replace("@VERBS@", verbs.trim_end())
        .replace("@TABLES@", &crate::front::troff())
}

/// A verb: how it is called, what it does, and its options, without those that all have.
fn verb(verb: &Command) -> String {
    let operands = verb.get_positionals().map(|operand| {
        let name = operand.get_value_names().and_then(|names| names.first()).map_or("", |name| name.as_str());
        let many = if matches!(operand.get_action(), clap::ArgAction::Append) { "..." } else { "" };
        if operand.is_required_set() { format!(" {name}") } else { format!(" [{name}{many}]") }
    });
    let call = format!("{}{}", verb.get_name(), operands.collect::<String>());
    let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
    let own = verb.clone().mut_args(|option| if option.is_global_set() { option.hide(true) } else { option });
    let mut options = Vec::new();
    let _ = clap_mangen::Man::new(own).render_options_section(&mut options);
    let options = String::from_utf8_lossy(&options);
    format!(".SS \"{}\"\n{}.\n{}\n", call.replace('-', "\\-"), about.replace('-', "\\-"), body(&options))
}

/// The options of a section, without its heading.
fn body(options: &str) -> String {
    let body = options.split_once(".SH OPTIONS\n").map_or(options, |(_, body)| body);
    // mandoc's lint forbids an empty paragraph before a heading, a break without text, and two consecutive breaks.
    body.trim_end_matches(['\n', ' '])
        .trim_end_matches(".br")
        .replace(".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n", "")
        .replace("\\*(Aq", "\\(aq")
        .replace("\n.br\n\n.br\n", "\n.sp\n")
}

/// Adds an option's other names, which the page would lack otherwise.
fn with_aliases(option: Arg) -> Arg {
    let names = option.get_visible_aliases().unwrap_or_default();
    if names.is_empty() {
        return option;
    }
    let names: Vec<String> = names.iter().map(|name| format!("--{name}")).collect();
    let help = option.get_help().map(ToString::to_string).unwrap_or_default();
    option.help(format!("{help} [also {}]", names.join(", ")))
}
