//! `switcher top`: what is live, and how much goes there, as it happens.
//!
//! [`Top`] is all there is to know, and knows neither clock nor terminal; [`draw`] makes a frame of it, and
//! [`screen`] puts the two between a terminal and the agent.

mod dialog;
mod draw;
mod facts;
mod model;
pub mod screen;
mod series;
#[cfg(test)]
mod tests;
mod text;

pub use dialog::{Dialog, Step};
pub use draw::{Look, draw};
pub use model::{Ask, Change, Key, Sample, Top, Verb};
