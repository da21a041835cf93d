//! Options for the connection to a server. None takes a password.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use zeroize::Zeroizing;

use crate::crypt::keyfile;
use crate::error::Result;
use crate::report::{Level, Report};
use crate::server::address::{Asked, Protocol};
use crate::server::options::Sources;
use crate::server::password::Password;
use crate::server::session::{Login, password_file};
use crate::server::tls::{self, Mode};

/// Options for the connection.
#[derive(Args, Debug, Clone)]
#[command(next_help_heading = "Connection")]
pub struct Connection {
    /// Read this option file only
    #[arg(long, value_name = "FILE", conflicts_with = "no_defaults")]
    defaults_file: Option<PathBuf>,
    /// Read this option file after the system's
    #[arg(long, value_name = "FILE")]
    defaults_extra_file: Option<PathBuf>,
    /// Also read groups with this suffix
    #[arg(long, value_name = "SUFFIX")]
    defaults_group_suffix: Option<String>,
    /// Read no option file
    #[arg(long)]
    no_defaults: bool,
    /// Also read the group NAME of .mylogin.cnf, which mysql_config_editor writes
    #[arg(long, value_name = "NAME")]
    login_path: Option<String>,
    /// Connect as this account [default: the system user]
    #[arg(short, long)]
    user: Option<String>,
    /// Connect through this socket
    #[arg(short = 'S', long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Connect by TCP, except to localhost; the server's files must still be on this host
    #[arg(long)]
    host: Option<String>,
    /// Connect by TCP to this port
    #[arg(short = 'P', long)]
    port: Option<u16>,
    /// Connect by TCP or through the socket
    #[arg(long, value_enum, value_name = "P", ignore_case = true)]
    protocol: Option<Protocol>,
    /// Fail if connecting takes more than S seconds [default: 10]
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=31_536_000))]
    connect_timeout: Option<u64>,
    /// Read the password from the first line of FILE, which only its owner may read
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    #[command(flatten)]
    encryption: Encryption,
}

/// Options for the encryption of the connection.
#[derive(Args, Debug, Clone)]
#[command(next_help_heading = "Encryption of the connection")]
struct Encryption {
    /// Encrypt the connection, and fail if that is impossible [default: by TCP, if the server offers it]
    #[arg(long, overrides_with = "skip_ssl")]
    ssl: bool,
    /// Do not encrypt the connection
    #[arg(long, alias = "disable-ssl", overrides_with = "ssl")]
    skip_ssl: bool,
    /// When to encrypt, and what to verify of the server's certificate
    #[arg(long, value_enum, value_name = "MODE", ignore_case = true)]
    ssl_mode: Option<Mode>,
    /// Trust the certificate authorities in this PEM file, and verify the server's certificate
    #[arg(long, value_name = "FILE")]
    ssl_ca: Option<PathBuf>,
    /// Trust the certificate authorities in the files of this directory
    #[arg(long, value_name = "DIR")]
    ssl_capath: Option<PathBuf>,
    /// Present this certificate (PEM) to the server, for accounts with REQUIRE X509
    #[arg(long, value_name = "FILE")]
    ssl_cert: Option<PathBuf>,
    /// Private key of that certificate (PEM, without a passphrase)
    #[arg(long, value_name = "FILE")]
    ssl_key: Option<PathBuf>,
    /// Also verify that the server's certificate is for the host in --host
    #[arg(long, overrides_with = "skip_ssl_verify_server_cert")]
    ssl_verify_server_cert: bool,
    /// Do not verify the host name, even if an option file says so
    #[arg(long, alias = "disable-ssl-verify-server-cert", overrides_with = "ssl_verify_server_cert")]
    skip_ssl_verify_server_cert: bool,
}

impl Encryption {
    fn asked(&self) -> tls::Asked {
        let switch = |on: bool, off: bool| on.then_some(true).or(off.then_some(false));
        tls::Asked {
            mode: self.ssl_mode,
            ssl: switch(self.ssl, self.skip_ssl),
            verify: switch(self.ssl_verify_server_cert, self.skip_ssl_verify_server_cert),
            ca: self.ssl_ca.clone(),
            capath: self.ssl_capath.clone(),
            cert: self.ssl_cert.clone(),
            key: self.ssl_key.clone(),
        }
    }
}

impl Connection {
    /// Which option files are read.
    pub fn sources(&self) -> Sources {
        Sources {
            file: self.defaults_file.clone(),
            extra: self.defaults_extra_file.clone(),
            none: self.no_defaults,
            suffix: self.defaults_group_suffix.clone(),
            login_path: self.login_path.clone(),
        }
    }

    /// The login by command line and environment; option files come after.
    pub fn login(&self, lock_timeout: Duration, report: &dyn Report) -> Result<Login> {
        let password = Password::none();
        // From here on there is a password in memory.
        keyfile::harden()?;
        if let Some(file) = &self.password_file {
            let text = password_file(file)?;
            password.or(|| Some(text));
        }
        password.or(|| {
            let text = Zeroizing::new(std::env::var("MYSQL_PWD").ok()?);
            let warning = format_args!("MYSQL_PWD: other users may see a password in the environment");
            report.note(Level::Warning, warning);
            Some(text)
        });
        if !password.leaves_no_copy() {
            let what =
                format_args!("/proc/self/mem: cannot be written: sessions keep a copy of the password in memory");
            report.note(Level::Detail, what);
        }
        Ok(Login {
            user: self.user.clone(),
            password,
            asked: Asked {
                socket: self.socket.clone(),
                host: self.host.clone(),
                port: self.port,
                protocol: self.protocol,
            },
            encryption: self.encryption.asked(),
            patience: self.connect_timeout.map(Duration::from_secs),
            lock_timeout,
            ..Login::default()
        })
    }
}
