//! What size costs a packet: 10,000 services, 1,000 endpoints in a colour.

use std::net::{Ipv4Addr, SocketAddrV4};

use switcher_common::abi::{
    Address, AddressKey, Counters, Endpoint, Port, Service, TCP, TableRef, address_kind,
    endpoint_flags, map, service_flags,
};
use switcher_tests::cases::steady;
use switcher_tests::frame::{Build, flag};
use switcher_tests::kernel::Kernel;
use switcher_tests::site;
use switcher_tests::town::{CLIENT, GROUP, State};

use crate::drive::{Driver, LINES, Servers, Target, Touches, UNTOUCHED};
use crate::memory::{MIB, memlock};
use crate::packets::{Kind, MANY, Share, packet, prepare, share, stay_on_this_cpu, tagged, total};
use crate::report::Report;

/// A power of two, for the driver's sake, of the 10,000.
const DRIVEN: u32 = 1 << 13;
pub(crate) const SERVICES: u16 = 10_000;
pub(crate) const ENDPOINTS: u16 = 1000;
/// Where the services are: one address after the other, or one port after the other.
pub(crate) const FIRST: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 1);
pub(crate) const PORT: u16 = 443;
const FIRST_PORT: u16 = 20_000;
/// Most times the small case.
pub(crate) const GOAL: f64 = 1.5;
/// Bytes of a line of the cache, which a bucket's head in one of the kernel's hash maps lies in,
const LINE: u64 = 64;
/// and of an entry (`struct htab_elem`, 48 bytes, with the key and a word).
const ENTRY: u64 = 88;

pub(crate) fn measure(rounds: usize, report: &mut Report) -> anyhow::Result<()> {
    site::build()?.inside(|| {
        stay_on_this_cpu()?;
        let mut kernel = Kernel::load()?;
        let mut driver = Driver::new(&mut kernel)?;
        let mut run = |name, kind: Layout, services, endpoints, report: &mut Report| {
            kernel.fill(&city(kind, services, endpoints).memory)?;
            let driven = if services > 2 {
                DRIVEN
            } else {
                u32::from(services)
            };
            let done = packet(&mut driver, &kind.packets(name, driven), rounds, report)?;
            let Share { share, without } = share(
                &mut driver,
                &kind.packets(name, driven),
                (Target::Touch, kind.touches(services, endpoints)),
                rounds,
            )?;
            let cost = Cost {
                one: done.one.total,
                many: done.many.total,
                share,
                without,
            };
            report.packets.push(done);
            anyhow::Ok(cost)
        };
        let small = run("1 service, 1 endpoint", Layout::Ports, 1, 1, report)?;
        let ports = run(
            "10,000 services, a port each",
            Layout::Ports,
            SERVICES,
            1,
            report,
        )?;
        let large = run(
            "1 service, 1,000 endpoints",
            Layout::Ports,
            1,
            ENDPOINTS,
            report,
        )?;
        let crowd = run("2 services on one port", Layout::Addresses, 2, 1, report)?;
        let crowded = run(
            "10,000 services on one port",
            Layout::Addresses,
            SERVICES,
            1,
            report,
        )?;
        compare(
            "10,000 services for 1, by port: warm caches",
            &ports,
            &small,
            report,
        );
        compare(
            "10,000 services for 2 on one port: warm caches",
            &crowded,
            &crowd,
            report,
        );
        compare("1,000 endpoints for 1: warm caches", &large, &small, report);
        tags(&mut kernel, &mut driver, rounds, report)
    })?
}

/// Nanoseconds for a packet of one flow, and of a million; how much of the latter a bare program would take that touches
/// as much memory, and what is left without.
struct Cost {
    one: f64,
    many: f64,
    share: f64,
    without: f64,
}

/// Large for small: with warm caches, with cold ones, and with the caches' share taken off.
fn compare(name: &'static str, large: &Cost, small: &Cost, report: &mut Report) {
    let mut times = |name, ratio, goal| report.figure(name, ratio, "times", goal);
    times(name, large.one / small.one, Some(GOAL));
    let name = "  a million flows over all of them";
    times(name, large.many / small.many, None);
    let without = large.without / small.without;
    times("  the same without the caches' share", without, Some(GOAL));
    let name = "  a bare program that touches as much memory";
    report.figure(name, large.share, "ns", None);
}

/// What a million tags cost: the map's own share with warm caches, and then that of the caches.
fn tags(
    kernel: &mut Kernel,
    driver: &mut Driver,
    rounds: usize,
    report: &mut Report,
) -> anyhow::Result<()> {
    let kind = tagged();
    prepare(kernel, &kind)?;
    let alone = total(driver, &kind, 1, rounds)?;
    let cold = total(driver, &kind, MANY, rounds)?;
    let warm = total(driver, &kind, 1, rounds)?;
    // Of a map's memory no model is as good as another map: the bare program finds each flow in one of its own.
    let Share { share, without } = share(driver, &kind, (Target::LookUp, UNTOUCHED), rounds)?;
    let (small, large) = (
        Cost {
            one: alone,
            many: alone,
            share: 0.0,
            without: alone,
        },
        Cost {
            one: warm,
            many: cold,
            share,
            without,
        },
    );
    compare(
        "a tag among a million for one alone: warm caches",
        &large,
        &small,
        report,
    );
    let flows = kernel.inner(map::WINDOWS, GROUP)?;
    let memory = memlock(&flows)? as f64 / MIB;
    report.figure("kernel memory of a million tags", memory, "MiB", None);
    Ok(())
}

