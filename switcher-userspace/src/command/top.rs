//! `switcher top`.

use super::change;
use crate::cli::{Globals, TopArgs};
use crate::client::{Client, converse};
use crate::exit::{Exit, Failure};
use crate::output::{Format, Output};
use crate::top::{Look, screen};

pub(super) fn run(globals: &Globals, output: &Output, args: &TopArgs) -> Result<Exit, Failure> {
    if output.format != Format::Table {
        let why = "it is for people";
        return Err(Failure::new(Exit::Usage, "top", why).advise("use `status` with -o json"));
    }
    let client = Client::new(globals)?;
    let TopArgs {
        interval,
        snapshot,
        width,
        height,
    } = *args;
    if snapshot {
        let frame = converse(screen::snapshot(&client, interval, (width, height)))?;
        output.print(&frame, |_| frame.clone())?;
        return Ok(Exit::Done);
    }
    let look = Look {
        colour: output.colour,
    };
    let said = |of: &crate::top::Change, answer: &_| change::describe(of.verb.name(), answer);
    converse(screen::watch(client, look, interval, said))
}
