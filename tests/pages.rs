//! Pages of real servers: every page of every kind of tablespace is good, and a flipped bit is detected.

use std::fs;
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tempfile::TempDir;
use xb::innodb::space::{HEAD, Tally};
use xb::innodb::{Aria, Content, Doublewrite, PageNo, PageSize, Space, aria, checksum, doublewrite, page};
use xb::stream::chunk;

use crate::support::tool::{bad, feed, good, pack, said, tool};
use crate::support::{Flavour, Pipeline, Random, Server, root, scratch};

/// A data directory that a server has made and cleanly left.
struct Made {
    scratch: TempDir,
}

impl Made {
    /// An empty directory on which a server has run `sql`.
    fn new(options: &[&str], sql: &str) -> Made {
        let made = Made { scratch: scratch() };
        fs::create_dir(made.data()).unwrap();
        let keys = "1;770A8A65DA156D24EE2A093277530142\n2;880A8A65DA156D24EE2A093277530143\n";
        fs::write(made.scratch.path().join("keys"), keys).unwrap();
        made.run(options, sql).unwrap_or_else(|log| panic!("{log}"));
        made
    }

    /// Runs `sql` (a statement a line) in a server without grants or network; `--bootstrap` reads it from stdin and
    /// shuts down cleanly. If something is wrong, what the server said.
    fn run(&self, options: &[&str], sql: &str) -> Result<(), String> {
        let mut server = Flavour::Installed
            .program("mariadbd")
            .args(["--no-defaults", "--bootstrap", "--innodb-buffer-pool-size=32M"])
            .args(["--innodb-log-file-size=8M", "--innodb-autoextend-increment=8", "--innodb-undo-tablespaces=2"])
            .args(["--plugin-load-add=file_key_management", "--innodb-flush-log-at-trx-commit=0"])
            .arg(format!("--datadir={}", self.data().display()))
            .arg(format!("--file-key-management-filename={}", self.scratch.path().join("keys").display()))
            .arg(format!("--plugin-dir={}", Flavour::Installed.plugins().display()))
            .args(root().then_some("--user=root"))
            .args(options)
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        server.stdin.take().unwrap().write_all(sql.as_bytes()).unwrap();
        let output = server.wait_with_output().unwrap();
        let log = String::from_utf8_lossy(&output.stderr);
        if output.status.success() && !log.contains("ERROR") { Ok(()) } else { Err(log.into()) }
    }

    fn data(&self) -> PathBuf {
        self.scratch.path().join("data")
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.data().join(name)).unwrap()
    }
}

/// Tables of every kind that a server with this page size can make, named by what they are.
fn every_kind(page_size: u32) -> String {
    let mut kinds: Vec<(String, &str)> = [
        ("plain", "ROW_FORMAT=DYNAMIC"),
        ("redundant", "ROW_FORMAT=REDUNDANT"),
        ("squeezed", "PAGE_COMPRESSED=1"),
        ("secret", "ENCRYPTED=YES"),
        ("squeezed_secret", "PAGE_COMPRESSED=1 ENCRYPTED=YES ENCRYPTION_KEY_ID=2"),
    ]
    .map(|(name, options)| (name.to_owned(), options))
    .into();
    if page_size <= 16 << 10 {
        for (kib, plain, secret) in [
            (1, "KEY_BLOCK_SIZE=1", "KEY_BLOCK_SIZE=1 ENCRYPTED=YES"),
            (2, "KEY_BLOCK_SIZE=2", "KEY_BLOCK_SIZE=2 ENCRYPTED=YES"),
            (4, "KEY_BLOCK_SIZE=4", "KEY_BLOCK_SIZE=4 ENCRYPTED=YES"),
            (8, "KEY_BLOCK_SIZE=8", "KEY_BLOCK_SIZE=8 ENCRYPTED=YES"),
        ] {
            if kib << 10 <= page_size {
                kinds.push((format!("zip{kib}"), plain));
                kinds.push((format!("zip{kib}_secret"), secret));
            }
        }
    }
    let mut sql = String::from("SET SESSION innodb_strict_mode=OFF;\nCREATE DATABASE k;\nUSE k;\n");
    for (name, options) in kinds {
        sql += &format!(
            "CREATE TABLE {name} (id INT PRIMARY KEY, v VARCHAR(400), b MEDIUMTEXT, KEY(v(40))) ENGINE=InnoDB {options};\n\
             INSERT INTO {name} SELECT seq, REPEAT(MD5(seq), 10), IF(seq % 50 = 0, REPEAT(SHA2(seq, 512), 300), NULL) FROM seq_1_to_700;\n\
             DELETE FROM {name} WHERE id BETWEEN 300 AND 450;\n"
        );
    }
    // Enough in the system tablespace to reach its second file.
    sql += "SET GLOBAL innodb_file_per_table=OFF;\n\
            CREATE TABLE shared (id INT PRIMARY KEY, b MEDIUMTEXT) ENGINE=InnoDB;\n\
            INSERT INTO shared SELECT seq, REPEAT(SHA2(seq, 512), 4000) FROM seq_1_to_24;\n\
            SET GLOBAL innodb_file_per_table=ON;\n";
    // Positions and full-text indexes have page types and tablespaces of their own.
    sql += "CREATE TABLE places (id INT PRIMARY KEY, g POINT NOT NULL, SPATIAL KEY(g)) ENGINE=InnoDB;\n\
            INSERT INTO places SELECT seq, POINT(seq, seq) FROM seq_1_to_3000;\n\
            CREATE TABLE words (id INT PRIMARY KEY, t TEXT, FULLTEXT KEY(t)) ENGINE=InnoDB;\n\
            INSERT INTO words SELECT seq, CONCAT('word', seq, ' and ', MD5(seq)) FROM seq_1_to_500;\n";
    sql
}

