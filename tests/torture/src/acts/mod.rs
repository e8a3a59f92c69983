//! Does what a plan says, and tells the model what it may do and has done.

mod agent;
mod network;
mod orders;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::Value;
use switcher_harness::Stand;
use switcher_harness::agent::Output;
use switcher_harness::topology::COLOURS;

use crate::counts::{Counts, How};
use crate::endpoint::Endpoints;
use crate::judge::Judge;
use crate::plan::{Action, Layout};
use crate::timeline::At;

/// How far the agent's clock and that of its programs may be from ours, when it says how long something lasts.
const MARGIN: Duration = Duration::from_millis(40);
/// For what is to happen by itself.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whoever gives orders.
#[derive(Debug)]
pub struct Acts {
    pub(crate) stand: Stand,
    judge: Arc<Judge>,
    pub(crate) counts: Counts,
    known: Known,
    /// The model is told that every flip fails, for a test of the test.
    sabotage: bool,
    upgrades: u32,
}

/// What holds, as far as it is known here.
#[derive(Clone, Debug)]
struct Known {
    /// By place.
    live: usize,
    canary: Option<(usize, u8)>,
    layout: Layout,
    servers: u16,
    /// When a flip undoes itself, and what is live then.
    revert: Option<(At, At, usize)>,
    /// A flip is set for later.
    scheduled: bool,
    /// Something was begun of which it isn't known what has become.
    unsure: bool,
}

impl Known {
    /// All endpoints of a colour.
    fn of(&self, colour: usize) -> Endpoints {
        endpoints(&self.layout, self.servers).of(colour)
    }

    /// All servers of a colour, whether the agent knows them or not.
    fn every(&self, colour: usize) -> Endpoints {
        Endpoints::first(colour, self.servers)
    }

    /// Where new flows go.
    fn routes(&self) -> Endpoints {
        let canary = self
            .canary
            .map_or(Endpoints::NONE, |(colour, _)| self.of(colour));
        self.of(self.live) | canary
    }

    fn all(&self) -> Endpoints {
        endpoints(&self.layout, self.servers)
    }

    fn other(&self) -> usize {
        1 - self.live
    }
}

/// Those that a layout has.
pub(crate) fn endpoints(layout: &Layout, servers: u16) -> Endpoints {
    let all = Endpoints::first(0, servers) | Endpoints::first(1, servers);
    let absent = layout.absent.iter();
    absent.fold(all, |rest, &(colour, number)| {
        rest.without(Endpoints::one(colour, number))
    })
}

/// How an order came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Came {
    Done,
    Refused,
    /// As nobody should end.
    Odd,
}

impl Acts {
    /// On a stand whose agent runs, with blue live.
    #[must_use]
    pub fn new(stand: Stand, judge: Arc<Judge>, layout: Layout, sabotage: bool) -> Self {
        let servers = stand.settings.servers;
        Self {
            stand,
            judge,
            counts: Counts::default(),
            known: Known {
                live: 0,
                canary: None,
                layout,
                servers,
                revert: None,
                scheduled: false,
                unsure: false,
            },
            sabotage,
            upgrades: 0,
        }
    }

    /// Does one thing, and looks what is live then.
    ///
    /// # Errors
    /// When the test itself fails, or nothing can go on.
    pub fn act(&mut self, action: &Action) -> Result<()> {
        if self.known.revert.is_some() || self.known.scheduled {
            // It may have happened meanwhile.
            self.look()?;
        }
        self.judge.doing(action.to_string());
        let how = match action {
            Action::Flip => self.flip(&[])?,
            Action::FlipToConfirm { within_ms } => self.flip_to_confirm(*within_ms)?,
            Action::FlipAt { in_ms, within_ms } => self.flip_at(*in_ms, *within_ms)?,
            Action::Rollback { hard } => self.rollback(*hard)?,
            Action::Canary { percent } => self.canary(*percent)?,
            Action::Abort => self.abort()?,
            Action::Confirm => self.confirm()?,
            Action::Extend { by_ms } => self.extend(*by_ms)?,
            Action::Pause { for_ms } => self.pause(*for_ms)?,
            Action::Resume => self.resume()?,
            Action::Apply { layout, when_idle } => self.apply(layout, *when_idle)?,
            Action::Reload => self.reload()?,
            Action::Freeze { for_ms } => self.freeze(*for_ms)?,
            Action::Stage => self.stage()?,
            Action::Unhealthy {
                live,
                number,
                for_ms,
            } => self.unhealthy(*live, *number, *for_ms),
            Action::Read => self.read()?,
            Action::Trace { for_ms } => self.trace(*for_ms)?,
            Action::Kill { for_ms } => self.kill(*for_ms)?,
            Action::Stop { for_ms } => self.stop(*for_ms)?,
            Action::Upgrade => self.upgrade()?,
            Action::KillInFlip { after_ms } => self.kill_in_flip(*after_ms)?,
            Action::Emergency => self.emergency()?,
            Action::LinkDown { link, for_ms } => self.link_down(*link, *for_ms)?,
            Action::Flood { syns } => self.flood(*syns)?,
            Action::Junk { frames, seed } => self.junk(*frames, *seed)?,
        };
        self.counts.add(action.name(), how);
        self.look()
    }

