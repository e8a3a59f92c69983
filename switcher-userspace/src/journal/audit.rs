//! Who did what: records of which each carries the hash of all before it.
//!
//! `hash = SHA-256(hash before, id, time, entry)`, over the text that is kept. Whoever changes, removes or adds a
//! record has to write every later hash anew, and the last one may be known elsewhere: the agent logs it when
//! it starts, and `audit verify` says it.

use std::path::Path;

use anyhow::Context;
use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use super::record::{CutoverRecord, Who};
use crate::release::End;

/// The hash before the first record.
const NOTHING: &str = "";

/// What is recorded of one thing that was asked for, or has happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Entry {
    /// What kind of record this is.
    pub kind: EntryKind,
    /// The group, if it concerns one.
    pub group: Option<String>,
    /// Who: the peer of the socket with uid, gid, pid and process, or a part of the system.
    pub actor: String,
    /// Why.
    pub reason: Option<String>,
    /// What, in words.
    pub what: String,
    /// The cut-over, if it is one.
    pub cutover: Option<String>,
    /// What an order came to: an exit code of the command line.
    pub exit: Option<u8>,
    /// Why it failed.
    pub why: Option<String>,
    /// Of an order what was asked, and the group before and after; of a cut-over its record.
    pub detail: Value,
}

/// What kind of record this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EntryKind {
    /// Somebody has asked for something, and was answered.
    Asked,
    /// A cut-over has come a step further.
    CutOver,
}

/// A record of the audit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditRecord {
    /// Counts records, from 1.
    pub id: u64,
    /// When.
    pub at: Timestamp,
    /// The hash of this record and all before it, in lower-case hexadecimal.
    pub hash: String,
    /// What.
    #[serde(flatten)]
    pub entry: Entry,
}

/// What came of checking the audit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Verified {
    /// Records that follow from those before.
    pub records: u64,
    /// The hash of the last one of them.
    pub head: String,
    /// The first one that does not.
    pub bad: Option<BadRecord>,
}

/// The first record that does not follow from those before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BadRecord {
    /// Which.
    pub id: u64,
    /// What is the matter, in words.
    pub why: String,
}

/// A record as it is kept.
struct Kept {
    id: i64,
    at: String,
    entry: String,
    hash: String,
}

impl Entry {
    /// What an order came to. `detail` is what was asked, and what it has changed.
    #[must_use]
    pub fn asked(group: Option<&str>, who: &Who, what: String, detail: Value) -> Self {
        Self {
            kind: EntryKind::Asked,
            group: group.map(ToOwned::to_owned),
            actor: who.actor.clone(),
            reason: who.reason.clone(),
            what,
            cutover: None,
            exit: Some(0),
            why: None,
            detail,
        }
    }

    /// A cut-over as it is now.
    pub(super) fn of(record: &CutoverRecord) -> Self {
        let CutoverRecord {
            id,
            group,
            kind,
            from,
            to,
            stage,
            result,
            actor,
            reason,
            ..
        } = record;
        let how = match (result, record.to_confirm(), record.confirmed) {
            (Some(End::Switched), Some(_), _) => "to be confirmed",
            (Some(End::Switched), _, Some(_)) => "confirmed",
            (Some(result), ..) => result.name(),
            (None, ..) => stage.name(),
        };
        Self {
            kind: EntryKind::CutOver,
            group: Some(group.clone()),
            actor: actor.clone(),
            reason: reason.clone(),
            what: format!("{} {from} -> {to}: {how}", kind.name()),
            cutover: Some(id.clone()),
            exit: None,
            why: None,
            detail: serde_json::to_value(record).unwrap_or_default(),
        }
    }

    /// A colour that a cut-over has left has drained.
    pub(super) fn drained(record: &CutoverRecord, colour: &str) -> Self {
        let (kind, from, to) = (record.kind.name(), &record.from, &record.to);
        Self {
            what: format!("{kind} {from} -> {to}: {colour} has drained"),
            ..Self::of(record)
        }
    }
}

