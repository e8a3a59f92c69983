//! What the programs tell of real packets, with names.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use switcher_common::abi::trace::{MAX_RATE, Trace, TraceFilter, hook, how, verdict};
use switcher_common::abi::{Address, Endpoint, Port, TCP, UDP, endpoint_flags, service_flags};
use switcher_common::parse::Packet;
use switcher_common::select;
use switcher_common::steer::How;
use switcher_common::verdict::Reason;
use switcher_common::word::{Phase, Word};
use utoipa::ToSchema;

use crate::config::Protocol;
use crate::datapath::Have;
use crate::datapath::pinned::Pinned;
use crate::datapath::times::boot_nanoseconds;
use crate::exit::{Exit, Failure};
use crate::host;

/// How old names may be.
const NAMES_KEEP: Duration = Duration::from_secs(2);

/// Which packets are meant. All that is given has to fit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Wanted {
    /// Those of this group's services.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Those of this service of the group, and of its preview.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// From or to this address.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = Ipv4)]
    pub address: Option<IpAddr>,
    /// Bits of the address that count; all if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<u8>,
    /// From or to this port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Of this protocol.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// Also those that concern no service.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub strangers: bool,
    /// Records that a CPU may write in about a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<u32>,
    /// End after so many packets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// End after this long, such as `10s`.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub duration: Option<String>,
}

impl Wanted {
    /// Records a CPU may write in a second, unless it is told otherwise.
    const RATE: u32 = 100;

    /// The filter that the programs understand.
    ///
    /// # Errors
    /// When there is no such group or service, or it makes no sense.
    pub fn filter(&self, have: &Have) -> Result<TraceFilter, Failure> {
        let wrong = |why: String| Failure::new(Exit::Usage, "trace", why);
        let missing = |why: String| Failure::new(Exit::NotFound, "trace", why);
        let mut filter = TraceFilter {
            port: Port::new(self.port.unwrap_or_default()),
            protocol: match self.protocol {
                None => 0,
                Some(Protocol::Tcp) => TCP,
                Some(Protocol::Udp) => UDP,
            },
            strangers: self.strangers.into(),
            rate: self.rate.unwrap_or(Self::RATE),
            ..TraceFilter::default()
        };
        if filter.rate == 0 || filter.rate > MAX_RATE {
            return Err(wrong(format!("a rate is between 1 and {MAX_RATE}")));
        }
        if let Some(address) = self.address {
            let address = address.to_canonical();
            let all = if address.is_ipv4() { 32 } else { 128 };
            let bits = self.prefix.unwrap_or(all);
            if bits > all {
                return Err(wrong(format!("{address} has {all} bits, not {bits}")));
            }
            // IPv4 addresses stand at the end of 128 bits.
            let mask = u128::MAX.checked_shl(u32::from(all - bits)).unwrap_or(0);
            filter.client = address.into();
            filter.mask = Address::v6(mask.to_be_bytes());
        }
        let Some(name) = &self.group else {
            return match self.service {
                Some(_) => Err(wrong("a service is named with its group".to_owned())),
                None => Ok(filter),
            };
        };
        let mut groups = have.groups.iter();
        let (group, _) = groups
            .find(|(_, group)| group.name == *name)
            .ok_or_else(|| missing(format!("there is no group {name}")))?;
        filter.group = group + 1;
        if let Some(service) = &self.service {
            let mut services = have.services.iter();
            let (index, _) = services
                .find(|(_, found)| {
                    found.service.group == *group
                        && found.name == *service
                        && !found.service.has(service_flags::PREVIEW)
                })
                .ok_or_else(|| missing(format!("group {name} has no service {service}")))?;
            filter.service = index + 1;
        }
        Ok(filter)
    }
}

/// A packet that came in or went out, and what became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Seen {
    /// When.
    pub at: Timestamp,
    /// Which CPU saw it.
    pub cpu: u32,
    /// The interface it came in or went out by.
    pub interface: String,
    /// Where it was met: it came in, at `xdp` or at `tc`, or went out, at `egress`.
    pub hook: String,
    /// `tcp`, `udp`, or the number of another protocol.
    pub protocol: String,
    /// TCP flags, such as `SYN` or `ACK PSH`.
    pub flags: Option<String>,
    /// Bytes of its frame.
    pub length: u32,
    /// Its source; without a port where it has none.
    pub source: String,
    /// Its destination, as it was.
    pub destination: String,
    /// What it is to this host: `request`, `preview`, `direct`, `reply` or `not-ours`.
    pub kind: String,
    /// The group.
    pub group: Option<String>,
    /// The service.
    pub service: Option<String>,
    /// The window's phase.
    pub phase: Option<String>,
    /// The slot of the table that new flows use.
    pub slot: Option<u32>,
    /// The flow's bucket in it, and how many there are.
    pub bucket: Option<(u32, u32)>,
    /// The endpoint.
    pub endpoint: Option<SeenEndpoint>,
    /// How it was found: `table`, `window`, `remembered`, `socket`, `refused`, `held`, `paused` or `fragment`.
    pub how: Option<String>,
    /// What was done: `pass`, `deliver`, `forward`, `send` or `drop`.
    pub action: String,
    /// Why it was not rewritten, by the name that `status` has.
    pub reason: Option<String>,
}

