//! Initialised data directories, made once and copied, so that a server starts in a second.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use super::{Family, Flavour};

/// One at a time: two tests that want the same template would both make it.
static MAKING: Mutex<()> = Mutex::new(());

/// Two keys for `file_key_management`: 1 for system and log, 2 for tables that ask for it.
const KEYS: &str =
    "1;770A8A65DA156D24EE2A093277530142\n2;4E6F7420736563726574206174206461A1B2C3D4E5F60718293A4B5C6D7E8F90\n";

/// Fills `home` with `data`, `undo`, `outside`, `tmp` and `keys`, as `arguments` lay it out.
///
/// In the arguments `@HOME@` stands for the server's directory.
pub(super) fn lay_out(flavour: Flavour, arguments: &[String], home: &Path) {
    let name = key(flavour, arguments);
    let template = super::cache().join("templates").join(&name);
    {
        let _one = MAKING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !template.exists() {
            make(flavour, arguments, &template);
        }
    }
    let copied = Command::new("cp")
        .args(["-a", "--reflink=auto", "--sparse=always"])
        .arg(template.join("."))
        .arg(home)
        .status()
        .expect("cannot run cp");
    assert!(copied.success(), "cannot copy {}", template.display());
}

/// The template's name: server version and layout.
fn key(flavour: Flavour, arguments: &[String]) -> String {
    let mut digest = blake3::Hasher::new();
    let version = Command::new(flavour.server()).arg("--version").output().expect("cannot run the server").stdout;
    digest.update(&version);
    digest.update(arguments.join("\n").as_bytes());
    digest.update(KEYS.as_bytes());
    digest.update(include_bytes!("template.rs"));
    digest.finalize().to_hex().chars().take(16).collect()
}

/// Makes it beside, then renames: another process may be doing the same.
fn make(flavour: Flavour, arguments: &[String], template: &Path) {
    let parent = template.parent().expect("a template has a parent");
    fs::create_dir_all(parent).expect("cannot make the directory of templates");
    let home = tempfile::Builder::new().prefix("making-").tempdir_in(parent).expect("cannot make a template");
    skeleton(home.path());
    match flavour.family() {
        Family::Mariadb => bootstrap(flavour, arguments, home.path()),
        Family::Mysql => initialize(flavour, arguments, home.path()),
    }
    let made = home.keep();
    if fs::rename(&made, template).is_err() {
        assert!(template.exists(), "cannot rename {}", made.display());
        fs::remove_dir_all(&made).expect("cannot remove a second template");
    }
}

/// MariaDB: the server runs the SQL of `mariadb-install-db`.
fn bootstrap(flavour: Flavour, arguments: &[String], home: &Path) {
    let log = home.join("init.log");
    let mut server = Command::new(flavour.server())
        .args(super::server::base_arguments(flavour, home))
        .args(super::server::placed(arguments, home))
        .arg("--bootstrap")
        .args(["--max-allowed-packet=8M", "--net-buffer-length=16K", "--innodb-flush-log-at-trx-commit=0"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(fs::File::create(&log).expect("cannot write init.log"))
        .spawn()
        .expect("cannot run mariadbd");
    let mut input = server.stdin.take().expect("stdin is a pipe");
    let fed = input.write_all(&system_tables(flavour));
    drop(input);
    let status = server.wait().expect("cannot wait for mariadbd");
    let said = fs::read_to_string(&log).unwrap_or_default();
    assert!(status.success() && fed.is_ok(), "mariadbd --bootstrap: {status}\n{said}");
    fs::remove_file(&log).expect("cannot remove init.log");
}

/// MySQL makes its tables itself. There is no engine of sequences; views take its place.
fn initialize(flavour: Flavour, arguments: &[String], home: &Path) {
    let (sql, log) = (home.join("init.sql"), home.join("init.log"));
    fs::write(&sql, sequences()).expect("cannot write init.sql");
    let status = Command::new(flavour.server())
        .args(super::server::base_arguments(flavour, home))
        .args(super::server::placed(arguments, home))
        .args(["--initialize-insecure", "--skip-log-bin"])
        .arg(format!("--init-file={}", sql.display()))
        .arg(format!("--log-error={}", log.display()))
        .status()
        .expect("cannot run mysqld");
    let said = fs::read_to_string(&log).unwrap_or_default();
    assert!(status.success() && !said.contains("[ERROR]"), "mysqld --initialize-insecure: {status}\n{said}");
    // Every server that is made of it gets an id of its own.
    for name in ["init.sql", "init.log", "data/auto.cnf"] {
        fs::remove_file(home.join(name)).expect("cannot remove what the first start left");
    }
}

/// The database `test` with `seq_1_to_N`, as far as the loads ask for them.
fn sequences() -> String {
    let mut sql = "CREATE DATABASE test;\nUSE test;\nCREATE TABLE numbers (seq INT PRIMARY KEY);\n\
         INSERT INTO numbers WITH RECURSIVE digits(d) AS (SELECT 0 UNION ALL SELECT d + 1 FROM digits WHERE d < 9) \
         SELECT 1 + a.d + 10 * b.d + 100 * c.d + 1000 * e.d FROM digits a, digits b, digits c, digits e;\n"
        .to_owned();
    for end in [20, 200, 300, 500, 800, 1000, 2000, 2999, 5000] {
        sql += &format!(
            "CREATE SQL SECURITY INVOKER VIEW seq_1_to_{end} AS SELECT seq FROM numbers WHERE seq <= {end};\n"
        );
    }
    sql
}

/// Directories and keys that every server has.
pub(super) fn skeleton(home: &Path) {
    for name in ["data", "undo", "outside", "tmp"] {
        fs::create_dir_all(home.join(name)).expect("cannot make a server's directory");
    }
    fs::write(home.join("keys"), KEYS).expect("cannot write keys");
}

/// What `mariadb-install-db` feeds to the server, without help tables: root enters by socket without a password.
fn system_tables(flavour: Flavour) -> Vec<u8> {
    let share = flavour.share();
    let mut sql = b"create database test;\ncreate database mysql;\nuse mysql;\nset @auth_root_socket=NULL;\nset @skip_auth_anonymous=1;\n".to_vec();
    for name in ["system_tables", "performance_tables", "system_tables_data"] {
        sql.extend(read_either(&share, name));
    }
    sql.extend(fs::read(share.join("maria_add_gis_sp_bootstrap.sql")).expect("cannot read SQL of the server"));
    sql.extend(read_either(&share, "sys_schema"));
    sql
}

/// `mariadb_x.sql`, before 11 `mysql_x.sql`.
fn read_either(share: &Path, name: &str) -> Vec<u8> {
    let paths: [PathBuf; 2] = ["mariadb", "mysql"].map(|family| share.join(format!("{family}_{name}.sql")));
    paths.iter().find_map(|path| fs::read(path).ok()).unwrap_or_else(|| panic!("no {}", paths[0].display()))
}
