//! Options of the source server that a backup may set on the server that recovers it: which, and of what kind.
//!
//! What a manifest says comes out of a stream that anybody may have made, and the server runs with the rights of whoever
//! applies it. So every option is on a list with its type; another name, or a value that is not of the type, is damage. A
//! plugin is named from a list, and loaded from where the server program has its own. What the operator says
//! (`--server-option`) wins, and is held against the same list.

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::{Error, Result};

/// Where the plugins are; only the operator says so.
pub(super) const PLUGIN_DIR: &str = "plugin_dir";
/// Which plugins are loaded: `plugin_load` in what mariadb-backup writes.
const LOAD: [&str; 2] = ["plugin_load_add", "plugin_load"];

/// Plugins that recovery may need: key management, and compression of pages. The last two of the first come with the
/// server's own tests.
const PLUGINS: [&str; 10] = [
    "file_key_management",
    "aws_key_management",
    "hashicorp_key_management",
    "debug_key_management",
    "example_key_management",
    "provider_bzip2",
    "provider_lz4",
    "provider_lzma",
    "provider_lzo",
    "provider_snappy",
];

/// What a value may be.
#[derive(Clone, Copy, Debug)]
pub(super) enum Type {
    /// `ON`, `OFF` and what means the same.
    Switch,
    /// One of these, in any case.
    Choice(&'static [&'static str]),
    /// From the one to the other.
    Number(u64, u64),
    /// `ibdata1:12M;ibdata2:1G:autoextend`; only the base names count.
    DataFiles,
    /// Names of [`PLUGINS`].
    Plugins,
    /// The name of a file in the directory.
    Name,
    /// A file of this host with keys.
    KeyFile,
    /// The same after `FILE:`; the phrase itself is not in a backup.
    KeyPhrase,
    /// Where keys are asked for, or written: only the operator says so.
    Operator,
    /// Any word of letters, digits, `-`, `_`, `:`, `.` and `/` that is no path.
    Word,
    /// Told for other programs; no server is.
    Told,
}

