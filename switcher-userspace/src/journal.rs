//! What the agent must not forget: who is live, what was done, what was about to be done.
//!
//! SQLite in the state directory. An intent is committed before the word is stored, its result after the
//! word was read back; on start the kernel's word tells which of the two a crash has left behind.

mod audit;
mod file;
mod gates;
mod hooks;
mod outbox;
mod receipt;
mod record;
mod releases;
mod schema;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use file::File;

pub use audit::{AuditRecord, BadRecord, Entry, EntryKind, Verified, verify};
pub use gates::{DecisionRecord, FreezeRecord, GatesRecord, RolloutRecord};
pub use hooks::{Called, HookRecord, Unfinished};
pub use outbox::{OUTBOX_MAX, Outgoing, Waiting};
pub use receipt::{
    BakeRecord, ColourTraffic, DrillRecord, DrillVerdict, GateRecord, Loss, Receipt, Totals,
    TrafficRecord,
};
pub use record::{CutoverRecord, GroupRecord, Keyed, Once, Stage, Who};

/// The journal's file in the state directory.
pub const FILE: &str = "state.db";

/// The open journal.
pub struct Journal {
    db: File,
    /// Which file was opened.
    file: FileId,
    /// The last one of all names for cut-overs.
    latest: RefCell<String>,
}

/// Device and inode.
type FileId = (u64, u64);

