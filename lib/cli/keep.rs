//! The command line of xb-keep: each verb is one call.

mod keeping;
mod line;

use std::process::ExitCode;

use clap::Args;

use self::line::{Form, Key, Kind, Of, Place, Verb};
use super::{Console, Tool, human, stdin, stdout};
use crate::error::Result;
use crate::keep::meta::BackupKind;
use crate::keep::status::Format;
use crate::keep::verbs::{
    add, binlog, binlog_floor, cat, drill, init, last_lsn, list, pin, prune, restore, show, status, take, verify,
};
use crate::keep::{Keep, admit, replica};
use crate::report::{Level, Report as _};

/// The name of the program that has verbs.
pub(super) const NAME: &str = "xb-keep";

/// What xb-keep is asked for.
#[derive(Args)]
pub(super) struct Call {
    #[command(subcommand)]
    verb: Verb,
}

/// Runs xb-keep. `status` has the exit status of its state.
pub fn keep(tool: &Tool) -> ExitCode {
    let mut state = None;
    let code = super::run(tool, |call: Call, console| run(call.verb, console, &mut state));
    state.map_or(code, ExitCode::from)
}

fn run(verb: Verb, console: &Console, state: &mut Option<u8>) -> Result<()> {
    match verb {
        Verb::Init(Place { store, config }) => {
            init::run(&store, config.as_deref())?;
            let path = store.join(crate::keep::settings::NAME);
            console.note(
                Level::Info,
                format_args!("{}: is a store; its settings are in {}", store.display(), path.display()),
            );
            Ok(())
        }
        Verb::Full { place, label } => made(&open(&place, None)?, &take::Options { base: None, label }, console),
        Verb::Incr { place, base, label } => {
            made(&open(&place, None)?, &take::Options { base: Some(base), label }, console)
        }
        Verb::Add { place, kind, parent, label, undo, key } => {
            let kind = match kind {
                Kind::Full => BackupKind::Full,
                Kind::Incremental => BackupKind::Incremental,
                Kind::Files => BackupKind::Files,
            };
            let meta =
                add::run(&open(&place, Some(key))?, &add::Options { kind, parent, label, undo }, stdin()?, console)?;
            said(&admit::tell(&meta, human, console), console);
            Ok(())
        }
        Verb::List { place, id: None, json } => {
            let (text, outcome) = list::backups(&open(&place, None)?, json, &human)?;
            answer(&text, console).and(outcome)
        }
        Verb::List { place, id: Some(id), json } => answer(&list::members(&open(&place, None)?, &id, json)?, console),
        Verb::Show { place, id, messages: true, .. } => answer(&show::log(&open(&place, None)?, &id)?, console),
        Verb::Show { place, id, field, .. } => {
            answer(&show::run(&open(&place, None)?, &id, field.as_deref())?, console)
        }
        Verb::Cat { place, id, patterns, raw, key } => {
            cat::run(&open(&place, Some(key))?, &id, &patterns, raw, stdout()?, console)
        }
        Verb::Verify { place, ids, all, pages, key } => {
            verify::run(&open(&place, Some(key))?, &verify::Options { ids, all, pages }, console)
        }
        Verb::Restore { place, id, to, plan, until, replica, datadir, owner, key, .. } => {
            let replica = replica.map(|of| match of {
                Of::Server => replica::Of::Server,
                Of::Source => replica::Of::Source,
            });
            let copy_back = datadir.map(|datadir| restore::CopyBack { datadir, owner });
            let options = restore::Options { id, to, until, replica, copy_back };
            let keep = open(&place, Some(key))?;
            if plan {
                return answer(restore::plan(&keep, &options)?.trim_end(), console);
            }
            let statements = restore::run(&keep, &options, console)?;
            answer(statements.as_deref().unwrap_or_default(), console)
        }
        Verb::Drill { place, id, scratch, key } => {
            let keep = open(&place, Some(key))?;
            let scratch = super::spool_dir(scratch.or_else(|| keep.settings.restore.scratch.clone()));
            drill::run(&keep, &id, &scratch, console)
        }
        Verb::Prune { place, rules, dry_run } => {
            let pruned = prune::run(&open(&place, None)?, &prune::Options { rules: rules.into(), dry_run }, console)?;
            if dry_run || console.verbose() {
                answer(pruned.lines().trim_end(), console)?;
            }
            let would = if dry_run { "would remove" } else { "removed" };
            let text = format!("{would} {} backups, {}", pruned.removed(), human(pruned.bytes));
            said(&text, console);
            Ok(())
        }
        Verb::Pin { place, id } => pin::run(&open(&place, None)?, &id, true),
        Verb::Unpin { place, id } => pin::run(&open(&place, None)?, &id, false),
        Verb::Status { place, format } => {
            // Whatever goes wrong, monitoring must not take it for a state of the store.
            *state = Some(3);
            let status = open(&place, None).and_then(|keep| status::run(&keep));
            let format = match format {
                Form::Nagios => Format::Nagios,
                Form::Zabbix => Format::Zabbix,
                Form::Json => Format::Json,
                Form::Prometheus => Format::Prometheus,
            };
            match status {
                Ok(status) => {
                    console.answer(&status.print(format))?;
                    *state = Some(status.state.code());
                    Ok(())
                }
                Err(error) => {
                    console.answer(&if format == Format::Zabbix {
                        "3".to_owned()
                    } else {
                        format!("UNKNOWN - {error}")
                    })?;
                    Err(error)
                }
            }
        }
        Verb::Binlog { place, once, after_gap } => {
            binlog::run(&open(&place, None)?, binlog::Options { once, after_gap }, console)
        }
        Verb::BinlogFloor(place) => answer(&binlog_floor::run(&open(&place, None)?)?, console),
        Verb::LastLsn { place, id } => answer(&last_lsn::run(&open(&place, None)?, &id)?, console),
    }
}

fn open(place: &Place, key: Option<Key>) -> Result<Keep> {
    let keep = Keep::open(&place.store, place.config.as_deref(), super::spool_dir(None))?;
    Ok(Keep { key: key.and_then(|key| key.key_file), ..keep })
}

/// Makes a backup, and says how it went: on a terminal or in a log, but not in a mail of cron.
fn made(keep: &Keep, options: &take::Options, console: &Console) -> Result<()> {
    let meta = take::run(keep, options, console)?;
    said(&admit::tell(&meta, human, console), console);
    Ok(())
}

/// The line of a result.
fn said(text: &str, console: &Console) {
    console.note(Level::Info, format_args!("{text}"));
}

fn answer(text: &str, console: &Console) -> Result<()> {
    if text.is_empty() { Ok(()) } else { console.answer(&text) }
}