/// An option and its type.
type Known = (&'static str, Type);

const CHECKSUMS: Type = Type::Choice(&[
    "crc32",
    "strict_crc32",
    "full_crc32",
    "strict_full_crc32",
    "innodb",
    "strict_innodb",
    "none",
    "strict_none",
]);
const LOWER_CASE: Type = Type::Number(0, 2);
const PAGE_SIZE: Type = Type::Number(4096, 65_536);

/// Those of MariaDB.
pub(super) const MARIADB: &[Known] = &[
    ("aria_encrypt_tables", Type::Switch),
    ("aws_key_management_endpoint_url", Type::Operator),
    ("aws_key_management_key_spec", Type::Choice(&["AES_128", "AES_256"])),
    ("aws_key_management_keyfile_dir", Type::Operator),
    ("aws_key_management_log_level", Type::Choice(&["Off", "Fatal", "Error", "Warn", "Info", "Debug", "Trace"])),
    ("aws_key_management_master_key_id", Type::Word),
    ("aws_key_management_mock", Type::Switch),
    ("aws_key_management_region", Type::Word),
    ("aws_key_management_request_timeout", Type::Number(0, u32::MAX as u64)),
    ("aws_key_management_rotate_key", Type::Told),
    ("debug_key_management_version", Type::Number(1, u32::MAX as u64)),
    ("encrypt_tmp_disk_tables", Type::Switch),
    ("encrypt_tmp_files", Type::Switch),
    ("file_key_management_digest", Type::Choice(&["sha1", "sha224", "sha256", "sha384", "sha512"])),
    ("file_key_management_encryption_algorithm", Type::Choice(&["aes_cbc", "aes_ctr"])),
    ("file_key_management_filekey", Type::KeyPhrase),
    ("file_key_management_filename", Type::KeyFile),
    ("file_key_management_use_pbkdf2", Type::Number(0, u32::MAX as u64)),
    ("hashicorp_key_management_cache_timeout", Type::Number(0, u64::MAX)),
    ("hashicorp_key_management_cache_version_timeout", Type::Number(0, u64::MAX)),
    ("hashicorp_key_management_caching_enabled", Type::Switch),
    ("hashicorp_key_management_check_kv_version", Type::Switch),
    ("hashicorp_key_management_max_retries", Type::Number(0, u32::MAX as u64)),
    ("hashicorp_key_management_timeout", Type::Number(0, u64::MAX)),
    ("hashicorp_key_management_use_cache_on_timeout", Type::Switch),
    ("hashicorp_key_management_vault_ca", Type::Operator),
    ("hashicorp_key_management_vault_url", Type::Operator),
    ("innodb_checksum_algorithm", CHECKSUMS),
    ("innodb_compression_algorithm", Type::Choice(&["none", "zlib", "lz4", "lzo", "lzma", "bzip2", "snappy"])),
    ("innodb_data_file_path", Type::DataFiles),
    ("innodb_default_encryption_key_id", Type::Number(1, u32::MAX as u64)),
    ("innodb_encrypt_log", Type::Switch),
    ("innodb_encrypt_tables", Type::Choice(&["OFF", "ON", "FORCE", "0", "1", "2"])),
    ("innodb_encrypt_temporary_tables", Type::Switch),
    ("innodb_log_file_size", Type::Told),
    ("innodb_page_size", PAGE_SIZE),
    ("innodb_undo_tablespaces", Type::Number(0, 127)),
    ("log_bin", Type::Name),
    ("lower_case_table_names", LOWER_CASE),
    (PLUGIN_DIR, Type::Told),
    ("plugin_load", Type::Plugins),
    ("plugin_load_add", Type::Plugins),
    ("plugin_maturity", Type::Choice(&["unknown", "experimental", "alpha", "beta", "gamma", "stable"])),
    ("tc_heuristic_recover", Type::Choice(&["ROLLBACK"])),
];

/// Those of MySQL.
pub(super) const MYSQL: &[Known] = &[
    ("binlog_encryption", Type::Switch),
    ("default_table_encryption", Type::Switch),
    ("innodb_checksum_algorithm", CHECKSUMS),
    ("innodb_data_file_path", Type::DataFiles),
    ("innodb_page_size", PAGE_SIZE),
    ("innodb_redo_log_encrypt", Type::Switch),
    ("innodb_undo_log_encrypt", Type::Switch),
    ("log_bin", Type::Name),
    ("lower_case_table_names", LOWER_CASE),
    (PLUGIN_DIR, Type::Told),
];

/// What the source says and the operator, each held against its type.
///
/// `strict`: the manifest is ours, so that a name that is not on the list is damage; what other programs write into
/// backup-my.cnf has more names, which count for nothing.
pub(super) fn checked(
    known: &[Known],
    source: &BTreeMap<String, String>,
    operator: &BTreeMap<String, String>,
    strict: bool,
) -> Result<BTreeMap<String, String>> {
    let find = |name: &str| known.iter().find(|(known, _)| *known == name).map(|(_, of)| *of);
    let mut options = BTreeMap::new();
    for (name, value) in source.iter().filter(|(name, value)| !value.is_empty() && !operator.contains_key(*name)) {
        let Some(of) = find(name) else {
            if strict {
                let what = format!("the server option {name} is none that a backup may set");
                return Err(
                    Error::damaged("xb_manifest", what).hint("use newer xb-tools, if newer ones made the backup")
                );
            }
            continue;
        };
        let fault = |what: &str| {
            let what = format_args!("the server option {name} is {}: {what}", value.escape_debug());
            Error::damaged(if strict { "xb_manifest" } else { "backup-my.cnf" }, what)
        };
        match of {
            Type::Told => continue,
            Type::Operator => {
                let what =
                    format!("its keys were at {name}={}, which a backup cannot say by itself", value.escape_debug());
                return Err(Error::failed("server", what)
                    .hint(format_args!("--server-option {name}=VALUE, if that is where they are")));
            }
            _ => options.insert(name.clone(), of.value(value).map_err(|what| fault(&what))?),
        };
    }
    for (name, value) in operator {
        let fault = |what: &str| Error::usage("--server-option", format_args!("{name}: {what}"));
        let value = match find(name) {
            None => return Err(fault("is no option that recovery needs")),
            Some(Type::Told) if name != PLUGIN_DIR => return Err(fault("is no option that recovery needs")),
            // An operator's own, who may say what he likes.
            Some(Type::Told | Type::Operator) => value.clone(),
            Some(Type::KeyPhrase) => return Err(fault("secrets do not belong on a command line")),
            Some(of) => of.value(value).map_err(|what| fault(&what))?,
        };
        options.insert(name.clone(), value);
    }
    Ok(options)
}

impl Type {
    /// The value as it is passed on, or what is wrong with it.
    fn value(self, value: &str) -> Result<String, String> {
        let right = match self {
            Type::Switch => {
                ["ON", "OFF", "1", "0", "TRUE", "FALSE"].iter().any(|known| known.eq_ignore_ascii_case(value))
            }
            Type::Choice(list) => list.iter().any(|known| known.eq_ignore_ascii_case(value)),
            Type::Number(least, most) => {
                value.bytes().all(|byte| byte.is_ascii_digit())
                    && value.parse().is_ok_and(|number| (least..=most).contains(&number))
            }
            Type::DataFiles => return data_files(value),
            Type::Plugins => return plugins(value),
            Type::Name => is_name(value),
            Type::KeyFile => return key_file(value),
            Type::KeyPhrase => match value.strip_prefix("FILE:") {
                Some(file) => return key_file(file).map(|file| format!("FILE:{file}")),
                None => false,
            },
            Type::Word => {
                let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_:./".contains(&byte);
                value.bytes().all(letter) && !value.starts_with(['/', '.', '-'])
            }
            Type::Operator | Type::Told => false,
        };
        if right { Ok(value.to_owned()) } else { Err("no value of its type".into()) }
    }
}

/// A name of a file as a server may have chosen it, and nothing that leads elsewhere or is an option.
fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"/\\;:".contains(&byte) || !byte.is_ascii();
    !name.is_empty() && name.bytes().all(plain) && !name.starts_with(['.', '-'])
}

