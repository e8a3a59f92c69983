//! Events that receivers have not taken yet.

use anyhow::Context as _;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::Journal;
use crate::hooks::Occasion;

/// How many events wait for one receiver; beyond that the oldest are given up.
pub const OUTBOX_MAX: u32 = 1000;

/// An event for a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The hook, of the occasion's group.
    pub hook: String,
    /// What has happened.
    pub occasion: Occasion,
}

/// An event that waits, the oldest of its hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Its number.
    pub number: i64,
    /// What has happened.
    pub occasion: Occasion,
}

/// Adds events to a transaction: they are sent if, and only if, what they tell of was recorded.
pub(super) fn put(db: &Connection, events: &[Outgoing]) -> rusqlite::Result<()> {
    for Outgoing { hook, occasion } in events {
        let group = &occasion.group;
        let told = serde_json::to_string(occasion)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
        let sql =
            "INSERT OR IGNORE INTO outbox (grp, hook, event, occasion) VALUES (?1, ?2, ?3, ?4)";
        db.prepare_cached(sql)?
            .execute(params![group, hook, occasion.id, told])?;
        let sql = "DELETE FROM outbox WHERE grp = ?1 AND hook = ?2 AND id <= (SELECT id FROM outbox
            WHERE grp = ?1 AND hook = ?2 ORDER BY id DESC LIMIT 1 OFFSET ?3)";
        let given_up = db
            .prepare_cached(sql)?
            .execute(params![group, hook, OUTBOX_MAX])?;
        if given_up > 0 {
            tracing::warn!(
                group,
                hook,
                given_up,
                "too many events wait: the oldest are given up"
            );
        }
    }
    Ok(())
}

impl Journal {
    /// The oldest event that waits for a hook.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn next_out(&self, group: &str, hook: &str) -> anyhow::Result<Option<Waiting>> {
        let sql =
            "SELECT id, occasion FROM outbox WHERE grp = ?1 AND hook = ?2 ORDER BY id LIMIT 1";
        let mut statement = self.db.read().prepare_cached(sql)?;
        let row = statement.query_row([group, hook], |row| {
            let told: String = row.get("occasion")?;
            Ok(Waiting {
                number: row.get("id")?,
                occasion: serde_json::from_str(&told).unwrap_or_default(),
            })
        });
        row.optional().context("read the outbox")
    }

    /// An event has arrived, or is given up.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn sent(&self, number: i64) -> anyhow::Result<()> {
        let delete = "DELETE FROM outbox WHERE id = ?1";
        self.db
            .commit(|db| db.prepare_cached(delete)?.execute([number]).map(drop))
            .context("write the outbox")
    }

    /// Forgets events for hooks that are not there any more; `known` are group and name.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn keep_outboxes(&self, known: &[(&str, &str)]) -> anyhow::Result<()> {
        let mut statement = self
            .db
            .read()
            .prepare_cached("SELECT DISTINCT grp, hook FROM outbox")?;
        let rows = statement.query_map([], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
        })?;
        let found: Vec<_> = rows.collect::<Result<_, _>>().context("read the outbox")?;
        for (group, hook) in found {
            if !known.contains(&(group.as_str(), hook.as_str())) {
                let sql = "DELETE FROM outbox WHERE grp = ?1 AND hook = ?2";
                self.db.commit(|db| db.execute(sql, [&group, &hook]))?;
            }
        }
        Ok(())
    }

    /// How many events wait for a hook, and since when the oldest does.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn waiting_out(&self, group: &str, hook: &str) -> anyhow::Result<(u64, Option<Timestamp>)> {
        let sql = "SELECT count(*) FROM outbox WHERE grp = ?1 AND hook = ?2";
        let mut statement = self.db.read().prepare_cached(sql)?;
        let count: i64 = statement.query_row([group, hook], |row| row.get(0))?;
        let oldest = self.next_out(group, hook)?;
        Ok((count.cast_unsigned(), oldest.map(|it| it.occasion.time)))
    }
}
