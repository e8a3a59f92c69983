//! What people order.

use std::time::Duration;

use anyhow::Result;
use switcher_harness::agent::Output;
use switcher_harness::config::{GROUP, Settings};
use switcher_harness::topology::COLOURS;

use super::{Acts, Came, MARGIN, how, ms, place};
use crate::counts::How;
use crate::endpoint::Endpoints;
use crate::plan::{Layout, WEIGHTS};
use crate::timeline::At;

/// How long a group may take to be idle, from when on nothing is switched: flows of the longest life end.
const IDLE: &str = "20s";

impl Acts {
    /// To the canary, if there is one, else to the other colour.
    pub(super) fn target(&self) -> usize {
        self.known
            .canary
            .map_or(self.known.other(), |(colour, _)| colour)
    }

    /// A flip that is made at once. When it was begun and ended, if it was.
    fn flip_with(&mut self, words: &[&str]) -> Result<(Came, Output)> {
        let to = self.target();
        let also = self.known.of(to);
        let all = [&["flip", GROUP, COLOURS[to]], words].concat();
        let (came, output) = self.order(&all, also)?;
        if came == Came::Done {
            if !self.sabotage {
                (self.known.live, self.known.canary) = (to, None);
            }
            self.known.revert = None;
            self.routed(self.judge.at(output.ended));
        }
        Ok((came, output))
    }

    pub(super) fn flip(&mut self, words: &[&str]) -> Result<How> {
        Ok(how(self.flip_with(words)?.0))
    }

    pub(super) fn flip_to_confirm(&mut self, within_ms: u64) -> Result<How> {
        let within = format!("{within_ms}ms");
        let (came, output) = self.flip_with(&["--confirm-within", &within])?;
        let answer = output.json().unwrap_or_default();
        if came == Came::Done && answer["unchanged"] != true {
            let (begun, ended) = (self.judge.at(output.begun), self.judge.at(output.ended));
            let from = place(&answer["from"])?;
            self.reverts(begun + ms(within_ms), ended + ms(within_ms), from);
        }
        Ok(how(came))
    }

    /// Between two instants the flip undoes itself.
    fn reverts(&mut self, earliest: At, latest: At, to: usize) {
        let (earliest, latest) = (earliest.saturating_sub(MARGIN), latest + MARGIN);
        self.known.revert = Some((earliest, latest, to));
        let routes = self.known.of(to);
        self.judge
            .tell(|model| model.later(earliest, latest, routes));
    }

    pub(super) fn flip_at(&mut self, in_ms: u64, within_ms: Option<u64>) -> Result<How> {
        let to = self.target();
        let at = format!("+{in_ms}ms");
        let within = within_ms.map(|within| format!("{within}ms"));
        let mut words = vec![
            "flip",
            GROUP,
            COLOURS[to],
            "--at",
            &at,
            "--wait",
            "scheduled",
        ];
        if let Some(within) = &within {
            words.extend(["--confirm-within", within]);
        }
        let also = self.known.of(to);
        let (came, output) = self.order(&words, Endpoints::NONE)?;
        let answer = output.json().unwrap_or_default();
        if came == Came::Done && answer["unchanged"] == true {
            self.known.live = to;
            self.routed(self.judge.at(output.ended));
        } else if came == Came::Done {
            let from = place(&answer["from"])?;
            let (begun, ended) = (self.judge.at(output.begun), self.judge.at(output.ended));
            let (earliest, latest) = (begun + ms(in_ms), ended + ms(in_ms));
            self.routed(ended);
            // To have been told late is possible, to be switched early is not.
            self.judge.tell(|model| {
                model.later(earliest.saturating_sub(MARGIN), latest + MARGIN, also);
            });
            if let Some(within) = within_ms {
                self.reverts(earliest + ms(within), latest + ms(within), from);
            }
        }
        Ok(how(came))
    }

    pub(super) fn rollback(&mut self, hard: bool) -> Result<How> {
        let words: &[&str] = if hard {
            &["rollback", GROUP, "--hard"]
        } else {
            &["rollback", GROUP]
        };
        if hard {
            self.judge
                .tell(|model| model.takes(self.judge.now(), Endpoints::NONE));
        }
        let came = self.back(words)?;
        if hard && came == Came::Done {
            let at = self.judge.now();
            let spared = self.known.every(self.known.live);
            self.judge.tell(|model| model.took(at, spared));
        } else if hard && came == Came::Odd {
            let at = self.judge.now();
            self.judge.tell(|model| model.may_have_taken(at));
        }
        Ok(how(came))
    }

