//! What all tools have in common: runs with a closed or full descriptor, and the form of messages.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::pipeline::Run;
use crate::support::tool::{member, plant, proved, tree};
use crate::support::{Pipeline, Server, fault, output, scratch, tools, xb};

/// A run of a tool: files, input, and whether it needs stdin and stdout. Two runs write the same amount.
struct Case {
    tool: &'static str,
    arguments: Vec<String>,
    input: Vec<u8>,
    reads: bool,
    writes: bool,
}

impl Case {
    fn command(&self, here: &Path) -> Command {
        let mut command = xb(self.tool);
        command.args(&self.arguments).current_dir(here);
        command
    }

    fn run(&self, command: Command) -> Run {
        Pipeline::new().stage(command).stdin_bytes(self.input.clone()).run()
    }
}

/// Each tool except xb-snap, in each of its modes with stdin and stdout.
fn cases(here: &Path) -> Vec<Case> {
    plant(here, &[("files/t.ibd", &[7; 100_000]), ("files/u.frm", b"definition")]);
    let mut generate = xb("xb-crypt");
    generate.arg("--generate-key").arg(here.join("key"));
    output(generate);
    let mut pack = xb("xb-pack");
    pack.arg("-C").arg(here.join("files")).arg(".");
    let stream = Pipeline::new().stage(pack).run().stdout;
    let case = |tool, arguments: &str, input: &[u8], reads, writes| Case {
        tool,
        arguments: arguments.split_whitespace().map(str::to_owned).collect(),
        input: input.to_vec(),
        reads,
        writes,
    };
    vec![
        case("xb-pack", "--no-manifest -C files .", b"", false, true),
        case("xb-pack", "--no-manifest -C files -T -", b"t.ibd\n", true, true),
        case("xb-unpack", "--list", &stream, true, true),
        case("xb-unpack", "--verify", &stream, true, false),
        case("xb-unpack", "--overwrite -C unpacked", &stream, true, false),
        case("xb-zip", "", &stream, true, true),
        case("xb-crypt", "-k key", &stream, true, true),
        case("xb-throttle", "-L 100m", &stream, true, true),
        case("xb-sum", "-o sums", &stream, true, true),
    ]
}

#[test]
fn a_closed_or_full_descriptor_is_an_error() {
    let here = scratch();
    for case in cases(here.path()) {
        let before = tree(here.path());
        let (name, plain) = (format!("{} {}", case.tool, case.arguments.join(" ")), case.command(here.path()));
        let without_input = case.run(fault::closed(&plain, 0));
        without_input.assert_codes(&[i32::from(case.reads)]);
        assert_eq!(
            without_input.stderr(0).contains("stdin: is closed"),
            case.reads,
            "{name}: {}",
            without_input.story()
        );
        for (lost, words) in [(fault::closed(&plain, 1), "stdout: is closed"), (fault::full(&plain), "no space left")] {
            let run = case.run(lost);
            run.assert_codes(&[i32::from(case.writes)]);
            assert_eq!(run.stderr(0).contains(words), case.writes, "{name}: {}", run.story());
        }
        let usual = case.run(case.command(here.path()));
        let silent = case.run(fault::closed(&plain, 2));
        silent.assert_ok();
        assert_eq!(silent.stdout.len(), usual.assert_ok().stdout.len(), "{name}");
        only_what_was_asked_for(&before, here.path());
    }
}

/// Existing files are unchanged; new files are the expected output, and correct. Removes them.
fn only_what_was_asked_for(before: &BTreeMap<PathBuf, Vec<u8>>, here: &Path) {
    let mut after = tree(here);
    for (path, content) in before {
        assert!(after.remove(path).as_ref() == Some(content), "{} was written to", path.display());
    }
    for (path, content) in after {
        match path.strip_prefix("unpacked") {
            Ok(name) if name.starts_with("xb_begin") || name.starts_with("xb_manifest") => {}
            Ok(name) => assert!(before[&Path::new("files").join(name)] == content, "{} differs", name.display()),
            Err(_) => assert!(path == Path::new("sums") && content.len() < 100, "{} is new", path.display()),
        }
        std::fs::remove_file(here.join(path)).unwrap();
    }
}