/// Adds a record; the caller has begun a transaction.
pub(super) fn append(db: &Connection, entry: &Entry, now: Timestamp) -> rusqlite::Result<()> {
    let last = "SELECT id, hash FROM audit ORDER BY id DESC LIMIT 1";
    let last = db.prepare_cached(last)?.query_row([], |row| {
        Ok((row.get::<_, i64>("id")?, row.get::<_, String>("hash")?))
    });
    let (id, before) = last.optional()?.unwrap_or((0, NOTHING.to_owned()));
    let text = serde_json::to_string(entry)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    let (id, at) = (id + 1, now.to_string());
    let hash = hash(&before, id, &at, &text);
    db.prepare_cached("INSERT INTO audit VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![id, at, entry.group, text, hash])?;
    let head = format!("{id} {hash}");
    let sql = "INSERT INTO meta VALUES ('audit_head', ?1)
        ON CONFLICT (key) DO UPDATE SET value = excluded.value";
    db.prepare_cached(sql)?.execute([head]).map(drop)
}

/// Whether there is any record of a cut-over.
pub(super) fn has(db: &Connection, cutover: &CutoverRecord) -> rusqlite::Result<bool> {
    let CutoverRecord { id, group, .. } = cutover;
    // There may be very many, and they are not parsed.
    let named = format!("\"cutover\":\"{id}\"");
    let sql = "SELECT EXISTS (SELECT 1 FROM audit WHERE grp = ?1 AND instr(entry, ?2))";
    db.query_row(sql, [group, &named], |row| row.get(0))
}

/// The newest records of one group or all, the newest first.
pub(super) fn list(
    db: &Connection,
    group: Option<&str>,
    limit: u32,
) -> anyhow::Result<Vec<AuditRecord>> {
    let sql = "SELECT * FROM audit WHERE ?1 IS NULL OR grp = ?1 ORDER BY id DESC LIMIT ?2";
    let mut statement = db.prepare_cached(sql)?;
    let rows = statement.query_map(params![group, limit], Kept::read)?;
    let read = |kept: rusqlite::Result<Kept>| {
        let Kept {
            id,
            at,
            entry,
            hash,
        } = kept?;
        let (at, entry) = (at.parse()?, serde_json::from_str(&entry)?);
        let id = id.cast_unsigned();
        Ok::<_, anyhow::Error>(AuditRecord {
            id,
            at,
            hash,
            entry,
        })
    };
    let records = rows.map(read).collect::<Result<_, _>>();
    records.context("read the audit; `audit verify` names what is damaged")
}

/// Checks every record of a state file against those before it, beside an agent or without.
///
/// # Errors
/// When the file can't be read.
pub fn verify(file: &Path) -> anyhow::Result<Verified> {
    let open = || format!("read the audit in {}", file.display());
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(file, flags).with_context(open)?;
    db.busy_timeout(std::time::Duration::from_secs(2))?;
    // One view of all, whatever is written meanwhile.
    let view = db.unchecked_transaction().with_context(open)?;
    check(&view).with_context(open)
}

fn check(db: &Connection) -> anyhow::Result<Verified> {
    let (mut records, mut before) = (0, NOTHING.to_owned());
    let mut bad = None;
    let mut statement = db.prepare("SELECT * FROM audit ORDER BY id")?;
    for kept in statement.query_map([], Kept::read)? {
        let kept = kept?;
        let expected = records + 1;
        let why = if kept.id > expected {
            format!("it is missing: the next one there is {}", kept.id)
        } else if kept.hash != hash(&before, kept.id, &kept.at, &kept.entry) {
            let at = &kept.at;
            format!("of {at}: it was changed, or put there, after it was recorded")
        } else {
            (records, before) = (kept.id, kept.hash);
            continue;
        };
        bad = Some((expected, why));
        break;
    }
    let head = "SELECT value FROM meta WHERE key = 'audit_head'";
    let head: Option<String> = db.query_row(head, [], |row| row.get(0)).optional()?;
    let head = head.unwrap_or_else(|| format!("0 {NOTHING}"));
    let last = format!("{records} {before}");
    if bad.is_none() && head != last {
        let count = head.split(' ').next().unwrap_or_default();
        let why = format!("it is missing at the end: {count} have been recorded");
        bad = Some((records + 1, why));
    }
    Ok(Verified {
        records: records.cast_unsigned(),
        head: before,
        bad: bad.map(|(id, why)| BadRecord {
            id: id.cast_unsigned(),
            why,
        }),
    })
}

impl Kept {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get("id")?,
            at: row.get("at")?,
            entry: row.get("entry")?,
            hash: row.get("hash")?,
        })
    }
}

