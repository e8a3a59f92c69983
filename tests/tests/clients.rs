//! Clients on the switching host itself: their sockets are steered like everybody's packets.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use switcher_harness::agent::binary;
use switcher_harness::config::{GROUP, Settings};
use switcher_harness::load::Connection;
use switcher_harness::privilege::run;
use switcher_harness::servers::{EchoServer, HttpServer, Identity, colour_of};
use switcher_harness::topology::{ECHO, VIP, WEB};
use switcher_harness::{Cgroup, Mode, Namespace, Stand};

/// The port that reaches the idle colour.
const PREVIEW: u16 = 9080;

macro_rules! tests {
    ($($name:ident: $test:expr;)+) => {
        mod test {$(
            #[test]
            fn $name() {
                super::run(stringify!($name), $test);
            }
        )+}
    };
}

tests! {
    connections_of_this_host_follow_the_switch: || super::connections(false);
    connections_in_ipv6: || super::connections(true);
    datagrams_of_this_host_follow_the_switch: || super::datagrams(false);
    datagrams_in_ipv6: || super::datagrams(true);
    other_namespaces_are_left_alone: super::other_namespaces_are_left_alone;
    the_agent_may_die_and_come_back: super::the_agent_may_die_and_come_back;
    off_by_the_configuration: super::off_by_the_configuration;
    a_part_of_the_processes: super::a_part_of_the_processes;
}

fn connections(v6: bool) -> Result<()> {
    let stand = stand(v6)?;
    let here = |address, colour| stand.topology.switch.inside(|| reaches(address, colour))?;
    let web = stand.topology.web();
    let (preview, endpoint) = (at(&stand, PREVIEW), at(&stand, 8011));
    let mut old = stand.topology.switch.inside(|| Connection::open(web))??;
    ensure!(old.colour()? == "blue", "blue is live");
    here(web, "blue")?;
    here(preview, "green")?;
    let before = counted(&stand, "green")?;

    stand.agent.cli(&["flip", GROUP])?.expect(0)?;
    for _ in 0..20 {
        here(web, "green")?;
    }
    // As an IPv6 socket names an IPv4 address.
    here(mapped(web), "green")?;
    here(preview, "blue")?;
    ensure!(old.colour()? == "blue", "it stays where it connected");
    let after = counted(&stand, "green")?;
    ensure!(
        after - before == 21,
        "{after} - {before} connections of green"
    );
    // Nobody is steered who asks for an endpoint.
    here(endpoint, "blue")?;
    stand.agent.cli(&["rollback", GROUP])?.expect(0)?;
    here(mapped(web), "blue")?;
    // Nobody new while it is paused; there is no SYN to hold back.
    let words = ["pause", GROUP, "--for", "1m"];
    stand.agent.cli(&words)?.expect(0)?;
    let refused = stand.topology.switch.inside(|| TcpStream::connect(web))?;
    let kind = refused.map_err(|error| error.kind()).err();
    ensure!(kind == Some(ErrorKind::PermissionDenied), "{kind:?}");
    ensure!(old.colour()? == "blue", "whoever is in stays");
    here(preview, "green")?;
    stand.agent.cli(&["resume", GROUP])?.expect(0)?;
    here(web, "blue")
}

fn datagrams(v6: bool) -> Result<()> {
    let stand = stand(v6)?;
    let echo = stand.topology.echo();
    let any = if v6 { "[::]:0" } else { "0.0.0.0:0" };
    let unconnected = || -> Result<UdpSocket> {
        let socket = stand.topology.switch.inside(|| UdpSocket::bind(any))??;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        Ok(socket)
    };
    let connected = || -> Result<UdpSocket> {
        let socket = unconnected()?;
        socket.connect(echo)?;
        let peer = socket.peer_addr()?;
        ensure!(peer == echo, "the peer is {peer}");
        Ok(socket)
    };
    let (old, old_connected) = (unconnected()?, connected()?);
    asks(&old, echo, "blue")?;
    says(&old_connected, "blue")?;
    stand.agent.cli(&["flip", GROUP])?.expect(0)?;
    asks(&old, echo, "blue").context("a flow stays")?;
    says(&old_connected, "blue").context("a connected socket stays")?;
    let new = unconnected()?;
    asks(&new, echo, "green")?;
    says(&connected()?, "green")?;

    // To an endpoint on purpose, from a socket that also knows the VIP.
    let endpoint = at(&stand, 5011);
    asks(&new, endpoint, "blue")?;
    asks(&new, echo, "green")?;
    asks(&new, endpoint, "blue")?;
    asks(&unconnected()?, endpoint, "blue")
}

