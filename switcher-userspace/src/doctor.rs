//! Checks of this host: each is fine, a problem with what to do, or unknown with why.

mod clients;
mod interface;
mod machine;
mod masquerade;
mod pinned;
mod redirect;
mod way;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use serde::Serialize;

use self::interface::Families;
pub(crate) use self::interface::suited;
pub(crate) use self::redirect::takes_no_xdp;
use crate::config::{self, Config, DEFAULT_BPFFS, Forward};
use crate::host::OwnAddresses;
use crate::reconcile::Want;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// In the way.
    Problem,
    /// Could not be told, or is for a person to judge.
    Unknown,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// How it came out.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What to do about it; empty if nothing.
    pub advice: String,
    /// Where more about it stands, in the project's tree; none if it is as it should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub see: Option<String>,
}

/// Sections of `docs/doctor.md`: what checks are about.
pub const TOPICS: [&str; 23] = [
    "kernel",
    "kernel-types",
    "jit",
    "capabilities",
    "bpf-file-system",
    "other-versions",
    "pins",
    "configuration",
    "endpoints",
    "interface",
    "xdp-mode",
    "xdp-program",
    "mtu",
    "forwarding",
    "reverse-path-filter",
    "gro",
    "offloads",
    "forwarding-to-an-interface",
    "masquerade-ports",
    "local-clients",
    "way-to-an-endpoint",
    "service-on-its-endpoints",
    "firewall",
];

/// All checks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// In the order in which things build on each other.
    pub checks: Vec<Check>,
    /// How many are problems.
    pub problems: usize,
}

impl Check {
    fn ok(name: impl Into<String>, found: impl Into<String>) -> Self {
        Self::new(name, State::Ok, found, "")
    }

    fn problem(name: impl Into<String>, found: impl Into<String>, advice: &str) -> Self {
        Self::new(name, State::Problem, found, advice)
    }

    fn unknown(name: impl Into<String>, found: impl Into<String>, advice: &str) -> Self {
        Self::new(name, State::Unknown, found, advice)
    }

    fn new(name: impl Into<String>, state: State, found: impl Into<String>, advice: &str) -> Self {
        Self {
            name: name.into(),
            state,
            found: found.into(),
            advice: advice.into(),
            see: None,
        }
    }

    /// Names its section of the page, if there is something to read up.
    fn about(mut self, topic: &'static str) -> Self {
        debug_assert!(TOPICS.contains(&topic), "{topic}");
        self.see = (self.state != State::Ok).then(|| format!("docs/doctor.md#{topic}"));
        self
    }
}

/// Checks this host, and what a configuration file needs of it.
#[must_use]
pub fn examine(file: Option<&Path>) -> Report {
    let mut checks = machine::checks();
    match file.map(config::load) {
        None => checks.extend(pinned::checks(Path::new(DEFAULT_BPFFS))),
        Some(Ok(config)) => {
            checks.push(Check::ok("configuration", "valid").about("configuration"));
            checks.extend(pinned::checks(&config.agent.bpffs));
            checks.extend(of_config(&config));
        }
        Some(Err(errors)) => {
            let advice = "the rest of the file's needs were not checked";
            let check = Check::problem("configuration", errors.to_string(), advice);
            checks.push(check.about("configuration"));
        }
    }
    let problems = checks.iter().filter(|check| check.state == State::Problem);
    Report {
        problems: problems.count(),
        checks,
    }
}

fn of_config(config: &Config) -> Vec<Check> {
    let mut checks = vec![forwarding(config).about("endpoints")];
    let services = || {
        config
            .groups
            .values()
            .flat_map(|group| group.services.values())
    };
    let own = OwnAddresses::read().ok();
    let is_own = |address| own.as_ref().is_some_and(|own| own.contains(address));
    let uses = |forward: Forward, v6| {
        services().any(|service| {
            service.vip.is_ipv6() == v6 && config::resolve(service, is_own) == Ok(forward)
        })
    };
    let masquerades = uses(Forward::Masquerade, false) || uses(Forward::Masquerade, true);
    let forwards = |v6| uses(Forward::Routed, v6) || uses(Forward::Masquerade, v6);
    // Of endpoints: what travels inside other packets may be of another family.
    let keeps_vip = |v6| {
        let mut direct = services().filter(|it| it.forward.keeps_vip());
        direct.any(|it| {
            let mut endpoints = it.endpoints.values().flatten();
            endpoints.any(|endpoint| endpoint.address.is_ipv6() == v6)
        })
    };
    let families = |direct| Families {
        v4: if direct {
            keeps_vip(false)
        } else {
            forwards(false)
        },
        v6: if direct {
            keeps_vip(true)
        } else {
            forwards(true)
        },
    };
    let (routed, direct) = (families(false), families(true));
    for wanted in &config.agent.interfaces {
        checks.extend(interface::checks(&config.agent, wanted, routed, direct));
    }
    checks.extend(dead_ends(config));
    if masquerades {
        let check = masquerade::check(&config.agent.masquerade.ports);
        checks.push(check.about("masquerade-ports"));
    }
    checks.push(clients::check(&config.agent).about("local-clients"));
    checks.extend(way::checks(config));
    if !routed.any() && !direct.any() {
        let firewall = Check::unknown(
            "firewall",
            "rules are not read",
            "a firewall sees packets after they were rewritten: it has to let clients reach the \
             endpoints' ports, not only those of the VIPs",
        );
        checks.push(firewall.about("firewall"));
    }
    checks
}

/// Interfaces at which packets would get lost without anybody being told.
pub(crate) fn dead_ends(config: &Config) -> Vec<Check> {
    let own = OwnAddresses::read().ok();
    let is_own = |address| own.as_ref().is_some_and(|own| own.contains(address));
    let services = config.groups.values();
    let services = services.flat_map(|group| group.services.values());
    let elsewhere = services.filter(|it| config::resolve(it, is_own) != Ok(Forward::Local));
    let endpoints = elsewhere.flat_map(|service| service.endpoints.values().flatten());
    let endpoints = endpoints.map(|endpoint| endpoint.address.ip());
    let others: BTreeSet<IpAddr> = endpoints.filter(|address| !is_own(*address)).collect();
    match others.is_empty() {
        true => Vec::new(),
        false => redirect::checks(&config.agent, others.into_iter()),
    }
}

/// Whether every service's endpoints can be reached the way the file says.
fn forwarding(config: &Config) -> Check {
    const NAME: &str = "endpoints";
    let own = match OwnAddresses::read() {
        Ok(own) => own,
        Err(error) => return Check::unknown(NAME, format!("own addresses: {error}"), ""),
    };
    match Want::new(config, |address| own.contains(address)) {
        Ok(_) => Check::ok(NAME, "reachable the way `forward` says"),
        Err(refusal) => Check::problem(NAME, refusal.to_string(), ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_as_it_should_be_names_its_page() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("switcher.toml");
        let text = include_str!("config/tests/full.toml");
        std::fs::write(&file, text).expect("is written");
        let mut checks = examine(Some(&file)).checks;
        std::fs::write(&file, "[agent").expect("is written");
        checks.extend(examine(Some(&file)).checks);
        let told = checks.iter().filter(|it| it.state != State::Ok);
        assert!(told.clone().count() > 4, "{checks:?}");
        for check in told {
            assert!(check.see.is_some(), "{check:?}");
        }
    }
}