/// All tablespaces of a data directory: name, what page 0 says, number of the first page, bytes.
fn tablespaces(made: &Made) -> Vec<(String, Space, u32, Vec<u8>)> {
    let mut all = Vec::new();
    let bytes = made.read("ibdata1");
    let system = open(&bytes);
    let first = u32::try_from(bytes.len()).unwrap() / system.page_size.get();
    all.push(("ibdata1".to_owned(), system.clone(), 0, bytes));
    all.push(("ibdata2".to_owned(), system, first, made.read("ibdata2")));
    let mut names: Vec<String> = vec!["undo001".into(), "undo002".into()];
    let tables = fs::read_dir(made.data().join("k")).unwrap();
    names.extend(tables.map(|entry| format!("k/{}", entry.unwrap().file_name().into_string().unwrap())));
    names.retain(|name| name.starts_with("undo") || Path::new(name).extension().is_some_and(|ending| ending == "ibd"));
    names.sort();
    for name in names {
        let bytes = made.read(&name);
        all.push((name, open(&bytes), 0, bytes));
    }
    all
}

fn open(bytes: &[u8]) -> Space {
    Space::parse(&bytes[..HEAD.min(bytes.len())]).unwrap().expect("page 0 has been written")
}

/// True where the format has no sum over this byte of a page.
fn uncovered(space: &Space, page: &[u8], at: usize) -> bool {
    let full = space.flags & 0x10 != 0;
    let zip = !full && space.flags >> 1 & 15 != 0;
    let kind = page::kind(page).unwrap();
    if full {
        // The rest of a compressed page.
        return kind & 0x8000 != 0 && at >= usize::from(kind & 0x7fff) * 256;
    }
    let secret = page[26..30] != [0; 4] && page[4..8] != [0; 4];
    let sum_of_secret = (30..34).contains(&at);
    if zip {
        return (16..24).contains(&at)
            || ((0..4).contains(&at) && secret)
            || ((26..34).contains(&at) && !(secret && sum_of_secret));
    }
    let outside = [0..4, page.len() - 8..page.len()].iter().any(|range| range.contains(&at));
    (secret && outside) || ((26..38).contains(&at) && !(secret && sum_of_secret))
}

