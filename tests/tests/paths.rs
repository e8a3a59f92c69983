//! Packets that are too large for the way: a hop of 1280 bytes between clients and the switch, and one behind it.
//!
//! ```text
//! far ---1500--- narrow ---1280--- client ---1500--- switch ---1500, later 1200--- backends
//! ```
//!
//! In IPv6, whose smallest MTU is 1280, the second is of 1280, too: only clients beside the switch learn from it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use switcher_common::abi::TICK_SHIFT;
use switcher_harness::agent::binary;
use switcher_harness::config::{GROUP, Settings};
use switcher_harness::topology::{COLOURS, INTERFACE, six};
use switcher_harness::{Mode, Namespace, Stand, privilege, servers};
use switcher_tests::receiver::Receivers;

/// What the hop between far clients and the switch takes, in bytes.
const HOP: u32 = 1280;
/// What is sent each way.
const BYTES: usize = 1_000_000;
/// Packets that may be left to the stack while an upload takes its first steps; the large ones alone are more.
const FEW: u64 = 5;
/// A line of an upload.
const LINE: usize = 8000;
/// How long the FIB's answers are remembered: two ticks, and a bit.
const REMEMBERED: Duration =
    Duration::from_nanos(2 << TICK_SHIFT).saturating_add(Duration::from_millis(100));
/// How long anything may take: the first packets of a path are repeated a few times.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a datagram's answer may take before it is sent again.
const MOMENT: Duration = Duration::from_millis(300);

macro_rules! paths {
    ($($name:ident: $mode:ident $xdp:literal v6 $v6:literal;)+) => {$(
        #[test]
        fn $name() {
            run(stringify!($name), Mode::$mode, $v6, $xdp);
        }
    )+};
}

paths! {
    local: Local "native" v6 false;
    local_v6: Local "native" v6 true;
    routed: Routed "native" v6 false;
    routed_v6: Routed "native" v6 true;
    masquerade: Masquerade "native" v6 false;
    masquerade_v6: Masquerade "native" v6 true;
    dsr: Dsr "native" v6 false;
    dsr_v6: Dsr "native" v6 true;
    ipip: Ipip "native" v6 false;
    ipip_v6: Ipip "native" v6 true;
    // There the packets of clients beside the switch are large, and what has to fit is a segment of them.
    local_at_tc: Local "tc" v6 false;
    routed_at_tc: Routed "tc" v6 false;
    routed_at_tc_v6: Routed "tc" v6 true;
    masquerade_at_tc: Masquerade "tc" v6 false;
    dsr_at_tc: Dsr "tc" v6 false;
    ipip_at_tc: Ipip "tc" v6 false;
}

fn run(name: &str, mode: Mode, v6: bool, xdp: &'static str) {
    privilege::run(name, || paths(mode, v6, xdp));
}

fn paths(mode: Mode, v6: bool, xdp: &'static str) -> Result<()> {
    let settings = Settings {
        v6,
        xdp,
        agent: match mode {
            Mode::Masquerade => "[agent.masquerade]\nports = \"10000-19999\"",
            Mode::Local | Mode::Routed | Mode::Dsr | Mode::Ipip => "",
        },
        ..Settings::default()
    };
    let stand = Stand::new(mode, xdp == "tc", settings, &binary()?)?;
    let _receivers = Receivers::attach(&stand.topology)?;
    let way = Way::new(&stand)?;
    let (web, echo) = (stand.topology.web(), stand.topology.echo());

    let before = reason(&stand, "icmp-error")?;
    // The first, so that both ends believe in larger segments, and find out.
    way.far.inside(|| upload(web))?.context("upload")?;
    let after = reason(&stand, "icmp-error")?;
    ensure!(
        after > before,
        "no router has said that a packet is too big"
    );
    way.far.inside(|| download(web))?.context("download")?;

    if matches!(mode, Mode::Routed | Mode::Masquerade) {
        let client = &stand.topology.client;
        let before = reason(&stand, "left-to-stack")?;
        client.inside(|| upload(web))?.context("upload from near")?;
        let left = reason(&stand, "left-to-stack")? - before;
        ensure!(left < FEW, "{left} packets were too large for the program");
        narrow_behind(&stand, if v6 { 1280 } else { 1200 })?;
        // Until then the program goes by what the FIB has said before.
        std::thread::sleep(REMEMBERED);
        let far = Some(&way.far).filter(|_| !v6);
        for from in far.into_iter().chain([client]) {
            let before = reason(&stand, "icmp-error")?;
            from.inside(|| upload(web))?
                .context("upload behind the switch")?;
            let after = reason(&stand, "icmp-error")?;
            ensure!(
                after > before,
                "the switch has not said that a packet is too big"
            );
        }
    }
    datagrams(&stand, &way, echo)
}

