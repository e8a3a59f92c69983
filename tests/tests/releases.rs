//! Whole releases with real connections: colours that take turns, flips that nobody orders, and races.

#[path = "releases/automatic.rs"]
mod automatic;
#[path = "releases/leftovers.rs"]
mod leftovers;
#[path = "releases/races.rs"]
mod races;
#[path = "releases/rebuilt.rs"]
mod rebuilt;
#[path = "releases/turns.rs"]
mod turns;
use switcher_harness::privilege::alone;
