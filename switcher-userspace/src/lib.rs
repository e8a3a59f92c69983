//! Switcher as a library.

pub mod cli;
pub mod command;
pub mod config;
pub mod exit;
pub mod output;
