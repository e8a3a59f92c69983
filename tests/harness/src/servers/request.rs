//! What a client may ask of the HTTP server.

use std::io::{BufRead, Error, ErrorKind, Result};

/// The first line of a request, understood.
#[derive(Debug, PartialEq)]
pub(super) enum Request {
    /// `GET /`: who are you?
    Identity,
    /// `GET /once`: the same, and the server ends the connection.
    Once,
    /// `GET /healthz`.
    Health,
    /// `GET /long?seconds=S&bytes=N&seed=K`: a pattern of N bytes, spread over S seconds.
    Long { seconds: f64, bytes: u64, seed: u8 },
    /// `PUT /pattern?bytes=N&seed=K`: the same pattern follows, to be checked.
    Pattern { bytes: u64, seed: u8 },
    /// `ECHO`: from now on every line comes back behind the server's identity. Not HTTP.
    Echo,
    /// Anything else.
    Unknown,
}

/// Longest line, and most header lines, that are read.
const LINE_MAX: u64 = 8192;
const HEADERS_MAX: usize = 100;

/// Reads one request; `None` at the end of the connection.
pub(super) fn read(input: &mut impl BufRead) -> Result<Option<Request>> {
    let Some(first) = line(input)? else {
        return Ok(None);
    };
    if first == "ECHO" {
        return Ok(Some(Request::Echo));
    }
    for _ in 0..HEADERS_MAX {
        match line(input)? {
            Some(header) if header.is_empty() => return Ok(Some(parse(&first))),
            Some(_) => {}
            None => {
                return Err(Error::new(
                    ErrorKind::UnexpectedEof,
                    "the request ends within its headers",
                ));
            }
        }
    }
    Err(Error::new(ErrorKind::InvalidData, "too many headers"))
}

/// Reads a line without its end; `None` at the end of the input.
pub(super) fn line(input: &mut impl BufRead) -> Result<Option<String>> {
    let mut text = String::new();
    if std::io::Read::take(&mut *input, LINE_MAX).read_line(&mut text)? == 0 {
        return Ok(None);
    }
    Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
}

fn parse(first: &str) -> Request {
    let mut words = first.split(' ');
    let (Some(verb), Some(target)) = (words.next(), words.next()) else {
        return Request::Unknown;
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    match (verb, path) {
        ("GET", "/") => Request::Identity,
        ("GET", "/once") => Request::Once,
        ("GET", "/healthz") => Request::Health,
        ("GET", "/long") => Request::Long {
            seconds: parameter(query, "seconds"),
            bytes: parameter(query, "bytes"),
            seed: parameter(query, "seed"),
        },
        ("PUT", "/pattern") => Request::Pattern {
            bytes: parameter(query, "bytes"),
            seed: parameter(query, "seed"),
        },
        _ => Request::Unknown,
    }
}

fn parameter<T: std::str::FromStr + Default>(query: &str, name: &str) -> T {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .find(|(key, _)| *key == name)
        .and_then(|(_, value)| value.parse().ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Option<Request>> {
        read(&mut text.as_bytes())
    }

    #[test]
    fn requests_are_understood() {
        let cases = [
            ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", Request::Identity),
            ("GET /once HTTP/1.1\r\n\r\n", Request::Once),
            ("GET /healthz HTTP/1.1\r\n\r\n", Request::Health),
            (
                "GET /long?seconds=1.5&bytes=10 HTTP/1.1\r\n\r\n",
                Request::Long {
                    seconds: 1.5,
                    bytes: 10,
                    seed: 0,
                },
            ),
            (
                "PUT /pattern?bytes=10&seed=7 HTTP/1.1\r\n\r\n",
                Request::Pattern { bytes: 10, seed: 7 },
            ),
            ("ECHO\n", Request::Echo),
            ("POST / HTTP/1.1\r\n\r\n", Request::Unknown),
        ];
        for (text, want) in cases {
            assert_eq!(
                read_text(text).expect("a whole request"),
                Some(want),
                "{text:?}"
            );
        }
    }

    #[test]
    fn the_end_of_a_connection_is_no_request() {
        assert_eq!(read_text("").expect("an end"), None);
        assert!(read_text("GET / HTTP/1.1\r\nHost:").is_err());
    }
}
