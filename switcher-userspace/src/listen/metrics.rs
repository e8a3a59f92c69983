//! The agent's status as OpenMetrics.

use std::sync::atomic::AtomicU64;

use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode as encode_text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use switcher_common::verdict::Reason;

use crate::agent::Shown;
use crate::api::model::{ColourStatus, DifferenceKind, GroupStatus, Status};

/// What a group can be in the middle of.
const PHASES: [&str; 10] = [
    "idle",
    "preparing",
    "switching",
    "confirming",
    "baking",
    "holding",
    "draining",
    "rolling-back",
    "paused",
    "degraded",
];

type Gauges<L> = Family<L, Gauge<f64, AtomicU64>>;
type Counters<L> = Family<L, Counter>;

macro_rules! labels {
    ($($name:ident { $($label:ident),+ })+) => {$(
        #[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
        struct $name { $($label: String),+ }
    )+};
}

labels! {
    OfGroup { group }
    OfColour { group, colour }
    OfPhase { group, phase }
    OfEndpoint { group, colour, service, address }
    OfHook { group, hook }
    OfInterface { interface, xdp }
    OfKind { kind }
    OfReason { reason }
}

/// All metrics there are, as text. Of families without a sample there is nothing in it.
pub(super) fn encode(shown: &Shown) -> String {
    let mut text = String::new();
    match encode_text(&mut text, &registry(shown)) {
        Ok(()) => text,
        // Strings take everything.
        Err(_) => String::new(),
    }
}

/// All metrics there are.
pub(super) fn registry(shown: &Shown) -> Registry {
    let mut registry = Registry::with_prefix("switcher");
    let Shown { status, .. } = shown;
    let build = Info::new(vec![("version", status.agent.version.clone())]);
    registry.register("build", "This program", build);
    of_agent(&mut registry, shown);
    of_groups(&mut registry, &status.groups);
    of_colours(&mut registry, &status.groups);
    of_endpoints(&mut registry, &status.groups);
    of_reasons(&mut registry, status);
    shown.meters.register(&mut registry);
    registry
}

fn gauges<L>(registry: &mut Registry, name: &str, help: &str) -> Gauges<L>
where
    L: Clone + std::hash::Hash + Eq + EncodeLabelSet + std::fmt::Debug + Send + Sync + 'static,
{
    let family = Gauges::<L>::default();
    registry.register(name, help, family.clone());
    family
}

fn counters<L>(registry: &mut Registry, name: &str, help: &str) -> Counters<L>
where
    L: Clone + std::hash::Hash + Eq + EncodeLabelSet + std::fmt::Debug + Send + Sync + 'static,
{
    let family = Counters::<L>::default();
    registry.register(name, help, family.clone());
    family
}

fn of_agent(registry: &mut Registry, shown: &Shown) {
    let Shown {
        status,
        differences,
        ..
    } = shown;
    let attached = gauges(
        registry,
        "interface_attached",
        "Whether the programs are on an interface",
    );
    for it in &status.interfaces {
        let labels = OfInterface {
            interface: it.name.clone(),
            xdp: it.xdp.clone(),
        };
        attached.get_or_create(&labels).set(truth(it.attached));
    }
    let help = "What is not as the agent has left it, when it was compared last";
    let drift = gauges(registry, "drift", help);
    for kind in DifferenceKind::ALL {
        let found = differences.iter().filter(|it| it.kind == kind).count();
        let kind = kind.name().to_owned();
        drift.get_or_create(&OfKind { kind }).set(found as f64);
    }
    let pending = Gauge::<f64, AtomicU64>::default();
    pending.set(truth(status.agent.pending.is_some()));
    let help = "Whether the configuration asks for what the kernel doesn't have yet";
    registry.register("configuration_pending", help, pending);
    let Some(masquerade) = &status.masquerade else {
        return;
    };
    for (name, help, value) in [
        (
            "masquerade_flows",
            "Masqueraded flows that are remembered",
            masquerade.flows,
        ),
        (
            "masquerade_capacity",
            "Masqueraded flows that there is room for",
            masquerade.capacity,
        ),
    ] {
        let gauge = Gauge::<f64, AtomicU64>::default();
        gauge.set(value as f64);
        registry.register(name, help, gauge);
    }
}

