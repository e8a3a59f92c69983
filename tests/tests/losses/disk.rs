//! The state directory: full, damaged, or gone.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use switcher_harness::agent::binary;
use switcher_harness::config::GROUP;
use switcher_harness::{Load, Mode, Plan, Stand, netns};

use super::{boot, reached, settings, stand, unharmed, until};

/// Of the state file.
const PAGE: usize = 4096;

pub(super) fn a_full_disk_blocks_flips_and_nothing_else() -> Result<()> {
    let mut stand = Stand::without_agent(Mode::Local, true, settings(), &binary()?)?;
    let disk = SmallDisk::mount(&stand.agent.place().state())?;
    stand.agent.start()?;
    stand.agent.cli(&["flip", GROUP])?.expect(0)?;
    let load = Load::start(&stand.topology, &Plan::default())?;
    disk.fill()?;
    let refused = stand.agent.cli(&["flip", GROUP, "blue"])?;
    ensure!(
        refused.code == 1 && refused.stderr.contains("full"),
        "{refused:?}"
    );
    reached(&stand, "green")?;
    stand.agent.cli(&["rollback", GROUP])?.expect(0)?;
    reached(&stand, "blue")?;
    ensure!(stand.agent.status()?["live"] == "blue", "status differs");
    disk.empty()?;
    stand.agent.cli(&["flip", GROUP, "green"])?.expect(0)?;
    reached(&stand, "green")?;
    unharmed(load)?;
    // What could not be recorded is found by whoever compares.
    let verify = stand.agent.cli(&["audit", "verify"])?.expect(0)?;
    ensure!(!verify.stdout.is_empty(), "nothing is said");
    stand.agent.stop()?;
    Ok(())
}

/// Whoever starts an agent there gets one that steers as before, and that goes back when told to.
pub(super) fn an_agent_that_starts_on_a_full_disk_goes_back() -> Result<()> {
    let (mut stand, disk) = on_small_disk()?;
    stand.agent.cli(&["flip", GROUP, "green"])?.expect(0)?;
    let load = Load::start(&stand.topology, &Plan::default())?;
    disk.fill()?;
    stand.agent.kill()?;
    reached(&stand, "green")?;
    stand.agent.start()?;
    reached(&stand, "green")?;
    let refused = stand.agent.cli(&["flip", GROUP, "blue"])?.expect(1)?;
    let said = &refused.stderr;
    ensure!(
        said.contains("full") && said.contains("`rollback` still works"),
        "{said}"
    );
    reached(&stand, "green")?;
    stand.agent.cli(&["rollback", GROUP])?.expect(0)?;
    reached(&stand, "blue")?;
    // The kernel knows of it, and the file can't.
    stand.agent.kill()?;
    stand.agent.start()?;
    ensure!(stand.agent.live()? == "blue", "the next agent forgot it");
    reached(&stand, "blue")?;
    disk.empty()?;
    stand.agent.cli(&["flip", GROUP, "green"])?.expect(0)?;
    reached(&stand, "green")?;
    stand.agent.stop()?;
    unharmed(load)
}

/// Switches that undo themselves, and those to come, are in the kernel: no file keeps anybody from deciding about them.
pub(super) fn on_a_full_disk_people_confirm_and_abort() -> Result<()> {
    let (mut stand, disk) = on_small_disk()?;
    let load = Load::start(&stand.topology, &Plan::default())?;
    let unconfirmed = ["flip", GROUP, "green", "--confirm-within", "3s"];
    stand.agent.cli(&unconfirmed)?.expect(0)?;
    disk.fill()?;
    stand.agent.cli(&["confirm", GROUP])?.expect(0)?;
    std::thread::sleep(Duration::from_secs(4));
    reached(&stand, "green").context("it was confirmed")?;
    stand.agent.cli(&["abort", GROUP])?.expect(0)?;
    reached(&stand, "blue")?;
    disk.empty()?;

    stand.agent.cli(&unconfirmed)?.expect(0)?;
    disk.fill()?;
    stand.agent.cli(&["abort", GROUP])?.expect(0)?;
    reached(&stand, "blue").context("it was not confirmed")?;
    disk.empty()?;

    let set = ["flip", GROUP, "--at", "+3s", "--wait", "scheduled"];
    stand.agent.cli(&set)?.expect(0)?;
    disk.fill()?;
    stand.agent.cli(&["abort", GROUP])?.expect(0)?;
    std::thread::sleep(Duration::from_secs(4));
    reached(&stand, "blue").context("it was called off")?;
    disk.empty()?;
    stand.agent.stop()?;
    unharmed(load)
}