/// Every page is good; for a sample of pages, every flipped bit that the format covers is detected.
fn prove(checksum: &str, page_size: u32) {
    let size = format!("--innodb-page-size={page_size}");
    let algorithm = format!("--innodb-checksum-algorithm={checksum}");
    let made = Made::new(
        &[&size, &algorithm, "--innodb-data-file-path=ibdata1:12M;ibdata2:1M:autoextend"],
        &every_kind(page_size),
    );
    let spaces = tablespaces(&made);
    assert!(spaces.len() > 10);
    let mut random = Random::new(u64::from(page_size));
    let mut all = Tally::default();
    for (name, space, first, bytes) in &spaces {
        let size = space.page_size.bytes();
        assert_eq!(bytes.len() % size, 0, "{name}");
        let kind = name.trim_start_matches("k/").trim_end_matches(".ibd");
        let zip = kind.strip_prefix("zip").map(|kib| kib.trim_end_matches("_secret").parse::<u32>().unwrap() << 10);
        assert_eq!(space.page_size.get(), zip.unwrap_or(page_size), "{name}");
        let area = name.starts_with("ibdata").then(|| {
            let system = &spaces[0];
            Doublewrite::parse(&system.3[5 * size..6 * size], space.page_size).expect("servers have a doublewrite area")
        });
        let mut tally = Tally::default();
        space
            .check_run(PageNo::new(*first), bytes, area.as_ref(), &mut tally)
            .unwrap_or_else(|(n, fault)| panic!("{name} {n}: {fault}"));
        assert_eq!(tally.pages(), (bytes.len() / size) as u64);
        all += tally;
        assert!(tally.verified > 0, "{name}: {tally:?}");
        let unsummed = checksum == "crc32" && kind.starts_with("squeezed");
        assert_eq!(tally.unverified > 0, unsummed, "{name}: {tally:?}");
        // The server rounds the size of a file down to 4 KiB; a last page of ROW_FORMAT=COMPRESSED may be missing.
        let tail = if name == "ibdata1" { spaces[1].3.len() / size } else { 0 };
        let missing = space.pages as usize - (bytes.len() / size + tail) * usize::from(*first == 0);
        assert!(*first > 0 || missing * size < 4096, "{name}: {missing} pages are missing");
        let encrypted =
            bytes.chunks(size).filter(|page| page[if checksum == "crc32" { 26..30 } else { 0..4 }] != [0; 4]).count();
        assert!(!kind.ends_with("secret") || encrypted > 5, "{name} has only {encrypted} encrypted pages");

        for _ in 0..60 {
            let index = random.below((bytes.len() / size) as u64) as usize;
            let number = PageNo::new(first + u32::try_from(index).unwrap());
            if area.as_ref().is_some_and(|area| area.covers(number)) {
                continue;
            }
            let mut page = bytes[index * size..][..size].to_vec();
            if space.check(number, &page) != Ok(Content::Verified) {
                continue;
            }
            // Half of them in the header, where the special cases are.
            let range = if random.chance(50) { 40 } else { size };
            let at = random.below(range as u64) as usize;
            let silent = uncovered(space, &page, at);
            page[at] ^= 1 << random.below(8);
            assert!(silent || space.check(number, &page).is_err(), "{name} page {number}: flipped byte {at} unnoticed");
        }
    }

    // The same pages as members of a stream, in whatever pieces and order they come.
    let stream = good(pack(&made.data(), &["--exclude=aria_log*"]));
    let run = feed(tool("xb-unpack").args(["--verify", "--pages"]), &stream);
    let unsummed = if all.unverified > 0 { format!(", {} without a checksum", all.unverified) } else { String::new() };
    let (verified, zero, files) = (all.verified, all.zero, spaces.len());
    let words = format!("pages: {verified} verified, {zero} empty{unsummed}, in {files} tablespace files");
    assert!(said(&run).contains(&words), "{words} is not in: {}", said(&run));
    good(run);
}

macro_rules! promises {
    ($($name:ident: $checksum:literal, $kib:literal;)*) => {$(
        #[test]
        fn $name() { prove($checksum, $kib << 10); }
    )*};
}

promises! {
    full_crc32_in_pages_of_4_kib: "full_crc32", 4;
    full_crc32_in_pages_of_8_kib: "full_crc32", 8;
    full_crc32_in_pages_of_16_kib: "full_crc32", 16;
    full_crc32_in_pages_of_32_kib: "full_crc32", 32;
    full_crc32_in_pages_of_64_kib: "full_crc32", 64;
    crc32_in_pages_of_4_kib: "crc32", 4;
    crc32_in_pages_of_8_kib: "crc32", 8;
    crc32_in_pages_of_16_kib: "crc32", 16;
    crc32_in_pages_of_32_kib: "crc32", 32;
    crc32_in_pages_of_64_kib: "crc32", 64;
}

#[test]
fn the_doublewrite_area_is_where_the_server_puts_it() {
    let made = Made::new(&["--innodb-data-file-path=ibdata1:12M:autoextend"], "");
    let bytes = made.read("ibdata1");
    let at = doublewrite::PAGE as usize * (16 << 10);
    let area = Doublewrite::parse(&bytes[at..at + (16 << 10)], PageSize::new(16 << 10).unwrap()).unwrap();
    let covered: Vec<u32> = (0..320).filter(|number| area.covers(PageNo::new(*number))).collect();
    assert_eq!(covered, (64..192).collect::<Vec<u32>>());
}

