//! What was typed, and what is meant; all errors at once.
//!
//! ```text
//! bytes ── TOML with spans ── typed: every key read, every value understood or reported
//!                               └── meant: defaults filled in, parts checked against each other
//! ```
//!
//! What a later version will know is refused here by name: nothing typed is ever ignored.

mod error;
#[cfg(test)]
pub(crate) mod learn;
pub mod limits;
mod load;
mod meant;
mod model;
mod report;
mod resolve;
mod roles;
mod scalar;
mod section;
mod suggest;
mod typed;

pub use error::{ConfigError, ConfigErrors};
pub use load::{FILE_MAX, load, parse, read};
pub use model::{
    AgentConfig, Api, Config, Drain, EndpointConfig, Format, Forward, GroupConfig, HashMode,
    Health, HealthKind, Hook, HookKind, InterfaceConfig, Masquerade, On, Prefix, Program, Protocol,
    ServiceConfig, UdpMode, Webhook, XdpMode,
};
pub use resolve::{ResolveError, resolve};
pub use roles::{Member, Role, Roles};
pub(crate) use scalar::name;

/// The page of all keys.
pub const PAGE: &str = "docs/reference/config.md";
/// Where `init` writes a configuration, and the service looks for it.
pub const DEFAULT_CONFIG: &str = "/etc/switcher/switcher.toml";
/// Where the agent listens, and where the command line looks for it.
pub const DEFAULT_SOCKET: &str = "/run/switcher/switcher.sock";
/// Where the agent keeps its records.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/switcher";
/// Where programs and maps are pinned.
pub const DEFAULT_BPFFS: &str = "/sys/fs/bpf/switcher";
/// Capacity of the window's flow map, in flows.
pub const DEFAULT_FLOWS: u32 = 1 << 20;

#[cfg(test)]
mod tests;
