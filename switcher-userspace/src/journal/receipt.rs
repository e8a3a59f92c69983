//! What there is to know of a cut-over afterwards, beside its times.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::Error;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::release::{Bake, Left, Traffic, Verdict};

/// What there is to know of a cut-over afterwards.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Receipt {
    /// How the new colour was watched, if it was to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bake: Option<BakeRecord>,
    /// It is a canary that grows by itself.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub policy: bool,
    /// It is a drill.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drill: Option<DrillRecord>,
    /// Its trace, if it was traced, in hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// The steering word when it was asked for, in hexadecimal.
    pub word_before: Option<String>,
    /// The word when it was live.
    pub word_after: Option<String>,
    /// What it had to pass, and what it was let through in spite of.
    pub gates: Vec<GateRecord>,
    /// Counters by colour.
    pub traffic: BTreeMap<String, ColourTraffic>,
    /// When the first new connection met the switch.
    pub first_packet_at: Option<Timestamp>,
    /// When the agent last saw packets to the old colour.
    pub last_packet_to_old_at: Option<Timestamp>,
    /// When no flow of the old colour was left, or none was let be any longer.
    pub drained: Option<Timestamp>,
    /// While its window is open: colours that were left in it and have not drained, and by what.
    #[serde(skip_serializing_if = "Left::is_empty")]
    #[schema(value_type = BTreeMap<String, crate::release::LeftBy>)]
    pub left: Left,
}

/// Something that a switch had to pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GateRecord {
    /// What it is.
    pub what: String,
    /// Whether it was passed; else it was skipped.
    pub passed: bool,
    /// Why.
    pub why: String,
}

/// What had been counted of a colour when a cut-over was asked for, and when it was over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ColourTraffic {
    /// When it was asked for.
    pub before: Totals,
    /// When it was over.
    pub after: Totals,
}

/// What has been counted of a colour, ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Totals {
    /// Packets from clients.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Connections and UDP flows begun.
    pub connections: u64,
    /// Resets that its endpoints sent.
    pub resets: u64,
    /// TCP handshakes that they did not answer.
    #[serde(default)]
    pub failed: u64,
}

/// A flip that was made to be undone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DrillRecord {
    /// For how long the other colour was to be live, in milliseconds.
    pub for_ms: u64,
    /// How it came out.
    pub verdict: DrillVerdict,
    /// The agent was started anew meanwhile.
    pub interrupted: bool,
    /// What was not well.
    pub why: Vec<String>,
    /// Packets that this host had dropped before, by reason.
    pub counted_before: BTreeMap<String, u64>,
    /// What it cost.
    pub lost: Loss,
    /// When it was known to be back.
    pub back: Option<Timestamp>,
}

/// How a drill came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DrillVerdict {
    /// It goes on.
    UnderWay,
    /// There and back, and all was well.
    Passed,
    /// Something was not well.
    Failed,
    /// Somebody has confirmed it: it was no drill.
    Kept,
}

/// What a drill cost, from before the flip until it was back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Loss {
    /// Connections and UDP flows that began meanwhile.
    pub connections: u64,
    /// Resets that endpoints of the group sent.
    pub resets: u64,
    /// Handshakes that its endpoints did not answer.
    pub failed: u64,
    /// Packets that this host dropped, whichever group's, by reason.
    pub dropped: BTreeMap<String, u64>,
}

impl DrillVerdict {
    /// As in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::UnderWay => "under-way",
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Kept => "kept",
        }
    }
}

/// How the new colour was watched after the switch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BakeRecord {
    /// For how long, in milliseconds.
    pub for_ms: u64,
    /// So many resets of a hundred connections more than the old colour had were too many,
    pub resets_limit: u32,
    /// and so many handshakes that nobody answered,
    pub failed_limit: u32,
    /// of at least this many connections.
    pub sample: u32,
    /// Until when; none before it has begun.
    pub until: Option<Timestamp>,
    /// How it went.
    pub verdict: Verdict,
    /// What the colour did badly, and what kept it from being rolled back.
    pub why: Vec<String>,
    /// TCP of the old colour before the switch.
    pub before: TrafficRecord,
    /// TCP of the new colour since the switch.
    pub seen: TrafficRecord,
}

/// What a colour's endpoints made of TCP connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TrafficRecord {
    /// Connections that began, as far as their answers pass this host.
    pub connections: u64,
    /// Resets that endpoints sent.
    pub resets: u64,
    /// Handshakes that nobody answered.
    pub failed: u64,
}

impl BakeRecord {
    /// Before it has begun.
    #[must_use]
    pub fn new(limits: &Bake, before: Traffic) -> Self {
        let Bake {
            time,
            resets,
            failed,
            sample,
        } = *limits;
        Self {
            for_ms: u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
            resets_limit: resets,
            failed_limit: failed,
            sample,
            until: None,
            verdict: Verdict::Watching,
            why: Vec::new(),
            before: before.into(),
            seen: TrafficRecord::default(),
        }
    }

    /// What is doing badly.
    #[must_use]
    pub const fn limits(&self) -> Bake {
        Bake {
            time: std::time::Duration::from_millis(self.for_ms),
            resets: self.resets_limit,
            failed: self.failed_limit,
            sample: self.sample,
        }
    }
}

impl From<Traffic> for TrafficRecord {
    fn from(traffic: Traffic) -> Self {
        let Traffic {
            connections,
            resets,
            failed,
        } = traffic;
        Self {
            connections,
            resets,
            failed,
        }
    }
}

impl From<TrafficRecord> for Traffic {
    fn from(record: TrafficRecord) -> Self {
        let TrafficRecord {
            connections,
            resets,
            failed,
        } = record;
        Self {
            connections,
            resets,
            failed,
        }
    }
}

impl Receipt {
    pub(super) fn text(&self) -> rusqlite::Result<String> {
        serde_json::to_string(self).map_err(|error| Error::ToSqlConversionFailure(error.into()))
    }
}
