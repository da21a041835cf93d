//! Messages and progress on stderr. A closed or full stderr never ends a run.

use std::fmt::Arguments;
use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crossbeam_channel::RecvTimeoutError;
use serde_json::json;

use super::meter::{Meter, Pace};
use super::{Common, Log};
use crate::error::{Error, Kind, Result};
use crate::report::{Level, Report};

/// Prints what a job reports, according to the common options.
pub struct Console {
    tool: &'static str,
    least: Level,
    log: Log,
    meter: Meter,
    /// Facts that jobs have reported for the summary.
    facts: Mutex<serde_json::Map<String, serde_json::Value>>,
}

impl Console {
    pub(super) fn new(tool: &'static str, common: &Common) -> Self {
        let least = match (common.verbose, common.quiet) {
            (true, _) => Level::Detail,
            (_, true) => Level::Warning,
            _ => Level::Info,
        };
        Console { tool, least, log: common.log, meter: Meter::new(tool, common), facts: Mutex::default() }
    }

    /// True with `--verbose`.
    pub fn verbose(&self) -> bool {
        self.least == Level::Detail
    }

    /// Does `work` for a tool whose purpose is to show progress: it is also printed in logs, unless `--quiet`, at
    /// regular intervals even if nothing moves, and once more at the end.
    pub fn metered<T>(&self, pace: Pace, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let Some(interval) = self.meter.pace(pace) else { return work() };
        let (over, ended) = crossbeam_channel::bounded::<()>(0);
        std::thread::scope(|scope| {
            let clock = move || {
                let mut next = Instant::now() + interval;
                while ended.recv_deadline(next) == Err(RecvTimeoutError::Timeout) {
                    self.meter.beat(|fields| self.object(fields));
                    next += interval;
                }
            };
            // Without a thread, progress is only printed at the end.
            let clock = std::thread::Builder::new().name("meter".to_owned()).spawn_scoped(scope, clock);
            let done = work();
            drop(over);
            if clock.is_ok_and(|clock| clock.join().is_ok()) {
                self.meter.beat(|fields| self.object(fields));
            }
            done
        })
    }

    /// Prints the result of a job on stderr, unchanged.
    pub fn result(&self, bytes: &[u8]) {
        match self.log {
            Log::Text => {
                self.meter.clear();
                drop(std::io::stderr().write_all(bytes));
            }
            Log::Json => escaped(bytes).lines().for_each(|line| self.line("result", line)),
        }
    }

    /// Prints the answer to a query on stdout. A broken pipe is ignored: the reader does not need the rest.
    pub fn answer(&self, text: &dyn std::fmt::Display) -> Result<()> {
        match crate::io::stdout()?.write_all(format!("{text}\n").as_bytes()) {
            Err(cause) if cause.kind() != std::io::ErrorKind::BrokenPipe => {
                Err(Error::io("stdout", "cannot write", &cause))
            }
            _ => Ok(()),
        }
    }

    /// Erases the progress line.
    pub(super) fn finish(&self) {
        self.meter.clear();
    }

    /// Prints the last line of a JSON log: how the run ended, and its facts.
    pub(super) fn summary(&self, exit_code: u8) {
        if self.log == Log::Text {
            return;
        }
        let facts = std::mem::take(&mut *self.facts.lock().unwrap_or_else(PoisonError::into_inner));
        let mut line = json!({
            "event": "summary",
            "exit_code": exit_code,
            "elapsed_s": self.meter.elapsed().as_secs_f64(),
            "bytes": self.meter.done(),
        });
        if let Some(line) = line.as_object_mut() {
            line.extend(facts);
        }
        self.raw(&self.object(&line));
    }

    /// Prints the result of `--verify`, if all is well.
    pub fn verified(&self, summary: &crate::unpack::Summary) {
        let words = if summary.proved { "complete" } else { "whole" };
        let (members, bytes) = (summary.members, super::human(summary.bytes));
        self.note(Level::Info, format_args!("stdin: {words}: {members} members, {bytes}"));
    }

    fn line(&self, level: &str, text: &str) {
        self.raw(&message(self.tool, self.log, level, text));
    }

    fn object(&self, fields: &serde_json::Value) -> String {
        object(self.tool, fields)
    }

    fn raw(&self, text: &str) {
        self.meter.raw(text);
    }

    fn tick(&self) {
        self.meter.tick(|fields| self.object(fields));
    }
}

/// The text, with `\xff` for a byte that is not UTF-8. (`xb-sum` escapes a backslash in a name.)
fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    text
}

/// A log line.
pub(super) fn message(tool: &str, log: Log, level: &str, text: &str) -> String {
    match (log, level) {
        (Log::Json, _) => object(tool, &json!({ "level": level, "message": text })),
        (Log::Text, "hint") => format!("hint: {text}"),
        (Log::Text, _) => format!("{tool}: {text}"),
    }
}

fn object(tool: &str, fields: &serde_json::Value) -> String {
    let now = jiff::Timestamp::now().round(jiff::Unit::Millisecond).unwrap_or_default();
    let mut line = json!({ "ts": now.to_string(), "tool": tool });
    if let (Some(line), Some(fields)) = (line.as_object_mut(), fields.as_object()) {
        line.extend(fields.clone());
    }
    line.to_string()
}

impl Report for Console {
    fn note(&self, level: Level, text: Arguments<'_>) {
        if level >= self.least {
            let name = match level {
                Level::Detail => "detail",
                Level::Info => "info",
                Level::Warning => "warning",
            };
            self.line(name, &text.to_string());
        }
    }

    /// Prints the error and its hint.
    fn error(&self, error: &Error) {
        if error.is_unsaid() {
            return;
        }
        if error.kind() == Kind::Pipe {
            let sent = self.meter.done();
            let known = if sent > 0 { format!(" after {sent} bytes") } else { String::new() };
            self.line("error", &format!("{error}{known}"));
        } else {
            self.line("error", &error.to_string());
        }
        let advice = error.advice().or((error.kind() == Kind::Pipe)
            .then_some("the next program in the pipe ended first; check its message and exit status"));
        if let Some(advice) = advice {
            self.line("hint", advice);
        }
    }

    fn expect(&self, bytes: u64) {
        self.meter.expect(bytes);
    }

    fn facts(&self, facts: serde_json::Value) {
        if let serde_json::Value::Object(facts) = facts {
            self.facts.lock().unwrap_or_else(PoisonError::into_inner).extend(facts);
        }
    }

    fn advance(&self, bytes: u64) {
        self.meter.advance(bytes);
        self.tick();
    }

    fn stage(&self, text: &str) {
        self.meter.stage(text);
        self.tick();
    }
}
