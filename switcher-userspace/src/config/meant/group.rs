//! A group: its defaults, and what fits together within it.

use std::net::SocketAddr;
use std::time::Duration;

use humantime::format_duration;

use super::colours::colours;
use super::hooks;
use crate::config::report::{Place, Report, Typed};
use crate::config::typed::{
    TypedBake, TypedBudget, TypedColour, TypedDrain, TypedEndpoint, TypedGate, TypedGroup,
    TypedHealth, TypedHold, TypedKind, TypedService,
};
use crate::config::{
    Drain, EndpointConfig, Forward, GroupConfig, HashMode, Health, HealthKind, Prefix, Program,
    Protocol, ServiceConfig, UdpMode,
};
use crate::release::{Bake, DEFAULT_BAKE, FlapBudget, GateRule, Hold, ROLLBACK};

const ARM: Duration = Duration::from_secs(3);
const LEARN: Duration = Duration::from_secs(2 * 60);
const DEADLINE: Duration = Duration::from_secs(3600);
const HEALTH_INTERVAL: Duration = Duration::from_secs(1);
const HEALTH_TIMEOUT: Duration = Duration::from_secs(1);
const RISE: u32 = 2;
const FALL: u32 = 3;

/// The group, or nothing if a part could not be understood; which is reported.
pub(super) fn mean(group: TypedGroup, report: &Report<'_>) -> Option<GroupConfig> {
    let colours = colours(&group, report);
    let has_tcp = group.services.is_empty() || group.services.iter().any(may_be_tcp);
    let TypedGroup {
        name,
        initial,
        colours: _,
        confirm_within,
        freeze,
        bake,
        canary,
        gates,
        flap_budget,
        automatic_after,
        drain: typed,
        health,
        hooks: called,
        services,
    } = group;
    let drain = drain(&typed, report);
    let health = mean_health(health, has_tcp, report);
    let is_none = health.kind == HealthKind::None;
    if let Some(after) = automatic_after.as_ref().filter(|_| is_none) {
        let message = "nothing is checked, so nothing speaks for a release";
        let advice = "choose health.kind tcp, http or exec, or remove the key";
        report.error(&after.at, message, advice);
    }
    if let Some(bake) = bake.as_ref().filter(|_| is_none && !has_tcp) {
        let message = "nothing is checked, and nothing is TCP: there is nothing to watch";
        let advice = "choose health.kind exec, or remove the key";
        report.error(&bake.at, message, advice);
    }
    let services: Vec<_> = services.into_iter().map(|s| service(s, report)).collect();
    let services: Option<Vec<_>> = services.into_iter().collect();
    Some(GroupConfig {
        name: name.value,
        initial: initial?.value,
        colours,
        confirm_within: confirm_within.map(|typed| typed.value),
        freeze: freeze.map(|typed| typed.value),
        bake: bake.and_then(mean_bake),
        canary: canary.map(|it| mean_canary(it, report)).unwrap_or_default(),
        gates: gates.into_iter().map(|it| gate(it, report)).collect(),
        flap_budget: flap_budget.and_then(budget),
        automatic_after: automatic_after.map(|typed| typed.value),
        drain,
        health,
        hooks: hooks::mean(called, report),
        services: services?
            .into_iter()
            .map(|service| (service.name.clone(), service))
            .collect(),
    })
}

/// Closed if nothing is said: it is there to be opened.
fn gate(typed: TypedGate, report: &Report<'_>) -> (String, GateRule) {
    let opens = typed.default.as_ref().filter(|default| default.value);
    if let Some(default) = opens.filter(|_| typed.name.value == ROLLBACK) {
        let message = "who polls this gate goes back while it is open, so always";
        report.error(
            &default.at,
            message,
            "remove the key: it is closed until somebody opens it",
        );
    }
    let rule = GateRule {
        open: typed.default.is_some_and(|default| default.value),
        expires: typed.expires.map(|expires| expires.value),
    };
    (typed.name.value, rule)
}

fn mean_bake(typed: TypedBake) -> Option<Bake> {
    let or = |typed: Option<Typed<u32>>, default| typed.map_or(default, |typed| typed.value);
    Some(Bake {
        time: typed.time?.value,
        resets: or(typed.resets, DEFAULT_BAKE.resets),
        failed: or(typed.failed, DEFAULT_BAKE.failed),
        sample: or(typed.sample, DEFAULT_BAKE.sample),
    })
}

