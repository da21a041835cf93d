//! Finds the table of a file whose name is not that of its table. Sources: `fts0priv.ic`, `fts0fts.cc` (full-text
//! indexes), `sql_table.cc`, `table.h` (MariaDB's high-level indexes), `strfunc.cc` (names of files).

use bstr::ByteSlice;

/// Separates the name of a table from that of a vector index. A table name cannot contain it: `#` is encoded as
/// `@0023`.
const INDEX: &str = "#i#";
/// The same for a partition, of both families.
const PARTITION: [&str; 2] = ["#P#", "#p#"];
/// Suffixes of the tables that all full-text indexes of a table share.
const SHARED: [&[u8]; 5] = [b"config", b"deleted", b"deleted_cache", b"being_deleted", b"being_deleted_cache"];
/// Number of hexadecimal digits of an id in a name.
const ID: usize = 16;

/// The table's name, without the suffix of a vector index: `t#i#00`, in MariaDB since 11.7.
pub fn without_index(stem: &[u8]) -> &[u8] {
    stem.find(INDEX).and_then(|at| stem.get(..at)).unwrap_or(stem)
}

/// The table's name, if a file is a partition of it: `t#P#p0`, `t#p#p0#sp#s1`.
pub fn partitioned(stem: &[u8]) -> Option<&[u8]> {
    let mark = PARTITION.iter().find_map(|mark| stem.find(mark));
    mark.and_then(|at| stem.get(..at))
}

/// The id of the table to whose full-text indexes a file belongs, by its name without suffix:
/// `FTS_0000000000000012_CONFIG`, `fts_0000000000000428_00000000000000a1_index_1`.
pub fn fulltext(stem: &[u8]) -> Option<u64> {
    let lower = stem.to_ascii_lowercase();
    let (table, rest) = id(lower.strip_prefix(b"fts_")?)?;
    let number = |rest: &[u8]| matches!(rest, [b'1'..=b'6']);
    let index = || id(rest).is_some_and(|(_, rest)| rest.strip_prefix(b"index_").is_some_and(number));
    (SHARED.contains(&rest) || index()).then_some(table)
}

/// True for the name of such a file, or of the `.isl` that says where it is.
pub fn is_fulltext(file: &[u8]) -> bool {
    of_fulltext(file).is_some()
}

/// See [`fulltext`].
pub fn of_fulltext(file: &[u8]) -> Option<u64> {
    let stem = file.strip_suffix(b".ibd").or_else(|| file.strip_suffix(b".isl"));
    stem.and_then(fulltext)
}

/// Parses an id; returns also what follows it.
fn id(text: &[u8]) -> Option<(u64, &[u8])> {
    let (digits, rest) = text.split_at_checked(ID)?;
    let id =
        digits.iter().all(u8::is_ascii_hexdigit).then(|| u64::from_str_radix(digits.to_str().ok()?, 16).ok())??;
    Some((id, rest.strip_prefix(b"_")?))
}

/// The file name of a table: everything but letters, digits and `_` is encoded as `@` and four digits. `None` if it is
/// not ASCII: the rules for other letters are complex, and no decision depends on them.
pub fn file_name(table: &[u8]) -> Option<Vec<u8>> {
    let mut name = Vec::with_capacity(table.len());
    for byte in table {
        match byte {
            b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => name.push(*byte),
            0..0x80 => name.extend(format!("@{byte:04x}").into_bytes()),
            _ => return None,
        }
    }
    Some(name)
}

/// The SQL name of a trigger's table, from the content of its `.TRN`.
pub fn of_trigger(text: &[u8]) -> Option<&[u8]> {
    text.lines().find_map(|line| line.strip_prefix(b"trigger_table="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_name_their_tables() {
        assert_eq!(without_index(b"v#i#00"), b"v");
        assert_eq!(without_index(b"v@0023i@00230"), b"v@0023i@00230");
        assert_eq!(partitioned(b"t#P#p0#SP#s1"), Some(&b"t"[..]));
        assert_eq!(partitioned(b"t"), None);
        for (name, table) in [
            ("FTS_0000000000000012_CONFIG", Some(18)),
            ("FTS_0000000000000012_BEING_DELETED_CACHE", Some(18)),
            ("FTS_0000000000000012_000000000000001e_INDEX_6", Some(18)),
            ("fts_0000000000000428_00000000000000a1_index_1", Some(0x428)),
            ("FTS_0000000000000012_000000000000001e_INDEX_7", None),
            ("FTS_0000000000000012", None),
            ("FTS_000000000000012_CONFIG", None),
            ("FTS_0000000000000012_CONFIG_", None),
            ("FTS_+000000000000012_CONFIG", None),
            ("fts_orders", None),
        ] {
            assert_eq!(fulltext(name.as_bytes()), table, "{name}");
        }
        assert_eq!(file_name(b"na-me_1"), Some(b"na@002dme_1".to_vec()));
        assert_eq!(file_name("é".as_bytes()), None);
        assert_eq!(of_trigger(b"TYPE=TRIGGERNAME\ntrigger_table=c-x\n"), Some(&b"c-x"[..]));
    }
}
