//! Small real servers that name their colour: in threads, inside a namespace, stopped on drop.

mod echo;
mod http;
mod request;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{Context as _, Result};

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
    resetting: AtomicBool,
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
    endpoints: Vec<Endpoint>,
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
            endpoints: topology.endpoints(number),
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

    /// Ends the HTTP server of an endpoint, as if its process had died.
    pub fn end_web(&mut self, colour: &str, number: u16) {
        if let Some(place) = self.place(colour, number) {
            self.web.remove(place);
            self.endpoints.remove(place);
        }
    }

    /// Starts the HTTP server of an endpoint that was ended.
    ///
    /// # Errors
    /// When its address can't be bound.
    pub fn start_web(&mut self, topology: &Topology, colour: &str, number: u16) -> Result<()> {
        let all = topology.endpoints(number);
        let found = all
            .iter()
            .find(|it| it.colour == colour && it.number == number);
        let endpoint = found.context("there is no such endpoint")?;
        let host = topology.host(endpoint.colour);
        let server = HttpServer::start(host, endpoint.web, identity(endpoint))?;
        self.web.push((endpoint.colour, server));
        self.endpoints.push(*endpoint);
        Ok(())
    }

    /// Makes `GET /healthz` of a colour's servers say 200 or 503.
    pub fn set_healthy(&self, colour: &str, healthy: bool) {
        for seen in self.seen(colour) {
            seen.unhealthy.store(!healthy, Ordering::Relaxed);
        }
    }

    /// Makes a colour's servers reset whoever asks who they are, or stop that.
    pub fn set_resetting(&self, colour: &str, resetting: bool) {
        for seen in self.seen(colour) {
            seen.resetting.store(resetting, Ordering::Relaxed);
        }
    }

    /// The same for the HTTP server of one endpoint.
    pub fn set_server_healthy(&self, colour: &str, number: u16, healthy: bool) {
        if let Some(place) = self.place(colour, number) {
            self.web[place].1.set_healthy(healthy);
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

    fn place(&self, colour: &str, number: u16) -> Option<usize> {
        let mut endpoints = self.endpoints.iter();
        endpoints.position(|it| it.colour == colour && it.number == number)
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
