//! A hundred switches under load, in every combination: nothing is lost, and new connections are on the
//! new colour from the first that begins after the command returned.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use switcher_harness::agent::binary;
use switcher_harness::config::{GROUP, Settings};
use switcher_harness::flips::{judge, switch};
use switcher_harness::load::{Kind, PATIENCE};
use switcher_harness::privilege::alone;
use switcher_harness::stats::Counters;
use switcher_harness::{Load, Mode, Plan, Stand};
use switcher_tests::receiver::Receivers;

/// Switches of one combination.
const SWITCHES: usize = 100;
/// Switches where a row differs in its addresses only.
const FEW: usize = 12;
/// Switches of a combination that lets each window close.
const CLOSED_WINDOWS: usize = 6;
/// Time in which the load sees the state that a switch has left.
const BETWEEN: Duration = Duration::from_millis(100);

macro_rules! combinations {
    ($($name:ident: $mode:ident $xdp:literal offloads $offloads:literal;)+) => {$(
        #[test]
        fn $name() {
            alone(stringify!($name), || {
                switches_under_load(Mode::$mode, settings($xdp), $offloads, SWITCHES)
            });
        }
    )+};
}

combinations! {
    local_native_with_offloads: Local "native" offloads true;
    local_native_without_offloads: Local "native" offloads false;
    local_generic_with_offloads: Local "generic" offloads true;
    local_generic_without_offloads: Local "generic" offloads false;
    routed_native_with_offloads: Routed "native" offloads true;
    routed_native_without_offloads: Routed "native" offloads false;
    routed_generic_with_offloads: Routed "generic" offloads true;
    routed_generic_without_offloads: Routed "generic" offloads false;
}

macro_rules! short {
    ($($name:ident: $mode:ident $xdp:literal v6 $v6:literal offloads $offloads:literal;)+) => {$(
        #[test]
        fn $name() {
            let settings = || Settings {
                v6: $v6,
                ..settings($xdp)
            };
            alone(stringify!($name), || {
                switches_under_load(Mode::$mode, settings(), $offloads, FEW)
            });
        }
    )+};
}

// Steering is as it is elsewhere; what differs is the addresses, or the way.
short! {
    local_v6_with_offloads: Local "native" v6 true offloads true;
    local_v6_without_offloads: Local "native" v6 true offloads false;
    routed_v6_with_offloads: Routed "native" v6 true offloads true;
    routed_v6_without_offloads: Routed "native" v6 true offloads false;
    dsr_with_offloads: Dsr "native" v6 false offloads true;
    dsr_without_offloads: Dsr "native" v6 false offloads false;
    local_tc_with_offloads: Local "tc" v6 false offloads true;
    local_tc_v6_without_offloads: Local "tc" v6 true offloads false;
    routed_tc_v6_with_offloads: Routed "tc" v6 true offloads true;
    routed_tc_without_offloads: Routed "tc" v6 false offloads false;
    dsr_v6_without_offloads: Dsr "native" v6 true offloads false;
    dsr_tc_with_offloads: Dsr "tc" v6 false offloads true;
}

/// A card in front, and virtual interfaces behind it.
#[test]
fn routed_native_in_front_of_tc() {
    alone("routed_native_in_front_of_tc", || {
        let settings = Settings {
            inner_xdp: Some("tc"),
            ..settings("native")
        };
        switches_under_load(Mode::Routed, settings, false, FEW)
    });
}

#[test]
fn jumbo_frames_local() {
    alone("jumbo_frames_local", || jumbo(Mode::Local, false));
}

#[test]
fn jumbo_frames_routed() {
    alone("jumbo_frames_routed", || jumbo(Mode::Routed, false));
}

#[test]
fn jumbo_frames_masquerade() {
    alone("jumbo_frames_masquerade", || jumbo(Mode::Masquerade, false));
}

#[test]
fn jumbo_frames_dsr() {
    alone("jumbo_frames_dsr", || jumbo(Mode::Dsr, false));
}

#[test]
fn jumbo_frames_ipip() {
    alone("jumbo_frames_ipip", || jumbo(Mode::Ipip, false));
}

#[test]
fn jumbo_frames_in_v6() {
    alone("jumbo_frames_in_v6", || {
        [Mode::Local, Mode::Routed, Mode::Masquerade, Mode::Dsr]
            .into_iter()
            .try_for_each(|mode| jumbo(mode, true).with_context(|| format!("{mode}")))
    });
}

