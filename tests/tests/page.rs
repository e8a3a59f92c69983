//! What people look at while they switch: the page in a browser, and `top` at a terminal, through real flips
//! under load.

#[path = "page/abroad.rs"]
mod abroad;
#[path = "page/top.rs"]
mod top;
#[path = "page/web.rs"]
mod web;

use anyhow::Result;
use serde_json::Value;
use switcher_harness::agent::binary;
use switcher_harness::config::{GROUP, Settings};
use switcher_harness::{Load, Mode, Plan, Stand, netns, privilege};

/// The page for everybody is there, too.
const PUBLIC: &str = "listen = \"10.77.0.1:9464\"\npage = true\n";

#[test]
fn people_see_a_flip_and_make_one() {
    const NAME: &str = "people_see_a_flip_and_make_one";
    if !privilege::is_root(NAME) {
        return;
    }
    netns::sweep();
    looked_at().unwrap_or_else(|error| panic!("{error:#}"));
}

/// One agent for all: it takes seconds to start.
fn looked_at() -> Result<()> {
    let settings = Settings {
        agent: PUBLIC,
        ..Settings::default()
    };
    let mut stand = Stand::new(Mode::Local, true, settings, &binary()?)?;
    for colour in ["blue", "green"] {
        let healthy = format!("healthy={colour}");
        let wait = ["wait", GROUP, "--for", &healthy, "--timeout", "60s"];
        stand.agent.cli(&wait)?.expect(0)?;
    }
    let plan = Plan {
        keep_alive: 2,
        new: 2,
        downloads: 0,
        udp_flows: 0,
        udp_new: 0,
        ..Plan::default()
    };
    let load = Load::start(&stand.topology, &plan)?;
    top::is_drawn(&stand)?;
    top::flips(&mut stand)?;
    web::is_used(&mut stand)?;
    let failures = load.stop()?.failures();
    anyhow::ensure!(failures.is_empty(), "{failures:?}");
    Ok(())
}

/// The last cut-over.
fn last(stand: &Stand) -> Result<Value> {
    Ok(stand.agent.json(&["history", GROUP, "-n", "1"])?[0].take())
}
