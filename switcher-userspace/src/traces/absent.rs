//! In place of traces, where the binary is built without the feature `otel`.

mod part;

use tokio::runtime::Handle;

pub(crate) use part::Part;

use crate::journal::CutoverRecord;
use crate::release::End;

/// No traces.
#[derive(Default)]
pub struct Traces(());

/// Nothing is being sent.
pub struct Exporting;

/// There are no traces.
///
/// # Errors
/// When the configuration asks for some.
pub fn start(url: Option<&str>, _runtime: &Handle) -> Result<(Traces, Exporting), String> {
    match url {
        Some(_) => {
            Err("this binary was built without the feature `otel`: remove `traces`".to_owned())
        }
        None => Ok((Traces::default(), Exporting)),
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
