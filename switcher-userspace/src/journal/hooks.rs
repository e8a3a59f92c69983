//! What was called, and what it came to.

use anyhow::Context as _;
use jiff::Timestamp;
use rusqlite::{Connection, Row, params};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Journal;
use super::outbox::{self, Outgoing};
use super::record::timestamp;
use crate::hooks::{Occasion, Outcome};

/// How many calls are remembered.
const KEPT: i64 = 10_000;

/// A call of a hook, as the API gives it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HookRecord {
    /// The hook's name.
    pub name: String,
    /// The moment: `pre-flip`.
    pub moment: String,
    /// When it was called first.
    pub started: Timestamp,
    /// When it had ended.
    pub ended: Option<Timestamp>,
    /// How; none while it runs.
    pub outcome: Option<Called>,
    /// In a few words.
    pub why: Option<String>,
    /// What the program or receiver said; bounded.
    pub said: Option<String>,
    /// How often it was called.
    pub attempts: u32,
    /// Whether a failure stops what it was called for.
    pub abort: bool,
}

/// How a call came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Called {
    /// As it should.
    Passed,
    /// Not as it should.
    Failed,
    /// It was ended, because nobody waits for it any more, or not called at all.
    Stopped,
    /// The agent ended meanwhile.
    Interrupted,
}

/// A call that an agent has not seen the end of.
pub struct Unfinished {
    /// Its number.
    pub number: i64,
    /// The hook's name.
    pub name: String,
    /// The moment.
    pub moment: String,
    /// What it was told.
    pub occasion: Occasion,
}

impl Called {
    /// As in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
            Self::Interrupted => "interrupted",
        }
    }
}

impl Journal {
    /// Commits that hooks are about to be called: name, and whether a failure counts. Returns their numbers.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn calling(
        &self,
        moment: &str,
        occasion: &Occasion,
        hooks: &[(&str, bool)],
    ) -> anyhow::Result<Vec<i64>> {
        let context = || format!("record that {moment} hooks are called");
        let told = serde_json::to_string(occasion)?;
        let sql =
            "INSERT INTO hooks (grp, cutover, moment, name, abort, occasion, started, attempts)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0)";
        let forgotten = "DELETE FROM hooks WHERE ended IS NOT NULL
            AND id <= (SELECT max(id) FROM hooks) - ?1";
        let numbers = self.db.commit(|db| {
            let (group, cutover) = (&occasion.group, &occasion.cutover);
            let started = Timestamp::now().to_string();
            let mut statement = db.prepare_cached(sql)?;
            let mut insert = |(name, abort): &(&str, bool)| {
                statement.insert(params![group, cutover, moment, name, abort, told, started])
            };
            let numbers = hooks.iter().map(&mut insert).collect::<Result<_, _>>()?;
            db.prepare_cached(forgotten)?.execute([KEPT])?;
            Ok(numbers)
        });
        numbers.with_context(context)
    }

    /// Commits what a call came to, with what others are to hear of it.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn called(
        &self,
        number: i64,
        called: Called,
        outcome: &Outcome,
        events: &[Outgoing],
    ) -> anyhow::Result<()> {
        let sql = "UPDATE hooks SET ended = ?2, outcome = ?3, why = ?4, said = ?5, attempts = ?6
            WHERE id = ?1 AND ended IS NULL";
        let Outcome {
            why,
            said,
            attempts,
            passed: _,
        } = outcome;
        let ended = Timestamp::now().to_string();
        let values = params![number, ended, called.name(), why, said, attempts];
        let written = self.db.commit(|db| {
            db.prepare_cached(sql)?.execute(values)?;
            outbox::put(db, events)
        });
        written.context("record what a hook came to")
    }

    /// The calls that an agent before this one has not seen the end of, of one group.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn unfinished_calls(&self, group: &str) -> anyhow::Result<Vec<Unfinished>> {
        let sql = "SELECT * FROM hooks WHERE grp = ?1 AND ended IS NULL ORDER BY id";
        let mut statement = self.db.read().prepare_cached(sql)?;
        let rows = statement.query_map([group], |row| {
            let told: String = row.get("occasion")?;
            Ok(Unfinished {
                number: row.get("id")?,
                name: row.get("name")?,
                moment: row.get("moment")?,
                occasion: serde_json::from_str(&told).unwrap_or_default(),
            })
        })?;
        rows.collect::<Result<_, _>>()
            .with_context(|| format!("read the unfinished hooks of group {group}"))
    }

    /// The hooks that were called for a cut-over, in order.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn hooks(&self, cutover: &str) -> anyhow::Result<Vec<HookRecord>> {
        read(self.db.read(), cutover)
            .with_context(|| format!("read the hooks of cut-over {cutover}"))
    }
}

fn read(db: &Connection, cutover: &str) -> rusqlite::Result<Vec<HookRecord>> {
    let mut statement = db.prepare_cached("SELECT * FROM hooks WHERE cutover = ?1 ORDER BY id")?;
    let rows = statement.query_map([cutover], record)?;
    rows.collect()
}

fn record(row: &Row<'_>) -> rusqlite::Result<HookRecord> {
    let outcome: Option<String> = row.get("outcome")?;
    let all = [
        Called::Passed,
        Called::Failed,
        Called::Stopped,
        Called::Interrupted,
    ];
    Ok(HookRecord {
        name: row.get("name")?,
        moment: row.get("moment")?,
        started: timestamp(row, "started")?.unwrap_or_default(),
        ended: timestamp(row, "ended")?,
        outcome: all
            .into_iter()
            .find(|it| outcome.as_deref() == Some(it.name())),
        why: row.get("why")?,
        said: row.get("said")?,
        attempts: row.get("attempts")?,
        abort: row.get("abort")?,
    })
}
