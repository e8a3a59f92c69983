//! `switcher confirm GROUP` and `switcher extend GROUP DURATION`.

use std::time::Duration;

use super::change;
use crate::api::model::ChangeRequest;
use crate::cli::{ChangeArgs, Globals, GroupArgs, WaitArgs};
use crate::exit::{Exit, Failure};
use crate::output::Output;

pub(super) fn run(globals: &Globals, output: &Output, args: GroupArgs) -> Result<Exit, Failure> {
    let GroupArgs { group, change } = args;
    let request = change::request(change);
    let at_once = WaitArgs::default();
    change::run(globals, output, ("confirm", &group), &request, &at_once)
}

pub(super) fn extend(
    globals: &Globals,
    output: &Output,
    group: &str,
    duration: Duration,
    change: ChangeArgs,
) -> Result<Exit, Failure> {
    let request = ChangeRequest {
        duration: Some(change::written(duration)),
        ..change::request(change)
    };
    let at_once = WaitArgs::default();
    change::run(globals, output, ("extend", group), &request, &at_once)
}
