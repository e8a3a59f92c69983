//! Whether clients on this host can be steered, too.

use super::Check;
use crate::config::AgentConfig;
use crate::datapath::clients;
use crate::datapath::pins::Pins;

pub(super) fn check(agent: &AgentConfig) -> Check {
    const NAME: &str = "local clients";
    if !agent.local_clients {
        return Check::ok(
            NAME,
            "off: clients on this host reach whoever listens on a VIP",
        );
    }
    match clients::cgroup(agent.cgroup.as_deref()) {
        Ok(cgroup) => {
            let attached = match clients::attached(&Pins::new(&agent.bpffs)) {
                true => "attached",
                false => "not attached yet",
            };
            Check::ok(NAME, format!("by cgroup {}, {attached}", cgroup.display()))
        }
        Err(error) => Check::unknown(
            NAME,
            format!("{error:#}"),
            "until then clients on this host reach whoever listens on a VIP; all others are steered",
        ),
    }
}
