//! `ExportTraceServiceRequest` of OTLP 1, in its JSON: ids in hexadecimal, 64-bit numbers as strings
//! (<https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding>).

use jiff::Timestamp;
use serde_json::{Value, json};

use super::Span;

/// `SPAN_KIND_INTERNAL`
const INTERNAL: u8 = 1;
/// `STATUS_CODE_ERROR`
const ERROR: u8 = 2;

/// What goes to the receiver at once.
pub(super) fn request(resource: &[(String, String)], spans: &[Span]) -> Value {
    let resource = resource
        .iter()
        .map(|(name, value)| attribute(name, &json!(value)));
    json!({ "resourceSpans": [{
        "resource": { "attributes": resource.collect::<Vec<_>>() },
        "scopeSpans": [{
            "scope": { "name": "switcher", "version": env!("CARGO_PKG_VERSION") },
            "spans": spans.iter().map(span).collect::<Vec<_>>(),
        }],
    }] })
}

fn span(span: &Span) -> Value {
    let Span {
        trace,
        id,
        parent,
        name,
        start,
        end,
        attributes,
        link,
        error,
    } = span;
    let attributes = attributes
        .iter()
        .map(|(name, value)| attribute(name, value));
    let mut told = json!({
        "traceId": trace.to_string(),
        "spanId": id.to_string(),
        "name": name,
        "kind": INTERNAL,
        "startTimeUnixNano": nanoseconds(*start),
        // Clocks are set back.
        "endTimeUnixNano": nanoseconds(*end.max(start)),
        "attributes": attributes.collect::<Vec<_>>(),
    });
    if let Some(parent) = parent {
        told["parentSpanId"] = json!(parent.to_string());
    }
    if let Some((trace, span)) = link {
        told["links"] = json!([{ "traceId": trace.to_string(), "spanId": span.to_string() }]);
    }
    if let Some(error) = error {
        told["status"] = json!({ "code": ERROR, "message": error });
    }
    told
}

fn nanoseconds(at: Timestamp) -> String {
    at.as_nanosecond().max(0).to_string()
}

fn attribute(name: &str, value: &Value) -> Value {
    let value = match value {
        Value::Bool(value) => json!({ "boolValue": value }),
        Value::Number(value) => json!({ "intValue": value.to_string() }),
        Value::String(value) => json!({ "stringValue": value }),
        other => json!({ "stringValue": other.to_string() }),
    };
    json!({ "key": name, "value": value })
}
