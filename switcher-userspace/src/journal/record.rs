//! Rows.

use jiff::Timestamp;
use rusqlite::types::Type;
use rusqlite::{Connection, Error, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::gates::GatesRecord;
use super::hooks::HookRecord;
use super::receipt::{BakeRecord, Receipt};
use super::releases;
use crate::release::{Cutover, End, Intent, Kind, Releases, Terms};

/// What is recorded of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupRecord {
    /// Its name.
    pub name: String,
    /// The colour that is live.
    pub live: String,
    /// The one that was live before.
    pub previous: Option<String>,
    /// Counts changes of `live`.
    pub revision: u64,
    /// The word's epoch.
    pub epoch: u32,
    /// Since when it is live.
    pub since: Timestamp,
    /// Who has made it so.
    pub by: String,
    /// What is on its colours.
    pub releases: Releases,
    /// What people have decided.
    pub gates: GatesRecord,
}

/// Who asks for a change, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Who {
    /// A user, process or part of the agent.
    pub actor: String,
    /// What they gave as the reason.
    pub reason: Option<String>,
}

/// How far a cut-over has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[schema(as = CutoverStage)]
pub enum Stage {
    /// Its word isn't stored.
    Preparing,
    /// Its word is stored, its window open.
    Draining,
    /// It is over.
    Ended,
}

impl Stage {
    /// As in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Draining => "draining",
            Self::Ended => "ended",
        }
    }
}

/// A cut-over's record, as the API gives it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CutoverRecord {
    /// Its name.
    pub id: String,
    /// The group.
    pub group: String,
    /// What it is.
    pub kind: Kind,
    /// The colour that was live.
    pub from: String,
    /// The colour that is to be live.
    pub to: String,
    /// The slot of its table.
    pub slot: u8,
    /// How far it has come.
    pub stage: Stage,
    /// How it came out; none while its word isn't stored.
    pub result: Option<End>,
    /// The group's revision after the switch.
    pub revision: Option<u64>,
    /// Who asked for it.
    pub actor: String,
    /// Why.
    pub reason: Option<String>,
    /// Gates were skipped.
    pub forced: bool,
    /// Existing flows were moved too.
    pub hard: bool,
    /// For a canary: its share of new flows, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<u8>,
    /// When it was asked for.
    pub started: Timestamp,
    /// When the word was stored.
    pub stored: Option<Timestamp>,
    /// When that was known to hold on every CPU.
    pub settled: Option<Timestamp>,
    /// When its window closed, or it was stopped.
    pub ended: Option<Timestamp>,
    /// From just before the store until no CPU could act on the old word, in microseconds.
    pub store_to_settled_us: Option<u64>,
    /// Flows that were still elsewhere at the deadline.
    pub leftovers: u64,
    /// The instant that the switch was set for.
    #[serde(default)]
    pub at: Option<Timestamp>,
    /// When it undoes itself unless it is confirmed.
    #[serde(default)]
    pub confirm_by: Option<Timestamp>,
    /// When it was confirmed.
    #[serde(default)]
    pub confirmed: Option<Timestamp>,
    /// What else there is to know of it.
    #[serde(default)]
    pub receipt: Receipt,
    /// Hooks that were called for it, in order; only where one cut-over is asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<HookRecord>,
    /// Whether hooks that decide whether it stays are running.
    #[serde(skip)]
    pub undecided: bool,
}

/// A change that is to be carried out once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Once {
    /// Its idempotency key.
    pub key: String,
    /// What it is: another one with the same key is refused.
    pub request: String,
}

/// What is known of an idempotency key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keyed {
    /// What was asked.
    pub request: String,
    /// The cut-over that it has begun.
    pub cutover: Option<String>,
    /// HTTP status and JSON, once it was answered.
    pub answer: Option<(u16, String)>,
}

impl GroupRecord {
    pub(super) fn write(&self, db: &Connection) -> rusqlite::Result<()> {
        let Self {
            name,
            live,
            previous,
            revision,
            epoch,
            since,
            by,
            releases,
            gates,
        } = self;
        let sql = "INSERT OR REPLACE INTO groups VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
        let gates = serde_json::to_string(gates)
            .map_err(|error| Error::ToSqlConversionFailure(error.into()))?;
        let since = since.to_string();
        db.prepare_cached(sql)?.execute(params![
            name,
            live,
            previous,
            number(*revision),
            epoch,
            since,
            by,
            releases.applied.map(number),
            gates,
        ])?;
        releases::write(db, name, &releases.colours)
    }

