//! Where traces go: `traces` under `[agent]`, and the environment as OpenTelemetry has it
//! (<https://opentelemetry.io/docs/specs/otel/protocol/exporter/>).

use std::path::PathBuf;
use std::time::Duration;

use hyper::Uri;

/// Where traces go, and how.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) url: Uri,
    pub(super) headers: Vec<(String, String)>,
    /// Whose certificates are believed; the system's choice if none.
    pub(super) ca_file: Option<PathBuf>,
    /// How long one attempt may take.
    pub(super) timeout: Duration,
    /// What is said of this agent.
    pub(super) resource: Vec<(String, String)>,
}

impl Settings {
    /// None if nobody wants traces.
    pub(super) fn read(
        configured: Option<&str>,
        host: &str,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, String> {
        let off = environment("OTEL_SDK_DISABLED")
            .is_some_and(|it| it.eq_ignore_ascii_case("true"))
            || environment("OTEL_TRACES_EXPORTER").is_some_and(|it| it == "none");
        let of = |name: &str| {
            let special = environment(&format!("OTEL_EXPORTER_OTLP_TRACES_{name}"));
            special.or_else(|| environment(&format!("OTEL_EXPORTER_OTLP_{name}")))
        };
        let below = |base: String| format!("{}/v1/traces", base.trim_end_matches('/'));
        let url = match configured {
            Some(base) => Some(below(base.to_owned())),
            None if off => None,
            // The former is taken as it is.
            None => environment("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
                .or_else(|| environment("OTEL_EXPORTER_OTLP_ENDPOINT").map(below)),
        };
        let Some(url) = url else {
            return Ok(None);
        };
        if let Some(other) = of("PROTOCOL").filter(|it| it != "http/json") {
            return Err(format!(
                "OTEL_EXPORTER_OTLP_PROTOCOL asks for {other:?}; traces are sent as http/json, which collectors take at \
                 port 4318: set it to that, or remove it"
            ));
        }
        let known = |uri: &Uri| {
            let scheme = matches!(uri.scheme_str(), Some("http" | "https"));
            scheme && uri.host().is_some_and(|host| !host.is_empty())
        };
        let parsed = url.parse().ok().filter(known);
        let parsed = parsed.ok_or_else(|| {
            format!("{url:?} is no URL that traces can go to: begin it with http:// or https:// and a host")
        })?;
        let timeout = match of("TIMEOUT") {
            Some(text) => text.parse().map_err(|_| {
                format!("OTEL_EXPORTER_OTLP_TIMEOUT is {text:?}: write milliseconds, such as 10000")
            })?,
            None => 10_000,
        };
        let mut resource = vec![
            ("service.name".to_owned(), "switcher".to_owned()),
            (
                "service.version".to_owned(),
                env!("CARGO_PKG_VERSION").to_owned(),
            ),
            ("host.name".to_owned(), host.to_owned()),
        ];
        let said = environment("OTEL_RESOURCE_ATTRIBUTES");
        for (name, value) in pairs("OTEL_RESOURCE_ATTRIBUTES", said)? {
            set(&mut resource, name, value);
        }
        if let Some(name) = environment("OTEL_SERVICE_NAME") {
            set(&mut resource, "service.name".to_owned(), name);
        }
        Ok(Some(Self {
            url: parsed,
            headers: pairs("OTEL_EXPORTER_OTLP_HEADERS", of("HEADERS"))?,
            ca_file: of("CERTIFICATE").map(PathBuf::from),
            timeout: Duration::from_millis(timeout),
            resource,
        }))
    }
}

fn set(all: &mut Vec<(String, String)>, name: String, value: String) {
    match all.iter_mut().find(|(known, _)| *known == name) {
        Some((_, known)) => *known = value,
        None => all.push((name, value)),
    }
}

/// `name=value,name=value`, with values percent-encoded (W3C Baggage).
fn pairs(variable: &str, text: Option<String>) -> Result<Vec<(String, String)>, String> {
    let text = text.unwrap_or_default();
    let items = text.split(',').filter(|it| !it.trim().is_empty());
    let pair = |item: &str| {
        let pair = item
            .split_once('=')
            .and_then(|(name, value)| Some((name.trim().to_owned(), decoded(value.trim())?)));
        // What stands there may be a secret.
        pair.ok_or_else(|| format!("{variable}: write name=value,name=value, percent-encoded"))
    };
    items.map(pair).collect()
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next()?, rest.next()?];
        let digits = std::str::from_utf8(&digits).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
    }
    String::from_utf8(bytes).ok()
}
