//! Rows of what is on a group's colours.

use std::collections::BTreeMap;

use rusqlite::{Connection, Row, params};

use super::record::number;
use crate::release::{Release, SchemaRange};

/// In the order of the group's own row: the caller has begun a transaction.
pub(super) fn write(
    db: &Connection,
    group: &str,
    colours: &BTreeMap<String, Release>,
) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO releases VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let mut statement = db.prepare_cached(sql)?;
    for (colour, release) in colours {
        let Release {
            version,
            schema,
            staged,
            served,
        } = release;
        let bound = |end: fn(SchemaRange) -> u64| schema.map(end).map(number);
        statement.execute(params![
            group,
            colour,
            version,
            bound(|range| range.min),
            bound(|range| range.max),
            staged,
            served,
        ])?;
    }
    Ok(())
}

/// By colour.
pub(super) fn read(db: &Connection, group: &str) -> rusqlite::Result<BTreeMap<String, Release>> {
    let sql = "SELECT * FROM releases WHERE grp = ?1";
    let mut statement = db.prepare_cached(sql)?;
    let rows = statement.query_map([group], |row| Ok((row.get("colour")?, release(row)?)))?;
    rows.collect()
}

fn release(row: &Row<'_>) -> rusqlite::Result<Release> {
    let bound = |column: &str| {
        let value: Option<i64> = row.get(column)?;
        Ok::<_, rusqlite::Error>(value.map(i64::cast_unsigned))
    };
    let schema = bound("schema_min")?.zip(bound("schema_max")?);
    Ok(Release {
        version: row.get("version")?,
        schema: schema.map(|(min, max)| SchemaRange { min, max }),
        staged: row.get("staged")?,
        served: row.get("served")?,
    })
}
