//! The progress of a pipeline on a terminal: one line, not wider than the terminal.

use std::path::Path;

use crate::support::terminal::{Shown, shown};
use crate::support::tool::{Dice, feed, good, pack, plant, said, scratch, tool, unpack};

/// Lines of progress that were on the screen for a while: the tool, and the whole line.
fn drawn(shown: &Shown) -> Vec<(&str, &str)> {
    let lines = shown.erased.iter().filter(|line| line.starts_with("xb-"));
    lines.filter_map(|line| Some((line.split_once(':')?.0, line.as_str()))).collect()
}

/// At most one line, by one tool at a time; no line remains on the screen.
#[track_caller]
fn one_line(shown: &Shown, width: u16, stages: usize) {
    let all = format!("{:#?}\n{:#?}", shown.rows, shown.erased);
    assert!(shown.ok, "{all}");
    assert!(shown.erased.iter().all(|line| line.chars().count() < usize::from(width)), "{all}");
    assert!(!shown.rows.iter().any(|row| row.contains("B/s")), "{all}");
    assert!(shown.erased.iter().all(|line| line.matches("xb-").count() == 1), "{all}");
    // A tool that has ended does not draw again, and no two tools alternate.
    let mut turns: Vec<&str> = drawn(shown).iter().map(|(tool, _)| *tool).collect();
    turns.dedup();
    assert!(!turns.is_empty() && turns.len() <= stages, "{all}");
}

fn files() -> tempfile::TempDir {
    let dir = scratch();
    for n in 0..6 {
        let content = Dice(n + 1).bytes(100_000);
        plant(dir.path(), &[(&format!("database/a_table_whose_name_is_long_{n}.ibd"), &content)]);
    }
    dir
}

fn pipeline(width: u16, from: &Path, stages: &str) -> Shown {
    let into = scratch();
    let words = stages.replace("FROM", from.to_str().unwrap()).replace("INTO", into.path().to_str().unwrap());
    shown(width, &format!("PATH=$TOOLS:$PATH; {words}"))
}

#[test]
fn one_tool_of_a_pipeline_draws_progress() {
    let files = files();
    for width in [30, 60, 200] {
        let stages =
            "xb-pack -q --progress -C FROM . | xb-zip | xb-throttle -L 500k --progress=never | xb-unpack -C INTO";
        let seen = pipeline(width, files.path(), stages);
        one_line(&seen, width, 3);
    }
}

#[test]
fn the_tool_whose_purpose_is_progress_draws_it() {
    let files = files();
    let seen = pipeline(100, files.path(), "xb-pack -C FROM . | xb-throttle -L 400k | xb-unpack -C INTO");
    one_line(&seen, 100, 3);
    let ours = drawn(&seen).iter().filter(|(tool, _)| *tool == "xb-throttle").count();
    assert!(ours * 2 > drawn(&seen).len(), "{:#?}", seen.erased);
}

#[test]
fn the_share_is_told_only_of_what_was_announced() {
    let files = files();
    for (how, share) in [("cat", true), ("xb-zip --progress=never", false)] {
        for last in ["xb-unpack -C INTO", "xb-throttle > /dev/null", "xb-throttle -v > /dev/null"] {
            let stages =
                format!("xb-pack --progress=never -C FROM . | {how} | xb-throttle -L 500k --progress=never | {last}");
            let seen = pipeline(150, files.path(), &stages);
            one_line(&seen, 150, 1);
            // Before the first member that is compressed, nobody can know.
            let (_, line) = *drawn(&seen).last().unwrap();
            assert_eq!(line.contains('%'), share, "{stages}: {line}");
        }
    }
}

#[test]
fn right_behind_xb_crypt_no_share_is_told() {
    let files = files();
    let keys = scratch();
    let key = keys.path().join("key");
    good(feed(tool("xb-crypt").arg("--generate-key").arg(&key), b""));
    let crypt = format!("xb-crypt --progress=never -k {}", key.display());
    for (stages, share) in [
        (format!("{crypt} | xb-throttle -L 500k > /dev/null"), false),
        // Sealed, and opened again: the total is that of what comes.
        (format!("{crypt} | {crypt} -d | xb-throttle -L 500k > /dev/null"), true),
        (format!("{crypt} | xb-throttle -L 500k --progress=never | {crypt} -d | xb-unpack -C INTO"), true),
    ] {
        let seen = pipeline(150, files.path(), &format!("xb-pack --progress=never -C FROM . | {stages}"));
        one_line(&seen, 150, 1);
        let (_, line) = *drawn(&seen).last().unwrap();
        assert_eq!(line.contains('%'), share, "{stages}: {line}");
    }
}

#[test]
fn a_pipeline_in_the_background_does_not_draw() {
    let files = files();
    let stages = "set -m; { xb-pack -C FROM . | xb-throttle -L 600k | xb-unpack -q -C INTO; } & wait $!";
    let seen = pipeline(100, files.path(), stages);
    assert!(seen.ok && drawn(&seen).is_empty(), "{:#?}\n{:#?}", seen.rows, seen.erased);
}

#[test]
fn two_pipelines_in_turn_draw_each() {
    let files = files();
    let one =
        "xb-pack -q --progress -C FROM . | xb-throttle -L 800k --progress=never | xb-sum -q --progress > /dev/null";
    let seen = pipeline(100, files.path(), &format!("{one}; {one}"));
    one_line(&seen, 100, 4);
}

#[test]
fn nothing_is_drawn_off_a_terminal() {
    let files = files();
    let packed = pack(files.path(), &[]);
    assert!(!said(&packed).contains(['\r', '\x1b']) && !said(&packed).contains("B/s"), "{}", said(&packed));
    let into = scratch();
    let run = unpack(&into.path().join("new"), &[], &good(packed));
    assert!(!said(&run).contains(['\r', '\x1b']) && !said(&run).contains("B/s"), "{}", said(&run));
}
