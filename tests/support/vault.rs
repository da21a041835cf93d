//! The other host: a private sshd on a loopback port, run by the user of the tests, with its own keys.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::time::Duration;

use tempfile::TempDir;

use super::{executable, flavour, output, program, scratch, server, skip, wait_until};

/// For something to listen.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a login does: the command that was asked for, in the environment of the sandbox that asked for it.
const LOGIN: &str = r#"#!/bin/bash
export XB_WHERE=vault PATH="$XB_PATH"
eval "${XB_SETUP:-}"
exec bash -c "$SSH_ORIGINAL_COMMAND"
"#;

/// A running sshd. Dropped, it is gone, with all that it has started if it runs as root.
pub struct Vault {
    child: Child,
    directory: TempDir,
}

impl Vault {
    /// None where no sshd can run, which is said. Sees the file systems that are mounted now, not later ones.
    pub fn start() -> Option<Vault> {
        let sshd = flavour::servers().join("openssh/bin/sshd");
        if !sshd.exists() {
            skip("there is no sshd in target/servers; run tests/setup");
            return None;
        }
        let directory = scratch();
        let here = directory.path();
        for key in ["host", "user"] {
            let mut keygen = program("ssh-keygen");
            keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(here.join(key));
            output(keygen);
        }
        let (port, at) = (free_port(), here.display());
        executable(&here.join("login"), LOGIN);
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {at}/host\nAuthorizedKeysFile {at}/user.pub\nPidFile none\n\
             PasswordAuthentication no\nUsePAM no\nStrictModes no\nPermitRootLogin yes\nMaxStartups 100\n\
             AcceptEnv XB_*\nForceCommand {at}/login\n"
        );
        fs::write(here.join("sshd_config"), config).expect("cannot write sshd_config");
        // Any name is this host.
        let config = format!(
            "Host *\nHostName 127.0.0.1\nPort {port}\nIdentityFile {at}/user\nIdentitiesOnly yes\nBatchMode yes\n\
             StrictHostKeyChecking no\nUserKnownHostsFile /dev/null\nLogLevel ERROR\nSendEnv XB_*\n"
        );
        fs::write(here.join("ssh_config"), config).expect("cannot write ssh_config");
        let child = spawn(&sshd, here);
        let mut vault = Vault { child, directory };
        wait_until("sshd", PATIENCE, || listens(port) || vault.child.try_wait().is_ok_and(|ended| ended.is_some()));
        if !listens(port) {
            let log = fs::read_to_string(vault.directory.path().join("sshd.log")).unwrap_or_default();
            skip(&format!("no sshd can run here: {log}"));
            return None;
        }
        Some(vault)
    }

    /// For `ssh -F`.
    pub fn config(&self) -> PathBuf {
        self.directory.path().join("ssh_config")
    }
}

impl Drop for Vault {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// As root, sshd wants a user `sshd` and a directory `/run/sshd`, which only its package makes. It gets both in name
/// spaces of its own, where root has no profile of its shell, and all that it starts ends with it.
fn spawn(sshd: &Path, here: &Path) -> Child {
    // Without -r it would start itself anew for each login, not through its own loader.
    let run = format!("exec {} -D -r -f {}", sshd.display(), here.join("sshd_config").display());
    let mut command = program("sh");
    if super::root() {
        let users = "root:x:0:0::/:/bin/sh\nsshd:x:65533:65534::/run/sshd:/usr/sbin/nologin\n";
        fs::write(here.join("passwd"), users).expect("cannot write passwd");
        let prepare = format!(
            "mount --bind {}/passwd /etc/passwd && mount -t tmpfs xb-test /run && mkdir -m 755 /run/sshd",
            here.display()
        );
        command = program("unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
        command.args(["sh", "-c", &format!("{prepare} && {run}")]);
    } else {
        command.args(["-c", &run]);
    }
    let log = fs::File::create(here.join("sshd.log")).expect("cannot write sshd.log");
    server::mortal(command).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("cannot run sshd")
}

/// A port of this host that nothing listens on, below those that the kernel gives to connections.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 10_000).unwrap();
    loop {
        let port = 20_000 + (first + NEXT.fetch_add(1, Relaxed)) % 10_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Does something listen there? Without a connection, for some accept only one.
pub fn listens(port: u16) -> bool {
    let sockets = fs::read_to_string("/proc/net/tcp").expect("cannot read /proc/net/tcp");
    sockets.contains(&format!(":{port:04X} 00000000:0000 0A"))
}
