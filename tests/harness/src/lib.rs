//! Network namespaces, real servers and clients, and a running agent, for tests and the demo.
//!
//! Everything here cleans up after itself: namespaces, servers, agents and pins go when their handle is
//! dropped, also in a panic. What a killed run left behind, [`netns::sweep`] removes.

pub mod agent;
pub mod bridge;
pub mod browser;
pub mod cgroup;
pub mod chance;
pub mod config;
pub mod flips;
pub mod flood;
pub mod interrupt;
pub mod load;
pub mod netns;
pub mod pattern;
pub mod privilege;
pub mod process;
pub mod python;
pub mod servers;
pub mod stand;
pub mod stats;
pub mod terminal;
pub mod topology;
pub mod unique;

pub use agent::{Agent, Place};
pub use bridge::Bridge;
pub use browser::Browser;
pub use cgroup::Cgroup;
pub use load::{Load, Plan};
pub use netns::Namespace;
pub use stand::Stand;
pub use terminal::Terminal;
pub use topology::{Mode, Topology};
