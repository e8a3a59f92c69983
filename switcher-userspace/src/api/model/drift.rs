//! Differences between kernel, record and configuration.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `GET /v1/drift`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Drift {
    /// What is not as the agent has left it.
    pub differences: Vec<Difference>,
    /// Why the kernel's tables were not compared, if they were not.
    pub not_compared: Option<String>,
    /// Whether the agent repairs kernel and record by itself.
    pub repairs: bool,
    /// How often it still does within the hour.
    pub repairs_left: usize,
}

/// Something that is not as the agent has left it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Difference {
    /// Where.
    pub kind: DifferenceKind,
    /// What, in words.
    pub what: String,
}

/// Where something is not as the agent has left it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum DifferenceKind {
    /// An interface that has gone.
    Interface,
    /// Programs on interfaces, or on the hooks of clients on this host.
    Program,
    /// A steering word: the agent takes over what is there.
    Word,
    /// Tables, endpoints, services and addresses in the kernel.
    Kernel,
    /// The state file.
    Record,
    /// The configuration file.
    Config,
}

impl DifferenceKind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Interface,
        Self::Program,
        Self::Word,
        Self::Kernel,
        Self::Record,
        Self::Config,
    ];

    /// As in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Interface => "interface",
            Self::Program => "program",
            Self::Word => "word",
            Self::Kernel => "kernel",
            Self::Record => "record",
            Self::Config => "config",
        }
    }
}

impl Difference {
    /// Whether the agent repairs it, unless it is told otherwise.
    #[must_use]
    pub const fn is_repaired(&self) -> bool {
        match self.kind {
            DifferenceKind::Program | DifferenceKind::Kernel | DifferenceKind::Record => true,
            DifferenceKind::Interface | DifferenceKind::Word | DifferenceKind::Config => false,
        }
    }
}
