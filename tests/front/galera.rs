//! The stock `wsrep_sst_mariabackup` of each MariaDB, with the front first in PATH as xb-front(1) has it: a joiner and a
//! donor, both served by the front; then an IST. `two-nodes.sh` is the laboratory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::callers::links;
use crate::support::{Flavour, Pipeline, Server, output, program, root_of_package, scratch, skip, test_on, vault};

/// For both transfers.
const LIMIT: Duration = Duration::from_secs(240);

/// Two nodes with these lines in `[sst]`, in which `%N` is the node's number and `%C` the directory of certificates.
fn two_nodes(flavour: Flavour, lines: &str) {
    if !Path::new("/usr/lib/galera/libgalera_smm.so").exists() {
        return skip("there is no galera-4; run tests/setup");
    }
    let Some(scripts) = scripts(flavour) else {
        return skip("the stock wsrep_sst_mariabackup is not in target/servers; run tests/setup");
    };
    let lab = scratch();
    let at = |name: &str| lab.path().join(name);
    let mut seed = Server::new().flavour(flavour).start();
    seed.stop();
    let copied = Command::new("cp").arg("-a").arg(seed.data()).arg(at("template")).status().unwrap();
    assert!(copied.success());
    fs::create_dir(at("scripts")).unwrap();
    for name in ["wsrep_sst_mariabackup", "wsrep_sst_common"] {
        fs::copy(scripts.join(name), at("scripts").join(name)).unwrap();
    }
    if lines.contains("%C") {
        certificates(&at("certificates"));
    }
    let servers = flavour.server().parent().unwrap().to_owned();
    let ports: Vec<String> = (0..8).map(|_| vault::free_port().to_string()).collect();
    let mut nodes = Command::new(root_of_package().join("tests/front/two-nodes.sh"));
    nodes.arg(lab.path()).arg(links(&at("links"))).arg(servers).arg(at("scripts")).arg(ports.join(" "));
    nodes.arg(lines.replace("%C", &at("certificates").display().to_string()));
    let run = Pipeline::new().stage(nodes).limit(LIMIT).run();
    assert!(!run.late && run.codes() == [0], "{}", run.story());
}

/// Where the script of a server's series is.
fn scripts(flavour: Flavour) -> Option<PathBuf> {
    let unpacked = match flavour {
        Flavour::Installed => Flavour::beside("peer"),
        _ => flavour.server().parent()?.parent()?.to_owned(),
    };
    [unpacked.join("root/usr/bin"), "/usr/bin".into()]
        .into_iter()
        .find(|dir| dir.join("wsrep_sst_mariabackup").exists())
}

/// An authority, and for each node a key and a certificate: apart, and both in one file.
fn certificates(dir: &Path) {
    fs::create_dir(dir).unwrap();
    let openssl = |words: &str| {
        let mut command = program("openssl");
        command.args(words.split(' ')).current_dir(dir);
        output(command);
    };
    openssl("req -x509 -newkey rsa:2048 -nodes -keyout ca-key.pem -out ca.pem -days 2 -subj /CN=lab-ca");
    for n in ["1", "2"] {
        openssl(&format!("req -newkey rsa:2048 -nodes -keyout n{n}-key.pem -out n{n}.csr -subj /CN=node{n}"));
        openssl(&format!("x509 -req -in n{n}.csr -CA ca.pem -CAkey ca-key.pem -set_serial {n} -days 2 -out n{n}.pem"));
        let both = [format!("n{n}.pem"), format!("n{n}-key.pem")].map(|name| fs::read(dir.join(name)).unwrap());
        fs::write(dir.join(format!("n{n}-both.pem")), both.concat()).unwrap();
    }
}

test_on!(a_node_joins_by_the_stock_script: mariadb; long: mariadb118);

fn a_node_joins_by_the_stock_script(flavour: Flavour) {
    two_nodes(flavour, "");
}

test_on!(a_node_joins_through_the_stock_scripts_tls: ; long: mariadb, mariadb118);

fn a_node_joins_through_the_stock_scripts_tls(flavour: Flavour) {
    for lines in [
        "encrypt=2\ntca=%C/ca.pem\ntcert=%C/n%N-both.pem",
        "encrypt=3\ntcert=%C/n%N.pem\ntkey=%C/n%N-key.pem",
        "encrypt=4\nssl-ca=%C/ca.pem\nssl-cert=%C/n%N.pem\nssl-key=%C/n%N-key.pem",
    ] {
        eprintln!("{lines}");
        two_nodes(flavour, lines);
    }
}

test_on!(a_node_joins_through_the_stock_scripts_compressor: ; long: mariadb, mariadb118);

fn a_node_joins_through_the_stock_scripts_compressor(flavour: Flavour) {
    two_nodes(flavour, "compressor='gzip -1'\ndecompressor='gzip -dc'");
}
