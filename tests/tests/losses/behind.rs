//! Changes behind the agent's back: in the pinned maps, and of the word by `emergency`, while it lives.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aya::maps::{Array, Map, MapData};
use bytemuck::Zeroable as _;
use switcher::datapath::pins::Pins;
use switcher_common::abi::{Endpoint, Port, Service, map};
use switcher_harness::agent::binary;
use switcher_harness::config::{GROUP, Settings};
use switcher_harness::topology::WEB;
use switcher_harness::{Load, Mode, Plan, Stand};
use switcher_tests::kernel::Plain;

use super::{kinds, reached, stand, unharmed, until};

/// As often as within an hour the agent repairs what somebody else has changed.
const REPAIRS: usize = 3;

/// What somebody does to the maps.
type Change<'a> = &'a dyn Fn(&Stand) -> Result<()>;

/// Who goes on changing things means it, or is broken: the fourth change stays, and is said.
pub(super) fn entries_that_somebody_changed_are_put_right_three_times() -> Result<()> {
    let mut stand = stand()?;
    let served = stand.topology.endpoints(2);
    let port = |colour| {
        let mut of_colour = served.iter().filter(|it| it.colour == colour);
        of_colour.next().map(|it| it.web.port())
    };
    let (blue, green) = (
        port("blue").context("blue")?,
        port("green").context("green")?,
    );
    let is_blue = |it: &Endpoint| it.port == Port::new(blue);
    let gone = |it: &mut Endpoint| *it = Endpoint::zeroed();
    let elsewhere = |it: &mut Endpoint| it.port = Port::new(green);
    let changes: [(&str, Change<'_>); REPAIRS] = [
        ("an endpoint is gone", &|stand| {
            change(stand, map::ENDPOINTS, is_blue, gone)
        }),
        ("an endpoint is another", &|stand| {
            change(stand, map::ENDPOINTS, is_blue, elsewhere)
        }),
        ("a service is gone", &|stand| {
            let is_web = |it: &Service| it.port == Port::new(WEB);
            change(stand, map::SERVICES, is_web, |it| *it = Service::zeroed())
        }),
    ];
    for (number, (what, change)) in (1..).zip(changes) {
        change(&stand)?;
        let drift = stand.agent.cli(&["drift", "--json"])?.expect(11)?.json()?;
        ensure!(
            drift["differences"][0]["kind"] == "kernel",
            "{what}: {drift}"
        );
        until(&format!("repaired: {what}"), || is_repaired(&stand, number))?;
        until("all is compared, and as it should be", || {
            let drift = stand.agent.cli(&["drift", "--json"])?;
            Ok(drift.code == 0 && drift.json()?["not_compared"].is_null())
        })?;
        all_reach(&stand, "blue").with_context(|| format!("after {what}"))?;
    }

    changes[1].1(&stand)?;
    until("status says that nobody repairs it", || {
        let group = stand.agent.status()?;
        let degraded = group["degraded"].to_string();
        Ok(group["phase"] == "degraded" && degraded.contains("are not repaired"))
    })?;
    let drift = stand.agent.cli(&["drift", "--json"])?.expect(11)?.json()?;
    ensure!(drift["repairs_left"] == 0, "{drift}");
    ensure!(is_repaired(&stand, REPAIRS)?, "repaired once more");
    let log = stand.agent.log();
    ensure!(log.contains("changed again: left as it is"), "{log}");

    // It said what helps.
    stand.agent.kill()?;
    stand.agent.start()?;
    stand.agent.cli(&["drift"])?.expect(0)?;
    all_reach(&stand, "blue")?;
    stand.agent.cli(&["flip", GROUP])?.expect(0)?;
    all_reach(&stand, "green")
}

/// The agent hears of it within moments, although nobody has told it, and goes on from there.
pub(super) fn an_emergency_beside_a_living_agent_is_found() -> Result<()> {
    for mode in [Mode::Local, Mode::Routed] {
        let settings = Settings {
            servers: 2,
            ..Settings::default()
        };
        let stand = Stand::new(mode, mode == Mode::Local, settings, &binary()?)?;
        let healthy = ["wait", GROUP, "--for", "healthy=green", "--timeout", "20s"];
        stand.agent.cli(&healthy)?.expect(0)?;
        let load = Load::start(&stand.topology, &Plan::default())?;
        let found = |to, expected: &[&str]| {
            emergency(&stand, to).with_context(|| format!("{mode}"))?;
            until("the agent finds out", || Ok(stand.agent.live()? == to))?;
            let found = kinds(&stand)?;
            ensure!(found == expected, "{mode}: {found:?}, not {expected:?}");
            reached(&stand, to)
        };
        found("green", &["emergency"])?;
        let log = stand.agent.log();
        ensure!(log.contains("found, adopted"), "{mode}: {log}");
        stand.agent.cli(&["rollback", GROUP])?.expect(0)?;
        reached(&stand, "blue")?;

        // One that nobody has confirmed, and that has its way back already.
        let unconfirmed = ["flip", GROUP, "green", "--confirm-within", "2s"];
        stand.agent.cli(&unconfirmed)?.expect(0)?;
        let expected = ["emergency", "flip", "rollback", "emergency"];
        found("blue", &expected)?;
        stand
            .agent
            .cli(&["flip", GROUP, "green", "--no-confirm"])?
            .expect(0)?;
        std::thread::sleep(Duration::from_millis(2500));
        reached(&stand, "green").context("the time to confirm the other is over")?;
        stand.agent.cli(&["audit", "verify"])?.expect(0)?;
        unharmed(load)?;
    }
    Ok(())
}

/// `switcher emergency`, which says what it has done.
fn emergency(stand: &Stand, to: &str) -> Result<()> {
    let pins = stand.agent.place().bpffs().display().to_string();
    let words = ["emergency", GROUP, to, "--bpffs", &pins];
    let said = stand.agent.cli(&words)?.expect(0)?;
    ensure!(
        said.stdout.contains(&format!("-> {to}, settled")),
        "{said:?}"
    );
    reached(stand, to)
}

/// Changes the entry of a pinned array.
fn change<T: bytemuck::Pod>(
    stand: &Stand,
    name: &str,
    which: impl Fn(&T) -> bool,
    how: impl Fn(&mut T),
) -> Result<()> {
    let pin = Pins::new(stand.agent.place().bpffs()).map(name);
    let map = Map::from_map_data(MapData::from_pin(pin)?)?;
    let mut array = Array::<_, Plain<T>>::try_from(map)?;
    for index in 0..array.len() {
        let Plain(mut entry) = array.get(&index, 0)?;
        if which(&entry) {
            how(&mut entry);
            return Ok(array.set(index, Plain(entry), 0)?);
        }
    }
    anyhow::bail!("{name} has no such entry")
}

/// Whether the audit tells of so many repairs, and of what was repaired.
fn is_repaired(stand: &Stand, times: usize) -> Result<bool> {
    let audit = stand.agent.cli(&["audit", "-n", "100"])?.expect(0)?;
    Ok(audit.stdout.matches("repair what was changed").count() == times)
}

/// As many clients as meet each server.
fn all_reach(stand: &Stand, colour: &str) -> Result<()> {
    (0..16).try_for_each(|_| reached(stand, colour))
}