/// `/ibdata/a:1G;/other/b:1G:autoextend` becomes `a:1G;b:1G:autoextend`: a backup holds them by these names.
fn data_files(value: &str) -> Result<String, String> {
    let size = |text: &str| {
        let digits = text.trim_end_matches(['K', 'M', 'G', 'k', 'm', 'g']);
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) && text.len() - digits.len() <= 1
    };
    let file = |file: &str| {
        let (path, rest) = file.split_once(':')?;
        let name = path.rsplit('/').next().unwrap_or(path);
        let mut fields = rest.split(':');
        let right = is_name(name)
            && fields.next().is_some_and(size)
            && match (fields.next(), fields.next(), fields.next(), fields.next()) {
                (None, ..) | (Some("autoextend"), None, ..) => true,
                (Some("autoextend"), Some("max"), Some(most), None) => size(most),
                _ => false,
            };
        right.then(|| format!("{name}:{rest}"))
    };
    let files: Option<Vec<String>> = value.split(';').map(file).collect();
    files.map(|files| files.join(";")).ok_or_else(|| "no list of files of the system tablespace".into())
}

/// `name=library.so;library` becomes `library;library`.
fn plugins(value: &str) -> Result<String, String> {
    let library = |part: &str| {
        let library = part.rsplit_once('=').map_or(part, |(_, library)| library).trim();
        let library = library.strip_suffix(".so").unwrap_or(library);
        PLUGINS
            .iter()
            .find(|known| **known == library)
            .ok_or_else(|| format!("{} is no plugin that recovery needs", part.escape_debug()))
    };
    let parts = value.split(';').filter(|part| !part.trim().is_empty());
    let libraries: Vec<&str> = parts.map(|part| library(part).copied()).collect::<Result<_, _>>()?;
    Ok(libraries.join(";"))
}

/// A server only reads it. What is no plain file it might wait for, or never come to the end of.
fn key_file(value: &str) -> Result<String, String> {
    let path = Path::new(value);
    let plain = path.is_absolute() && !value.chars().any(char::is_control);
    if !plain || path.components().any(|part| part == std::path::Component::ParentDir) {
        return Err("no absolute path".into());
    }
    match std::fs::metadata(path) {
        Ok(data) if data.is_file() => Ok(value.to_owned()),
        Ok(_) => Err("not a plain file".into()),
        // What is not there nobody can follow. The server will miss its keys, and say so.
        Err(_) => Ok(value.to_owned()),
    }
}

/// The plugins that are loaded.
pub(super) fn loaded(options: &BTreeMap<String, String>) -> impl Iterator<Item = &str> {
    LOAD.iter().filter_map(|name| options.get(*name)).flat_map(|list| list.split(';'))
}
