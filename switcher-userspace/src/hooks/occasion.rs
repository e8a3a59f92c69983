//! What a hook is told.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a hook is told, at a moment or of an event. This is the JSON of `format = "plain"`, too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Occasion {
    /// The same whenever the same thing is told again.
    pub id: String,
    /// What has happened, or the moment: `switched`, `pre-flip`.
    pub event: String,
    /// When.
    pub time: Timestamp,
    /// On which host.
    pub host: String,
    /// In which group.
    pub group: String,
    /// The colour that was live.
    pub from: Option<String>,
    /// The colour that is live or shall be, or that something was put on.
    pub to: Option<String>,
    /// What is on `from`.
    pub from_version: Option<String>,
    /// What is on `to`.
    pub version: Option<String>,
    /// The cut-over.
    pub cutover: Option<String>,
    /// What that is.
    pub kind: Option<String>,
    /// For a canary: its share, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<u8>,
    /// Who is behind it.
    pub actor: String,
    /// What for.
    pub reason: Option<String>,
    /// All of it in a sentence.
    pub message: String,
}

impl Occasion {
    /// For programs.
    #[must_use]
    pub fn environment(&self) -> [(&'static str, String); 8] {
        let or_empty = |it: &Option<String>| it.clone().unwrap_or_default();
        [
            ("SWITCHER_GROUP", self.group.clone()),
            ("SWITCHER_FROM", or_empty(&self.from)),
            ("SWITCHER_TO", or_empty(&self.to)),
            ("SWITCHER_VERSION", or_empty(&self.version)),
            ("SWITCHER_CUTOVER", or_empty(&self.cutover)),
            ("SWITCHER_EVENT", self.event.clone()),
            ("SWITCHER_ACTOR", self.actor.clone()),
            ("SWITCHER_REASON", or_empty(&self.reason)),
        ]
    }

    /// Whether things go wrong.
    pub(super) fn is_bad(&self) -> bool {
        matches!(
            self.event.as_str(),
            "rolled-back" | "aborted" | "failed" | "emergency" | "hook-failed"
        )
    }
}

/// This host's name.
#[must_use]
pub fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname");
    name.map_or_else(|_| "localhost".to_owned(), |name| name.trim().to_owned())
}
