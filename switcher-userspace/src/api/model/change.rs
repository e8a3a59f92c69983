//! Changes of a group: what is asked, and what is answered.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Number;
use utoipa::ToSchema;

use super::{FreezeStatus, GateStatus};
use crate::release::{End, Kind};

/// `POST /v1/groups/{group}/flip`, `…/rollback`, `…/canary`, `…/drill`, `…/abort`, `…/confirm`, `…/extend`, `…/pause`, `…/resume`,
/// `…/stage`, `…/schema`, `…/freeze`, `…/unfreeze` and `…/gate`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ChangeRequest {
    /// Flip and drill: the colour that is to be live; the other one if there are two. Canary: the colour that is to
    /// have a share. Stage: the colour that has the release; the idle one if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Canary: the share of new connections, 1 to 99.
    #[serde(deserialize_with = "whole", skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 99)]
    pub percent: Option<u8>,
    /// Canary: its share grows by itself, as the group's configuration says.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub policy: bool,
    /// Flip and canary: don't ask for its health.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
    /// Flip: when, as a time with its offset (RFC 3339) or `+5s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(
        pattern = "^(\\+[1-9][0-9]{0,3}(ms|s|m|h)|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]+)?Z)$"
    )]
    pub at: Option<String>,
    /// Flip: it undoes itself after this long unless it is confirmed; the group's default if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[1-9][0-9]{0,3}(ms|s|m|h)$")]
    pub confirm_within: Option<String>,
    /// Flip: it stays, whatever the group's default says.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_confirm: bool,
    /// Flip: its colour is not watched afterwards, whatever the group's default says.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_bake: bool,
    /// Extend: how much longer; drill: for how long, 10 s if not given; pause: for how long at most; freeze: for how long, if it ends by itself.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[1-9][0-9]{0,3}(ms|s|m|h)$")]
    pub duration: Option<String>,
    /// Stage: what the release is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[!-~]{1,128}$")]
    pub version: Option<String>,
    /// Stage: which versions of the database's schema it can live with, such as `12..14`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[0-9]{1,9}\\.\\.[0-9]{1,9}$")]
    pub schema: Option<String>,
    /// Schema: its version now.
    #[serde(deserialize_with = "whole", skip_serializing_if = "Option::is_none")]
    pub applied: Option<u64>,
    /// Schema: that this closes the rollback is meant.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub close_rollback: bool,
    /// Gate: which.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gate: Option<String>,
    /// Gate: open, or closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open: Option<bool>,
    /// Rollback: move existing flows, too.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub hard: bool,
    /// Why, for the record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Only if the group is at this revision.
    #[serde(deserialize_with = "whole", skip_serializing_if = "Option::is_none")]
    pub if_revision: Option<u64>,
    /// Only if this colour is live.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub if_live: Option<String>,
    /// Say what would happen, and change nothing.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// Carry this out once, however often it is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[!-~]{1,255}$")]
    pub idempotency_key: Option<String>,
}

/// A whole number as JSON Schema means it, for which `2.0` is one, no larger than the record can keep.
pub(super) fn whole<'de, D, T>(from: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<u64>,
{
    /// Above, doubles leave whole numbers out.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let Some(number) = Option::<Number>::deserialize(from)? else {
        return Ok(None);
    };
    let double = number.as_f64().filter(|it| it.fract() == 0.0);
    let double = double.filter(|it| (0.0..=EXACT).contains(it));
    let value = number.as_u64().or_else(|| double.map(|it| it as u64));
    let value = value.filter(|&it| i64::try_from(it).is_ok());
    let value = value.and_then(|it| T::try_from(it).ok()).map(Some);
    value.ok_or_else(|| D::Error::custom(format!("{number} is no whole number that fits")))
}

/// The answer to a change of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChangeAnswer {
    /// The cut-over; none if nothing had to be done, or for a dry run.
    pub id: Option<String>,
    /// The group.
    pub group: String,
    /// What it is.
    pub kind: Kind,
    /// The colour that was live.
    pub from: String,
    /// The colour that is live; for a canary, the one that has a share.
    pub to: String,
    /// For a canary: its share of new connections, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<u8>,
    /// How it came out; for a dry run, how it would.
    pub result: End,
    /// The group's revision.
    pub revision: u64,
    /// From just before the store until no CPU could act on the old word, in microseconds.
    pub store_to_settled_us: Option<u64>,
    /// Health was not asked.
    pub forced: bool,
    /// Nothing had to be switched.
    pub unchanged: bool,
    /// Nothing was done.
    pub dry_run: bool,
    /// The instant it is, or was, set for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// When it undoes itself unless it is confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm_by: Option<Timestamp>,
    /// Until when its colour is watched, and rolled back if it does badly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baked_at: Option<Timestamp>,
    /// For a dry run: what would be done, in order.
    pub steps: Vec<String>,
    /// What somebody should know of it.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// The answer to a pause and to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PauseAnswer {
    /// The group.
    pub group: String,
    /// The colour that is live.
    pub live: String,
    /// Until when new flows are held, at most.
    pub paused_until: Option<Timestamp>,
    /// The group's revision.
    #[serde(default)]
    pub revision: u64,
    /// It was as asked for.
    pub unchanged: bool,
    /// Nothing was done.
    pub dry_run: bool,
}

/// The answer to what somebody says of a group: `…/stage`, `…/schema`, `…/freeze`, `…/unfreeze`, `…/gate`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NoteAnswer {
    /// The group.
    pub group: String,
    /// The colour that is live.
    pub live: String,
    /// The one that a rollback goes to.
    pub previous: Option<String>,
    /// The colour that was spoken of.
    pub colour: Option<String>,
    /// What it is for now.
    pub role: Option<String>,
    /// What is on it.
    pub version: Option<String>,
    /// Which versions of the database's schema that can live with.
    pub schema: Option<String>,
    /// The version of the database's schema.
    pub applied: Option<u64>,
    /// Manual gates by name.
    pub gates: BTreeMap<String, GateStatus>,
    /// Why nobody flips.
    pub frozen: Option<FreezeStatus>,
    /// The group's revision.
    pub revision: u64,
    /// What somebody should know of it.
    pub warnings: Vec<String>,
    /// It was as said.
    pub unchanged: bool,
    /// Nothing was recorded.
    pub dry_run: bool,
}
