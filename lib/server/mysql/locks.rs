//! The locks of a MySQL backup: on DDL during the whole backup, on tables without transactions, by name, for a short
//! time. They end with the session. Source: `facts/mysql-hot-backup#statements`, `facts/mysql-hot-backup#blocking` and
//! `facts/mysql-hot-backup#read-lock`.

use std::time::{Duration, Instant};

use super::files::Named;
use crate::error::{Error, Result};
use crate::server::locks::{self, Times};
use crate::server::{Refusal, Session};

/// How long to wait for the table locks at a time: new writes queue behind a waiting lock.
const TRY: Duration = Duration::from_secs(3);
/// How long writes may continue between two attempts.
const PAUSE: Duration = Duration::from_secs(1);

/// The session with the locks. Dropping it closes the connection, which releases all locks.
#[derive(Debug)]
pub struct InstanceLock {
    session: Session,
    timeout: Duration,
    instance: Option<Instant>,
    /// How long the lock was time before it was released for a while.
    earlier: Duration,
    tables: Option<Instant>,
}

impl InstanceLock {
    /// Prepares the session: it may be idle for as long as a copy takes, and its answers do not depend on the server's
    /// defaults. It waits at most `timeout` for a lock.
    pub fn new(mut session: Session, timeout: Duration) -> Result<Self> {
        session.run("SET SESSION wait_timeout=31536000, sql_mode='', autocommit=1, max_execution_time=0")?;
        Ok(InstanceLock { session, timeout, instance: None, earlier: Duration::ZERO, tables: None })
    }

    /// Blocks DDL; waits until running statements have ended.
    pub fn instance(&mut self) -> Result<()> {
        let asked = Instant::now();
        self.wait_at_most(self.timeout)?;
        if let Err(refusal) = self.session.run("LOCK INSTANCE FOR BACKUP") {
            return Err(self.not_granted("LOCK INSTANCE FOR BACKUP", &refusal));
        }
        self.instance = Some(asked);
        Ok(())
    }

    /// Releases the lock on DDL for a while.
    pub fn pause(&mut self) -> Result<()> {
        self.session.run("UNLOCK INSTANCE").map_err(|refusal| locks::lost(&refusal))?;
        self.earlier += self.instance.take().map_or(Duration::ZERO, |asked| asked.elapsed());
        Ok(())
    }

    /// Blocks writes to these tables.
    pub fn tables(&mut self, tables: &[Named]) -> Result<()> {
        if tables.is_empty() {
            return Ok(());
        }
        let names: Vec<String> = tables.iter().map(Named::to_string).collect();
        let sql = format!("FLUSH NO_WRITE_TO_BINLOG TABLES {} WITH READ LOCK", names.join(", "));
        let begun = Instant::now();
        loop {
            let asked = Instant::now();
            let left = self.timeout.saturating_sub(begun.elapsed());
            self.wait_at_most(left.min(TRY))?;
            match self.session.run(&sql) {
                Ok(()) => {
                    self.tables = Some(asked);
                    return Ok(());
                }
                Err(refusal) if refusal.code == Some(Refusal::LOCK_WAIT) && left > TRY => std::thread::sleep(PAUSE),
                Err(refusal) => {
                    let first = names.first().map(String::as_str).unwrap_or_default();
                    let what = format!("FLUSH TABLES {first}, ... WITH READ LOCK");
                    return Err(self.not_granted(&what, &refusal));
                }
            }
        }
    }

    /// Releases all locks and returns how long each was time, in milliseconds, from the moment of the request. Fails if
    /// the locks had been lost before, because the copy is not consistent then.
    pub fn end(&mut self) -> Result<Times> {
        let id = self.session.id();
        self.session.run("UNLOCK TABLES").map_err(|refusal| locks::lost(&refusal))?;
        let tables = self.tables.take().map(|asked| ("flush".to_owned(), locks::millis(asked.elapsed())));
        self.session.run("UNLOCK INSTANCE").map_err(|refusal| locks::lost(&refusal))?;
        let time = |asked: Instant| locks::millis(self.earlier + asked.elapsed());
        let instance = self.instance.take().map(|asked| ("block_ddl".to_owned(), time(asked)));
        let now = self.session.value("SELECT CONNECTION_ID()").map_err(|refusal| locks::lost(&refusal))?;
        if now != Some(id.to_string()) {
            return Err(locks::lost("the connection is another one"));
        }
        Ok(tables.into_iter().chain(instance).collect())
    }

    /// Runs a statement. If the connection is lost, the locks are lost, too.
    pub fn run(&mut self, sql: &str) -> Result<()> {
        self.session.run(sql).map_err(|refusal| match refusal.is_lost() {
            true => locks::lost(&refusal),
            false => Error::failed("server", format_args!("{sql}: {refusal}")),
        })
    }

    /// Runs a query. If the connection is lost, the locks are lost, too.
    pub fn ask<T>(&mut self, question: impl FnOnce(&mut Session) -> Result<T>) -> Result<T> {
        question(&mut self.session).map_err(|error| match self.session.value("SELECT 1") {
            Err(refusal) if refusal.is_lost() => locks::lost(error),
            _ => error,
        })
    }

    /// The session, for statements that need no locks.
    pub fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    fn wait_at_most(&mut self, time: Duration) -> Result<()> {
        self.run(&format!("SET SESSION lock_wait_timeout={}", time.as_secs().max(1)))
    }

    fn not_granted(&mut self, sql: &str, refusal: &Refusal) -> Error {
        match refusal.code {
            Some(Refusal::LOCK_WAIT) => {
                let object = if sql.starts_with("LOCK INSTANCE") { "BACKUP LOCK" } else { "TABLE" };
                locks::not_granted(sql, self.timeout, holder(&mut self.session, object))
            }
            _ if self.instance.is_some() && refusal.is_lost() => locks::lost(refusal),
            _ => Error::failed("server", format_args!("{sql}: {refusal}")),
        }
    }
}

/// The connection that holds the lock by which DDL and backups exclude each other, or one that blocks the read lock of
/// a table; `None` without the privilege to ask.
fn holder(session: &mut Session, object: &str) -> Option<String> {
    let sql = format!(
        "SELECT PROCESSLIST_ID AS id, PROCESSLIST_USER AS user, PROCESSLIST_TIME AS time, \
        LEFT(PROCESSLIST_INFO, 200) AS info FROM performance_schema.metadata_locks \
        JOIN performance_schema.threads ON THREAD_ID=OWNER_THREAD_ID WHERE LOCK_STATUS='GRANTED' \
        AND OBJECT_TYPE='{object}' AND LOCK_TYPE NOT IN ('SHARED', 'SHARED_HIGH_PRIO', 'SHARED_READ') \
        AND PROCESSLIST_ID<>CONNECTION_ID() ORDER BY PROCESSLIST_TIME DESC LIMIT 1"
    );
    let found = session.record(&sql).ok().flatten()?;
    let text = |key: &str| found.get(key).map(String::as_str).unwrap_or_default();
    let (id, user, time) = (text("id"), text("user"), text("time"));
    Some(match text("info") {
        "" => format!("connection {id} of {user} holds it, and has been idle for {time} s"),
        info => format!(
            "connection {id} of {user} holds it, and has been running for {time} s: {}",
            info.replace('\n', " ")
        ),
    })
}
