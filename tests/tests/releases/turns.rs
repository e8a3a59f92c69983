//! Four colours that take turns, while connections of each stay where they began until they end, and a preview
//! that leads to what comes next.

use std::cell::Cell;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use switcher_harness::agent::binary;
use switcher_harness::config::{GROUP, Settings};
use switcher_harness::load::Connection;
use switcher_harness::servers::{EchoServer, HttpServer, Identity};
use switcher_harness::{Load, Mode, Plan, Stand};

use super::alone;

/// Leads to the release that waits, or else to the colour that was live before.
const PREVIEW: u16 = 8080;
/// Colours that no topology has, beside green; how far their ports are from its.
const MORE: [(&str, u16); 2] = [("red", 5), ("gold", 7)];

/// Ports from here on are below those that clients of the load get, so that none has a connection to the service from where another tries the
/// preview: to an endpoint whose address alone is new they would be one.
const OWN: u16 = 15_000;

#[test]
fn four_colours_take_turns_local() {
    alone("four_colours_take_turns_local", || turns(Mode::Local));
}

#[test]
fn four_colours_take_turns_routed() {
    alone("four_colours_take_turns_routed", || turns(Mode::Routed));
}

#[test]
fn four_colours_take_turns_masquerade() {
    alone("four_colours_take_turns_masquerade", || {
        turns(Mode::Masquerade)
    });
}

fn turns(mode: Mode) -> Result<()> {
    let mut site = Site::new(mode)?;
    let plan = Plan {
        // Datagrams of a flow that is remembered keep its colour in use.
        udp_flows: 0,
        udp_new: 0,
        downloads: 0,
        ..Plan::default()
    };
    let load = Load::start(&site.stand.topology, &plan)?;
    site.roles([("blue", "live")])?;
    let refused = site.cli(&["flip", GROUP])?.expect(2)?.stderr;
    for colour in ["green", "red", "gold"] {
        ensure!(refused.contains(colour), "{refused}");
    }
    let mut kept = vec![site.connect("blue")?];
    for (version, colour) in (2..).zip(["green", "red"]) {
        site.release(colour, &format!("v{version}"))?;
        kept.push(site.connect(colour)?);
    }
    site.roles([("red", "live"), ("green", "previous"), ("blue", "retired")])?;
    kept.iter_mut().try_for_each(Kept::still_there)?;

    // Back, by another agent, while all of these have connections.
    site.stand.agent.kill()?;
    site.stand.agent.start()?;
    site.cli(&["rollback", GROUP])?.expect(0)?;
    site.roles([("green", "live")])?;
    site.previews("red")?;
    kept.push(site.connect("green")?);
    for (version, colour) in (4..).zip(["blue", "gold", "red", "green", "blue"]) {
        site.release(colour, &format!("v{version}"))?;
        kept.push(site.connect(colour)?);
        kept.iter_mut().try_for_each(Kept::still_there)?;
    }
    let failures = load.stop()?.failures();
    ensure!(failures.is_empty(), "{failures:?}");
    site.drains(kept)
}

struct Site {
    stand: Stand,
    /// Where the next connection comes from.
    port: Cell<u16>,
    /// The servers of colours that the topology has not.
    _more: Vec<(HttpServer, EchoServer)>,
}

impl Site {
    fn new(mode: Mode) -> Result<Self> {
        let settings = Settings {
            learn: Duration::from_secs(2),
            web: "preview = \"10.77.1.1:8080\"",
            ..Settings::default()
        };
        let mut stand = Stand::without_agent(mode, true, settings, &binary()?)?;
        let all = stand.topology.endpoints(1);
        let green = all.iter().find(|it| it.colour == "green");
        let green = green.context("there is a green server")?;
        let beside = |it: SocketAddr, by: u16| SocketAddr::new(it.ip(), it.port() + by);
        let host = stand.topology.home(green);
        let mut more = Vec::new();
        for (colour, by) in MORE {
            let identity = Identity {
                colour: colour.to_owned(),
                version: "v0".to_owned(),
                host: format!("{colour}-1"),
            };
            let web = HttpServer::start(host, beside(green.web, by), identity.clone())?;
            more.push((
                web,
                EchoServer::start(host, beside(green.echo, by), identity)?,
            ));
        }
        let mut config = String::new();
        let mut addresses = [green.web, green.echo].into_iter();
        let rendered = stand.settings.render(&stand.topology, stand.agent.place());
        for line in rendered.lines() {
            config += line;
            config.push('\n');
            if line.starts_with("green = ") {
                let address = addresses.next().context("two services")?;
                for (colour, by) in MORE {
                    writeln!(config, "{colour} = [\"{}\"]", beside(address, by))?;
                }
            }
        }
        stand.agent.write_config(&config)?;
        stand.agent.start()?;
        for colour in ["blue", "green", "red", "gold"] {
            stand.until(|it| it["colours"][colour]["healthy"] == true)?;
        }
        Ok(Self {
            stand,
            port: Cell::new(OWN),
            _more: more,
        })
    }

