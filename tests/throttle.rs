//! The rate is kept however the reader stalls, and the input is passed on unchanged.
//!
//! The accuracy of the rate is tested on the schedule itself, with a simulated clock: a busy machine must not fail a
//! test.

use std::time::Duration;

use rustix::process::Signal;
use xb::throttle::observer::{Observer, Seen};
use xb::throttle::schedule::{SECOND, Schedule};

use crate::support::tool::{bad, feed, good, pack, said, scratch, tool};
use crate::support::{Pipeline, Random, program, wait_until, xb};

const BURST: u64 = SECOND / 20;
const RATES: [u64; 8] = [1, 100, 64 << 10, 1 << 20, 10_000_000, 100 << 20, 999_999_937, 1_000_000_000];

/// Sends for `time` nanoseconds as the program does, with a sleeper that wakes late by up to `late`, at a rate that is
/// a matter of the moment; when how much went.
fn play_rates(
    schedule: &mut Schedule,
    from: u64,
    time: u64,
    late: u64,
    random: &mut Random,
    wanted: impl Fn(u64) -> u64,
) -> Vec<(u64, u64)> {
    let (mut now, mut sent) = (from, Vec::new());
    loop {
        while let Some(until) = schedule.pause(wanted(now), now) {
            now = until + random.below(late + 1);
        }
        if now >= from + time {
            return sent;
        }
        let slice = schedule.slice();
        sent.push((now, slice));
        schedule.sent(slice, now);
    }
}

fn play(schedule: &mut Schedule, rate: u64, from: u64, time: u64, late: u64, random: &mut Random) -> Vec<(u64, u64)> {
    play_rates(schedule, from, time, late, random, |_| rate)
}

fn sum(sent: &[(u64, u64)], from: u64, time: u64) -> u64 {
    sent.iter().filter(|(at, _)| (from..from + time).contains(at)).map(|(_, bytes)| bytes).sum()
}

#[test]
fn the_rate_is_kept_within_one_per_cent() {
    let mut random = Random::new(1);
    for rate in [64 << 10, 1 << 20, 10_000_000, 100 << 20, 999_999_937, 1_000_000_000] {
        let mut schedule = Schedule::new(rate, BURST, 7);
        // Timers are late by 60 us at most on an idle machine with the default slack.
        let sent = play(&mut schedule, rate, 7, 20 * SECOND, 60_000, &mut random);
        for start in (0..19_000).step_by(37) {
            let got = sum(&sent, 7 + start * 1_000_000, SECOND);
            assert!(got.abs_diff(rate) <= rate / 100, "{rate}: {got} in a second");
        }
        for start in 0..10 {
            let got = sum(&sent, 7 + start * SECOND, 10 * SECOND);
            assert!(got.abs_diff(10 * rate) <= 10 * rate / 500, "{rate}: {got} in ten seconds");
        }
    }
}

/// On a busy machine every sleep ends late: nothing is lost permanently.
#[test]
fn a_late_wakeup_is_made_up_within_the_burst() {
    let mut random = Random::new(2);
    for (rate, burst) in RATES
        .into_iter()
        .filter(|rate| *rate >= 100)
        .flat_map(|rate| [(rate, BURST), (rate, BURST / 2)])
        .chain([(1 << 20, SECOND / 1000), (100 << 20, SECOND / 1000), (64 << 10, SECOND / 100)])
    {
        let mut schedule = Schedule::new(rate, burst, 0);
        let slice = schedule.slice();
        // The slice that follows is part of the burst.
        let late = burst - (u128::from(slice) * u128::from(SECOND)).div_ceil(u128::from(rate)) as u64;
        assert!(late >= burst * 2 / 5, "{rate}: nothing is left for a late sleeper");
        let sent = play(&mut schedule, rate, 0, 20 * SECOND, late, &mut random);
        let mut total = 0;
        for (now, slice) in sent {
            // At any moment all has gone but what was due within the last delay.
            let due = u128::from(now.saturating_sub(late)) * u128::from(rate) / u128::from(SECOND);
            assert!(u128::from(total + slice) >= due, "{rate}: {total} at {now}, where {due} were due");
            total += slice;
        }
        let due = 20 * rate;
        assert!(total.abs_diff(due) <= rate / 20 + slice, "{rate}: {total} where {due} were due");
    }
}

