//! What becomes of the agent.

use std::fs;

use anyhow::{Context as _, Result, anyhow};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use switcher::datapath::pins::Pins;
use switcher_harness::agent::binary;
use switcher_harness::config::GROUP;
use switcher_harness::topology::COLOURS;

use super::{Acts, ms};
use crate::counts::How;

impl Acts {
    /// The same file again.
    pub(super) fn reload(&mut self) -> Result<How> {
        let pid = self.stand.agent.pid().context("no agent")?;
        kill(Pid::from_raw(pid.try_into()?), Signal::SIGHUP)?;
        std::thread::sleep(ms(100));
        Ok(How::Done)
    }

    pub(super) fn kill(&mut self, for_ms: u64) -> Result<How> {
        self.stand.agent.kill()?;
        std::thread::sleep(ms(for_ms));
        self.start()
    }

    pub(super) fn stop(&mut self, for_ms: u64) -> Result<How> {
        let status = self.stand.agent.stop()?;
        if !status.success() {
            self.judge
                .found("SIGTERM", "an end with 0", status.to_string());
        }
        std::thread::sleep(ms(for_ms));
        self.start()
    }

    /// Programs of its own, and links that are given to them, take another object: what is pinned is made to be one.
    pub(super) fn upgrade(&mut self) -> Result<How> {
        self.upgrades += 1;
        let directory = self.stand.agent.place().directory().to_owned();
        let name = |number: u32| directory.join(format!("switcher-{number}"));
        fs::copy(binary()?, name(self.upgrades))?;
        self.stand.agent.stop()?;
        // The one before is not needed any more; there is none at first.
        let _first = fs::remove_file(name(self.upgrades - 1));
        let pins = Pins::new(self.stand.agent.place().bpffs());
        for object in pins.objects() {
            let other = format!("{}-before-{}", self.upgrades, object);
            fs::rename(pins.programs(&object), pins.programs(&other))?;
        }
        self.stand.agent.set_binary(&name(self.upgrades));
        self.start()
    }

    pub(super) fn kill_in_flip(&mut self, after_ms: u64) -> Result<How> {
        let to = self.target();
        let also = self.known.of(to);
        self.judge.tell(|model| model.begin(self.judge.now(), also));
        self.judge.shares(self.judge.now(), None);
        let flip = self
            .stand
            .agent
            .cli_in_background(&["flip", GROUP, COLOURS[to], "--json"]);
        std::thread::sleep(ms(after_ms));
        self.stand.agent.kill()?;
        let said = flip
            .join()
            .map_err(|_| anyhow!("the command's thread has panicked"))??;
        let at = self.judge.at(said.ended);
        match said.code {
            0 => {
                (self.known.live, self.known.canary) = (to, None);
                self.known.revert = None;
                self.routed(at);
            }
            4 | 5 | 6 | 10 => self.judge.tell(|model| model.refused(at)),
            _ => self.known.unsure = true,
        }
        self.start()
    }

    pub(super) fn emergency(&mut self) -> Result<How> {
        let to = self.known.other();
        let also = self.known.of(to);
        self.stand.agent.kill()?;
        let pins = self.stand.agent.place().bpffs().display().to_string();
        self.judge.tell(|model| model.begin(self.judge.now(), also));
        self.judge.shares(self.judge.now(), None);
        let words = ["emergency", GROUP, COLOURS[to], "--bpffs", &pins];
        let output = self.stand.agent.cli(&words)?;
        let at = self.judge.at(output.ended);
        let how = match output.code {
            0 => {
                (self.known.live, self.known.canary) = (to, None);
                self.known.revert = None;
                self.routed(at);
                How::Done
            }
            code => {
                let seen = format!("{code}: {}", output.stderr.trim());
                self.judge.found("`emergency`", "0", seen);
                self.known.unsure = true;
                How::Odd
            }
        };
        self.start()?;
        Ok(how)
    }

    /// An agent that does not start is the end of everything.
    fn start(&mut self) -> Result<How> {
        if let Err(error) = self.stand.agent.start() {
            self.judge
                .found("an agent", "that it starts", format!("{error:#}"));
            return Err(error);
        }
        Ok(How::Done)
    }
}
