//! Processes of a transfer killed at random moments: both servers, both scripts, each program.

use std::collections::BTreeMap;
use std::time::Duration;

use mysql::prelude::Queryable;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::galera::{Cluster, Lab, Writer};
use crate::support::{Flavour, Random, rounds, wait_until};

/// A transfer takes about so long on an idle machine, in milliseconds; a later kill meets a node that has joined.
const JOIN: u64 = 1500;
/// How long a donor may take to serve again.
const SERVES: Duration = Duration::from_secs(60);

struct Process {
    id: i32,
    parent: i32,
    line: String,
}

/// All processes of this machine.
fn processes() -> Vec<Process> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let one = |entry: std::fs::DirEntry| {
        let id = entry.file_name().to_string_lossy().parse().ok()?;
        let facts = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        let parent = facts.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()?;
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        Some(Process { id, parent, line: String::from_utf8_lossy(&line).replace('\0', " ") })
    };
    entries.filter_map(one).collect()
}

/// These processes, and what they have started.
fn families(roots: &[u32]) -> Vec<Process> {
    let mut left: BTreeMap<i32, Process> = processes().into_iter().map(|process| (process.id, process)).collect();
    let mut found = Vec::new();
    let mut wanted: Vec<i32> = roots.iter().map(|id| i32::try_from(*id).unwrap()).collect();
    while let Some(id) = wanted.pop() {
        wanted.extend(left.values().filter(|process| process.parent == id).map(|process| process.id));
        found.extend(left.remove(&id));
    }
    found
}

/// One node has more votes than the other, so that it goes on alone when the other is killed.
fn heavy(cluster: &Cluster) {
    cluster.first.sql("SET GLOBAL wsrep_provider_options='pc.weight=3'");
}

fn lab() -> Cluster {
    // A node that is killed is missed sooner than by default.
    let provider = ";evs.suspect_timeout=PT2S;evs.inactive_timeout=PT6S;evs.inactive_check_period=PT0.5S;\
                    evs.keepalive_period=PT0.5S";
    let cluster = Lab::new(Flavour::Installed).sst("silence-timeout=10\nrlimit=40m").provider(provider).start();
    heavy(&cluster);
    cluster
}

/// The node joins, something is killed, and it joins again. What was killed.
fn round(cluster: &mut Cluster, seed: u64) -> String {
    let mut random = Random::new(seed);
    let writer = Writer::on(&cluster.first);
    cluster.second.begin();
    let script = cluster.second.data().join("wsrep_sst.pid");
    // Some are killed before there is a script.
    if random.chance(95) {
        wait_until("the script", SERVES, || script.exists());
    }
    std::thread::sleep(Duration::from_millis(random.below(JOIN)));
    let servers = [cluster.first.process().unwrap(), cluster.second.process().unwrap()];
    let running = families(&servers);
    let is_server = |process: &Process| servers.contains(&u32::try_from(process.id).unwrap());
    // The servers are there at every moment, the others are not.
    let (ours, theirs): (Vec<_>, Vec<_>) = running.iter().partition(|process| !is_server(process));
    let from = if random.chance(15) || ours.is_empty() { theirs } else { ours };
    let victim = *random.pick(&from);
    let is_server = is_server(victim);
    let signal = if !is_server && random.chance(20) { Signal::TERM } else { Signal::KILL };
    // It may have ended in the meantime, which is a moment like any other.
    let _ = kill_process(Pid::from_raw(victim.id).unwrap(), signal);
    let what = format!("seed {seed}, {signal:?} {}", victim.line.chars().take(150).collect::<String>());
    eprintln!("{what}");
    if victim.id == i32::try_from(servers[0]).unwrap() {
        wait_until("the end of the donor", SERVES, || cluster.first.ended());
        // The joiner cannot do without it; what becomes of it depends on how far it was.
        std::thread::sleep(Duration::from_secs(2));
    }
    let joined = if cluster.first.ended() { Ok(()) } else { cluster.second.synced() };
    if cluster.first.ended() {
        // Nobody has the cluster's state but the node that was killed.
        drop(writer);
        cluster.second.kill();
        cluster.found();
        heavy(cluster);
    } else {
        let log = |cluster: &Cluster| format!("{what}\n{}", cluster.first.log());
        assert!(joined.is_ok() || cluster.second.ended(), "{what}: neither joined nor refused\n{joined:?}");
        cluster.first.synced().unwrap_or_else(|_| panic!("the donor does not come back: {}", log(cluster)));
        wait_until("writes at the donor", SERVES, || {
            cluster
                .first
                .connect()
                .is_ok_and(|mut conn| conn.query_drop("INSERT INTO shop.t (c) VALUES ('after')").is_ok())
        });
        drop(writer);
    }
    if cluster.second.ended() {
        cluster.second.kill();
        cluster.second.begin();
        cluster.second.synced().unwrap_or_else(|log| panic!("{what}: the retry does not join\n{log}"));
    }
    wait_until("two nodes", SERVES, || cluster.first.status("wsrep_cluster_size") == "2");
    cluster.assert_equal();
    // The next one is empty, or has data that nobody knows the state of.
    cluster.second.stop();
    if random.chance(50) {
        cluster.second.forget();
    } else {
        std::fs::remove_file(cluster.second.data().join("grastate.dat")).unwrap();
    }
    what
}

#[test]
fn whatever_is_killed_the_next_join_is_right() {
    let mut cluster = lab();
    for seed in 0..2 {
        round(&mut cluster, seed);
    }
}

#[test]
#[ignore = "long: 200 kills, 25 minutes"]
fn whatever_is_killed_at_200_moments_the_next_join_is_right() {
    let mut cluster = lab();
    let mut killed = BTreeMap::<String, u32>::new();
    for seed in rounds(200) {
        let what = round(&mut cluster, 1000 + seed);
        let program =
            ["--role donor", "--role joiner", "xb-snap", "xb-unpack", "--apply", "--copy-back", "xb-redo", "mariadbd"];
        let kind = program.iter().find(|name| what.replace('\'', "").contains(*name));
        *killed.entry(kind.map_or("other", |name| name).to_owned()).or_default() += 1;
    }
    eprintln!("killed: {killed:?}");
}

#[test]
fn a_joiner_that_hangs_frees_the_donor() {
    let mut cluster = Lab::new(Flavour::Installed).sst("rlimit=8m\nsilence-timeout=3").start();
    for stopped in ["--role joiner", "xb-unpack"] {
        cluster.second.begin();
        let arrived = cluster.second.data().join(".sst/ibdata1");
        wait_until("data", SERVES, || arrived.exists());
        let joiner = cluster.second.process().unwrap();
        // The shell in between waits, too.
        let named =
            |process: &Process| process.line.replace('\'', "").contains(stopped) && !process.line.starts_with("sh ");
        let victim = families(&[joiner]).into_iter().find(named).unwrap_or_else(|| panic!("no {stopped}"));
        kill_process(Pid::from_raw(victim.id).unwrap(), Signal::STOP).unwrap();
        let silent = || {
            ["nothing for too long", "connection broke", "takes no more"]
                .iter()
                .any(|w| cluster.first.log().contains(w))
        };
        wait_until("the donor's limit", SERVES, silent);
        cluster.first.synced().unwrap();
        cluster.first.sql("INSERT INTO shop.t (c) VALUES ('after')");
        cluster.second.kill();
        let _ = kill_process(Pid::from_raw(victim.id).unwrap(), Signal::CONT);
        wait_until("the end of the script", SERVES, || !cluster.second.data().join("wsrep_sst.pid").exists());
        cluster.second.forget();
    }
}
