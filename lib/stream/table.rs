//! What is known of a million names, in little memory: sorted by the names' keys, with a small table of the newest.

use std::collections::HashMap;

use crate::budget::{Exceeded, Share};

/// Entries of the small table; when there are more, they are sorted in.
const FRESH: usize = 32 << 10;
/// What the small table needs for an entry, beside the entry: it is at least half empty when it has grown.
const OVERHEAD: usize = 4;

/// A map from keys that are digests. 8 bytes a key, and no slack.
#[derive(Debug)]
pub(crate) struct Table<V> {
    fresh: HashMap<u64, V>,
    sorted: Vec<(u64, V)>,
    /// A bit for each of `sorted`: it has been removed.
    gone: Vec<u64>,
    len: usize,
    share: Option<Share>,
}

impl<V> Default for Table<V> {
    fn default() -> Self {
        Table { fresh: HashMap::new(), sorted: Vec::new(), gone: Vec::new(), len: 0, share: None }
    }
}

impl<V: Copy> Table<V> {
    /// One whose memory is a share of a budget.
    pub(crate) fn within(share: Share) -> Self {
        Table { share: Some(share), ..Table::default() }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn contains(&self, key: u64) -> bool {
        self.fresh.contains_key(&key) || self.place(key).is_some()
    }

    /// Puts something under a key, in place of what was there; false if something was.
    pub(crate) fn insert(&mut self, key: u64, value: V) -> Result<bool, Exceeded> {
        if let Some((_, known)) = self.place(key).and_then(|place| self.sorted.get_mut(place)) {
            *known = value;
            return Ok(false);
        }
        let new = self.fresh.insert(key, value).is_none();
        self.len += usize::from(new);
        if self.fresh.len() >= FRESH.max(self.sorted.len() / 32) {
            self.sort();
        }
        // Told at few sizes, for it is not worth more.
        if new && self.fresh.len().is_power_of_two() {
            let entry = size_of::<(u64, V)>();
            let bytes = (self.sorted.len() + self.fresh.len() * OVERHEAD) * entry;
            self.share.as_mut().map_or(Ok(()), |share| share.grow(bytes as u64))?;
        }
        Ok(new)
    }

    pub(crate) fn remove(&mut self, key: u64) -> Option<V> {
        let found = match self.fresh.remove(&key) {
            Some(value) => Some(value),
            None => {
                let place = self.place(key)?;
                *self.gone.get_mut(place / 64)? |= 1 << (place % 64);
                self.sorted.get(place).map(|(_, value)| *value)
            }
        };
        self.len -= usize::from(found.is_some());
        found
    }

    fn is_gone(&self, place: usize) -> bool {
        self.gone.get(place / 64).is_some_and(|bits| bits >> (place % 64) & 1 == 1)
    }

    /// Where a key is in `sorted`.
    fn place(&self, key: u64) -> Option<usize> {
        self.sorted.binary_search_by_key(&key, |(key, _)| *key).ok().filter(|place| !self.is_gone(*place))
    }

    fn sort(&mut self) {
        let gone = std::mem::take(&mut self.gone);
        let mut place = 0usize;
        self.sorted.retain(|_| {
            let kept = gone.get(place / 64).is_none_or(|bits| bits >> (place % 64) & 1 == 0);
            place += 1;
            kept
        });
        self.sorted.reserve_exact(self.fresh.len());
        self.sorted.extend(self.fresh.drain());
        // Two runs: the sort finds the first as it is.
        self.sorted.sort_unstable_by_key(|(key, _)| *key);
        self.gone = vec![0; self.sorted.len().div_ceil(64)];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;

    fn key(number: u64) -> u64 {
        super::super::members::key(&number.to_le_bytes())
    }

    #[test]
    fn it_is_a_map() {
        let mut table = Table::default();
        let count = 3 * FRESH as u64 + 100;
        for number in 0..count {
            assert!(table.insert(key(number), number).unwrap());
        }
        assert!(!table.insert(key(5), 6).unwrap() && !table.insert(key(count - 1), 7).unwrap());
        for number in (0..count).step_by(3) {
            assert!(table.remove(key(number)).is_some());
            assert_eq!(table.remove(key(number)), None);
        }
        assert!(table.insert(key(0), 1).unwrap() && table.insert(key(count - count % 3), 1).unwrap());
        for number in count..count + FRESH as u64 {
            table.insert(key(number), number).unwrap();
        }
        assert_eq!(table.remove(key(5)), Some(6));
        assert_eq!(table.remove(key(0)), Some(1));
        for number in 6..count - 1 {
            assert_eq!(table.contains(key(number)), number % 3 != 0 || number == count - count % 3, "{number}");
        }
        let left = count - count.div_ceil(3) + FRESH as u64;
        assert_eq!(table.len() as u64, left);
    }

    #[test]
    fn a_million_names_fit_into_the_budget() {
        let mut table = Table::within(Budget::default().share());
        let refused = (0u64..).find(|number| table.insert(key(*number), ()).is_err()).unwrap();
        assert!(refused > 4_000_000);
    }
}
