//! Cases by hand, and properties over many random catalogues.

use proptest::prelude::*;

/// Hours ago, its parent, whether it is pinned, bad and verified, and what is rare.
type Drawn = (u32, Option<usize>, [bool; 3], u8);

use super::*;

fn item(id: &str, parent: Option<&str>, time: &str) -> Item {
    Item {
        id: id.into(),
        parent: parent.map(str::to_owned),
        time: time.parse().unwrap(),
        pinned: false,
        good: true,
        verified: false,
    }
}

fn kept(items: &[Item], rules: &Rules) -> Vec<String> {
    decide(items, rules).into_iter().filter(|one| one.keep).map(|one| one.id).collect()
}

/// Sundays with a full, Wednesdays with an increment, from 2026-01-04 on.
fn weeks(count: i64) -> Vec<Item> {
    let start: Timestamp = "2026-01-04T03:00:00Z".parse().unwrap();
    let day = |days: i64| (start + jiff::SignedDuration::from_hours(24 * days)).to_string();
    let week = |week: i64| {
        let full = format!("f{week}");
        [item(&full, None, &day(7 * week)), item(&format!("i{week}"), Some(&full), &day(7 * week + 3))]
    };
    (0..count).flat_map(week).collect()
}

#[test]
fn sets_are_kept_whole() {
    let rules = Rules { keep_last: Some(2), ..Rules::default() };
    assert_eq!(kept(&weeks(4), &rules), ["f2", "i2", "f3", "i3"]);
}

#[test]
fn each_set_serves_the_newest_period_of_its_own() {
    let rules = Rules { keep_monthly: Some(2), keep_yearly: Some(1), ..Rules::default() };
    // 2026-01-25 is the last Sunday of January, 2026-02-22 that of February.
    assert_eq!(kept(&weeks(8), &rules), ["f3", "i3", "f7", "i7"]);
    let why = decide(&weeks(8), &rules);
    assert!(why.last().unwrap().reasons.contains(&"monthly 2026-02".to_owned()), "{why:?}");
}

#[test]
fn within_counts_back_from_the_newest_backup() {
    let rules = Rules { keep_within: Some("9d".parse().unwrap()), ..Rules::default() };
    assert_eq!(kept(&weeks(4), &rules), ["f2", "i2", "f3", "i3"]);
    for text in ["", "9", "d", "9d3", "9x", "-1d", "99999d", "9 d"] {
        assert!(text.parse::<Within>().is_err(), "{text}");
    }
}

#[test]
fn a_pinned_increment_keeps_its_bases_and_not_its_set() {
    let mut items = weeks(3);
    items.insert(2, item("j0", Some("i0"), "2026-01-08T03:00:00Z"));
    items.iter_mut().find(|item| item.id == "i0").unwrap().pinned = true;
    let rules = Rules { keep_last: Some(1), ..Rules::default() };
    assert_eq!(kept(&items, &rules), ["f0", "i0", "f2", "i2"]);
}

#[test]
fn bad_sets_are_not_counted() {
    let mut items = weeks(3);
    items.iter_mut().find(|item| item.id == "f2").unwrap().good = false;
    let rules = Rules { keep_last: Some(1), ..Rules::default() };
    // The bad one stays, for nothing newer is good.
    assert_eq!(kept(&items, &rules), ["f1", "i1", "f2", "i2"]);
    items.extend([item("f3", None, "2026-02-01T03:00:00Z")]);
    assert_eq!(kept(&items, &rules), ["f3"]);
}

#[test]
fn without_rules_everything_stays_and_zeros_are_refused() {
    assert_eq!(kept(&weeks(3), &Rules::default()).len(), 6);
    Rules::default().check().unwrap();
    assert!(Rules { keep_daily: Some(0), ..Rules::default() }.check().is_err());
}

/// Any catalogue: chains, trees, orphans, circles, equal times.
fn catalogues() -> impl Strategy<Value = Vec<Item>> {
    let one = (0u32..3 * 365 * 24, prop::option::weighted(0.7, 0usize..40), any::<[bool; 3]>(), 0u8..8);
    prop::collection::vec(one, 0..40).prop_map(|rows| {
        let start = jiff::SignedDuration::from_hours(500_000);
        let row = |(number, (hours, parent, [pinned, bad, verified], rare)): (usize, &Drawn)| Item {
            id: format!("b{number}"),
            parent: parent.map(|parent| format!("b{parent}")),
            time: Timestamp::UNIX_EPOCH + start + jiff::SignedDuration::from_hours(i64::from(*hours)),
            pinned: *pinned && rare == &0,
            good: !(*bad && rare < &3),
            verified: *verified,
        };
        rows.iter().enumerate().map(row).collect()
    })
}

fn rules() -> impl Strategy<Value = Rules> {
    let count = || prop::option::of(0u32..5);
    let within = prop::option::of((0u8..3, 0u8..40).prop_map(|(y, d)| format!("{y}y{d}d").parse().unwrap()));
    (count(), count(), count(), count(), count(), count(), within).prop_map(
        |(keep_last, keep_hourly, keep_daily, keep_weekly, keep_monthly, keep_yearly, keep_within)| Rules {
            keep_last,
            keep_hourly,
            keep_daily,
            keep_weekly,
            keep_monthly,
            keep_yearly,
            keep_within,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_is_needed_is_removed(items in catalogues(), rules in rules()) {
        let decisions = decide(&items, &rules);
        prop_assert_eq!(decisions.len(), items.len());
        let keeps = |id: &str| decisions.iter().any(|one| one.id == id && one.keep);
        for (item, decision) in items.iter().zip(&decisions) {
            prop_assert_eq!(&item.id, &decision.id);
            prop_assert!(!decision.reasons.is_empty());
            prop_assert!(!item.pinned || decision.keep, "pinned: {}", item.id);
            let there = |parent: &&String| items.iter().any(|item| item.id == **parent);
            if let Some(parent) = item.parent.as_ref().filter(there).filter(|_| decision.keep) {
                prop_assert!(keeps(parent), "base of what is kept: {parent} of {}", item.id);
            }
        }
        let good = || items.iter().filter(|item| item.parent.is_none() && item.good);
        if let Some(newest) = good().map(|item| item.time).max() {
            prop_assert!(good().any(|item| item.time == newest && keeps(&item.id)), "newest good full");
        }
        let mut fulls: Vec<&Item> = good().collect();
        fulls.sort_by(|a, b| (b.time, &b.id).cmp(&(a.time, &a.id)));
        for full in fulls.iter().take(rules.keep_last.unwrap_or(0) as usize) {
            prop_assert!(keeps(&full.id), "one of the last: {}", full.id);
        }
        if rules.is_empty() {
            prop_assert!(decisions.iter().all(|one| one.keep));
        }
    }

    #[test]
    fn a_second_prune_removes_nothing_more(items in catalogues(), rules in rules()) {
        let first = kept(&items, &rules);
        let left: Vec<Item> = items.into_iter().filter(|item| first.contains(&item.id)).collect();
        // Whatever kept it keeps it again, unless it had no base, for which there may be none now.
        for (item, decision) in left.iter().zip(decide(&left, &rules)) {
            let by_id: HashMap<&str, &Item> = left.iter().map(|item| (item.id.as_str(), item)).collect();
            let whole = root(item, &by_id).is_some_and(|root| root.parent.is_none() && root.good);
            prop_assert!(decision.keep || !whole, "{} goes in the second run: {:?}", item.id, decision.reasons);
        }
    }
}