#[test]
fn what_one_sleep_is_too_long_is_lost_once() {
    for rate in RATES.into_iter().filter(|rate| *rate >= 64 << 10) {
        for extra in [0, SECOND / 100, SECOND, 60 * SECOND] {
            let mut schedule = Schedule::new(rate, BURST, 0);
            let before = play(&mut schedule, rate, 0, SECOND, 0, &mut Random::new(8));
            let woken = schedule.due() + BURST + extra;
            let after = play(&mut schedule, rate, woken, 9 * SECOND, 0, &mut Random::new(8));
            let total = sum(&before, 0, SECOND) + sum(&after, woken, 9 * SECOND);
            let due = 10 * rate + rate / 20;
            assert!(total.abs_diff(due) <= 3 * schedule.slice(), "{rate}: {total}, not {due}");
        }
    }
}

#[test]
fn a_burst_after_a_stall_is_fifty_milliseconds() {
    for rate in RATES {
        for stall in [0, BURST / 2, BURST, SECOND, 3600 * SECOND, u64::MAX / 4] {
            let mut schedule = Schedule::new(rate, BURST, 0);
            play(&mut schedule, rate, 0, SECOND, 0, &mut Random::new(3));
            let now = schedule.due() + stall;
            let mut burst = 0;
            while schedule.due() <= now {
                burst += schedule.slice();
                schedule.sent(schedule.slice(), now);
            }
            assert!(burst <= (rate / 20).max(1), "{rate}: {burst} after {stall} ns");
        }
    }
}

#[test]
fn nothing_is_saved_up_before_the_first_byte() {
    let mut schedule = Schedule::new(1 << 20, BURST, 5 * SECOND);
    let sent = play(&mut schedule, 1 << 20, 5 * SECOND, SECOND / 200, 0, &mut Random::new(4));
    assert_eq!(sent.len(), 1);
}

/// The sleep that is under way ends first, then the slice that is being paid for.
#[test]
fn another_rate_holds_within_fifty_milliseconds() {
    for (before, after) in
        [(1, 1 << 30), (1 << 30, 64 << 10), (1 << 20, 2 << 20), (64 << 10, 999_999_937), (10, 20 << 20)]
    {
        for moment in [SECOND, SECOND + 1_234_567, 3 * SECOND - 1] {
            let mut schedule = Schedule::new(before, BURST, 0);
            let wanted = |now: u64| if now < moment { before } else { after };
            let sent = play_rates(&mut schedule, 0, 16 * SECOND, 60_000, &mut Random::new(5), wanted);
            let first = sent.iter().find(|(now, _)| *now >= moment).map(|(now, _)| *now).unwrap();
            assert!(first <= moment + BURST, "{before} to {after}: first at {first}, told at {moment}");
            for from in [BURST, SECOND, 5 * SECOND] {
                let got = sum(&sent, moment + from, 2 * SECOND);
                assert!(got.abs_diff(2 * after) <= after / 100, "{before} to {after}: {got} in two seconds");
            }
        }
    }
}

#[test]
fn a_limit_can_be_set_and_taken_away() {
    let mut schedule = Schedule::new(0, BURST, 0);
    assert_eq!(schedule.pause(0, SECOND), None);
    schedule.sent(1 << 40, SECOND);
    assert_eq!(schedule.pause(1 << 20, 2 * SECOND), None);
    let sent = play(&mut schedule, 1 << 20, 2 * SECOND, SECOND, 0, &mut Random::new(9));
    assert!(sum(&sent, 2 * SECOND, SECOND).abs_diff(1 << 20) <= schedule.slice());
    assert!(schedule.due() > 3 * SECOND - BURST);
    assert_eq!(schedule.pause(0, 3 * SECOND - BURST), None);
    assert_eq!(schedule.slice(), u64::MAX);
}

#[test]
fn every_slice_fits_the_burst() {
    for rate in RATES {
        let slice = Schedule::new(rate, BURST, 0).slice();
        assert!(slice >= 1 && slice <= (rate / 20).max(1), "{rate}: {slice}");
        assert!(rate < 1 << 20 || slice >= 4096, "{rate}: {slice}");
    }
    assert_eq!(Schedule::new(0, BURST, 0).slice(), u64::MAX);
}

/// A stream of ours, 1 MB.
fn stream() -> Vec<u8> {
    let dir = scratch();
    std::fs::create_dir(dir.path().join("db")).unwrap();
    for name in ["a.ibd", "b.ibd"] {
        std::fs::write(dir.path().join("db").join(name), Random::new(6).bytes(500_000)).unwrap();
    }
    good(pack(dir.path(), &[]))
}

