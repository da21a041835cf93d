//! What programs say: kept, and told apart.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use super::OURS;
use crate::report::{Level, Report};

/// How much of what programs say is kept, in bytes; the oldest goes first.
const LOG: usize = 4 << 20;
/// How many bytes of it a note of a failed run has.
const TAIL: usize = 8 << 10;

/// What the programs of a chain say.
#[derive(Debug, Default)]
struct Said {
    lines: VecDeque<String>,
    size: usize,
    /// The last error of each program, by its place.
    errors: Vec<(usize, String)>,
    /// What each told at its end, by its place.
    facts: Vec<(usize, Value)>,
    /// Notes that the operator should see, in the order in which they came.
    notes: VecDeque<(Level, String)>,
}

/// Shared by the threads that listen.
#[derive(Clone, Debug, Default)]
pub struct Ear(Arc<Mutex<Said>>);

impl Ear {
    fn said(&self) -> MutexGuard<'_, Said> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A line of the program at this place.
    pub(super) fn hear(&self, place: usize, name: &str, line: &[u8]) {
        let plain = String::from_utf8_lossy(line).into_owned();
        let object =
            serde_json::from_slice::<Value>(line).ok().filter(|value| value.is_object() && OURS.contains(&name));
        let mut said = self.said();
        let Some(object) = object else {
            // The last words of a program are its error, if it fails.
            said.error(place, plain.clone());
            return said.keep(format!("{name}: {plain}"));
        };
        let word = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
        match word("event") {
            "summary" => said.facts.push((place, object)),
            "" => {
                let message = word("message").to_owned();
                said.keep(format!("{} {name}: {}: {message}", word("ts"), word("level")));
                match word("level") {
                    "error" => said.error(place, message),
                    "warning" => said.notes.push_back((Level::Warning, format!("{name}: {message}"))),
                    "info" => said.notes.push_back((Level::Detail, format!("{name}: {message}"))),
                    _ => {}
                }
            }
            // How far it is.
            _ => {}
        }
    }

    /// The last error of the program at this place.
    pub(super) fn error(&self, place: usize) -> Option<String> {
        self.said().errors.iter().find(|(of, _)| *of == place).map(|(_, text)| text.clone())
    }

    /// All that was said, a line each.
    pub fn log(&self) -> String {
        self.said().lines.iter().map(|line| format!("{line}\n")).collect()
    }

    /// The end of it.
    pub fn tail(&self) -> String {
        let log = self.log();
        let from = (0..=log.len().saturating_sub(TAIL)).rev().find(|at| log.is_char_boundary(*at)).unwrap_or(0);
        log.get(from..).unwrap_or_default().to_owned()
    }

    /// Passes on what the operator should see.
    pub fn tell(&self, report: &dyn Report) {
        let notes = std::mem::take(&mut self.said().notes);
        for (level, text) in notes {
            report.note(level, format_args!("{text}"));
        }
    }

    /// What the program at this place told at its end.
    pub fn facts(&self, place: usize) -> Value {
        self.said().facts.iter().find(|(of, _)| *of == place).map(|(_, facts)| facts.clone()).unwrap_or_default()
    }
}

impl Said {
    fn keep(&mut self, line: String) {
        self.size += line.len();
        self.lines.push_back(line);
        while self.size > LOG {
            let Some(oldest) = self.lines.pop_front() else { break };
            self.size -= oldest.len();
        }
    }

    fn error(&mut self, place: usize, text: String) {
        self.errors.retain(|(of, _)| *of != place);
        self.errors.push((place, text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_our_programs_say_is_told_apart() {
        let ear = Ear::default();
        ear.hear(1, "xb-zip", br#"{"ts":"T","tool":"xb-zip","level":"error","message":"stdin: truncated"}"#);
        ear.hear(1, "xb-zip", br#"{"event":"progress","bytes":1}"#);
        ear.hear(0, "xb-snap", br#"{"event":"summary","end_lsn":7}"#);
        ear.hear(2, "gzip", br#"{"event":"summary"}"#);
        assert_eq!(ear.facts(0)["end_lsn"], 7);
        assert_eq!(ear.log(), "T xb-zip: error: stdin: truncated\ngzip: {\"event\":\"summary\"}\n");
        assert_eq!(ear.said().errors.first().unwrap(), &(1, "stdin: truncated".to_owned()));
    }
}