#[test]
fn a_backup_without_a_descriptor_is_right_or_fails() {
    let server = Server::new().start();
    server.sql("CREATE DATABASE a; CREATE TABLE a.t (id INT PRIMARY KEY); INSERT INTO a.t VALUES (1)");
    let mut snap = xb("xb-snap");
    snap.args(server.options());
    let lost = Pipeline::new().stage(fault::closed(&snap, 1)).run();
    lost.assert_codes(&[1]);
    assert!(lost.stderr(0).contains("stdout: is closed"), "{}", lost.story());
    for descriptor in [0, 2] {
        let run = Pipeline::new().stage(fault::closed(&snap, descriptor)).run();
        run.assert_ok();
        // It is complete, but not a backup until it has its log.
        let alone = proved(&run.stdout).unwrap_err();
        assert!(format!("{alone:?}").contains("not piped through xb-redo"), "{alone:?}");
        for descriptor in [0, 1, 2] {
            let redo =
                Pipeline::new().stage(fault::closed(&xb("xb-redo"), descriptor)).stdin_bytes(run.stdout.clone()).run();
            // What the server has written since is not needed; the log is still there.
            assert_eq!(redo.codes(), [i32::from(descriptor != 2)], "{}", redo.story());
        }
    }
    let dir = scratch();
    crate::support::backup::take(&server, &[], dir.path());
    let mut status = xb("xb-redo");
    status.arg("--status").arg(dir.path());
    for (command, code) in [
        (fault::closed(&status, 0), 0),
        (fault::closed(&status, 1), 1),
        (fault::full(&status), 1),
        (fault::closed(&status, 2), 0),
    ] {
        Pipeline::new().stage(command).run().assert_codes(&[code]);
    }
    server.sql("CHECK TABLE a.t EXTENDED; INSERT INTO a.t VALUES (2)");
}

/// Lines as printed by `--log=text`, without times and progress numbers.
fn told(run: &Run) -> Vec<String> {
    run.stderr(0).lines().map(str::to_owned).collect()
}

/// The same, as objects.
fn objects(tool: &str, run: &Run) -> Vec<String> {
    let lines =
        run.stderr(0).lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")));
    let mut told = Vec::new();
    for line in lines {
        let line: serde_json::Value = line;
        assert_eq!(line["tool"], tool);
        let time: jiff::Timestamp = line["ts"].as_str().unwrap().parse().unwrap();
        assert!(jiff::Timestamp::now().duration_since(time).as_secs().abs() < 600, "{line}");
        if line["event"] == "summary" {
            assert!(line["bytes"].is_number() && line["elapsed_s"].is_number(), "{line}");
            assert_eq!(line["exit_code"].as_i64(), Some(i64::from(run.codes()[0])), "{line}");
            continue;
        }
        if line["event"] == "progress" {
            for number in ["bytes", "elapsed_s", "bytes_per_s", "current_bytes_per_s"] {
                assert!(line[number].is_number(), "{line}");
            }
            continue;
        }
        let message = line["message"].as_str().unwrap();
        told.push(match line["level"].as_str().unwrap() {
            "hint" => format!("hint: {message}"),
            "result" => message.to_owned(),
            "detail" | "info" | "warning" | "error" => format!("{tool}: {message}"),
            other => panic!("level {other}"),
        });
    }
    told
}

