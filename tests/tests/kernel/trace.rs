//! The programs that tell what they do: they do the same as the plain ones, tell of what is meant, and the plain ones
//! know nothing of them.

use std::net::IpAddr;

use anyhow::ensure;
use switcher_common::abi::trace::{Trace, TraceFilter, hook, how, verdict};
use switcher_common::abi::{Address, Port, map};
use switcher_common::steer::How;
use switcher_common::verdict::{Stage, Verdict};
use switcher_harness::privilege::is_root;
use switcher_tests::cases::{self, steady};
use switcher_tests::frame::{Build, flag};
use switcher_tests::kernel::{Entry, Kernel};
use switcher_tests::pieces::Family;
use switcher_tests::site::{self, Servers};
use switcher_tests::town::{
    CELL, CLIENT, GROUP, MASK, Masked, NEAR, OUTSIDE, RADIO, SHOP, State, WEB, id, service,
};

use super::{entries, run};

/// Everything, and as much of it as there is.
const ALL: TraceFilter = TraceFilter {
    client: Address([0; 2]),
    mask: Address([0; 2]),
    port: Port(0),
    protocol: 0,
    strangers: 1,
    service: 0,
    group: 0,
    rate: 1000,
    reserved: 0,
};

#[test]
fn traced_programs_do_the_same_and_tell() -> anyhow::Result<()> {
    if !is_root("kernel::traced_programs_do_the_same_and_tell") {
        return Ok(());
    }
    site::build()?.inside(|| {
        let servers = Servers::start()?;
        let mut kernel = Kernel::small()?;
        plain_programs_know_nothing(&mut kernel)?;
        kernel.trace(ALL)?;
        let mut wrong = Vec::new();
        let mut told = [0; 3];
        for (case, entry) in entries(&cases::all()) {
            let verdict = match run(&mut kernel, &servers, case, entry) {
                Ok(verdict) => verdict,
                Err(error) => {
                    wrong.push(format!("{error:#}"));
                    continue;
                }
            };
            let traces = kernel.traces()?;
            let got = traces.iter().map(|it| (it.hook, it.verdict, it.reason));
            // What is no IP packet with both addresses is nobody's flow.
            let shown = got.clone().next().is_some();
            told[entry as usize] += u32::from(shown);
            let (verdict, reason) = numbers(verdict);
            if shown && got.collect::<Vec<_>>() != [(entry as u16, verdict, reason)] {
                wrong.push(format!("{} ({entry:?}): {traces:?}", case.sentence));
            }
        }
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        ensure!(
            told[0] > 300 && told[1] > 300 && told[2] > 30,
            "only {told:?} cases were told of"
        );
        facts(&mut kernel)?;
        odd(&mut kernel)?;
        leaving(&mut kernel)?;
        filters(&mut kernel)?;
        bounds(&mut kernel)
    })?
}

const fn numbers(found: Verdict) -> (u32, u32) {
    match found {
        Verdict::Pass(reason) => (verdict::PASS, reason as u32),
        Verdict::Deliver | Verdict::Continue(_) => (verdict::DELIVER, 0),
        Verdict::Transmit => (verdict::TRANSMIT, 0),
        Verdict::Redirect(_) => (verdict::REDIRECT, 0),
        Verdict::Drop(reason) => (verdict::DROP, reason as u32),
    }
}

/// Nothing that tracing needs is in reach of a program that is attached while nobody traces.
fn plain_programs_know_nothing(kernel: &mut Kernel) -> anyhow::Result<()> {
    let traces = [
        map::TRACE_FILTER,
        map::TRACING,
        map::TRACES,
        map::TRACE_STAGES,
        map::TC_TRACE_STAGES,
    ];
    let ids: Vec<u32> = traces
        .iter()
        .map(|name| kernel.map_id(name))
        .collect::<anyhow::Result<_>>()?;
    let mut seen = 0;
    for (name, program) in kernel.ebpf().programs() {
        let Ok(info) = program.info() else {
            continue;
        };
        let used = info.map_ids()?.unwrap_or_default();
        ensure!(
            !used.is_empty() && !used.iter().any(|id| ids.contains(id)),
            "{name}: {used:?}"
        );
        seen += 1;
    }
    // Of XDP, of tc ingress, and of tc egress.
    let stages = Stage::ALL.len();
    ensure!(seen == (1 + stages) * 2 + 2, "{seen} programs are loaded");
    Ok(())
}

