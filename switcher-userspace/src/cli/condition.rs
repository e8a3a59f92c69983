//! What can be waited for.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

/// What can be waited for. Written the same on the command line and in the API.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum WaitCondition {
    /// The switch is made, or set for an instant to come.
    Scheduled,
    /// The new colour is stored.
    Switched,
    /// No CPU can act on the old colour any more.
    Settled,
    /// The new colour has been watched for as long as it was to be.
    Baked,
    /// No flow is left on the old colour.
    Drained,
    /// Nothing is going on.
    Idle,
    /// All endpoints of a colour pass their checks.
    Healthy {
        /// The colour.
        colour: String,
    },
    /// A rollback would be accepted.
    RollbackEligible,
}

impl FromStr for WaitCondition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text.split_once('=') {
            None => match text {
                "scheduled" => Self::Scheduled,
                "switched" => Self::Switched,
                "settled" => Self::Settled,
                "baked" => Self::Baked,
                "drained" => Self::Drained,
                "idle" => Self::Idle,
                "rollback-eligible" => Self::RollbackEligible,
                "healthy" => return Err("say which colour: healthy=COLOUR".to_owned()),
                _ => return Err(ALLOWED.to_owned()),
            },
            Some(("healthy", colour)) if !colour.is_empty() => Self::Healthy {
                colour: colour.to_owned(),
            },
            Some(_) => return Err(ALLOWED.to_owned()),
        })
    }
}

const ALLOWED: &str = "choose scheduled, switched, settled, baked, drained, idle, healthy=COLOUR or rollback-eligible";

impl Display for WaitCondition {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scheduled => f.pad("scheduled"),
            Self::Switched => f.pad("switched"),
            Self::Settled => f.pad("settled"),
            Self::Baked => f.pad("baked"),
            Self::Drained => f.pad("drained"),
            Self::Idle => f.pad("idle"),
            Self::Healthy { colour } => write!(f, "healthy={colour}"),
            Self::RollbackEligible => f.pad("rollback-eligible"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read_as_they_are_written() {
        let all = [
            "scheduled",
            "switched",
            "settled",
            "baked",
            "drained",
            "idle",
            "healthy=blue",
            "rollback-eligible",
        ];
        for text in all {
            assert_eq!(
                text.parse::<WaitCondition>().map(|it| it.to_string()),
                Ok(text.into())
            );
        }
    }

    #[test]
    fn others_say_what_is_allowed() {
        for text in ["", "done", "idle=1", "healthy="] {
            assert_eq!(
                text.parse::<WaitCondition>(),
                Err(ALLOWED.to_owned()),
                "{text}"
            );
        }
        let error = "healthy".parse::<WaitCondition>().expect_err("no colour");
        assert!(error.contains("healthy=COLOUR"), "{error}");
    }
}
