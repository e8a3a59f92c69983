//! What Switcher means: frames, tables and the choice of an endpoint, without I/O and without a clock.
//!
//! The kernel programs, the agent's `explain` and the tests on the host all run these very lines; they
//! differ in where bytes come from ([`frame::Frame`]), where look-ups go ([`tables::Tables`]) and who
//! answers for the network stack ([`tables::Stack`]).
#![no_std]

#[cfg(feature = "std")]
extern crate std;

pub mod abi;
pub mod checksum;
pub mod classify;
pub mod client;
pub(crate) mod dsr;
pub(crate) mod error;
pub(crate) mod finish;
pub(crate) mod forward;
pub(crate) mod fragment;
pub mod frame;
pub mod front;
pub mod icmp;
pub mod layers;
#[cfg(feature = "std")]
pub mod memory;
pub mod nat;
pub mod parse;
pub mod pipeline;
pub mod quic;
pub(crate) mod quiet;
pub(crate) mod reply;
pub(crate) mod request;
pub mod rewrite;
pub mod select;
pub mod steer;
pub mod tables;
pub mod timed;
pub mod tunnel;
pub(crate) mod unreachable;
pub mod verdict;
pub mod word;
