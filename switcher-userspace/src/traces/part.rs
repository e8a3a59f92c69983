//! What is traced, whether or not anybody does.

use jiff::Timestamp;
use serde_json::Value;

/// Part of a cut-over: what, from when to now.
#[cfg_attr(
    not(feature = "otel"),
    expect(dead_code, reason = "nobody reads it then")
)]
pub(crate) struct Part<'a> {
    pub(crate) cutover: &'a str,
    pub(crate) name: &'a str,
    pub(crate) start: Timestamp,
    pub(crate) attributes: Vec<(&'static str, Value)>,
    pub(crate) error: Option<String>,
}