/// Frames of more than a page, which native XDP sees in parts: TCP segments of downloads, and datagrams both
/// ways.
fn jumbo(mode: Mode, v6: bool) -> Result<()> {
    let settings = Settings {
        mtu: 9000,
        v6,
        agent: match mode {
            Mode::Masquerade => "[agent.masquerade]\nports = \"10000-19999\"",
            Mode::Local | Mode::Routed | Mode::Dsr | Mode::Ipip => "",
        },
        ..settings("native")
    };
    let stand = Stand::new(mode, false, settings.clone(), &binary()?)?;
    let receivers = Receivers::attach(&stand.topology)?;
    let text = "x".repeat(8800);
    let answer = stand.topology.client.inside(|| -> Result<String> {
        let any: IpAddr = match v6 {
            true => Ipv6Addr::UNSPECIFIED.into(),
            false => Ipv4Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.send_to(text.as_bytes(), stand.topology.echo())?;
        let mut buffer = vec![0; 9000];
        let length = socket.recv(&mut buffer)?;
        Ok(String::from_utf8(buffer[..length].to_vec())?)
    })??;
    ensure!(answer.ends_with(&text), "the datagram came back changed");
    drop((receivers, stand));
    switches_under_load(mode, settings, false, FEW)
}

#[test]
fn windows_close_and_open_local() {
    alone("windows_close_and_open_local", || {
        closing_windows(Mode::Local)
    });
}

#[test]
fn windows_close_and_open_routed() {
    alone("windows_close_and_open_routed", || {
        closing_windows(Mode::Routed)
    });
}

/// Two servers a colour, so that a flow that moves within its colour is noticed, too.
fn settings(xdp: &'static str) -> Settings {
    Settings {
        xdp,
        servers: 2,
        learn: Duration::from_millis(500),
        ..Settings::default()
    }
}

/// Connections that live as long as the run keep one window open through all switches.
fn switches_under_load(mode: Mode, settings: Settings, offloads: bool, count: usize) -> Result<()> {
    let Settings { xdp, v6, .. } = settings;
    let stand = Stand::new(mode, offloads, settings, &binary()?)?;
    let _receivers = Receivers::attach(&stand.topology)?;
    let before = Counters::read(&stand.topology.client)?;
    let plan = Plan {
        // As long as the run: one window is open through all switches.
        download: Duration::from_millis(120) * u32::try_from(count)?,
        ..Plan::default()
    };
    let load = Load::start(&stand.topology, &plan)?;
    std::thread::sleep(Duration::from_millis(500));
    let mut switches = Vec::new();
    for number in 0..count {
        switches.push(switch(&stand, number)?);
        std::thread::sleep(BETWEEN);
    }
    let report = load.stop()?;
    let kernel = Counters::read(&stand.topology.client)?.since(&before);
    println!(
        "{mode} {xdp}, IPv6 {v6}, offloads {offloads}: {}; {kernel:?}",
        report.summary()
    );
    judge(&report, kernel, &switches, &Kind::ALL)
}

/// Short connections alone: every window closes, and the next switch begins from rest.
fn closing_windows(mode: Mode) -> Result<()> {
    let stand = Stand::new(mode, false, settings("native"), &binary()?)?;
    let before = Counters::read(&stand.topology.client)?;
    let plan = Plan {
        keep_alive: 0,
        downloads: 0,
        idle: 0,
        udp_flows: 0,
        udp_new: 0,
        ..Plan::default()
    };
    let load = Load::start(&stand.topology, &plan)?;
    std::thread::sleep(Duration::from_millis(500));
    let mut switches = Vec::new();
    for number in 0..CLOSED_WINDOWS {
        switches.push(switch(&stand, number)?);
        std::thread::sleep(BETWEEN);
        told_first_packet(&stand)?;
        stand
            .agent
            .cli(&["wait", GROUP, "--for", "idle", "--timeout", "30s"])?
            .expect(0)?;
    }
    let report = load.stop()?;
    let kernel = Counters::read(&stand.topology.client)?.since(&before);
    println!("{mode}, windows closed: {}; {kernel:?}", report.summary());
    judge(&report, kernel, &switches, &[Kind::KeepAlive, Kind::New])
}

/// The program tells of the first new connection after a switch.
fn told_first_packet(stand: &Stand) -> Result<()> {
    let status = stand.agent.cli(&["status", "--json"])?.expect(0)?.json()?;
    let cutover = &status["groups"][0]["cutover"];
    ensure!(
        cutover.is_null() || cutover["first_packet_at"].is_string(),
        "no first packet: {status}"
    );
    Ok(())
}