/// The links to the backends become narrow. These know, but tell the other end that they take more.
fn narrow_behind(stand: &Stand, mtu: u16) -> Result<()> {
    let topology = &stand.topology;
    for (number, backend) in (1..).zip(&topology.backends) {
        topology
            .switch
            .ip(&format!("link set be{number} mtu {mtu}"))?;
        let gateway = Ipv4Addr::new(10, 77, 10 + number, 1);
        let (gateway, bits) = family(gateway, topology.v6);
        let to = match topology.mode {
            Mode::Routed => format!("default via {gateway}"),
            _ => format!("{gateway}/{bits} dev {INTERFACE}"),
        };
        let route = format!("route replace {to} mtu {mtu} advmss 1420");
        backend.ip(&match topology.v6 {
            true => format!("-6 {route}"),
            false => route,
        })?;
    }
    Ok(())
}

/// An address in a topology's family, and the bits of it that are the host's.
fn family(address: Ipv4Addr, v6: bool) -> (IpAddr, u8) {
    match v6 {
        true => (six(address).into(), 128),
        false => (address.into(), 32),
    }
}

/// A flow of datagrams that take many fragments stays with its colour through a flip, and a new one goes to the
/// other.
fn datagrams(stand: &Stand, way: &Way, echo: SocketAddr) -> Result<()> {
    let old = way.far.inside(|| socket(echo))??;
    for number in 0..5 {
        ask(&old, COLOURS[0], number)?;
    }
    stand.agent.cli(&["flip", GROUP])?.expect(0)?;
    let new = way.far.inside(|| socket(echo))??;
    for number in 0..5 {
        ask(&old, COLOURS[0], number)?;
        ask(&new, COLOURS[1], number)?;
    }
    let dropped = reason(stand, "fragment-unseen")?;
    ensure!(dropped == 0, "{dropped} fragments came before their first");
    Ok(())
}

