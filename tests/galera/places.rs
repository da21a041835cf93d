//! Joins of nodes whose files are elsewhere, encrypted, or on small disks, and the options that say how.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::fault::SmallDisk;
use crate::support::galera::{Cluster, Lab, Node};
use crate::support::vault::free_port;
use crate::support::{Flavour, cannot, root, scratch, test_on};

/// What is in a directory, with the size of each file.
fn listing(dir: &Path) -> Vec<(String, u64)> {
    let mut found: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.metadata().unwrap().len()))
        .collect();
    found.sort();
    found
}

/// The node has data whose state is not known.
fn make_stale(node: &mut Node) {
    node.stop();
    fs::remove_file(node.data().join("grastate.dat")).unwrap();
    fs::write(node.data().join("stale"), "old").unwrap();
}

#[test]
fn old_data_stay_until_the_new_ones_are_proved() {
    let mut cluster = Cluster::start(Flavour::Installed, "127.0.0.1", "rlimit=8m");
    let data = cluster.second.data().to_owned();
    cluster.second.join();
    make_stale(&mut cluster.second);
    let marks = |name: &str| fs::read(data.join(name)).unwrap();
    let (table, system) = (marks("shop/t.ibd"), marks("ibdata1"));
    cluster.second.begin();
    let arrived = data.join(".sst/ibdata1");
    crate::support::wait_until("data", Duration::from_secs(30), || arrived.exists());
    assert!(super::kill_one(cluster.first.data(), &["xb-snap", ""]), "xb-snap does not run");
    cluster.second.synced().expect_err("a node without its data must not work");
    assert!(marks("shop/t.ibd") == table && marks("ibdata1") == system && marks("stale") == b"old");
    cluster.first.synced().unwrap();
    cluster.second.kill();
    cluster.second.join();
    cluster.assert_equal();
    assert!(!data.join("stale").exists());
}

#[test]
fn without_room_for_both_the_old_data_go_first_and_only_if_that_helps() {
    let Some(disk) = SmallDisk::new(400 << 20) else { return };
    let data = disk.path().join("data");
    fs::create_dir(&data).unwrap();
    let mut cluster = Cluster::start(Flavour::Installed, "127.0.0.1", "");
    cluster.second.move_to(&data);
    let fill = |name: &str, megabytes: usize| fs::write(data.join(name), vec![7; megabytes << 20]).unwrap();
    fill("kept.pem", 350);
    fill("old", 8);
    let before = listing(&data);
    cluster.second.begin();
    let log = cluster.second.synced().unwrap_err();
    assert!(log.contains("nothing was removed") && !log.contains("removed now"), "{log}");
    let after = listing(&data);
    assert!(before.iter().all(|file| after.contains(file)), "{before:?} {after:?}");
    cluster.first.synced().unwrap();
    cluster.second.forget();
    fill("kept.pem", 100);
    fill("old", 250);
    cluster.second.join();
    cluster.assert_equal();
    let log = cluster.second.log();
    assert_eq!(log.matches("the old ones are removed now, before the new ones are verified").count(), 1, "{log}");
    assert!(data.join("kept.pem").exists() && !data.join("old").exists());
}

/// A cluster of servers with these options, of which the first has made its data with them.
fn laid_out(flavour: Flavour, options: &str) -> Cluster {
    let build = |build: crate::support::server::Builder| {
        options
            .lines()
            .filter_map(|line| line.split_once('='))
            .fold(build, |build, (name, value)| build.layout(&name.replace('_', "-"), value))
    };
    Lab::new(flavour).made_by(build).server(options).start()
}

test_on!(files_elsewhere_come_back_there: mariadb; long: mariadb118);

