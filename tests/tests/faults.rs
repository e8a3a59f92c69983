//! Traffic goes on whatever becomes of the agent.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use aya::programs::ProgramInfo;
use switcher::datapath::pins::Pins;
use switcher_harness::agent::{Output, binary};
use switcher_harness::chance::Chance;
use switcher_harness::config::{GROUP, Settings};
use switcher_harness::load::Report;
use switcher_harness::privilege::run;
use switcher_harness::{Load, Mode, Namespace, Plan, Stand, netns};

/// Times that an agent is killed in the middle of a flip.
const KILLS: usize = 20;
/// Some time for the load to see what has changed.
const WHILE: Duration = Duration::from_millis(700);

macro_rules! faults {
    ($($name:ident;)+) => {
        mod test {$(
            #[test]
            fn $name() {
                super::run(stringify!($name), super::$name);
            }
        )+}
    };
}

faults! {
    killed_and_started_again_under_load;
    replaced_by_another_binary_under_load;
    dead_agents_groups_flip_in_an_emergency;
    second_agent_leaves_the_first_alone;
    unprivileged_agent_says_what_it_lacks;
    unprivileged_client_is_turned_away;
    killed_in_the_middle_of_flips;
    stopped_agent_answers_with_9;
}

fn killed_and_started_again_under_load() -> Result<()> {
    for mode in [Mode::Local, Mode::Routed] {
        let mut stand = stand(mode)?;
        let load = Load::start(&stand.topology, &plan())?;
        std::thread::sleep(WHILE);
        stand.agent.cli(&["flip", GROUP])?.expect(0)?;
        std::thread::sleep(WHILE);
        let before = stand.agent.status()?;
        let programs = programs(&stand)?;
        stand.agent.kill()?;
        std::thread::sleep(WHILE);
        stand.agent.start()?;
        ensure!(programs == self::programs(&stand)?, "{mode}: loaded again");
        let after = stand.agent.status()?;
        for field in ["live", "previous", "revision", "epoch"] {
            ensure!(
                before[field] == after[field],
                "{mode}: {field} was {before}\nand is {after}"
            );
        }
        ensure!(
            after["window"]["phase"].is_string(),
            "{mode}: the window is gone: {after}"
        );
        std::thread::sleep(WHILE);
        let back = stand.agent.cli(&["rollback", GROUP])?.expect(0)?;
        served(&load, "blue", &back)?;
        unharmed(&format!("{mode}, killed"), &load.stop()?)?;
    }
    Ok(())
}

fn replaced_by_another_binary_under_load() -> Result<()> {
    for mode in [Mode::Local, Mode::Routed] {
        let mut stand = stand(mode)?;
        let next = stand.agent.place().directory().join("switcher-next");
        std::fs::copy(binary()?, &next)?;
        let load = Load::start(&stand.topology, &plan())?;
        let guard = Attached::watch(&stand.topology.switch)?;
        std::thread::sleep(WHILE);
        stand.agent.cli(&["flip", GROUP])?.expect(0)?;
        let before = stand.agent.status()?;
        let status = stand.agent.stop()?;
        ensure!(status.success(), "SIGTERM ended the agent with {status}");
        belong_to_another_version(stand.agent.place().bpffs())?;
        stand.agent.set_binary(&next);
        stand.agent.start()?;
        let after = stand.agent.status()?;
        ensure!(
            before["live"] == after["live"] && before["epoch"] == after["epoch"],
            "{before}\n{after}"
        );
        std::thread::sleep(WHILE);
        guard.judge()?;
        let back = stand.agent.cli(&["flip", GROUP])?.expect(0)?;
        served(&load, "blue", &back)?;
        unharmed(&format!("{mode}, replaced"), &load.stop()?)?;
    }
    Ok(())
}

/// The ids of the pinned programs. One that is loaded gets another.
fn programs(stand: &Stand) -> Result<BTreeMap<PathBuf, u32>> {
    let pins = Pins::new(stand.agent.place().bpffs());
    let mut programs = BTreeMap::new();
    for object in pins.objects() {
        for pin in std::fs::read_dir(pins.programs(&object))? {
            let pin = pin?.path();
            let id = ProgramInfo::from_pin(&pin)?.id();
            programs.insert(pin, id);
        }
    }
    ensure!(!programs.is_empty(), "no program is pinned");
    Ok(programs)
}

/// So that the next agent loads programs of its own and gives them to the links.
fn belong_to_another_version(bpffs: &Path) -> Result<()> {
    let pins = Pins::new(bpffs);
    for object in pins.objects() {
        let other = format!("other-than-{object}");
        std::fs::rename(pins.programs(&object), pins.programs(&other))?;
    }
    Ok(())
}

