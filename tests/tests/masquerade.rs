//! Endpoints that have no way to clients but through the address they see: what is switched and what
//! becomes of the agent is nothing to flows.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use switcher_harness::agent::{Output, binary};
use switcher_harness::config::{GROUP, Settings};
use switcher_harness::load::{self, Kind, Report};
use switcher_harness::privilege::alone;
use switcher_harness::stats::Counters;
use switcher_harness::topology::COLOURS;
use switcher_harness::{Load, Mode, Plan, Stand};

/// Switches under load.
const SWITCHES: usize = 20;
/// Some time for the load to see what has changed.
const WHILE: Duration = Duration::from_millis(100);
/// Ports apart from those that this host's own connections get here.
const PORTS: &str = "[agent.masquerade]\nports = \"10000-19999\"";
/// Ports for three flows to each endpoint.
const FEW: &str = "[agent.masquerade]\nports = \"10000-10002\"\nclosing = \"1s\"";

/// A datagram's flow ends before this test does, a connection doesn't.
const SHORT: &str = "[agent.masquerade]\nports = \"10000-19999\"\nudp = \"2s\"";
/// As said there.
const SILENCE: Duration = Duration::from_secs(2);

macro_rules! tests {
    ($($name:ident: $test:expr;)+) => {
        mod test {$(
            #[test]
            fn $name() {
                super::alone(stringify!($name), || $test);
            }
        )+}
    };
}

tests! {
    flips_under_load_native_with_offloads: super::flips("native", true, false);
    flips_under_load_native_without_offloads: super::flips("native", false, false);
    flips_under_load_generic_without_offloads: super::flips("generic", false, false);
    flips_under_load_in_v6: super::flips("native", false, true);
    flips_under_load_tc_with_offloads: super::flips("tc", true, false);
    flows_outlive_the_agent: super::flows_outlive_the_agent();
    a_hard_rollback_ends_what_the_colour_has: super::a_hard_rollback_ends_what_the_colour_has();
    a_deadline_ends_what_is_left_and_nothing_else: super::a_deadline_ends_what_is_left_and_nothing_else();
    a_flow_too_many_is_refused_and_seen: super::a_flow_too_many_is_refused_and_seen();
    ports_go_on_without_the_agent: super::ports_go_on_without_the_agent();
    whoever_comes_again_keeps_its_port: super::whoever_comes_again_keeps_its_port();
    thousands_of_connections_meet_no_remains: super::thousands_of_connections_meet_no_remains();
    a_link_that_was_down_is_used_again_at_once: super::a_link_that_was_down_is_used_again_at_once();
    a_flow_is_forgotten_after_its_own_silence: super::a_flow_is_forgotten_after_its_own_silence();
    one_port_of_a_client_leads_by_two_faces_with_offloads: super::one_port_of_a_client_leads_by_two_faces(true);
    one_port_of_a_client_leads_by_two_faces_without_offloads: super::one_port_of_a_client_leads_by_two_faces(false);
    drained_when_the_last_connection_has_ended: super::drained_when_the_last_connection_has_ended();
}

