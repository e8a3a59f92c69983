//! The configuration as a JSON schema (draft 2020-12), for editors.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::config::{Default, KEYS, seen};
use crate::config::learn::Shape;

/// A key's shapes, and what is below it.
#[derive(std::default::Default)]
struct Node<'a> {
    pattern: String,
    shapes: Vec<&'a Shape>,
    below: BTreeMap<String, Node<'a>>,
    items: Option<Box<Node<'a>>>,
}

/// The schema of what was seen.
pub(super) fn of(seen: &BTreeMap<String, Vec<Shape>>) -> Value {
    let mut root = Node::default();
    for (pattern, shapes) in seen {
        let mut node = &mut root;
        for part in pattern.split('.') {
            let (name, is_item) = part
                .strip_suffix("[]")
                .map_or((part, false), |it| (it, true));
            node = node.below.entry(name.to_owned()).or_default();
            if is_item {
                node = node.items.get_or_insert_default();
            }
        }
        node.pattern.clone_from(pattern);
        node.shapes = shapes.iter().collect();
    }
    let Value::Object(table) = table(&root) else {
        return Value::Null;
    };
    let mut schema = Map::new();
    schema.insert(
        "$schema".into(),
        json!("https://json-schema.org/draft/2020-12/schema"),
    );
    schema.insert("title".into(), json!("Switcher's configuration"));
    schema.extend(table);
    schema.into()
}

fn value(node: &Node<'_>) -> Value {
    let has = |wanted: fn(&Shape) -> bool| node.shapes.iter().any(|it| wanted(it));
    let mut ways = Vec::new();
    let words = node.shapes.iter().find_map(|it| match it {
        Shape::Words(words) => Some(words),
        _ => None,
    });
    match words {
        Some(words) => ways.push(json!({ "enum": words })),
        None if has(|it| matches!(it, Shape::Text(_))) => ways.push(json!({ "type": "string" })),
        None => {}
    }
    for shape in &node.shapes {
        match shape {
            Shape::Range(from, to) => {
                ways.push(json!({ "type": "integer", "minimum": from, "maximum": to }));
            }
            Shape::Truth => ways.push(json!({ "type": "boolean" })),
            Shape::List => {
                let items = node.items.as_deref().map_or(json!({}), value);
                ways.push(json!({ "type": "array", "items": items }));
            }
            Shape::Table => ways.push(table(node)),
            _ => {}
        }
    }
    let mut schema = match ways.len() {
        1 => ways.remove(0),
        _ => json!({ "anyOf": ways }),
    };
    let known = KEYS.iter().find(|(key, ..)| *key == node.pattern);
    if let (Some((_, default, meaning)), Some(object)) = (known, schema.as_object_mut()) {
        object.insert("description".into(), json!(meaning));
        if let Default::Is(default) = default {
            let default = serde_json::from_str::<Value>(default);
            object.insert(
                "default".into(),
                default.expect("TOML and JSON agree on it"),
            );
        }
    }
    schema
}

fn table(node: &Node<'_>) -> Value {
    let named = |name: &&String| matches!(name.as_str(), "NAME" | "COLOUR" | "WORD");
    if let Some(name) = node.below.keys().find(named) {
        return json!({ "type": "object", "additionalProperties": value(&node.below[name]) });
    }
    let properties: Map<_, _> = node
        .below
        .iter()
        .map(|(name, node)| (name.clone(), value(node)))
        .collect();
    let needed = node
        .below
        .iter()
        .filter(|(_, it)| it.shapes.contains(&&Shape::Required));
    let needed: Vec<_> = needed.map(|(name, _)| name).collect();
    let mut table = json!({
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
    });
    if let (false, Some(table)) = (needed.is_empty(), table.as_object_mut()) {
        table.insert("required".into(), json!(needed));
    }
    table
}

/// What the schema says of configurations, as far as it uses the language.
fn complaint(schema: &Value, value: &Value, at: &str) -> Option<String> {
    if let Some(ways) = schema["anyOf"].as_array() {
        let fits = ways.iter().any(|way| complaint(way, value, at).is_none());
        return (!fits).then(|| format!("{at}: fits nothing"));
    }
    if let Some(words) = schema["enum"].as_array() {
        return (!words.contains(value)).then(|| format!("{at}: {value} is none of {words:?}"));
    }
    let wrong = || Some(format!("{at}: {value} is no {}", schema["type"]));
    match (schema["type"].as_str(), value) {
        (Some("string"), Value::String(_)) | (Some("boolean"), Value::Bool(_)) => None,
        (Some("integer"), Value::Number(number)) => {
            let (from, to) = (schema["minimum"].as_u64(), schema["maximum"].as_u64());
            let fits = number.as_u64() >= from && number.as_u64() <= to;
            if fits { None } else { wrong() }
        }
        (Some("array"), Value::Array(items)) => items
            .iter()
            .find_map(|it| complaint(&schema["items"], it, &format!("{at}[]"))),
        (Some("object"), Value::Object(object)) => {
            let required = schema["required"].as_array().into_iter().flatten();
            let mut missing = required.filter(|it| !object.contains_key(it.as_str().unwrap_or("")));
            if let Some(missing) = missing.next() {
                return Some(format!("{at}: no {missing}"));
            }
            object.iter().find_map(|(name, value)| {
                let at = format!("{at}.{name}");
                match (&schema["properties"][name], &schema["additionalProperties"]) {
                    (Value::Null, Value::Bool(false)) => Some(format!("{at}: unknown")),
                    (Value::Null, schema) | (schema, _) => complaint(schema, value, &at),
                }
            })
        }
        _ => wrong(),
    }
}

#[test]
fn the_schema_takes_what_is_good_and_not_what_is_not() {
    let schema = of(&seen());
    let said = |text: &str| {
        let value: Value = toml::from_str(text).expect("is TOML");
        complaint(&schema, &value, "")
    };
    let full = include_str!("../config/tests/full.toml");
    assert_eq!(said(full), None);
    for (what, with, word) in [
        ("initial = \"blue\"", "", "initial"),
        ("initial = \"blue\"", "initial = 1", "initial"),
        ("flows = 4_096", "flows = 0", "flows"),
        ("repair = false", "repair = \"no\"", "repair"),
        ("repair = false", "repairs = false", "repairs"),
        ("hash = \"source\"", "hash = \"sauce\"", "sauce"),
        ("bake = {", "bake = { fore = 1,", "bake"),
        ("weight = 1000", "weight = 1001", "endpoints"),
    ] {
        let bad = full.replacen(what, with, 1);
        assert_ne!(bad, full, "{what}");
        let said = said(&bad).unwrap_or_else(|| panic!("{with:?} is taken"));
        assert!(said.contains(word), "{said}");
    }
}