    /// It without who and when, which say nothing of the group.
    #[must_use]
    pub fn facts(&self) -> Self {
        Self {
            since: Timestamp::default(),
            by: String::new(),
            gates: self.gates.without_times(),
            ..self.clone()
        }
    }

    /// What was recorded of a group.
    pub(super) fn load(db: &Connection, name: &str) -> rusqlite::Result<Option<Self>> {
        let mut statement = db.prepare_cached("SELECT * FROM groups WHERE name = ?1")?;
        let Some(mut record) = statement.query_row([name], Self::read).optional()? else {
            return Ok(None);
        };
        record.releases.colours = releases::read(db, name)?;
        Ok(Some(record))
    }

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let applied: Option<i64> = row.get("schema")?;
        let gates: Option<String> = row.get("gates")?;
        let gates = gates.map(|it| serde_json::from_str(&it)).transpose();
        Ok(Self {
            name: row.get("name")?,
            live: row.get("live")?,
            previous: row.get("previous")?,
            revision: row.get::<_, i64>("revision")?.cast_unsigned(),
            epoch: row.get("epoch")?,
            since: timestamp(row, "since")?.unwrap_or_default(),
            by: row.get("by")?,
            releases: Releases {
                applied: applied.map(i64::cast_unsigned),
                ..Releases::default()
            },
            gates: gates
                .map_err(|error| unreadable("gates", &error))?
                .unwrap_or_default(),
        })
    }
}

impl CutoverRecord {
    /// What is known when it is asked for.
    #[must_use]
    pub fn new(group: &str, cutover: &Cutover, who: Who, now: Timestamp) -> Self {
        let Cutover {
            id,
            kind,
            from,
            to,
            slot,
            forced,
            hard,
            terms,
            percent,
        } = cutover.clone();
        let Who { actor, reason } = who;
        Self {
            id,
            group: group.to_owned(),
            kind,
            from,
            to,
            slot,
            stage: Stage::Preparing,
            result: None,
            revision: None,
            actor,
            reason,
            forced,
            hard,
            percent,
            started: now,
            stored: None,
            settled: None,
            ended: None,
            store_to_settled_us: None,
            leftovers: 0,
            at: None,
            confirm_by: None,
            confirmed: None,
            receipt: Receipt {
                policy: terms.policy,
                ..Receipt::default()
            },
            hooks: Vec::new(),
            undecided: false,
        }
    }

    /// When it undoes itself, as long as nobody has confirmed it.
    #[must_use]
    pub fn to_confirm(&self) -> Option<Timestamp> {
        self.confirm_by.filter(|_| self.confirmed.is_none())
    }

    /// Until when its colour is watched, as long as it is.
    #[must_use]
    pub fn watched_until(&self) -> Option<Timestamp> {
        let bake = self.receipt.bake.as_ref();
        bake.filter(|it| !it.verdict.is_final())?.until
    }

    /// What a restarted agent has to finish or undo.
    #[must_use]
    pub fn intent(&self) -> Intent {
        let Self {
            id,
            kind,
            from,
            to,
            slot,
            forced,
            hard,
            percent,
            receipt,
            ..
        } = self.clone();
        let bake = receipt.bake.filter(|bake| !bake.verdict.is_final());
        let cutover = Cutover {
            id,
            kind,
            from,
            to,
            slot,
            forced,
            hard,
            terms: Terms {
                bake: bake.as_ref().map(BakeRecord::limits),
                policy: receipt.policy,
                drill: receipt.drill.is_some(),
                ..Terms::default()
            },
            percent,
        };
        Intent {
            // Its times are of another clock.
            bake: None,
            cutover,
            switched: self.result.is_some(),
            unconfirmed: self.to_confirm().is_some(),
            undecided: self.undecided,
            left: receipt.left,
        }
    }

