//! Packets that are too large for the way: a hop of 1280 bytes between clients and the switch, and one behind it.
//!
//! ```text
//! far ---1500--- narrow ---1280--- client ---1500--- switch ---1500, later 1200--- backends
//! ```

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use switcher_common::abi::TICK_SHIFT;
use switcher_harness::agent::binary;
use switcher_harness::config::{GROUP, Settings};
use switcher_harness::topology::COLOURS;
use switcher_harness::{Mode, Namespace, Stand, netns, privilege, servers};

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

#[test]
fn local() {
    run("paths::local", Mode::Local, "native");
}

#[test]
fn routed() {
    run("paths::routed", Mode::Routed, "native");
}

/// There the packets of clients beside the switch are large, and what has to fit is a segment of them.
#[test]
fn routed_at_tc() {
    run("paths::routed_at_tc", Mode::Routed, "tc");
}

fn run(name: &str, mode: Mode, xdp: &'static str) {
    if !privilege::is_root(name) {
        return;
    }
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    netns::sweep();
    paths(mode, xdp).unwrap_or_else(|error| panic!("{error:#}"));
}

fn paths(mode: Mode, xdp: &'static str) -> Result<()> {
    let settings = Settings {
        xdp,
        ..Settings::default()
    };
    let offloads = xdp == "tc";
    let stand = Stand::new(mode, offloads, settings, &binary()?)?;
    let way = Way::new(&stand)?;
    let (web, echo) = (stand.topology.web(), stand.topology.echo());

    let before = reason(&stand, "icmp-error")?;
    way.far.inside(|| download(web))?.context("download")?;
    let after = reason(&stand, "icmp-error")?;
    ensure!(
        after > before,
        "no router has said that a packet is too big"
    );
    way.far.inside(|| upload(web))?.context("upload")?;

    if mode == Mode::Routed {
        let client = &stand.topology.client;
        let before = reason(&stand, "left-to-stack")?;
        client.inside(|| upload(web))?.context("upload from near")?;
        let left = reason(&stand, "left-to-stack")? - before;
        ensure!(left < FEW, "{left} packets were too large for the program");
        narrow_behind(&stand)?;
        // Until then the program goes by what the FIB has said before.
        std::thread::sleep(REMEMBERED);
        for from in [&way.far, client] {
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
fn narrow_behind(stand: &Stand) -> Result<()> {
    let topology = &stand.topology;
    for (number, backend) in (1..).zip(&topology.backends) {
        topology
            .switch
            .ip(&format!("link set be{number} mtu 1200"))?;
        backend.ip(&format!(
            "route replace default via 10.77.1{number}.1 mtu 1200 advmss 1460"
        ))?;
    }
    Ok(())
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
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(echo)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

fn ask(socket: &UdpSocket, colour: &str, number: u32) -> Result<()> {
    let text = format!("{number:04}").repeat(1000);
    let mut answer = vec![0; 1 << 16];
    socket.send(text.as_bytes())?;
    let size = socket.recv(&mut answer).context("waiting for an answer")?;
    let answer = std::str::from_utf8(&answer[..size])?;
    let by = servers::colour_of(answer).context("no colour in the answer")?;
    ensure!(by == colour, "{colour} was expected, not {by}");
    ensure!(answer.ends_with(&text), "{number} came back changed");
    Ok(())
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
        let near = &stand.topology.client;
        link(
            (&far, "eth0", "10.77.30.2"),
            (&narrow, "far", "10.77.30.1"),
            1500,
        )?;
        link(
            (&narrow, "near", "10.77.31.1"),
            (near, "narrow", "10.77.31.2"),
            1280,
        )?;
        far.ip("route add default via 10.77.30.1")?;
        narrow.ip("route add default via 10.77.31.2")?;
        near.ip("route add 10.77.30.0/24 via 10.77.31.1")?;
        let switch = &stand.topology.switch;
        switch.ip("route add 10.77.30.0/24 via 10.77.0.2")?;
        for router in [&narrow, near] {
            router.sysctl("ipv4/ip_forward", "1")?;
        }
        Ok(Self {
            far,
            _narrow: narrow,
        })
    }
}

/// A veth pair on which frames carry whole checksums and are no larger than on a wire.
fn link(left: (&Namespace, &str, &str), right: (&Namespace, &str, &str), mtu: u32) -> Result<()> {
    left.0.ip(&format!(
        "link add {} mtu {mtu} type veth peer name {} mtu {mtu} netns {}",
        left.1,
        right.1,
        right.0.name()
    ))?;
    for (namespace, device, address) in [left, right] {
        namespace.ip(&format!("address add {address}/24 dev {device}"))?;
        namespace.ip(&format!("link set {device} up"))?;
        let off = [
            "-K", device, "rx", "off", "tx", "off", "tso", "off", "gso", "off",
        ];
        namespace.run("ethtool", &off)?;
    }
    Ok(())
}
