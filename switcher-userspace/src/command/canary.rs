//! `switcher canary GROUP COLOUR PERCENT`.

use super::change;
use crate::api::model::ChangeRequest;
use crate::cli::{CanaryArgs, Globals};
use crate::exit::{Exit, Failure};
use crate::output::Output;

pub(super) fn run(globals: &Globals, output: &Output, args: CanaryArgs) -> Result<Exit, Failure> {
    let CanaryArgs {
        group,
        colour,
        percent,
        force,
        change,
        wait,
    } = args;
    let request = ChangeRequest {
        to: Some(colour),
        percent: Some(percent),
        force,
        ..change::request(change)
    };
    change::run(globals, output, ("canary", &group), &request, &wait)
}
