//! The source server's options that a backup may set for the server that recovers it, and their types.
//!
//! A manifest comes from a stream that anybody may have made, and the server runs with the privileges of the user who
//! applies it. So every option is on a list with its type; another name, or a value of another type, means damage.
//! Plugins are on a list as well, and are loaded from the server program's own directory. The operator's options
//! (`--server-option`) have priority, and are checked against the same list.

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::{Error, Result};

/// The directory of plugins; only the operator sets it.
pub(super) const PLUGIN_DIR: &str = "plugin_dir";
/// Which plugins are loaded. mariadb-backup writes `plugin_load`.
const LOAD: [&str; 2] = ["plugin_load_add", "plugin_load"];

/// Plugins that recovery may need: for keys, and for compressed pages. The last two of the first group belong to the
/// server's test suite.
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

/// The type of a value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Type {
    /// `ON`, `OFF` and their synonyms.
    Switch,
    /// One of these words, in any case.
    Choice(&'static [&'static str]),
    /// A number in this range.
    Number(u64, u64),
    /// `ibdata1:12M;ibdata2:1G:autoextend`; only the base names are used.
    DataFiles,
    /// Names of [`PLUGINS`].
    Plugins,
    /// The name of a file in the directory.
    Name,
    /// The path of a file with keys on this host.
    KeyFile,
    /// The same after `FILE:`; a backup never contains the phrase itself.
    KeyPhrase,
    /// Where keys are fetched or written: only the operator sets it.
    Operator,
    /// A word of letters, digits, `-`, `_`, `:`, `.` and `/` that is not a path.
    Word,
    /// Recorded for other programs; not passed to a server.
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

/// MariaDB's options.
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

/// MySQL's options.
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

/// The options of the source and of the operator, each checked against its type.
///
/// `strict`: the manifest is ours, so an unknown name means damage. Other programs write more names into backup-my.cnf;
/// these are ignored.
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
            // The operator's own option, which may have any value.
            Some(Type::Told | Type::Operator) => value.clone(),
            Some(Type::KeyPhrase) => return Err(fault("secrets do not belong on a command line")),
            Some(of) => of.value(value).map_err(|what| fault(&what))?,
        };
        options.insert(name.clone(), value);
    }
    Ok(options)
}

impl Type {
    /// The value to pass to the server, or what is wrong with it.
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

/// True for a file name that a server may have chosen, without a path and not an option.
fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"/\\;:".contains(&byte) || !byte.is_ascii();
    !name.is_empty() && name.bytes().all(plain) && !name.starts_with(['.', '-'])
}

/// `/ibdata/a:1G;/other/b:1G:autoextend` becomes `a:1G;b:1G:autoextend`: the files have these names in a backup.
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

/// The path of a key file, which a server only reads. It might wait for, or never finish reading, anything but a
/// regular file.
fn key_file(value: &str) -> Result<String, String> {
    let path = Path::new(value);
    let plain = path.is_absolute() && !value.chars().any(char::is_control);
    if !plain || path.components().any(|part| part == std::path::Component::ParentDir) {
        return Err("no absolute path".into());
    }
    match std::fs::metadata(path) {
        Ok(data) if data.is_file() => Ok(value.to_owned()),
        Ok(_) => Err("not a plain file".into()),
        // The file does not exist: the server will miss its keys, and report it.
        Err(_) => Ok(value.to_owned()),
    }
}

/// The plugins to be loaded.
pub(super) fn loaded(options: &BTreeMap<String, String>) -> impl Iterator<Item = &str> {
    LOAD.iter().filter_map(|name| options.get(*name)).flat_map(|list| list.split(';'))
}
