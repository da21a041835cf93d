//! The recipes of wsrep_sst_xb(1): a node that is seeded by hand, and a backup that garbd asks for.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::galera::{Cluster, Lab, Writer};
use crate::support::vault::free_port;
use crate::support::{Flavour, Pipeline, documents, root_of_package, skip, test_on, wait_until, xb};

const LIMIT: Duration = Duration::from_secs(60);

/// A recipe of the page, with this machine's places.
fn recipe(title: &str, places: &[(&str, &str)]) -> Command {
    let page = documents::of_page(&root_of_package().join("man/wsrep_sst_xb.1"), "RECIPES");
    let found = page.iter().find(|example| example.title == title).unwrap_or_else(|| panic!("no recipe {title}"));
    let text = places.iter().fold(found.text.clone(), |text, (from, to)| {
        assert!(text.contains(from), "{title} has no {from}");
        text.replace(from, to)
    });
    let tools = Path::new(xb("xb-snap").get_program()).parent().unwrap().display().to_string();
    let garbd = Flavour::beside("garbd").join("bin").display().to_string();
    let mut shell = Command::new("bash");
    shell.args(["-e", "-o", "pipefail", "-c", &text]);
    shell.env("PATH", format!("{tools}:{garbd}:{}", std::env::var("PATH").unwrap()));
    shell
}

test_on!(a_node_seeded_by_hand_asks_for_the_rest_only: mariadb; long: mariadb118);

fn a_node_seeded_by_hand_asks_for_the_rest_only(flavour: Flavour) {
    let mut cluster = Lab::new(flavour).sst("time=1").start();
    // With this method a node goes on applying while it is backed up.
    for method in ["xb", "mariabackup"] {
        cluster.first.sql(&format!("SET GLOBAL wsrep_sst_method = '{method}'"));
        let writer = Writer::on(&cluster.first);
        let log = cluster.second.log().len();
        seed(&cluster, flavour);
        // More is written, which only an incremental transfer brings.
        std::thread::sleep(Duration::from_millis(200));
        cluster.second.join();
        drop(writer);
        cluster.assert_equal();
        let log = cluster.second.log().split_off(log);
        assert!(log.contains("an incremental transfer follows") && !log.contains("receiving took"), "{method}: {log}");
        cluster.second.stop();
    }
}

/// The second node gets a backup of the first.
fn seed(cluster: &Cluster, flavour: Flavour) {
    let data = cluster.second.data();
    let full = cluster.second.home().join("full");
    for dir in [data, &full] {
        let _ = fs::remove_dir_all(dir);
    }
    let (socket, from) = (cluster.first.home().join("socket"), cluster.first.data().display());
    let options = format!("--galera-info --no-defaults --user root --socket {} --datadir {from}", socket.display());
    let mut seed = recipe(
        "Seed a node from a backup",
        &[
            ("/var/lib/mysql", &data.display().to_string()),
            ("/srv/full", &full.display().to_string()),
            ("ssh node1 ", ""),
            ("'xb-snap", "bash -c 'xb-snap"),
            ("--galera-info", &options),
        ],
    );
    let server = flavour.server().parent().unwrap().display().to_string();
    let path = seed.get_envs().find_map(|(name, value)| value.filter(|_| name == "PATH")).unwrap();
    let path = format!("{server}:{}", path.to_str().unwrap());
    seed.env("PATH", path);
    Pipeline::new().stage(seed).limit(LIMIT).run().assert_ok();
}

#[test]
fn garbd_fetches_a_backup_from_a_donor() {
    if !Flavour::beside("garbd").join("bin/garbd").exists() {
        return skip("garbd is not in target/servers; run tests/setup");
    }
    let mut cluster = Cluster::start(Flavour::Installed, "127.0.0.1", "");
    let home = cluster.second.home().to_owned();
    let full = home.join("full").display().to_string();
    let text = fs::read_to_string(cluster.first.home().join("my.cnf")).unwrap();
    let address = text.split("listen_addr=tcp://").nth(1).unwrap().split(';').next().unwrap().to_owned();
    let port = free_port().to_string();
    // On a host of its own it listens at the same port as the node.
    let donor = format!("--donor node1 --options gmcast.listen_addr=tcp://127.0.0.1:{}", free_port());
    let fetch = recipe(
        "A backup from a node that the cluster chooses",
        &[
            ("node1:4567", &address),
            ("4444", &port),
            ("backup.example", "127.0.0.1"),
            ("/srv/full", &full),
            ("shop-cluster", "lab"),
            ("--donor node2", &donor),
        ],
    );
    let run = Pipeline::new().stage(fetch).limit(LIMIT).run();
    run.assert_ok();
    wait_until("the donor", LIMIT, || cluster.first.status("wsrep_local_state_comment") == "Synced");
    assert!(Path::new(&full).join("xtrabackup_galera_info").exists(), "{}", run.story());
    let mut apply = xb("xb-redo");
    apply.arg("--apply").arg(&full);
    Pipeline::new().stage(apply).run().assert_ok();
    cluster.first.stop();
}
