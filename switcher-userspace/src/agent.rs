//! The agent: does what [`crate::release`] and [`crate::reconcile`] ask, and answers for it.
//!
//! One thread, the [`Runner`], owns the data path and the journal. Requests, verdicts on health and timers
//! reach it one after the other, so that there is nothing to lock and nothing can come in between a
//! decision and what is done about it. Everything it does for one group takes a millisecond (a commit to
//! disk), and nothing waits on that thread: arming, learning, gates and draining are timers, and grace periods
//! are waited for by another thread, one for all groups (`settler.rs`). Sockets and probes live on the tokio
//! runtime, and ask by [`Handle`].

mod about;
mod apply;
mod asked;
mod audit;
mod automatic;
mod bake;
mod canary;
mod clock;
mod degraded;
mod drift;
mod drill;
mod effects;
mod events;
mod failed;
mod feed;
mod gates;
mod group;
mod handle;
mod hooks;
mod notes;
mod notices;
mod orders;
mod outbox;
mod owed;
mod pause;
mod programs;
mod recall;
mod receipt;
mod record;
mod rollout;
mod runner;
mod sample;
mod settings;
mod settler;
mod shown;
mod slots;
mod start;
mod status;
mod tend;
mod terms;
#[cfg(test)]
pub(crate) mod tests;
mod tunnels;
mod wait;

pub use asked::{Asked, Verb};
pub use handle::Handle;
pub use recall::Recalled;
pub use runner::{Ended, IsOwn, Runner};
pub use shown::Shown;
pub use start::{Setup, start};
pub use wait::Met;
