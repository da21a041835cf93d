//! Command lines as the stock programs read them. Source: `my_getopt.c`; innobackupex's `Getopt::Long` takes the same forms.
//!
//! `--name=value`, `--name value`, `-n value`, `-nvalue`; `_` is `-`, and `A` is `a`; `--skip-`, `--disable-` and `--enable-` before the name
//! of a switch, `--loose-` before one that need not be known; a beginning that only one name has, where the stock program
//! takes that. Operands may stand anywhere. What stands twice counts as it stands last.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::str::FromStr;

use bstr::ByteSlice;

use super::table::{Fate, Row, Value};
use crate::error::{Error, Result};

/// Behind this option stand those of the server, all of which the stock program passes over if it does not know them.
const OF_SERVER: &str = "mysqld-args";

/// A command line, taken apart.
#[derive(Clone, Debug, Default)]
pub(super) struct Line {
    options: Vec<Given>,
    /// What is neither an option nor the value of one.
    pub(super) operands: Vec<OsString>,
}

/// An option that was given.
#[derive(Clone, Debug)]
struct Given {
    row: &'static Row,
    on: bool,
    value: Option<OsString>,
}

/// Where a secret stands: the number of the argument, and its first byte in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Secret {
    /// From 0, without the program's name.
    pub(super) argument: usize,
    /// From 0.
    pub(super) from: usize,
}

/// How a program reads its command line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grammar {
    /// Its name, for messages.
    pub(super) program: &'static str,
    /// Its options.
    pub(super) tables: &'static [&'static [Row]],
    /// Whether a beginning that only one name has stands for it.
    pub(super) prefixes: bool,
}

/// The words of a command line, one after the other.
struct Words<'a> {
    all: &'a [OsString],
    at: usize,
}

impl Words<'_> {
    fn next(&mut self) -> Option<&OsStr> {
        let word = self.all.get(self.at)?;
        self.at += 1;
        Some(word)
    }
}

/// Takes a command line apart. Places of secrets are added to `secrets` also when it is wrong.
///
/// # Errors
///
/// Usage, when an option is not known, or lacks its value or has one too many.
pub(super) fn parse(grammar: &Grammar, arguments: &[OsString], secrets: &mut Vec<Secret>) -> Result<Line> {
    let mut line = Line::default();
    let mut wrong = None;
    let mut words = Words { all: arguments, at: 0 };
    let (mut options, mut server) = (true, false);
    while let Some(word) = words.next() {
        let bytes = word.as_bytes().to_vec();
        let outcome = match bytes.as_slice() {
            b"--" if options => {
                options = false;
                Ok(())
            }
            [b'-', b'-', name @ ..] if options => line.long(grammar, name, &mut words, server, secrets),
            [b'-', letters @ ..] if options && !letters.is_empty() => {
                line.short(grammar, letters, &mut words, server, secrets)
            }
            _ if server => Ok(()),
            _ => {
                line.operands.push(OsString::from_vec(bytes));
                Ok(())
            }
        };
        server |= line.options.last().is_some_and(|given| given.row.name == OF_SERVER);
        // Secrets behind a fault are to be found, too.
        if let Err(error) = outcome {
            wrong.get_or_insert(error);
        }
    }
    wrong.map_or(Ok(line), Err)
}

