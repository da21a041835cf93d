//! Progress on stderr: a line that is redrawn on a terminal, lines in a log, JSON, or numbers.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use indicatif::{FormattedDuration, HumanDuration};
use serde_json::{Value, json};

use super::screen::Screen;
use super::{Common, Log, When, human};

/// How often a log gets a progress line.
const LOG_INTERVAL: Duration = Duration::from_secs(5);
/// How often `--progress=json` and `-n` print.
const NUMBER_INTERVAL: Duration = Duration::from_secs(1);
/// The shortest time over which the current rate is measured.
const SAMPLE: Duration = Duration::from_millis(500);

/// How a tool whose purpose is progress shows it: pv's options.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    /// Time between two lines; by default a second for a program that reads them, and five in a log.
    pub interval: Option<Duration>,
    /// Numbers only: percent, or bytes if the total is unknown.
    pub numeric: bool,
    /// Printed before each.
    pub name: Option<String>,
}

/// Counts, and shows the counts.
pub(super) struct Meter {
    tool: &'static str,
    kind: Kind,
    /// Goes to a log even if progress was not requested.
    log: Option<Kind>,
    /// The default interval.
    usual: Duration,
    /// Standard error is a terminal.
    terminal: bool,
    screen: Screen,
    done: AtomicU64,
    total: AtomicU64,
    start: Instant,
    last: Mutex<Last>,
    now: Mutex<String>,
    pace: OnceLock<Pace>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Off,
    Bar,
    Lines,
    Json,
    Numbers,
}

/// When something was printed, and how many bytes had passed.
struct Last {
    time: Instant,
    done: u64,
    rate: Option<u64>,
}

/// The progress at one moment.
struct State {
    done: u64,
    total: u64,
    elapsed: Duration,
    /// Bytes per second, currently and on average.
    current: u64,
    average: u64,
    /// If the total is known.
    percent: Option<u64>,
    eta: Option<Duration>,
    now: String,
}

impl Meter {
    pub(super) fn new(tool: &'static str, common: &Common) -> Self {
        let terminal = std::io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let line = if common.log == Log::Json { Kind::Json } else { Kind::Lines };
        let kind = match common.progress {
            When::Never => Kind::Off,
            When::Json => Kind::Json,
            When::Always if !terminal => line,
            When::Auto if !terminal || common.quiet => Kind::Off,
            When::Auto | When::Always => Kind::Bar,
        };
        let start = Instant::now();
        Meter {
            tool,
            kind,
            log: (common.progress == When::Auto && !common.quiet && !terminal).then_some(line),
            usual: if terminal || common.progress == When::Json { NUMBER_INTERVAL } else { LOG_INTERVAL },
            terminal,
            screen: Screen::new(),
            done: AtomicU64::new(0),
            total: AtomicU64::new(0),
            start,
            last: Mutex::new(Last { time: start, done: 0, rate: None }),
            now: Mutex::new(String::new()),
            pace: OnceLock::new(),
        }
    }

    /// Sets the options. Returns the time between two calls of [`Meter::beat`], if these are needed.
    pub(super) fn pace(&self, pace: Pace) -> Option<Duration> {
        self.screen.ask();
        let _ = self.pace.set(pace);
        match self.kind() {
            Kind::Off => None,
            _ => Some(self.interval()),
        }
    }

    fn kind(&self) -> Kind {
        match self.pace.get() {
            // -q and --progress=never have priority.
            Some(pace) if pace.numeric && (self.kind != Kind::Off || self.log.is_some()) => Kind::Numbers,
            Some(_) => self.log.unwrap_or(self.kind),
            None => self.kind,
        }
    }

