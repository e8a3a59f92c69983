//! Clients over UDP.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::Client;
use super::record::Kind;
use crate::servers;

/// A datagram unanswered for so long is lost.
const LOST: Duration = Duration::from_secs(2);

/// Where clients send from.
const PORTS: Range<u16> = 10_000..65_000;

/// A flow: one socket, and who answered it first.
struct Flow {
    socket: UdpSocket,
    server: Option<String>,
}

/// One socket for the whole run, numbered datagrams, one server.
pub(super) fn flow(client: &Client) {
    while client.goes_on() {
        let Some(mut flow) = Flow::open(client) else {
            continue;
        };
        for number in 0u64.. {
            let kind = if number == 0 {
                Kind::UdpNew
            } else {
                Kind::UdpFlow
            };
            let is_right = flow.record(client, kind, number);
            if !is_right || !client.goes_on() {
                break;
            }
            client.pause();
        }
    }
}

/// A socket for each datagram.
pub(super) fn new(client: &Client) {
    for number in 0u64.. {
        if !client.goes_on() {
            return;
        }
        if let Some(mut flow) = Flow::open(client) {
            flow.record(client, Kind::UdpNew, number);
        }
        client.pause();
    }
}

impl Flow {
    fn open(client: &Client) -> Option<Self> {
        let open = || -> Result<Self> {
            let socket = fresh(client.echo)?;
            socket.connect(client.echo)?;
            socket.set_read_timeout(Some(LOST))?;
            Ok(Self {
                socket,
                server: None,
            })
        };
        match open() {
            Ok(flow) => Some(flow),
            Err(error) => {
                client.recorder.add(
                    Kind::UdpNew,
                    Instant::now(),
                    Err(format!("opening a socket: {error:#}")),
                );
                client.pause();
                None
            }
        }
    }

    fn record(&mut self, client: &Client, kind: Kind, number: u64) -> bool {
        let begun = Instant::now();
        let outcome = self.say(&format!("datagram {number}"));
        let is_right = outcome.is_ok();
        client
            .recorder
            .add(kind, begun, outcome.map_err(|error| format!("{error:#}")));
        is_right
    }

    fn say(&mut self, text: &str) -> Result<String> {
        self.socket.send(text.as_bytes()).context("sending")?;
        let mut buffer = [0; 2048];
        let size = self
            .socket
            .recv(&mut buffer)
            .with_context(|| format!("{text} was not answered"))?;
        let answer = std::str::from_utf8(&buffer[..size])?;
        let server = answer.strip_suffix(&format!(" {text}"));
        let server = server.with_context(|| format!("said {text:?}, heard {answer:?}"))?;
        let first = self.server.get_or_insert_with(|| server.to_owned());
        ensure!(
            first == server,
            "the flow began with {first:?} and went on with {server:?}"
        );
        servers::colour_of(server)
            .map(str::to_owned)
            .with_context(|| format!("{server:?} names no colour"))
    }
}

/// A socket on a port that was not used for as long as possible: a port that comes back soon is, for
/// everyone on the way, the old flow.
///
/// # Errors
/// When no port is free.
pub fn fresh(towards: SocketAddr) -> std::io::Result<UdpSocket> {
    let any: IpAddr = match towards {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let mut tries = PORTS.len();
    loop {
        let place = NEXT.fetch_add(1, Ordering::Relaxed) as usize % PORTS.len();
        let port = PORTS.start + u16::try_from(place).unwrap_or_default();
        tries -= 1;
        match UdpSocket::bind((any, port)) {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse && tries > 0 => {}
            done => return done,
        }
    }
}
