//! What commands show at a terminal while something takes long.

use anyhow::{Result, ensure};
use switcher_harness::config::GROUP;
use switcher_harness::load::Connection;
use switcher_harness::{Stand, Terminal};

use crate::{run, stand};

const SIZE: (u16, u16) = (120, 30);

#[test]
fn status_is_watched_also_while_the_agent_is_away() {
    run("status_is_watched_also_while_the_agent_is_away", || {
        let mut stand = stand()?;
        let terminal = start(&stand, &["status", "-w"])?;
        terminal.until("idle")?;
        stand.agent.cli(&["flip", GROUP])?.expect(0)?;
        let screen = terminal.until("rollback to blue is possible")?;
        let headers = screen.matches("REVISION").count();
        ensure!(headers == 1, "one below the other: {screen}");
        stand.agent.kill()?;
        terminal.until("nobody listens at")?;
        stand.agent.start()?;
        let screen = terminal.until_gone("nobody listens at")?;
        ensure!(screen.contains("green"), "{screen}");
        // Into a file it writes no signs for terminals.
        let words = ["status", "-w", "-o", "table"];
        let mut command = stand.agent.command(&words);
        let written = command.stdout(std::process::Stdio::piped()).spawn()?;
        std::thread::sleep(std::time::Duration::from_millis(1500));
        stand.agent.stop()?;
        let pid = nix::unistd::Pid::from_raw(i32::try_from(written.id())?);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)?;
        let text = String::from_utf8(written.wait_with_output()?.stdout)?;
        ensure!(
            text.contains("REVISION") && !text.contains('\x1b'),
            "{text:?}"
        );
        Ok(())
    });
}

#[test]
fn who_waits_sees_how_far_it_is() {
    run("who_waits_sees_how_far_it_is", || {
        let stand = stand()?;
        let web = stand.topology.web();
        let mut left = stand.topology.client.inside(|| Connection::open(web))??;
        left.colour()?;
        let flip = ["flip", GROUP, "--wait", "drained", "--reason", "test"];
        let mut flip = start(&stand, &flip)?;
        flip.until("shop: draining, 1 flow on old endpoints; in")?;
        let mut wait = start(&stand, &["wait", GROUP, "--for", "drained"])?;
        wait.until("1 flow on old endpoints")?;
        let mut quiet = start(&stand, &["--quiet", "wait", GROUP, "--for", "drained"])?;
        drop(left);
        for terminal in [&mut flip, &mut wait, &mut quiet] {
            let status = terminal.ended()?;
            ensure!(status.success(), "{status}: {}", terminal.screen());
        }
        let screen = flip.screen();
        ensure!(
            screen.starts_with("shop: blue -> green, switched") && !screen.contains("draining"),
            "what was said meanwhile stays: {screen}"
        );
        ensure!(quiet.raw().is_empty(), "{:?}", quiet.raw());
        Ok(())
    });
}

fn start(stand: &Stand, words: &[&str]) -> Result<Terminal> {
    Terminal::start(stand.agent.command(words), SIZE)
}
