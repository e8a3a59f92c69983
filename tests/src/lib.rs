//! What the test targets share: frames, and packet cases as data.

pub mod cases;
pub mod frame;
pub mod town;
