//! Switcher as a library: what the `switcher` binary and the tests are made of.

pub mod cli;
pub mod command;
pub mod config;
pub mod datapath;
pub mod exit;
pub mod host;
pub mod maglev;
pub mod output;
pub mod reconcile;