/// Each part with its length, so that none can be taken for another's end.
fn hash(before: &str, id: i64, at: &str, entry: &str) -> String {
    let mut hasher = Sha256::new();
    for part in [before, &id.to_string(), at, entry] {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    let hash = hasher.finalize();
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::journal::{FILE, Journal};

    #[test]
    fn what_is_left_alone_is_good() {
        let (directory, journal) = journal(0);
        let file = directory.path().join(FILE);
        let verified = verify(&file).expect("reads");
        assert_eq!((verified.records, verified.bad), (0, None));
        for number in 0..5 {
            journal.audit(&entry(number)).expect("records");
        }
        let verified = verify(&file).expect("reads beside the agent");
        assert_eq!((verified.records, &verified.bad), (5, &None));
        let records = journal.audited(Some("shop"), 2).expect("reads");
        assert_eq!(records[0].hash, verified.head);
        assert_eq!((records[0].id, records[1].id), (5, 4));
        assert_eq!(records[0].entry, entry(4));
        drop(journal);
        assert_eq!(verify(&file).expect("reads without"), verified);
    }

    #[test]
    fn the_first_bad_record_is_named() {
        let cases = [
            (
                "UPDATE audit SET entry = replace(entry, 'root', 'anna') WHERE id = 3",
                3,
                "changed",
            ),
            (
                "UPDATE audit SET at = '2020-01-01T00:00:00Z' WHERE id = 1",
                1,
                "changed",
            ),
            (
                "UPDATE audit SET hash = upper(hash) WHERE id = 4",
                4,
                "changed",
            ),
            (
                "DELETE FROM audit WHERE id = 2",
                2,
                "missing: the next one there is 3",
            ),
            (
                "DELETE FROM audit WHERE id IN (1, 2)",
                1,
                "missing: the next one there is 3",
            ),
            (
                "DELETE FROM audit WHERE id > 4",
                5,
                "missing at the end: 6 have",
            ),
            ("DELETE FROM audit", 1, "missing at the end: 6 have"),
            (
                "DELETE FROM audit WHERE id = 2; UPDATE audit SET id = id - 1 WHERE id > 2",
                2,
                "changed",
            ),
            (
                "INSERT INTO audit SELECT 7, at, grp, entry, hash FROM audit WHERE id = 6",
                7,
                "put there",
            ),
        ];
        for (tamper, id, why) in cases {
            let (directory, journal) = journal(6);
            journal.db.read().execute_batch(tamper).expect(tamper);
            let verified = verify(&directory.path().join(FILE)).expect("reads");
            let bad = verified.bad.expect(tamper);
            assert_eq!((bad.id, verified.records), (id, id - 1), "{tamper}");
            assert!(bad.why.contains(why), "{tamper}: {}", bad.why);
        }
    }

    #[test]
    fn one_hash_depends_on_all_parts() {
        let parts = [
            ("a", 1, "b", "c"),
            ("", 1, "ab", "c"),
            ("a", 1, "", "bc"),
            ("a", 2, "b", "c"),
        ];
        let all: std::collections::BTreeSet<String> = parts
            .map(|(before, id, at, entry)| hash(before, id, at, entry))
            .into();
        assert_eq!(all.len(), parts.len());
    }

    fn journal(records: u32) -> (TempDir, Journal) {
        let directory = TempDir::new().expect("a directory");
        let journal = Journal::open(directory.path()).expect("opens");
        (0..records).for_each(|number| journal.audit(&entry(number)).expect("records"));
        (directory, journal)
    }

    fn entry(number: u32) -> Entry {
        let who = Who {
            actor: "root".into(),
            reason: Some(format!("because of {number}")),
        };
        let detail = serde_json::json!({ "number": number });
        Entry::asked(Some("shop"), &who, format!("flip {number}"), detail)
    }
}
