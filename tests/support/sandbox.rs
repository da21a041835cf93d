//! Runs documented commands as they are written: a shell with our programs, a server, another host, and replacements
//! for what a test must not touch.
//!
//! * the programs under test come first in `PATH`; `~/.my.cnf` leads to a private server with a few MB of data;
//! * `/srv`, `/var/lib/mysql`, `/var/tmp` and `/etc/xb` (with a key and a password) are directories of the sandbox;
//! * `ssh` goes to a private sshd, whatever the host; its `/srv` is the same; `10.0.0.2 9999` is a port of this host;
//! * `systemctl` and `sudo` do what they must for an example to go on;
//! * an account `mysql:mysql` or `backup@` stands for whoever runs the test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::fault::SmallDisk;
use super::vault::{Vault, free_port};
use super::{Load, Server, executable, output, program, scratch, tools, xb};

/// Those that stand in a pipe with ours.
const OTHERS: [&str; 9] = ["nc", "socat", "pv", "gzip", "zstd", "openssl", "tee", "mariadb-backup", "mbstream"];

/// More than the pipes of a program can contain, so that it is running; less than what passes it.
const MIDDLE: u64 = 3 << 19;
/// A disk on which no backup fits.
const SMALL: u64 = 1 << 20;

/// Runs before each program of a pipe: records that it runs, and on which host. The victim is killed in the middle of
/// its input or, if it is the first of its pipe, of its output.
const WITNESS: &str = r#"#!/bin/bash
me=${XB_WHERE:-here}:${0##*/}
echo "$me" >> "$XB_NOTES"
[ "$me" = "${XB_VICTIM:-}" ] || exec @PROGRAM@ "$@"
middle() { head -c @MIDDLE@; echo killed >> "$XB_NOTES"; kill -KILL $$; }
case "$me $*" in
    *:xb-snap* | *:xb-pack* | *:mariadb-backup* | *:nc\ -l* | *:socat*-LISTEN:*) exec @PROGRAM@ "$@" > >(middle) ;;
    *) exec @PROGRAM@ "$@" < <(middle) ;;
esac
"#;

/// What all sandboxes share.
pub struct Bench {
    pub server: Server,
    vault: Vault,
    disk: Option<SmallDisk>,
}

impl Bench {
    /// None without an sshd.
    pub fn start() -> Option<Bench> {
        // First, so that the other host sees it.
        let disk = if super::root() { SmallDisk::new(SMALL) } else { None };
        let vault = Vault::start()?;
        let server = Server::new().start();
        Load::on(&server).bank(1).engines(1).prepare();
        // Something that does not shrink: after compression, too, there is more than a pipe holds.
        server.sql(
            "CREATE TABLE bank.noise (id INT PRIMARY KEY, data BINARY(128)) ENGINE=InnoDB;
             INSERT INTO bank.noise SELECT seq, CONCAT(UNHEX(SHA2(seq, 512)), UNHEX(SHA2(-seq, 512)))
                FROM bank.seq_1_to_30000",
        );
        Some(Bench { server, vault, disk })
    }
}

/// The fault while a script runs.
#[derive(Clone, Debug)]
pub enum Fault {
    None,
    /// This program, `here:xb-zip` or `vault:xb-unpack`, gets SIGKILL in the middle of the stream.
    Killed(String),
    /// `/srv` is full after a megabyte; without root, each file there is.
    DiskFull,
}

/// A directory in which scripts run.
pub struct Sandbox {
    here: TempDir,
    /// On the small disk.
    full: Option<TempDir>,
    /// What `10.0.0.2 9999` is.
    pub port: u16,
    me: String,
    fault: Fault,
}

impl Sandbox {
    pub fn new(bench: &Bench, fault: Fault) -> Sandbox {
        let here = scratch();
        let at = here.path();
        for directory in ["bin", "srv", "var/lib/mysql", "var/tmp", "etc/xb"] {
            fs::create_dir_all(at.join(directory)).unwrap();
        }
        fs::copy(bench.server.option_file(), at.join(".my.cnf")).unwrap();
        let mut generate = xb("xb-crypt");
        generate.arg("--generate-key").arg(at.join("etc/xb/key"));
        output(generate);
        fs::write(at.join("etc/xb/pass"), "a password that is only here\n").unwrap();
        let ours = tools().into_iter().map(|tool| (xb(&tool).get_program().display().to_string(), tool));
        let others = OTHERS.map(|name| (which(name).display().to_string(), name.to_owned()));
        let ssh = format!("{} -F {}", which("ssh").display(), bench.vault.config().display());
        for (command, name) in ours.chain(others).chain([(ssh, "ssh".to_owned())]) {
            let witness = WITNESS.replace("@PROGRAM@", &command).replace("@MIDDLE@", &MIDDLE.to_string());
            executable(&at.join("bin").join(name), &witness);
        }
        executable(&at.join("bin/systemctl"), "#!/bin/sh\nexit 0\n");
        executable(&at.join("bin/sudo"), "#!/bin/sh\nexec \"$@\"\n");
        let small = bench.disk.as_ref().filter(|_| matches!(fault, Fault::DiskFull));
        let full = small.map(|disk| tempfile::tempdir_in(disk.path()).unwrap());
        let mut id = program("id");
        id.arg("-un");
        Sandbox { full, port: free_port(), me: output(id).trim().to_owned(), here, fault }
    }

    /// The current directory of every script.
    pub fn path(&self) -> &Path {
        self.here.path()
    }

    /// What scripts call `/srv`.
    pub fn srv(&self) -> PathBuf {
        self.full.as_ref().map_or_else(|| self.path().join("srv"), |disk| disk.path().to_owned())
    }

    /// A script of documented commands.
    pub fn bash(&self, script: &str) -> Command {
        let at = |name: &str| self.path().join(name).display().to_string();
        let stand_ins = [
            ("9999", self.port.to_string()),
            ("10.0.0.2", "127.0.0.1".to_owned()),
            ("backup@", String::new()),
            ("mysql:mysql", self.me.clone()),
            ("/var/lib/mysql", at("var/lib/mysql")),
            ("/var/tmp", at("var/tmp")),
            ("/etc/xb", at("etc/xb")),
            ("/srv", self.srv().display().to_string()),
        ];
        let script = stand_ins.iter().fold(script.to_owned(), |text, (name, stand_in)| text.replace(name, stand_in));
        let mut bash = program("bash");
        bash.args(["-euxo", "pipefail", "-c", &format!("eval \"${{XB_SETUP:-}}\"\n{script}")]).current_dir(self.path());
        let path = format!("{}:{}:/usr/sbin", at("bin"), std::env::var("PATH").unwrap());
        bash.env("HOME", self.path()).env("XB_PATH", &path).env("PATH", path).env("XB_NOTES", self.notes());
        bash
    }

    /// The same, and something goes wrong.
    pub fn faulty(&self, script: &str) -> Command {
        let mut bash = self.bash(script);
        if let Fault::Killed(victim) = &self.fault {
            bash.env("XB_VICTIM", victim);
        }
        if matches!(self.fault, Fault::DiskFull) && self.full.is_none() {
            bash.env("XB_SETUP", format!("trap '' XFSZ; ulimit -f {}", SMALL / 1024));
        }
        bash
    }

    /// Where each program that runs leaves a line, `here:xb-zip`; `killed`, when it was.
    pub fn notes(&self) -> PathBuf {
        self.path().join("notes")
    }
}

/// A program of the system.
fn which(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).map(|directory| directory.join(name));
    places.find(|place| place.is_file()).unwrap_or_else(|| panic!("there is no {name}; run tests/setup"))
}
