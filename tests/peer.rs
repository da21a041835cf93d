//! MariaDB's own suites: for mariadb-backup, with xb-front in the place of that program, and for state transfers of Galera,
//! by wsrep_sst_xb: `tests/peer`.

use std::process::Command;
use std::time::Duration;

use crate::support::{Pipeline, root_of_package, skip, xb};

/// Where the script says that the suite is not here.
const MISSING: i32 = 77;

fn run(arguments: &[&str], limit: Duration) {
    script("tests/peer/run", arguments, limit);
}

fn script(name: &str, arguments: &[&str], limit: Duration) {
    let bin = xb("xb-front").get_program().to_owned();
    let bin = std::path::Path::new(&bin).parent().unwrap().to_owned();
    let mut script = Command::new(root_of_package().join(name));
    // `target/debug`, wherever that is.
    script.args(arguments).env("XB_BIN", &bin).env("CARGO_TARGET_DIR", bin.parent().unwrap());
    let run = Pipeline::new().stage(script).limit(limit).run();
    if run.codes() == [MISSING] {
        return skip("MariaDB's suite is not in target/servers; run tests/setup");
    }
    assert!(!run.late && run.codes() == [0], "{}{}", run.story(), String::from_utf8_lossy(&run.stdout));
}

#[test]
fn a_third_of_mariadbs_own_suite_passes() {
    run(&["fast"], Duration::from_secs(600));
}

#[test]
#[ignore = "minutes"]
fn all_of_mariadbs_own_suite_passes_that_can() {
    run(&["every"], Duration::from_secs(3600));
}

#[test]
#[ignore = "long: five minutes"]
fn mariadbs_own_cases_of_state_transfers_pass_that_can() {
    script("tests/peer/galera", &[], Duration::from_secs(1800));
}

#[test]
fn each_case_that_cannot_pass_has_its_reason() {
    let read = |name: &str| std::fs::read_to_string(root_of_package().join("tests/peer").join(name)).unwrap();
    let (cases, readme) = (read("cases"), read("README.md"));
    let verdicts: Vec<&str> = cases.lines().map(|line| line.split('\t').nth(1).unwrap()).collect();
    for verdict in &verdicts {
        let told = ["fast", "passes"].contains(verdict) || readme.contains(&format!("| `{verdict}` |"));
        assert!(told, "{verdict}");
    }
    let passes = verdicts.iter().filter(|verdict| ["fast", "passes"].contains(verdict)).count();
    assert!(readme.contains(&format!("{passes} of {}", verdicts.len())), "README.md counts others than {passes}");
    let transfers = read("galera-cases");
    let passes = transfers.lines().filter(|line| line.ends_with("\tpasses")).count();
    assert!(
        readme.contains(&format!("{passes} of {} pass.", transfers.lines().count())),
        "README.md counts others than {passes}"
    );
    for line in transfers.lines() {
        let (case, verdict) = line.split_once('\t').unwrap();
        assert!(verdict == "passes" || readme.contains(&format!("| `{verdict}` |")), "{case}: {verdict}");
    }
}
