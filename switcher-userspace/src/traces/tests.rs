use std::collections::BTreeMap;

use super::*;

fn read(url: Option<&str>, environment: &[(&str, &str)]) -> Result<Option<Settings>, String> {
    let environment: BTreeMap<&str, &str> = environment.iter().copied().collect();
    let named = |name: &str| environment.get(name).map(|it| (*it).to_owned());
    Settings::read(url, "host-1", named)
}

#[test]
fn the_configuration_comes_before_the_environment() {
    let url = |configured, environment: &[(&str, &str)]| {
        let settings = read(configured, environment).expect("it can be had");
        settings.map(|it| it.url.to_string())
    };
    let base = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/");
    let whole = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://c/in");
    assert_eq!(url(None, &[]), None);
    assert_eq!(
        url(None, &[base]).as_deref(),
        Some("http://collector:4318/v1/traces")
    );
    assert_eq!(url(None, &[base, whole]).as_deref(), Some("https://c/in"));
    let configured = Some("http://[::1]:4318");
    assert_eq!(
        url(configured, &[base, whole]).as_deref(),
        Some("http://[::1]:4318/v1/traces")
    );
    assert_eq!(url(None, &[base, ("OTEL_SDK_DISABLED", "true")]), None);
    assert_eq!(url(None, &[base, ("OTEL_TRACES_EXPORTER", "none")]), None);
}

#[test]
fn the_environment_is_read_as_opentelemetry_has_it() {
    let settings = read(
        Some("http://c"),
        &[
            ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=a%20b, x = 1"),
            ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "250"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "1"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/etc/ca.pem"),
            (
                "OTEL_RESOURCE_ATTRIBUTES",
                "service.name=lb,deployment.environment.name=test",
            ),
        ],
    );
    let settings = settings.expect("it can be had").expect("traces are wanted");
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(settings.headers, [pair("api-key", "a b"), pair("x", "1")]);
    assert_eq!(settings.timeout.as_millis(), 250);
    assert_eq!(settings.ca_file, Some("/etc/ca.pem".into()));
    let expected = [
        pair("service.name", "lb"),
        pair("service.version", env!("CARGO_PKG_VERSION")),
        pair("host.name", "host-1"),
        pair("deployment.environment.name", "test"),
    ];
    assert_eq!(settings.resource, expected);
}

#[test]
fn what_cannot_be_done_is_refused_by_name() {
    for (variable, value, why) in [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "http/json"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s", "write milliseconds"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "secret", "write name=value"),
        ("OTEL_RESOURCE_ATTRIBUTES", "a=%zz", "write name=value"),
        (
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            "collector:4318",
            "begin it with http",
        ),
    ] {
        let base = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c");
        let said = read(None, &[base, (variable, value)]).expect_err(variable);
        assert!(said.contains(why), "{said}");
        assert!(!said.contains("secret"), "{said}");
    }
}

#[test]
fn ids_follow_from_names() {
    let trace = TraceId::of("a", "c-1").to_string();
    assert_eq!(trace.len(), 32);
    assert_eq!(trace, TraceId::of("a", "c-1").to_string());
    assert_ne!(trace, TraceId::of("b", "c-1").to_string());
    assert_ne!(trace, TraceId::of("a", "c-1-back").to_string());
    let root = SpanId::root("a", "c-1");
    let at = Timestamp::UNIX_EPOCH;
    let child = root.child("arm", at);
    assert_eq!(child.to_string().len(), 16);
    assert_ne!(child, root.child("drain", at));
    assert_ne!(child, root.child("arm", Timestamp::MAX));
    assert_eq!(Traces::default().id("c-1"), None, "nobody wants traces");
}

/// Every field as OTLP's JSON has it: names, numbers in strings, ids in hexadecimal.
#[test]
fn spans_are_told_in_otlp() {
    let (trace, root) = (TraceId::of("a", "c-1"), SpanId::root("a", "c-1"));
    let start: Timestamp = "2026-11-28T18:00:00.5Z".parse().expect("a time");
    let span = Span {
        trace,
        id: root.child("arm", start),
        parent: Some(root),
        name: "arm".to_owned(),
        start,
        // The clock was set back.
        end: Timestamp::UNIX_EPOCH,
        attributes: vec![("n", json!(7)), ("b", json!(true)), ("s", json!("x"))],
        link: Some((trace, root)),
        error: Some("no".to_owned()),
    };
    let resource = [("service.name".to_owned(), "switcher".to_owned())];
    let request = otlp::request(&resource, &[span]);
    let of = &request["resourceSpans"][0];
    let expected = json!([{ "key": "service.name", "value": { "stringValue": "switcher" } }]);
    assert_eq!(of["resource"]["attributes"], expected);
    let expected = json!({
        "traceId": trace.to_string(),
        "spanId": root.child("arm", start).to_string(),
        "parentSpanId": root.to_string(),
        "name": "arm",
        "kind": 1,
        "startTimeUnixNano": "1795888800500000000",
        "endTimeUnixNano": "1795888800500000000",
        "attributes": [
            { "key": "n", "value": { "intValue": "7" } },
            { "key": "b", "value": { "boolValue": true } },
            { "key": "s", "value": { "stringValue": "x" } },
        ],
        "links": [{ "traceId": trace.to_string(), "spanId": root.to_string() }],
        "status": { "code": 2, "message": "no" },
    });
    assert_eq!(of["scopeSpans"][0]["spans"], json!([expected]));
}

/// The receiver takes connections and never answers: neither spans nor an agent that ends wait for it.
#[test]
fn nobody_waits_for_the_receiver() {
    let deaf = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", deaf.local_addr().expect("an address"));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let begun = std::time::Instant::now();
    let (traces, exporting) = start(Some(&url), runtime.handle()).expect("a URL");
    for _ in 0..10_000 {
        traces.did(Part {
            cutover: "c-1",
            name: "arm",
            start: Timestamp::now(),
            attributes: Vec::new(),
            error: None,
        });
    }
    drop(traces);
    runtime.block_on(exporting.flush());
    // An attempt alone would take ten seconds, all of them a minute.
    assert!(begun.elapsed().as_secs() < 9, "{:?}", begun.elapsed());
}
