//! In place of traces, where the binary is built without the feature `otel`.

use jiff::Timestamp;
use serde_json::Value;
use tokio::runtime::Handle;

use crate::journal::CutoverRecord;
use crate::release::End;

/// No traces.
#[derive(Default)]
pub struct Traces;

/// Nothing is being sent.
pub struct Exporting;

/// Part of a cut-over.
#[expect(dead_code, reason = "nobody reads it here")]
pub(crate) struct Part<'a> {
    pub(crate) cutover: &'a str,
    pub(crate) name: &'a str,
    pub(crate) start: Timestamp,
    pub(crate) attributes: Vec<(&'static str, Value)>,
    pub(crate) error: Option<String>,
}

/// There are no traces.
///
/// # Errors
/// When the configuration asks for some.
pub fn start(url: Option<&str>, _runtime: &Handle) -> Result<(Traces, Exporting), String> {
    match url {
        Some(_) => {
            Err("this binary was built without the feature `otel`: remove `traces`".to_owned())
        }
        None => Ok((Traces, Exporting)),
    }
}

impl Exporting {
    /// At once.
    pub async fn flush(self) {}
}

#[expect(clippy::unused_self, reason = "as with the feature")]
impl Traces {
    pub(crate) fn id(&self, _cutover: &str) -> Option<String> {
        None
    }

    pub(crate) fn follow(&mut self, _group: &str, _stage: Option<(&str, &'static str)>) {}

    pub(crate) fn did(&self, _part: Part<'_>) {}

    pub(crate) fn ended(&mut self, _record: &CutoverRecord, _end: End) {}
}
