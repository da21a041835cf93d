//! Nodes that join a cluster by `wsrep_sst_xb`.

mod kills;
mod places;
mod seeds;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;

use crate::support::galera::{Cluster, Node};
use crate::support::{Flavour, output, program, scratch, test_on, xb};

/// Writes to a node until the value is dropped.
fn with_load<T>(node: &Node, work: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut conn = node.connect().unwrap();
            let mut rows = 0;
            while !over.load(Relaxed) {
                conn.query_drop("INSERT INTO shop.t (c, pad) VALUES (UUID(), REPEAT(MD5(RAND()), 4))").unwrap();
                conn.query_drop("UPDATE shop.t SET c = UUID() WHERE id = 1 + FLOOR(RAND() * 10000)").unwrap();
                rows += 1;
            }
            rows
        });
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        over.store(true, Relaxed);
        assert!(writer.join().unwrap() > 10, "nothing was written meanwhile");
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

test_on!(an_empty_node_joins_under_load: mariadb, mariadb118);

fn an_empty_node_joins_under_load(flavour: Flavour) {
    let mut cluster = Cluster::start(flavour, "127.0.0.1", "time=1");
    with_load(&cluster.first, || cluster.second.join());
    cluster.assert_equal();
    let log = cluster.second.log();
    assert!(log.contains("WSREP_SST: [INFO] receiving took"), "{log}");
    assert!(!cluster.second.data().join(".sst").exists() && !cluster.second.data().join("sst_in_progress").exists());
    // What was missed is in the donor's cache.
    cluster.second.stop();
    cluster.first.sql("INSERT INTO shop.t (c) VALUES ('missed')");
    cluster.second.join();
    cluster.assert_equal();
    let log = cluster.second.log();
    assert_eq!(log.matches("an incremental transfer follows").count(), 1, "{log}");
    assert_eq!(log.matches("receiving took").count(), 1, "{log}");
    // A stale node whose state nobody can complete: its data are replaced, what is not data stays.
    cluster.second.stop();
    std::fs::remove_file(cluster.second.data().join("grastate.dat")).unwrap();
    std::fs::write(cluster.second.data().join("own.pem"), "mine").unwrap();
    std::fs::write(cluster.second.data().join("stale"), "old").unwrap();
    cluster.second.join();
    cluster.assert_equal();
    assert!(cluster.second.data().join("own.pem").exists() && !cluster.second.data().join("stale").exists());
    assert_eq!(cluster.second.log().matches("receiving took").count(), 2);
}

