//! The open file: what is committed together, and when that is on the disk.

use std::cell::RefCell;
use std::path::Path;

use anyhow::Context;
use jiff::Timestamp;
use rusqlite::{Connection, Result};

use super::audit::{self, Entry};
use super::record::CutoverRecord;
use super::schema;

/// A connection to the file, and what goes to the audit with the next commit.
pub(super) struct File {
    db: Connection,
    unaudited: RefCell<Vec<(CutoverRecord, Timestamp)>>,
}

impl File {
    /// Opens a file, and makes its tables if they aren't there.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let context = || format!("state file {}", path.display());
        let db = Connection::open(path).with_context(|| format!("open the {}", context()))?;
        schema::prepare(&db).with_context(context)?;
        Ok(Self {
            db,
            unaudited: RefCell::default(),
        })
    }

    /// For reading.
    pub(super) const fn read(&self) -> &Connection {
        &self.db
    }

    /// Commits what is done here, and returns when it is on the disk.
    pub(super) fn commit<T>(&self, what: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        schema::flush(&self.db, true)?;
        let done = self.hand_over(what);
        // What is next on its way to a store has nothing to say of it.
        let _or_it_is_flushed_too = schema::flush(&self.db, false);
        done
    }

    /// Commits what is done here, and returns when the kernel has it: it outlives the process, and the next
    /// [`commit`](Self::commit) takes it to the disk.
    pub(super) fn hand_over<T>(&self, what: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        self.say("BEGIN")?;
        let done = self.audit().and_then(|()| what(&self.db));
        let done = done.and_then(|done| self.say("COMMIT").map(|()| done));
        match &done {
            Ok(_) => self.unaudited.borrow_mut().clear(),
            // Where that fails, too, SQLite has done it already.
            Err(_) => drop(self.say("ROLLBACK")),
        }
        done
    }

    /// What rusqlite's transactions say, too, and have parsed each time.
    fn say(&self, what: &str) -> Result<()> {
        self.db.prepare_cached(what)?.execute([]).map(drop)
    }

    fn audit(&self) -> Result<()> {
        let unaudited = self.unaudited.borrow();
        let each = |(record, at): &(_, _)| audit::append(&self.db, &Entry::of(record), *at);
        unaudited.iter().try_for_each(each)
    }

    /// Has a cut-over audited with the next commit, as it is now and as of now.
    pub(super) fn audit_later(&self, record: CutoverRecord) {
        let now = Timestamp::now();
        self.unaudited.borrow_mut().push((record, now));
    }

    /// Audits what waits for a commit, if anything does.
    pub(super) fn audit_what_waits(&self) -> Result<()> {
        if self.unaudited.borrow().is_empty() {
            return Ok(());
        }
        self.hand_over(|_| Ok(()))
    }
}