/// The endpoint of a packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SeenEndpoint {
    /// Its id.
    pub id: u16,
    /// Where it listens.
    pub address: String,
    /// Its colour.
    pub colour: String,
}

/// The end of a trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ended {
    /// Packets that were told of.
    pub told: u64,
    /// Packets that fitted and were not told of: there were too many at once.
    pub lost: u64,
}

/// Gives names to numbers.
pub struct Names {
    pinned: Pinned,
    have: Have,
    read: Instant,
    interfaces: BTreeMap<u32, String>,
}

impl Names {
    /// As the kernel has them now.
    ///
    /// # Errors
    /// When the maps can't be read.
    pub fn read(pinned: Pinned) -> anyhow::Result<Self> {
        let interfaces = host::interfaces()?.into_iter();
        Ok(Self {
            have: pinned.have()?,
            pinned,
            read: Instant::now(),
            interfaces: interfaces.map(|it| (it.index, it.name)).collect(),
        })
    }

    /// What the kernel has.
    #[must_use]
    pub const fn have(&self) -> &Have {
        &self.have
    }

    /// A record for people and scripts.
    pub fn tell(&mut self, trace: &Trace) -> Seen {
        if !self.knows(trace) && self.read.elapsed() > NAMES_KEEP {
            self.have = self.pinned.have().unwrap_or_default();
            self.read = Instant::now();
        }
        let since = boot_nanoseconds().saturating_sub(trace.at);
        let since = SignedDuration::from_nanos(since.cast_signed());
        let interface = self.interfaces.get(&trace.interface).cloned();
        let endpoint = self.endpoint(trace);
        let seen = Seen {
            at: Timestamp::now() - since,
            cpu: trace.cpu,
            interface: interface.unwrap_or_else(|| trace.interface.to_string()),
            hook: match trace.hook {
                hook::XDP => "xdp",
                hook::TC => "tc",
                _ => "egress",
            }
            .to_owned(),
            protocol: match trace.protocol {
                TCP => "tcp".to_owned(),
                UDP => "udp".to_owned(),
                other => other.to_string(),
            },
            flags: (trace.protocol == TCP && trace.source_port.0 != 0).then(|| flags(trace.flags)),
            length: trace.length,
            source: end(trace.source, trace.source_port),
            destination: end(trace.destination, trace.destination_port),
            kind: kind(trace).to_owned(),
            how: found(trace).map(ToOwned::to_owned),
            action: action(trace, endpoint).to_owned(),
            reason: reason(trace),
            ..Seen::default()
        };
        self.about(trace, endpoint, seen)
    }

    fn knows(&self, trace: &Trace) -> bool {
        trace.how == how::NOBODYS
            || self.have.services.contains_key(&trace.service)
                && (trace.endpoint == 0 || self.have.endpoints.contains_key(&trace.endpoint))
    }

    fn endpoint(&self, trace: &Trace) -> Option<&Endpoint> {
        let chosen = trace.endpoint != 0 && trace.how != How::Paused as u32;
        self.have.endpoints.get(&trace.endpoint).filter(|_| chosen)
    }

    /// With what the service, its group and the endpoint are called.
    fn about(&self, trace: &Trace, endpoint: Option<&Endpoint>, seen: Seen) -> Seen {
        let service = self.have.services.get(&trace.service);
        let Some(service) = service.filter(|_| trace.how != how::NOBODYS) else {
            return seen;
        };
        let preview = service.service.has(service_flags::PREVIEW);
        let group = self.have.groups.get(&service.service.group);
        let word = Word(trace.word);
        // What goes out was steered before.
        let asked = trace.hook != hook::EGRESS && (trace.word != 0 || trace.how < how::NOBODYS);
        let slot = match preview {
            true => word.staging(),
            false => word.current(),
        };
        let table = service.service.tables[slot as usize];
        let bucket = (asked && table.exists()).then(|| {
            let ends = [
                (trace.source, trace.source_port),
                (trace.destination, trace.destination_port),
            ];
            let packet = Packet::made_up(ends[0], ends[1], trace.protocol);
            let hash = select::seeded_hash(&packet, &service.service, self.pinned.seed());
            (table.bucket(hash) - table.first(), 1 << table.bits())
        });
        let kind = match &*seen.kind {
            "request" if preview => "preview",
            other => other,
        };
        Seen {
            kind: kind.to_owned(),
            group: group.map(|group| group.name.clone()),
            service: Some(service.name.clone()),
            phase: asked.then(|| phase(word.phase()).to_owned()),
            slot: asked.then_some(slot),
            bucket,
            endpoint: endpoint.map(|it| SeenEndpoint {
                id: trace.endpoint,
                address: end(it.address, it.port),
                colour: group
                    .and_then(|group| group.colours.get(&it.colour))
                    .map_or_else(|| "?".to_owned(), Clone::clone),
            }),
            ..seen
        }
    }
}

