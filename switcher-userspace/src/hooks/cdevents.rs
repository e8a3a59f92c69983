//! CloudEvents 1.0 in structured mode. What CDEvents 0.4.1 has a type for is a CDEvent
//! (<https://cdevents.dev>), everything else says in its data what `format = "plain"` would.

use serde_json::{Value, json};

use super::Occasion;

/// The version of CDEvents.
const VERSION: &str = "0.4.1";

/// The event.
pub(super) fn body(occasion: &Occasion) -> Value {
    let source = format!("/switcher/{}/{}", occasion.host, occasion.group);
    let time = occasion.time.to_string();
    let (kind, subject, media, data) = match cdevent(occasion, &source) {
        Some((kind, subject, mut data)) => {
            let id = subject["id"].clone();
            data["context"] = json!({
                "version": VERSION,
                "id": occasion.id,
                "source": source,
                "type": kind,
                "timestamp": time,
            });
            data["subject"] = subject;
            (kind, id, "application/cdevents+json", data)
        }
        None => {
            let data = serde_json::to_value(occasion).unwrap_or_default();
            let subject = json!(occasion.group);
            let kind = format!("switcher.{}", occasion.event);
            (kind, subject, "application/json", data)
        }
    };
    json!({
        "specversion": "1.0",
        "id": occasion.id,
        "source": source,
        "type": kind,
        "subject": subject,
        "time": time,
        "datacontenttype": media,
        "data": data,
    })
}

/// Its type, its subject, and what else is to be said, if there is a type for it.
fn cdevent(occasion: &Occasion, source: &str) -> Option<(String, Value, Value)> {
    let (to, from) = (occasion.to.as_deref()?, occasion.from.as_deref()?);
    let environment = |colour: &str| format!("{}/{colour}", occasion.group);
    let service = |predicate: &str| {
        let mut content = json!({ "environment": { "id": environment(to), "source": source } });
        if predicate != "published" {
            content["artifactId"] = purl(&occasion.group, occasion.version.as_deref()).into();
        }
        let subject = json!({
            "id": occasion.group,
            "source": source,
            "type": "service",
            "content": content,
        });
        (format!("dev.cdevents.service.{predicate}.0.2.0"), subject)
    };
    let (kind, subject) = match occasion.event.as_str() {
        "stage" | "staged" => service("deployed"),
        "post-flip" | "switched" => service("published"),
        "succeeded" => service("upgraded"),
        "rolled-back" => service("rolledback"),
        // Nothing is left there: it may be destroyed and rebuilt.
        "drained" => {
            let subject = json!({
                "id": environment(from),
                "source": source,
                "type": "environment",
                "content": { "name": from },
            });
            (
                "dev.cdevents.environment.modified.0.2.0".to_owned(),
                subject,
            )
        }
        _ => return None,
    };
    let data = json!({
        "customData": serde_json::to_value(occasion).unwrap_or_default(),
        "customDataContentType": "application/json",
    });
    Some((kind, subject, data))
}

/// A package URL: <https://github.com/package-url/purl-spec>.
fn purl(name: &str, version: Option<&str>) -> String {
    let version = version.map(|it| format!("@{}", encoded(it)));
    format!("pkg:generic/{name}{}", version.unwrap_or_default())
}

fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let one = |byte: u8| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CloudEvents 1.0, "Required attributes"; CDEvents' binding on top of that.
    #[test]
    fn what_the_specifications_require_is_there() {
        let events = [
            ("staged", "dev.cdevents.service.deployed.0.2.0"),
            ("switched", "dev.cdevents.service.published.0.2.0"),
            ("succeeded", "dev.cdevents.service.upgraded.0.2.0"),
            ("rolled-back", "dev.cdevents.service.rolledback.0.2.0"),
            ("drained", "dev.cdevents.environment.modified.0.2.0"),
        ];
        for (event, kind) in events {
            let body = body(&occasion(event));
            for required in ["id", "source", "specversion", "type"] {
                let value = body[required].as_str();
                assert!(value.is_some_and(|it| !it.is_empty()), "{required}: {body}");
            }
            assert_eq!(
                (&body["specversion"], &body["type"]),
                (&json!("1.0"), &json!(kind))
            );
            assert_eq!(body["datacontenttype"], "application/cdevents+json");
            let data = &body["data"];
            for (theirs, ours) in [("id", "id"), ("source", "source"), ("type", "type")] {
                assert_eq!(data["context"][theirs], body[ours], "{body}");
            }
            assert_eq!(data["context"]["timestamp"], body["time"]);
            assert_eq!(data["context"]["version"], VERSION);
            assert_eq!(data["subject"]["id"], body["subject"]);
            assert_eq!(data["customData"]["event"], event);
            let content = &data["subject"]["content"];
            match event {
                "drained" => assert_eq!(content["name"], "blue"),
                "switched" => assert_eq!(content["environment"]["id"], "shop/green"),
                _ => assert_eq!(content["artifactId"], "pkg:generic/shop@v2%2B1"),
            }
        }
    }

    #[test]
    fn what_has_no_type_there_has_one_here() {
        let body = body(&occasion("aborted"));
        assert_eq!(body["type"], "switcher.aborted");
        assert_eq!(body["data"]["cutover"], "c1");
        assert_eq!(body["time"], "2026-01-02T03:04:05Z");
    }

    fn occasion(event: &str) -> Occasion {
        Occasion {
            id: format!("c1/{event}"),
            event: event.into(),
            time: "2026-01-02T03:04:05Z".parse().expect("a time"),
            host: "edge1".into(),
            group: "shop".into(),
            from: Some("blue".into()),
            to: Some("green".into()),
            version: Some("v2+1".into()),
            cutover: Some("c1".into()),
            ..Occasion::default()
        }
    }
}
