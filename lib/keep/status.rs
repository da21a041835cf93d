//! What monitoring wants to know. Pure: a catalogue, limits and the time go in; a state and its figures come out.

mod logs;

use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::json;

use super::binlog::Archive;
use super::catalog::{Backup, Catalog};
use super::meta::{BackupKind, What};
use super::settings::{Levels, Limits};
use super::store::Space;

/// As Nagios has them; the number is the exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// All is well.
    Ok = 0,
    /// Somebody should look.
    Warning = 1,
    /// Somebody must look.
    Critical = 2,
}

impl State {
    /// Its exit status.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            State::Ok => "OK",
            State::Warning => "WARNING",
            State::Critical => "CRITICAL",
        }
    }
}

/// A figure with its limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figure {
    /// `any_age`, `free`: as in the settings.
    pub name: &'static str,
    /// The value; `None` if there is nothing to measure.
    pub value: Option<u64>,
    /// `s` or `B`.
    pub unit: &'static str,
    /// The limit for a warning and for an alarm.
    pub limits: Option<(u64, u64)>,
}

/// The state of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The worst of all that was found.
    pub state: State,
    /// What is not well, the worst first; else what is there.
    pub words: Vec<String>,
    /// Figures.
    pub figures: Vec<Figure>,
}

/// The form in which it is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One line with performance data.
    Nagios,
    /// The number of the state.
    Zabbix,
    /// An object.
    Json,
    /// Text for the node exporter's directory.
    Prometheus,
}

/// Judges a store.
pub fn judge(catalog: &Catalog, archives: &[Archive], limits: &Limits, space: Option<Space>, now: Timestamp) -> Status {
    let mut found: Vec<(State, String)> = Vec::new();
    let mut figures = Vec::new();
    let backups = || catalog.backups.iter().filter(|backup| backup.meta.kind != BackupKind::Files);
    let good =
        || backups().filter(|backup| catalog.chain(backup).is_ok_and(|chain| chain.iter().all(|one| one.is_good())));
    let proof = |what| backups().filter_map(move |backup| backup.proof(what)).map(|note| note.at).max();
    let ages = [
        ("any_age", "backup", limits.any_age, good().map(|backup| backup.meta.start).max()),
        (
            "full_age",
            "full backup",
            limits.full_age,
            good().filter(|backup| backup.meta.kind == BackupKind::Full).map(|backup| backup.meta.start).max(),
        ),
        ("verified_age", "verified backup", limits.verified_age, proof(What::Verified).max(proof(What::Drilled))),
        ("drilled_age", "drilled backup", limits.drilled_age, proof(What::Drilled)),
    ];
    for (name, what, levels, at) in ages {
        let age = at.map(|at| u64::try_from(now.duration_since(at).as_secs()).unwrap_or(0));
        found.extend(levels.and_then(|levels| of_age(what, levels, age)));
        figures.push(Figure {
            name,
            value: age,
            unit: "s",
            limits: levels.map(|levels| (levels.warning, levels.critical)),
        });
    }
    for (id, error) in &catalog.damaged {
        found.push((State::Critical, format!("{id} is damaged: {error}")));
    }
    for backup in backups() {
        found.extend(of_backup(catalog, backup));
    }
    for remains in catalog.remains.iter().filter(|remains| remains.lost) {
        found.push((State::Critical, format!("{} has lost its meta.json", remains.id)));
    }
    let missing = logs::of(archives, &good().collect::<Vec<_>>(), now);
    let gaps = missing.len() as u64;
    found.extend(missing.into_iter().map(|(state, what)| (state, format!("binary logs: {what}"))));
    let newest = good().map(|backup| backup.meta.end).max();
    if let Some(failure) = catalog.failure.as_ref().filter(|failure| newest.is_none_or(|newest| failure.at > newest)) {
        found.push((State::Warning, format!("the last run failed: {}", failure.error)));
    }
    if let Some(space) = space {
        let of_total = |percent: u8| space.total / 100 * u64::from(percent);
        let levels = limits.free.map(|free| (of_total(free.warning), of_total(free.critical)));
        if let Some((warning, critical)) = levels.filter(|(warning, _)| space.free < *warning) {
            let state = if space.free < critical { State::Critical } else { State::Warning };
            let percent = space.free.saturating_mul(100) / space.total.max(1);
            let _ = warning;
            found.push((state, format!("{percent} % of the space is free")));
        }
        figures.push(Figure { name: "free", value: Some(space.free), unit: "B", limits: levels });
    }
    figures.push(Figure { name: "backups", value: Some(backups().count() as u64), unit: "", limits: None });
    let stored = catalog.backups.iter().fold(0, |sum: u64, backup| sum.saturating_add(backup.stored));
    figures.push(Figure { name: "stored", value: Some(stored), unit: "B", limits: None });
    if !archives.is_empty() {
        figures.push(Figure { name: "binlog_gaps", value: Some(gaps), unit: "", limits: None });
    }
    found.sort_by_key(|(state, _)| std::cmp::Reverse(*state));
    let state = found.iter().map(|(state, _)| *state).max().unwrap_or(State::Ok);
    let mut words: Vec<String> = found.into_iter().map(|(_, words)| words).collect();
    if words.is_empty() {
        let last = good().max_by_key(|backup| backup.meta.start);
        words.extend(last.map(|last| format!("last backup {}", last.meta.id)));
    }
    Status { state, words, figures }
}