/// Whoever decided is told what a boot would make of it; the record is complete once there is room.
pub(super) fn what_a_full_disk_did_not_take_is_recorded_once_there_is_room() -> Result<()> {
    let (mut stand, disk) = on_small_disk()?;
    let load = Load::start(&stand.topology, &Plan::default())?;
    let unconfirmed = ["flip", GROUP, "green", "--confirm-within", "10m"];
    stand.agent.cli(&unconfirmed)?.expect(0)?;
    disk.fill()?;
    let confirmed = stand.agent.cli(&["confirm", GROUP])?.expect(0)?;
    owes(&stand, &confirmed.stdout)?;
    disk.empty()?;
    stand.until(|group| group["degraded"] == json!([]))?;
    unharmed(load)?;
    boot(&mut stand)?;
    reached(&stand, "green").context("it was confirmed")?;

    let load = Load::start(&stand.topology, &Plan::default())?;
    disk.fill()?;
    let back = ["rollback", GROUP, "--reason", "it does badly"];
    owes(&stand, &stand.agent.cli(&back)?.expect(0)?.stdout)?;
    reached(&stand, "blue")?;
    disk.empty()?;
    stand.until(|group| group["degraded"] == json!([]))?;
    unharmed(load)?;
    boot(&mut stand)?;
    reached(&stand, "blue").context("it was rolled back")?;
    let history = stand.agent.json(&["history", GROUP])?;
    let told: Vec<_> = history.as_array().into_iter().flatten().collect();
    ensure!(told.len() == 2, "{history:#}");
    ensure!(told[0]["reason"] == "it does badly", "{history:#}");
    ensure!(!told[1]["confirmed"].is_null(), "{history:#}");
    stand.agent.cli(&["audit", "verify"])?.expect(0)?;
    Ok(())
}

/// In the answer and for whoever asks later.
fn owes(stand: &Stand, answer: &str) -> Result<()> {
    let says = |it: &str| it.contains("could not be recorded") && it.contains("full");
    ensure!(says(answer), "{answer}");
    let group = stand.agent.status()?;
    let degraded = group["degraded"].as_array().into_iter().flatten();
    let told = degraded.filter_map(|it| it.as_str()).filter(|it| says(it));
    ensure!(told.count() == 1, "{group:#}");
    Ok(())
}

/// A page of it, each in turn. Some hold nothing that a start needs.
pub(super) fn a_record_that_is_damaged_inside_moves_no_traffic() -> Result<()> {
    let mut stand = stand()?;
    let staged = ["stage", GROUP, "green", "--version", "v2"];
    stand.agent.cli(&staged)?.expect(0)?;
    stand.agent.cli(&["flip", GROUP])?.expect(0)?;
    stand.until(|group| group["phase"] == "idle")?;
    stand.agent.stop()?;
    let good = fs::read(record(&stand))?;
    let (mut refused, mut taken) = (0, 0);
    for page in 1..good.len() / PAGE {
        let mut bad = good.clone();
        bad[page * PAGE..][..PAGE / 2].fill(0xa5);
        write_record(&stand, &bad)?;
        match damaged(&mut stand).with_context(|| format!("page {page}"))? {
            true => taken += 1,
            false => refused += 1,
        }
        write_record(&stand, &good)?;
        stand
            .agent
            .start()
            .with_context(|| format!("page {page}"))?;
        if stand.agent.live()? != "green" {
            stand.agent.cli(&["flip", GROUP, "green"])?.expect(0)?;
        }
        stand.agent.stop()?;
    }
    println!("{refused} pages are missed at the start, {taken} are not");
    ensure!(refused > 0, "nothing was damaged");
    Ok(())
}

