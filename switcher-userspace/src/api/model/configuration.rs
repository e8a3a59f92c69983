//! Configurations as they are sent.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::change::whole;

/// `POST /v1/plan`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PlanRequest {
    /// The configuration; the file the agent was started with if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// What errors call it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// `POST /v1/apply`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ConfigRequest {
    /// The configuration; the file the agent was started with if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// What errors call it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Which revision of its source the text is, for the record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Why, for the record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Only if the configuration is at this revision.
    #[serde(deserialize_with = "whole", skip_serializing_if = "Option::is_none")]
    pub if_revision: Option<u64>,
    /// Say what would happen, and change nothing.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// Carry this out once, however often it is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[!-~]{1,255}$")]
    pub idempotency_key: Option<String>,
}

/// The answer to `POST /v1/plan` and `/v1/apply`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConfigAnswer {
    /// SHA-256 of the configuration.
    pub digest: String,
    /// Counts configurations that were taken.
    pub revision: u64,
    /// What it changes, in sentences.
    pub summary: Vec<String>,
    /// What it changes in the kernel, in order.
    pub changes: Vec<String>,
    /// Groups that have more to do once their window has closed.
    pub unfinished: Vec<String>,
    /// It was carried out.
    pub applied: bool,
}