/// What is told of a flow in a window.
fn facts(kernel: &mut Kernel) -> anyhow::Result<()> {
    let state = State::new(cases::open());
    kernel.fill(&state.memory)?;
    let word = state.memory.words[&GROUP].0;
    let mut send = |frame: Build| -> anyhow::Result<Trace> {
        kernel.run(Entry::Xdp, &frame.bytes(), OUTSIDE.index)?;
        let told = kernel.traces()?;
        ensure!(told.len() == 1, "{told:?}");
        Ok(told[0])
    };
    let syn = send(Build::tcp(CLIENT, CELL, flag::SYN))?;
    ensure!((syn.source, syn.source_port) == (ip(*CLIENT.ip()), Port::new(CLIENT.port())));
    ensure!((syn.destination, syn.destination_port) == (ip(*CELL.ip()), Port::new(CELL.port())));
    ensure!(
        (syn.service, syn.endpoint) == (service(CELL), id(CELL, 1)),
        "{syn:?}"
    );
    ensure!(syn.how == How::Current as u32 && syn.word == word && syn.flags == flag::SYN);
    ensure!(syn.interface == OUTSIDE.index && syn.length > 54 && syn.at > 0);
    let again = send(Build::tcp(CLIENT, CELL, flag::ACK))?;
    ensure!(
        (again.how, again.endpoint) == (How::Tag as u32, id(CELL, 1)),
        "{again:?}"
    );
    let other = send(Build::tcp(NEAR, CELL, flag::ACK))?;
    ensure!(
        (other.how, other.endpoint) == (How::Unknown as u32, id(CELL, 0)),
        "{other:?}"
    );
    let reply = send(Build::tcp(
        switcher_tests::town::endpoint(SHOP, 1),
        CLIENT,
        flag::ACK,
    ))?;
    ensure!(
        (reply.how, reply.endpoint) == (how::REPLY, id(SHOP, 1)),
        "{reply:?}"
    );
    ensure!(
        reply.service == service(SHOP) && reply.verdict == verdict::TRANSMIT,
        "{reply:?}"
    );
    Ok(())
}

/// What is told of fragments, the later ones included, and of errors.
fn odd(kernel: &mut Kernel) -> anyhow::Result<()> {
    let blue = switcher_tests::town::endpoint(RADIO, 0);
    let state = State::new(steady()).masks(MASK.port(), 1).masked(
        CLIENT,
        RADIO,
        Masked::at(id(RADIO, 0), MASK.port()),
    );
    kernel.fill(&state.memory)?;
    let of_150_bytes = |source, destination| Build {
        payload: (0..150).collect(),
        ..Build::udp(source, destination)
    };
    let pieces = |source, destination| Family::V4.pieces(&of_150_bytes(source, destination), 64, 7);
    let [request, requests, _] = pieces(CLIENT, RADIO);
    let [reply, replies, _] = pieces(blue, MASK);
    let error = Family::V4.too_big(&of_150_bytes(RADIO, CLIENT), *NEAR.ip(), 8);
    for (frame, how) in [
        (request, How::Tag as u32),
        (requests, how::FRAGMENT),
        (reply, how::REPLY),
        (replies, how::FRAGMENT),
        (error, How::Tag as u32),
    ] {
        for entry in [Entry::Xdp, Entry::Tc] {
            kernel.run(entry, &frame, OUTSIDE.index)?;
            let told = kernel.traces()?;
            let told: Vec<_> = told
                .iter()
                .map(|it| (it.how, it.service, it.endpoint))
                .collect();
            ensure!(told == [(how, service(RADIO), id(RADIO, 0))], "{told:?}");
        }
    }
    Ok(())
}

