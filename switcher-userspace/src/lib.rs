//! Switcher as a library.
