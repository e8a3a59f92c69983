//! `switcher emergency GROUP COLOUR`: the word stored directly, agent or no agent.

use std::time::Duration;

use crate::cli::EmergencyArgs;
use crate::datapath::emergency::{Emergency, emergency};
use crate::exit::{Exit, Failure};
use crate::output::Output;

pub(super) fn run(args: &EmergencyArgs, output: &Output) -> Result<Exit, Failure> {
    let done = emergency(&args.bpffs, &args.group, &args.colour)?;
    output.print(&done, |_| said(&done))?;
    Ok(Exit::Done)
}

fn said(done: &Emergency) -> String {
    let Emergency {
        group,
        from,
        to,
        store_to_settled_us,
    } = done;
    if from == to {
        return format!("{group}: {to} is live already");
    }
    let settled = Duration::from_micros(*store_to_settled_us);
    format!(
        "{group}: {from} -> {to}, settled after {settled:?}. Existing connections stay where they \
         began; the agent records this when it is back"
    )
}
