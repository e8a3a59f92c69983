//! What the dashboard and the alerts ask Prometheus for.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::everything;

#[tokio::test]
async fn dashboard_and_alerts_ask_for_what_there_is() {
    let (text, _) = everything().await;
    let there = names(&text);
    let dashboard = include_str!("../../../../examples/monitoring/dashboard.json");
    let alerts = include_str!("../../../../examples/monitoring/alerts.yml");
    for asked in names(dashboard).union(&names(alerts)) {
        assert!(there.contains(asked), "{asked} is nowhere in\n{text}");
    }
    assert!(names(dashboard).len() > 10 && names(alerts).len() > 6);
    let mut questions = Vec::new();
    let dashboard: Value = serde_json::from_str(dashboard).expect("is JSON");
    let alerts: Value = serde_yaml_ng::from_str(alerts).expect("is YAML");
    questions.extend(asked_in(&dashboard).into_iter().chain(asked_in(&alerts)));
    assert!(questions.len() > 20);
    let labels = labels(&text);
    let mut compared = 0;
    for question in &questions {
        for (metrics, label) in question.labels() {
            assert!(!metrics.is_empty(), "{label} of what, in {question:?}?");
            for metric in metrics {
                let has = labels.get(metric).is_some_and(|it| it.contains(label));
                assert!(
                    has,
                    "{metric} has no label {label}, but {:?}; asked for in {question:?}",
                    labels.get(metric)
                );
                compared += 1;
            }
        }
        for label in question.said() {
            let asked = names(&question.expression);
            let mut had = asked.iter().filter_map(|it| labels.get(it));
            let told = SCRAPED.contains(&label) || had.any(|it| it.contains(label));
            assert!(told, "{label} is said of nothing that has it: {question:?}");
        }
    }
    assert!(compared > 30, "{compared}");
}

/// What Prometheus adds to every sample.
const SCRAPED: [&str; 2] = ["instance", "job"];

/// An expression of PromQL, and what is said beside it.
#[derive(Debug, Default)]
struct Question {
    expression: String,
    text: Vec<String>,
}

impl Question {
    /// Labels that it names, each with the metrics that have to have it.
    fn labels(&self) -> Vec<(BTreeSet<&str>, &str)> {
        let Self { expression, .. } = self;
        let mut found = Vec::new();
        let list = |text: &'static str| expression.match_indices(text);
        // `rate(NAME{label="value", other!~"more"}[1m])`
        for (at, _) in list("switcher_") {
            let name = word(&expression[at..]);
            if let Some(matchers) = expression[at + name.len()..].strip_prefix('{') {
                let (matchers, _) = matchers.split_once('}').expect("they end");
                let named = matchers.split(',').map(|it| word(it.trim()));
                found.extend(named.map(|label| ([name].into(), label)));
            }
        }
        // `label_values(NAME, label)`
        for (at, how) in list("label_values(") {
            let (inside, _) = enclosed(&expression[at + how.len() - 1..]);
            let (name, label) = inside.split_once(',').expect("of what, and which");
            found.push(([name.trim()].into(), label.trim()));
        }
        // `sum by (label) (…)`: what is summed.
        for (at, how) in list(" by (") {
            let (named, rest) = enclosed(&expression[at + how.len() - 1..]);
            let (summed, _) = enclosed(rest.trim_start());
            found.extend(named.split(',').map(|label| (names(summed), label.trim())));
        }
        // `… * on (label) …`: both sides.
        for (at, how) in list(" on (") {
            let (named, _) = enclosed(&expression[at + how.len() - 1..]);
            let both = || names(expression);
            found.extend(named.split(',').map(|label| (both(), label.trim())));
        }
        found.retain(|(_, label)| !SCRAPED.contains(label));
        found
    }

    /// Labels that are said: `{{ $labels.group }}`, `{{group}}`.
    fn said(&self) -> impl Iterator<Item = &str> {
        let said = self.text.iter().flat_map(|text| text.split("{{").skip(1));
        said.map(|it| word(it.trim_start().trim_start_matches("$labels.")))
    }
}

/// Everything that is asked for in a file.
fn asked_in(value: &Value) -> Vec<Question> {
    let mut found = Vec::new();
    match value {
        Value::Object(fields) => {
            let asked = ["expr", "query"].iter().filter_map(|it| fields.get(*it));
            let asked = asked.filter_map(Value::as_str);
            found.extend(asked.map(|expression| Question {
                expression: expression.to_owned(),
                text: fields.values().flat_map(texts).collect(),
            }));
            found.extend(fields.values().flat_map(asked_in));
        }
        Value::Array(all) => found.extend(all.iter().flat_map(asked_in)),
        _ => {}
    }
    found
}

/// All that is text in a value.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Object(fields) => fields.values().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

/// Labels of each sample's name.
fn labels(text: &str) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut found: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let name = word(line);
        let labels = found.entry(name).or_default();
        if let Some(inside) = line[name.len()..].strip_prefix('{') {
            let (inside, _) = inside.split_once('}').expect("they end");
            labels.extend(inside.split("\",").map(word));
        }
    }
    found
}

/// What a text begins with.
fn word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    &text[..end.unwrap_or(text.len())]
}

/// What is in the parentheses that a text begins with, and what comes after them.
fn enclosed(text: &str) -> (&str, &str) {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        depth += match c {
            '(' => 1,
            ')' => -1,
            _ => 0,
        };
        if depth == 0 {
            return (&text[1..at], &text[at + 1..]);
        }
    }
    panic!("{text} does not end");
}

/// Names of metrics in a text.
fn names(text: &str) -> BTreeSet<&str> {
    let of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c| !of_name(c));
    words.filter(|word| word.starts_with("switcher_")).collect()
}