    fn cli(&self, words: &[&str]) -> Result<switcher_harness::agent::Output> {
        self.stand.agent.cli(words)
    }

    /// Stages, and flips to what is staged. The preview leads there until then, and afterwards to what was live.
    fn release(&self, colour: &str, version: &str) -> Result<()> {
        self.cli(&["stage", GROUP, colour, "--version", version])?
            .expect(0)?;
        self.roles([(colour, "staging")])?;
        let before = self.stand.agent.live()?;
        let mut tried = self.previews(colour)?;
        self.connect(&before)?;
        self.cli(&["flip", GROUP, colour])?.expect(0)?;
        self.roles([(colour, "live")])?;
        self.previews(&before)?;
        tried.still_there()
    }

    fn roles<const N: usize>(&self, expected: [(&str, &str); N]) -> Result<()> {
        let colours = &self.stand.agent.status()?["colours"];
        for (colour, role) in expected {
            ensure!(colours[colour]["role"] == role, "{colour}: {colours:#}");
        }
        Ok(())
    }

    /// A new connection, which is answered by this colour.
    fn connect(&self, colour: &str) -> Result<Kept> {
        self.connect_to(self.stand.topology.web(), colour)
    }

    /// The same by the preview.
    fn previews(&self, colour: &str) -> Result<Kept> {
        let vip = self.stand.topology.web().ip();
        let previewed = self.connect_to((vip, PREVIEW).into(), colour);
        previewed.with_context(|| format!("a preview of {colour}"))
    }

    fn connect_to(&self, address: SocketAddr, colour: &str) -> Result<Kept> {
        let port = self.port.replace(self.port.get() + 1);
        let open = || Connection::open_from(port, address);
        let connection = self.stand.topology.client.inside(open)??;
        let mut kept = Kept {
            colour: colour.to_owned(),
            connection,
        };
        kept.still_there()?;
        Ok(kept)
    }

    /// Who is waited for is counted, by colour, until all that are not of the live colour have ended.
    fn drains(&self, kept: Vec<Kept>) -> Result<()> {
        // A preview's connection is its colour's, too, until it has ended, and nobody waits for it.
        self.stand.until(none_but_those_left)?;
        let colours = &self.stand.agent.status()?["colours"];
        for colour in OLD {
            let ours = kept.iter().filter(|it| it.colour == colour).count();
            ensure!(
                colours[colour]["flows"].as_u64() >= Some(ours as u64),
                "{colour}: {colours:#}"
            );
        }
        let (mut live, old): (Vec<Kept>, Vec<Kept>) =
            kept.into_iter().partition(|it| it.colour == "blue");
        let wait = ["wait", GROUP, "--for", "drained", "--timeout", "2s"];
        self.cli(&wait)?.expect(8)?;
        drop(old);
        let wait = ["wait", GROUP, "--for", "drained", "--timeout", "50s"];
        self.cli(&wait)?.expect(0)?;
        live.iter_mut().try_for_each(Kept::still_there)
    }
}

/// Those that are not live at the end.
const OLD: [&str; 3] = ["green", "red", "gold"];

/// What the colours have is what is waited for, one by one and altogether.
fn none_but_those_left(group: &Value) -> bool {
    let flows = |colour: &&str| group["colours"][*colour]["flows"].as_u64();
    let same = |colour: &&str| group["window"]["left"][*colour].as_u64() == flows(colour);
    let sum = OLD.iter().filter_map(flows).sum::<u64>();
    OLD.iter().all(same) && group["window"]["flows_on_old"] == sum
}

/// A connection, and the colour that it belongs to.
struct Kept {
    colour: String,
    connection: Connection,
}

impl Kept {
    fn still_there(&mut self) -> Result<()> {
        let answered = self.connection.colour();
        let answered = answered.with_context(|| format!("a connection of {}", self.colour))?;
        ensure!(
            answered == self.colour,
            "{} answers a connection of {}",
            answered,
            self.colour
        );
        Ok(())
    }
}
