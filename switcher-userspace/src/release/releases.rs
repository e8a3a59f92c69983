//! What is on a group's colours, and which versions of the database that can live with.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

/// What is on a group's colours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Releases {
    /// By colour; those that nobody has spoken of are missing.
    pub colours: BTreeMap<String, Release>,
    /// The version of the database's schema, as it was recorded last.
    pub applied: Option<u64>,
}

/// What is on a colour.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Release {
    /// Its version, if somebody said so.
    pub version: Option<String>,
    /// Which versions of the database's schema it can live with; any, if nobody said so.
    pub schema: Option<SchemaRange>,
    /// It was put there to become live, and has not been yet.
    pub staged: bool,
    /// The colour has been live.
    pub served: bool,
}

/// Versions of a database's schema, both ends included. Written `12..14`, or `12` for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchemaRange {
    /// The first.
    pub min: u64,
    /// The last; not below `min`.
    pub max: u64,
}

/// What a colour is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// New flows go there.
    Live,
    /// Was live before, and a rollback goes there.
    Previous,
    /// The next release is prepared there.
    Staging,
    /// Was live once; nothing goes there any more.
    Retired,
}

impl Releases {
    /// Why a colour's release can't live with a version of the schema; nothing if it can, or nobody knows.
    #[must_use]
    pub fn misfit(&self, colour: &str, applied: Option<u64>) -> Option<String> {
        let (applied, release) = (applied?, self.colours.get(colour)?);
        let range = release.schema.filter(|range| !range.contains(applied))?;
        let what = release.said(colour);
        Some(format!(
            "{what} can live with schema {range}, and {applied} is applied"
        ))
    }

    /// Whether a release waits on a colour to become live.
    #[must_use]
    pub fn is_staged(&self, colour: &str) -> bool {
        self.colours.get(colour).is_some_and(|it| it.staged)
    }

    /// From now on `to` is live, and `from` is not.
    pub(super) fn switched(&mut self, from: &str, to: &str) {
        for colour in [from, to] {
            let release = self.colours.entry(colour.to_owned()).or_default();
            release.served = true;
            release.staged &= colour != to;
        }
    }
}

impl Release {
    /// For people: `blue (v41)`.
    #[must_use]
    pub fn said(&self, colour: &str) -> String {
        let version = self.version.as_ref();
        version.map_or_else(|| colour.to_owned(), |it| format!("{colour} ({it})"))
    }
}

impl SchemaRange {
    const fn contains(self, version: u64) -> bool {
        self.min <= version && version <= self.max
    }
}

impl FromStr for SchemaRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (min, max) = text.split_once("..").unwrap_or((text, text));
        match (min.parse(), max.parse()) {
            (Ok(min), Ok(max)) if min <= max => Ok(Self { min, max }),
            _ => Err(format!(
                "{text:?} is no range: write the first and the last version, such as 12..14"
            )),
        }
    }
}

impl Display for SchemaRange {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.min, self.max)
    }
}

impl Role {
    /// As in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Previous => "previous",
            Self::Staging => "staging",
            Self::Retired => "retired",
        }
    }
}
