//! A service that runs already is adopted, switched away from, given back and released, with connections
//! that live through all of it.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use switcher_harness::agent::binary;
use switcher_harness::load::Connection;
use switcher_harness::privilege::run;
use switcher_harness::servers::{EchoServer, HttpServer, Identity, colour_of};
use switcher_harness::topology::{ECHO, INTERFACE, WEB};
use switcher_harness::{Agent, Mode, Namespace, Place, Topology};

#[test]
fn tcp_is_adopted_and_released() {
    run("tcp_is_adopted_and_released", || tcp(false));
}

#[test]
fn udp_is_adopted_and_released() {
    run("udp_is_adopted_and_released", || udp(false));
}

#[test]
fn in_ipv6_as_well() {
    run("in_ipv6_as_well", || tcp(true).and_then(|()| udp(true)));
}

/// The test is alone with its group.
const GROUP: &str = "shop";
const GREEN_WEB: u16 = 8012;
const GREEN_ECHO: u16 = 5012;
const PREVIEW: u16 = 9080;

fn tcp(v6: bool) -> Result<()> {
    let topology = topology(v6)?;
    let at = |port| at(&topology, port);
    let (client, switch) = (&topology.client, &topology.switch);
    let blue = HttpServer::start(switch, at(WEB), identity("blue"))?;
    let _green = HttpServer::start(switch, at(GREEN_WEB), identity("green"))?;
    let connect = |from: &Namespace, port| {
        let to = at(port);
        from.inside(move || Connection::open(to))?
    };
    let mut before = [connect(client, WEB)?, connect(switch, WEB)?];
    all(&mut before, "blue")?;

    let mut agent = agent(&topology, &service("web", "tcp", at(WEB), at(GREEN_WEB)))?;
    all(&mut before, "blue").context("adopted")?;
    let mut adopted = [connect(client, WEB)?, connect(switch, WEB)?];
    all(&mut adopted, "blue")?;

    agent.cli(&["flip", GROUP])?.expect(0)?;
    all(&mut before, "blue").context("flipped away")?;
    all(&mut adopted, "blue")?;
    let mut flipped = [connect(client, WEB)?, connect(switch, WEB)?];
    all(&mut flipped, "green")?;
    all(
        &mut [connect(client, PREVIEW)?, connect(switch, PREVIEW)?],
        "blue",
    )?;
    refuses_to_detach(&mut agent, "green is live")?;
    // The check of an endpoint that is the VIP is not led to the live colour.
    blue.set_healthy(false);
    becomes(&agent, "blue", false)?;
    blue.set_healthy(true);
    becomes(&agent, "blue", true)?;

    agent.cli(&["flip", GROUP, "blue"])?.expect(0)?;
    all(&mut before, "blue").context("flipped back")?;
    all(&mut adopted, "blue")?;
    all(&mut flipped, "green")?;
    all(&mut [connect(client, WEB)?, connect(switch, WEB)?], "blue")?;
    refuses_to_detach(&mut agent, "1 flow left on green")?;

    let [outside, inside] = flipped;
    drop(outside);
    agent.stop()?;
    let pins = agent.place().bpffs().display().to_string();
    eventually("detached", || {
        Ok(agent.cli(&["detach", "--bpffs", &pins])?.code == 0)
    })?;
    ensure!(attached(switch)?.is_empty(), "{}", attached(switch)?);
    all(&mut before, "blue").context("released")?;
    all(&mut adopted, "blue")?;
    all(&mut [inside], "green").context("this host's own do not depend on it")?;
    all(&mut [connect(client, WEB)?, connect(switch, WEB)?], "blue")
}

fn udp(v6: bool) -> Result<()> {
    let topology = topology(v6)?;
    let at = |port| at(&topology, port);
    let (client, switch) = (&topology.client, &topology.switch);
    let _blue = EchoServer::start(switch, at(ECHO), identity("blue"))?;
    let _green = EchoServer::start(switch, at(GREEN_ECHO), identity("green"))?;
    let before = [socket(client, at(ECHO))?, socket(switch, at(ECHO))?];
    each(&before, "blue")?;
    let mut agent = agent(&topology, &service("echo", "udp", at(ECHO), at(GREEN_ECHO)))?;
    each(&before, "blue").context("adopted")?;
    agent.cli(&["flip", GROUP])?.expect(0)?;
    each(&before, "blue").context("flipped away")?;
    let flipped = [socket(client, at(ECHO))?, socket(switch, at(ECHO))?];
    each(&flipped, "green")?;
    agent.cli(&["flip", GROUP, "blue"])?.expect(0)?;
    each(&before, "blue").context("flipped back")?;
    each(&flipped, "green")?;
    refuses_to_detach(&mut agent, "2 flows left on green")?;
    // Nobody wants to wait until they are idle.
    agent.cli(&["flip", GROUP])?.expect(0)?;
    agent.cli(&["rollback", GROUP, "--hard"])?.expect(0)?;
    each(&flipped, "blue").context("given up")?;
    agent.stop()?;
    let pins = agent.place().bpffs().display().to_string();
    agent.cli(&["detach", "--bpffs", &pins])?.expect(0)?;
    each(&before, "blue").context("released")?;
    each(&flipped, "blue")
}

