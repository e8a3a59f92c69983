//! Whole releases with real connections: colours that take turns, flips that nobody orders, what is left behind, and
//! races.

#[path = "releases/automatic.rs"]
mod automatic;
#[path = "releases/badly.rs"]
mod badly;
#[path = "releases/leftovers.rs"]
mod leftovers;
#[path = "releases/races.rs"]
mod races;
#[path = "releases/rebuilt.rs"]
mod rebuilt;
#[path = "releases/turns.rs"]
mod turns;

use switcher_harness::privilege::alone;