/// Whether an agent starts with what there is. It says what the matter is, or has the live colour right.
fn damaged(stand: &mut Stand) -> Result<bool> {
    let log = stand.agent.log().len();
    if stand.agent.start().is_err() {
        let said = stand.agent.log().split_off(log);
        let advised = said.contains("state.db") && said.contains("move it away");
        ensure!(advised, "it ends and says: {said}");
        reached(stand, "green")?;
        return Ok(false);
    }
    reached(stand, "green")?;
    let live = stand.agent.live()?;
    ensure!(live == "green", "{live} is live");
    let back = stand.agent.cli(&["rollback", GROUP])?;
    let to = match back.code {
        0 => "blue",
        _ => "green",
    };
    ensure!(
        back.code == 0 || back.stderr.contains("error: roll back shop: "),
        "{back:?}"
    );
    reached(stand, to)?;
    let live = stand.agent.live()?;
    ensure!(live == to, "{live} is live after {back:?}");
    stand.agent.stop()?;
    Ok(true)
}

/// The agent has its file open, goes on, and writes it again: the next one knows everything.
pub(super) fn a_state_directory_that_was_removed_moves_no_traffic() -> Result<()> {
    let mut stand = stand()?;
    let load = Load::start(&stand.topology, &Plan::default())?;
    stand.agent.cli(&["flip", GROUP])?.expect(0)?;
    fs::remove_dir_all(stand.agent.place().state())?;
    reached(&stand, "green")?;
    stand.agent.cli(&["rollback", GROUP])?.expect(0)?;
    reached(&stand, "blue")?;
    stand.agent.cli(&["flip", GROUP, "green"])?.expect(0)?;
    stand
        .agent
        .cli(&["freeze", GROUP, "--reason", "audit"])?
        .expect(0)?;
    until("the record is there again", || Ok(record(&stand).exists()))?;
    stand.agent.kill()?;
    reached(&stand, "green")?;
    stand.agent.start()?;
    let live = stand.agent.live()?;
    ensure!(live == "green", "{live} is live");
    reached(&stand, "green")?;
    let history = stand.agent.json(&["history", GROUP])?;
    ensure!(
        history.as_array().is_some_and(|it| it.len() == 3),
        "{history:#}"
    );
    stand.agent.cli(&["flip", GROUP, "blue"])?.expect(5)?;
    stand.agent.cli(&["unfreeze", GROUP])?.expect(0)?;
    stand.agent.cli(&["flip", GROUP, "blue"])?.expect(0)?;
    reached(&stand, "blue")?;
    stand.agent.cli(&["audit", "verify"])?.expect(0)?;
    unharmed(load)
}

fn record(stand: &Stand) -> PathBuf {
    stand.agent.place().state().join("state.db")
}

/// With nothing beside it that belongs to another.
fn write_record(stand: &Stand, content: &[u8]) -> Result<()> {
    fs::remove_dir_all(stand.agent.place().state())?;
    fs::create_dir(stand.agent.place().state())?;
    fs::write(record(stand), content).context("the record")
}

fn on_small_disk() -> Result<(Stand, SmallDisk)> {
    let mut stand = Stand::without_agent(Mode::Local, true, settings(), &binary()?)?;
    let disk = SmallDisk::mount(&stand.agent.place().state())?;
    stand.agent.start()?;
    let healthy = ["wait", GROUP, "--for", "healthy=green", "--timeout", "20s"];
    stand.agent.cli(&healthy)?.expect(0)?;
    Ok((stand, disk))
}

/// A file system of a few hundred KiB.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Result<Self> {
        fs::create_dir_all(at)?;
        let place = at.display().to_string();
        let options = ["-t", "tmpfs", "-o", "size=1m", "switcher-test", &place];
        netns::run("mount", &options)?;
        Ok(Self(at.to_owned()))
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }

    fn fill(&self) -> Result<()> {
        let mut size = 4096;
        while let Ok(()) = fs::write(self.filler(), vec![0; size]) {
            size += 4096;
            ensure!(size < 1 << 21, "it does not get full");
        }
        Ok(())
    }

    fn empty(&self) -> Result<()> {
        fs::remove_file(self.filler()).context("the filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _left_to_the_next_boot =
            netns::run("umount", &["--lazy", &self.0.display().to_string()]);
    }
}