impl Grammar {
    fn rows(&self) -> impl Iterator<Item = &'static Row> {
        self.tables.iter().copied().flatten()
    }

    fn of_letter(&self, letter: u8) -> Option<&'static Row> {
        self.rows().find(|row| row.letter == Some(char::from(letter)))
    }

    /// The row of a name; `None` if there is none.
    ///
    /// # Errors
    ///
    /// Usage, for a beginning that several have.
    pub(super) fn of_name(&self, name: &str) -> Result<Option<&'static Row>> {
        if let Some(row) = self.rows().find(|row| row.names().any(|known| known == name)) {
            return Ok(Some(row));
        }
        if !self.prefixes || name.is_empty() {
            return Ok(None);
        }
        let mut found = self.rows().filter(|row| row.names().any(|known| known.starts_with(name)));
        match (found.next(), found.next()) {
            (Some(one), Some(other)) => {
                let what = format_args!("is the beginning of --{} and --{}", one.name, other.name);
                Err(Error::usage(format_args!("--{name}"), what))
            }
            (one, _) => Ok(one),
        }
    }

    /// The same, and whether the name turns it on: `--skip-`, `--disable-` and `--enable-` may stand before it.
    fn turned(&self, name: &str) -> Result<Option<(&'static Row, bool)>> {
        if let Some(row) = self.of_name(name)? {
            return Ok(Some((row, true)));
        }
        let prefixes = [("skip-", false), ("disable-", false), ("enable-", true)];
        let Some((name, on)) = prefixes.iter().find_map(|(word, on)| Some((name.strip_prefix(word)?, *on))) else {
            return Ok(None);
        };
        Ok(self.of_name(name)?.filter(|row| row.value != Value::Needed).map(|row| (row, on)))
    }

    fn unknown(&self, option: &str) -> Error {
        Error::usage(option, format_args!("is not an option of {}", self.program))
            .hint("xb-front(1) lists those that are known")
    }
}

/// The value of a switch.
fn switch(text: &[u8]) -> Option<bool> {
    match text.to_ascii_lowercase().as_slice() {
        b"1" | b"on" | b"true" => Some(true),
        b"0" | b"off" | b"false" => Some(false),
        _ => None,
    }
}

impl Line {
    fn long(
        &mut self,
        grammar: &Grammar,
        text: &[u8],
        words: &mut Words<'_>,
        server: bool,
        secrets: &mut Vec<Secret>,
    ) -> Result<()> {
        let (name, value) = match text.split_once_str("=") {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        let given = name.to_str_lossy().replace('_', "-").to_ascii_lowercase();
        let option = format!("--{given}");
        let (loose, name) = given.strip_prefix("loose-").map_or((server, given.as_str()), |name| (true, name));
        let Some((row, on)) = grammar.turned(name)? else {
            return if loose { Ok(()) } else { Err(grammar.unknown(&option)) };
        };
        let argument = words.at.saturating_sub(1);
        // Two hyphens and the equals sign are before it.
        let from = text.len().saturating_sub(value.map_or(0, <[u8]>::len)).saturating_add(2);
        let own = value.map(|value| (value.to_vec(), Secret { argument, from }));
        let found = match (row.value, own) {
            (Value::None, Some((value, _))) => {
                let what = "is a switch: 0 or 1";
                let value = switch(&value).ok_or_else(|| Error::usage(&option, what))?;
                self.options.push(Given { row, on: value == on, value: None });
                return Ok(());
            }
            (Value::Needed, None) => {
                let argument = words.at;
                let next = words.next().map(|word| (word.as_bytes().to_vec(), Secret { argument, from: 0 }));
                Some(next.ok_or_else(|| Error::usage(&option, "needs a value"))?)
            }
            (_, own) => own,
        };
        self.push(row, on, found, secrets);
        Ok(())
    }

    fn short(
        &mut self,
        grammar: &Grammar,
        letters: &[u8],
        words: &mut Words<'_>,
        server: bool,
        secrets: &mut Vec<Secret>,
    ) -> Result<()> {
        let mut at = 0usize;
        while let Some(letter) = letters.get(at) {
            at += 1;
            let option = format!("-{}", char::from(*letter));
            let Some(row) = grammar.of_letter(*letter) else {
                return if server { Ok(()) } else { Err(grammar.unknown(&option)) };
            };
            let rest = letters.get(at..).unwrap_or_default();
            let argument = words.at.saturating_sub(1);
            let own = (!rest.is_empty()).then(|| (rest.to_vec(), Secret { argument, from: at.saturating_add(1) }));
            let found = match (row.value, own) {
                (Value::None, _) => {
                    self.push(row, true, None, secrets);
                    continue;
                }
                (Value::Needed, None) => {
                    let argument = words.at;
                    let next = words.next().map(|word| (word.as_bytes().to_vec(), Secret { argument, from: 0 }));
                    Some(next.ok_or_else(|| Error::usage(&option, "needs a value"))?)
                }
                (_, own) => own,
            };
            self.push(row, true, found, secrets);
            return Ok(());
        }
        Ok(())
    }

    fn push(&mut self, row: &'static Row, on: bool, found: Option<(Vec<u8>, Secret)>, secrets: &mut Vec<Secret>) {
        let value = found.map(|(value, place)| {
            if row.secret {
                secrets.push(place);
            }
            OsString::from_vec(value)
        });
        self.options.push(Given { row, on, value });
    }

    /// Puts what option files say, in groups that only backup programs have, before what the command line says. What would
    /// be passed over is left out.
    ///
    /// # Errors
    ///
    /// Usage, when an option is not known, or a switch has another value: as the stock programs have it.
    pub(super) fn behind(mut self, grammar: &Grammar, settings: &[(String, String)]) -> Result<Line> {
        let mut options = Vec::new();
        for (key, value) in settings {
            let (loose, name) = key.strip_prefix("loose-").map_or((false, key.as_str()), |name| (true, name));
            let Some((row, on)) = grammar.turned(&name.to_ascii_lowercase())? else {
                if loose {
                    continue;
                }
                return Err(grammar.unknown(&format!("{key} in an option file")));
            };
            if row.fate == Fate::Ignored || !row.in_files {
                continue;
            }
            let wrong = || Error::usage(format_args!("{key} in an option file"), "is a switch: 0 or 1");
            let on = match row.value {
                Value::None if !value.is_empty() => switch(value.as_bytes()).ok_or_else(wrong)? == on,
                _ => on,
            };
            let value = (row.value != Value::None && !value.is_empty()).then(|| OsString::from(value));
            options.push(Given { row, on, value });
        }
        options.append(&mut self.options);
        Ok(Line { options, ..self })
    }

    fn last(&self, name: &str) -> Option<&Given> {
        self.options.iter().rev().find(|given| given.row.name == name)
    }

    /// True if an option was given, and not turned off.
    pub(super) fn has(&self, name: &str) -> bool {
        self.last(name).is_some_and(|given| given.on)
    }

    /// Whether a switch was turned on or off; `None` if it was not given.
    pub(super) fn turned(&self, name: &str) -> Option<bool> {
        self.last(name).map(|given| given.on)
    }

    /// The value of an option; an empty one counts as none.
    pub(super) fn value(&self, name: &str) -> Option<&OsStr> {
        self.last(name).filter(|given| given.on)?.value.as_deref().filter(|value| !value.is_empty())
    }

    /// The same, also if it is empty.
    pub(super) fn any_value(&self, name: &str) -> Option<&OsStr> {
        self.last(name).filter(|given| given.on)?.value.as_deref()
    }

    /// The value as text.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.value(name).map(|value| value.to_string_lossy().into_owned())
    }