/// Both files of an Aria table: the number of verified blocks, and every flipped bit is detected.
fn prove_aria(data: &Path, table: &str) -> (usize, usize) {
    let index = fs::read(data.join(format!("{table}.MAI"))).unwrap();
    let rows = fs::read(data.join(format!("{table}.MAD"))).unwrap();
    let aria = Aria::parse(&index[..aria::HEAD.min(index.len())]).unwrap();
    let check = [Aria::check_index as fn(&Aria, u64, &[u8]) -> _, Aria::check_data];
    let mut random = Random::new(17);
    let counts = [index, rows].into_iter().zip(check).map(|(file, check)| {
        let mut verified = 0;
        for (number, block) in (0..).zip(file.chunks(aria.block_size as usize)) {
            let content = check(&aria, number, block).unwrap_or_else(|fault| panic!("{table} block {number}: {fault}"));
            if content != Content::Verified {
                continue;
            }
            verified += 1;
            let mut torn = block.to_vec();
            // The first bytes are covered in every block; of an index block, the rest only as far as it is used.
            torn[random.below(17) as usize] ^= 1 << random.below(8);
            assert!(check(&aria, number, &torn).is_err(), "{table} block {number}: a flip is not noticed");
            assert!(check(&aria, number + 1, block).is_err(), "{table} block {number}: good in another place");
        }
        verified
    });
    let counts: Vec<usize> = counts.collect();
    (counts[0], counts[1])
}

#[test]
fn aria_blocks_of_every_row_format() {
    let tables = [
        ("page", "TRANSACTIONAL=1"),
        ("page_plain", "TRANSACTIONAL=0 ROW_FORMAT=PAGE"),
        ("fixed", "TRANSACTIONAL=0 ROW_FORMAT=FIXED PAGE_CHECKSUM=1"),
        ("dynamic", "TRANSACTIONAL=0 ROW_FORMAT=DYNAMIC PAGE_CHECKSUM=1"),
        ("unsummed", "TRANSACTIONAL=1 PAGE_CHECKSUM=0"),
    ];
    let mut sql = String::from("CREATE DATABASE k;\nUSE k;\n");
    for (name, options) in tables {
        sql += &format!(
            "CREATE TABLE {name} (id INT PRIMARY KEY, v CHAR(200), KEY(v)) ENGINE=Aria {options};\n\
             INSERT INTO {name} SELECT seq, REPEAT(MD5(seq), 6) FROM seq_1_to_3000;\n\
             DELETE FROM {name} WHERE id BETWEEN 1000 AND 2000;\n"
        );
    }
    for encrypted in ["OFF", "ON"] {
        for block_size in ["2048", "8192"] {
            let encrypt = format!("--aria-encrypt-tables={encrypted}");
            let made = Made::new(&[&encrypt, &format!("--aria-block-size={block_size}")], &sql);
            for (name, _) in tables {
                let counts = prove_aria(&made.data().join("k"), name);
                // Only tables with rows in pages are encrypted.
                match (name, encrypted) {
                    ("unsummed", _) | ("page" | "page_plain", "ON") => assert_eq!(counts, (0, 0), "{name}"),
                    ("page" | "page_plain", _) => assert!(counts.0 > 10 && counts.1 > 10, "{name} {counts:?}"),
                    _ => assert!(counts.0 > 10 && counts.1 == 0, "{name} {counts:?}"),
                }
            }
        }
    }
}

#[test]
fn a_server_takes_pages_with_the_sums_of_old_servers() {
    const OPTIONS: [&str; 1] = ["--innodb-checksum-algorithm=crc32"];
    let made = Made::new(&OPTIONS, &every_kind(16 << 10));
    let mut tables = Vec::new();
    for name in ["plain", "zip8"] {
        let path = made.data().join(format!("k/{name}.ibd"));
        let mut bytes = fs::read(&path).unwrap();
        let space = open(&bytes);
        let size = space.page_size.bytes();
        for (number, page) in PageNo::new(0).onward().zip(bytes.chunks_mut(size)) {
            if page.iter().all(|byte| *byte == 0) {
                continue;
            }
            if name == "plain" {
                let (first, _) = checksum::innodb(page::Page::of(page).unwrap());
                page[..4].copy_from_slice(&first.to_be_bytes());
                // The second sum covers the first.
                let (_, second) = checksum::innodb(page::Page::of(page).unwrap());
                page[size - 8..size - 4].copy_from_slice(&second.to_be_bytes());
            } else {
                let sum = checksum::zip_adler32(page::Page::of(page).unwrap());
                page[..4].copy_from_slice(&sum.to_be_bytes());
            }
            assert_eq!(space.check(number, page), Ok(Content::Verified), "{name} {number}");
        }
        fs::write(&path, &bytes).unwrap();
        tables.push((name, path, bytes, space));
    }
    for (name, path, mut bytes, space) in tables {
        let read = format!("USE k;\nSELECT COUNT(*), SUM(LENGTH(b)) FROM {name} FORCE INDEX(PRIMARY);\n");
        made.run(&OPTIONS, &read).unwrap_or_else(|log| panic!("{name}: {log}"));
        // And refuses a wrong sum, so it has looked: page 3 is the root of the table.
        let size = space.page_size.bytes();
        bytes[3 * size] ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert!(space.check(PageNo::new(3), &bytes[3 * size..4 * size]).is_err());
        made.run(&OPTIONS, &read).expect_err("the server does not look at sums");
    }
}

