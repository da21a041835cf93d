//! xb-keep: what it keeps restores to what the server had, and what is not a backup never looks like one.

mod moments;
mod week;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::pipeline::Run;
use crate::support::{Flavour, Pipeline, Random, Server, check, fault, output, program, scratch, test_on, xb};

/// A store for a server, in a directory of its own.
struct Store {
    dir: TempDir,
}

impl Store {
    /// With the settings that `more` adds to those of the connection and of the server's program.
    fn of(server: &Server, more: &str) -> Store {
        let store = Store { dir: scratch() };
        let plugins: Vec<String> = server.plugins();
        let plugins = plugins.iter().filter_map(|option| option.strip_prefix("--server-option="));
        let plugins: Vec<String> = plugins.map(|option| format!("{option:?}")).collect();
        let settings = format!(
            "[backup]\ndefaults_file = {:?}\n{more}\n[status]\nfree = \"0:0\"\n[restore]\nserver = {:?}\nserver_options = [{}]\n",
            server.option_file(),
            server.flavour().server(),
            plugins.join(", "),
        );
        let file = store.dir.path().join("settings");
        fs::write(&file, settings).unwrap();
        let mut init = xb("xb-keep");
        init.arg("init").arg(store.path()).arg("--config").arg(&file);
        Pipeline::new().stage(init).run().assert_ok();
        store
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    fn call(&self, verb: &str, arguments: &[&str]) -> Command {
        let mut command = xb("xb-keep");
        command.arg(verb).arg(self.path()).args(arguments);
        command
    }

    fn run(&self, verb: &str, arguments: &[&str]) -> Run {
        Pipeline::new().stage(self.call(verb, arguments)).limit(Duration::from_secs(200)).run()
    }

    #[track_caller]
    fn good(&self, verb: &str, arguments: &[&str]) -> String {
        let run = self.run(verb, arguments);
        run.assert_ok();
        String::from_utf8(run.stdout.clone()).unwrap()
    }

    #[track_caller]
    fn bad(&self, verb: &str, arguments: &[&str], code: i32, words: &str) {
        let run = self.run(verb, arguments);
        assert!(run.codes() == [code] && run.stderr(0).contains(words), "not {code} with {words:?}: {}", run.story());
    }

    /// The backups, as `list --json` has them.
    fn list(&self) -> Vec<Value> {
        let text: Value = serde_json::from_str(&self.good("list", &["--json"])).unwrap();
        text["backups"].as_array().unwrap().clone()
    }

    fn ids(&self) -> Vec<String> {
        self.list().iter().map(|backup| backup["id"].as_str().unwrap().to_owned()).collect()
    }

    /// Restores a backup; the directory is in the second value as long as that lives.
    #[track_caller]
    fn restore(&self, id: &str) -> (PathBuf, TempDir) {
        let room = scratch();
        let to = room.path().join("to");
        self.good("restore", &[id, "--to", to.to_str().unwrap()]);
        (to, room)
    }

    /// Every object of backups, without notes.
    fn objects(&self) -> Vec<PathBuf> {
        let mut find = program("find");
        find.arg(self.path().join("backups")).args(["-type", "f", "-not", "-path", "*/notes/*"]);
        let mut paths: Vec<PathBuf> = output(find).lines().map(PathBuf::from).collect();
        paths.sort();
        paths
    }
}

const TABLES: &str = "CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY, v VARCHAR(200)) ENGINE=InnoDB; \
    CREATE TABLE d.other (id INT PRIMARY KEY) ENGINE=MyISAM; INSERT INTO d.other VALUES (1), (2); \
    INSERT INTO d.t VALUES (1, REPEAT('a', 200)), (2, REPEAT('b', 200))";

/// More rows.
fn rows(server: &Server, round: u32) {
    for number in 0..50 {
        server.sql(&format!("INSERT INTO d.t VALUES ({}, REPEAT('x', 200))", 1000 * round + number));
    }
    server.sql(&format!("INSERT INTO d.other VALUES ({})", 1000 * round));
}

fn a_server(flavour: Flavour) -> Server {
    let server = Server::new().flavour(flavour).start();
    server.sql(TABLES);
    server
}

test_on!(a_chain_restores_to_what_the_server_has: mariadb, mariadb118, mysql97);

fn a_chain_restores_to_what_the_server_has(flavour: Flavour) {
    let server = a_server(flavour);
    let store = Store::of(&server, "");
    store.good("full", &["--label", "first"]);
    rows(&server, 1);
    store.good("incr", &[]);
    server.sql("CREATE TABLE d.made (id INT PRIMARY KEY); INSERT INTO d.made VALUES (7); DELETE FROM d.t WHERE id = 2");
    rows(&server, 2);
    store.good("incr", &[]);
    let list = store.list();
    let parents: Vec<&Value> = list.iter().map(|backup| &backup["parent"]).collect();
    assert_eq!(parents, [&Value::Null, &list[0]["id"], &list[1]["id"]]);
    assert!(list.iter().all(|backup| backup["proved"] == true && backup["binlog"]["position"].is_u64()), "{list:?}");
    assert_eq!(store.good("show", &["first", "--field", "label"]).trim(), "first");
    store.good("verify", &["--all", "--pages"]);
    let (restored, _room) = store.restore("latest");
    check::same(&server, &server.twin(&restored).start()).assert_good();
    // The first one is what the server had then.
    let (restored, _room) = store.restore("first");
    let old = server.twin(&restored).start();
    assert_eq!(
        (old.value("SELECT COUNT(*) FROM d.t"), old.value("SELECT COUNT(*) FROM d.other")),
        ("2".into(), "2".into())
    );
    store.good("drill", &["--scratch", store.dir.path().to_str().unwrap()]);
    let list = store.list();
    assert_eq!(list[2]["drilled"]["good"], true, "{list:?}");
    assert!(list[2]["drilled"]["millis"].as_u64().unwrap() > 0 && list[0]["restored"]["good"] == true);
    assert!(store.good("status", &[]).starts_with("OK - last backup "));
    assert_eq!(store.good("binlog-floor", &[]).trim(), list[0]["binlog"]["file"].as_str().unwrap());
    // A copy of the objects alone is a store.
    let copy = store.dir.path().join("copy");
    let mut cp = program("cp");
    cp.arg("-a").arg(store.path()).arg(&copy);
    output(cp);
    for name in ["tmp", "lock", "lock.readers"] {
        let mut rm = program("rm");
        rm.arg("-r").arg(copy.join(name));
        output(rm);
    }
    let mut verify = xb("xb-keep");
    verify.arg("verify").arg(&copy).arg("--all");
    Pipeline::new().stage(verify).run().assert_ok();
}

#[test]
fn a_differential_builds_on_the_full_backup() {
    let server = a_server(Flavour::Installed);
    let store = Store::of(&server, "");
    store.bad("incr", &[], 1, "no backup that could be the base");
    store.good("full", &[]);
    for round in 1..3 {
        rows(&server, round);
        store.good("incr", &["--base", "full"]);
    }
    let list = store.list();
    assert!(list[1]["parent"] == list[0]["id"] && list[2]["parent"] == list[0]["id"]);
    let (restored, _room) = store.restore("latest");
    check::same(&server, &server.twin(&restored).start()).assert_good();
    assert_eq!(store.good("last-lsn", &[]).trim(), list[2]["to_lsn"].to_string());
}

#[test]
fn some_members_are_read_by_ranges_also_from_sealed_streams() {
    let server = a_server(Flavour::Installed);
    rows(&server, 1);
    let keys = scratch();
    let key = keys.path().join("key");
    let mut generate = xb("xb-crypt");
    generate.arg("--generate-key").arg(&key);
    output(generate);
    let sealed = format!("key_file = {key:?}");
    for more in ["compress = \"none\"", "", "compress = \"lz4\"", sealed.as_str()] {
        let store = Store::of(&server, more);
        store.good("full", &[]);
        let whole = scratch();
        let unpack = |dir: &Path| {
            let mut unpack = xb("xb-unpack");
            unpack.arg("-C").arg(dir);
            unpack
        };
        Pipeline::new().stage(store.call("cat", &["latest"])).stage(unpack(whole.path())).run().assert_ok();
        let part = scratch();
        let cat = store.call("cat", &["latest", "d/other*", "ibdata1"]);
        Pipeline::new().stage(cat).stage(unpack(part.path())).run().assert_ok();
        let mut names: Vec<String> = Vec::new();
        for path in ["ibdata1", "d/other.MYD", "d/other.MYI", "d/other.frm"] {
            assert_eq!(
                fs::read(part.path().join(path)).unwrap(),
                fs::read(whole.path().join(path)).unwrap(),
                "{more}: {path}"
            );
            names.push(path.to_owned());
        }
        let mut find = program("find");
        find.arg(part.path()).args(["-type", "f", "-not", "-name", "xb_*"]);
        assert_eq!(output(find).lines().count(), names.len(), "{more}");
        let run = store.run("cat", &["latest", "d/none"]);
        assert!(run.codes() == [1] && run.stderr(0).contains("matches no member"), "{}", run.story());
        rows(&server, 2);
        store.good("incr", &[]);
        let (restored, _room) = store.restore("latest");
        check::same(&server, &server.twin(&restored).start()).assert_good();
        server.sql("DELETE FROM d.t WHERE id >= 2000; DELETE FROM d.other WHERE id >= 2000");
        let raw = Pipeline::new().stage(store.call("cat", &["latest", "--raw"])).run();
        raw.assert_ok();
        assert_eq!(raw.stdout, fs::read(store.path().join(format!("backups/{}/stream.xbs", store.ids()[1]))).unwrap());
    }
}

#[test]
fn a_stage_that_fails_is_named_and_nothing_is_stored() {
    let server = a_server(Flavour::Installed);
    let snap = format!("[\"xb-snap\", \"--defaults-file={}\"]", server.option_file().display());
    let other = |script: &str| format!("{{ run = [\"sh\", \"-c\", \"{script}\"], undo = [\"cat\"] }}");
    let hook = scratch();
    let noted = hook.path().join("noted");
    let failing = [
        ("[[\"xb-snap\", \"--defaults-file=/nonexistent\"], [\"xb-redo\"]]".to_owned(), "xb-snap: "),
        (format!("[{snap}, [\"xb-redo\", \"--datadir=/nonexistent\"]]"), "xb-redo: "),
        (format!("[{snap}, [\"xb-redo\"], {}, [\"xb-zip\"]]", other("cat; exit 7")), "sh: ended with exit status 7"),
        (format!("[{snap}, [\"xb-redo\"], {}]", other("head -c 100000; cat > /dev/null")), "truncated"),
        (format!("[{snap}, [\"xb-redo\"], {}]", other("cat > /dev/null")), "empty: no bytes arrived"),
        (format!("[{snap}]"), "not piped through xb-redo"),
        (format!("[{snap}, [\"xb-redo\"], [\"xb-crypt\", \"-k\", \"/nonexistent\"]]"), "xb-crypt: "),
    ];
    for (stages, words) in failing {
        let settings = format!(
            "stages = {stages}\n[hooks]\non_failure = [\"sh\", \"-c\", \"echo $XB_ID: $XB_RESULT > {}\"]",
            noted.display()
        );
        let store = Store::of(&server, &settings);
        let run = store.run("full", &[]);
        assert!(run.codes() != [0] && run.stderr(0).contains(words), "{words:?}: {}", run.story());
        assert!(store.ids().is_empty() && store.objects_or_none().is_empty(), "{words}");
        assert!(fs::read_to_string(&noted).unwrap().contains(words), "{words}");
        let status = store.run("status", &[]);
        let line = String::from_utf8_lossy(&status.stdout).into_owned();
        assert!(
            status.codes() == [2] && line.starts_with("CRITICAL") && line.contains("the last run failed"),
            "{line}"
        );
    }
    let store = Store::of(&server, &format!("stages = [{snap}, [\"xb-redo\"], [\"openssl\", \"enc\"]]"));
    store.bad("full", &[], 2, "does not know how to undo this program");
}

impl Store {
    /// The same when there may be no directory.
    fn objects_or_none(&self) -> Vec<PathBuf> {
        if self.path().join("backups").exists() { self.objects() } else { Vec::new() }
    }
}

#[test]
fn a_run_that_is_killed_leaves_no_backup_and_needs_no_hand() {
    let server = a_server(Flavour::Installed);
    rows(&server, 1);
    let store = Store::of(&server, "");
    store.good("full", &[]);
    let begun = std::time::Instant::now();
    store.good("incr", &[]);
    let usual = begun.elapsed();
    let mut random = Random::new(16);
    for round in 0..12 {
        let verb = if round % 2 == 0 { "full" } else { "incr" };
        let mut child = store.call(verb, &[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let millis = random.below(u64::try_from(usual.as_millis()).unwrap() + 50);
        std::thread::sleep(Duration::from_millis(millis));
        let _ = child.kill();
        child.wait().unwrap();
        // Its programs end when nobody reads, and hold nothing.
        crate::support::wait_until("the lock", Duration::from_secs(20), || {
            store.run("verify", &["--all"]).codes() == [0]
        });
    }
    store.good("full", &[]);
    store.good("prune", &["--keep-last", "100"]);
    for id in store.ids() {
        store.good("restore", &[&id, "--to", store.dir.path().join(&id).to_str().unwrap()]);
    }
    let (restored, _room) = store.restore("latest");
    check::same(&server, &server.twin(&restored).start()).assert_good();
    assert_eq!(fs::read_dir(store.path().join("tmp")).unwrap().count(), 0, "prune has cleaned up");
}

#[test]
fn a_flipped_bit_or_a_missing_object_is_noticed() {
    let server = a_server(Flavour::Installed);
    let store = Store::of(&server, "");
    store.good("full", &[]);
    store.good("incr", &[]);
    store.good("verify", &["--all"]);
    let mut random = Random::new(7);
    for path in store.objects() {
        let bytes = fs::read(&path).unwrap();
        let at = usize::try_from(random.below(bytes.len() as u64)).unwrap();
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        let aside = store.dir.path().join("aside");
        for how in ["flipped", "missing", "cut"] {
            match how {
                "flipped" => fs::write(&path, &flipped).unwrap(),
                "cut" => fs::write(&path, &bytes[..at]).unwrap(),
                _ => fs::rename(&path, &aside).unwrap(),
            }
            let run = store.run("verify", &["--all"]);
            assert_eq!(run.codes(), [3], "{how} {}: {}", path.display(), run.story());
            let status = store.run("status", &[]);
            assert_eq!(status.codes(), [2], "{how} {}: {}", path.display(), String::from_utf8_lossy(&status.stdout));
            // Nothing that is needed goes, whatever the rules.
            let _ = store.run("prune", &["--keep-last", "1"]);
            fs::write(&path, &bytes).unwrap();
            store.good("verify", &["--all"]);
            assert_eq!(store.list().len(), 2, "{how} {}", path.display());
        }
    }
}

#[test]
fn streams_of_other_programs_are_added_and_restored() {
    let server = a_server(Flavour::Installed);
    let store = Store::of(&server, "");
    let backup = || {
        let mut backup = server.program("mariadb-backup");
        backup.args(server.options()).args(["--backup", "--stream=xbstream"]);
        backup
    };
    let gzip = || {
        let mut gzip = program("gzip");
        gzip.arg("-1");
        gzip
    };
    let add = store.call("add", &["--kind=full", "--label=old"]);
    Pipeline::new().stage(backup()).stage(gzip()).stage(add).run().assert_ok();
    assert_eq!(store.list()[0]["proved"], false);
    let plain = store.call("add", &["--kind=full", "--label=plain"]);
    Pipeline::new().stage(backup()).stage(plain).run().assert_ok();
    store.good("verify", &["--all"]);
    store.run("cat", &["plain", "ibdata1"]).assert_ok();
    let part =
        Pipeline::new().stage(store.call("cat", &["old", "d/other*"])).stage(xb("xb-unpack").arg("--list")).run();
    part.assert_ok();
    assert_eq!(String::from_utf8_lossy(&part.stdout).lines().count(), 3, "{}", part.story());
    let wrong = store.call("add", &["--kind=incremental", "--label=wrong"]);
    let run = Pipeline::new().stage(backup()).stage(wrong).run();
    assert!(run.codes()[1] == 3 && run.stderr(1).contains("is of the kind full"), "{}", run.story());
    let (restored, _room) = store.restore("plain");
    assert_eq!(server.twin(&restored).start().value("SELECT COUNT(*) FROM d.t"), "2");
}

#[test]
fn what_rules_do_not_keep_is_removed_and_what_is_pinned_stays() {
    let server = a_server(Flavour::Installed);
    let store = Store::of(&server, "[retention]\nkeep_last = 1");
    for _ in 0..3 {
        store.good("full", &[]);
        store.good("incr", &[]);
    }
    let ids = store.ids();
    store.good("pin", &[&ids[1]]);
    let told = store.good("prune", &["--dry-run"]);
    assert!(told.contains(&format!("keep   {}: base of {}", ids[0], ids[1])), "{told}");
    assert!(told.contains(&format!("remove {}: no rule keeps its set", ids[2])), "{told}");
    assert_eq!(store.ids(), ids);
    store.good("prune", &[]);
    assert_eq!(store.ids(), [&ids[0], &ids[1], &ids[4], &ids[5]].map(Clone::clone));
    store.good("unpin", &[&ids[1]]);
    store.good("prune", &[]);
    assert_eq!(store.ids(), ids[4..]);
    store.good("verify", &["--all"]);
    store.bad("prune", &["--keep-last", "0"], 2, "every rule is 0");
    store.bad("pin", &["nothing"], 2, "no backup has this id");
}

#[test]
fn one_adds_at_a_time_and_a_full_disk_is_told() {
    let server = a_server(Flavour::Installed);
    let waiting = "stages = [[\"xb-snap\"], { run = [\"sleep\", \"30\"], undo = [\"cat\"] }]";
    let store = Store::of(&server, waiting);
    let start = || store.call("full", &[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut first = start();
    crate::support::wait_until("the lock", Duration::from_secs(20), || {
        // The prune below may have had the lock when this one asked for it.
        if first.try_wait().unwrap().is_some() {
            first = start();
        }
        store.run("prune", &["--keep-last", "1"]).stderr(0).contains("is in use by another xb-keep")
    });
    store.good("list", &[]);
    store.bad("full", &[], 1, "is in use");
    let pid = rustix::process::Pid::from_child(&first);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let status = first.wait().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(15), "it ends by the signal that it got");
    let store = Store::of(&server, "compress = \"none\"");
    let full = fault::file_size_limit(&store.call("full", &[]), 1 << 20);
    let run = Pipeline::new().stage(full).run();
    assert!(run.codes() == [1] && run.stderr(0).contains("cannot write"), "{}", run.story());
    assert!(store.ids().is_empty() && store.objects_or_none().is_empty());
}

#[test]
fn prune_leaves_what_may_be_a_backup_without_its_description() {
    let server = a_server(Flavour::Installed);
    let store = Store::of(&server, "");
    store.good("full", &[]);
    let id = store.ids()[0].clone();
    let of = |id: &str| store.path().join("backups").join(id);
    // As old as one likes, without notes and without an increment.
    let old = "20200131T031500Z-full";
    fs::rename(of(&id), of(old)).unwrap();
    fs::remove_file(of(old).join("meta.json")).unwrap();
    store.good("full", &[]);
    store.good("prune", &["--keep-last", "1"]);
    assert!(of(old).join("stream.xbs").exists());
    store.bad("verify", &["--all"], 3, "its meta.json is missing");
    let status = store.run("status", &[]);
    assert_eq!(status.codes(), [2], "{}", String::from_utf8_lossy(&status.stdout));
    // Its stream is a backup still.
    let add = store.call("add", &["--kind=full", "--label=again"]);
    Pipeline::new().stdin_from(&of(old).join("stream.xbs")).stage(add).run().assert_ok();
    store.good("verify", &["again"]);
    // What a run marked that was cut off goes.
    fs::copy(of(&store.ids()[0]).join("meta.json"), of(old).join("begun.json")).unwrap();
    store.good("prune", &["--keep-last", "1"]);
    assert!(!of(old).exists());
    assert_eq!(store.list().len(), 1);
}

#[test]
fn a_drill_that_the_host_ends_is_no_verdict() {
    let server = a_server(Flavour::Installed);
    let store = Store::of(&server, "");
    store.good("full", &[]);
    let real = Flavour::Installed.server();
    let wrapper = store.dir.path().join("mariadbd");
    let settings = store.path().join("config.toml");
    let text = fs::read_to_string(&settings).unwrap();
    let text = text.replace(&format!("server = {real:?}"), &format!("server = {wrapper:?}"));
    assert!(text.contains("/mariadbd\""));
    fs::write(&settings, text).unwrap();
    let scratch = ["--scratch", store.dir.path().to_str().unwrap()];
    // Recovery runs; the server that would check the tables is ended from outside.
    for (end, words) in [("kill -9 $$", "SIGKILL"), ("exit 1", "exit status: 1")] {
        let script =
            format!("#!/bin/sh\ncase \"$*\" in *--socket=/*) {end};; *) exec {} \"$@\";; esac\n", real.display());
        fs::write(&wrapper, script).unwrap();
        fs::set_permissions(&wrapper, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        store.bad("drill", &scratch, 1, words);
        assert!(store.list()[0]["drilled"].is_null());
        assert!(store.good("status", &[]).starts_with("OK"));
    }
    fs::remove_file(&wrapper).unwrap();
    std::os::unix::fs::symlink(real, &wrapper).unwrap();
    store.good("drill", &scratch);
    assert_eq!(store.list()[0]["drilled"]["good"], true);
}
