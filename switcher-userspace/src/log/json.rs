//! One JSON object: `timestamp`, `level`, `target` and `message`, and beside them the fields.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::line::Line;
use crate::api::misleads;

/// What every line has.
const OURS: [&str; 4] = ["timestamp", "level", "target", "message"];

pub(super) fn line(line: &Line) -> String {
    let ours = [
        json!(format!("{:.6}", line.at)),
        json!(line.level.as_str().to_lowercase()),
        json!(line.target),
        json!(line.message),
    ];
    let mut text = String::from("{");
    for (name, value) in OURS.iter().zip(&ours) {
        put(&mut text, name, value);
    }
    for (name, value) in &line.fields {
        match OURS.contains(name) {
            true => put(&mut text, &format!("{name}_"), value),
            false => put(&mut text, name, value),
        }
    }
    text.push_str("}\n");
    text
}

fn put(text: &mut String, name: &str, value: &Value) {
    if text.len() > 1 {
        text.push(',');
    }
    let _infallible = write!(text, "{}:", json!(name));
    // JSON itself escapes no more than it has to.
    for c in value.to_string().chars() {
        match misleads(c) {
            true => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    let _infallible = write!(text, "\\u{unit:04x}");
                }
            }
            false => text.push(c),
        }
    }
}