    pub(super) fn abort(&mut self) -> Result<How> {
        Ok(how(self.back(&["abort", GROUP])?))
    }

    /// To wherever the answer says.
    fn back(&mut self, words: &[&str]) -> Result<Came> {
        let (came, output) = self.order(words, self.known.all())?;
        if came == Came::Done {
            let answer = output.json()?;
            let to = answer["to"].as_str().unwrap_or_default();
            let from = answer["from"].as_str().unwrap_or_default();
            // What was stopped before it was made left everything as it was.
            let live = if answer["kind"] == "rollback" {
                to
            } else {
                from
            };
            if let Some(live) = COLOURS.iter().position(|it| *it == live) {
                (self.known.live, self.known.canary) = (live, None);
            }
            self.known.revert = None;
            self.routed(self.judge.at(output.ended));
        }
        Ok(came)
    }

    pub(super) fn canary(&mut self, percent: u8) -> Result<How> {
        let to = self.known.other();
        let words = ["canary", GROUP, COLOURS[to], &percent.to_string()];
        let also = self.known.of(to);
        // What begins from now on may be counted by either share.
        self.judge.shares(self.judge.now(), None);
        let (came, output) = self.order(&words, also)?;
        if came == Came::Done {
            self.known.canary = Some((to, percent));
            self.routed(self.judge.at(output.ended));
        }
        Ok(how(came))
    }

    pub(super) fn confirm(&mut self) -> Result<How> {
        let (came, output) = self.order(&["confirm", GROUP], Endpoints::NONE)?;
        if came == Came::Done {
            self.known.revert = None;
            self.routed(self.judge.at(output.ended));
        }
        Ok(how(came))
    }

    pub(super) fn extend(&mut self, by_ms: u64) -> Result<How> {
        let by = format!("{by_ms}ms");
        let (came, output) = self.order(&["extend", GROUP, &by], Endpoints::NONE)?;
        if came == Came::Done {
            self.routed(self.judge.at(output.ended));
            if let Some((earliest, latest, to)) = self.known.revert {
                self.reverts(earliest + MARGIN + ms(by_ms), latest + ms(by_ms), to);
            }
        }
        Ok(how(came))
    }

    pub(super) fn pause(&mut self, for_ms: u64) -> Result<How> {
        let time = format!("{for_ms}ms");
        let before = self.judge.now();
        let (came, output) = self.order(&["pause", GROUP, "--for", &time], Endpoints::NONE)?;
        if came == Came::Done {
            let (begun, ended) = (self.judge.at(output.begun), self.judge.at(output.ended));
            let earliest = (begun + ms(for_ms)).saturating_sub(MARGIN);
            self.judge.tell(|model| {
                model.door_moves(before);
                model.held(ended, earliest, ended + ms(for_ms) + MARGIN);
            });
        }
        Ok(how(came))
    }

    pub(super) fn resume(&mut self) -> Result<How> {
        let before = self.judge.now();
        self.judge.tell(|model| model.door_moves(before));
        let (came, output) = self.order(&["resume", GROUP], Endpoints::NONE)?;
        if came == Came::Done {
            let ended = self.judge.at(output.ended);
            self.judge.tell(|model| model.opened(ended));
        }
        Ok(how(came))
    }

    pub(super) fn apply(&mut self, layout: &Layout, when_idle: bool) -> Result<How> {
        if when_idle {
            self.settle()?;
            let words = ["wait", GROUP, "--for", "idle", "--timeout", IDLE];
            let waited = self.stand.agent.cli(&words)?;
            // A flip that is set for later is not, nor what was begun while we wait.
            if ![0, 8, 10].contains(&waited.code) {
                let seen = format!("{}: {}", waited.code, waited.stderr.trim());
                self.judge.found("`wait --for idle`", "0, 8 or 10", seen);
            }
            // What was set for later may have come meanwhile.
            self.look()?;
        }
        let before = self.known.layout.clone();
        self.write(layout)?;
        self.known.layout = layout.clone();
        let also = self.known.all();
        let deadline = ms(layout.deadline_ms);
        let (came, output) = self.order_with_deadline(&["apply"], also, deadline)?;
        let at = self.judge.at(output.ended);
        match came {
            Came::Done => {
                self.judge.tell(|model| model.deadline_is(at, deadline));
                let (pending, routes) = (self.known.revert, self.known.routes());
                if pending.is_none() {
                    self.judge.tell(|model| model.routed(at, routes));
                }
                self.judge.shares(at, None);
            }
            Came::Refused | Came::Odd => {
                self.write(&before)?;
                self.known.layout = before;
            }
        }
        Ok(how(came))
    }