fn dead_agents_groups_flip_in_an_emergency() -> Result<()> {
    for mode in [Mode::Local, Mode::Routed] {
        let mut stand = stand(mode)?;
        let pins = stand.agent.place().bpffs().display().to_string();
        let load = Load::start(&stand.topology, &plan())?;
        std::thread::sleep(WHILE);
        stand.agent.kill()?;
        let unknown = stand
            .agent
            .cli(&["emergency", GROUP, "mauve", "--bpffs", &pins])?
            .expect(3)?;
        ensure!(unknown.stderr.contains("mauve"), "{}", unknown.stderr);
        stand
            .agent
            .cli(&["emergency", "shoes", "green", "--bpffs", &pins])?
            .expect(3)?;
        let flip = stand
            .agent
            .cli(&["emergency", GROUP, "green", "--bpffs", &pins])?
            .expect(0)?;
        served(&load, "green", &flip)?;
        stand.agent.start()?;
        ensure!(
            stand.agent.live()? == "green",
            "the new agent did not see the emergency"
        );
        let history = stand.agent.json(&["history", GROUP])?.to_string();
        ensure!(
            history.contains("emergency"),
            "the emergency was not recorded: {history}"
        );
        let back = stand.agent.cli(&["flip", GROUP, "blue"])?.expect(0)?;
        served(&load, "blue", &back)?;
        unharmed(&format!("{mode}, emergency"), &load.stop()?)?;
    }
    Ok(())
}

fn second_agent_leaves_the_first_alone() -> Result<()> {
    let stand = stand(Mode::Local)?;
    let load = Load::start(&stand.topology, &plan())?;
    let config = stand.agent.place().config().display().to_string();
    let first = stand.agent.json(&["status"])?["agent"]["pid"].clone();
    let second = stand.agent.cli(&["agent", "--config", &config])?;
    ensure!(second.code != 0, "the second agent ended well");
    let said = second.stderr.to_lowercase();
    ensure!(
        said.contains("another agent") || said.contains("one agent"),
        "it said: {}",
        second.stderr
    );
    ensure!(
        stand.agent.json(&["status"])?["agent"]["pid"] == first,
        "another agent answers now"
    );
    let flip = stand.agent.cli(&["flip", GROUP])?.expect(0)?;
    served(&load, "green", &flip)?;
    unharmed("second agent", &load.stop()?)
}

fn unprivileged_agent_says_what_it_lacks() -> Result<()> {
    let stand = Stand::without_agent(Mode::Local, true, settings(), &binary()?)?;
    let directory = stand.agent.place().directory();
    // Where everyone may read it, and the agent could write what it needs.
    let own = directory.join("switcher");
    std::fs::copy(binary()?, &own)?;
    std::os::unix::fs::chown(directory, Some(NOBODY), Some(NOBODY))?;
    let config = stand.agent.place().config().display().to_string();
    let output = as_nobody(&stand, &own, &["agent", "--config", &config])?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.code() == Some(13),
        "it ended with {}: {said}",
        output.status
    );
    ensure!(
        said.contains("CAP_BPF") || said.contains("root"),
        "it said: {said}"
    );
    Ok(())
}

fn unprivileged_client_is_turned_away() -> Result<()> {
    let stand = stand(Mode::Local)?;
    let own = stand.agent.place().directory().join("switcher");
    std::fs::copy(binary()?, &own)?;
    let output = as_nobody(&stand, &own, &["flip", GROUP])?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.code() == Some(13),
        "it ended with {}: {said}",
        output.status
    );
    ensure!(stand.agent.live()? == "blue", "nobody flipped it");
    Ok(())
}

/// At moments between the command's start and long after its end. Whatever the journal and the word
/// say then, the next agent makes one of them.
fn killed_in_the_middle_of_flips() -> Result<()> {
    let mut chance = Chance::new();
    for mode in [Mode::Local, Mode::Routed] {
        let mut stand = stand(mode)?;
        let load = Load::start(&stand.topology, &plan())?;
        // Behind this host, a flip prepares for as long as `arm` says; on it, there is nothing to prepare.
        let longest = Duration::from_millis(if mode == Mode::Local { 40 } else { 90 });
        let (mut undone, mut done) = (0, 0);
        for number in 0..KILLS / 2 {
            let before = stand.agent.live()?;
            let flip = stand.agent.cli_in_background(&["flip", GROUP]);
            std::thread::sleep(chance.time(longest));
            stand.agent.kill()?;
            let said = flip
                .join()
                .map_err(|_| anyhow::anyhow!("the command's thread panicked"))??;
            stand
                .agent
                .start()
                .with_context(|| format!("kill number {number}"))?;
            let after = stand.agent.live()?;
            ensure!(
                ["blue", "green"].contains(&after.as_str()),
                "{after} is live"
            );
            ensure!(
                said.code != 0 || after != before,
                "flip ended with 0, but {before} is live again"
            );
            if after == before {
                undone += 1;
            } else {
                done += 1;
            }
            next_flip(&stand, &load, &after).with_context(|| format!("kill number {number}"))?;
        }
        println!("{mode}: killed before the store {undone} times, after it {done} times");
        unharmed(&format!("{mode}, killed in flips"), &load.stop()?)?;
    }
    Ok(())
}

