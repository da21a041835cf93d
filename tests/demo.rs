//! The output of `make demo` is as promised, and it leaves no files.

use std::fs;

use crate::support::{Pipeline, program, root_of_package, scratch, xb};

#[test]
fn the_demonstration_proves_its_backup_and_cleans_up() {
    let here = scratch();
    let tools = xb("xb-snap");
    let mut demo = program("bash");
    demo.arg(root_of_package().join("tests/demo.sh")).env("TMPDIR", here.path()).env("MB", "8");
    demo.env("BIN", std::path::Path::new(tools.get_program()).parent().unwrap());
    let run = Pipeline::new().stage(demo).run();
    run.assert_ok();
    let said = String::from_utf8_lossy(&run.stdout);
    for promise in [
        "1000 balances sum up to 1000000, as at every moment",
        "CHECK TABLE finds no fault in five tables of three engines",
        "the source's binlog, replayed from that position, makes every table equal to the source",
        "transactions were committed",
        "blocked meanwhile: ",
    ] {
        assert!(said.contains(promise), "{promise:?} is not said:\n{said}{}", run.story());
    }
    let last = said.lines().last().unwrap();
    assert!(last.contains(" ms, ddl ") && last.ends_with(" ms"), "{last}");
    assert_eq!(fs::read_dir(here.path()).unwrap().count(), 0, "something is left in TMPDIR");
    let place = here.path().to_str().unwrap().as_bytes();
    let busy = fs::read_dir("/proc").unwrap().flatten().find(|process| {
        let command = fs::read(process.path().join("cmdline")).unwrap_or_default();
        command.windows(place.len()).any(|part| part == place)
    });
    assert!(busy.is_none(), "a process is left: {busy:?}");
}
