//! Small real servers that name their colour: in threads, inside a namespace, stopped on drop.

mod echo;
mod http;
mod request;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::Result;

use crate::topology::{Endpoint, Topology};
pub use echo::EchoServer;
pub use http::HttpServer;

/// Who a server says it is, in every answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The environment it belongs to.
    pub colour: String,
    /// What is released there.
    pub version: String,
    /// Its own name.
    pub host: String,
}

impl fmt::Display for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "colour={} version={} host={}",
            self.colour, self.version, self.host
        )
    }
}

/// The colour that an answer names.
#[must_use]
pub fn colour_of(answer: &str) -> Option<&str> {
    answer
        .split_whitespace()
        .find_map(|word| word.strip_prefix("colour="))
}

/// What a server has seen so far.
#[derive(Debug, Default)]
pub struct Seen {
    accepted: AtomicU64,
    answered: AtomicU64,
    resets: AtomicU64,
    unhealthy: AtomicBool,
}

impl Seen {
    /// Connections accepted.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Requests or datagrams answered.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Connections that ended by a reset.
    #[must_use]
    pub fn resets(&self) -> u64 {
        self.resets.load(Ordering::Relaxed)
    }
}

/// All servers of a topology: HTTP and echo for every endpoint.
#[derive(Debug)]
pub struct Fleet {
    web: Vec<(&'static str, HttpServer)>,
    echo: Vec<(&'static str, EchoServer)>,
}

impl Fleet {
    /// Starts `number` servers of each kind for each colour.
    ///
    /// # Errors
    /// When an address can't be bound.
    pub fn start(topology: &Topology, number: u16) -> Result<Self> {
        let mut fleet = Self {
            web: Vec::new(),
            echo: Vec::new(),
        };
        for endpoint in topology.endpoints(number) {
            let host = topology.home(&endpoint);
            let (web, echo) = topology.listens(&endpoint);
            let identity = identity(&endpoint);
            fleet.web.push((
                endpoint.colour,
                HttpServer::start(host, web, identity.clone())?,
            ));
            fleet
                .echo
                .push((endpoint.colour, EchoServer::start(host, echo, identity)?));
        }
        Ok(fleet)
    }

    /// Makes `GET /healthz` of a colour's servers say 200 or 503.
    pub fn set_healthy(&self, colour: &str, healthy: bool) {
        for seen in self.seen(colour) {
            seen.unhealthy.store(!healthy, Ordering::Relaxed);
        }
    }

    /// Connections that a colour's servers accepted.
    #[must_use]
    pub fn accepted(&self, colour: &str) -> u64 {
        self.seen(colour).map(|seen| seen.accepted()).sum()
    }

    /// Resets that a colour's servers saw.
    #[must_use]
    pub fn resets(&self, colour: &str) -> u64 {
        self.seen(colour).map(|seen| seen.resets()).sum()
    }

    fn seen<'a>(&'a self, colour: &'a str) -> impl Iterator<Item = &'a Arc<Seen>> {
        let web = self.web.iter().map(|(of, server)| (of, server.seen()));
        let echo = self.echo.iter().map(|(of, server)| (of, server.seen()));
        web.chain(echo)
            .filter(move |(of, _)| **of == colour)
            .map(|(_, seen)| seen)
    }
}

fn identity(endpoint: &Endpoint) -> Identity {
    let version = if endpoint.colour == "blue" {
        "v1"
    } else {
        "v2"
    };
    Identity {
        colour: endpoint.colour.to_owned(),
        version: version.to_owned(),
        host: format!("{}-{}", endpoint.colour, endpoint.number),
    }
}