/// Connections of all kinds stay where they began, and new ones follow each switch at once.
fn flips(xdp: &'static str, offloads: bool, v6: bool) -> Result<()> {
    let settings = Settings {
        v6,
        ..settings(xdp, PORTS)
    };
    let stand = Stand::new(Mode::Masquerade, offloads, settings, &binary()?)?;
    let before = Counters::read(&stand.topology.client)?;
    let plan = Plan {
        download: Duration::from_secs(3),
        ..Plan::default()
    };
    let load = Load::start(&stand.topology, &plan)?;
    std::thread::sleep(Duration::from_millis(500));
    let mut switches: Vec<(&str, Output)> = Vec::new();
    for number in 0..SWITCHES {
        let (verb, to) = if number.is_multiple_of(2) {
            ("flip", COLOURS[1])
        } else {
            ("rollback", COLOURS[0])
        };
        switches.push((to, stand.agent.cli(&[verb, GROUP])?.expect(0)?));
        std::thread::sleep(WHILE);
    }
    let report = load.stop()?;
    let kernel = Counters::read(&stand.topology.client)?.since(&before);
    println!(
        "{xdp}, offloads {offloads}: {}; {kernel:?}",
        report.summary()
    );
    unharmed(&report)?;
    for kind in Kind::ALL {
        ensure!(report.count(kind) > 0, "the load had no {kind}");
    }
    ensure!(
        kernel.resets + kernel.failed_opens == 0,
        "the clients' kernel counted {kernel:?}"
    );
    let ends = switches.iter().skip(1).map(|(_, next)| next.begun);
    let mut judged = 0;
    for ((to, switch), end) in switches.iter().zip(ends.chain([Instant::now()])) {
        judged += report.begun_between(switch.ended, end);
        let strays = report.strays(to, switch.ended, end);
        ensure!(strays.is_empty(), "strays: {:?}", strays.first());
    }
    ensure!(judged > SWITCHES, "only {judged} connections were new");
    // The servers' only clients are this host's addresses.
    let status = stand.agent.status()?;
    let json = stand.agent.json(&["status"])?;
    ensure!(json["masquerade"]["exhausted"] == 0, "{json}");
    ensure!(
        status["colours"]["blue"]["connections"].as_u64() > Some(0),
        "{status}"
    );
    Ok(())
}

fn flows_outlive_the_agent() -> Result<()> {
    let mut stand = stand("native", false, PORTS)?;
    let load = Load::start(
        &stand.topology,
        &Plan {
            download: Duration::from_secs(2),
            ..Plan::default()
        },
    )?;
    std::thread::sleep(Duration::from_millis(400));
    stand.agent.cli(&["flip", GROUP])?.expect(0)?;
    stand.agent.kill()?;
    std::thread::sleep(Duration::from_millis(700));
    stand.agent.start()?;
    let back = stand.agent.cli(&["rollback", GROUP])?.expect(0)?;
    std::thread::sleep(Duration::from_millis(300));
    let report = load.stop()?;
    unharmed(&report)?;
    let strays = report.strays(COLOURS[0], back.ended, Instant::now());
    ensure!(strays.is_empty(), "strays: {:?}", strays.first());
    Ok(())
}

/// What green has is reset, what blue has is not.
fn a_hard_rollback_ends_what_the_colour_has() -> Result<()> {
    let stand = stand("native", false, PORTS)?;
    let web = stand.topology.web();
    let mut old = connect(&stand, web)?;
    ask(&mut old, "blue")?;
    stand.agent.cli(&["flip", GROUP])?.expect(0)?;
    let mut new = connect(&stand, web)?;
    ask(&mut new, "green")?;
    ask(&mut old, "blue")?;
    let explained = explain(&stand, &new)?;
    ensure!(explained.contains("green"), "{explained}");
    stand.agent.cli(&["rollback", GROUP, "--hard"])?.expect(0)?;
    let given_up = ask(&mut new, "green")
        .err()
        .context("green still answers")?;
    let kind = given_up
        .downcast_ref::<std::io::Error>()
        .map(std::io::Error::kind);
    ensure!(
        kind == Some(std::io::ErrorKind::ConnectionReset),
        "{given_up:#}"
    );
    ask(&mut old, "blue").context("given up with them")?;
    ask(&mut connect(&stand, web)?, "blue")
}

/// Who is left on the old colour is reset then, and nobody else; nor is it later by who looks for what has ended.
fn a_deadline_ends_what_is_left_and_nothing_else() -> Result<()> {
    let settings = Settings {
        deadline: Duration::from_secs(1),
        ..settings("native", PORTS)
    };
    let stand = Stand::new(Mode::Masquerade, false, settings, &binary()?)?;
    let web = stand.topology.web();
    let mut old = connect(&stand, web)?;
    ask(&mut old, "blue")?;
    stand.agent.cli(&["flip", GROUP])?.expect(0)?;
    let mut new = connect(&stand, web)?;
    ask(&mut new, "green")?;
    let waits = ["wait", GROUP, "--for", "idle", "--timeout", "20s"];
    stand.agent.cli(&waits)?.expect(0)?;
    ensure!(ask(&mut old, "blue").is_err(), "blue still answers");
    for _ in 0..20 {
        ask(&mut new, "green").context("reset with them")?;
        std::thread::sleep(WHILE);
    }
    Ok(())
}

