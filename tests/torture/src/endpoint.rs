//! Servers, and sets of them.

use std::fmt;
use std::ops::{BitAnd, BitOr};

use serde::{Deserialize, Serialize};
use switcher_harness::topology::COLOURS;

/// Servers that a colour has at most.
const EACH: usize = 8;

/// A set of servers of both colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoints(u16);

impl Endpoints {
    /// None of them.
    pub const NONE: Self = Self(0);

    /// Server `number`, from 1, of the colour at this place.
    #[must_use]
    pub const fn one(colour: usize, number: u16) -> Self {
        Self(1 << (colour * EACH + number as usize - 1))
    }

    /// Servers from 1 to `number` of the colour at this place.
    #[must_use]
    pub fn first(colour: usize, number: u16) -> Self {
        (1..=number).fold(Self::NONE, |all, one| all | Self::one(colour, one))
    }

    /// As a server calls itself: `... host=green-2`.
    #[must_use]
    pub fn named(identity: &str) -> Option<Self> {
        let host = identity
            .split_whitespace()
            .find_map(|word| word.strip_prefix("host="))?;
        let (colour, number) = host.split_once('-')?;
        let number: u16 = number.parse().ok()?;
        let place = COLOURS.iter().position(|it| *it == colour)?;
        (1..=EACH as u16)
            .contains(&number)
            .then(|| Self::one(place, number))
    }

    /// Those of the colour at this place.
    #[must_use]
    pub const fn of(self, colour: usize) -> Self {
        Self(self.0 & (0xff << (colour * EACH)))
    }

    /// Whether all of these are among them.
    #[must_use]
    pub const fn has(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    /// Those that are not among the others.
    #[must_use]
    pub const fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// Colour by its place, and number.
    pub fn each(self) -> impl Iterator<Item = (usize, u16)> {
        let all =
            (0..COLOURS.len()).flat_map(|colour| (1..=EACH as u16).map(move |it| (colour, it)));
        all.filter(move |&(colour, number)| self.has(Self::one(colour, number)))
    }
}

impl BitOr for Endpoints {
    type Output = Self;

    fn bitor(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }
}

impl BitAnd for Endpoints {
    type Output = Self;

    fn bitand(self, others: Self) -> Self {
        Self(self.0 & others.0)
    }
}

impl fmt::Display for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self
            .each()
            .map(|(colour, number)| format!("{}-{number}", COLOURS[colour]))
            .collect();
        f.write_str(&names.join(" or "))
    }
}