#[test]
fn every_json_line_has_the_words_of_the_text() {
    let here = scratch();
    plant(here.path(), &[("files/t.ibd", &[7; 100_000]), ("files/.hidden", b"mbstream refuses it")]);
    let stream = member("t", &[1; 100_000]);
    for (tool, arguments, input, code) in [
        ("xb-pack", "-v -C files .", &b""[..], 0),
        ("xb-pack", "files/missing", b"", 1),
        ("xb-pack", "--bogus", b"", 2),
        ("xb-unpack", "--verify", &stream, 0),
        ("xb-unpack", "--verify", &stream[..stream.len() - 10], 3),
        ("xb-unpack", "--verify", b"\x1f\x8b gzip", 3),
        ("xb-sum", "", &stream, 0),
        ("xb-throttle", "", &stream, 0),
        ("xb-zip", "--progress=always", &stream, 0),
    ] {
        let run = |log: &str| {
            let mut command = xb(tool);
            command.arg(log).args(arguments.split_whitespace()).current_dir(here.path());
            let run = Pipeline::new().stage(command).stdin_bytes(input).run();
            run.assert_codes(&[code]);
            run
        };
        let text: Vec<String> = told(&run("--log=text")).into_iter().filter(|line| !line.contains("B/s")).collect();
        let json = run("--log=json");
        assert_eq!(objects(tool, &json), text, "{tool} {arguments}");
        if code != 2 {
            let last = json.stderr(0).lines().last().unwrap_or_default();
            assert!(last.contains(r#""event":"summary""#), "{}", json.story());
        }
        let progress = json.stderr(0).contains("progress");
        assert!(!json.stderr(0).is_empty() || tool == "xb-zip", "{tool} {arguments} says nothing");
        assert!(progress || tool != "xb-throttle", "{}", json.story());
    }
}

#[test]
fn a_json_log_stays_json_whatever_is_wrong() {
    for (arguments, json) in [
        ("--log json --bogus", true),
        ("--bogus --log=json", true),
        ("--log=json --log text --bogus", false),
        ("--bogus -- --log=json", false),
    ] {
        let run = Pipeline::new().stage(xb("xb-unpack").args(arguments.split(' '))).run();
        run.assert_codes(&[2]);
        assert_eq!(run.stderr(0).starts_with('{'), json, "{arguments}: {}", run.story());
    }
    let stream: Vec<u8> = member("a?", b"x").iter().map(|byte| if *byte == b'?' { 0xff } else { *byte }).collect();
    let run = Pipeline::new().stage(xb("xb-sum").args(["--members", "--log", "json"])).stdin_bytes(stream).run();
    run.assert_ok();
    assert!(run.stderr(0).contains(r" 1 a\\xff"), "a name that is no UTF-8 can be told from others: {}", run.story());
}

#[test]
fn names_that_users_of_the_originals_know_are_taken() {
    for options in ["--parallel=2", "--slave-info --safe-slave-backup --galera-info", "-j 2 --lock-ddl off -S /none"] {
        let mut snap = xb("xb-snap");
        snap.args(["--no-defaults", "--socket=/nonexistent/socket"]).args(options.split_whitespace());
        let run = Pipeline::new().stage(snap).run();
        run.assert_codes(&[1]);
        assert!(run.stderr(0).contains("cannot connect as"), "{options}: {}", run.story());
    }
}

#[test]
fn the_help_of_every_tool_fits_a_terminal() {
    for tool in tools() {
        let mut help = xb(&tool);
        help.arg("--help").env("COLUMNS", "80");
        let help = output(help);
        assert!(help.lines().all(|line| line.chars().count() <= 100), "{tool}");
        assert_eq!(help.contains("-1..-19"), tool == "xb-zip");
    }
}

/// A tool, arguments, and a part of the hint.
const WRONG: &[(&str, &str, &str)] = &[
    ("xb-keep", "fulll", "unrecognized subcommand"),
    ("xb-keep", "full s t", "unexpected argument 't'"),
    ("xb-keep", "full s --lable", "did you mean --label?"),
    ("xb-snap", "--backup", "--backup: is not an option of xb-snap\nhint: here: xb-snap always makes a backup"),
    ("xb-snap", "--target-dir=/srv/x", "hint: here: xb-snap … | xb-redo | xb-unpack -C DIR"),
    ("xb-snap", "--stream=xbstream", "the output is an xbstream"),
    ("xb-snap", "--compress", "| xb-zip"),
    ("xb-snap", "--encrypt=AES256", "| xb-crypt -k KEYFILE"),
    ("xb-snap", "--prepare", "xb-redo --apply DIR"),
    ("xb-snap", "-psecret", "--password-file FILE"),
    ("xb-snap", "--incremental-basdir=/srv", "did you mean --incremental-basedir?"),
    ("xb-snap", "somewhere", "somewhere: is not an option, and this program takes no files"),
    ("xb-redo", "--prepare", "--apply DIR"),
    ("xb-redo", "--target-dir=/srv/x", "--apply DIR, --copy-back DIR"),
    ("xb-redo", "--aply", "did you mean --apply?"),
    ("xb-redo", "backup.xbs", "hint: xb-redo reads stdin: xb-redo … < backup.xbs"),
    ("xb-pack", "-x", "xb-unpack -C DIR < FILE"),
    ("xb-unpack", "-c", "xb-pack -C DIR . > FILE"),
    ("xb-unpack", "--decompress", "xb-zip -d < FILE | xb-unpack -C DIR"),
    ("xb-unpack", "--verfy", "did you mean --verify?"),
    ("xb-zip", "-T0", "hint: here: -j N"),
    ("xb-zip", "backup.xbs", "hint: xb-zip reads stdin: xb-zip … < backup.xbs"),
    ("xb-zip", "-a zst", "did you mean zstd?"),
    ("xb-crypt", "--encrypt-key-file=k", "hint: here: -k KEYFILE"),
    ("xb-crypt", "-k key backup.xbs", "xb-crypt reads stdin: xb-crypt … < backup.xbs"),
    ("xb-throttle", "-pterb", "all of it is shown by itself on a terminal"),
    ("xb-throttle", "backup.xbs", "xb-throttle … < backup.xbs"),
    ("xb-sum", "--tag", "-o FILE has the sums"),
    ("xb-sum", "backup.xbs", "xb-sum … < backup.xbs"),
    ("xb-unpack", "--frobnicate", "hint: xb-unpack --help lists the options"),
    ("xb-unpack", "--json", "xb-unpack: the following required arguments were not provided: --list"),
    ("xb-unpack", "--buffer-size=1", "--buffer-size: "),
    ("xb-throttle", "-L fast", "invalid value 'fast' for '--rate-limit <RATE>'"),
    ("xb-zip", "-20", "-20"),
    ("xb-zip", "-j 0", "0 is not in 1..=256"),
    ("xb-crypt", "-k /nowhere", "/nowhere: "),
    ("xb-redo", "--copy-back /nowhere", "--datadir"),
    ("xb-redo", "--status /nowhere", "/nowhere"),
    ("xb-redo", "--apply /nowhere", "/nowhere: cannot open: no such file or directory"),
    ("xb-sum", "-c /nowhere", "/nowhere: cannot read: no such file or directory"),
    ("xb-pack", "/etc", "names in a stream are relative"),
    ("xb-snap", "--no-defaults --socket=/nowhere/socket", "hint: is the server running?"),
    ("xb-snap", "--no-defaults --tables=(", "--tables: not a regular expression"),
    ("xb-snap", "--defaults-file=/nowhere", "/nowhere: cannot read: no such file or directory"),
];

#[test]
fn what_is_typed_wrong_gets_an_answer_in_plain_words() {
    for (tool, arguments, words) in WRONG {
        let mut command = xb(tool);
        command.args(arguments.split(' '));
        let run = Pipeline::new().stage(command).stdin_bytes(b"x".as_slice()).run();
        let said = format!("{}{}", run.stderr(0), String::from_utf8_lossy(&run.stdout));
        assert!(said.contains(words), "{tool} {arguments}: {words:?} is not in:\n{said}");
        assert!(
            run.codes() != [0] && said.starts_with(&format!("{tool}: ")) || arguments.contains("--status"),
            "{said}"
        );
        for word in ["error:", "tip:", "Usage:", "Some(", "None", "Err(", "panicked", "os error", "unwrap", "[src/"] {
            assert!(!said.contains(word), "{tool} {arguments}: {word} is in:\n{said}");
        }
        assert!(run.stderr(0).lines().count() <= 2, "{said}");
    }
}

#[path = "../lib/cli/others.rs"]
#[allow(dead_code)]
mod others;

#[test]
fn options_of_other_programs_are_answered_with_options_that_exist() {
    for (tool, table) in others::TABLES {
        for (options, answer) in table.iter() {
            for option in options.iter() {
                let said = xb(tool).arg(option).output().unwrap();
                assert_eq!(said.status.code(), Some(2), "{tool} {option}");
                let said = String::from_utf8(said.stderr).unwrap();
                assert!(said.ends_with(&format!("\nhint: here: {answer}\n")), "{tool} {option}: {said}");
            }
            for command in answer.split('|') {
                let named = command.split([' ', ':']).find(|word| word.starts_with("xb-")).unwrap_or(tool);
                let mut help = xb(named);
                help.arg("--help");
                let help = output(help);
                for option in command.split(' ').filter(|word| word.starts_with('-')) {
                    let option = option.split('=').next().unwrap_or_default().trim_end_matches([',', ';', ':']);
                    assert!(help.contains(option), "{tool} {options:?}: {named} has no {option}");
                }
            }
        }
    }
}

#[test]
fn help_goes_into_no_pipe_unless_it_stands_alone() {
    for tool in tools() {
        for alone in ["-h", "--help", "-V", "--version"] {
            let mut command = xb(&tool);
            command.arg(alone);
            let said = output(command);
            assert!(if alone.to_lowercase().contains('v') { said.starts_with(&tool) } else { said.contains("Usage:") });
        }
        // mariadbd's script has none of the common options, and an errno as its exit status.
        let script = tool == "wsrep_sst_xb";
        let common: [&[&str]; 2] =
            if script { [&["--bypass", "--help"], &["-V", "--bypass"]] } else { [&["-q", "--help"], &["-V", "-v"]] };
        let code = if script { 22 } else { 2 };
        for arguments in [&["-h", "localhost"][..]].into_iter().chain(common) {
            let mut command = xb(&tool);
            command.args(arguments);
            let run = Pipeline::new().stage(command).run();
            assert!(run.codes() == [code] && run.stdout.is_empty(), "{tool} {arguments:?}: {}", run.story());
            assert!(run.stderr(0).contains(" alone prints it"), "{}", run.story());
        }
    }
}

#[test]
fn what_users_of_mbstream_type_is_understood() {
    let dir = scratch();
    plant(dir.path(), &[("d/t.ibd", b"content")]);
    let mut pack = xb("xb-pack");
    pack.args(["-c", "--parallel=2", "-C"]).arg(dir.path()).arg("d");
    let stream = Pipeline::new().stage(pack).run().assert_ok().stdout.clone();
    let mut unpack = xb("xb-unpack");
    unpack.args(["-x", "-v", "--parallel", "2", "-C"]).arg(dir.path().join("out"));
    Pipeline::new().stage(unpack).stdin_bytes(stream.clone()).run().assert_ok();
    assert_eq!(std::fs::read(dir.path().join("out/d/t.ibd")).unwrap(), b"content");
    let mut zip = xb("xb-zip");
    zip.args(["--parallel", "2"]);
    Pipeline::new().stage(zip).stdin_bytes(stream).run().assert_ok();
    // A file is given where members are expected, and there is nothing to read.
    let mut named = xb("xb-unpack");
    named.args(["--verify", "d/t.ibd"]).current_dir(dir.path()).stdin(std::process::Stdio::null());
    let said = named.output().unwrap();
    assert_eq!(said.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&said.stderr).contains("hint: xb-unpack … < d/t.ibd"));
}

#[test]
fn a_listing_that_nobody_reads_on_ends_without_a_word() {
    let name = |number: u32| format!("database/table_with_a_name_that_is_long_{number:010}.ibd");
    let stream: Vec<u8> = (0..40_000).flat_map(|number| member(&name(number), b"")).collect();
    let mut head = Command::new("head");
    head.arg("-n1");
    let list = || {
        let mut list = xb("xb-unpack");
        list.arg("--list");
        list
    };
    let run = Pipeline::new().stage(list()).stage(head).stdin_bytes(stream).run();
    assert_eq!(run.codes(), [141, 0], "{}", run.story());
    assert_eq!(run.stderr(0), "", "{}", run.story());
}
