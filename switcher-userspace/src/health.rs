//! Whether endpoints can serve: asked all the time, shown in `status`, demanded by `flip`.
//!
//! One task per endpoint probes it and tells each verdict; the agent keeps them in a [`Book`].

mod book;
mod exec;
mod monitor;
mod probe;
mod tally;

use std::net::SocketAddr;

pub use book::{Book, Verdict};
pub use monitor::Monitor;
pub use tally::{Change, Tally};

use crate::config::{Config, GroupConfig, HealthKind, Protocol};

/// An endpoint that is probed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// Its group.
    pub group: String,
    /// Its service.
    pub service: String,
    /// Its colour.
    pub colour: String,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Target {
    /// Before all others of its group, in their order.
    fn first_of(group: &str) -> Self {
        Self {
            group: group.to_owned(),
            service: String::new(),
            colour: String::new(),
            address: SocketAddr::from(([0; 4], 0)),
        }
    }
}

/// What is to be thought of an endpoint when buckets are dealt out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// It passes, or nobody asks.
    #[default]
    Up,
    /// It isn't known: too few probes in a row have agreed.
    Unknown,
    /// It answers, but not as it should: its connections go on, new ones had better go elsewhere.
    Failing,
    /// Nothing answers there: its flows are lost.
    Dead,
}

/// What a probe came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The endpoint.
    pub target: Target,
    /// Whether it counts as healthy now; not known before the first conclusive probes.
    pub healthy: Option<bool>,
    /// Why the last probe failed.
    pub reason: Option<String>,
    /// What that makes it for the tables.
    pub standing: Standing,
}

/// The endpoints of a configuration that are probed. UDP says nothing to a stranger, so its endpoints
/// are not unless a program checks them, and neither are those of groups that ask for no checks.
pub fn targets(config: &Config) -> impl Iterator<Item = (Target, &GroupConfig)> {
    let groups = config.groups.values();
    groups
        .filter(|group| group.health.kind != HealthKind::None)
        .flat_map(|group| {
            let all = matches!(group.health.kind, HealthKind::Exec(_));
            let services = group.services.values();
            let tcp = services.filter(move |it| all || it.protocol == Protocol::Tcp);
            tcp.flat_map(move |service| {
                service
                    .endpoints
                    .iter()
                    .flat_map(move |(colour, endpoints)| {
                        endpoints.iter().map(move |endpoint| {
                            let target = Target {
                                group: group.name.clone(),
                                service: service.name.clone(),
                                colour: colour.clone(),
                                address: endpoint.address,
                            };
                            (target, group)
                        })
                    })
            })
        })
}
