//! Switches under load over networks that are not a plain cable: loss, delay, reordering, a VLAN, network
//! cards. Not every kernel has these; a test says why it is skipped. `cargo xtask test --kernels` runs all of
//! them in virtual machines whose kernels do.

use std::time::Duration;

use anyhow::{Result, ensure};
use switcher_harness::agent::{GUEST, binary};
use switcher_harness::config::Settings;
use switcher_harness::flips::{judge, switch};
use switcher_harness::load::Kind;
use switcher_harness::privilege::alone;
use switcher_harness::stats::Counters;
use switcher_harness::topology::{INTERFACE, Link};
use switcher_harness::{Load, Mode, Namespace, Plan, Stand, Topology, netns};

/// Switches of each test.
const SWITCHES: usize = 4;
/// Time in which the load sees the state that a switch has left.
const BETWEEN: Duration = Duration::from_millis(500);
/// TCP clients: a datagram that is lost is lost, with or without a switch.
const KINDS: [Kind; 4] = [Kind::KeepAlive, Kind::New, Kind::Download, Kind::Idle];

macro_rules! rough {
    ($($name:ident: $mode:ident $netem:literal;)+) => {$(
        #[test]
        fn $name() {
            alone(stringify!($name), || {
                let topology = Topology::new(Mode::$mode, false)?;
                if !roughen(&topology, $netem, stringify!($name))? {
                    return Ok(());
                }
                let settings = Settings {
                    // Longer than a SYN is waited for that was lost, or whose answer was.
                    arm: Duration::from_millis(1500),
                    ..settings()
                };
                switches(topology, settings)
            });
        }
    )+};
}

rough! {
    local_with_loss: Local "loss 1%";
    local_with_delay: Local "delay 15ms 10ms";
    local_with_reordering: Local "delay 10ms reorder 25% 50%";
    routed_with_loss: Routed "loss 1%";
    routed_with_delay: Routed "delay 15ms 10ms";
    routed_with_reordering: Routed "delay 10ms reorder 25% 50%";
}

#[test]
fn local_over_a_vlan() {
    alone("local_over_a_vlan", || {
        over_a_vlan("local_over_a_vlan", Mode::Local, "native")
    });
}

#[test]
fn routed_over_a_vlan() {
    // To a VLAN device a driver's XDP can't send replies; `doctor` says so, and what to do.
    alone("routed_over_a_vlan", || {
        over_a_vlan("routed_over_a_vlan", Mode::Routed, "tc")
    });
}

#[test]
fn local_over_network_cards() {
    alone("local_over_network_cards", || {
        over_cards("local_over_network_cards", Mode::Local)
    });
}

#[test]
fn routed_over_network_cards() {
    alone("routed_over_network_cards", || {
        over_cards("routed_over_network_cards", Mode::Routed)
    });
}

#[test]
fn local_over_a_cable() {
    alone("local_over_a_cable", || {
        switches(Topology::new(Mode::Local, true)?, settings())
    });
}

#[test]
fn routed_over_a_cable() {
    alone("routed_over_a_cable", || {
        switches(Topology::new(Mode::Routed, false)?, settings())
    });
}

fn over_a_vlan(name: &str, mode: Mode, xdp: &'static str) -> Result<()> {
    let has = Namespace::new("probe")?;
    has.ip("link add trunk0 type veth peer name other")?;
    if let Err(error) = has.ip("link add link trunk0 name vlan0 type vlan id 7") {
        return skip(name, "this kernel has no VLAN devices", &error);
    }
    let lay = || Topology::over(&Link::Vlan, mode, false);
    if xdp != "native" {
        let mut stand = Stand::on(lay()?, settings(), &binary()?)?;
        stand.agent.start()?;
        let warned = format!("forwarding to {INTERFACE}: a vlan");
        ensure!(stand.agent.log().contains(&warned), stand.agent.log());
    }
    switches(lay()?, Settings { xdp, ..settings() })
}

fn over_cards(name: &str, mode: Mode) -> Result<()> {
    if std::env::var_os(GUEST).is_none() {
        eprintln!(
            "skipped: {name} takes this host's network cards, unless it is a machine of xtask's"
        );
        return Ok(());
    }
    // A card comes back some time after the namespace it was in has gone.
    std::thread::sleep(Duration::from_secs(2));
    let links = netns::run("ip", &["-brief", "link"])?;
    let names = links
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    let cards: Vec<&str> = names.filter(|card| is_card(card)).collect();
    ensure!(
        cards.len() >= 2,
        "a machine of xtask's has two network cards: {links}"
    );
    let link = Link::Cards(cards[0].to_owned(), cards[1].to_owned());
    switches(Topology::over(&link, mode, false)?, settings())
}

/// Whether hardware, real or virtual, is behind an interface.
fn is_card(interface: &str) -> bool {
    std::path::Path::new("/sys/class/net")
        .join(interface)
        .join("device")
        .exists()
}

/// Puts netem on everything that is sent towards the switch and by its stack. False if there is none.
fn roughen(topology: &Topology, netem: &str, name: &str) -> Result<bool> {
    let mut senders = vec![&topology.client];
    senders.extend(&topology.backends);
    // What XDP transmits meets no queue; what the stack sends does.
    if topology.mode == Mode::Local {
        senders.push(&topology.switch);
    }
    for sender in senders {
        let mut words = vec![
            "qdisc", "add", "dev", INTERFACE, "root", "netem", "limit", "10000",
        ];
        words.extend(netem.split_whitespace());
        match sender.run("tc", &words) {
            Err(error) if has_no_netem(&error) => {
                return skip(name, "this kernel has no netem", &error).map(|()| false);
            }
            other => other?,
        };
    }
    Ok(true)
}

fn has_no_netem(error: &anyhow::Error) -> bool {
    let text = format!("{error:#}");
    text.contains("qdisc kind is unknown") || text.contains("No such file or directory")
}

/// In a machine of xtask's nothing may be missing.
fn skip(name: &str, why: &str, error: &anyhow::Error) -> Result<()> {
    ensure!(std::env::var_os(GUEST).is_none(), "{why}: {error:#}");
    eprintln!("skipped: {name}: {why}: {error:#}");
    Ok(())
}

/// Long connections, new ones and downloads, and some switches meanwhile.
fn switches(topology: Topology, settings: Settings) -> Result<()> {
    let mut stand = Stand::on(topology, settings, &binary()?)?;
    stand.agent.start()?;
    let before = Counters::read(&stand.topology.client)?;
    let plan = Plan {
        keep_alive: 2,
        short_lived: 1,
        new: 1,
        download: Duration::from_secs(3),
        udp_flows: 0,
        udp_new: 0,
        pause: Duration::from_millis(20),
        ..Plan::default()
    };
    let load = Load::start(&stand.topology, &plan)?;
    std::thread::sleep(Duration::from_secs(1));
    let mut done = Vec::new();
    for number in 0..SWITCHES {
        done.push(switch(&stand, number)?);
        std::thread::sleep(BETWEEN);
    }
    let report = load.stop()?;
    let kernel = Counters::read(&stand.topology.client)?.since(&before);
    println!("{}: {}; {kernel:?}", stand.topology.mode, report.summary());
    judge(&report, kernel, &done, &KINDS)
}

fn settings() -> Settings {
    Settings {
        servers: 2,
        // Longer than a retransmission may take, however often it is lost.
        learn: Duration::from_secs(60),
        ..Settings::default()
    }
}
