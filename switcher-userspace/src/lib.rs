//! Switcher as a library: what the `switcher` binary and the tests are made of.

pub mod agent;
pub mod api;
pub mod cli;
pub mod client;
pub mod command;
pub mod config;
pub mod datapath;
pub mod doctor;
pub mod events;
pub mod exit;
pub mod explain;
pub mod health;
pub mod hooks;
pub mod host;
mod http;
pub mod init;
pub mod journal;
pub mod listen;
pub mod log;
pub mod maglev;
pub mod neighbours;
pub mod output;
mod program;
pub mod reconcile;
#[cfg(test)]
mod reference;
pub mod release;
mod tls;
pub mod top;
pub mod trace;
#[cfg(feature = "otel")]
pub mod traces;
#[cfg(not(feature = "otel"))]
#[path = "traces/absent.rs"]
pub mod traces;
