//! What Switcher means.
#![no_std]
