//! The pipelines of the stock programs' manual pages, as they print them, carried out by the front: what they make is
//! restored, and is the source. Where a line of a page is broken (a `|` is missing, `nc` never ends, files would go into the
//! far login directory), it is repaired, and the comment says how. `research/recipes.md` has where each stands.

use std::path::Path;
use std::time::Duration;

use crate::support::pipeline::Run;
use crate::support::sandbox::{Bench, Fault, Sandbox};
use crate::support::{Pipeline, check, executable, vault, wait_until};

/// A recipe that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(60);

/// A pipeline. What it leaves is unpacked in `/srv/dir`, but not prepared.
struct Recipe {
    title: &'static str,
    /// What receives it, if it is begun on the other host.
    far: &'static str,
    here: &'static str,
    unpack: &'static str,
}

const EXTRACT: &str = "cd /srv/dir && xbstream -x < /srv/backup.xbstream";

const RECIPES: &[Recipe] = &[
    Recipe {
        title: "to a file",
        far: "",
        here: "xtrabackup --backup --stream=xbstream --target-dir=./ > /srv/backup.xbstream",
        unpack: EXTRACT,
    },
    Recipe {
        title: "compressed",
        far: "",
        here: "xtrabackup --backup --stream=xbstream --compress ./ > /srv/backup.xbstream",
        unpack: "cd /srv/dir && xbstream -x < /srv/backup.xbstream && xtrabackup --decompress --target-dir=./",
    },
    Recipe {
        // The dashes of the page are no hyphens.
        title: "compressed with a level, in a directory",
        far: "",
        here: "xtrabackup --backup --compress --compress-zstd-level=1 --target-dir=/srv/dir",
        unpack: "xtrabackup --decompress --remove-original --target-dir=/srv/dir",
    },
    Recipe {
        title: "compressed by lz4",
        far: "",
        here: "xtrabackup --backup --compress=lz4 --target-dir=/srv/dir",
        unpack: "xtrabackup --decompress --target-dir=/srv/dir",
    },
    Recipe {
        // The page lacks a bar, and has its redirection before it.
        title: "encrypted",
        far: "",
        here: "xtrabackup --backup --stream=xbstream --target-dir=./ | gzip - | openssl des3 -salt -k \"password\" \
               > /srv/backup.xbstream.gz.des3",
        unpack: "cd /srv/dir && openssl des3 -salt -k \"password\" -d < /srv/backup.xbstream.gz.des3 | gzip -dc | xbstream -x",
    },
    Recipe {
        // The page unpacks into the far login directory.
        title: "to another host",
        far: "",
        here: "xtrabackup --backup --compress --stream=xbstream ./ | ssh otherhost \"xbstream -x -C /srv/dir\"",
        unpack: "xtrabackup --decompress --target-dir=/srv/dir",
    },
    Recipe {
        // Without -N the sender does not end.
        title: "by netcat",
        far: "nc -l 9999 | cat - > /srv/backup.xbstream",
        here: "xtrabackup --backup --stream=xbstream ./ | nc -N 10.0.0.2 9999",
        unpack: EXTRACT,
    },
    Recipe {
        // The page lacks a bar behind pv.
        title: "throttled",
        far: "",
        here: "xtrabackup --backup --stream=xbstream ./ | pv -q -L10m | ssh desthost \"cat - > /srv/backup.xbstream\"",
        unpack: EXTRACT,
    },
    Recipe {
        title: "with a checksum",
        far: "nc -l 9999 | tee >(sha1sum > /srv/destination_checksum) > /srv/backup.xbstream",
        here: "xtrabackup --backup --stream=xbstream ./ | tee >(sha1sum > /srv/source_checksum) | nc -N 10.0.0.2 9999",
        unpack: "until [ -s /srv/source_checksum ] && [ -s /srv/destination_checksum ]; do sleep 0.1; done; \
                 cmp /srv/source_checksum /srv/destination_checksum; cd /srv/dir && xbstream -x < /srv/backup.xbstream",
    },
    Recipe {
        title: "parallel",
        far: "",
        here: "xtrabackup --backup --compress --compress-threads=8 --stream=xbstream --parallel=4 ./ > /srv/backup.xbstream",
        unpack: "cd /srv/dir && xbstream -x < /srv/backup.xbstream && xtrabackup --decompress --target-dir=./",
    },
];

/// The last of all.
const LAST: &str =
    "xtrabackup --prepare --target-dir=/srv/dir; xtrabackup --copy-back --target-dir=/srv/dir --datadir=/srv/data";

fn good(run: &Run) -> Result<(), String> {
    if !run.late && run.codes() == [0] { Ok(()) } else { Err(run.story()) }
}

impl Recipe {
    fn restores(&self, bench: &Bench) -> Result<(), String> {
        let sandbox = Sandbox::new(bench, Fault::None);
        for name in xb::front::NAMES {
            let script = format!("#!/bin/sh\nexec xb-front {name} \"$@\"\n");
            executable(&sandbox.path().join("bin").join(name), &script);
        }
        let run = |script: &str| Pipeline::new().stage(sandbox.bash(script)).limit(LIMIT).run();
        good(&run("mkdir /srv/dir /srv/data"))?;
        let receiver = (!self.far.is_empty()).then(|| {
            let mut receiver = sandbox.bash(self.far);
            let running = Pipeline::new().stage(receiver.env("XB_WHERE", "vault")).limit(LIMIT).start();
            wait_until("the listener", LIMIT, || vault::listens(sandbox.port));
            running
        });
        let sender = run(self.here);
        good(&sender)?;
        if !sender.stderr(0).contains("completed OK!") {
            return Err(sender.story());
        }
        receiver.map_or(Ok(()), |receiver| good(&receiver.wait()))?;
        good(&run(self.unpack))?;
        good(&run(LAST))?;
        let data = sandbox.srv().join("data");
        let copy = bench.server.twin(Path::new(&data)).try_start()?;
        let verdict = check::same(&bench.server, &copy);
        if verdict.problems.is_empty() && verdict.tables > 0 { Ok(()) } else { Err(format!("{:?}", verdict.problems)) }
    }
}

fn all(titles: impl Fn(&str) -> bool) {
    let Some(bench) = Bench::start() else { return };
    let outcomes = RECIPES.iter().filter(|recipe| titles(recipe.title)).map(|recipe| (recipe, recipe.restores(&bench)));
    let failures: Vec<_> =
        outcomes.filter_map(|(recipe, outcome)| Some(format!("{}:\n{}", recipe.title, outcome.err()?))).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

const QUICK: [&str; 4] = ["compressed with a level, in a directory", "to another host", "with a checksum", "parallel"];

#[test]
fn pipelines_of_the_manual_pages_restore_the_server() {
    all(|title| QUICK.contains(&title));
}

#[test]
#[ignore = "half a minute: the others"]
fn all_pipelines_of_the_manual_pages_restore_the_server() {
    all(|title| !QUICK.contains(&title));
}
