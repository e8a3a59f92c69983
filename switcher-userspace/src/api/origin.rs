//! Requests that a browser sends on behalf of somebody else's page.
//!
//! Browsers say where a request comes from; everybody else says nothing, and is let through.

use std::net::IpAddr;

use axum::http::header::{CONTENT_TYPE, HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method};

/// Whether this is the host that is meant, and not one whose name somebody has made lead here (DNS rebinding). A socket
/// in the file system has no name of its own; what is forwarded to it is called by an address or `localhost`.
pub(super) fn at_home(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST);
    let authority = host.and_then(|it| it.to_str().ok()?.parse::<Authority>().ok());
    authority.is_none_or(|it| is_local(it.host()))
}

/// That no other site's page asks for a change. A browser would show its user's certificate on behalf of any page, and
/// says which one has made it ask (RFC 6454, 7; Fetch Metadata).
pub(super) fn check(method: &Method, headers: &HeaderMap) -> Result<(), &'static str> {
    let text = |name| headers.get(name).map(|it| it.to_str().unwrap_or_default());
    let (origin, site) = (text(ORIGIN.as_str()), text("sec-fetch-site"));
    if matches!(*method, Method::GET | Method::HEAD) || origin.or(site).is_none() {
        return Ok(());
    }
    if site.is_some_and(|it| !matches!(it, "same-origin" | "none")) {
        return Err("a page of another site has sent this");
    }
    if let Some(origin) = origin {
        let from = origin.split_once("://").map(|(_, authority)| authority);
        let here = text(HOST.as_str());
        if from.is_none()
            || !here.is_some_and(|it| from.is_some_and(|from| from.eq_ignore_ascii_case(it)))
        {
            return Err("a page of another site has sent this");
        }
    }
    // What a page may send without asking first (a form) is never this.
    let kind = text(CONTENT_TYPE.as_str()).unwrap_or_default();
    match kind.split(';').next().map(str::trim) {
        Some("application/json") => Ok(()),
        _ => Err("a page's change has content-type application/json"),
    }
}

/// An address, `localhost`, or a word without a dot, which no name of the internet is.
fn is_local(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let name = bare.trim_end_matches('.').to_ascii_lowercase();
    bare.parse::<IpAddr>().is_ok() || !name.contains('.') || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_come_from_the_page_itself_or_from_no_page() {
        let json = ("content-type", "application/json");
        let here = ("origin", "http://127.0.0.1:8080");
        let there = ("origin", "http://evil.example");
        let same = ("sec-fetch-site", "same-origin");
        let cases: [(&[(&str, &str)], bool); 11] = [
            (&[], true),
            (&[("content-type", "text/plain")], true),
            (&[here, json], true),
            (
                &[
                    here,
                    same,
                    ("content-type", "application/json; charset=utf-8"),
                ],
                true,
            ),
            (&[here, ("content-type", "text/plain")], false),
            (&[here], false),
            (&[there, json], false),
            (&[("origin", "null"), json], false),
            (&[("origin", "http://127.0.0.1:8081"), json], false),
            (&[("sec-fetch-site", "cross-site"), json], false),
            (&[here, ("sec-fetch-site", "same-site"), json], false),
        ];
        for (given, allowed) in cases {
            let mut headers = HeaderMap::new();
            headers.insert("host", "127.0.0.1:8080".parse().expect("a value"));
            for (name, value) in given {
                headers.insert(*name, value.parse().expect("a value"));
            }
            let checked = check(&Method::POST, &headers);
            assert_eq!(checked.is_ok(), allowed, "{given:?}: {checked:?}");
            assert_eq!(
                check(&Method::GET, &headers),
                Ok(()),
                "reads change nothing"
            );
        }
    }

    #[test]
    fn names_of_the_internet_are_not_ours() {
        for host in [
            "x",
            "localhost",
            "a.localhost",
            "127.0.0.1",
            "[::1]",
            "10.0.0.1",
        ] {
            assert!(is_local(host), "{host}");
        }
        for host in [
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example.",
        ] {
            assert!(!is_local(host), "{host}");
        }
    }
}