fn of_groups(registry: &mut Registry, groups: &[GroupStatus]) {
    let phase = gauges(
        registry,
        "group_phase",
        "1 for what a group is in the middle of",
    );
    let eligible = gauges(
        registry,
        "rollback_eligible",
        "Whether a rollback would do good",
    );
    let revision = gauges(
        registry,
        "group_revision",
        "Counts changes of the live colour",
    );
    let help = "What keeps a group from serving its clients as it should";
    let degraded = gauges(registry, "group_degraded", help);
    let help = "Events that a receiver has not taken yet";
    let outbox = gauges(registry, "hook_outbox", help);
    let help = "When a switch undoes itself unless it is confirmed, in seconds since 1970";
    let confirm = gauges(registry, "confirm_deadline_seconds", help);
    let help = "How full the flow map of a group's window is, from 0 to 1";
    let used = gauges(registry, "flow_map_used_ratio", help);
    for it in groups {
        let group = OfGroup {
            group: it.name.clone(),
        };
        for name in PHASES {
            let labels = OfPhase {
                group: it.name.clone(),
                phase: name.to_owned(),
            };
            phase.get_or_create(&labels).set(truth(it.phase == name));
        }
        eligible
            .get_or_create(&group)
            .set(truth(it.rollback.eligible));
        revision.get_or_create(&group).set(it.revision as f64);
        degraded.get_or_create(&group).set(it.degraded.len() as f64);
        for lane in &it.outbox {
            let labels = OfHook {
                group: it.name.clone(),
                hook: lane.hook.clone(),
            };
            outbox.get_or_create(&labels).set(lane.waiting as f64);
        }
        if let Some(by) = it.cutover.as_ref().and_then(|it| it.confirm_by) {
            confirm.get_or_create(&group).set(seconds(by));
        }
        let map = it.window.as_ref().map_or(0.0, |it| it.flow_map_used);
        used.get_or_create(&group).set(map);
    }
}

fn of_colours(registry: &mut Registry, groups: &[GroupStatus]) {
    let live = gauges(
        registry,
        "group_live",
        "1 for the colour that new connections go to",
    );
    let share = gauges(
        registry,
        "canary_share_ratio",
        "The share of new connections that a canary has",
    );
    let packets = counters(registry, "packets", "Packets from clients");
    let bytes = counters(registry, "bytes", "Bytes of packets from clients");
    let connections = counters(
        registry,
        "connections",
        "TCP connections and UDP flows begun",
    );
    let resets = counters(registry, "resets", "TCP resets seen from endpoints");
    let flows = gauges(
        registry,
        "flows",
        "Flows that are there now, as far as the kernel knows",
    );
    let help = "When the last packet of a client was seen, in seconds since 1970";
    let last = gauges(registry, "last_packet_timestamp_seconds", help);
    for (group, name, colour) in each(groups) {
        let labels = of_colour(group, name);
        live.get_or_create(&labels).set(truth(group.live == *name));
        let canary = group.canary.as_ref().filter(|it| it.colour == *name);
        let percent = canary.map_or(0, |it| it.percent);
        share.get_or_create(&labels).set(f64::from(percent) / 100.0);
        for (counter, count) in [
            (&packets, colour.packets),
            (&bytes, colour.bytes),
            (&connections, colour.connections),
            (&resets, colour.resets),
        ] {
            counter.get_or_create(&labels).inc_by(count);
        }
        if let Some(count) = colour.flows {
            flows.get_or_create(&labels).set(count as f64);
        }
        if let Some(at) = colour.last_packet_at {
            last.get_or_create(&labels).set(seconds(at));
        }
    }
}

fn of_endpoints(registry: &mut Registry, groups: &[GroupStatus]) {
    let up = gauges(
        registry,
        "endpoint_up",
        "Whether an endpoint passes its checks",
    );
    for (group, name, colour) in each(groups) {
        for it in &colour.endpoints {
            let labels = OfEndpoint {
                group: group.name.clone(),
                colour: name.clone(),
                service: it.service.clone(),
                address: it.address.clone(),
            };
            if let Some(healthy) = it.healthy {
                up.get_or_create(&labels).set(truth(healthy));
            }
        }
    }
}

fn of_reasons(registry: &mut Registry, status: &Status) {
    let drops = counters(registry, "drops", "Packets of services that were dropped");
    let noticed = counters(
        registry,
        "noticed",
        "Packets that passed for a reason, or were treated unusually",
    );
    for reason in Reason::ALL.iter().filter(|reason| reason.counted()) {
        let family = if reason.drops() { &drops } else { &noticed };
        let count = status.reasons.get(reason.label()).copied();
        let reason = reason.label().to_owned();
        family
            .get_or_create(&OfReason { reason })
            .inc_by(count.unwrap_or(0));
    }
}

fn each(groups: &[GroupStatus]) -> impl Iterator<Item = (&GroupStatus, &String, &ColourStatus)> {
    groups.iter().flat_map(|group| {
        let colours = group.colours.iter();
        colours.map(move |(name, colour)| (group, name, colour))
    })
}

fn of_colour(group: &GroupStatus, colour: &str) -> OfColour {
    OfColour {
        group: group.name.clone(),
        colour: colour.to_owned(),
    }
}

fn truth(it: bool) -> f64 {
    f64::from(u8::from(it))
}

fn seconds(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1000.0
}
