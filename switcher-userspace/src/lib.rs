//! Switcher as a library: what the `switcher` binary and the tests are made of.

pub mod config;
pub mod datapath;
pub mod host;
pub mod maglev;
pub mod reconcile;