fn stopped_agent_answers_with_9() -> Result<()> {
    let mut stand = stand(Mode::Local)?;
    let load = Load::start(&stand.topology, &plan())?;
    stand.agent.cli(&["flip", GROUP])?.expect(0)?;
    stand.agent.stop()?;
    let output = stand.agent.cli(&["status"])?.expect(9)?;
    ensure!(
        output.stderr.contains("switcher.sock"),
        "it said: {}",
        output.stderr
    );
    served(&load, "green", &output)?;
    unharmed("stopped", &load.stop()?)
}

/// The next flip goes to the colour that is not live, and traffic follows.
fn next_flip(stand: &Stand, load: &Load, live: &str) -> Result<()> {
    let to = if live == "blue" { "green" } else { "blue" };
    // A cut-over that the new agent has to finish comes first.
    let words = ["flip", GROUP, to, "--json"];
    let deadline = Instant::now() + Duration::from_secs(10);
    let flip = loop {
        let flip = stand.agent.cli(&words)?;
        if flip.code != 4 || Instant::now() > deadline {
            break flip.expect(0)?;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    ensure!(stand.agent.live()? == to, "status does not show {to}");
    served(load, to, &flip)
}

/// New connections begun after the command's end are `colour`'s.
fn served(load: &Load, colour: &str, command: &Output) -> Result<()> {
    std::thread::sleep(Duration::from_millis(200));
    let answers = load.recorder().from(0);
    let after = answers
        .iter()
        .filter(|answer| answer.kind.is_new() && answer.begun >= command.ended);
    let (right, wrong): (Vec<_>, Vec<_>) =
        after.partition(|answer| answer.outcome.as_deref() == Ok(colour));
    ensure!(
        wrong.is_empty(),
        "after `{}`: {:?}",
        command.command,
        wrong[0].outcome
    );
    ensure!(
        !right.is_empty(),
        "no connection was made after `{}`",
        command.command
    );
    Ok(())
}

fn unharmed(what: &str, report: &Report) -> Result<()> {
    println!("{what}: {}", report.summary());
    let failures = report.failures();
    ensure!(
        failures.is_empty(),
        "{what}: {} failures, such as {:?}",
        failures.len(),
        &failures[..failures.len().min(5)]
    );
    Ok(())
}

/// Asks again and again whether XDP is attached.
struct Attached {
    ending: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Result<usize>>,
}

impl Attached {
    fn watch(switch: &Namespace) -> Result<Self> {
        let ending = Arc::<AtomicBool>::default();
        let noticing = Arc::clone(&ending);
        let look = move || {
            let mut looks = 0;
            while !noticing.load(Ordering::Relaxed) {
                let links = netns::run("ip", &["link", "show", "eth0"])?;
                ensure!(
                    links.contains("prog/xdp"),
                    "at look {looks} XDP was not attached: {links}"
                );
                looks += 1;
            }
            Ok(looks)
        };
        Ok(Self {
            ending,
            thread: switch.spawn("attached", look)?,
        })
    }

    fn judge(self) -> Result<()> {
        self.ending.store(true, Ordering::Relaxed);
        let looks = self
            .thread
            .join()
            .map_err(|_| anyhow::anyhow!("the watch panicked"))??;
        ensure!(looks > 50, "looked only {looks} times");
        Ok(())
    }
}

const NOBODY: u32 = 65534;

fn as_nobody(stand: &Stand, binary: &PathBuf, words: &[&str]) -> Result<std::process::Output> {
    let mut command = stand.topology.switch.command("setpriv");
    command.args([
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "timeout",
        "20",
    ]);
    command
        .arg(binary)
        .args(words)
        .env("SWITCHER_SOCKET", stand.agent.place().socket());
    command.output().context("starting a command as nobody")
}

fn settings() -> Settings {
    Settings {
        servers: 2,
        ..Settings::default()
    }
}

fn stand(mode: Mode) -> Result<Stand> {
    Stand::new(mode, mode == Mode::Local, settings(), &binary()?)
}

/// Downloads short enough that some begin and some end around every event.
fn plan() -> Plan {
    Plan {
        download: Duration::from_secs(2),
        ..Plan::default()
    }
}
