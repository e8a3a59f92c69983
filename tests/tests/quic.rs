//! QUIC through the switch: quinn's server and client. Connections stay where they began, new ones go to the
//! new colour, and no handshake fails, with Retry and without, and with questions in the first packets (0-RTT).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::rustls::RootCertStore;
use quinn::rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use quinn::{ClientConfig, Connection, Endpoint, EndpointConfig, Incoming, ServerConfig};
use quinn::{TokioRuntime, TransportConfig};
use switcher_harness::agent::{Output, binary};
use switcher_harness::config::{GROUP, Settings};
use switcher_harness::privilege::alone;
use switcher_harness::{Mode, Namespace, Stand};
use tokio::runtime::Runtime;

const PORT: u16 = 4433;
/// Connections that live as long as the test.
const LONG: usize = 8;
/// A handshake, or an answer, that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(20);
const WHILE: Duration = Duration::from_millis(700);

#[test]
fn connections_stay_and_new_ones_follow_local() {
    alone("connections_stay_and_new_ones_follow_local", || {
        follow(Mode::Local, false)
    });
}

#[test]
fn connections_stay_and_new_ones_follow_routed() {
    alone("connections_stay_and_new_ones_follow_routed", || {
        follow(Mode::Routed, false)
    });
}

#[test]
fn connections_stay_and_new_ones_follow_in_v6() {
    alone("connections_stay_and_new_ones_follow_in_v6", || {
        follow(Mode::Local, true)?;
        follow(Mode::Routed, true)
    });
}

fn follow(mode: Mode, v6: bool) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let mut stand = Stand::without_agent(mode, false, settings(v6), &binary()?)?;
    let vip = SocketAddr::new(stand.topology.web().ip(), PORT);
    let servers = servers(&stand, mode)?;
    let config = stand.settings.render(&stand.topology, stand.agent.place());
    stand
        .agent
        .write_config(&(config + &service(mode, vip, &servers)))?;
    let certified = rcgen::generate_simple_self_signed(["shop".to_owned()])?;
    for (colour, address) in ["blue", "green"].into_iter().zip(servers) {
        let host = stand.topology.host(colour);
        let server = server(&runtime, host, address, &certified)?;
        runtime.spawn(serve(server, colour));
    }
    stand.agent.start()?;

    let (client, hasty) = (client(&certified)?, client(&certified)?);
    let guest = |client| Guest {
        namespace: &stand.topology.client,
        runtime: &runtime,
        client,
        vip,
    };
    let (guest, hasty) = (guest(&client), guest(&hasty));
    let old = guest.connect_all("blue")?;
    hasty.connect_all("blue")?;
    let early = [hasty.early("blue", true)?];
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let visits = scope.spawn(|| guest.visit(&over));
        let switched = || -> Result<()> {
            let flip = switch(&stand, "flip")?;
            guest.ask_all(&old, "blue")?;
            hasty.ask_all(&early, "blue")?;
            // Green knows nothing of what blue has given out.
            let rash = [hasty.early("green", false)?, hasty.early("green", true)?];
            let young = guest.connect_all("green")?;
            drains(&stand)?;
            hasty.ask_all(&early, "blue")?;
            hasty.ask_all(&rash, "green")?;
            guest.ask_all(&old, "blue")?;
            guest.ask_all(&young, "green")?;
            let back = switch(&stand, "rollback")?;
            let late = guest.connect_all("blue")?;
            std::thread::sleep(WHILE);
            for (connections, colour) in [(&old, "blue"), (&young, "green"), (&late, "blue")] {
                guest.ask_all(connections, colour)?;
            }
            let forth = switch(&stand, "flip")?;
            std::thread::sleep(WHILE);
            guest.ask_all(&young, "green")?;
            guest.ask_all(&late, "blue")?;
            over.store(true, Ordering::Relaxed);
            let visits = visits.join().map_err(|_| anyhow!("the visitor panicked"))?;
            judge(
                &visits,
                &[(&flip, "green"), (&back, "blue"), (&forth, "green")],
            )
        };
        let result = switched();
        over.store(true, Ordering::Relaxed);
        result
    })
}

/// A connection for one question: when it began, when it was answered, and by whom.
struct Visit {
    begun: Instant,
    ended: Instant,
    answer: Result<String>,
}

