//! `top` at a terminal.

use anyhow::{Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use switcher_harness::config::GROUP;
use switcher_harness::{Stand, Terminal};

use crate::last;

const LEFT: &str = "\x1b[?1049l";
const CURSOR: &str = "\x1b[?25h";

/// One frame as text, with what the load does.
pub(crate) fn is_drawn(stand: &Stand) -> Result<()> {
    let words = [
        "top",
        "--snapshot",
        "--interval",
        "500ms",
        "--width",
        "100",
        "--height",
        "30",
    ];
    let frame = stand.agent.cli(&words)?.expect(0)?.stdout;
    ensure!(frame.lines().count() == 30, "{frame}");
    ensure!(frame.lines().all(|it| it.chars().count() <= 100), "{frame}");
    for text in ["> shop", "  blue  ", "staging", "2/2 healthy", " f flip"] {
        ensure!(frame.contains(text), "{text}: {frame}");
    }
    // The only word in these columns of the rows of a colour.
    let rate = |colour: &str| {
        let name = format!("  {colour} ");
        let rows = frame.lines().skip_while(|it| !it.starts_with(&name));
        let cells = rows.map(|row| row.chars().skip(20).take(5).collect::<String>());
        let said = cells.map(|it| it.trim().to_owned());
        said.take(5).find(|it| !it.is_empty())
    };
    ensure!(rate("green").as_deref() == Some("0"), "{frame}");
    ensure!(
        rate("blue").is_some_and(|it| it != "0" && it != "-"),
        "{frame}"
    );
    let refused = stand.agent.cli(&["top"])?.expect(2)?.stderr;
    ensure!(refused.contains("--snapshot"), "{refused}");
    stand.agent.cli(&["top", "--json"])?.expect(2)?;
    Ok(())
}

/// A flip by keys, and everything that may happen to somebody who looks.
pub(crate) fn flips(stand: &mut Stand) -> Result<()> {
    let mut terminal = start(stand)?;
    terminal.until("> shop")?;
    freeze(stand, true)?;
    terminal.press("f")?;
    terminal.until("No: ")?;
    terminal.until("for the audit")?;
    terminal.press("y")?;
    terminal.press("\x1b")?;
    terminal.until_gone("No: ")?;
    ensure!(stand.agent.live()? == "blue");
    freeze(stand, false)?;

    terminal.press("f")?;
    terminal.until("Nothing stands in its way")?;
    terminal.press("n")?;
    terminal.until_gone("Nothing stands in its way")?;
    ensure!(stand.agent.live()? == "blue", "it was put away");
    terminal.press("f")?;
    terminal.until("Nothing stands in its way")?;
    terminal.press("y")?;
    terminal.until("blue -> green, switched")?;
    terminal.until("blue → green")?;
    let flip = last(stand)?;
    ensure!(
        flip["to"] == "green" && flip["reason"] == "by switcher top",
        "{flip:#}"
    );

    stand.agent.kill()?;
    terminal.until("what is below is old")?;
    stand.agent.start()?;
    terminal.until_gone("what is below is old")?;
    terminal.press("r")?;
    terminal.until("roll shop back?")?;
    terminal.until("Nothing stands in its way")?;
    terminal.press("y")?;
    terminal.until("rolled back")?;
    ensure!(stand.agent.live()? == "blue");

    terminal.press("q")?;
    let ended = terminal.ended()?;
    ensure!(ended.success(), "{ended}");
    is_restored(&terminal)?;
    let terminal = start(stand)?;
    is_put_right_after(terminal, Signal::SIGTERM)
}

fn is_put_right_after(mut terminal: Terminal, signal: Signal) -> Result<()> {
    terminal.until("> shop")?;
    kill(Pid::from_raw(terminal.pid().try_into()?), signal)?;
    terminal.ended()?;
    is_restored(&terminal)
}

fn is_restored(terminal: &Terminal) -> Result<()> {
    let raw = terminal.raw();
    let (_, after) = raw.rsplit_once("\x1b[?1049h").unwrap_or_default();
    ensure!(after.contains(LEFT) && after.contains(CURSOR), "{raw:?}");
    Ok(())
}

fn freeze(stand: &Stand, frozen: bool) -> Result<()> {
    let words: &[&str] = match frozen {
        true => &["freeze", GROUP, "--reason", "for the audit"],
        false => &["unfreeze", GROUP],
    };
    stand.agent.cli(words)?.expect(0).map(drop)
}

fn start(stand: &Stand) -> Result<Terminal> {
    // With a terminal of its own, also where whoever runs this has one.
    let mut command = stand.topology.switch.command("setsid");
    command
        .arg("--ctty")
        .arg(stand.agent.binary())
        .args(["top", "--interval", "200ms"])
        .env("SWITCHER_SOCKET", stand.agent.place().socket())
        .env_remove("NO_COLOR");
    Terminal::start(command, (100, 30))
}