/// Each share larger than the one before.
fn mean_canary(typed: Vec<TypedHold>, report: &Report<'_>) -> Vec<Hold> {
    let mut holds: Vec<Hold> = Vec::new();
    for TypedHold { percent, time } in typed {
        let (Some(percent), Some(time)) = (percent, time) else {
            continue;
        };
        if holds
            .last()
            .is_some_and(|last| last.percent >= percent.value)
        {
            let message = format!("{} % is no larger share than the one before", percent.value);
            report.error(&percent.at, message, "order the steps by their shares");
        }
        holds.push(Hold {
            percent: percent.value,
            time: time.value,
        });
    }
    holds
}

fn budget(typed: TypedBudget) -> Option<FlapBudget> {
    Some(FlapBudget {
        switches: typed.switches?.value,
        within: typed.within?.value,
    })
}

fn drain(typed: &TypedDrain, report: &Report<'_>) -> Drain {
    let value = |typed: &Option<Typed<Duration>>| typed.as_ref().map(|typed| typed.value);
    let learn = value(&typed.learn).unwrap_or(LEARN);
    let deadline = value(&typed.deadline).unwrap_or(DEADLINE);
    if let Some(at) = typed.deadline.as_ref().or(typed.learn.as_ref())
        && deadline < learn
    {
        let message = format!(
            "the deadline, {}, comes before the end of learn, {}",
            format_duration(deadline),
            format_duration(learn)
        );
        let advice = format_args!("choose a deadline of at least {}", format_duration(learn));
        report.error(&at.at, message, advice);
    }
    Drain {
        arm: value(&typed.arm).unwrap_or(ARM),
        learn,
        deadline,
    }
}

fn mean_health(typed: TypedHealth, has_tcp: bool, report: &Report<'_>) -> Health {
    let TypedHealth {
        kind,
        path,
        interval,
        timeout,
        rise,
        fall,
        exec,
        user,
        min_healthy,
    } = typed;
    if let Some(kind) = &kind
        && matches!(kind.value, TypedKind::Tcp | TypedKind::Http)
        && !has_tcp
    {
        let message = "no service of this group is TCP: nothing answers a tcp or http check";
        report.error(&kind.at, message, "choose kind = \"exec\" or \"none\"");
    }
    let default = if has_tcp {
        TypedKind::Tcp
    } else {
        TypedKind::None
    };
    let at = kind.as_ref().map(|kind| kind.at.clone());
    let kind = kind.map_or(default, |kind| kind.value);
    match (&exec, at) {
        (Some(exec), _) if kind != TypedKind::Exec => report.error(
            &exec.at,
            "only exec checks have a program",
            "choose kind = \"exec\", or remove it",
        ),
        (None, Some(at)) if kind == TypedKind::Exec => report.error(
            &at,
            "an exec check needs a program",
            "name it: exec = [\"/usr/local/bin/check\"]",
        ),
        _ => {}
    }
    if let Some(user) = user.as_ref().filter(|_| kind != TypedKind::Exec) {
        report.error(
            &user.at,
            "only programs run as somebody",
            "choose kind = \"exec\", or remove it",
        );
    }
    if let Some(path) = path.as_ref().filter(|_| kind != TypedKind::Http) {
        report.error(
            &path.at,
            "only http checks have a path",
            "choose kind = \"http\", or remove it",
        );
    }
    Health {
        kind: match kind {
            TypedKind::None => HealthKind::None,
            TypedKind::Tcp => HealthKind::Tcp,
            TypedKind::Http => HealthKind::Http {
                path: path.map_or("/".into(), |path| path.value),
            },
            TypedKind::Exec => HealthKind::Exec(Program {
                argv: exec.map(|exec| exec.value).unwrap_or_default(),
                user: user.map(|user| user.value),
            }),
        },
        interval: interval.map_or(HEALTH_INTERVAL, |interval| interval.value),
        timeout: timeout.map_or(HEALTH_TIMEOUT, |timeout| timeout.value),
        rise: rise.map_or(RISE, |rise| rise.value),
        fall: fall.map_or(FALL, |fall| fall.value),
        min_healthy: min_healthy.map_or(Duration::ZERO, |it| it.value),
    }
}