fn all(connections: &mut [Connection], colour: &str) -> Result<()> {
    for connection in connections {
        let found = connection.colour()?;
        ensure!(found == colour, "{found} answers, not {colour}");
    }
    Ok(())
}

/// An unconnected socket, and where it sends to.
fn socket(namespace: &Namespace, to: SocketAddr) -> Result<(UdpSocket, SocketAddr)> {
    let any = if to.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
    let socket = namespace.inside(|| UdpSocket::bind(any))??;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    Ok((socket, to))
}

fn each(sockets: &[(UdpSocket, SocketAddr)], colour: &str) -> Result<()> {
    for (socket, to) in sockets {
        socket.send_to(b"who", to)?;
        let mut answer = [0; 256];
        let (size, from) = socket.recv_from(&mut answer).context("no answer")?;
        let text = String::from_utf8_lossy(&answer[..size]);
        ensure!(from == *to, "the answer comes from {from}");
        ensure!(colour_of(&text) == Some(colour), "{text}, not {colour}");
    }
    Ok(())
}

/// With the agent stopped for as long as that takes.
fn refuses_to_detach(agent: &mut Agent, why: &str) -> Result<()> {
    agent.stop()?;
    let pins = agent.place().bpffs().display().to_string();
    let refused = agent.cli(&["detach", "--bpffs", &pins])?.expect(5)?;
    ensure!(refused.stderr.contains(why), "{}", refused.stderr);
    agent.start()
}

fn becomes(agent: &Agent, colour: &str, healthy: bool) -> Result<()> {
    eventually(&format!("{colour} healthy: {healthy}"), || {
        Ok(agent.status()?["colours"][colour]["healthy"] == healthy)
    })
}

fn eventually(what: &str, mut is: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is()? {
        ensure!(Instant::now() < deadline, "{what}: not within 10 s");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// What `ip` shows of XDP on the interface.
fn attached(switch: &Namespace) -> Result<String> {
    let link = switch.ip(&format!("link show {INTERFACE}"))?;
    Ok(link.lines().filter(|it| it.contains("xdp")).collect())
}

fn agent(topology: &Topology, service: &str) -> Result<Agent> {
    let place = Place::new()?;
    let config = format!(
        "[agent]\ninterfaces = [\"{INTERFACE}\"]\nsocket = {:?}\nstate_dir = {:?}\nbpffs = {:?}\n\
         [groups.{GROUP}]\ninitial = \"blue\"\n\
         [groups.{GROUP}.drain]\nlearn = \"300ms\"\n{service}",
        place.socket(),
        place.state(),
        place.bpffs(),
    );
    let mut agent = Agent::new(&topology.switch, &binary()?, place, &config)?;
    agent.start()?;
    Ok(agent)
}

/// Blue is the VIP.
fn service(name: &str, protocol: &str, vip: SocketAddr, green: SocketAddr) -> String {
    let preview = SocketAddr::new(vip.ip(), PREVIEW);
    let health = match protocol {
        "tcp" => "kind = \"http\"\npath = \"/healthz\"\ninterval = \"100ms\"\nrise = 1\nfall = 1\n",
        _ => "kind = \"none\"\n",
    };
    format!(
        "[groups.{GROUP}.health]\n{health}\
         [groups.{GROUP}.services.{name}]\nvip = \"{vip}/{protocol}\"\n\
         preview = \"{preview}\"\n\
         endpoints.blue = [\"{vip}\"]\nendpoints.green = [\"{green}\"]\n"
    )
}

fn identity(colour: &str) -> Identity {
    Identity {
        colour: colour.into(),
        version: "v1".into(),
        host: colour.into(),
    }
}

fn topology(v6: bool) -> Result<Topology> {
    let mut topology = Topology::new(Mode::Local, false)?;
    if v6 {
        topology.speak_v6()?;
    }
    Ok(topology)
}

/// A port of the service's address.
fn at(topology: &Topology, port: u16) -> SocketAddr {
    SocketAddr::new(topology.web().ip(), port)
}