/// What is told of packets that go out.
fn leaving(kernel: &mut Kernel) -> anyhow::Result<()> {
    let state = State::new(steady());
    kernel.fill(&state.memory)?;
    let blue = switcher_tests::town::endpoint(WEB, 0);
    let reply = Build::tcp(blue, CLIENT, flag::ACK);
    kernel.run(Entry::Egress, &reply.bytes(), OUTSIDE.index)?;
    let told = kernel.traces()?;
    let [reply] = &*told else {
        anyhow::bail!("one, not {told:?}");
    };
    ensure!((reply.source, reply.source_port) == (ip(*blue.ip()), Port::new(blue.port())));
    ensure!(
        (reply.how, reply.service, reply.endpoint) == (how::REPLY, service(WEB), id(WEB, 0)),
        "{reply:?}"
    );
    ensure!(
        (reply.hook, reply.verdict) == (hook::EGRESS, verdict::DELIVER),
        "{reply:?}"
    );
    // Nobody asks for what concerns no service.
    kernel.set(
        map::TRACE_FILTER,
        0,
        TraceFilter {
            strangers: 0,
            ..ALL
        },
    )?;
    let stranger = Build::tcp(NEAR, CLIENT, flag::ACK);
    kernel.run(Entry::Egress, &stranger.bytes(), OUTSIDE.index)?;
    ensure!(kernel.traces()?.is_empty());
    kernel.set(map::TRACE_FILTER, 0, ALL)
}

fn filters(kernel: &mut Kernel) -> anyhow::Result<()> {
    let state = State::new(steady());
    kernel.fill(&state.memory)?;
    let mask = Address::v6([255; 16]);
    let client = |address| TraceFilter {
        client: ip(address),
        mask,
        ..ALL
    };
    let none = TraceFilter {
        strangers: 0,
        ..ALL
    };
    let port = |port| TraceFilter {
        port: Port::new(port),
        ..none
    };
    let of = |service| TraceFilter { service, ..none };
    let group = |group| TraceFilter { group, ..none };
    // To WEB from CLIENT, to SHOP from NEAR, and to nobody.
    let frames = [
        Build::tcp(CLIENT, WEB, flag::ACK),
        Build::tcp(NEAR, SHOP, flag::ACK),
        Build::tcp(CLIENT, NEAR, flag::ACK),
    ];
    for (filter, expected) in [
        (ALL, [1, 1, 1]),
        (none, [1, 1, 0]),
        (client(*CLIENT.ip()), [1, 0, 1]),
        (client(*NEAR.ip()), [0, 1, 1]),
        (port(WEB.port()), [1, 0, 0]),
        (port(NEAR.port()), [0, 1, 0]),
        (of(service(SHOP) + 1), [0, 1, 0]),
        (group(GROUP + 1), [1, 1, 0]),
        (group(GROUP + 2), [0, 0, 0]),
        (
            TraceFilter {
                protocol: 17,
                ..ALL
            },
            [0, 0, 0],
        ),
    ] {
        kernel.set(map::TRACE_FILTER, 0, filter)?;
        let mut told = [0; 3];
        for (frame, told) in frames.iter().zip(&mut told) {
            kernel.run(Entry::Xdp, &frame.bytes(), OUTSIDE.index)?;
            *told = kernel.traces()?.len();
        }
        ensure!(told == expected, "{filter:?}: {told:?}, not {expected:?}");
    }
    Ok(())
}

/// No more than the rate a CPU and second, and what is not told is counted.
fn bounds(kernel: &mut Kernel) -> anyhow::Result<()> {
    kernel.set(map::TRACE_FILTER, 0, TraceFilter { rate: 2, ..ALL })?;
    let before = kernel.traces_lost()?;
    let frame = Build::tcp(CLIENT, WEB, flag::ACK).bytes();
    let began = std::time::Instant::now();
    let (mut sent, mut told) = (0, 0);
    // What was told before may have used up the first second.
    while told == 0 && began.elapsed() < std::time::Duration::from_secs(30) {
        for _ in 0..100 {
            kernel.run(Entry::Xdp, &frame, OUTSIDE.index)?;
        }
        sent += 100;
        told += kernel.traces()?.len();
    }
    let seconds = began.elapsed().as_secs() as usize + 2;
    let cpus = aya::util::nr_cpus().map_err(|(_, error)| error)?;
    ensure!(
        told >= 1 && told <= 2 * seconds * cpus,
        "{told} in {seconds} seconds"
    );
    let lost = (kernel.traces_lost()? - before) as usize;
    ensure!(told + lost == sent, "{told} told, {lost} lost");
    Ok(())
}

fn ip(address: std::net::Ipv4Addr) -> Address {
    IpAddr::V4(address).into()
}
