//! What size costs: 10,000 services, 1,000 endpoints in a colour.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use anyhow::Context as _;
use switcher_common::abi::{
    Address, AddressKey, Endpoint, Port, Service, TCP, TableRef, address_kind, endpoint_flags, map,
    service_flags,
};
use switcher_harness::agent::binary;
use switcher_harness::config::{GROUP as SHOP, Settings};
use switcher_harness::topology::COLOURS;
use switcher_harness::{Mode, Stand};
use switcher_tests::cases::steady;
use switcher_tests::frame::{Build, flag};
use switcher_tests::kernel::Kernel;
use switcher_tests::site;
use switcher_tests::town::{CLIENT, GROUP, State};

use crate::drive::{Driver, Servers, Target};
use crate::flip::resident;
use crate::memory::{MIB, memlock};
use crate::packets::{Kind, MANY, median, packet, prepare, stay_on_this_cpu, tagged, total};
use crate::report::Report;

/// A power of two, for the driver's sake, of the 10,000.
const DRIVEN: u32 = 1 << 13;
const SERVICES: u16 = 10_000;
const ENDPOINTS: u16 = 1000;
/// Where the services are: one address after the other, or one port after the other.
const FIRST: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 1);
const PORT: u16 = 443;
const FIRST_PORT: u16 = 20_000;
/// Most times the small case.
const GOAL: f64 = 1.5;
/// Seconds that `apply` may take.
const APPLY: f64 = 2.0;
const FLIPS: usize = 20;

pub(crate) fn measure(rounds: usize, report: &mut Report) -> anyhow::Result<()> {
    packets(rounds, report)?;
    agent(report)
}

fn packets(rounds: usize, report: &mut Report) -> anyhow::Result<()> {
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
            let pair = (done.one.total, done.many.total);
            report.packets.push(done);
            anyhow::Ok(pair)
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
        let mut ratio =
            |name, many: f64, one: f64| report.figure(name, many / one, "times", Some(GOAL));
        ratio(
            "10,000 services for 1, by port: warm caches",
            ports.0,
            small.0,
        );
        ratio(
            "the same, a million flows over all of them",
            ports.1,
            small.1,
        );
        ratio(
            "10,000 services for 2 on one port: warm caches",
            crowded.0,
            crowd.0,
        );
        ratio(
            "the same, a million flows over all of them",
            crowded.1,
            crowd.1,
        );
        ratio("1,000 endpoints for 1: warm caches", large.0, small.0);
        ratio(
            "the same, a million flows over all of them",
            large.1,
            small.1,
        );
        tags(&mut kernel, &mut driver, rounds, report)
    })?
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
    let name = "a tag among a million for one alone: warm caches";
    report.figure(name, warm / alone, "times", Some(GOAL));
    let name = "the same, a million flows over all of them";
    report.figure(name, cold / alone, "times", Some(GOAL));
    let flows = kernel.inner(map::WINDOWS, GROUP)?;
    let memory = memlock(&flows)? as f64 / MIB;
    report.figure("kernel memory of a million tags", memory, "MiB", None);
    Ok(())
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

/// The town, and many services beside it with so many endpoints in the live colour.
fn city(layout: Layout, services: u16, endpoints: u16) -> State {
    const FIRST_INDEX: u16 = 100;
    const FIRST_ID: u16 = 1000;
    // Above the town's.
    const FIRST_BUCKET: u32 = 1 << 17;
    let mut state = State::new(steady());
    let memory = &mut state.memory;
    let bits = (100 * u32::from(endpoints))
        .max(TableRef::UNIT)
        .next_power_of_two()
        .ilog2()
        .min(16);
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

/// A real agent: what `apply` takes, and what flips take afterwards.
fn agent(report: &mut Report) -> anyhow::Result<()> {
    let settings = Settings {
        arm: Duration::ZERO,
        health: "none",
        ..Settings::default()
    };
    let stand = Stand::new(Mode::Routed, false, settings, &binary()?)?;
    let few = stand.settings.render(&stand.topology, stand.agent.place());
    let small = flips(&stand)?;
    let before = resident(&stand.agent)?;
    let many = few.clone() + &services(SERVICES, 1);
    let seconds = apply(&stand, &many)?;
    report.figure("apply of 10,000 services", seconds, "s", Some(APPLY));
    let again = apply(&stand, &many)?;
    report.figure(
        "the same again, with nothing to do",
        again,
        "s",
        Some(APPLY),
    );
    let large = flips(&stand)?;
    report.figure(
        "flip, store to settled: 10,000 services for 2",
        large.0 / small.0,
        "times",
        Some(GOAL),
    );
    report.figure("flip, command line: 2 services", small.1, "ms", None);
    report.figure("flip, command line: 10,000 services", large.1, "ms", None);
    report.figure("agent's memory with 2 services", before, "MiB", None);
    report.figure(
        "agent's memory with 10,000",
        resident(&stand.agent)?,
        "MiB",
        None,
    );
    apply(&stand, &few)?;
    apply(&stand, &(few + &services(1, ENDPOINTS)))?;
    let wide = flips(&stand)?;
    report.figure(
        "flip, store to settled: 1,000 endpoints for 2",
        wide.0 / small.0,
        "times",
        Some(GOAL),
    );
    report.figure("flip, command line: 1,000 endpoints", wide.1, "ms", None);
    Ok(())
}

/// Seconds. Afterwards the group is at rest.
fn apply(stand: &Stand, config: &str) -> anyhow::Result<f64> {
    stand
        .agent
        .cli(&["wait", SHOP, "--for", "idle", "--timeout", "30s"])?
        .expect(0)?;
    stand.agent.write_config(config)?;
    let file = stand.agent.place().config();
    let file = file.to_str().context("a path in UTF-8")?;
    let took = stand
        .agent
        .cli(&["apply", file, "--quiet"])?
        .expect(0)?
        .took();
    Ok(took.as_secs_f64())
}

/// Microseconds from store to settled and milliseconds of the command, the medians.
fn flips(stand: &Stand) -> anyhow::Result<(f64, f64)> {
    let (mut stores, mut commands) = (Vec::new(), Vec::new());
    for turn in 0..FLIPS {
        let target = COLOURS[(turn + 1) % COLOURS.len()];
        let output = stand
            .agent
            .cli(&["flip", SHOP, target, "--json"])?
            .expect(0)?;
        commands.push(output.took().as_secs_f64() * 1e3);
        let answer = output.json()?;
        let settled = answer["store_to_settled_us"].as_f64();
        stores.push(settled.with_context(|| format!("no store_to_settled_us in {answer}"))?);
    }
    Ok((median(&mut stores), median(&mut commands)))
}

/// Services of the group, each with so many endpoints in both colours.
fn services(number: u16, endpoints: u16) -> String {
    let mut text = String::new();
    for service in 0..number {
        let vip = Layout::Addresses.service(service);
        let _ = writeln!(
            text,
            "[groups.{SHOP}.services.s{service}]\nvip = \"{vip}/tcp\"\nforward = \"routed\"\n\
             [groups.{SHOP}.services.s{service}.endpoints]"
        );
        for (colour, net) in COLOURS.iter().zip(1_u8..) {
            let host = |nth: u16| {
                let first = Ipv4Addr::new(10, 80 + net, 0, 1);
                SocketAddrV4::new(
                    Ipv4Addr::from(u32::from(first) + u32::from(nth)),
                    1024 + service,
                )
            };
            let all: Vec<String> = (0..endpoints).map(|nth| host(nth).to_string()).collect();
            let _ = writeln!(text, "{colour} = {all:?}");
        }
    }
    text
}
