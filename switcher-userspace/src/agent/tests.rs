//! The runner on a kernel in memory.

mod life;
pub(crate) mod stand;

pub(crate) use stand::{Stand, config};