/// `db/t.ibd`'s chunks with payload: where the payload and its CRC stand, and where in the file it belongs.
struct Piece {
    payload: Range<usize>,
    crc: usize,
    offset: u64,
}

fn pieces(stream: &[u8], path: &str) -> Vec<Piece> {
    let (mut at, mut found) = (0, Vec::new());
    while at < stream.len() {
        let head = chunk::prefix(stream[at..].first_chunk().unwrap()).unwrap();
        let name = at + chunk::PREFIX..at + chunk::PREFIX + head.path_len;
        at = name.end;
        if head.kind == chunk::Type::Payload {
            let extent = chunk::payload(stream[at..].first_chunk().unwrap()).unwrap();
            let payload = at + chunk::PAYLOAD_HEAD..at + chunk::PAYLOAD_HEAD + extent.len as usize;
            at = payload.end;
            if stream[name] == *path.as_bytes() && extent.len > 0 {
                found.push(Piece { crc: payload.start - 4, offset: extent.offset, payload });
            }
        }
    }
    found
}

#[test]
fn a_page_damaged_before_the_stream_is_found() {
    let server = Server::new().encrypted().layout("innodb-undo-tablespaces", "2");
    let mut server = server.layout("innodb-data-file-path", "ibdata1:12M;ibdata2:1M:autoextend").start();
    server.sql(&every_kind(16 << 10));
    // Everything is in the files, so that mariadb-backup calls no table new.
    server.restart();
    let mut backup = server.program("mariadb-backup");
    let target = scratch();
    backup.args(server.options()).arg("--backup").arg("--stream=xbstream").arg("--parallel=2");
    backup.arg(format!("--target-dir={}", target.path().display()));
    let run = Pipeline::new().stage(backup).run();
    run.assert_ok();
    let stream = run.stdout;

    let whole = feed(tool("xb-unpack").args(["--verify", "--pages"]), &stream);
    assert!(!said(&whole).contains("not checked"), "{}", said(&whole));
    good(whole);
    let mut random = Random::new(3);
    for (path, page_size) in
        [("k/plain.ibd", 16u64 << 10), ("k/zip4.ibd", 4 << 10), ("undo001", 16 << 10), ("ibdata1", 16 << 10)]
    {
        let pieces = pieces(&stream, path);
        assert!(!pieces.is_empty(), "{path} is not in the stream");
        // A bit in the body of a page that is not empty, and not in the doublewrite area.
        let (piece, at, number) = loop {
            let piece = random.pick(&pieces);
            let at = random.below(piece.payload.len() as u64);
            let (number, inside) = ((piece.offset + at) / page_size, (piece.offset + at) % page_size);
            let page = piece.payload.start + (at - at.min(inside)) as usize;
            let zero = stream[page..(page + page_size as usize).min(piece.payload.end)].iter().all(|byte| *byte == 0);
            if inside > 40
                && inside < page_size - 8
                && at >= inside
                && !zero
                && !(path == "ibdata1" && (64..192).contains(&number))
            {
                break (piece, at as usize, number);
            }
        };
        let mut damaged = stream.clone();
        damaged[piece.payload.start + at] ^= 0x20;
        let sum = crc32fast::hash(&damaged[piece.payload.clone()]);
        damaged[piece.crc..piece.crc + 4].copy_from_slice(&sum.to_le_bytes());
        // The stream itself is in order.
        good(feed(tool("xb-unpack").arg("--verify"), &damaged));
        let run = feed(tool("xb-unpack").args(["--verify", "--pages"]), &damaged);
        bad(&run, 3, &format!("{path}: page {number}: checksum 0x"));
        assert!(said(&run).contains(" is stored, 0x") && said(&run).contains(" is computed"), "{}", said(&run));
    }
}
