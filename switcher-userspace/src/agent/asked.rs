//! What people ask of a group.

use crate::api::model::ChangeRequest;
use crate::exit::{Exit, Failure};
use crate::journal::{Once, Who};

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Another colour.
    Flip,
    /// The previous colour.
    Rollback,
    /// A share for another colour.
    Canary,
    /// Another colour for a while.
    Drill,
    /// An end to what is going on.
    Abort,
    /// That a switch stays.
    Confirm,
    /// That it may stay for longer without.
    Extend,
    /// No new flows for a while; see [`Runner::pause`](super::Runner::pause).
    Pause,
    /// New flows again.
    Resume,
    /// That a release is on a colour; see [`Runner::note`](super::Runner::note).
    Stage,
    /// That a version of the database's schema is applied.
    Schema,
    /// That nobody flips.
    Freeze,
    /// That people may flip again.
    Unfreeze,
    /// A manual gate, to be opened or closed.
    Gate,
}

impl Verb {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Flip,
        Self::Rollback,
        Self::Canary,
        Self::Drill,
        Self::Abort,
        Self::Confirm,
        Self::Extend,
        Self::Pause,
        Self::Resume,
        Self::Stage,
        Self::Schema,
        Self::Freeze,
        Self::Unfreeze,
        Self::Gate,
    ];

    /// As in paths of the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Flip => "flip",
            Self::Rollback => "rollback",
            Self::Canary => "canary",
            Self::Drill => "drill",
            Self::Abort => "abort",
            Self::Confirm => "confirm",
            Self::Extend => "extend",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Stage => "stage",
            Self::Schema => "schema",
            Self::Freeze => "freeze",
            Self::Unfreeze => "unfreeze",
            Self::Gate => "gate",
        }
    }

    /// The fields that every change takes.
    pub(crate) const ALL_TAKE: [&str; 5] = [
        "reason",
        "if_revision",
        "if_live",
        "dry_run",
        "idempotency_key",
    ];

    /// The fields of a request that have a meaning for this one alone.
    pub(crate) const fn takes(self) -> &'static [&'static str] {
        match self {
            Self::Flip => &[
                "to",
                "force",
                "at",
                "confirm_within",
                "no_confirm",
                "no_bake",
            ],
            Self::Drill => &["to", "for"],
            Self::Canary => &["to", "percent", "policy", "force"],
            Self::Rollback => &["hard"],
            Self::Stage => &["to", "version", "schema"],
            Self::Schema => &["applied", "close_rollback"],
            Self::Gate => &["gate", "open"],
            Self::Extend | Self::Pause | Self::Freeze => &["for"],
            Self::Abort | Self::Confirm | Self::Resume | Self::Unfreeze => &[],
        }
    }

    /// Those of all fields that have to be there.
    pub(crate) const fn needs(self) -> &'static [&'static str] {
        match self {
            Self::Canary => &["to"],
            Self::Stage => &["version"],
            Self::Schema => &["applied"],
            Self::Gate => &["gate", "open"],
            Self::Extend | Self::Pause => &["for"],
            Self::Freeze => &["reason"],
            Self::Flip
            | Self::Drill
            | Self::Rollback
            | Self::Abort
            | Self::Confirm
            | Self::Resume
            | Self::Unfreeze => &[],
        }
    }
}

/// What is asked of which group, and by whom.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The group.
    pub group: String,
    /// What.
    pub verb: Verb,
    /// In detail.
    pub request: ChangeRequest,
    /// By whom.
    pub who: Who,
}

impl Asked {
    /// What makes it the same change as another one, if it is to be carried out once.
    #[must_use]
    pub fn once(&self) -> Option<Once> {
        let key = self.request.idempotency_key.clone();
        let key = key.filter(|_| !self.request.dry_run)?;
        let request = ChangeRequest {
            idempotency_key: None,
            ..self.request.clone()
        };
        let request = serde_json::to_string(&request).unwrap_or_default();
        let (verb, group) = (self.verb, &self.group);
        Some(Once {
            key,
            request: format!("{verb:?} {group} {request}"),
        })
    }

    /// In words.
    pub(super) fn tried(&self) -> String {
        let group = &self.group;
        match (self.verb, &self.request.to) {
            (Verb::Flip, Some(to)) => format!("flip {group} to {to}"),
            (Verb::Flip, None) => format!("flip {group}"),
            (Verb::Drill, _) => format!("drill {group}"),
            (Verb::Rollback, _) => format!("roll back {group}"),
            (Verb::Canary, Some(to)) if self.request.policy => {
                format!("let {to} of {group} have shares by policy")
            }
            (Verb::Canary, to) => format!(
                "send {} % of {group} to {}",
                self.request.percent.unwrap_or_default(),
                to.as_deref().unwrap_or("?")
            ),
            (Verb::Abort, _) => format!("abort {group}"),
            (Verb::Confirm, _) => format!("confirm {group}"),
            (Verb::Extend, _) => format!("extend the time to confirm {group}"),
            (Verb::Pause, _) => format!("pause {group}"),
            (Verb::Resume, _) => format!("resume {group}"),
            (Verb::Stage, Some(to)) => format!("stage {to} of {group}"),
            (Verb::Stage, None) => format!("stage a release of {group}"),
            (Verb::Freeze, _) => format!("freeze {group}"),
            (Verb::Unfreeze, _) => format!("unfreeze {group}"),
            (Verb::Gate, _) => match &self.request.gate {
                Some(gate) => format!("decide on gate {gate} of {group}"),
                None => format!("decide on a gate of {group}"),
            },
            (Verb::Schema, _) => format!("record the database's schema for {group}"),
        }
    }

    /// Each verb has its own fields.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let request = &self.request;
        let canary = self.verb == Verb::Canary;
        let given = [
            ("to", request.to.is_some()),
            ("version", request.version.is_some()),
            ("schema", request.schema.is_some()),
            ("applied", request.applied.is_some()),
            ("gate", request.gate.is_some()),
            ("open", request.open.is_some()),
            ("close_rollback", request.close_rollback),
            ("percent", request.percent.is_some()),
            ("policy", request.policy),
            ("force", request.force),
            ("hard", request.hard),
            ("at", request.at.is_some()),
            ("confirm_within", request.confirm_within.is_some()),
            ("no_confirm", request.no_confirm),
            ("no_bake", request.no_bake),
            ("for", request.duration.is_some()),
            ("reason", self.who.reason.is_some()),
        ];
        let refuse = |why: String| Err(Failure::new(Exit::Usage, "", why));
        let (takes, needs) = (self.verb.takes(), self.verb.needs());
        for (field, given) in given {
            let takes = takes.contains(&field) || Verb::ALL_TAKE.contains(&field);
            if given && !takes {
                return refuse(format!("field `{field}` has no meaning here"));
            }
        }
        let share = request.percent.filter(|percent| (1..=99).contains(percent));
        let one = share.is_some() != request.policy;
        if canary && (request.to.is_none() || !one || request.policy && request.percent.is_some()) {
            let why = "a canary takes a colour `to`, and a `percent` from 1 to 99 or `policy`";
            let advice = "use `flip` for all new connections, `abort` for none";
            return Err(Failure::new(Exit::Usage, "", why.to_owned()).advise(advice));
        }
        for (field, given) in given {
            if needs.contains(&field) && !given {
                let say = if field == "for" {
                    ": say for how long"
                } else {
                    ""
                };
                return refuse(format!("field `{field}` is missing{say}"));
            }
        }
        if request.no_confirm && request.confirm_within.is_some() {
            return refuse("either `confirm_within` or `no_confirm`".to_owned());
        }
        Ok(())
    }
}
