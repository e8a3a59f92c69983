//! Switcher as a library.

pub mod config;
