//! Which backups to keep. Pure: a catalogue and rules go in, a decision with its reasons for each backup comes out.
//!
//! The unit is the set: a full backup with the increments that build on it, directly or not. As in restic and borg, a rule
//! such as `keep_daily = 7` goes through the sets from the newest on, and keeps the newest set of each of the last seven
//! days that have one. Days, weeks (ISO 8601) and so on are those of UTC; the time of a set is that of its full backup.
//!
//! Whatever the rules say, these stay: what is pinned, the newest full backup that is not known to be bad, the newest one
//! that was verified, and everything that a kept backup builds on.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, Zoned};
use serde::Deserialize;

use crate::error::{Error, Result};

/// What decides about a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its id.
    pub id: String,
    /// The id of what an increment builds on; `None` for a full backup.
    pub parent: Option<String>,
    /// When it was made.
    pub time: Timestamp,
    /// The operator wants it kept.
    pub pinned: bool,
    /// False if it is known to be bad.
    pub good: bool,
    /// It was verified or drilled, and was good.
    pub verified: bool,
}

/// How many sets to keep of each kind. Nothing set: keep all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// So many of the newest.
    pub keep_last: Option<u32>,
    /// The newest of so many hours.
    pub keep_hourly: Option<u32>,
    /// … of so many days.
    pub keep_daily: Option<u32>,
    /// … of so many weeks.
    pub keep_weekly: Option<u32>,
    /// … of so many months.
    pub keep_monthly: Option<u32>,
    /// … of so many years.
    pub keep_yearly: Option<u32>,
    /// All whose newest backup is not older than this, counted back from the newest of all: `2y5m7d3h`.
    pub keep_within: Option<Within>,
}

/// A time span of years, months, days and hours: `2y5m7d3h`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Within {
    text: String,
    /// Units and counts.
    parts: Vec<(char, i32)>,
}

impl std::str::FromStr for Within {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fault = || format!("{text:?} is not a time span; want years, months, days, hours as in 2y5m7d3h");
        let (mut parts, mut number) = (Vec::new(), String::new());
        for char in text.chars() {
            match char {
                '0'..='9' => number.push(char),
                'y' | 'm' | 'w' | 'd' | 'h' => {
                    let count: i32 = number.parse().map_err(|_| fault())?;
                    if count > 9999 {
                        return Err(fault());
                    }
                    parts.push((char, count));
                    number.clear();
                }
                _ => return Err(fault()),
            }
        }
        if parts.is_empty() || !number.is_empty() { Err(fault()) } else { Ok(Within { text: text.to_owned(), parts }) }
    }
}

impl TryFrom<String> for Within {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl Within {
    /// The moment this long before `time`.
    fn before(&self, time: Timestamp) -> Option<Timestamp> {
        let at = |time: Zoned, (unit, count): &(char, i32)| {
            let span = match unit {
                'y' => Span::new().try_years(*count),
                'm' => Span::new().try_months(*count),
                'w' => Span::new().try_weeks(*count),
                'd' => Span::new().try_days(*count),
                _ => Span::new().try_hours(*count),
            };
            time.checked_sub(span.ok()?).ok()
        };
        self.parts.iter().try_fold(time.to_zoned(TimeZone::UTC), at).map(|time| time.timestamp())
    }
}

impl Rules {
    /// True if no rule is set.
    pub fn is_empty(&self) -> bool {
        *self == Rules::default()
    }

    /// These, and where one is not set, that of `other`.
    #[must_use]
    pub fn or(self, other: &Rules) -> Rules {
        if self.is_empty() { other.clone() } else { self }
    }

    /// Refuses rules that would keep nothing.
    ///
    /// # Errors
    ///
    /// Usage, if every rule that is set is 0.
    pub fn check(&self) -> Result<()> {
        let some = self.counts().iter().any(|(count, ..)| count.is_some_and(|count| count > 0));
        if self.is_empty() || some || self.keep_within.is_some() {
            return Ok(());
        }
        Err(Error::usage("retention", "every rule is 0; nothing would be kept but the newest full backup")
            .hint("set at least one, such as keep_last = 2"))
    }

    /// Each rule of a count: the count, its word, and the period of a time.
    fn counts(&self) -> [(Option<u32>, &'static str, &'static str); 6] {
        [
            (self.keep_last, "last", "%Y-%m-%dT%H:%M:%S"),
            (self.keep_hourly, "hourly", "%Y-%m-%dT%H"),
            (self.keep_daily, "daily", "%Y-%m-%d"),
            (self.keep_weekly, "weekly", "%G-W%V"),
            (self.keep_monthly, "monthly", "%Y-%m"),
            (self.keep_yearly, "yearly", "%Y"),
        ]
    }
}

/// What becomes of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Its id.
    pub id: String,
    /// False: it is to be removed.
    pub keep: bool,
    /// Why, in words.
    pub reasons: Vec<String>,
}

/// A full backup, or an increment without a base, and what builds on it.
struct Set<'a> {
    root: &'a Item,
    newest: Timestamp,
    members: Vec<&'a Item>,
    /// It restores, as far as is known.
    counts: bool,
}