/// Three ports are enough for three flows to an endpoint, and a fourth is dropped and counted.
fn a_flow_too_many_is_refused_and_seen() -> Result<()> {
    let stand = stand("native", false, FEW)?;
    let web = stand.topology.web();
    let mut three = Vec::new();
    for _ in 0..3 {
        let mut connection = connect(&stand, web)?;
        ask(&mut connection, "blue")?;
        three.push(connection);
    }
    ensure!(connect(&stand, web).is_err(), "there was a fourth port");
    // Counts are up to a second old.
    std::thread::sleep(Duration::from_millis(1100));
    let status = stand.agent.json(&["status"])?;
    let masquerade = &status["masquerade"];
    ensure!(masquerade["exhausted"].as_u64() > Some(0), "{masquerade}");
    let ports = masquerade["ports"].as_array().context("ports")?;
    ensure!(
        ports.iter().any(|it| it["used"] == 3 && it["of"] == 3),
        "{masquerade}"
    );
    let said = stand.agent.cli(&["status"])?.expect(0)?.stdout;
    ensure!(said.contains("3 of 3 ports"), "{said}");
    ensure!(said.contains("refused for want of a port"), "{said}");
    // What has ended is forgotten after `closing`, and its port serves another.
    drop(three);
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match connect(&stand, web).and_then(|mut it| ask(&mut it, "blue")) {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => {}
        }
    }
}

