//! What was typed, and what is meant; all errors at once.

pub mod limits;
mod model;
mod resolve;

pub use model::{
    AgentConfig, Config, Drain, EndpointConfig, Forward, GroupConfig, Health, HealthKind, Protocol,
    ServiceConfig, UdpMode, XdpMode,
};
pub use resolve::{ResolveError, resolve};