/// Lines that so many bytes have: the power of two below, so that the share is rather too small.
fn lines(bytes: u64) -> u32 {
    let lines = u32::try_from(bytes / LINE).unwrap_or(LINES);
    1 << lines.clamp(1, LINES).ilog2()
}

/// How services are told apart.
#[derive(Clone, Copy)]
enum Layout {
    Addresses,
    Ports,
}

impl Layout {
    fn service(self, number: u16) -> SocketAddrV4 {
        match self {
            Self::Addresses => {
                let address = Ipv4Addr::from(u32::from(FIRST) + u32::from(number));
                SocketAddrV4::new(address, PORT)
            }
            Self::Ports => SocketAddrV4::new(FIRST, FIRST_PORT + number),
        }
    }

    /// What a packet touches and another flow's does not, in the pipeline's order.
    fn touches(self, services: u16, endpoints: u16) -> Touches {
        let driven = u64::from(services).min(u64::from(DRIVEN));
        let buckets = u64::from(1_u32 << bits(endpoints));
        let of = |bytes: usize| lines(driven * bytes as u64);
        let table = [
            lines(driven * buckets * size_of::<u16>() as u64),
            lines(driven * u64::from(endpoints) * size_of::<Endpoint>() as u64),
        ];
        // Where this CPU's counters are, and these.
        let counters = [of(size_of::<u64>()), of(size_of::<Counters>())];
        let service = of(size_of::<Service>());
        let found = match self {
            _ if services <= 2 => return Touches::of(&table),
            // An element of `PORTS`, whose stride is that of arrays.
            Self::Ports => vec![of(size_of::<u64>()), service],
            // A bucket's head of `ADDRESSES`, which is far larger, so that each is in a line of its own; and an entry,
            // which is in two.
            Self::Addresses => {
                let entry = of(ENTRY as usize);
                vec![of(LINE as usize), entry, entry, service]
            }
        };
        Touches::of(&[&found[..], &table, &counters].concat())
    }

    fn packets(self, name: &'static str, driven: u32) -> Kind {
        let (addresses, ports) = match self {
            Self::Addresses => (driven, 1),
            Self::Ports => (1, driven),
        };
        Kind {
            name,
            target: Target::Switcher,
            word: steady(),
            frame: Build::tcp(CLIENT, self.service(0), flag::ACK),
            sequences: false,
            servers: Servers { addresses, ports },
            goal: None,
            goal_many: None,
        }
    }
}

/// Of buckets in a table for so many endpoints.
fn bits(endpoints: u16) -> u32 {
    (100 * u32::from(endpoints))
        .max(TableRef::UNIT)
        .next_power_of_two()
        .ilog2()
        .min(16)
}

/// The town, and many services beside it with so many endpoints in the live colour.
fn city(layout: Layout, services: u16, endpoints: u16) -> State {
    const FIRST_INDEX: u16 = 100;
    const FIRST_ID: u16 = 1000;
    // Above the town's.
    const FIRST_BUCKET: u32 = 1 << 17;
    let mut state = State::new(steady());
    let memory = &mut state.memory;
    let bits = bits(endpoints);
    for number in 0..services {
        let index = FIRST_INDEX + number;
        let at = layout.service(number);
        let ids: Vec<u16> = (0..endpoints)
            .map(|nth| FIRST_ID + number * endpoints + nth)
            .collect();
        for (id, nth) in ids.iter().zip(0_u32..) {
            let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 80, 0, 1)) + nth);
            memory.endpoints.insert(
                *id,
                Endpoint {
                    address: Address::v4(address.octets()),
                    port: Port::new(1024 + number),
                    protocol: TCP,
                    flags: endpoint_flags::PRESENT,
                    service: index,
                    counter: u32::from(number) + 1000,
                    ..Endpoint::default()
                },
            );
        }
        let table = TableRef::new(FIRST_BUCKET + (u32::from(number) << bits), bits);
        let buckets: Vec<u16> = ids.iter().copied().cycle().take(1 << bits).collect();
        memory.fill(table, &buckets);
        let mut service = Service {
            address: Address::v4(at.ip().octets()),
            port: Port::new(at.port()),
            protocol: TCP,
            flags: service_flags::PRESENT,
            group: GROUP,
            parent: index,
            ..Service::default()
        };
        service.tables[steady().current() as usize] = table;
        memory.services.insert(index, service);
        let key = AddressKey {
            address: service.address,
            port: service.port,
            protocol: TCP,
            kind: address_kind::SERVICE,
            ..AddressKey::default()
        };
        memory.publish(key, index);
    }
    state
}