#[test]
fn anything_passes_as_it_came() {
    let (noise, ours) = (Random::new(7).bytes(3_000_000), stream());
    let inputs = [&b""[..], b"x", b"XBSTCK01", b"XBSTCK01\0P\xff\xff\xff\xff", &noise, &ours, &ours[..ours.len() / 2]];
    for input in inputs {
        for args in [&[][..], &["-v"], &["-L", "1g"], &["-L", "20m", "-v", "-s", "5m"], &["-q"]] {
            assert!(good(feed(tool("xb-throttle").args(args), input)) == input, "{args:?}");
        }
    }
    // By splice, at both ends.
    let run = Pipeline::new().stage(program("cat")).stdin_bytes(noise.clone()).stage(xb("xb-throttle")).run();
    assert!(run.assert_ok().stdout == noise);
}

#[test]
fn heads_are_found_however_the_bytes_come() {
    let stream = stream();
    for most in [1, 3, 14, 1000, usize::MAX] {
        let (mut observer, mut at, mut seen) = (Observer::new(true), 0, Vec::new());
        while at < stream.len() {
            match observer.need().min(most).min(stream.len() - at) {
                0 => {
                    let unseen = observer.blind().min(most as u64).min((stream.len() - at) as u64);
                    observer.skip(unseen);
                    at += unseen as usize;
                }
                count => {
                    seen.extend(observer.see(&stream[at..at + count]));
                    at += count;
                }
            }
        }
        for name in ["db/a.ibd", "db/b.ibd", "xb_manifest"] {
            assert!(seen.contains(&Seen::Member(name.to_owned())), "{most}: {name}");
        }
        assert!(seen.contains(&Seen::Expected(1_000_000)), "{most}: {seen:?}");
    }
}

#[test]
fn the_meter_shows_exact_bytes_and_the_share() {
    let input = stream();
    let ours = |args: &[&str]| said(&feed(tool("xb-throttle").args(args), &input));
    let line = ours(&["--progress=json"]);
    let last: serde_json::Value = serde_json::from_str(line.lines().last().unwrap()).unwrap();
    assert_eq!((&last["bytes"], &last["total"]), (&input.len().into(), &1_000_000.into()));
    assert_eq!(ours(&["-n"]).lines().last(), Some("100"));
    assert!(ours(&["-N", "night", "-v", "-s", "8m"]).ends_with("xb_manifest\n"));
    assert!(ours(&["-N", "night"]).starts_with("xb-throttle: night: "));
    assert!(!ours(&[]).contains('\r'));
    assert_eq!(ours(&["-q"]), "");
    let noise = feed(tool("xb-throttle").arg("-n"), &[1; 12_345]);
    assert_eq!(said(&noise).lines().last(), Some("12345"));
}

#[test]
fn a_running_one_takes_another_rate() {
    // At this rate it would take days.
    let input = vec![7; 3 << 20];
    let mut slow = xb("xb-throttle");
    slow.args(["-q", "-L", "10"]);
    let running = Pipeline::new().stage(slow).stdin_bytes(input.clone()).start();
    let pid = running.pid(0).to_string();
    let remote = |rate: &str| feed(tool("xb-throttle").args(["-R", &pid, "-L", rate]), b"");
    wait_until("it to listen", Duration::from_secs(30), || remote("20").status.success());
    good(remote("1g"));
    assert!(running.wait().assert_ok().stdout == input);
    bad(&remote("1g"), 1, "no xb-throttle runs with this process id");
}

#[test]
fn its_end_is_that_of_its_neighbours() {
    let run = Pipeline::new().stage(program("yes")).stage(xb("xb-throttle")).stage(head()).run();
    run.assert_codes(&[141, 141, 0]);
    assert!(run.stderr(1).contains("stdout: cannot write: broken pipe"), "{}", run.stderr(1));
    let mut slow = xb("xb-throttle");
    slow.args(["-q", "-L", "1k"]);
    let running = Pipeline::new().stage(program("yes")).stage(slow).start();
    running.signal(1, Signal::TERM);
    running.wait().assert_codes(&[141, 143]);
    bad(&feed(tool("xb-throttle").args(["-R", "1"]), b""), 2, "--rate-limit");
    bad(&feed(tool("xb-throttle").args(["-L", "fast"]), b""), 2, "is not a size");
}

fn head() -> std::process::Command {
    let mut head = program("head");
    head.args(["-c", "1000000"]);
    head
}
