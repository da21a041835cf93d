//! A directory with a backup in it, whose small files say anything: its status is told.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;

/// The files of a backup that are read to know what it is.
const FILES: [&str; 9] = [
    "xb_begin",
    "xb_manifest",
    "xb_applied",
    "xtrabackup_checkpoints",
    "xtrabackup_info",
    "backup-my.cnf",
    "ib_logfile0",
    "ibdata1",
    "aria_log_control",
];

// Sections begin with a byte 0xff and one that chooses the file.
fuzz_target!(|bytes: &[u8]| {
    let dir = Path::new("/dev/shm").join(format!("xb-fuzz-{}", std::process::id()));
    let _ = std::fs::create_dir(&dir);
    for section in bytes.split(|byte| *byte == 0xff) {
        if let Some((file, content)) = section.split_first() {
            std::fs::write(dir.join(FILES[usize::from(*file) % FILES.len()]), content).unwrap();
        }
    }
    let status = xb::restore::status::of(&dir);
    assert!(!status.line.is_empty());
    for file in FILES {
        let _ = std::fs::remove_file(dir.join(file));
    }
});
