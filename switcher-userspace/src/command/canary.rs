//! `switcher canary GROUP COLOUR PERCENT`, or `--policy`.

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
        policy,
        force,
        change,
        wait,
    } = args;
    let request = ChangeRequest {
        to: Some(colour),
        percent,
        policy,
        force,
        ..change::request(change)
    };
    change::run(globals, output, ("canary", &group), &request, &wait)
}