impl Journal {
    /// Opens the journal of a state directory, and makes both if they aren't there.
    ///
    /// # Errors
    /// When the directory or file can't be made, read or written, when the file is damaged, and when a
    /// newer version has written it.
    pub fn open(directory: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("make the state directory {}", directory.display()))?;
        let file = directory.join(FILE);
        let db = File::open(&file)?;
        let latest = "SELECT max(id) FROM cutovers";
        let latest: Option<String> = db.read().query_row(latest, [], |row| row.get(0))?;
        let file = id_of(&file).with_context(|| format!("look at {}", file.display()))?;
        let journal = Self {
            db,
            file,
            latest: RefCell::new(latest.unwrap_or_default()),
        };
        journal.audit_what_has_begun()?;
        Ok(journal)
    }

    /// Writes it again where it was, if somebody has removed it: what is open is still whole. Says whether that was so.
    ///
    /// # Errors
    /// When it can't be written, and when another file is in its place, which is left as it is.
    pub fn restore(&mut self) -> anyhow::Result<bool> {
        let path = self.file();
        match id_of(&path) {
            Ok(there) if there == self.file => return Ok(false),
            Ok(_) => anyhow::bail!(
                "{} is not the file that the agent has open: start the agent anew, or move it away",
                path.display()
            ),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(error).with_context(|| format!("look at {}", path.display()));
            }
        }
        let directory = path.parent().context("it is in a directory")?;
        std::fs::create_dir_all(directory)
            .with_context(|| format!("make the state directory {}", directory.display()))?;
        let copy = directory.join("state.db.restored");
        let _left_by_a_dead_one = std::fs::remove_file(&copy);
        let into = [copy.to_string_lossy()];
        let written = self.db.read().execute("VACUUM INTO ?1", into);
        written.with_context(|| format!("write {} again", path.display()))?;
        for of_the_other in ["-wal", "-shm"] {
            let _none = std::fs::remove_file(format!("{}{of_the_other}", path.display()));
        }
        std::fs::rename(&copy, &path).with_context(|| format!("put {} back", path.display()))?;
        *self = Self::open(directory)?;
        Ok(true)
    }

    /// Where it is.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.db.read().path().unwrap_or_default().into()
    }

    /// The installation's hash seed, drawn when it is first asked for.
    ///
    /// # Errors
    /// When the file can't be read or written.
    pub fn seed(&self) -> anyhow::Result<u64> {
        let drawn = RandomState::new()
            .hash_one(std::process::id())
            .cast_signed();
        let seed = self.db.commit(|db| {
            db.execute("INSERT OR IGNORE INTO meta VALUES ('seed', ?1)", [drawn])?;
            let seed = "SELECT value FROM meta WHERE key = 'seed'";
            db.query_row(seed, [], |row| row.get::<_, i64>(0))
        });
        Ok(seed.context("record the hash seed")?.cast_unsigned())
    }

    /// How many configurations have been taken.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn config_revision(&self) -> anyhow::Result<u64> {
        let sql = "SELECT value FROM meta WHERE key = 'config_revision'";
        let db = self.db.read();
        let revision: Option<i64> = db.query_row(sql, [], |row| row.get(0)).optional()?;
        Ok(revision.unwrap_or(0).cast_unsigned())
    }

    /// Which revision of its source the configuration is, if somebody has said.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn config_source(&self) -> anyhow::Result<Option<String>> {
        let sql = "SELECT value FROM meta WHERE key = 'config_source'";
        let db = self.db.read();
        let source = db.query_row(sql, [], |row| row.get(0)).optional()?;
        Ok(source.flatten())
    }

    /// Counts a configuration, unless it is the one that was counted last: that one keeps its source unless
    /// another is said.
    ///
    /// # Errors
    /// When the file can't be read or written.
    pub fn count_config(&self, digest: &str, source: Option<&str>) -> anyhow::Result<u64> {
        let sql = "SELECT value FROM meta WHERE key = 'config_digest'";
        let db = self.db.read();
        let last: Option<String> = db.query_row(sql, [], |row| row.get(0)).optional()?;
        let revision = self.config_revision()?;
        let again = last.as_deref() == Some(digest);
        if again && source.is_none() {
            return Ok(revision);
        }
        let revision = revision + u64::from(!again);
        let sql = "INSERT OR REPLACE INTO meta VALUES
            ('config_digest', ?1), ('config_revision', ?2), ('config_source', ?3)";
        self.db
            .commit(|db| db.execute(sql, params![digest, revision.cast_signed(), source]))
            .context("record the configuration's digest")?;
        Ok(revision)
    }

    /// What was recorded of a group.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn group(&self, name: &str) -> anyhow::Result<Option<GroupRecord>> {
        GroupRecord::load(self.db.read(), name)
            .with_context(|| format!("read the record of group {name}"))
    }

    /// Records a group, and who has changed it.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn put_group(&self, group: &GroupRecord, entry: Option<&Entry>) -> anyhow::Result<()> {
        self.tell_group(group, entry, &[])
    }

    /// The same, with what others are to hear of it.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn tell_group(
        &self,
        group: &GroupRecord,
        entry: Option<&Entry>,
        events: &[Outgoing],
    ) -> anyhow::Result<()> {
        let written = self.db.commit(|db| {
            group.write(db)?;
            entry.map_or(Ok(()), |it| audit::append(db, it, Timestamp::now()))?;
            outbox::put(db, events)
        });
        written.with_context(|| format!("record group {}", group.name))
    }

    /// A name for a cut-over: sorts by time, and nobody has it.
    #[must_use]
    pub fn fresh_id(&self, now: Timestamp) -> String {
        let time = now.strftime("%Y%m%d-%H%M%S").to_string();
        let random = || RandomState::new().hash_one(());
        let mut latest = self.latest.borrow_mut();
        let number = match number_of(&latest, &time) {
            Some(last) => last + 1 + random() % 8,
            None => random() % 0x8000,
        };
        let id = |number: u64| format!("{time}-{number:04x}");
        let next = id(number);
        if number <= 0xffff && next > *latest {
            latest.clone_from(&next);
            return next;
        }
        // Very many in one second, or the clock was set back.
        loop {
            let id = id(random() % 0x10000);
            if id != *latest && !matches!(self.cutover(&id), Ok(Some(_))) {
                return id;
            }
        }
    }

    /// Commits to the audit what somebody has asked for.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn audit(&self, entry: &Entry) -> anyhow::Result<()> {
        let written = self
            .db
            .commit(|db| audit::append(db, entry, Timestamp::now()));
        written.context("write the audit")
    }

    /// Has intents audited that a dead process has handed over and not audited any more.
    fn audit_what_has_begun(&self) -> anyhow::Result<()> {
        let db = self.db.read();
        let begun = "SELECT * FROM cutovers WHERE ended IS NULL AND stage = ?1";
        let mut begun = db.prepare(begun)?;
        for record in begun.query_map([Stage::Preparing.name()], CutoverRecord::read)? {
            let record = record.context("read the unfinished cut-overs")?;
            if !audit::has(db, &record)? {
                self.db.audit_later(record);
            }
        }
        Ok(())
    }

    /// Commits to the audit what has been left to a later commit.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn audit_what_waits(&self) -> anyhow::Result<()> {
        self.db.audit_what_waits().context("write the audit")
    }

    /// The newest records of the audit, of one group or all, the newest first.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn audited(&self, group: Option<&str>, limit: u32) -> anyhow::Result<Vec<AuditRecord>> {
        self.audit_what_waits()?;
        audit::list(self.db.read(), group, limit)
    }

    /// Commits what is known of a cut-over and, if it has changed, of its group.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn put_cutover(
        &self,
        cutover: &CutoverRecord,
        group: Option<&GroupRecord>,
    ) -> anyhow::Result<()> {
        self.tell_cutover(cutover, group, &[])
    }

    /// The same, with what others are to hear of it.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn tell_cutover(
        &self,
        cutover: &CutoverRecord,
        group: Option<&GroupRecord>,
        events: &[Outgoing],
    ) -> anyhow::Result<()> {
        let written = self.db.commit(|db| {
            cutover.write(db)?;
            group.map_or(Ok(()), |group| group.write(db))?;
            outbox::put(db, events)?;
            audit::append(db, &Entry::of(cutover), Timestamp::now())
        });
        written.with_context(recording(cutover))
    }

    /// Commits the intent, with the key of the change that it is.
    ///
    /// It is for whoever starts after the process has died. With the host, the kernel's words die, so that nothing is
    /// left of what was begun: it is not flushed to the disk, unless somebody is told of it or it is for later. The
    /// audit hears of it with the next commit, or by [`audit_what_waits`](Self::audit_what_waits): a store does not
    /// wait for that.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn begin_cutover(
        &self,
        cutover: &CutoverRecord,
        once: Option<&Once>,
        events: &[Outgoing],
    ) -> anyhow::Result<()> {
        let write = |db: &Connection| {
            cutover.write(db)?;
            if let Some(once) = once {
                let keyed = once.begins(&cutover.id);
                keyed.write(db, &once.key, Timestamp::now())?;
            }
            outbox::put(db, events)
        };
        let promised = !events.is_empty() || cutover.at.is_some();
        let written = match promised {
            true => self.db.commit(write),
            false => self.db.hand_over(write),
        };
        written.with_context(recording(cutover))?;
        self.db.audit_later(cutover.clone());
        Ok(())
    }

    /// Commits that a colour which a cut-over has left has drained; `current` is the cut-over whose window it
    /// was, if that is another one.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn tell_drained(
        &self,
        (cutover, colour): (&CutoverRecord, &str),
        current: Option<&CutoverRecord>,
        events: &[Outgoing],
    ) -> anyhow::Result<()> {
        let entry = Entry::drained(cutover, colour);
        let written = self.db.commit(|db| {
            cutover.write(db)?;
            current.map_or(Ok(()), |current| current.write(db))?;
            audit::append(db, &entry, Timestamp::now())?;
            outbox::put(db, events)
        });
        written.with_context(|| format!("record what cut-over {} has left", cutover.id))
    }

    /// The cut-overs of a group that aren't over, the oldest first.
    ///
    /// # Errors
    /// When the file can't be read or holds what no agent writes.
    pub fn open_cutovers(&self, group: &str) -> anyhow::Result<Vec<CutoverRecord>> {
        let sql = "SELECT * FROM cutovers WHERE grp = ?1 AND ended IS NULL ORDER BY rowid";
        let mut statement = self.db.read().prepare_cached(sql)?;
        let intents = statement
            .query_map([group], CutoverRecord::read)?
            .collect::<Result<_, _>>();
        intents.with_context(|| format!("read the unfinished cut-overs of group {group}"))
    }

    /// One cut-over.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn cutover(&self, id: &str) -> anyhow::Result<Option<CutoverRecord>> {
        self.db
            .read()
            .prepare_cached("SELECT * FROM cutovers WHERE id = ?1")?
            .query_row([id], CutoverRecord::read)
            .optional()
            .with_context(|| format!("read cut-over {id}"))
    }

    /// Cut-overs of one group or all, the newest first: as they were recorded, whatever the clock said.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn history(&self, group: Option<&str>, limit: u32) -> anyhow::Result<Vec<CutoverRecord>> {
        let sql = "SELECT * FROM cutovers WHERE ?1 IS NULL OR grp = ?1
            ORDER BY rowid DESC LIMIT ?2";
        let mut statement = self.db.read().prepare_cached(sql)?;
        let rows = statement.query_map(params![group, limit], CutoverRecord::read)?;
        rows.collect::<Result<_, _>>().context("read the history")
    }

    /// When a group's live colour has changed between two times, the oldest first. What lies behind the second one
    /// was recorded before the clock was set back; nobody knows when.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn switches(
        &self,
        group: &str,
        since: Timestamp,
        now: Timestamp,
    ) -> anyhow::Result<Vec<Timestamp>> {
        let sql = "SELECT coalesce(stored, started) AS at FROM cutovers WHERE grp = ?1
            AND revision IS NOT NULL AND kind IN ('flip', 'rollback', 'emergency')
            AND from_colour <> to_colour ORDER BY rowid DESC LIMIT 1000";
        let mut statement = self.db.read().prepare_cached(sql)?;
        let rows = statement.query_map([group], |row| row.get::<_, String>("at"))?;
        let times = rows.collect::<Result<Vec<_>, _>>();
        let times = times.with_context(|| format!("read when group {group} was switched"))?;
        let times = times.iter().filter_map(|at| at.parse().ok());
        let mut times: Vec<Timestamp> = times.filter(|at| (since..=now).contains(at)).collect();
        times.sort();
        Ok(times)
    }

    /// What is recorded of the change that carried this key.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn keyed(&self, key: &str) -> anyhow::Result<Option<Keyed>> {
        self.db
            .read()
            .query_row("SELECT * FROM answers WHERE key = ?1", [key], Keyed::read)
            .optional()
            .context("look up the idempotency key")
    }

    /// Remembers what became of a change, and forgets those of more than a week ago. An answer that was given stays.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn remember(&self, key: &str, keyed: &Keyed, now: Timestamp) -> anyhow::Result<()> {
        let week_ago = now - jiff::SignedDuration::from_hours(7 * 24);
        let written = self.db.commit(|db| {
            db.execute("DELETE FROM answers WHERE at < ?1", [week_ago.to_string()])?;
            keyed.write(db, key, now)
        });
        written.context("record the answer to an idempotency key")
    }

    /// As on a full disk: no page more.
    #[cfg(test)]
    pub(crate) fn fill(&self) {
        let full = "PRAGMA query_only = ON";
        self.db
            .read()
            .execute_batch(full)
            .unwrap_or_else(|error| panic!("{error}"));
    }
}

/// The number behind the time of a name, if it is of this second.
fn number_of(id: &str, time: &str) -> Option<u64> {
    let number = id.strip_prefix(time)?.strip_prefix('-')?.get(..4)?;
    u64::from_str_radix(number, 16).ok()
}

fn recording(cutover: &CutoverRecord) -> impl FnOnce() -> String {
    move || format!("record cut-over {}", cutover.id)
}

fn id_of(file: &Path) -> std::io::Result<FileId> {
    let about = std::fs::metadata(file)?;
    Ok((about.dev(), about.ino()))
}
