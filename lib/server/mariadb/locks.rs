//! The backup stages: locks of one session, which end with it. Source: `facts/mariadb-hot-backup#sql`, `backup.cc`.

use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::server::locks::{Times, lost, millis, not_granted};
use crate::server::{Refusal, Session};

/// A stage, in the order in which they are entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Stops the purge of Aria logs, and starts the DDL log. Blocks nothing.
    Start,
    /// Blocks new writes to tables without transactions.
    Flush,
    /// Blocks DDL.
    BlockDdl,
    /// Blocks commits.
    BlockCommit,
}

impl Stage {
    fn sql(self) -> &'static str {
        match self {
            Stage::Start => "START",
            Stage::Flush => "FLUSH",
            Stage::BlockDdl => "BLOCK_DDL",
            Stage::BlockCommit => "BLOCK_COMMIT",
        }
    }

    fn key(self) -> &'static str {
        match self {
            Stage::Start => "start",
            Stage::Flush => "flush",
            Stage::BlockDdl => "block_ddl",
            Stage::BlockCommit => "block_commit",
        }
    }
}

/// The session with the backup stages. Dropping it closes the connection, which releases all locks.
#[derive(Debug)]
pub struct Stages {
    session: Session,
    entered: Vec<(Stage, Instant)>,
    timeout: Duration,
}

impl Stages {
    /// Prepares the session: it may be idle for as long as a copy takes, and waits at most `timeout` for a lock.
    pub fn new(mut session: Session, timeout: Duration) -> Result<Self> {
        session.run(&format!("SET SESSION lock_wait_timeout={}", timeout.as_secs().max(1)))?;
        session.run("SET SESSION wait_timeout=31536000")?;
        Ok(Stages { session, entered: Vec::new(), timeout })
    }

    /// Enters a stage; waits for sessions that hold what it blocks. Other sessions wait from the moment of the request,
    /// so the time counts from there.
    pub fn enter(&mut self, stage: Stage) -> Result<()> {
        let asked = Instant::now();
        if let Err(refusal) = self.session.run(&format!("BACKUP STAGE {}", stage.sql())) {
            return Err(self.refused(stage, &refusal));
        }
        self.entered.push((stage, asked));
        Ok(())
    }

    /// Leaves all stages. Fails if the locks had been lost before, because the copy is not consistent then.
    pub fn end(&mut self) -> Result<Times> {
        if self.entered.is_empty() {
            return Ok(Times::new());
        }
        self.session.run("BACKUP STAGE END").map_err(|refusal| lost(&refusal))?;
        let entered = self.entered.drain(..);
        Ok(entered.map(|(stage, asked)| (stage.key().to_owned(), millis(asked.elapsed()))).collect())
    }

    /// The session, for queries while the locks are entered.
    pub fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    fn refused(&mut self, stage: Stage, refusal: &Refusal) -> Error {
        match refusal.code {
            Some(Refusal::LOCK_WAIT) => {
                not_granted(&format!("BACKUP STAGE {}", stage.sql()), self.timeout, longest(&mut self.session))
            }
            _ if stage > Stage::Start => lost(refusal),
            _ => Error::failed("server", format_args!("BACKUP STAGE {}: {refusal}", stage.sql())),
        }
    }
}

/// The statement that runs longest, which may be the blocking one; those of other accounts are visible with PROCESS
/// only.
fn longest(session: &mut Session) -> Option<String> {
    let sql = "SELECT id, user, time, LEFT(info, 200) AS info FROM information_schema.processlist \
        WHERE id <> CONNECTION_ID() AND info IS NOT NULL AND command = 'Query' ORDER BY time DESC LIMIT 1";
    let found = session.record(sql).ok().flatten()?;
    let text = |key: &str| found.get(key).map(String::as_str).unwrap_or_default();
    let (id, user, time, info) = (text("id"), text("user"), text("time"), text("info"));
    Some(format!("connection {id} of {user} has been running for {time} s: {}", info.replace('\n', " ")))
}
