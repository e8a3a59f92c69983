//! What requests carry beside their bodies.

use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType, Type};
use utoipa::openapi::{KnownFormat, Required, SchemaFormat};

use crate::api::reads::RECORDS_MAX;
use crate::config::limits::NAME_MAX;

/// Something that a request carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::api) enum Param {
    /// `{group}`
    InGroup,
    /// `{id}`
    Id,
    /// `?group=`
    Group,
    /// `?limit=`
    Limit,
    /// `?for=`
    For,
    /// `?wait=`
    Wait,
    /// `?timeout=`
    Timeout,
    /// `?dry_run=`
    DryRun,
    /// `If-Match`
    IfMatch,
    /// `Idempotency-Key`
    Key,
    /// `Last-Event-ID`
    LastEvent,
}

/// What one can wait for.
const CONDITION: &str = "^(scheduled|switched|settled|baked|drained|idle|rollback-eligible|healthy=[a-z0-9][a-z0-9_.-]{0,30})$";
/// A duration.
pub(super) const DURATION: &str = "^[1-9][0-9]{0,5}(ms|s|m|h)$";

impl Param {
    pub(super) fn describe(self) -> Parameter {
        use ParameterIn::{Header, Path, Query};

        let (name, place, schema, about) = match self {
            Self::InGroup => ("group", Path, name(), "The group"),
            Self::Id => ("id", Path, text().into(), "The cut-over"),
            Self::Group => ("group", Query, name(), "Only this group"),
            Self::Limit => (
                "limit",
                Query,
                limit(),
                "At most this many; 100 if none is given",
            ),
            Self::For => ("for", Query, pattern(CONDITION), "What to wait for"),
            Self::Wait => ("wait", Query, pattern(CONDITION), "Answer when this holds"),
            Self::Timeout => (
                "timeout",
                Query,
                pattern(DURATION),
                "Wait no longer, with 504 then; as long as it takes if none is given",
            ),
            Self::DryRun => (
                "dry_run",
                Query,
                ObjectBuilder::new().schema_type(Type::Boolean).into(),
                "Say what would happen, and change nothing",
            ),
            Self::IfMatch => (
                "If-Match",
                Header,
                pattern("^(\\*|(W/)?\"?[0-9]{1,15}\"?)$"),
                "Only if the group, or for a configuration that, is at this revision: an ETag",
            ),
            Self::Key => (
                "Idempotency-Key",
                Header,
                pattern("^[!-~]{1,255}$"),
                "Carry this out once, however often it is sent",
            ),
            Self::LastEvent => (
                "Last-Event-ID",
                Header,
                text().into(),
                "Go on behind this event",
            ),
        };
        let required = matches!(self, Self::InGroup | Self::Id | Self::For);
        ParameterBuilder::new()
            .name(name)
            .parameter_in(place)
            .required(if required {
                Required::True
            } else {
                Required::False
            })
            .description(Some(about))
            .schema(Some(schema))
            .build()
    }
}

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::new(Type::String))
}

fn pattern(pattern: &str) -> Schema {
    text().pattern(Some(pattern)).into()
}

fn name() -> Schema {
    text()
        .pattern(Some("^[a-z0-9][a-z0-9_.-]*$"))
        .max_length(Some(NAME_MAX))
        .into()
}

fn limit() -> Schema {
    ObjectBuilder::new()
        .schema_type(Type::Integer)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int32)))
        .minimum(Some(1))
        .maximum(Some(RECORDS_MAX))
        .into()
}
