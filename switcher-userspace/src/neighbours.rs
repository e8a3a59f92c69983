//! Keeps the link addresses fresh that the program needs and can't ask for.
//!
//! Packets to endpoints that answer clients directly never meet this host's stack, so nothing but this makes
//! the kernel find out where the endpoints are, and notice that one has moved.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{MissedTickBehavior, interval};
use tracing::debug;

use crate::config::Config;
use crate::host::route;

/// Well below the time after which the kernel takes an address for old (`base_reachable_time`, 30 s).
const INTERVAL: Duration = Duration::from_secs(5);

/// Asks for the neighbours on the way to endpoints, again and again.
pub struct Neighbours {
    runtime: Handle,
    wanted: BTreeSet<IpAddr>,
    task: Option<JoinHandle<()>>,
}

impl Neighbours {
    /// Nobody is asked for yet.
    #[must_use]
    pub const fn new(runtime: Handle) -> Self {
        Self {
            runtime,
            wanted: BTreeSet::new(),
            task: None,
        }
    }

    /// From now on those of this configuration.
    pub fn sync(&mut self, config: &Config) {
        let wanted = wanted(config);
        if wanted == self.wanted {
            return;
        }
        self.stop();
        if !wanted.is_empty() {
            self.task = Some(self.runtime.spawn(keep(wanted.clone())));
        }
        self.wanted = wanted;
    }

    fn stop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

impl Drop for Neighbours {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Endpoints that answer clients directly, this host itself excepted.
fn wanted(config: &Config) -> BTreeSet<IpAddr> {
    let services = config.groups.values().flat_map(|it| it.services.values());
    services
        .filter(|service| service.forward.keeps_vip())
        .flat_map(|service| {
            let endpoints = service.endpoints.values().flatten();
            let others = endpoints.filter(|endpoint| endpoint.address != service.vip);
            others.map(|endpoint| endpoint.address.ip())
        })
        .collect()
}

async fn keep(wanted: BTreeSet<IpAddr>) {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let wanted = wanted.clone();
        // A few system calls for each; their end is waited for, so that rounds do not pile up.
        let _cancelled = spawn_blocking(move || wanted.into_iter().for_each(ask_for)).await;
    }
}

/// What goes wrong here is seen in the checks, in `doctor`, and in the drops that the program counts.
fn ask_for(address: IpAddr) {
    let asked = match route::way(address) {
        Ok(Some(way)) => route::refresh(way.next(address), way.interface),
        Ok(None) => return,
        Err(error) => Err(error),
    };
    if let Err(error) = asked {
        debug!(%address, "the neighbour on the way can't be asked for: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_endpoints_that_answer_for_themselves_are_wanted() {
        let text = r#"
            [agent]
            interfaces = ["eth0"]
            [groups.shop]
            initial = "blue"
            [groups.shop.services.web]
            vip = "10.0.0.1:80/tcp"
            forward = "dsr"
            endpoints.blue = ["10.0.0.1:80"]
            endpoints.green = ["10.0.0.2:80", "10.0.0.3:80"]
            [groups.shop.services.api]
            vip = "10.0.0.1:81/tcp"
            forward = "routed"
            endpoints.blue = ["10.0.0.4:80"]
            endpoints.green = ["10.0.0.5:80"]
        "#;
        let config = crate::config::parse("test.toml", text.as_bytes()).expect("a good file");
        let all = [IpAddr::from([10, 0, 0, 2]), IpAddr::from([10, 0, 0, 3])];
        assert_eq!(wanted(&config), all.into());
    }
}