fn socket(echo: SocketAddr) -> Result<UdpSocket> {
    let any: IpAddr = match echo {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(echo)?;
    socket.set_read_timeout(Some(MOMENT))?;
    Ok(socket)
}

/// Asks until it is answered: in IPv6 nobody on the way makes fragments, and who has sent a datagram that was too
/// large learns it from the loss of it.
fn ask(socket: &UdpSocket, colour: &str, number: u32) -> Result<()> {
    let text = format!("{number:04}").repeat(1000);
    let patience = Instant::now() + PATIENCE;
    loop {
        socket.send(text.as_bytes())?;
        match answer(socket, &text) {
            Ok(by) => {
                ensure!(by == colour, "{colour} was expected, not {by}");
                return Ok(());
            }
            Err(error) if Instant::now() > patience => {
                return Err(error.context(format!("{colour} has not answered {number}")));
            }
            Err(_) => {}
        }
    }
}

/// Who has answered this text. Answers to earlier ones may come late.
fn answer(socket: &UdpSocket, text: &str) -> Result<String> {
    let mut answer = vec![0; 1 << 16];
    loop {
        let size = socket.recv(&mut answer)?;
        let answer = std::str::from_utf8(&answer[..size])?;
        let by = servers::colour_of(answer).context("no colour in the answer")?;
        if answer.ends_with(text) {
            return Ok(by.to_owned());
        }
    }
}

fn connect(web: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&web, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn download(web: SocketAddr) -> Result<()> {
    let mut stream = connect(web)?;
    write!(stream, "GET /long?seconds=0&bytes={BYTES} HTTP/1.1\r\n\r\n")?;
    let mut body = vec![0; BYTES];
    stream.read_exact(&mut body)?;
    Ok(())
}

/// Lines that the server sends back, so that their arrival is known.
fn upload(web: SocketAddr) -> Result<()> {
    let stream = connect(web)?;
    let mut output = stream.try_clone()?;
    let line = "x".repeat(LINE);
    std::thread::scope(|scope| {
        let sent = scope.spawn(|| -> Result<()> {
            writeln!(output, "ECHO")?;
            for _ in 0..BYTES / LINE {
                writeln!(output, "{line}")?;
            }
            Ok(())
        });
        let mut lines = BufReader::new(stream).lines();
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

/// How often the program has counted a reason.
fn reason(stand: &Stand, label: &str) -> Result<u64> {
    let status = stand.agent.json(&["status"])?;
    Ok(status["reasons"][label].as_u64().unwrap_or_default())
}

/// The clients' side of the way; the stand's client is a router.
struct Way {
    far: Namespace,
    // Kept as long as the far end.
    _narrow: Namespace,
}

impl Way {
    fn new(stand: &Stand) -> Result<Self> {
        let (far, narrow) = (Namespace::new("far")?, Namespace::new("narrow")?);
        let topology = &stand.topology;
        let near = &topology.client;
        let [far_end, far_side] = [2, 1].map(|last| Ipv4Addr::new(10, 77, 30, last));
        let [near_side, near_end] = [1, 2].map(|last| Ipv4Addr::new(10, 77, 31, last));
        link((&far, INTERFACE, far_end), (&narrow, "far", far_side), 1500)?;
        link(
            (&narrow, "near", near_side),
            (near, "narrow", near_end),
            HOP,
        )?;
        for router in [&narrow, near] {
            router.sysctl("ipv4/ip_forward", "1")?;
            router.sysctl("ipv6/conf/all/forwarding", "1")?;
        }
        let route = |from: &Namespace, to: &str, via: Ipv4Addr| match topology.v6 {
            true => from.ip(&format!("-6 route add {to} via {}", six(via))),
            false => from.ip(&format!("route add {to} via {via}")),
        };
        let away = match topology.v6 {
            true => format!("{}/120", six(Ipv4Addr::new(10, 77, 30, 0))),
            false => "10.77.30.0/24".to_owned(),
        };
        route(&far, "default", far_side)?;
        route(&narrow, "default", near_end)?;
        route(near, &away, near_side)?;
        // Who is on one link with the router: the switch, and who answers clients directly.
        let mut beside = vec![&topology.switch];
        if topology.mode.keeps_vip() {
            beside.extend(&topology.backends);
        }
        for host in beside {
            route(host, &away, Ipv4Addr::new(10, 77, 0, 2))?;
        }
        Ok(Self {
            far,
            _narrow: narrow,
        })
    }
}

/// A veth pair on which frames carry whole checksums and are no larger than on a wire.
fn link(
    left: (&Namespace, &str, Ipv4Addr),
    right: (&Namespace, &str, Ipv4Addr),
    mtu: u32,
) -> Result<()> {
    left.0.ip(&format!(
        "link add {} mtu {mtu} type veth peer name {} mtu {mtu} netns {}",
        left.1,
        right.1,
        right.0.name()
    ))?;
    for (namespace, device, address) in [left, right] {
        namespace.ip(&format!("address add {address}/24 dev {device}"))?;
        let v6 = six(address);
        namespace.ip(&format!("address add {v6}/120 dev {device} nodad"))?;
        namespace.ip(&format!("link set {device} up"))?;
        let off = [
            "-K", device, "rx", "off", "tx", "off", "tso", "off", "gso", "off",
        ];
        namespace.run("ethtool", &off)?;
    }
    Ok(())
}
