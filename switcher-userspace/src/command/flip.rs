//! `switcher flip GROUP [COLOUR]`.

use super::change;
use crate::api::model::ChangeRequest;
use crate::cli::{FlipArgs, Globals};
use crate::exit::{Exit, Failure};
use crate::output::Output;

pub(super) fn run(globals: &Globals, output: &Output, args: FlipArgs) -> Result<Exit, Failure> {
    let FlipArgs {
        group,
        colour,
        force,
        at,
        confirm_within,
        no_confirm,
        no_bake,
        change,
        wait,
    } = args;
    let request = ChangeRequest {
        to: colour,
        force,
        at,
        confirm_within: confirm_within.map(change::written),
        no_confirm,
        no_bake,
        ..change::request(change)
    };
    change::run(globals, output, ("flip", &group), &request, &wait)
}