fn other_namespaces_are_left_alone() -> Result<()> {
    let stand = stand(false)?;
    let other = Namespace::new("other")?;
    other.ip(&format!("address add {VIP}/32 dev lo"))?;
    let own = || Identity {
        colour: "own".into(),
        version: "v1".into(),
        host: "own".into(),
    };
    let _web = HttpServer::start(&other, web(), own())?;
    let _echo = EchoServer::start(&other, echo(), own())?;
    other.inside(|| {
        reaches(web(), "own")?;
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        asks(&socket, echo(), "own")
    })??;
    // From outside as ever.
    let mut outside = stand.topology.client.inside(|| Connection::open(web()))??;
    ensure!(outside.colour()? == "blue", "not blue");
    Ok(())
}

fn the_agent_may_die_and_come_back() -> Result<()> {
    let mut stand = stand(false)?;
    stand.agent.kill()?;
    let here = |stand: &Stand, colour: &'static str| {
        stand.topology.switch.inside(|| reaches(web(), colour))?
    };
    here(&stand, "blue")?;
    let at = stand.agent.place().bpffs().display().to_string();
    let words = ["emergency", GROUP, "green", "--bpffs", &at];
    stand.agent.cli(&words)?.expect(0)?;
    here(&stand, "green")?;
    stand.agent.start()?;
    here(&stand, "green")?;
    let status = stand.agent.json(&["status"])?;
    ensure!(status["local_clients"]["state"] == "on", "{status}");
    stand.agent.stop()?;
    stand
        .agent
        .cli(&["detach", "--force", "--bpffs", &at])?
        .expect(0)?;
    let refused = stand.topology.switch.inside(|| TcpStream::connect(web()))?;
    ensure!(refused.is_err(), "somebody listens on the VIP");
    Ok(())
}

fn off_by_the_configuration() -> Result<()> {
    let mut stand = stand(false)?;
    stand.agent.stop()?;
    let config = std::fs::read_to_string(stand.agent.place().config())?;
    let config = config.replacen("[agent]\n", "[agent]\nlocal_clients = false\n", 1);
    stand.agent.write_config(&config)?;
    stand.agent.start()?;
    let status = stand.agent.json(&["status"])?;
    ensure!(status["local_clients"]["state"] == "off", "{status}");
    let refused = stand.topology.switch.inside(|| TcpStream::connect(web()))?;
    ensure!(refused.is_err(), "somebody listens on the VIP");
    // What can't be had is told, and stops nothing.
    stand.agent.stop()?;
    let config = config.replacen("local_clients = false\n", "cgroup = \"/proc\"\n", 1);
    stand.agent.write_config(&config)?;
    stand.agent.start()?;
    let status = stand.agent.json(&["status"])?;
    ensure!(status["local_clients"]["state"] == "refused", "{status}");
    let said = stand.agent.cli(&["status"])?.expect(0)?.stdout;
    ensure!(said.contains("/proc: not in a cgroup v2"), "{said}");
    let mut outside = stand.topology.client.inside(|| Connection::open(web()))??;
    ensure!(outside.colour()? == "blue", "not blue");
    Ok(())
}