fn end(address: Address, port: Port) -> String {
    match port.number() {
        0 => IpAddr::from(address).to_string(),
        number => SocketAddr::new(address.into(), number).to_string(),
    }
}

fn flags(flags: u8) -> String {
    let names = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"];
    let set = (0..).zip(names).filter(|(bit, _)| flags & 1 << bit != 0);
    set.map(|(_, name)| name).collect::<Vec<_>>().join(" ")
}

const fn kind(trace: &Trace) -> &'static str {
    match trace.how {
        how::NOBODYS => "not-ours",
        how::DIRECT => "direct",
        how::REPLY => "reply",
        _ => "request",
    }
}

/// How an endpoint was found.
fn found(trace: &Trace) -> Option<&'static str> {
    const FRAGMENT: u32 = how::FRAGMENT;
    let all = [
        (How::Current, "table"),
        (How::Unknown, "window"),
        (How::Tag, "remembered"),
        (How::Socket, "socket"),
        (How::Refused, "refused"),
        (How::Held, "held"),
        (How::Paused, "paused"),
    ];
    let name = all.iter().find(|(how, _)| *how as u32 == trace.how);
    match trace.how {
        FRAGMENT => Some("fragment"),
        _ => name.map(|(_, name)| *name),
    }
}

fn action(trace: &Trace, endpoint: Option<&Endpoint>) -> &'static str {
    let elsewhere = endpoint_flags::ROUTED | endpoint_flags::MASQUERADE;
    match trace.verdict {
        verdict::TRANSMIT | verdict::REDIRECT => "forward",
        verdict::DELIVER if trace.hook == hook::EGRESS => "send",
        // Its stack finds the way.
        verdict::DELIVER if endpoint.is_some_and(|it| it.flags & elsewhere != 0) => "forward",
        verdict::DELIVER => "deliver",
        verdict::DROP => "drop",
        _ => "pass",
    }
}

fn reason(trace: &Trace) -> Option<String> {
    let refused = matches!(trace.verdict, verdict::PASS | verdict::DROP);
    let mut all = Reason::ALL.iter().filter(|_| refused);
    let reason = all.find(|reason| **reason as u32 == trace.reason)?;
    Some(reason.label().to_owned())
}

const fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Steady => "steady",
        Phase::Arming => "arming",
        Phase::Open => "open",
        Phase::Draining => "draining",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_masks() {
        let have = Have::default();
        for (address, prefix, mask) in [
            ("198.51.100.7", None, u128::MAX),
            ("198.51.100.0", Some(24), u128::MAX << 8),
            ("0.0.0.0", Some(0), u128::MAX << 32),
            ("2001:db8::", Some(32), u128::MAX << 96),
            ("::", Some(0), 0),
        ] {
            let wanted = Wanted {
                address: Some(address.parse().expect("an address")),
                prefix,
                ..Wanted::default()
            };
            let filter = wanted.filter(&have).expect("a good one");
            assert_eq!(filter.mask, Address::v6(mask.to_be_bytes()), "{address}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let refused = |wanted: Wanted| wanted.filter(&Have::default()).expect_err("refused").exit;
        let address = Some(IpAddr::from([10, 0, 0, 1]));
        let prefix = Some(33);
        assert_eq!(
            refused(Wanted {
                address,
                prefix,
                ..Wanted::default()
            }),
            Exit::Usage
        );
        let rate = Some(0);
        assert_eq!(
            refused(Wanted {
                rate,
                ..Wanted::default()
            }),
            Exit::Usage
        );
        let group = Some("shop".to_owned());
        assert_eq!(
            refused(Wanted {
                group,
                ..Wanted::default()
            }),
            Exit::NotFound
        );
    }

    #[test]
    fn flags_have_names() {
        assert_eq!(flags(0x12), "SYN ACK");
        assert_eq!(flags(0), "");
    }
}