    pub(super) fn write(&self, db: &Connection) -> rusqlite::Result<()> {
        let Self {
            id,
            group,
            kind,
            from,
            to,
            slot,
            stage,
            result,
            revision,
            actor,
            reason,
            forced,
            hard,
            percent,
            started,
            stored,
            settled,
            ended,
            store_to_settled_us,
            leftovers,
            at,
            confirm_by,
            confirmed,
            receipt,
            hooks: _,
            undecided,
        } = self;
        let receipt = receipt.text()?;
        let time = |time: &Option<Timestamp>| time.map(|time| time.to_string());
        let sql = "INSERT INTO cutovers VALUES
            (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19,
             ?20, ?21, ?22, ?23, ?24, ?25)
            ON CONFLICT (id) DO UPDATE SET stage = ?11, result = ?12, revision = ?13, stored = ?15,
            settled = ?16, ended = ?17, store_to_settled_us = ?18, leftovers = ?19, confirm_by = ?21,
            confirmed = ?22, receipt = ?24, hooks = ?25";
        db.prepare_cached(sql)?
            .execute(params![
                id,
                group,
                kind.name(),
                from,
                to,
                slot,
                forced,
                hard,
                actor,
                reason,
                stage.name(),
                result.map(End::name),
                revision.map(number),
                started.to_string(),
                time(stored),
                time(settled),
                time(ended),
                store_to_settled_us.map(number),
                number(*leftovers),
                time(at),
                time(confirm_by),
                time(confirmed),
                percent,
                receipt,
                undecided.then_some("waiting"),
            ])
            .map(drop)
    }

    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let stage: String = row.get("stage")?;
        let result: Option<String> = row.get("result")?;
        let receipt: Option<String> = row.get("receipt")?;
        let receipt = receipt.map(|it| serde_json::from_str(&it)).transpose();
        let count = |column: &str| {
            let value: Option<i64> = row.get(column)?;
            Ok::<_, Error>(value.map(i64::cast_unsigned))
        };
        Ok(Self {
            id: row.get("id")?,
            group: row.get("grp")?,
            kind: kind(row)?,
            from: row.get("from_colour")?,
            to: row.get("to_colour")?,
            slot: row.get("slot")?,
            stage: word("stage", &stage)?,
            result: result.map(|result| word("result", &result)).transpose()?,
            revision: count("revision")?,
            actor: row.get("actor")?,
            reason: row.get("reason")?,
            forced: row.get("forced")?,
            hard: row.get("hard")?,
            percent: row.get("percent")?,
            started: timestamp(row, "started")?.unwrap_or_default(),
            stored: timestamp(row, "stored")?,
            settled: timestamp(row, "settled")?,
            ended: timestamp(row, "ended")?,
            store_to_settled_us: count("store_to_settled_us")?,
            leftovers: count("leftovers")?.unwrap_or(0),
            at: timestamp(row, "at")?,
            confirm_by: timestamp(row, "confirm_by")?,
            confirmed: timestamp(row, "confirmed")?,
            receipt: receipt
                .map_err(|error| unreadable("receipt", &error))?
                .unwrap_or_default(),
            hooks: Vec::new(),
            undecided: row.get::<_, Option<String>>("hooks")?.is_some(),
        })
    }
}

impl Once {
    /// What is known once a cut-over has begun.
    pub(super) fn begins(&self, cutover: &str) -> Keyed {
        Keyed {
            request: self.request.clone(),
            cutover: Some(cutover.to_owned()),
            answer: None,
        }
    }
}

impl Keyed {
    /// An answer takes the place of what had begun, and of nothing else.
    pub(super) fn write(&self, db: &Connection, key: &str, now: Timestamp) -> rusqlite::Result<()> {
        let sql = "INSERT INTO answers (key, request, cutover, status, body, at)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (key) DO UPDATE SET
            cutover = coalesce(excluded.cutover, cutover), status = excluded.status,
            body = excluded.body WHERE status = 0";
        let Self {
            request,
            cutover,
            answer,
        } = self;
        let (status, body) = answer
            .as_ref()
            .map_or((0, ""), |(status, body)| (*status, body));
        let values = params![key, request, cutover, status, body, now.to_string()];
        db.prepare_cached(sql)?.execute(values).map(drop)
    }

    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let status: u16 = row.get("status")?;
        let body = row.get("body")?;
        Ok(Self {
            request: row.get("request")?,
            cutover: row.get("cutover")?,
            answer: (status != 0).then_some((status, body)),
        })
    }
}

fn kind(row: &Row<'_>) -> rusqlite::Result<Kind> {
    let kind: String = row.get("kind")?;
    word("kind", &kind)
}

pub(super) fn timestamp(row: &Row<'_>, column: &str) -> rusqlite::Result<Option<Timestamp>> {
    let text: Option<String> = row.get(column)?;
    let parsed = text.map(|text| text.parse::<Timestamp>());
    parsed
        .transpose()
        .map_err(|error| unreadable(column, &error))
}

/// SQLite's integers are signed; bits are kept.
pub(super) const fn number(value: u64) -> i64 {
    value.cast_signed()
}

fn word<T: serde::de::DeserializeOwned>(column: &str, text: &str) -> rusqlite::Result<T> {
    let value = serde_json::Value::from(text);
    serde_json::from_value(value).map_err(|error| unreadable(column, &error))
}

fn unreadable(column: &str, error: &dyn std::error::Error) -> Error {
    let error: Box<dyn std::error::Error + Send + Sync> = format!("{column}: {error}").into();
    Error::FromSqlConversionFailure(0, Type::Text, error)
}