fn files_elsewhere_come_back_there(flavour: Flavour) {
    let places = "innodb_undo_directory=@HOME@/undo\ninnodb_undo_tablespaces=3\ninnodb_data_home_dir=@HOME@/outside\n\
                  innodb_log_group_home_dir=@HOME@/outside\naria_log_dir_path=@HOME@/outside";
    let mut cluster = laid_out(flavour, places);
    let home = cluster.second.home().to_owned();
    let here = |name: &str| home.join(name).exists();
    for _ in 0..2 {
        cluster.second.join();
        cluster.assert_equal();
        assert!(here("outside/ibdata1") && here("outside/ib_logfile0") && here("undo/undo001"));
        assert!(here("outside/aria_log_control") && !here("data/ibdata1") && !here("data/undo001"));
        assert!(!here("outside/ib_logfile7"));
        make_stale(&mut cluster.second);
        fs::write(home.join("outside/ib_logfile7"), "stale").unwrap();
        fs::write(home.join("outside/mine"), "stays").unwrap();
    }
    assert!(here("outside/mine"));
    assert_eq!(cluster.second.log().matches("WSREP_SST: [ERROR]").count(), 0);
}

test_on!(encrypted_tables_and_logs_are_joined_with_the_joiners_keys: mariadb; long: mariadb118);

fn encrypted_tables_and_logs_are_joined_with_the_joiners_keys(flavour: Flavour) {
    let encrypted = "plugin_load_add=file_key_management\nfile_key_management_filename=@HOME@/keys\n\
                     innodb_encrypt_tables=ON\ninnodb_encrypt_log=ON\ninnodb_encryption_threads=1";
    let mut cluster = laid_out(flavour, encrypted);
    // Its keys are in the data directory, and no backup brings them.
    let (keys, own) = (cluster.second.home().join("keys"), cluster.second.data().join("own.keys"));
    fs::rename(&keys, &own).unwrap();
    cluster.second.set(&format!("[mariadbd]\nfile_key_management_filename={}", own.display()));
    super::with_load(&cluster.first, || cluster.second.join());
    cluster.assert_equal();
    make_stale(&mut cluster.second);
    cluster.second.join();
    cluster.assert_equal();
    assert!(own.exists() && !cluster.second.data().join("stale").exists());
    // Other keys: nothing is replaced.
    make_stale(&mut cluster.second);
    let text = fs::read_to_string(&own).unwrap();
    fs::write(&own, text.replace('7', "8")).unwrap();
    cluster.second.begin();
    let log = cluster.second.synced().unwrap_err();
    assert!(log.contains("innobackup.prepare.log"), "{log}");
    assert!(cluster.second.data().join("stale").exists());
}

#[test]
fn the_donor_is_reached_by_its_extra_port() {
    let (port, extra) = (free_port(), free_port());
    let options = format!(
        "skip-networking=0\nbind-address=127.0.0.1\nport={port}\nthread-handling=pool-of-threads\nextra-port={extra}\nextra-max-connections=10\n\
         general-log=1\ngeneral-log-file=@HOME@/general.log"
    );
    let mut cluster = Lab::new(Flavour::Installed).sst("use-extra=1\n").server(&options).start();
    cluster.second.set("[mariadbd]\nskip-networking=1\nextra-port=0");
    cluster.second.join();
    cluster.assert_equal();
    let log = String::from_utf8_lossy(&fs::read(cluster.first.home().join("general.log")).unwrap()).into_owned();
    let said =
        log.lines().any(|line| line.contains("Connect") && line.contains("sst@localhost") && line.contains("TCP/IP"));
    assert!(said, "{log}");
    // Where it cannot be, nothing is transferred.
    make_stale(&mut cluster.second);
    for (lines, words) in [
        ("[sst-xb]\ntmpdir=/nonexistent", "/nonexistent: cannot"),
        ("[mariadbd]\nextra-port=0", "use-extra=1: needs extra-port"),
    ] {
        cluster.first.set(lines);
        cluster.second.begin();
        cluster.second.synced().unwrap_err();
        assert!(cluster.first.log().contains(words), "{words}: {}", cluster.first.log());
        cluster.first.synced().unwrap();
    }
    assert!(cluster.second.data().join("stale").exists());
}

