//! `drill`: proves that a backup restores. It is restored into a scratch directory, a private server starts there, and
//! checks every table.

use std::path::Path;
use std::time::Instant;

use crate::error::{Error, Kind, Result};
use crate::keep::Keep;
use crate::keep::meta::{Note, What};
use crate::keep::private::{self, Private};
use crate::keep::store::Use;
use crate::keep::verbs::{restore, verify};
use crate::report::{Level, Report};

/// Drills a backup, and notes the verdict and how long it took.
///
/// # Errors
///
/// Damaged, if it does not restore or a table is bad; Failed, if it could not be tried.
pub fn run(keep: &Keep, id: &str, scratch: &Path, report: &dyn Report) -> Result<()> {
    let _held = keep.store.hold(Use::Read)?;
    let catalog = keep.catalog()?;
    let backup = catalog.find(id)?;
    let began = Instant::now();
    let room = tempfile::Builder::new().prefix("xb-drill-").tempdir_in(scratch);
    let room = room.map_err(|cause| Error::io(scratch.display(), "cannot write", &cause))?;
    let attempt = || -> Result<(Checked, u64)> {
        let to = room.path().join("data");
        let options =
            restore::Options { id: id.to_owned(), to: to.clone(), until: None, replica: None, copy_back: None };
        restore::restore(keep, &catalog.chain(backup)?, &options, report)?;
        let restored = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        report.stage("checking tables");
        let mut server = Private::start(keep, &backup.meta, &to, room.path())?;
        let checked = check(&mut server, report)?;
        server.stop()?;
        Ok((checked, restored))
    };
    let outcome = attempt();
    let millis = u64::try_from(began.elapsed().as_millis()).ok();
    let id = &backup.meta.id;
    match outcome {
        Ok((checked, restored)) => {
            let detail = format!("{} tables checked; restored in {} s", checked.tables, restored.div_ceil(1000));
            report.facts(serde_json::json!({ "id": id, "tables": checked.tables, "restore_ms": restored }));
            verify::note(
                keep,
                backup,
                Note { millis, detail: detail.clone(), ..Note::new(What::Drilled, true) },
                report,
            );
            report.note(Level::Info, format_args!("{id}: drilled: {detail}"));
            Ok(())
        }
        // That the scratch directory is full, or no server is here, says nothing about the backup.
        Err(error) if !matches!(error.kind(), Kind::Damaged | Kind::Invalid) => Err(error),
        Err(error) => {
            let detail = error.to_string();
            verify::note(keep, backup, Note { millis, detail, ..Note::new(What::Drilled, false) }, report);
            Err(error)
        }
    }
}

/// What was checked.
struct Checked {
    tables: usize,
}

/// `CHECK TABLE` of every table.
fn check(server: &mut Private, report: &dyn Report) -> Result<Checked> {
    let tables = server.rows(
        "SELECT TABLE_SCHEMA, TABLE_NAME, ENGINE FROM information_schema.TABLES WHERE TABLE_TYPE = 'BASE TABLE' AND \
         TABLE_SCHEMA NOT IN ('information_schema', 'performance_schema', 'sys') ORDER BY 1, 2",
    )?;
    let (mut checked, mut bad, mut passed) = (0, Vec::new(), Vec::new());
    for row in &tables {
        let [schema, table, engine] = row.as_slice() else { return Err(Error::internal("a row of another width")) };
        let (schema, table) = (schema.clone().unwrap_or_default(), table.clone().unwrap_or_default());
        if engine.is_none() {
            // Of an engine that this server does not have.
            passed.push(format!("{schema}.{table}"));
            continue;
        }
        let quoted = |name: &str| format!("`{}`", name.replace('`', "``"));
        for row in server.rows(&format!("CHECK TABLE {}.{}", quoted(&schema), quoted(&table)))? {
            let column = |number: usize| row.get(number).cloned().flatten().unwrap_or_default();
            let (kind, text) = (column(2).to_lowercase(), column(3));
            let fine =
                kind == "note" || kind == "status" && (text == "OK" || text.starts_with("Table is already up to date"));
            if (kind == "error" || kind == "status" && !fine) && private::blames_host(&text) {
                return Err(Error::failed(format_args!("CHECK TABLE {schema}.{table}"), text)
                    .hint("this says nothing about the backup; try again when the reason is gone"));
            }
            if kind == "error" || kind == "status" && !fine {
                bad.push(format!("{schema}.{table}: {text}"));
            }
        }
        checked += 1;
    }
    if !passed.is_empty() {
        let (count, first) = (passed.len(), passed.first().cloned().unwrap_or_default());
        report.note(
            Level::Warning,
            format_args!("{count} tables were not checked, for this server lacks their engine: {first}"),
        );
    }
    match bad.as_slice() {
        [] if checked == 0 => Err(Error::damaged("CHECK TABLE", "the restored server has no table")),
        [] => Ok(Checked { tables: checked }),
        [first, ..] => Err(Error::damaged("CHECK TABLE", format_args!("{} messages, the first: {first}", bad.len()))),
    }
}
