//! Servers that get packets inside others, and answer clients directly: nothing is lost by switches, large packets
//! find out what there is room for, and the mode can be changed while clients talk.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use switcher_common::abi::TICK_SHIFT;
use switcher_harness::agent::binary;
use switcher_harness::config::{GROUP, Settings};
use switcher_harness::flips::{judge, switch};
use switcher_harness::load::{Kind, PATIENCE};
use switcher_harness::privilege::alone;
use switcher_harness::stats::Counters;
use switcher_harness::topology::INTERFACE;
use switcher_harness::{Load, Mode, Plan, Stand};
use switcher_tests::receiver::Receivers;

/// Switches under load.
const SWITCHES: usize = 10;
/// Time in which the load sees the state that a switch has left.
const BETWEEN: Duration = Duration::from_millis(100);
/// What is sent through a way that has no room for full frames.
const BYTES: usize = 1_000_000;
/// A line of it.
const LINE: usize = 8000;
/// How long the FIB's answers are remembered: two ticks, and a bit.
const REMEMBERED: Duration =
    Duration::from_nanos(2 << TICK_SHIFT).saturating_add(Duration::from_millis(100));
/// What a way has room for: IPv6 inside has to have 1280 left.
const NARROW: u16 = 1280;
const NARROW_V6: u16 = 1380;

#[test]
fn ipv4_inside_ipv4() {
    alone("ipip::ipv4_inside_ipv4", || {
        let settings = Settings {
            web: "tunnel_source = \"10.200.0.0/16\"",
            ..settings("native")
        };
        let (mut stand, receivers) = stand(settings, false)?;
        modes(&mut stand, &receivers)?;
        under_load(&stand)?;
        let sources = receivers.sources()?;
        let varied =
            |source: &&IpAddr| matches!(source, IpAddr::V4(v4) if v4.octets()[..2] == [10, 200]);
        let varied = sources.keys().filter(varied).count();
        ensure!(varied > 20, "packets come from {sources:?}");
        told_of_the_way(&stand)
    });
}

#[test]
fn ipv6_inside_ipv6() {
    alone("ipip::ipv6_inside_ipv6", || {
        let settings = Settings {
            v6: true,
            ..settings("native")
        };
        let (stand, receivers) = stand(settings, true)?;
        under_load(&stand)?;
        from_the_switch(&receivers, "fd77::a4d:1".parse()?)?;
        told_of_the_way(&stand)
    });
}

/// Packets of many segments stay whole on their way through the switch.
#[test]
fn ipv4_inside_ipv6_at_tc() {
    alone("ipip::ipv4_inside_ipv6_at_tc", || {
        let settings = Settings {
            servers_v6: true,
            ..settings("tc")
        };
        let (stand, receivers) = stand(settings, true)?;
        under_load(&stand)?;
        from_the_switch(&receivers, "fd77::a4d:1".parse()?)?;
        told_of_the_way(&stand)
    });
}

#[test]
fn ipv4_inside_ipv4_at_tc() {
    alone("ipip::ipv4_inside_ipv4_at_tc", || {
        let (stand, _receivers) = stand(settings("tc"), false)?;
        under_load(&stand)?;
        told_of_the_way(&stand)
    });
}

/// Nobody takes these apart between a client and a server of this kernel: the outer header is theirs as it is.
#[test]
fn packets_of_many_segments() {
    alone("ipip::packets_of_many_segments", || {
        let settings = settings("tc");
        let mut stand = Stand::without_agent(Mode::Ipip, true, settings, &binary()?)?;
        let receivers = Receivers::attach_at_tc(&stand.topology)?;
        stand.agent.start()?;
        let web = stand.topology.web();
        let done = stand.topology.client.inside(|| upload(web))?;
        let [all, wrong] = receivers.segmented()?;
        ensure!(
            wrong == 0,
            "of {all} outer headers {wrong} say another length"
        );
        ensure!(all > 10, "only {all} packets of many segments");
        done
    });
}

fn settings(xdp: &'static str) -> Settings {
    Settings {
        xdp,
        servers: 2,
        learn: Duration::from_millis(500),
        ..Settings::default()
    }
}

fn stand(settings: Settings, offloads: bool) -> Result<(Stand, Receivers)> {
    let mut stand = Stand::without_agent(Mode::Ipip, offloads, settings, &binary()?)?;
    // First, so that nothing goes where nobody understands it.
    let receivers = Receivers::attach(&stand.topology)?;
    stand.agent.start()?;
    Ok((stand, receivers))
}

