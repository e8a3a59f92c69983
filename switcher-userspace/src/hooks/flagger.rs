//! What Flagger's webhooks are sent (<https://docs.flagger.app/usage/webhooks>): the group is the canary,
//! the host its namespace.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Occasion;
use crate::config::On;

/// The request's body.
pub(super) fn body(occasion: &Occasion, on: On, metadata: &BTreeMap<String, String>) -> Value {
    let mut metadata = metadata.clone();
    if on == On::Event {
        let kind = if occasion.is_bad() {
            "Warning"
        } else {
            "Normal"
        };
        let time = occasion.time.as_millisecond().to_string();
        metadata.insert("eventMessage".to_owned(), occasion.message.clone());
        metadata.insert("eventType".to_owned(), kind.to_owned());
        metadata.insert("timestamp".to_owned(), time);
    }
    json!({
        "name": occasion.group,
        "namespace": occasion.host,
        "phase": phase(&occasion.event),
        "checksum": checksum(occasion),
        "metadata": metadata,
    })
}

/// Flagger's word for what is going on.
fn phase(event: &str) -> &'static str {
    match event {
        "stage" | "staged" => "Initialized",
        "post-flip" | "switched" => "Waiting",
        "confirmed" => "Promoting",
        "drained" | "succeeded" => "Succeeded",
        "rolled-back" | "aborted" | "failed" => "Failed",
        _ => "Progressing",
    }
}

/// The same for the same release.
fn checksum(occasion: &Occasion) -> String {
    let colour = occasion.to.as_deref().unwrap_or_default();
    let version = occasion.version.as_deref().unwrap_or_default();
    let digest = Sha256::digest(format!("{}\n{colour}\n{version}", occasion.group));
    let mut text = String::new();
    for byte in &digest[..8] {
        let _infallible = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::Moment;

    #[test]
    fn the_payload_is_flaggers() {
        let occasion = Occasion {
            event: "pre-flip".into(),
            host: "edge1".into(),
            group: "shop".into(),
            message: "shop: blue -> green".into(),
            time: "2026-01-02T03:04:05.678Z".parse().expect("a time"),
            ..Occasion::default()
        };
        let metadata = BTreeMap::from([("cmd".to_owned(), "smoke".to_owned())]);
        let asked = body(&occasion, On::Moment(Moment::PreFlip), &metadata);
        let checksum = asked["checksum"].as_str().expect("a checksum");
        assert_eq!(checksum.len(), 16);
        let expected = json!({
            "name": "shop", "namespace": "edge1", "phase": "Progressing",
            "checksum": checksum, "metadata": { "cmd": "smoke" },
        });
        assert_eq!(asked, expected);
        let bad = Occasion {
            event: "rolled-back".into(),
            ..occasion
        };
        let told = body(&bad, On::Event, &metadata);
        assert_eq!(
            (&told["phase"], &told["metadata"]["eventType"]),
            (&json!("Failed"), &json!("Warning"))
        );
        assert_eq!(told["metadata"]["timestamp"], "1767323045678");
        assert_eq!(told["metadata"]["eventMessage"], "shop: blue -> green");
    }
}