fn a_part_of_the_processes() -> Result<()> {
    let cgroup = Cgroup::new()?;
    let mut stand = stand(false)?;
    let switch = stand.topology.switch.path();
    // Who answers, or nobody.
    let asks = || -> Result<String> {
        let shell = format!(
            "exec nsenter --net={} timeout 5 bash -c 'exec 3<>/dev/tcp/{VIP}/{WEB} && \
             printf \"GET / HTTP/1.1\\r\\n\\r\\n\" >&3 && grep -m1 X-Colour <&3'",
            switch.display()
        );
        let output = cgroup.enter(&shell).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    ensure!(asks()? == "X-Colour: blue", "it is below the root");
    // From the root of the hierarchy to the part: the old programs go.
    stand.agent.stop()?;
    let key = format!("[agent]\ncgroup = {:?}\n", cgroup.path());
    let config = std::fs::read_to_string(stand.agent.place().config())?;
    stand
        .agent
        .write_config(&config.replacen("[agent]\n", &key, 1))?;
    stand.agent.start()?;
    ensure!(asks()? == "X-Colour: blue", "it is in the part");
    let refused = stand.topology.switch.inside(|| TcpStream::connect(web()))?;
    ensure!(refused.is_err(), "this process is not");
    stand.agent.cli(&["flip", GROUP])?.expect(0)?;
    ensure!(asks()? == "X-Colour: green", "flipped");
    Ok(())
}

/// A connection goes to the colour, and says that its peer is what was asked for.
fn reaches(address: SocketAddr, colour: &str) -> Result<()> {
    let mut connection = Connection::open(address)?;
    let found = connection.colour()?;
    ensure!(found == colour, "{address}: {found} answers, not {colour}");
    let peer = connection.peer()?;
    ensure!(peer == address, "the peer of {address} is {peer}");
    Ok(())
}

/// A datagram is answered by the colour, and from where it was sent to.
fn asks(socket: &UdpSocket, address: SocketAddr, colour: &str) -> Result<()> {
    socket.send_to(b"who", address)?;
    let mut answer = [0; 256];
    let (size, from) = socket.recv_from(&mut answer).context("no answer")?;
    ensure!(from == address, "{address} answers from {from}");
    names(&answer[..size], colour)
}

fn says(socket: &UdpSocket, colour: &str) -> Result<()> {
    socket.send(b"who")?;
    let mut answer = [0; 256];
    let (size, from) = socket.recv_from(&mut answer).context("no answer")?;
    let peer = socket.peer_addr()?;
    ensure!(from == peer, "{peer} answers from {from}");
    names(&answer[..size], colour)
}

fn names(answer: &[u8], colour: &str) -> Result<()> {
    let text = String::from_utf8_lossy(answer);
    ensure!(colour_of(&text) == Some(colour), "{text}, not {colour}");
    Ok(())
}

fn counted(stand: &Stand, colour: &str) -> Result<u64> {
    let status = stand.agent.status()?;
    let count = status["colours"][colour]["connections"].as_u64();
    count.with_context(|| format!("no connections of {colour} in {status}"))
}

const fn web() -> SocketAddr {
    SocketAddr::new(IpAddr::V4(VIP), WEB)
}

const fn echo() -> SocketAddr {
    SocketAddr::new(IpAddr::V4(VIP), ECHO)
}

/// A port of the services' address.
fn at(stand: &Stand, port: u16) -> SocketAddr {
    SocketAddr::new(stand.topology.web().ip(), port)
}

/// As an IPv6 socket names it.
fn mapped(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().into(),
        v6 @ IpAddr::V6(_) => v6,
    };
    SocketAddr::new(ip, address.port())
}

fn stand(v6: bool) -> Result<Stand> {
    let settings = Settings {
        servers: 2,
        v6,
        ..Settings::default()
    };
    let mut stand = Stand::without_agent(Mode::Local, true, settings, &binary()?)?;
    let config = std::fs::read_to_string(stand.agent.place().config())?;
    let service = format!("[groups.{GROUP}.services.web]\n");
    let preview = at(&stand, PREVIEW);
    let config = config.replacen(&service, &format!("{service}preview = \"{preview}\"\n"), 1);
    stand.agent.write_config(&config)?;
    stand.agent.start()?;
    Ok(stand)
}
