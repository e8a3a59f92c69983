//! Medians, ratios first, for people and for machines.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::machine::described;

/// Where reports go.
const DIRECTORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/bench");

/// Which values are good ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Better {
    More,
    Less,
}

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    name: &'static str,
    better: Better,
    /// Whether it is compared with the mark.
    compared: bool,
}

impl Column {
    pub(crate) const fn new(name: &'static str, better: Better, compared: bool) -> Self {
        Self {
            name,
            better,
            compared,
        }
    }
}

/// Where, and what.
pub(crate) type Row = (String, String);

/// All values, by row and column, in the order of rounds.
pub(crate) struct Report {
    title: &'static str,
    /// What all others are compared with.
    mark: &'static str,
    columns: &'static [Column],
    rows: Vec<Row>,
    values: BTreeMap<(Row, usize), Vec<f64>>,
    notes: Vec<String>,
}

impl Report {
    pub(crate) fn new(title: &'static str, mark: &'static str, columns: &'static [Column]) -> Self {
        Self {
            title,
            mark,
            columns,
            rows: Vec::new(),
            values: BTreeMap::new(),
            notes: Vec::new(),
        }
    }

    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    pub(crate) fn add(&mut self, row: &Row, column: usize, value: f64) {
        if !self.rows.contains(row) {
            self.rows.push(row.clone());
        }
        let values = self.values.entry((row.clone(), column)).or_default();
        values.push(value);
    }

    /// Notes whether one is at least so many times another, in the median of all rounds.
    pub(crate) fn goal(&mut self, place: &str, (of, to): (&str, &str), column: usize, least: f64) {
        let Some(ratio) = self.ratio(place, of, to, column) else {
            return;
        };
        let verdict = if ratio >= least { "ok" } else { "MISSED" };
        let name = self.columns[column].name;
        self.note(format!(
            "{place}, {name}: {of} has {ratio:.2} times {to}'s (goal {least}) {verdict}"
        ));
    }

    fn ratio(&self, place: &str, of: &str, to: &str, column: usize) -> Option<f64> {
        let values = |product: &str| {
            let row = (place.to_owned(), product.to_owned());
            self.values.get(&(row, column))
        };
        let pairs = values(of)?.iter().zip(values(to)?);
        let ratios = pairs.map(|(of, to)| of / to).collect();
        Some(spread(ratios).0)
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text = format!("## {}\n\n{}\n\n| servers | |", self.title, described());
        for column in self.columns {
            let _ = write!(text, " {} |", column.name);
        }
        text += "\n|---|---|";
        text += &"--:|".repeat(self.columns.len());
        text += "\n";
        for (place, product) in &self.rows {
            let _ = write!(text, "| {place} | {product} |");
            for column in 0..self.columns.len() {
                let _ = write!(text, " {} |", self.cell(place, product, column));
            }
            text += "\n";
        }
        text += "\n";
        for note in &self.notes {
            let _ = writeln!(text, "- {note}");
        }
        text
    }

    fn cell(&self, place: &str, product: &str, column: usize) -> String {
        let row = (place.to_owned(), product.to_owned());
        let Some(values) = self.values.get(&(row, column)) else {
            return String::new();
        };
        let (median, spread) = spread(values.clone());
        let value = short(median);
        let value = match values.len() {
            0 | 1 => value,
            _ => format!("{value} ±{:.0} %", spread * 100.0),
        };
        match self.ratio(place, product, self.mark, column) {
            Some(ratio) if self.columns[column].compared => format!("**{ratio:.2}** ({value})"),
            _ => value,
        }
    }

    fn json(&self) -> Value {
        let rows = self.rows.iter().map(|(place, product)| {
            let of = |column: usize| {
                let values = self
                    .values
                    .get(&((place.clone(), product.clone()), column))?;
                let more = self.columns[column].better == Better::More;
                Some(json!({
                    "name": self.columns[column].name,
                    "more_is_better": more,
                    "values": values,
                    "median": spread(values.clone()).0,
                    "times": self.ratio(place, product, self.mark, column),
                }))
            };
            let values: Vec<Value> = (0..self.columns.len()).filter_map(of).collect();
            json!({ "servers": place, "product": product, "values": values })
        });
        json!({
            "machine": described(),
            "compared_with": self.mark,
            "rows": rows.collect::<Vec<_>>(),
            "notes": self.notes,
        })
    }
}

/// Prints a report, and writes it for people and for machines. In a virtual machine, whoever has started that does.
pub(crate) fn publish(name: &str, report: &Report) -> Result<()> {
    if std::env::var_os("SWITCHER_TESTS_GUEST").is_some() {
        let report = json!({ "md": report.markdown(), "json": report.json() });
        println!("report: {report}");
        return Ok(());
    }
    let directory = Path::new(DIRECTORY);
    fs::create_dir_all(directory)?;
    let text = report.markdown();
    println!("{text}");
    for (ending, content) in [
        ("md", text),
        ("json", serde_json::to_string_pretty(&report.json())?),
    ] {
        let path = directory.join(format!("{name}.{ending}"));
        fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
    }
    println!("in target/bench: {name}.md, {name}.json");
    Ok(())
}

/// The median, and half of what lies between the lowest and the highest as a share of it.
pub(crate) fn spread(mut values: Vec<f64>) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    let (Some(low), Some(high)) = (values.first(), values.last()) else {
        return (f64::NAN, f64::NAN);
    };
    let middle = values.len() / 2;
    let median = match values.len() % 2 {
        0 => f64::midpoint(values[middle - 1], values[middle]),
        _ => values[middle],
    };
    let share = match median {
        0.0 => 0.0,
        _ => (high - low) / 2.0 / median.abs(),
    };
    (median, share)
}

/// Three digits or so.
fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        10_000.0.. => format!("{:.1} k", value / 1000.0),
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