#[test]
fn messages_go_to_syslog_if_options_say_so() {
    if !root() {
        return cannot("/dev/log can be replaced only by root");
    }
    let dir = scratch();
    let log = UnixDatagram::bind(dir.path().join("log")).unwrap();
    log.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let script = "mkdir $0/dev && mount --rbind /dev $0/dev && mount -t tmpfs none /dev && for f in null zero full random urandom; do \
                  touch /dev/$f && mount --bind $0/dev/$f /dev/$f || exit 1; done && ln -s $0/log /dev/log && \
                  ln -s /proc/self/fd /dev/fd && mkdir /dev/shm && exec \"$@\"";
    let mut cluster =
        Cluster::start(Flavour::Installed, "127.0.0.1", "sst-syslog=1\ntime=1\n[mysqld_safe]\nsyslog-tag=shop");
    let wrapper = ["unshare", "--mount", "sh", "-c", script, &dir.path().display().to_string()].map(str::to_owned);
    if !Command::new("unshare").args(["--mount", "true"]).status().is_ok_and(|status| status.success()) {
        return cannot("there are no mount namespaces here");
    }
    cluster.second.wrapper = wrapper.to_vec();
    cluster.second.join();
    cluster.assert_equal();
    let mut said = String::new();
    let mut buffer = [0; 4096];
    while !said.contains("moving took") {
        let bytes = log.recv(&mut buffer).unwrap_or_else(|cause| panic!("{cause}: {said}\n{}", cluster.second.log()));
        said += &String::from_utf8_lossy(&buffer[..bytes]);
        said += "\n";
    }
    assert!(said.contains("shop-wsrep-sst-joiner: receiving took"), "{said}");
    assert!(!cluster.second.log().contains("receiving took"));
}

#[test]
fn a_server_without_privileges_and_with_a_read_only_system_joins_and_gives() {
    if !root() {
        return cannot("directories can be made read-only only by root");
    }
    // As ProtectSystem=full, NoNewPrivileges and CapabilityBoundingSet= of a unit.
    let script = "for d in /usr /boot /etc; do mount --bind $d $d && mount -o remount,bind,ro $d || exit 1; done; \
                  ! touch /usr/x /etc/x 2>/dev/null || exit 1; \
                  exec setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all \"$@\"";
    let mut cluster = Lab::new(Flavour::Installed).lay_out();
    for node in [&mut cluster.first, &mut cluster.second] {
        let given = Command::new("chown").args(["-R", "65534:65534"]).arg(node.home()).status().unwrap();
        assert!(given.success());
        node.wrapper = ["unshare", "--mount", "sh", "-c", script, "sh"].map(str::to_owned).to_vec();
    }
    cluster.found();
    cluster.second.join();
    cluster.assert_equal();
    make_stale(&mut cluster.second);
    cluster.second.join();
    cluster.assert_equal();
    use std::os::unix::fs::MetadataExt;
    assert_eq!(fs::metadata(cluster.second.data().join("ibdata1")).unwrap().uid(), 65534);
}

#[test]
fn a_third_node_is_seeded_by_the_one_that_it_asks_for() {
    let mut cluster = Lab::new(Flavour::Installed).sst("time=1").start();
    cluster.second.join();
    cluster.third.set("[mariadbd]\nwsrep_sst_donor=node7,node2\nwsrep_sst_donor_rejects_queries=1");
    super::with_load(&cluster.first, || cluster.third.join());
    cluster.assert_equal();
    assert_eq!(cluster.first.status("wsrep_cluster_size"), "3");
    assert!(cluster.second.data().join("innobackup.backup.log").metadata().unwrap().len() > 0);
    // The only other donor is now one that has itself been seeded.
    make_stale(&mut cluster.second);
    cluster.second.set("[mariadbd]\nwsrep_sst_donor=node3");
    super::with_load(&cluster.first, || cluster.second.join());
    cluster.assert_equal();
}

#[test]
fn a_node_of_the_next_series_joins() {
    if !Flavour::Mariadb118.or_skip() {
        return;
    }
    // The donor is of 10.11, where the joiner's series finds another way to hand over an account.
    let mut cluster = Lab::new(Flavour::Installed).joiner(Flavour::Mariadb118).sst("time=1").start();
    super::with_load(&cluster.first, || cluster.second.join());
    cluster.assert_equal();
    assert!(cluster.second.log().contains("receiving took"));
}
