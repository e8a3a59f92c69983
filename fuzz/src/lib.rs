//! The fuzz targets' bodies and the world they run in, which are the tests' own: the suite replays the corpus
//! through the same lines.

#[path = "../../tests/src/cases/mod.rs"]
pub mod cases;
#[path = "../../tests/src/cave.rs"]
pub mod cave;
#[path = "../../tests/src/frame.rs"]
pub mod frame;
#[path = "../../tests/src/fuzz.rs"]
pub mod fuzz;
#[path = "../../tests/src/pieces.rs"]
pub mod pieces;
#[path = "../../tests/src/town/mod.rs"]
pub mod town;