/// While it was down there was no way to the endpoint; where its flows come from is known again with the link.
fn a_link_that_was_down_is_used_again_at_once() -> Result<()> {
    let stand = stand("native", false, PORTS)?;
    let (switch, web) = (&stand.topology.switch, stand.topology.web());
    let reached = || connect(&stand, web).and_then(|mut it| ask(&mut it, "blue"));
    for _ in 0..2 {
        reached()?;
        switch.ip("link set be1 down")?;
        // Longer than between two looks at addresses.
        std::thread::sleep(Duration::from_millis(5500));
        ensure!(reached().is_err(), "by what way?");
        switch.ip("link set be1 up")?;
        let deadline = Instant::now() + Duration::from_millis(1500);
        while let Err(error) = reached() {
            let why = "the link is up";
            ensure!(Instant::now() < deadline, "{:#}", error.context(why));
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    Ok(())
}

/// Three ports serve any number of connections, one after the other, though nobody gives any back.
fn ports_go_on_without_the_agent() -> Result<()> {
    let mut stand = stand("native", false, FEW)?;
    let web = stand.topology.web();
    let mut lasting = connect(&stand, web)?;
    ask(&mut lasting, "blue")?;
    stand.agent.kill()?;
    let deadline = Instant::now() + Duration::from_secs(40);
    let (mut served, mut refused) = (0, 0);
    while served < 8 {
        match connect(&stand, web) {
            Ok(mut it) => {
                ask(&mut it, "blue")?;
                served += 1;
            }
            Err(error) if Instant::now() > deadline => {
                return Err(error.context(format!("{served} served, {refused} refused")));
            }
            // A connection that has just ended keeps its port for the sake of stragglers.
            Err(_) => refused += 1,
        }
    }
    ask(&mut lasting, "blue").context("the one that has not ended")?;
    stand.agent.start()?;
    ask(&mut lasting, "blue").context("with a new agent")
}

/// The server closes first, and remembers where the connection came from: what comes next from there is newer.
fn whoever_comes_again_keeps_its_port() -> Result<()> {
    let stand = stand("native", false, PORTS)?;
    let web = stand.topology.web();
    for number in 0..10 {
        let mut connection = connect_from(&stand, 45_000, web)?;
        connection.write_all(b"GET /once HTTP/1.1\r\nHost: shop\r\n\r\n")?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        ensure!(answer.contains("blue"), "{number}: {answer}");
    }
    // The answer to a last FIN may be under way.
    let server = stand.topology.host(COLOURS[0]);
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let left = server.run("ss", &["-Htan", "state", "time-wait"])?;
        if left.lines().count() == 1 {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "ten connections left:\n{left}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Far more connections than there are ports of the client, each closed by the server, which remembers it for a minute. None has
/// to send its SYN twice.
fn thousands_of_connections_meet_no_remains() -> Result<()> {
    let stand = stand("native", false, PORTS)?;
    let (client, web) = (&stand.topology.client, stand.topology.web());
    client.run(
        "sysctl",
        &["-qw", "net.ipv4.ip_local_port_range=40000 40999"],
    )?;
    let end = Instant::now() + Duration::from_secs(4);
    let begin = || {
        let mut served = 0;
        while Instant::now() < end {
            let mut connection = connect(&stand, web)?;
            connection.write_all(b"GET /once HTTP/1.1\r\nHost: shop\r\n\r\n")?;
            let mut answer = String::new();
            connection.read_to_string(&mut answer)?;
            ensure!(answer.contains("blue"), "{answer}");
            served += 1;
        }
        Ok(served)
    };
    let served = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4).map(|_| scope.spawn(begin)).collect();
        let served = clients
            .into_iter()
            .map(|it| it.join().map_err(|_| anyhow!("a panic"))?);
        served.sum::<Result<u32>>()
    })?;
    let again = client.run("nstat", &["-az", "TcpExtTCPSynRetrans"])?;
    let again = again.lines().find(|line| line.starts_with("TcpExt"));
    let again = again.and_then(|line| line.split_whitespace().nth(1));
    ensure!(served > 3000, "only {served} connections");
    ensure!(
        again == Some("0"),
        "{again:?} SYNs of {served} were sent again"
    );
    Ok(())
}

/// A datagram's flow soon, and a connection not at all; whoever comes back after that is served as new.
fn a_flow_is_forgotten_after_its_own_silence() -> Result<()> {
    let stand = stand("native", false, SHORT)?;
    let mut connection = connect(&stand, stand.topology.web())?;
    ask(&mut connection, "blue")?;
    let echo = stand.topology.echo();
    let socket = stand.topology.client.inside(|| -> Result<UdpSocket> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect(echo)?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        Ok(socket)
    })??;
    let talk = |colour: &str| -> Result<()> {
        socket.send(b"hello")?;
        let mut answer = [0; 100];
        let length = socket.recv(&mut answer)?;
        let answer = String::from_utf8_lossy(&answer[..length]);
        ensure!(answer.contains(&format!("colour={colour}")), "{answer}");
        Ok(())
    };
    let flows = |count: u64| stand.until(|it| it["colours"]["blue"]["flows"] == count);
    talk("blue")?;
    flows(2).context("both are remembered")?;
    stand.agent.cli(&["flip", GROUP])?.expect(0)?;
    // It is not silent.
    let begun = Instant::now();
    while begun.elapsed() < 2 * SILENCE {
        talk("blue")?;
        std::thread::sleep(SILENCE / 10);
    }
    flows(2).context("both still are")?;
    flows(1).context("one was silent for too long")?;
    talk("green")?;
    ask(&mut connection, "blue")
}

/// The window ends with the last flow of the old colour, not with the deadline.
fn drained_when_the_last_connection_has_ended() -> Result<()> {
    let stand = stand("native", false, PORTS)?;
    let mut old = connect(&stand, stand.topology.web())?;
    ask(&mut old, "blue")?;
    stand.agent.cli(&["flip", GROUP])?.expect(0)?;
    let waits = ["wait", GROUP, "--for", "drained", "--timeout", "2s"];
    stand.agent.cli(&waits)?.expect(8)?;
    let status = stand.agent.status()?;
    ensure!(status["colours"]["blue"]["flows"] == 1, "{status}");
    ask(&mut old, "blue")?;
    drop(old);
    let waits = ["wait", GROUP, "--for", "drained", "--timeout", "10s"];
    stand.agent.cli(&waits)?.expect(0)?;
    Ok(())
}

