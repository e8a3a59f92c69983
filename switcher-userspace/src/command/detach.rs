//! `switcher detach`: programs and pins out of the kernel, without the agent.

use crate::cli::DetachArgs;
use crate::datapath::detach::{Detached, detach};
use crate::exit::{Exit, Failure};
use crate::output::Output;

pub(super) fn run(args: &DetachArgs, output: &Output) -> Result<Exit, Failure> {
    let done = detach(&args.bpffs, args.force)?;
    output.print(&done, |_| said(&done))?;
    Ok(Exit::Done)
}

fn said(done: &Detached) -> String {
    let Detached {
        interfaces,
        maps,
        broken,
    } = done;
    let mut text = match (interfaces.is_empty(), maps) {
        (true, false) => "nothing was attached or pinned".into(),
        (true, true) => "no program was attached; the maps are removed".into(),
        (false, _) => format!(
            "detached from {}; the maps are removed",
            interfaces.join(", ")
        ),
    };
    for service in broken {
        text.push_str("\nclients lost ");
        text.push_str(service);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_lost_is_said() {
        let done = Detached {
            interfaces: vec!["eth0".into(), "eth1".into()],
            maps: true,
            broken: vec!["shop/web: green is live and reached by rewriting".into()],
        };
        let text = said(&done);
        assert!(text.starts_with("detached from eth0, eth1;"), "{text}");
        assert!(text.ends_with("clients lost shop/web: green is live and reached by rewriting"));
        assert_eq!(said(&Detached::default()), "nothing was attached or pinned");
    }
}