/// Decides about each backup, in the order in which they are given.
pub fn decide(items: &[Item], rules: &Rules) -> Vec<Decision> {
    let by_id: HashMap<&str, &Item> = items.iter().map(|item| (item.id.as_str(), item)).collect();
    let sets = sets(items, &by_id);
    let mut reasons: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    if rules.is_empty() {
        sets.iter().for_each(|set| keep_set(set, "no rule is set", &mut reasons));
    }
    let counted: Vec<&Set<'_>> = sets.iter().filter(|set| set.counts).collect();
    for (count, word, period) in rules.counts() {
        let mut periods = BTreeSet::new();
        for (number, set) in counted.iter().enumerate() {
            let name = set.root.time.to_zoned(TimeZone::UTC).strftime(period).to_string();
            // Each is one of the last, also if two have the same time.
            let key = if word == "last" { format!("{name} {number}") } else { name.clone() };
            if periods.len() < count.unwrap_or(0) as usize && periods.insert(key) {
                let why = if word == "last" { format!("last {}", periods.len()) } else { format!("{word} {name}") };
                keep_set(set, &why, &mut reasons);
            }
        }
    }
    let latest = counted.iter().map(|set| set.newest).max();
    if let Some((within, limit)) = rules.keep_within.as_ref().zip(latest) {
        // A span that reaches back before the calendar begins keeps all.
        let since = within.before(limit).unwrap_or(Timestamp::MIN);
        for set in counted.iter().filter(|set| set.newest >= since) {
            keep_set(set, &format!("within {}", within.text), &mut reasons);
        }
    }
    let last_good = sets.iter().filter(|set| set.counts && reasons.contains_key(set.root.id.as_str()));
    let last_good = last_good.map(|set| set.root.time).max();
    for set in sets.iter().filter(|set| !set.counts) {
        if last_good.is_none_or(|good| good <= set.root.time) {
            keep_set(set, "bad or without its base, and no newer set is kept", &mut reasons);
        }
    }
    exceptions(items, &by_id, &mut reasons);
    let decision = |item: &Item| match reasons.get(item.id.as_str()) {
        Some(reasons) => Decision { id: item.id.clone(), keep: true, reasons: reasons.clone() },
        None => {
            let counts = root(item, &by_id).is_some_and(|root| root.parent.is_none() && root.good);
            let why = if counts { "no rule keeps its set" } else { "bad or without its base, and a newer set is kept" };
            Decision { id: item.id.clone(), keep: false, reasons: vec![why.to_owned()] }
        }
    };
    items.iter().map(decision).collect()
}

/// What stays whatever the rules say.
fn exceptions<'a>(items: &'a [Item], by_id: &HashMap<&'a str, &'a Item>, reasons: &mut BTreeMap<&'a str, Vec<String>>) {
    let newest = |wanted: &dyn Fn(&Item) -> bool| {
        items.iter().filter(|item| item.parent.is_none() && item.good && wanted(item)).max_by_key(|item| item.time)
    };
    let mut keep = |item: &'a Item, why: &str| reasons.entry(&item.id).or_default().push(why.to_owned());
    if let Some(item) = newest(&|_| true) {
        keep(item, "newest good full");
    }
    if let Some(item) = newest(&|item| item.verified) {
        keep(item, "newest verified full");
    }
    items.iter().filter(|item| item.pinned).for_each(|item| keep(item, "pinned"));
    let kept: Vec<&Item> = items.iter().filter(|item| reasons.contains_key(item.id.as_str())).collect();
    for item in kept {
        for base in ancestors(item, by_id) {
            let why = reasons.entry(&base.id).or_default();
            if why.is_empty() {
                why.push(format!("base of {}", item.id));
            }
        }
    }
}

/// Keeps all of a set.
fn keep_set<'a>(set: &Set<'a>, why: &str, reasons: &mut BTreeMap<&'a str, Vec<String>>) {
    for item in &set.members {
        reasons.entry(&item.id).or_default().push(why.to_owned());
    }
}

/// The sets, the newest first.
fn sets<'a>(items: &'a [Item], by_id: &HashMap<&'a str, &'a Item>) -> Vec<Set<'a>> {
    let mut sets: BTreeMap<&str, Set<'a>> = BTreeMap::new();
    for item in items {
        let root = root(item, by_id).unwrap_or(item);
        let counts = root.parent.is_none() && root.good;
        let set = sets.entry(&root.id).or_insert_with(|| Set { root, newest: root.time, members: Vec::new(), counts });
        set.newest = set.newest.max(item.time);
        set.members.push(item);
    }
    let mut sets: Vec<Set<'a>> = sets.into_values().collect();
    sets.sort_by(|a, b| (b.root.time, &b.root.id).cmp(&(a.root.time, &a.root.id)));
    sets
}

/// The last of the ancestors, or the item itself; `None` if they form a circle.
fn root<'a>(item: &'a Item, by_id: &HashMap<&'a str, &'a Item>) -> Option<&'a Item> {
    let last = ancestors(item, by_id).last().unwrap_or(item);
    let circle = last.parent.as_deref().is_some_and(|parent| by_id.contains_key(parent));
    (!circle).then_some(last)
}

/// What an increment builds on, as far as it is there; never more than there are backups.
fn ancestors<'a>(item: &'a Item, by_id: &HashMap<&'a str, &'a Item>) -> impl Iterator<Item = &'a Item> {
    let next = |item: &&'a Item| item.parent.as_deref().and_then(|parent| by_id.get(parent).copied());
    std::iter::successors(next(&item), next).take(by_id.len())
}

#[cfg(test)]
mod tests;