/// An authority, and certificates of it.
fn certificates(dir: &Path) {
    let openssl = |words: &str| {
        let mut command = program("openssl");
        command.args(words.split(' ')).current_dir(dir);
        output(command);
    };
    for name in ["ca", "stranger"] {
        openssl(&format!(
            "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={name} -keyout {name}-key.pem -out {name}.pem"
        ));
    }
    std::fs::write(dir.join("good.ext"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    std::fs::write(dir.join("moved.ext"), "subjectAltName=DNS:elsewhere.example\n").unwrap();
    for (name, names, days) in
        [("good", "good", "2"), ("moved", "moved", "2"), ("expired", "good", "-1"), ("strange", "good", "2")]
    {
        let ca = if name == "strange" { "stranger" } else { "ca" };
        openssl(&format!("req -newkey rsa:2048 -nodes -subj /CN=node -keyout {name}-key.pem -out {name}.csr"));
        openssl(&format!(
            "x509 -req -days {days} -set_serial 7 -in {name}.csr -CA {ca}.pem -CAkey {ca}-key.pem -extfile {names}.ext -out {name}.pem"
        ));
    }
}

#[test]
fn every_transport_brings_the_same_data() {
    let dir = scratch();
    certificates(dir.path());
    let pem = |name: &str| dir.path().join(name).display().to_string();
    let t = format!("tca={}\ntcert={}\ntkey={}", pem("ca.pem"), pem("good.pem"), pem("good-key.pem"));
    let ssl = format!("ssl-ca={}\nssl-cert={}\nssl-key={}", pem("ca.pem"), pem("good.pem"), pem("good-key.pem"));
    let both =
        std::fs::read_to_string(pem("good.pem")).unwrap() + &std::fs::read_to_string(pem("good-key.pem")).unwrap();
    std::fs::write(dir.path().join("both.pem"), both).unwrap();
    let two = format!("encrypt=2\ntca={}\ntcert={}", pem("ca.pem"), pem("both.pem"));
    let rows = [
        ("127.0.0.1", "transferfmt=socat\ncompressor=zstd -1\ndecompressor=zstd -d\n".to_owned()),
        ("127.0.0.1", format!("transferfmt=socat\n{two}\n")),
        ("127.0.0.1", format!("transferfmt=socat\nencrypt=3\n{t}\n")),
        ("127.0.0.1", format!("transferfmt=socat\nencrypt=4\n{ssl}\n")),
        ("127.0.0.1", format!("{t}\nrlimit=100m\n")),
        ("127.0.0.1", format!("encrypt=4\n{ssl}\n[sst-xb]\ncompress=zstd\n")),
        ("[::1]", "[sst-xb]\ncompress=lz4\n".to_owned()),
        ("[::1]", "sockopt=,pf=ip6\n".to_owned()),
    ];
    for (host, extra) in rows {
        let mut cluster = Cluster::start(Flavour::Installed, host, &extra);
        cluster.second.join();
        cluster.assert_equal();
    }
}

#[test]
fn a_wrong_certificate_is_refused() {
    let dir = scratch();
    certificates(dir.path());
    let pem = |name: &str| dir.path().join(name).display().to_string();
    let good = format!("tca={}\ntcert={}\ntkey={}", pem("ca.pem"), pem("good.pem"), pem("good-key.pem"));
    let mut cluster = Cluster::start(Flavour::Installed, "127.0.0.1", &good);
    for (ca, cert, words) in [
        ("ca.pem", "moved", "it is for another host"),
        ("ca.pem", "expired", "it has expired"),
        ("ca.pem", "strange", "not issued by an authority"),
        ("", "", "wants clear text"),
    ] {
        let lines = match cert {
            "" => "[sst-xb]\nencrypt=0".to_owned(),
            _ => format!(
                "tca={}\ntcert={}\ntkey={}",
                pem(ca),
                pem(&format!("{cert}.pem")),
                pem(&format!("{cert}-key.pem"))
            ),
        };
        cluster.second.forget();
        cluster.second.set(&lines);
        cluster.second.begin();
        let log = cluster.second.synced().unwrap_err();
        assert!(cluster.first.log().contains(words), "{words}\n{}\n{log}", cluster.first.log());
        cluster.first.synced().unwrap();
        assert!(!cluster.second.data().join("ibdata1").exists());
    }
}

/// Ends a process of a transfer to the second node: the first whose command line has these words.
fn kill_one(data: &Path, words: &[&str]) -> bool {
    let data = data.to_str().unwrap();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(line) = std::fs::read(entry.path().join("cmdline")) else { continue };
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(data) && words.iter().all(|word| line.contains(word)) && !line.contains("setpriv") {
            let pid = entry.file_name().to_string_lossy().parse().ok().and_then(rustix::process::Pid::from_raw);
            return pid.is_some_and(|pid| rustix::process::kill_process(pid, rustix::process::Signal::KILL).is_ok());
        }
    }
    false
}

#[test]
fn after_a_kill_the_donor_works_and_the_next_join_succeeds() {
    let mut cluster = Cluster::start(Flavour::Installed, "127.0.0.1", "rlimit=8m");
    let (first, second) = (cluster.first.data().to_owned(), cluster.second.data().to_owned());
    for (data, words) in [
        (&second, ["wsrep_sst_xb --role joiner", ""]),
        (&second, ["xb-unpack", ""]),
        (&first, ["wsrep_sst_xb --role donor", ""]),
        (&first, ["xb-snap", ""]),
    ] {
        cluster.second.forget();
        cluster.second.begin();
        let begun = Instant::now();
        // In the middle of the data, not before.
        while !second.join(".sst/ibdata1").exists() {
            assert!(begun.elapsed() < Duration::from_secs(30), "{}", cluster.second.log());
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(kill_one(data, &words), "{words:?} does not run");
        cluster.second.synced().expect_err("a node without its data must not work");
        cluster.first.synced().unwrap_or_else(|log| panic!("{words:?}: the donor does not come back:\n{log}"));
        assert!(begun.elapsed() < Duration::from_secs(60), "{words:?}: {:?}", begun.elapsed());
        assert!(!second.join("ibdata1").exists(), "{words:?}: looks good");
    }
    cluster.second.kill();
    cluster.second.join();
    cluster.assert_equal();
}

#[test]
fn a_second_script_at_the_same_port_is_refused() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for options in ["", "transferfmt=socat\n"] {
        let dir = scratch();
        std::fs::write(dir.path().join("my.cnf"), format!("[sst]\n{options}")).unwrap();
        std::fs::write(dir.path().join("precious"), "old data").unwrap();
        let mut call = xb("wsrep_sst_xb");
        call.args(["--role", "joiner", "--address", &address, "--datadir"]).arg(dir.path());
        call.arg("--defaults-file").arg(dir.path().join("my.cnf")).args(["--parent", &std::process::id().to_string()]);
        let ended = call.output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(32), "{said}");
        assert!(said.contains("cannot listen: address already in use"), "{said}");
        assert!(ended.stdout.is_empty() && dir.path().join("precious").exists());
    }
}
