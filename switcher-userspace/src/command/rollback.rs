//! `switcher rollback GROUP [--hard]`.

use super::change;
use crate::api::model::ChangeRequest;
use crate::cli::{Globals, RollbackArgs};
use crate::exit::{Exit, Failure};
use crate::output::Output;

pub(super) fn run(globals: &Globals, output: &Output, args: RollbackArgs) -> Result<Exit, Failure> {
    let RollbackArgs {
        group,
        hard,
        change,
        wait,
    } = args;
    let request = ChangeRequest {
        hard,
        ..change::request(change)
    };
    change::run(globals, output, ("rollback", &group), &request, &wait)
}
