//! The tables, and which version of them this is.

use anyhow::{Context, ensure};
use rusqlite::Connection;

use crate::exit::{Documented, STATE_DAMAGED};

/// Version of the tables below.
pub(super) const VERSION: u32 = 3;

const TABLES: &str = "
    CREATE TABLE meta (key TEXT PRIMARY KEY, value ANY) STRICT;
    CREATE TABLE groups (
        name TEXT PRIMARY KEY,
        live TEXT NOT NULL,
        previous TEXT,
        revision INTEGER NOT NULL,
        epoch INTEGER NOT NULL,
        since TEXT NOT NULL,
        by TEXT NOT NULL
    ) STRICT;
    CREATE TABLE cutovers (
        id TEXT PRIMARY KEY,
        grp TEXT NOT NULL,
        kind TEXT NOT NULL,
        from_colour TEXT NOT NULL,
        to_colour TEXT NOT NULL,
        slot INTEGER NOT NULL,
        forced INTEGER NOT NULL,
        hard INTEGER NOT NULL,
        actor TEXT NOT NULL,
        reason TEXT,
        stage TEXT NOT NULL,
        result TEXT,
        revision INTEGER,
        started TEXT NOT NULL,
        stored TEXT,
        settled TEXT,
        ended TEXT,
        store_to_settled_us INTEGER,
        leftovers INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE INDEX cutovers_of_group ON cutovers (grp, started);
    CREATE TABLE answers (
        key TEXT PRIMARY KEY,
        request TEXT NOT NULL,
        status INTEGER NOT NULL,
        body TEXT NOT NULL,
        at TEXT NOT NULL
    ) STRICT;
";

/// What each later version has added, the second one first.
const ADDED: [&str; VERSION as usize - 1] = [
    "
    ALTER TABLE cutovers ADD COLUMN at TEXT;
    ALTER TABLE cutovers ADD COLUMN confirm_by TEXT;
    ALTER TABLE cutovers ADD COLUMN confirmed TEXT;
    ALTER TABLE cutovers ADD COLUMN percent INTEGER;
    ALTER TABLE cutovers ADD COLUMN receipt TEXT;
    ALTER TABLE cutovers ADD COLUMN hooks TEXT;
    ALTER TABLE groups ADD COLUMN schema INTEGER;
    ALTER TABLE groups ADD COLUMN gates TEXT;
    CREATE TABLE audit (
        id INTEGER PRIMARY KEY,
        at TEXT NOT NULL,
        grp TEXT,
        entry TEXT NOT NULL,
        hash TEXT NOT NULL
    ) STRICT;
    CREATE TABLE releases (
        grp TEXT NOT NULL,
        colour TEXT NOT NULL,
        version TEXT,
        schema_min INTEGER,
        schema_max INTEGER,
        staged INTEGER NOT NULL,
        served INTEGER NOT NULL,
        PRIMARY KEY (grp, colour)
    ) STRICT;
    CREATE TABLE hooks (
        id INTEGER PRIMARY KEY,
        grp TEXT NOT NULL,
        cutover TEXT,
        moment TEXT NOT NULL,
        name TEXT NOT NULL,
        abort INTEGER NOT NULL,
        occasion TEXT NOT NULL,
        started TEXT NOT NULL,
        ended TEXT,
        outcome TEXT,
        why TEXT,
        said TEXT,
        attempts INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX hooks_of_cutover ON hooks (cutover);
    CREATE INDEX hooks_unfinished ON hooks (grp) WHERE ended IS NULL;
    CREATE TABLE outbox (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        grp TEXT NOT NULL,
        hook TEXT NOT NULL,
        event TEXT NOT NULL,
        occasion TEXT NOT NULL,
        UNIQUE (grp, hook, event)
    ) STRICT;
",
    "
    ALTER TABLE answers ADD COLUMN cutover TEXT;
",
];

/// Makes the tables in a new file, brings those of earlier versions up to date.
pub(super) fn prepare(db: &Connection) -> anyhow::Result<()> {
    let damaged =
        "it can't be read: move it away, and the agent takes what is live from the kernel";
    let version: u32 = db
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .context(damaged)?;
    ensure!(
        version <= VERSION,
        Documented {
            what: format!(
                "a newer version of switcher has written it (schema {version}, this one knows {VERSION}): \
                 install that version again, or move the file away and lose the history"
            ),
            page: STATE_DAMAGED,
        }
    );
    let whole: String = db
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .context(damaged)?;
    ensure!(
        whole == "ok",
        Documented {
            what: format!("{damaged} ({whole})"),
            page: STATE_DAMAGED,
        }
    );
    db.pragma_update(None, "journal_mode", "WAL")
        .context(damaged)?;
    // KiB, if negative: what is asked for again and again is little.
    db.pragma_update(None, "cache_size", -512)?;
    db.busy_timeout(std::time::Duration::from_secs(2))?;
    // All that there are.
    db.set_prepared_statement_cache_capacity(64);
    if version < VERSION {
        let tables = if version == 0 { TABLES } else { "" };
        let added = ADDED
            .get(version.saturating_sub(1) as usize..)
            .unwrap_or_default();
        let added = added.concat();
        let make = format!("BEGIN; {tables} {added} PRAGMA user_version = {VERSION}; COMMIT;");
        db.execute_batch(&make).context("make its tables")?;
    }
    flush(db, false)?;
    Ok(())
}

/// Whether commits return when they are on the disk, or when the kernel has them.
pub(super) fn flush(db: &Connection, flush: bool) -> rusqlite::Result<()> {
    let how = if flush { "FULL" } else { "NORMAL" };
    db.pragma_update(None, "synchronous", how)
}