fn under_load(stand: &Stand) -> Result<()> {
    let before = Counters::read(&stand.topology.client)?;
    let plan = Plan {
        download: Duration::from_millis(120) * u32::try_from(SWITCHES)?,
        ..Plan::default()
    };
    let load = Load::start(&stand.topology, &plan)?;
    std::thread::sleep(Duration::from_millis(500));
    let mut switches = Vec::new();
    for number in 0..SWITCHES {
        switches.push(switch(stand, number)?);
        std::thread::sleep(BETWEEN);
    }
    let report = load.stop()?;
    let kernel = Counters::read(&stand.topology.client)?.since(&before);
    println!("{}: {}; {kernel:?}", stand.settings.xdp, report.summary());
    judge(&report, kernel, &switches, &Kind::ALL)
}

fn from_the_switch(receivers: &Receivers, address: IpAddr) -> Result<()> {
    let sources = receivers.sources()?;
    let ours = sources.keys().all(|source| *source == address);
    ensure!(ours && !sources.is_empty(), "packets come from {sources:?}");
    Ok(())
}

/// The way to servers becomes narrow, and only the switch knows: whoever sends too much is told.
fn told_of_the_way(stand: &Stand) -> Result<()> {
    let topology = &stand.topology;
    let narrow = if topology.v6 { NARROW_V6 } else { NARROW };
    for server in topology.endpoints(stand.settings.servers) {
        let address = server.web.ip();
        let family = if address.is_ipv4() { "-4" } else { "-6" };
        let route = format!("{family} route add {address} dev {INTERFACE} mtu {narrow}");
        topology.switch.ip(&route)?;
    }
    std::thread::sleep(REMEMBERED);
    let before = reason(stand, "too-big")?;
    let web = topology.web();
    topology
        .client
        .inside(|| upload(web))?
        .context("an upload")?;
    let after = reason(stand, "too-big")?;
    ensure!(after > before, "nobody was told that packets are too big");
    Ok(())
}

/// Between modes that agree about what servers have; connections go on.
fn modes(stand: &mut Stand, receivers: &Receivers) -> Result<()> {
    let web = stand.topology.web();
    let mut talk = stand.topology.client.inside(|| Talk::begin(web))??;
    let seen = |receivers: &Receivers| -> Result<u64> { Ok(receivers.sources()?.values().sum()) };
    for mode in [Mode::Dsr, Mode::Ipip] {
        stand.topology.mode = mode;
        let settings = match mode {
            Mode::Ipip => stand.settings.clone(),
            _ => Settings {
                web: "",
                ..stand.settings.clone()
            },
        };
        let config = settings.render(&stand.topology, stand.agent.place());
        stand.agent.write_config(&config)?;
        stand.agent.cli(&["apply"])?.expect(0)?;
        let before = seen(receivers)?;
        for _ in 0..20 {
            talk.line()?;
        }
        let inside = seen(receivers)? - before;
        ensure!(
            (inside > 0) == (mode == Mode::Ipip),
            "{mode}: {inside} packets came inside others"
        );
    }
    let said = stand.agent.json(&[
        "explain",
        GROUP,
        "tcp",
        "10.77.0.2:40000",
        &web.to_string(),
        "--syn",
    ])?;
    let why = said["reason"].as_str().unwrap_or_default();
    ensure!(
        said["action"] == "forward" && why.contains("inside another"),
        "{said}"
    );
    let drift = stand.agent.cli(&["drift"])?;
    drift.expect(0)?;
    Ok(())
}

/// How often the program has counted a reason.
fn reason(stand: &Stand, label: &str) -> Result<u64> {
    let status = stand.agent.json(&["status"])?;
    Ok(status["reasons"][label].as_u64().unwrap_or_default())
}

/// A connection on which each line comes back.
struct Talk {
    output: TcpStream,
    lines: std::io::Lines<BufReader<TcpStream>>,
}

impl Talk {
    fn begin(web: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&web, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut output = stream.try_clone()?;
        writeln!(output, "ECHO")?;
        let lines = BufReader::new(stream).lines();
        Ok(Self { output, lines })
    }

    fn line(&mut self) -> Result<()> {
        writeln!(self.output, "and on it goes")?;
        let answer = self.lines.next().context("the connection ended")??;
        ensure!(answer.ends_with("and on it goes"), "{answer}");
        Ok(())
    }
}

/// Lines that the server sends back, so that their arrival is known.
fn upload(web: SocketAddr) -> Result<()> {
    let Talk {
        mut output,
        mut lines,
    } = Talk::begin(web)?;
    let line = "x".repeat(LINE);
    std::thread::scope(|scope| {
        let sent = scope.spawn(|| -> Result<()> {
            for _ in 0..BYTES / LINE {
                writeln!(output, "{line}")?;
            }
            Ok(())
        });
        for number in 0..BYTES / LINE {
            let answer = lines.next().context("the connection ended")??;
            ensure!(answer.ends_with(&line), "line {number} came back changed");
        }
        match sent.join() {
            Ok(sent) => sent,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}