/// A client's kernel gives one port to a connection to the service and to one to its preview, which may lead to the same
/// endpoint: there they are two, and stay so whoever forwards them.
fn one_port_of_a_client_leads_by_two_faces(offloads: bool) -> Result<()> {
    let settings = Settings {
        web: "preview = \"10.77.1.1:8080\"",
        ..settings("native", PORTS)
    };
    let stand = Stand::new(Mode::Masquerade, offloads, settings, &binary()?)?;
    let web = stand.topology.web();
    let preview = SocketAddr::new(web.ip(), 8080);
    let mut tried = connect_from(&stand, 15_000, preview)?;
    ask(&mut tried, "green")?;
    stand.agent.cli(&["flip", GROUP])?.expect(0)?;
    let mut used = connect_from(&stand, 15_000, web)?;
    for _ in 0..3 {
        ask(&mut used, "green").context("by the service")?;
        ask(&mut tried, "green").context("by its preview")?;
    }
    // The other way round, and what has ended takes nothing with it.
    let mut used = connect_from(&stand, 15_001, web)?;
    ask(&mut used, "green")?;
    stand.agent.cli(&["rollback", GROUP])?.expect(0)?;
    let mut tried = connect_from(&stand, 15_001, preview)?;
    for _ in 0..3 {
        ask(&mut tried, "green").context("by the preview of what was live")?;
        ask(&mut used, "green").context("by the service before the rollback")?;
    }
    drop(tried);
    ask(&mut used, "green").context("when the other has ended")
}

/// A connection from the client's host.
fn connect(stand: &Stand, to: SocketAddr) -> Result<TcpStream> {
    let patience = Duration::from_millis(700);
    let client = &stand.topology.client;
    let connection = client.inside(|| TcpStream::connect_timeout(&to, patience))??;
    connection.set_read_timeout(Some(Duration::from_secs(5)))?;
    Ok(connection)
}

/// The same from this port, which may have had another connection just now.
fn connect_from(stand: &Stand, port: u16, to: SocketAddr) -> Result<TcpStream> {
    let patience = Duration::from_millis(700);
    let client = &stand.topology.client;
    let connection = client.inside(|| load::connect_from(port, to, patience))??;
    connection.set_read_timeout(Some(Duration::from_secs(5)))?;
    Ok(connection)
}

/// Asks for the colour on a connection that stays open.
fn ask(connection: &mut TcpStream, colour: &str) -> Result<()> {
    connection.write_all(b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n")?;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = connection.read(&mut buffer)?;
        answer.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&answer);
        if text.contains(colour) {
            return Ok(());
        }
        ensure!(read > 0, "the connection ended with: {text}");
    }
}

fn explain(stand: &Stand, connection: &TcpStream) -> Result<String> {
    let (source, vip) = (connection.local_addr()?, connection.peer_addr()?);
    let words = [source.to_string(), vip.to_string()];
    let output = stand
        .agent
        .cli(&["explain", GROUP, "tcp", &words[0], &words[1]])?
        .expect(0)?;
    ensure!(output.stdout.contains("remembered"), "{}", output.stdout);
    Ok(output.stdout)
}

fn unharmed(report: &Report) -> Result<()> {
    let failures = report.failures();
    ensure!(
        failures.is_empty(),
        "{} failures, such as {:?}",
        failures.len(),
        &failures[..failures.len().min(5)]
    );
    Ok(())
}

fn stand(xdp: &'static str, offloads: bool, agent: &'static str) -> Result<Stand> {
    Stand::new(Mode::Masquerade, offloads, settings(xdp, agent), &binary()?)
}

fn settings(xdp: &'static str, agent: &'static str) -> Settings {
    Settings {
        xdp,
        agent,
        servers: if agent == FEW { 1 } else { 2 },
        health: "none",
        ..Settings::default()
    }
}
