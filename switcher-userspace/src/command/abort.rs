//! `switcher abort GROUP`.

use super::change;
use crate::cli::{AbortArgs, Globals};
use crate::exit::{Exit, Failure};
use crate::output::Output;

pub(super) fn run(globals: &Globals, output: &Output, args: AbortArgs) -> Result<Exit, Failure> {
    let AbortArgs {
        group,
        change,
        wait,
    } = args;
    change::run(
        globals,
        output,
        ("abort", &group),
        &change::request(change),
        &wait,
    )
}