fn judge(visits: &[Visit], switches: &[(&Output, &str)]) -> Result<()> {
    let mut judged = 0;
    for visit in visits {
        let answer = match &visit.answer {
            Ok(answer) => answer,
            Err(error) => bail!("a visit failed: {error:#}"),
        };
        // One that a switch met may have gone either way.
        let met = |it: &Output| it.begun <= visit.ended && visit.begun <= it.ended;
        if switches.iter().any(|(it, _)| met(it)) {
            continue;
        }
        let last = switches.iter().rev().find(|(it, _)| it.ended < visit.begun);
        let colour = last.map_or("blue", |(_, colour)| colour);
        ensure!(
            answer == colour,
            "a new connection came to {answer}, not {colour}"
        );
        judged += 1;
    }
    println!("{} visits, {judged} between switches", visits.len());
    ensure!(judged > 0, "no visit between switches");
    Ok(())
}

/// Who makes connections.
struct Guest<'a> {
    namespace: &'a Namespace,
    runtime: &'a Runtime,
    client: &'a ClientConfig,
    vip: SocketAddr,
}

impl Guest<'_> {
    /// From a socket of its own.
    fn endpoint(&self) -> Result<Endpoint> {
        // None that somebody else has had: tags keep what comes from one socket together.
        static NEXT: AtomicU16 = AtomicU16::new(10_000);
        let any: IpAddr = match self.vip {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let own = (any, NEXT.fetch_add(1, Ordering::Relaxed));
        let socket = self.namespace.inside(|| UdpSocket::bind(own))??;
        let _inside = self.runtime.enter();
        let (config, runtime) = (EndpointConfig::default(), Arc::new(TokioRuntime));
        Ok(Endpoint::new(config, None, socket, runtime)?)
    }

    fn connect(&self) -> Result<(Endpoint, Connection)> {
        let endpoint = self.endpoint()?;
        let connection = self.runtime.block_on(async {
            let connecting = endpoint.connect_with(self.client.clone(), self.vip, "shop")?;
            let connection = tokio::time::timeout(PATIENCE, connecting).await;
            anyhow::Ok(connection.context("the handshake takes too long")??)
        })?;
        Ok((endpoint, connection))
    }

    /// One whose first packets have a question with them (0-RTT). A server reads it if the last ticket is its own; else
    /// it has to be asked again.
    fn early(&self, colour: &str, is_read: bool) -> Result<(Endpoint, Connection)> {
        let endpoint = self.endpoint()?;
        let connection = self.runtime.block_on(async {
            let connecting = endpoint.connect_with(self.client.clone(), self.vip, "shop")?;
            let early = connecting.into_0rtt();
            let (connection, accepted) = early.map_err(|_| anyhow!("there is no ticket"))?;
            let answer = tokio::time::timeout(PATIENCE, talk(&connection)).await;
            let (answer, accepted) = (answer, accepted.await);
            let answer = answer
                .with_context(|| format!("no answer by {colour}, 0-RTT accepted: {accepted}"))?;
            ensure!(accepted == is_read, "0-RTT accepted: {accepted}");
            match answer {
                Ok(answer) => ensure!(accepted && answer == colour, "{answer} has read it"),
                Err(error) => ensure!(!accepted, "{error:#}"),
            }
            Ok(connection)
        })?;
        let all = [(endpoint, connection)];
        self.ask_all(&all, colour)?;
        let [one] = all;
        Ok(one)
    }

    fn connect_all(&self, colour: &str) -> Result<Vec<(Endpoint, Connection)>> {
        let all: Vec<_> = (0..LONG).map(|_| self.connect()).collect::<Result<_>>()?;
        self.ask_all(&all, colour)?;
        Ok(all)
    }

    fn ask(&self, connection: &Connection) -> Result<String> {
        self.runtime.block_on(async {
            let answer = tokio::time::timeout(PATIENCE, talk(connection)).await;
            answer.context("no answer")?
        })
    }

    fn ask_all(&self, all: &[(Endpoint, Connection)], colour: &str) -> Result<()> {
        for (_, connection) in all {
            let answer = self.ask(connection)?;
            ensure!(
                answer == colour,
                "{answer} answers a connection that began with {colour}"
            );
        }
        Ok(())
    }

    /// One short connection after the other.
    fn visit(&self, over: &AtomicBool) -> Vec<Visit> {
        let mut visits = Vec::new();
        while !over.load(Ordering::Relaxed) {
            let begun = Instant::now();
            let answer = self.connect().and_then(|(endpoint, connection)| {
                let answer = self.ask(&connection)?;
                connection.close(0_u8.into(), b"");
                self.runtime.block_on(endpoint.wait_idle());
                Ok(answer)
            });
            visits.push(Visit {
                begun,
                ended: Instant::now(),
                answer,
            });
        }
        visits
    }
}

