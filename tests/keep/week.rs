//! A week of a store in a minute: backups, increments, changes of tables, prunes, restarts of the server, stages that fail
//! and runs that are killed, in a random order. Afterwards every backup that is listed restores to what the server had.

use std::collections::BTreeMap;
use std::fs;
use std::process::Stdio;
use std::time::Duration;

use super::{Store, a_server};
use crate::support::{Flavour, Random, Server, test_on, wait_until};

/// What a server has: its tables, and the rows of each.
type Content = BTreeMap<String, Vec<Vec<String>>>;

fn content(server: &Server) -> Content {
    let tables = server.rows("SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'd' ORDER BY 1");
    let rows = |table: &String| server.rows(&format!("SELECT * FROM d.{table} ORDER BY 1"));
    tables.into_iter().map(|mut row| row.remove(0)).map(|table| (table.clone(), rows(&table))).collect()
}

/// What happens to tables in a day.
fn work(server: &Server, random: &mut Random, day: u64) {
    let id = 10_000 + 100 * day;
    server.sql(&match random.below(7) {
        0 => format!(
            "CREATE TABLE d.n{day} (i INT PRIMARY KEY, v TEXT); INSERT INTO d.n{day} VALUES (1, REPEAT('n', 5000))"
        ),
        1 => format!("ALTER TABLE d.t ADD COLUMN c{day} INT NULL"),
        2 => "DELETE FROM d.t ORDER BY id DESC LIMIT 3".to_owned(),
        3 => format!("INSERT INTO d.other VALUES ({id}), ({})", id + 1),
        4 => "OPTIMIZE TABLE d.t".to_owned(),
        5 => format!(
            "CREATE TABLE d.r{day} (i INT PRIMARY KEY); RENAME TABLE d.r{day} TO d.s{day}; TRUNCATE TABLE d.other"
        ),
        _ => "UPDATE d.t SET v = REPEAT('u', 150)".to_owned(),
    });
    server.sql(&format!("INSERT INTO d.t (id, v) VALUES ({}, UUID())", id + 50));
}

test_on!(after_a_week_every_backup_restores: ; long: mariadb, mysql97);

fn after_a_week_every_backup_restores(flavour: Flavour) {
    week(flavour, 7, 16);
}

test_on!(after_a_year_every_backup_restores: ; long: mariadb, mysql97);

fn after_a_year_every_backup_restores(flavour: Flavour) {
    week(flavour, 365, 365);
}

fn week(flavour: Flavour, seed: u64, steps: u64) {
    let mut server = a_server(flavour);
    let store = Store::of(&server, "");
    let settings = fs::read_to_string(store.path().join("config.toml")).unwrap();
    let option_file = server.option_file();
    let mut random = Random::new(seed);
    let mut had: BTreeMap<String, Content> = BTreeMap::new();
    let (mut killed, mut failed) = (0, 0);
    store.good("full", &[]);
    had.insert(store.ids()[0].clone(), content(&server));
    for step in 0..steps {
        work(&server, &mut random, step);
        let verb = if random.below(4) == 0 { "full" } else { "incr" };
        match random.below(8) {
            0 => server.restart(),
            1 | 2 => {
                let mut child = store.call(verb, &[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
                std::thread::sleep(Duration::from_millis(random.below(900)));
                child.kill().unwrap();
                child.wait().unwrap();
                killed += 1;
                // Its programs end by themselves.
                wait_until("the end of the run", Duration::from_secs(60), || store.run("verify", &[]).codes() == [0]);
            }
            3 => {
                let last = [
                    "\"xb-zip\", \"--chunk-size=never\"",
                    "\"xb-crypt\", \"-k\", \"/nonexistent\"",
                    "\"sh\", \"-c\", \"head -c 99999; exit 1\"",
                ];
                let last = last[usize::try_from(random.below(3)).unwrap()];
                let last = if last.contains("sh") {
                    format!("{{ run = [{last}], undo = [\"cat\"] }}")
                } else {
                    format!("[{last}]")
                };
                let stages = format!(
                    "[backup]\nstages = [[\"xb-snap\", \"--defaults-file={}\"], [\"xb-redo\"], {last}]\n",
                    option_file.display()
                );
                let bad = store.dir.path().join("bad.toml");
                fs::write(&bad, settings.replacen("[backup]\n", &stages, 1)).unwrap();
                let run = store.run(verb, &["--config", bad.to_str().unwrap()]);
                assert!(run.codes() != [0], "{}", run.story());
                failed += 1;
            }
            4 => {
                let before = store.ids();
                store.good("prune", &["--keep-last", "2"]);
                let after = store.ids();
                let fulls = |ids: &[String]| ids.iter().filter(|id| id.contains("-full")).cloned().collect::<Vec<_>>();
                let (old, new) = (fulls(&before), fulls(&after));
                assert_eq!(new, old[old.len().saturating_sub(2)..], "the last two sets are whole");
                assert_eq!(after, before[before.len() - after.len()..], "only the oldest go");
            }
            _ => {
                store.good(verb, &[]);
            }
        }
        let now = content(&server);
        for id in store.ids() {
            // Also that of a run that was killed when all was done.
            had.entry(id).or_insert_with(|| now.clone());
        }
    }
    assert!(killed > 0 && failed > 0, "{killed} {failed}");
    store.good("verify", &["--all"]);
    let ids = store.ids();
    assert!(ids.len() > 3, "{ids:?}");
    for id in &ids {
        let (restored, _room) = store.restore(id);
        assert_eq!(content(&server.twin(&restored).start()), had[id], "{id}");
    }
}
