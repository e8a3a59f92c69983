//! `switcher emergency GROUP COLOUR`: the word stored directly, agent or no agent.

use super::change::micros_said;
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
    let settled = micros_said(*store_to_settled_us);
    format!(
        "{group}: {from} -> {to}, settled after {settled}. Existing connections stay where they \
         began; the agent records this when it is back"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_as_a_flip_is() {
        let done = |from: &str| Emergency {
            group: "shop".into(),
            from: from.into(),
            to: "blue".into(),
            store_to_settled_us: 18_405,
        };
        let switched = said(&done("green"));
        let begins = "shop: green -> blue, settled after 18.4 ms. Existing connections";
        assert!(switched.starts_with(begins), "{switched}");
        assert_eq!(said(&done("blue")), "shop: blue is live already");
    }
}