    /// The value as a number.
    ///
    /// # Errors
    ///
    /// Usage, when it is none.
    pub(super) fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>> {
        let parse = |text: String| {
            text.parse().map_err(|_| Error::usage(format_args!("--{name}"), format_args!("{text:?} is not a number")))
        };
        self.text(name).map(parse).transpose()
    }

    /// The words of one line for each option that is passed over.
    pub(super) fn ignored(&self) -> Vec<String> {
        let mut known = Vec::new();
        let ignored = self.options.iter().filter(|given| given.row.fate == Fate::Ignored);
        for given in ignored {
            let text = format!("--{}: ignored: {}", given.row.name, given.row.text);
            if !known.contains(&text) {
                known.push(text);
            }
        }
        known
    }

    /// Refuses what cannot be done here. What is turned off, or 0, is not asked for.
    ///
    /// # Errors
    ///
    /// Usage, with what to use instead.
    pub(super) fn refuse(&self) -> Result<()> {
        let off =
            |value: &Option<OsString>| value.as_ref().is_some_and(|value| switch(value.as_bytes()) == Some(false));
        let refused = |given: &&Given| given.row.fate == Fate::Refused && given.on && !off(&given.value);
        match self.options.iter().find(refused) {
            Some(given) => {
                Err(Error::usage(format_args!("--{}", given.row.name), "is not possible here").hint(given.row.text))
            }
            None => Ok(()),
        }
    }
}
