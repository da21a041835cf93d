//! Encrypted connections, and accounts that require them: by TCP and through sockets, with every authentication plugin.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::support::pipeline::Run;
use crate::support::{Family, Flavour, Pipeline, Server, output, program, scratch, test_on, xb};

/// Certificates made by openssl, as in the manuals of both families.
struct Certificates(TempDir);

impl Certificates {
    /// A certificate authority, a server's certificate for `localhost` and 127.0.0.1, a client's, and an unrelated
    /// authority.
    fn new() -> Self {
        let made = Certificates(scratch());
        for name in ["ca", "stranger"] {
            let subject = format!("/CN={name}");
            let args = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", &subject];
            made.openssl(&args, &["-keyout", &format!("{name}-key.pem"), "-out", &format!("{name}.pem")]);
        }
        std::fs::write(made.path("names"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n").unwrap();
        std::fs::write(made.path("other-names"), "subjectAltName=DNS:db.example\n").unwrap();
        for (name, names) in [("server", "names"), ("client", "names"), ("moved", "other-names")] {
            let (key, request, out) = (format!("{name}-key.pem"), format!("{name}.csr"), format!("{name}.pem"));
            let subject = format!("/CN={name}");
            made.openssl(
                &["req", "-newkey", "rsa:2048", "-nodes", "-subj", &subject],
                &["-keyout", &key, "-out", &request],
            );
            made.openssl(
                &["x509", "-req", "-days", "2", "-set_serial", "7"],
                &["-in", &request, "-CA", "ca.pem", "-CAkey", "ca-key.pem", "-extfile", names, "-out", &out],
            );
        }
        made
    }

    fn openssl(&self, one: &[&str], more: &[&str]) {
        let mut command = program("openssl");
        command.args(one).args(more).current_dir(self.0.path());
        output(command);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn option(&self, option: &str, name: &str) -> String {
        format!("--{option}={}", self.path(name).display())
    }

    fn client(&self) -> [String; 2] {
        [self.option("ssl-cert", "client.pem"), self.option("ssl-key", "client-key.pem")]
    }
}

/// A server with a certificate, at a port and a socket.
struct Encrypted {
    server: Server,
    port: String,
    certificates: Certificates,
}

impl Encrypted {
    fn start(flavour: Flavour, certificate: &str, options: &[(&str, &str)]) -> Self {
        let certificates = Certificates::new();
        let path = |name: &str| certificates.path(name).display().to_string();
        let server = Server::new()
            .flavour(flavour)
            .networked()
            .option("ssl-ca", &path("ca.pem"))
            .option("ssl-cert", &path(&format!("{certificate}.pem")))
            .option("ssl-key", &path(&format!("{certificate}-key.pem")));
        let server = options.iter().fold(server, |server, (name, value)| server.option(name, value)).start();
        let port = server.rows("SELECT @@port")[0][0].clone();
        Encrypted { server, port, certificates }
    }

    /// An account for all hosts with all privileges.
    fn account(&self, name: &str, identified: &str, demands: &str) {
        self.server
            .sql(&format!("CREATE USER {name}@'%' IDENTIFIED {identified} {demands}; GRANT ALL ON *.* TO {name}@'%'"));
    }

    fn by_tcp(&self, host: &str, user: &str) -> Command {
        let mut snap = self.snap(user);
        snap.args([&format!("--host={host}"), "--protocol=tcp", &format!("--port={}", self.port)]);
        snap
    }

    fn by_socket(&self, user: &str) -> Command {
        let mut snap = self.snap(user);
        snap.arg(format!("--socket={}", self.server.socket().display()));
        snap
    }

    fn snap(&self, user: &str) -> Command {
        let password = self.certificates.path("password");
        std::fs::write(&password, "secret word\n").unwrap();
        private(&password);
        let mut snap = xb("xb-snap");
        snap.args(["--no-defaults", "-q", "--user", user]).arg("--password-file").arg(&password);
        snap
    }
}

fn private(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[track_caller]
fn good(snap: &mut Command, args: &[String]) {
    run(snap, args).assert_ok();
}

#[track_caller]
fn refused(snap: &mut Command, args: &[String], says: &str) {
    let run = run(snap, args);
    run.assert_codes(&[1]);
    assert!(run.stderr(0).contains(says), "{says:?} is not in: {}", run.stderr(0));
}

fn run(snap: &mut Command, args: &[String]) -> Run {
    Pipeline::new().stage(snap.args(args)).stdout_to(Path::new("/dev/null")).run()
}

fn args(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

test_on!(accounts_that_require_tls_can_connect: mariadb, mariadb118, mysql97);

fn accounts_that_require_tls_can_connect(flavour: Flavour) {
    let encrypted = Encrypted::start(flavour, "server", &[]);
    encrypted.account("safe", "BY 'secret word'", "REQUIRE SSL");
    encrypted.account("known", "BY 'secret word'", "REQUIRE X509");
    let certificates = &encrypted.certificates;
    let identity = certificates.client();
    // By TCP by default.
    good(&mut encrypted.by_tcp("127.0.0.1", "safe"), &[]);
    refused(&mut encrypted.by_tcp("127.0.0.1", "safe"), &args("--skip-ssl"), "(error 1045)");
    refused(&mut encrypted.by_tcp("127.0.0.1", "safe"), &args("--ssl-mode=disabled"), "(error 1045)");
    refused(&mut encrypted.by_tcp("127.0.0.1", "known"), &[], "(error 1045)");
    good(&mut encrypted.by_tcp("127.0.0.1", "known"), &identity);
    // Through the socket on request, or if there is a client certificate.
    refused(&mut encrypted.by_socket("safe"), &[], "(error 1045)");
    good(&mut encrypted.by_socket("safe"), &args("--ssl"));
    good(&mut encrypted.by_socket("safe"), &args("--ssl-mode=REQUIRED"));
    good(&mut encrypted.by_socket("known"), &identity);
    // The same from an option file.
    let file = certificates.path("my.cnf");
    let path = |name: &str| certificates.path(name).display().to_string();
    let text = format!(
        "[client]\nuser=known\npassword='secret word'\nssl-ca={}\nssl-cert={}\nssl-key={}\nport={}\nprotocol=tcp\n",
        path("ca.pem"),
        path("client.pem"),
        path("client-key.pem"),
        encrypted.port
    );
    std::fs::write(&file, text).unwrap();
    let mut snap = xb("xb-snap");
    good(snap.arg(format!("--defaults-file={}", file.display())).arg("-q"), &[]);
}

test_on!(a_server_s_certificate_is_verified: mariadb, mysql97);

fn a_server_s_certificate_is_verified(flavour: Flavour) {
    let encrypted = Encrypted::start(flavour, "server", &[]);
    encrypted.account("safe", "BY 'secret word'", "REQUIRE SSL");
    let certificates = &encrypted.certificates;
    let (ca, stranger) = (certificates.option("ssl-ca", "ca.pem"), certificates.option("ssl-ca", "stranger.pem"));
    let identity = "--ssl-verify-server-cert".to_owned();
    for host in ["127.0.0.1", "localhost"] {
        good(&mut encrypted.by_tcp(host, "safe"), std::slice::from_ref(&ca));
        good(&mut encrypted.by_tcp(host, "safe"), &[ca.clone(), identity.clone()]);
        let not_issued = "not issued by an authority";
        refused(&mut encrypted.by_tcp(host, "safe"), std::slice::from_ref(&stranger), not_issued);
        refused(&mut encrypted.by_tcp(host, "safe"), &[stranger.clone(), identity.clone()], not_issued);
    }
    let directory = scratch();
    std::fs::copy(certificates.path("ca.pem"), directory.path().join("1234abcd.0")).unwrap();
    std::fs::write(directory.path().join("notes"), "no certificate\n").unwrap();
    let capath = format!("--ssl-capath={}", directory.path().display());
    good(&mut encrypted.by_tcp("127.0.0.1", "safe"), &[capath, "--ssl-mode=verify_identity".into()]);
    good(&mut encrypted.by_socket("safe"), &[ca.clone(), "--ssl-mode=verify_ca".into()]);
    let mut unnamed = encrypted.by_tcp("127.0.0.1", "safe");
    run(&mut unnamed, &[identity]).assert_codes(&[2]);
    refused(&mut encrypted.by_tcp("127.0.0.1", "safe"), &[certificates.option("ssl-ca", "names")], "no certificate");
}

#[test]
fn a_certificate_for_another_host_passes_unless_names_count() {
    let encrypted = Encrypted::start(Flavour::Installed, "moved", &[]);
    encrypted.account("safe", "BY 'secret word'", "REQUIRE SSL");
    let ca = encrypted.certificates.option("ssl-ca", "ca.pem");
    good(&mut encrypted.by_tcp("127.0.0.1", "safe"), std::slice::from_ref(&ca));
    let mut snap = encrypted.by_tcp("127.0.0.1", "safe");
    refused(&mut snap, &[ca, "--ssl-verify-server-cert".into()], "is for another host");
}

#[test]
fn a_server_without_tls_is_refused_on_demand() {
    let server = Server::new().networked().start();
    let port = server.rows("SELECT @@port")[0][0].clone();
    let snap = || {
        let mut snap = xb("xb-snap");
        snap.args(["--no-defaults", "-q", "--user=plain", "--host=127.0.0.1", &format!("--port={port}")]);
        snap
    };
    server.sql("CREATE USER plain@'%'; GRANT ALL ON *.* TO plain@'%'");
    good(&mut snap(), &[]);
    good(&mut snap(), &args("--ssl-mode=preferred"));
    refused(&mut snap(), &args("--ssl"), "does not offer TLS");
    refused(&mut snap(), &args("--ssl-mode=required"), "does not offer TLS");
}

test_on!(every_way_to_log_in_is_known: mariadb, mariadb118, mysql97);

fn every_way_to_log_in_is_known(flavour: Flavour) {
    let ways: &[(&str, &str, &str)] = match flavour {
        Flavour::Installed => &[
            ("native", "VIA mysql_native_password USING PASSWORD('secret word')", ""),
            ("curve", "VIA ed25519 USING PASSWORD('secret word')", "auth_ed25519"),
        ],
        Flavour::Mariadb118 => &[
            ("curve", "VIA ed25519 USING PASSWORD('secret word')", "auth_ed25519"),
            ("parsec", "VIA parsec USING PASSWORD('secret word')", "auth_parsec"),
        ],
        Flavour::Mysql97 => &[("sha2", "WITH caching_sha2_password BY 'secret word'", "")],
    };
    let encrypted = Encrypted::start(flavour, "server", &[]);
    for (name, identified, plugin) in ways {
        if !plugin.is_empty() {
            encrypted.server.sql(&format!("INSTALL SONAME '{plugin}'"));
        }
        encrypted.account(name, identified, "");
        // The second login of a kind may be shorter than the first: the server remembers.
        for flush in [true, true, false] {
            if flush {
                encrypted.server.sql("FLUSH PRIVILEGES");
            }
            good(&mut encrypted.by_tcp("127.0.0.1", name), &[]);
        }
        for options in ["--skip-ssl", "--ssl"] {
            encrypted.server.sql("FLUSH PRIVILEGES");
            good(&mut encrypted.by_tcp("127.0.0.1", name), &args(options));
            encrypted.server.sql("FLUSH PRIVILEGES");
            good(&mut encrypted.by_socket(name), &args(options));
        }
        std::fs::write(encrypted.certificates.path("wrong"), "another word\n").unwrap();
        private(&encrypted.certificates.path("wrong"));
        let wrong = encrypted.certificates.option("password-file", "wrong");
        let mut snap = xb("xb-snap");
        snap.args(["--no-defaults", "-q", "--user", name, "--host=127.0.0.1", &format!("--port={}", encrypted.port)]);
        refused(&mut snap, &[wrong], "(error 1045)");
    }
    if flavour.family() == Family::Mariadb && crate::support::root() {
        encrypted.server.sql("ALTER USER root@localhost IDENTIFIED VIA unix_socket");
        good(&mut encrypted.by_socket("root"), &args("--ssl"));
        good(&mut encrypted.by_socket("root"), &[]);
    }
}

/// What answers at a port and is no server, or ends in the middle of the login.
#[test]
fn a_failed_login_ends_at_once_with_the_reason() {
    use std::io::{Read, Write};
    let mut greeting = b"\x0a10.11.19-MariaDB\0".to_vec();
    greeting.extend([1, 0, 0, 0]);
    greeting.extend(b"abcdefgh\0\xff\xff\x08\x02\0\xff\x81\x15");
    greeting.extend([0; 10]);
    greeting.extend(b"abcdefghijkl\0mysql_native_password\0");
    let packet = |body: &[u8]| [&[u8::try_from(body.len()).unwrap(), 0, 0, 0][..], body].concat();
    for (answer, says) in [
        (Vec::new(), "closed before the login"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), "not a MySQL or MariaDB server"),
        (b"\xff\xff\xff\0".to_vec(), "not a MySQL or MariaDB server"),
        (packet(b"\xff\x10\x04#08004Too many connections"), "Too many connections (error 1040)"),
        (packet(b"\x0a"), "does not offer TLS"),
        (packet(&greeting), ""),
        ([packet(&greeting), b"no TLS at all, but bytes".to_vec()].concat(), "TLS"),
    ] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(&answer).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let mut snap = xb("xb-snap");
        snap.args(["--no-defaults", "-q", "--user=nobody", "--host=127.0.0.1", &format!("--port={port}")]);
        refused(&mut snap, &args("--ssl"), says);
        server.join().unwrap();
    }
}
