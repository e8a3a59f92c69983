//! What the test targets share: frames, packet cases as data, and the kernel to run them in.

pub mod authority;
pub mod cases;
pub mod cave;
pub mod frame;
pub mod fuzz;
pub mod hooks;
pub mod kernel;
pub mod pieces;
pub mod receiver;
pub mod site;
pub mod skb;
pub mod town;