    /// Gives an order that may send new flows to these endpoints, too.
    fn order(&mut self, words: &[&str], also: Endpoints) -> Result<(Came, Output)> {
        let all = [words, &["--json"]].concat();
        self.judge.tell(|model| model.begin(self.judge.now(), also));
        let output = self.stand.agent.cli(&all)?;
        let at = self.judge.at(output.ended);
        let came = match output.code {
            0 => Came::Done,
            // Something else is in progress, policy, health, or somebody has to confirm.
            4 | 5 | 6 | 10 => Came::Refused,
            _ => Came::Odd,
        };
        match came {
            Came::Done => {}
            Came::Refused => self.judge.tell(|model| model.refused(at)),
            Came::Odd => {
                self.judge.found(
                    &format!("`{}`", output.command),
                    "0, 4, 5, 6 or 10",
                    format!(
                        "{}: {}{}",
                        output.code,
                        output.stdout.trim(),
                        output.stderr.trim()
                    ),
                );
                self.known.unsure = true;
            }
        }
        Ok((came, output))
    }

    /// New flows go where the model is told that they go, from an instant on.
    fn routed(&mut self, at: At) {
        let routes = self.known.routes();
        self.judge.tell(|model| model.routed(at, routes));
        let share = self.known.canary;
        let share = share.map(|(colour, percent)| (self.known.of(colour), percent));
        self.judge.shares(at, share);
    }

    /// What the agent says, once nothing is in between.
    fn look(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let begun = self.judge.now();
            let output = self.stand.agent.cli(&["status", "--json"])?;
            if output.code != 0 {
                let said = format!("{}: {}", output.code, output.stderr.trim());
                self.judge.found("`status`", "0", said);
                return Ok(());
            }
            let status = output.json()?;
            let group = &status["groups"][0];
            let phase = group["phase"].as_str().unwrap_or_default();
            let is_set = phase == "preparing" && group["cutover"]["at"].is_string();
            let moves = ["preparing", "switching", "rolling-back"].contains(&phase) && !is_set;
            if !moves {
                let ended = self.judge.at(output.ended);
                return self.compare(group, begun, ended, is_set);
            }
            if Instant::now() > deadline {
                let seen = format!("{phase} for {PATIENCE:?}: {group}");
                self.judge
                    .found("`status`", "an end of what was begun", seen);
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The live colour, and where new flows may go.
    fn compare(&mut self, group: &Value, begun: At, ended: At, is_set: bool) -> Result<()> {
        let live = place(&group["live"])?;
        let canary = canary(group)?;
        let entitled = self.judge.tell(|model| model.routes_over(begun, ended));
        let routes = self.known.of(live);
        if !entitled.has(routes) {
            let seen = format!("{} is live ({})", COLOURS[live], group["phase"]);
            let expected = format!("one that has {entitled}");
            self.judge.found("`status`", expected, seen);
        }
        let reverts = group["cutover"]["confirm_by"].is_string();
        if self.known.live != live || self.known.canary != canary || self.known.unsure {
            self.known.live = live;
            self.known.canary = canary;
            if !reverts && !is_set {
                self.routed(ended);
            }
        }
        self.known.unsure = false;
        self.known.scheduled = is_set;
        if !reverts {
            self.known.revert = None;
        }
        if group["paused_until"].is_null() {
            // Whatever has ended the pause: it is over.
            self.judge.tell(|model| {
                if !model.is_open(ended) {
                    model.opened(ended);
                }
            });
        }
        Ok(())
    }
}

fn canary(group: &Value) -> Result<Option<(usize, u8)>> {
    let canary = &group["canary"];
    if canary.is_null() {
        return Ok(None);
    }
    let percent = canary["percent"].as_u64().context("no percent")?;
    Ok(Some((place(&canary["colour"])?, u8::try_from(percent)?)))
}

/// Of a colour, by its name.
fn place(name: &Value) -> Result<usize> {
    let found = COLOURS.iter().position(|it| name == it);
    found.with_context(|| format!("{name} is no colour"))
}

fn how(came: Came) -> How {
    match came {
        Came::Done => How::Done,
        Came::Refused => How::Refused,
        Came::Odd => How::Odd,
    }
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
