//! One request to a receiver.

use std::fmt::Write as _;
use std::path::Path;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Request, Uri};
use ring::hmac;

use super::{Occasion, cdevents, flagger};
use crate::config::{Format, On, Webhook};
use crate::http;

/// An answer.
pub(super) struct Answer {
    /// Whether the status means success to its format.
    pub(super) passed: bool,
    /// The status, for people.
    pub(super) status: String,
    /// The beginning of its body.
    pub(super) said: String,
}

/// Sends the request and takes the answer. Redirections are not followed: they are no success.
pub(super) async fn post(hook: &Webhook, occasion: &Occasion, on: On) -> Result<Answer, String> {
    let url: Uri = hook
        .url
        .parse()
        .map_err(|error| format!("{}: {error}", hook.url))?;
    let request = request(hook, &url, occasion, on)?;
    let answer = http::send(&url, request, hook.ca_file.clone()).await?;
    let status = answer.status();
    let passed = match hook.format {
        Format::Flagger => (200..=202).contains(&status.as_u16()),
        Format::Plain | Format::CloudEvents => status.is_success(),
    };
    Ok(Answer {
        passed,
        status: format!("HTTP {}", status.as_u16()),
        said: http::beginning(answer.into_body()).await,
    })
}

fn request(
    hook: &Webhook,
    url: &Uri,
    occasion: &Occasion,
    on: On,
) -> Result<Request<Full<Bytes>>, String> {
    let (media, body) = match hook.format {
        Format::Plain => {
            let body = serde_json::to_value(occasion).unwrap_or_default();
            ("application/json", body)
        }
        Format::CloudEvents => ("application/cloudevents+json", cdevents::body(occasion)),
        Format::Flagger => {
            let body = flagger::body(occasion, on, &hook.metadata);
            ("application/json", body)
        }
    };
    let body = body.to_string();
    let path = url.path_and_query().map_or("/", |it| it.as_str());
    let authority = url.authority().map_or("", |it| it.as_str());
    let mut request = Request::post(path)
        .header(HOST, authority)
        .header(CONTENT_TYPE, format!("{media}; charset=utf-8"))
        .header(USER_AGENT, concat!("switcher/", env!("CARGO_PKG_VERSION")))
        .header("x-switcher-event", &occasion.event)
        .header("x-switcher-delivery", &occasion.id);
    if let Some(file) = &hook.secret_file {
        let signature = signature(file, body.as_bytes())?;
        request = request.header("x-switcher-signature-256", signature);
    }
    let request = request.body(Full::new(Bytes::from(body)));
    request.map_err(|error| format!("{}: {error}", hook.url))
}

/// HMAC (RFC 2104) of the body with what the file holds, but for the line break at its end.
fn signature(file: &Path, body: &[u8]) -> Result<String, String> {
    let unreadable = |why: &dyn std::fmt::Display| format!("secret_file {}: {why}", file.display());
    let secret = std::fs::read(file).map_err(|error| unreadable(&error))?;
    let secret = secret.trim_ascii_end();
    if secret.is_empty() {
        return Err(unreadable(&"it is empty"));
    }
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), body);
    let mut text = "sha256=".to_owned();
    for byte in tag.as_ref() {
        let _infallible = write!(text, "{byte:02x}");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_hmac_sha256() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("key");
        std::fs::write(&file, "Jefe\n").expect("writes");
        // RFC 4231, test case 2.
        let expected = "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        let signed = signature(&file, b"what do ya want for nothing?");
        assert_eq!(signed.as_deref(), Ok(expected));
        std::fs::write(&file, "\n").expect("writes");
        assert!(
            signature(&file, b"")
                .expect_err("no key")
                .ends_with("it is empty")
        );
    }
}
