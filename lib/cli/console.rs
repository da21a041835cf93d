//! Messages and progress on stderr. A closed or full stderr never harms a run.

use std::fmt::Arguments;
use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use super::{Common, Log, When};
use crate::error::{Error, Kind};
use crate::report::{Level, Report};

/// How often a log gets a progress line.
const LOG_INTERVAL: Duration = Duration::from_secs(5);
/// How often `--progress=json` speaks.
const JSON_INTERVAL: Duration = Duration::from_secs(1);

/// Prints what a job reports, as the common options ask for it.
pub struct Console {
    tool: &'static str,
    least: Level,
    log: Log,
    meter: Meter,
    bar: ProgressBar,
    done: AtomicU64,
    total: AtomicU64,
    start: Instant,
    last: Mutex<Instant>,
    now: Mutex<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Meter {
    Off,
    Bar,
    Lines,
    Json,
}

impl Console {
    pub(super) fn new(tool: &'static str, common: &Common) -> Self {
        let terminal = std::io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let meter = match common.progress {
            When::Never => Meter::Off,
            When::Json => Meter::Json,
            When::Always if !terminal => Meter::Lines,
            When::Auto if !terminal || common.quiet => Meter::Off,
            When::Auto | When::Always => Meter::Bar,
        };
        let target =
            if meter == Meter::Bar { ProgressDrawTarget::stderr_with_hz(8) } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target).with_prefix(tool);
        bar.set_style(style("{prefix}: {bytes} {elapsed_precise} {bytes_per_sec} {wide_msg}"));
        let least = match (common.verbose, common.quiet) {
            (true, _) => Level::Detail,
            (_, true) => Level::Warning,
            _ => Level::Info,
        };
        let start = Instant::now();
        Console {
            tool,
            least,
            log: common.log,
            meter,
            bar,
            done: AtomicU64::new(0),
            total: AtomicU64::new(0),
            start,
            last: Mutex::new(start),
            now: Mutex::new(String::new()),
        }
    }

    /// The answer to a question, on stdout. A reader that went away has no use for it.
    pub fn answer(&self, text: &dyn std::fmt::Display) {
        let _ = std::io::stdout().write_all(format!("{text}\n").as_bytes());
    }

    /// Takes the progress line away.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// What `--verify` says when all is well.
    pub fn verified(&self, summary: &crate::unpack::Summary) {
        let words = if summary.proved { "complete" } else { "whole" };
        let (members, bytes) = (summary.members, super::human(summary.bytes));
        self.note(Level::Info, format_args!("stdin: {words}: {members} members, {bytes}"));
    }

    /// The line and hint of a failure.
    pub(super) fn error(&self, error: &Error) {
        if error.kind() == Kind::Pipe {
            let sent = self.done.load(Relaxed);
            let known = if sent > 0 { format!(" after {sent} bytes") } else { String::new() };
            self.line("error", &format!("{error}{known}"));
        } else {
            self.line("error", &error.to_string());
        }
        let advice = error.advice().or((error.kind() == Kind::Pipe)
            .then_some("the next program in the pipe ended first; look at its message and exit status"));
        if let Some(advice) = advice {
            match self.log {
                Log::Text => self.raw(&format!("hint: {advice}")),
                Log::Json => self.line("hint", advice),
            }
        }
    }

    fn line(&self, level: &str, text: &str) {
        match self.log {
            Log::Text => self.raw(&format!("{}: {text}", self.tool)),
            Log::Json => self.raw(&self.object(&json!({ "level": level, "message": text }))),
        }
    }

    fn object(&self, fields: &serde_json::Value) -> String {
        let mut line = json!({ "ts": jiff::Timestamp::now().round(jiff::Unit::Millisecond).unwrap_or_default().to_string(), "tool": self.tool });
        if let (Some(line), Some(fields)) = (line.as_object_mut(), fields.as_object()) {
            line.extend(fields.clone());
        }
        line.to_string()
    }

    fn raw(&self, text: &str) {
        self.bar.suspend(|| say(text));
    }

    /// A line of progress for a log, at most one per interval.
    fn tick(&self) {
        let interval = match self.meter {
            Meter::Lines => LOG_INTERVAL,
            Meter::Json => JSON_INTERVAL,
            Meter::Bar | Meter::Off => return,
        };
        let Ok(mut last) = self.last.try_lock() else { return };
        if last.elapsed() < interval {
            return;
        }
        *last = Instant::now();
        let (done, total) = (self.done.load(Relaxed), self.total.load(Relaxed));
        let seconds = self.start.elapsed().as_secs_f64();
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rate for people"
        )]
        let rate = (done as f64 / seconds.max(0.001)) as u64;
        let now = self.now.lock().map(|now| now.clone()).unwrap_or_default();
        if self.meter == Meter::Json {
            let total = (total > 0).then_some(total);
            say(&self.object(&json!({ "event": "progress", "bytes": done, "total": total, "elapsed_s": seconds.round(), "bytes_per_s": rate, "stage": now })));
        } else {
            let percent = if total > 0 {
                format!(" of {} ({} %)", super::human(total), (done.saturating_mul(100) / total).min(100))
            } else {
                String::new()
            };
            say(&format!("{}: {}{percent}, {}/s, {now}", self.tool, super::human(done), super::human(rate)));
        }
    }
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

    fn expect(&self, bytes: u64) {
        self.total.store(bytes, Relaxed);
        self.bar.set_length(bytes);
        self.bar.set_style(style(
            "{prefix}: {bytes} of {total_bytes} {elapsed_precise} {bytes_per_sec} {percent} % eta {eta} {wide_msg}",
        ));
    }

    fn advance(&self, bytes: u64) {
        self.done.fetch_add(bytes, Relaxed);
        self.bar.inc(bytes);
        self.tick();
    }

    fn stage(&self, text: &str) {
        if let Ok(mut now) = self.now.lock() {
            text.clone_into(&mut now);
        }
        self.bar.set_message(text.to_owned());
        self.tick();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// Writes a line to stderr; one write, so that lines of several tools do not mix. Errors are ignored: a closed
/// stderr must not end a backup.
pub(super) fn say(text: &str) {
    let _ = std::io::stderr().write_all(format!("{text}\n").as_bytes());
}