    fn interval(&self) -> Duration {
        let usual = if self.kind() == Kind::Numbers { NUMBER_INTERVAL } else { self.usual };
        self.pace.get().and_then(|pace| pace.interval).unwrap_or(usual)
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    pub(super) fn done(&self) -> u64 {
        self.done.load(Relaxed)
    }

    pub(super) fn expect(&self, bytes: u64) {
        self.total.store(bytes, Relaxed);
    }

    pub(super) fn advance(&self, bytes: u64) {
        self.done.fetch_add(bytes, Relaxed);
        self.draw();
    }

    pub(super) fn stage(&self, text: &str) {
        if let Ok(mut now) = self.now.lock() {
            text.clone_into(&mut now);
        }
        self.draw();
    }

    /// Writes text without damaging the redrawn line, which may be another tool's.
    pub(super) fn raw(&self, text: &str) {
        if self.terminal { self.screen.say(text) } else { say(text) }
    }

    /// Erases the redrawn line.
    pub(super) fn clear(&self) {
        if self.kind == Kind::Bar {
            self.screen.clear();
        }
    }

    fn draw(&self) {
        if self.kind() == Kind::Bar {
            self.screen.draw(|| self.line(&self.measure()));
        }
    }

    /// The line for a terminal. The most important parts come first, because the rest may be cut off.
    fn line(&self, state: &State) -> String {
        let State { done, total, elapsed, current, average, percent, eta, now } = state;
        let name = self.pace.get().and_then(|pace| pace.name.as_ref()).map(|name| format!(" {name}:"));
        let of = percent.map(|percent| format!(" of {} ({percent} %)", human(*total))).unwrap_or_default();
        let eta = eta.map(|eta| format!(" eta {}", FormattedDuration(eta))).unwrap_or_default();
        let (tool, name, bytes) = (self.tool, name.unwrap_or_default(), human(*done));
        let (elapsed, current, average) = (FormattedDuration(*elapsed), human(*current), human(*average));
        format!("{tool}:{name} {bytes}{of} {elapsed} {current}/s ({average}/s){eta} {now}")
    }

    /// Prints the line, if it is due. `object` formats a log line from fields.
    pub(super) fn tick(&self, object: impl FnOnce(&Value) -> String) {
        // With an interval of its own, it is called by the clock.
        if self.pace.get().is_some() || matches!(self.kind, Kind::Off | Kind::Bar) {
            return;
        }
        let Ok(last) = self.last.try_lock() else { return };
        if last.time.elapsed() >= self.interval() {
            drop(last);
            self.beat(object);
        }
    }

    /// The current state. The current rate is measured since the last call, or over half a second.
    fn measure(&self) -> State {
        let (done, total) = (self.done(), self.total.load(Relaxed));
        let current = match self.last.lock() {
            Ok(last) if last.time.elapsed() < SAMPLE => {
                last.rate.unwrap_or_else(|| rate(done.saturating_sub(last.done), last.time.elapsed()))
            }
            Ok(mut last) => {
                let current = rate(done.saturating_sub(last.done), last.time.elapsed());
                *last = Last { time: Instant::now(), done, rate: Some(current) };
                current
            }
            Err(_) => 0,
        };
        let elapsed = self.start.elapsed();
        let average = rate(done, elapsed);
        let percent = (total > 0).then(|| (done.saturating_mul(100) / total.max(1)).min(100));
        let eta = (total > 0 && average > 0).then(|| Duration::from_secs(total.saturating_sub(done) / average.max(1)));
        let now = self.now.lock().map(|now| now.clone()).unwrap_or_default();
        State { done, total, elapsed, current, average, percent, eta, now }
    }

    /// Prints the progress.
    pub(super) fn beat(&self, object: impl FnOnce(&Value) -> String) {
        if self.kind() == Kind::Bar {
            return self.draw();
        }
        let State { done, total, elapsed, current, average, percent, eta, now } = self.measure();
        let name = self.pace.get().and_then(|pace| pace.name.as_deref());
        match self.kind() {
            Kind::Off | Kind::Bar => {}
            Kind::Numbers => say(&percent.unwrap_or(done).to_string()),
            Kind::Json => say(&object(&json!({
                "event": "progress", "name": name, "bytes": done, "total": (total > 0).then_some(total),
                "elapsed_s": elapsed.as_secs_f64().round(), "bytes_per_s": average, "current_bytes_per_s": current,
                "eta_s": eta.map(|eta| eta.as_secs()), "stage": now,
            }))),
            Kind::Lines => {
                let of = percent.map(|percent| format!(" of {} ({percent} %)", human(total))).unwrap_or_default();
                let eta = eta.map(|eta| format!(", eta {}", HumanDuration(eta))).unwrap_or_default();
                let name = name.map(|name| format!("{name}: ")).unwrap_or_default();
                let now = if now.is_empty() { now } else { format!(", {now}") };
                let (elapsed, bytes) = (FormattedDuration(elapsed), human(done));
                let (current, average) = (human(current), human(average));
                say(&format!(
                    "{}: {name}{bytes}{of}, {elapsed}, {current}/s, {average}/s on average{eta}{now}",
                    self.tool
                ));
            }
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate for people"
)]
fn rate(bytes: u64, time: Duration) -> u64 {
    (bytes as f64 / time.as_secs_f64().max(0.001)) as u64
}

/// Writes a line to stderr, with one write, so that lines of several tools do not mix. Errors are ignored: a closed
/// stderr must not end a backup.
pub(super) fn say(text: &str) {
    let _ = std::io::stderr().write_all(format!("{text}\n").as_bytes());
}
