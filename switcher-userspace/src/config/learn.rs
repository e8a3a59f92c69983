//! What readers of a configuration have asked for, so that the reference is made of the code.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;

/// What a key's value was taken for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Shape {
    /// The key was looked for.
    Asked,
    /// It must be there.
    Required,
    /// Its name is the user's choice.
    Named,
    /// One of these.
    Words(Vec<String>),
    /// A whole number from one to another.
    Range(u64, u64),
    Truth,
    /// A string, and the advice to who writes a wrong one.
    Text(String),
    List,
    Table,
}

impl Shape {
    pub(super) fn words(words: &[&str]) -> Self {
        Self::Words(words.iter().map(ToString::to_string).collect())
    }

    pub(super) fn range<T: Display>(range: &RangeInclusive<T>) -> Self {
        let number = |it: &T| it.to_string().parse().unwrap_or_default();
        Self::Range(number(range.start()), number(range.end()))
    }
}

thread_local! {
    static SEEN: RefCell<Option<BTreeMap<String, Vec<Shape>>>> = const { RefCell::new(None) };
}

/// A reader has looked at a key.
#[expect(clippy::needless_pass_by_value, reason = "readers write less")]
pub(super) fn see(key: String, shape: Shape) {
    SEEN.with_borrow_mut(|seen| {
        let Some(seen) = seen else { return };
        let shapes = seen.entry(pattern(&key)).or_default();
        if !shapes.contains(&shape) {
            shapes.push(shape);
        }
    });
}

/// Everything that is looked at while a configuration is read, by pattern.
pub(crate) fn during(read: impl FnOnce()) -> BTreeMap<String, Vec<Shape>> {
    SEEN.set(Some(BTreeMap::new()));
    read();
    SEEN.take().unwrap_or_default()
}

/// `groups.shop.services."dns.v4".endpoints.blue[0]` is `groups.NAME.services.NAME.endpoints.COLOUR[]`.
fn pattern(key: &str) -> String {
    let mut parts: Vec<String> = Vec::new();
    for part in split(key) {
        let (name, index) = part
            .split_once('[')
            .map_or((&*part, ""), |(name, _)| (name, "[]"));
        let name = match parts.last().map(String::as_str) {
            Some("groups" | "services" | "gates") => "NAME",
            Some("endpoints") => "COLOUR",
            Some("metadata") => "WORD",
            _ => name,
        };
        parts.push(format!("{name}{index}"));
    }
    parts.join(".")
}

/// At dots that are not inside quotes.
fn split(key: &str) -> Vec<String> {
    let (mut parts, mut quoted) = (vec![String::new()], false);
    for c in key.chars() {
        match (c, parts.last_mut()) {
            ('"', _) => quoted = !quoted,
            ('.', _) if !quoted => parts.push(String::new()),
            (c, Some(last)) => last.push(c),
            (_, None) => {}
        }
    }
    parts
}