async fn talk(connection: &Connection) -> Result<String> {
    let (mut send, mut receive) = connection.open_bi().await?;
    send.write_all(b"who is it?").await?;
    send.finish()?;
    Ok(String::from_utf8(receive.read_to_end(100).await?)?)
}

async fn serve(endpoint: Endpoint, colour: &'static str) {
    // Green asks every client to come again, with another connection id.
    let retries = colour == "green";
    while let Some(incoming) = endpoint.accept().await {
        if retries && !incoming.remote_address_validated() {
            let _sent = incoming.retry();
            continue;
        }
        tokio::spawn(answer(incoming, colour));
    }
}

async fn answer(incoming: Incoming, colour: &'static str) -> Result<()> {
    let connection = incoming.await?;
    loop {
        let (mut send, mut receive) = connection.accept_bi().await?;
        receive.read_to_end(100).await?;
        send.write_all(colour.as_bytes()).await?;
        send.finish()?;
    }
}

fn server(
    runtime: &Runtime,
    host: &Namespace,
    address: SocketAddr,
    certified: &rcgen::CertifiedKey<rcgen::KeyPair>,
) -> Result<Endpoint> {
    let key = PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
    let chain = vec![CertificateDer::from(certified.cert.der().to_vec())];
    let mut config = ServerConfig::with_single_cert(chain, key.into())?;
    config.transport_config(transport());
    let socket = host.inside(|| UdpSocket::bind(address))??;
    let _inside = runtime.enter();
    Ok(Endpoint::new(
        EndpointConfig::default(),
        Some(config),
        socket,
        Arc::new(TokioRuntime),
    )?)
}

fn client(certified: &rcgen::CertifiedKey<rcgen::KeyPair>) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(certified.cert.der().to_vec()))?;
    let mut crypto = quinn::rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    crypto.enable_early_data = true;
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(crypto)?));
    config.transport_config(transport());
    Ok(config)
}

/// Frames of one datagram each: the links are veth without offloads.
fn transport() -> Arc<TransportConfig> {
    let mut transport = TransportConfig::default();
    transport.enable_segmentation_offload(false);
    Arc::new(transport)
}

/// Blue's server and green's.
fn servers(stand: &Stand, mode: Mode) -> Result<[SocketAddr; 2]> {
    let endpoints = stand.topology.endpoints(1);
    let address = |colour| {
        let found = endpoints.iter().find(|it| it.colour == colour);
        let ip = found.context("a colour without a server")?.web.ip();
        let port = match (mode, colour) {
            (Mode::Local, "green") => PORT + 2,
            (Mode::Local, _) => PORT + 1,
            _ => PORT,
        };
        anyhow::Ok(SocketAddr::new(ip, port))
    };
    Ok([address("blue")?, address("green")?])
}

fn service(mode: Mode, vip: SocketAddr, [blue, green]: &[SocketAddr; 2]) -> String {
    format!(
        "[groups.{GROUP}.services.stream]\nvip = \"{vip}/udp\"\nforward = \"{mode}\"\nudp = \"quic\"\n\
         endpoints.blue = [\"{blue}\"]\nendpoints.green = [\"{green}\"]\n"
    )
}

fn settings(v6: bool) -> Settings {
    Settings {
        v6,
        arm: Duration::from_millis(200),
        learn: Duration::from_secs(3),
        ..Settings::default()
    }
}

fn switch(stand: &Stand, verb: &str) -> Result<Output> {
    stand.agent.cli(&[verb, GROUP])?.expect(0)
}

/// Waits until nothing is learnt any more.
fn drains(stand: &Stand) -> Result<()> {
    let latest = Instant::now() + PATIENCE;
    loop {
        let group = stand.agent.status()?;
        if group["window"]["phase"] == "draining" {
            return Ok(());
        }
        ensure!(Instant::now() < latest, "not draining: {group}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
