//! A rate is kept however the reader stalls, and whatever passes is passed as it came.
//!
//! How exactly a rate is kept is tested on the schedule itself, with a clock that is made up: a busy machine must not
//! fail a test.

use std::time::Duration;

use rustix::process::Signal;
use xb::throttle::along::{Along, Seen};
use xb::throttle::schedule::{SECOND, Schedule};

use crate::support::{Pipeline, Random, program, wait_until, xb};
use crate::tool::{bad, feed, good, pack, said, scratch, tool};

const BURST: u64 = SECOND / 20;
const RATES: [u64; 8] = [1, 100, 64 << 10, 1 << 20, 10_000_000, 100 << 20, 999_999_937, 1_000_000_000];

/// Sends for `time` nanoseconds as the program does, with a sleeper that comes late by up to `late`; when how much went.
fn play(schedule: &mut Schedule, from: u64, time: u64, late: u64, random: &mut Random) -> Vec<(u64, u64)> {
    let (mut now, mut sent) = (from, Vec::new());
    loop {
        if schedule.due() > now {
            now = schedule.due() + random.below(late + 1);
        }
        if now >= from + time {
            return sent;
        }
        let slice = schedule.slice();
        sent.push((now, slice));
        schedule.sent(slice, now);
    }
}

fn sum(sent: &[(u64, u64)], from: u64, time: u64) -> u64 {
    sent.iter().filter(|(at, _)| (from..from + time).contains(at)).map(|(_, bytes)| bytes).sum()
}

#[test]
fn any_second_is_within_one_per_cent_and_ten_within_a_fifth() {
    let mut random = Random::new(1);
    for rate in [64 << 10, 1 << 20, 10_000_000, 100 << 20, 999_999_937, 1_000_000_000] {
        let mut schedule = Schedule::new(rate, BURST, 7);
        // Timers are late by 60 us at most on an idle machine with the default slack.
        let sent = play(&mut schedule, 7, 20 * SECOND, 60_000, &mut random);
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

#[test]
fn a_late_sleeper_loses_nothing_as_long_as_he_is_not_later_than_the_burst() {
    let mut random = Random::new(2);
    for rate in RATES {
        let mut schedule = Schedule::new(rate, BURST, 0);
        let sent = play(&mut schedule, 0, 10 * SECOND, BURST / 3, &mut random);
        let got = sum(&sent, 0, 10 * SECOND);
        assert!(got.abs_diff(10 * rate) <= rate / 20 + schedule.slice(), "{rate}: {got}");
    }
}

#[test]
fn after_a_stall_of_any_length_the_burst_is_at_most_fifty_milliseconds() {
    for rate in RATES {
        for stall in [0, BURST / 2, BURST, SECOND, 3600 * SECOND, u64::MAX / 4] {
            let mut schedule = Schedule::new(rate, BURST, 0);
            play(&mut schedule, 0, SECOND, 0, &mut Random::new(3));
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
    let sent = play(&mut schedule, 5 * SECOND, SECOND / 200, 0, &mut Random::new(4));
    assert_eq!(sent.len(), 1);
}

#[test]
fn another_rate_holds_from_the_next_slice_on() {
    for (before, after) in [(1, 1 << 30), (1 << 30, 1 << 10), (1 << 20, 2 << 20), (0, 1 << 20), (1 << 20, 0)] {
        let mut schedule = Schedule::new(before, BURST, 0);
        let now = SECOND;
        schedule.sent(schedule.slice().min(1 << 20), now);
        schedule.change(after, now);
        assert!(schedule.due() <= now + BURST, "{before} to {after}: due {}", schedule.due());
        let sent = play(&mut schedule, now, if after == 0 { 0 } else { 10 * SECOND }, 0, &mut Random::new(5));
        assert!(sum(&sent, now, 10 * SECOND).abs_diff(10 * after) <= after / 10 + schedule.slice().min(1 << 20));
    }
}

#[test]
fn every_slice_fits_the_burst_and_is_worth_its_system_calls() {
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
        let (mut along, mut at, mut seen) = (Along::new(true), 0, Vec::new());
        while at < stream.len() {
            match along.need().min(most).min(stream.len() - at) {
                0 => {
                    let unseen = along.blind().min(most as u64).min((stream.len() - at) as u64);
                    along.skip(unseen);
                    at += unseen as usize;
                }
                count => {
                    seen.extend(along.see(&stream[at..at + count]));
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
fn the_meter_tells_exact_bytes_and_the_share_of_what_is_announced() {
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
