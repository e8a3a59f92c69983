//! The runner on a kernel in memory.

mod health;
mod life;
pub(crate) mod stand;
mod timed;

pub(crate) use stand::{Stand, config};
