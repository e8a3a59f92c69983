//! Calling hooks: programs of the operator's, and receivers of HTTP requests.
//!
//! When they are called, and what becomes of it, is [`crate::release`]'s to say; here is how.

mod attempt;
mod cdevents;
mod flagger;
mod occasion;
mod web;

pub use attempt::{Outcome, call, try_once};
pub use occasion::{Occasion, host};