    /// Ends what has no end of its own, or a late one.
    fn settle(&mut self) -> Result<()> {
        if self.known.canary.is_some() {
            self.abort()?;
        }
        if self.known.revert.is_some() {
            self.confirm()?;
        }
        Ok(())
    }

    fn order_with_deadline(
        &mut self,
        words: &[&str],
        also: Endpoints,
        deadline: Duration,
    ) -> Result<(Came, Output)> {
        self.judge
            .tell(|model| model.deadline_moves(self.judge.now(), deadline));
        self.order(words, also)
    }

    /// The configuration file, for the next `apply` or start.
    fn write(&mut self, layout: &Layout) -> Result<()> {
        let settings = Settings {
            without: layout.absent.clone(),
            weights: WEIGHTS[layout.weights],
            deadline: ms(layout.deadline_ms),
            ..self.stand.settings.clone()
        };
        let text = settings.render(&self.stand.topology, self.stand.agent.place());
        self.stand.agent.write_config(&text)
    }

    pub(super) fn freeze(&mut self, for_ms: u64) -> Result<How> {
        let time = format!("{for_ms}ms");
        let words = ["freeze", GROUP, "--for", &time, "--reason", "torture"];
        let (came, output) = self.order(&words, Endpoints::NONE)?;
        self.nothing_switched(came, self.judge.at(output.ended));
        Ok(how(came))
    }

    pub(super) fn stage(&mut self) -> Result<How> {
        let to = COLOURS[self.known.other()];
        let words = ["stage", GROUP, to, "--version", "v3"];
        let (came, output) = self.order(&words, Endpoints::NONE)?;
        self.nothing_switched(came, self.judge.at(output.ended));
        Ok(how(came))
    }

    /// It was carried out, and is none of the model's business.
    fn nothing_switched(&mut self, came: Came, at: At) {
        if came == Came::Done {
            self.judge.tell(|model| model.refused(at));
        }
    }

    pub(super) fn unhealthy(&mut self, live: bool, number: u16, for_ms: u64) -> How {
        let colour = if live {
            self.known.live
        } else {
            self.known.other()
        };
        let colour = COLOURS[colour];
        let begun = self.judge.now();
        self.stand.servers.set_server_healthy(colour, number, false);
        std::thread::sleep(ms(for_ms));
        self.stand.servers.set_server_healthy(colour, number, true);
        // Tables follow when the group is idle, which may be later.
        let latest = self.judge.now() + Duration::from_secs(120);
        self.judge.tell(|model| model.disturbed(begun, latest));
        How::Done
    }

    pub(super) fn read(&mut self) -> Result<How> {
        let commands: [&[&str]; 6] = [
            &["status"],
            &["history", GROUP],
            &["audit", "verify"],
            &["plan"],
            &["drift"],
            &[
                "explain",
                GROUP,
                "tcp",
                "10.77.0.2:19999",
                "10.77.1.1:80",
                "--syn",
            ],
        ];
        let mut how = How::Done;
        for words in commands {
            let output = self.stand.agent.cli(words)?;
            // A busy group can be planned for no more than it can be changed.
            let right: &[i32] = match words[0] {
                "plan" => &[0, 4, 11],
                _ => &[0],
            };
            if !right.contains(&output.code) {
                let said = format!("{}{}", output.stdout.trim(), output.stderr.trim());
                let seen = format!("{}: {said}", output.code);
                self.judge
                    .found(&format!("`{}`", output.command), format!("{right:?}"), seen);
                how = How::Odd;
            }
        }
        Ok(how)
    }

    pub(super) fn trace(&mut self, for_ms: u64) -> Result<How> {
        let time = format!("{for_ms}ms");
        let output = self
            .stand
            .agent
            .cli(&["trace", GROUP, "--for", &time, "--json"])?;
        if output.code == 0 {
            return Ok(How::Done);
        }
        let seen = format!("{}: {}", output.code, output.stderr.trim());
        self.judge.found("`trace`", "0", seen);
        Ok(How::Odd)
    }
}