/// A vip that could not be understood may be either.
fn may_be_tcp(service: &TypedService) -> bool {
    service
        .vip
        .as_ref()
        .is_none_or(|vip| vip.value.1 == Protocol::Tcp)
}

fn service(typed: TypedService, report: &Report<'_>) -> Option<ServiceConfig> {
    let TypedService {
        name,
        vip,
        forward,
        hash,
        tunnel_source,
        udp,
        preview,
        endpoints,
    } = typed;
    let (vip, protocol) = vip?.value;
    if let Some(udp) = udp.as_ref().filter(|_| protocol != Protocol::Udp) {
        report.error(
            &udp.at,
            "this service is TCP",
            "remove the key, or make the vip /udp",
        );
    }
    let forward = forward.map_or(Forward::Auto, |forward| forward.value);
    let preview_address = preview.iter().map(|preview| (&preview.at, preview.value));
    let servers = endpoints.iter().flat_map(|colour| &colour.endpoints);
    let servers = servers.map(|endpoint| (&endpoint.address.at, endpoint.address.value));
    if forward == Forward::Ipip {
        one_family(vip, preview_address, report);
        fit_inside(vip, servers.clone(), report);
    } else {
        one_family(vip, preview_address.chain(servers.clone()), report);
    }
    if let Some(source) = &tunnel_source {
        check_source(source, forward, servers.map(|(_, server)| server), report);
    }
    Some(ServiceConfig {
        name: name.value,
        vip,
        protocol,
        forward,
        tunnel_source: tunnel_source.map(|source| source.value),
        hash: hash.map_or(HashMode::Flow, |hash| hash.value),
        udp: udp.map_or(UdpMode::Flow, |udp| udp.value),
        preview: preview.map(|preview| preview.value),
        endpoints: endpoints.into_iter().map(colour).collect(),
    })
}

/// A packet keeps its family on its way.
fn one_family<'a>(
    vip: SocketAddr,
    others: impl Iterator<Item = (&'a Place, SocketAddr)>,
    report: &Report<'_>,
) {
    for (at, other) in others.filter(|(_, other)| other.is_ipv6() != vip.is_ipv6()) {
        let advice = "give each family a service of its own; a group switches both at once";
        report.error(at, families(vip, other), advice);
    }
}

fn families(vip: SocketAddr, other: SocketAddr) -> String {
    let family = |address: SocketAddr| if address.is_ipv6() { "IPv6" } else { "IPv4" };
    format!(
        "{other} is {}, and the vip {vip} {}",
        family(other),
        family(vip)
    )
}

/// Packets travel inside those of their own family, or IPv4 inside IPv6.
fn fit_inside<'a>(
    vip: SocketAddr,
    servers: impl Iterator<Item = (&'a Place, SocketAddr)>,
    report: &Report<'_>,
) {
    for (at, server) in servers.filter(|(_, server)| vip.is_ipv6() && server.is_ipv4()) {
        let advice = "IPv6 does not travel inside IPv4 here: give the endpoint's IPv6 address";
        report.error(at, families(vip, server), advice);
    }
}

/// Outer headers are of the endpoints' family.
fn check_source(
    source: &Typed<Prefix>,
    forward: Forward,
    mut servers: impl Iterator<Item = SocketAddr>,
    report: &Report<'_>,
) {
    if forward != Forward::Ipip {
        let message = "only packets of forward = \"ipip\" have an outer header";
        report.error(&source.at, message, "remove the key, or choose \"ipip\"");
        return;
    }
    let v4 = source.value.address.is_ipv4();
    if let Some(server) = servers.find(|server| server.is_ipv4() != v4) {
        report.error(
            &source.at,
            format_args!("not of the family of endpoint {server}"),
            "choose a prefix of its family, and endpoints of one family",
        );
    }
}

fn colour(typed: TypedColour) -> (String, Vec<EndpointConfig>) {
    let endpoint = |typed: &TypedEndpoint| EndpointConfig {
        address: typed.address.value,
        weight: typed.weight.as_ref().map_or(1, |weight| weight.value),
    };
    (
        typed.name.value,
        typed.endpoints.iter().map(endpoint).collect(),
    )
}