fn of_age(what: &str, levels: Levels, age: Option<u64>) -> Option<(State, String)> {
    let Some(age) = age else { return Some((State::Critical, format!("there is no {what}"))) };
    let state = match age {
        age if age >= levels.critical => State::Critical,
        age if age >= levels.warning => State::Warning,
        _ => return None,
    };
    Some((state, format!("the newest {what} is {} old", span(age))))
}

/// What is wrong with one backup.
fn of_backup(catalog: &Catalog, backup: &Backup) -> Option<(State, String)> {
    let id = &backup.meta.id;
    if let Some(fault) = &backup.fault {
        return Some((State::Critical, format!("{id}: {fault}")));
    }
    if !backup.is_good() {
        let what = backup.notes.iter().rev().find(|note| !note.good).map_or("", |note| note.detail.as_str());
        return Some((State::Critical, format!("{id} is bad: {what}")));
    }
    match catalog.chain(backup) {
        Err(error) => Some((State::Critical, error.to_string())),
        Ok(_) => None,
    }
}

/// Seconds for people: `3 d 4 h`.
pub fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

impl Status {
    /// In a form, without a newline at the end.
    pub fn print(&self, format: Format) -> String {
        match format {
            Format::Nagios => self.nagios(),
            Format::Zabbix => self.state.code().to_string(),
            Format::Json => {
                let figures: serde_json::Map<_, _> =
                    self.figures.iter().map(|figure| (figure.name.to_owned(), json!(figure.value))).collect();
                json!({ "state": self.state.word(), "code": self.state.code(), "words": self.words, "figures": figures }).to_string()
            }
            Format::Prometheus => self.prometheus(),
        }
    }

    fn nagios(&self) -> String {
        // Performance data begin at the first bar.
        let mut line = format!("{} - {}", self.state.word(), self.words.join("; ")).replace(['|', '\n'], " ");
        line.push_str(" |");
        for Figure { name, value, unit, limits } in &self.figures {
            let Some(value) = value else { continue };
            let _ = write!(line, " {name}={value}{unit}");
            // Of what is free, less is worse.
            let least = if *name == "free" { ":" } else { "" };
            if let Some((warning, critical)) = limits {
                let _ = write!(line, ";{warning}{least};{critical}{least}");
            }
        }
        line
    }

    fn prometheus(&self) -> String {
        let mut text = String::new();
        let mut gauge = |name: &str, help: &str, value: u64| {
            let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}\n");
        };
        gauge("xb_keep_state", "0 is OK, 1 WARNING, 2 CRITICAL.", self.state.code().into());
        for Figure { name, value, unit, .. } in &self.figures {
            let (suffix, help) = match *unit {
                "s" => ("_seconds", "Age in seconds."),
                "B" => ("_bytes", "Size in bytes."),
                _ => ("", "Number."),
            };
            if let Some(value) = value {
                gauge(&format!("xb_keep_{name}{suffix}"), help, *value);
            }
        }
        text.trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_store_is_critical_in_every_form() {
        let limits = Limits::default();
        let space = Some(Space { free: 4_000, total: 100_000 });
        let status = judge(&Catalog::default(), &[], &limits, space, Timestamp::UNIX_EPOCH);
        assert_eq!(status.state, State::Critical);
        let line = status.print(Format::Nagios);
        assert!(
            line.starts_with("CRITICAL - there is no backup; there is no full backup; 4 % of the space is free | ")
        );
        assert!(line.contains("free=4000B;10000:;5000:"), "{line}");
        assert_eq!(status.print(Format::Zabbix), "2");
        let object: serde_json::Value = serde_json::from_str(&status.print(Format::Json)).unwrap();
        assert!(object["code"] == 2 && object["figures"]["any_age"].is_null());
        assert!(status.print(Format::Prometheus).contains("\nxb_keep_state 2\n"));
    }

    #[test]
    fn an_age_is_judged_by_its_limits() {
        let levels = Levels { warning: 3600, critical: 7200 };
        let state = |age| of_age("backup", levels, Some(age)).map(|(state, _)| state);
        assert_eq!([state(3599), state(3600), state(7200)], [None, Some(State::Warning), Some(State::Critical)]);
        let words = of_age("backup", levels, Some(200_000)).map(|(_, words)| words);
        assert_eq!(words.as_deref(), Some("the newest backup is 2 d old"));
    }
}
