//! What `/metrics` serves, from an agent that has everything to tell.

use std::collections::{BTreeMap, BTreeSet};

use super::{cell, head, keep};
use crate::listen::tests::everything;

/// A family of metrics.
#[derive(Default)]
struct Family {
    kind: String,
    help: String,
    labels: BTreeSet<String>,
}

#[tokio::test]
async fn the_page_of_metrics_is_up_to_date() {
    let (text, registered) = everything().await;
    let families = families(&text);
    assert!(families.len() > 20, "{text}");
    let shown: BTreeSet<String> = families.keys().map(ToString::to_string).collect();
    assert_eq!(shown, registered, "`everything()` has a sample of each");
    let mut page = head(
        "Metrics",
        "What the agent serves at `/metrics` if `listen` under `[agent]` is set: OpenMetrics 1.0. A counter's samples end \
         in `_total`, a histogram's in `_bucket`, `_count` and `_sum`.",
    );
    page += "\n| name | kind | labels | meaning |\n|---|---|---|---|\n";
    for (name, Family { kind, help, labels }) in &families {
        assert!(!help.is_empty() && !labels.contains(""), "{name}");
        let labels: Vec<_> = labels.iter().map(|it| format!("`{it}`")).collect();
        let labels = labels.join(", ");
        page += &format!("| `{name}` | {kind} | {labels} | {} |\n", cell(help));
    }
    keep("metrics.md", &page);
}

fn families(text: &str) -> BTreeMap<&str, Family> {
    let mut found: BTreeMap<&str, Family> = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, help)) = line
            .strip_prefix("# HELP ")
            .and_then(|it| it.split_once(' '))
        {
            // The library adds the dot.
            found.entry(name).or_default().help = help.to_owned();
        } else if let Some((name, kind)) = line
            .strip_prefix("# TYPE ")
            .and_then(|it| it.split_once(' '))
        {
            found.entry(name).or_default().kind = kind.to_owned();
        } else if let Some((series, labels)) = line.split_once('{') {
            let of = |(name, _): &(&&str, &mut Family)| series.starts_with(**name);
            // The longest name: `flows` is not `flows_used`.
            let family = found
                .iter_mut()
                .filter(of)
                .max_by_key(|(name, _)| name.len());
            let Some((_, family)) = family else { continue };
            let labels = labels.split('}').next().unwrap_or_default();
            let names = labels.split("\",").filter_map(|it| it.split_once('='));
            let names = names.map(|(name, _)| name.to_owned());
            family.labels.extend(names.filter(|it| it != "le"));
        }
    }
    found
}
