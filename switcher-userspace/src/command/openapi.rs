//! `switcher openapi`.

use std::io::Write as _;

use crate::api::openapi;
use crate::exit::{Exit, Failure};

pub(super) fn run() -> Result<Exit, Failure> {
    // A reader who left early has what it wanted.
    let _left = std::io::stdout()
        .lock()
        .write_all(openapi::text().as_bytes());
    Ok(Exit::Done)
}
