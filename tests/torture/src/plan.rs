//! What is done, in which order, with which pauses: a pure function of the seed.

use std::fmt;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use switcher_harness::chance::Chance;

/// Something done to Switcher. Colours are told by what is live when it is done: a flip goes to the other one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
#[expect(
    missing_docs,
    reason = "fields' names say what they are, with their units"
)]
pub enum Action {
    /// To the other colour.
    Flip,
    /// The same; the kernel undoes it unless it is confirmed.
    FlipToConfirm { within_ms: u64 },
    /// The same at an instant, for good or to be confirmed.
    FlipAt { in_ms: u64, within_ms: Option<u64> },
    /// Back.
    Rollback { hard: bool },
    /// A share to the other colour.
    Canary { percent: u8 },
    /// Whatever is going on.
    Abort,
    /// What is to be confirmed.
    Confirm,
    /// The time to confirm it.
    Extend { by_ms: u64 },
    /// New flows wait.
    Pause { for_ms: u64 },
    /// No longer.
    Resume,
    /// Other endpoints, weights or deadline.
    Apply { layout: Layout, when_idle: bool },
    /// The same configuration, by signal.
    Reload,
    /// Nobody flips.
    Freeze { for_ms: u64 },
    /// A release is put on the idle colour.
    Stage,
    /// A server fails its checks for some time.
    Unhealthy {
        live: bool,
        number: u16,
        for_ms: u64,
    },
    /// Commands that only read.
    Read,
    /// Programs that tell of packets.
    Trace { for_ms: u64 },
    /// SIGKILL, and some time without an agent.
    Kill { for_ms: u64 },
    /// SIGTERM, and some time without an agent.
    Stop { for_ms: u64 },
    /// Another binary takes over, and loads programs of its own.
    Upgrade,
    /// SIGKILL so long after a flip was asked for.
    KillInFlip { after_ms: u64 },
    /// A flip without an agent.
    Emergency,
    /// An interface of the switch goes down; 0 is the one towards clients.
    LinkDown { link: u8, for_ms: u64 },
    /// Connections that nobody means.
    Flood { syns: u32 },
    /// Frames that nobody should send.
    Junk { frames: u32, seed: u64 },
}

/// What the configuration says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// Servers that are left out, by colour and number.
    pub absent: Vec<(usize, u16)>,
    /// Which of a few lists of weights.
    pub weights: usize,
    /// When windows end at the latest, in milliseconds.
    pub deadline_ms: u64,
}

/// Lists of weights to choose from.
pub const WEIGHTS: [&[u16]; 3] = [&[], &[1, 3], &[5, 1, 2]];
impl Action {
    /// Its name, as in a plan.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Flip => "flip",
            Self::FlipToConfirm { .. } => "flip to confirm",
            Self::FlipAt { .. } => "flip at",
            Self::Rollback { hard: false } => "rollback",
            Self::Rollback { hard: true } => "hard rollback",
            Self::Canary { .. } => "canary",
            Self::Abort => "abort",
            Self::Confirm => "confirm",
            Self::Extend { .. } => "extend",
            Self::Pause { .. } => "pause",
            Self::Resume => "resume",
            Self::Apply { .. } => "apply",
            Self::Reload => "reload",
            Self::Freeze { .. } => "freeze",
            Self::Stage => "stage",
            Self::Unhealthy { .. } => "failing checks",
            Self::Read => "reads",
            Self::Trace { .. } => "trace",
            Self::Kill { .. } => "agent killed",
            Self::Stop { .. } => "agent restarted",
            Self::Upgrade => "agent upgraded",
            Self::KillInFlip { .. } => "killed in a flip",
            Self::Emergency => "emergency",
            Self::LinkDown { .. } => "link down",
            Self::Flood { .. } => "flood",
            Self::Junk { .. } => "malformed frames",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).unwrap_or_default())
    }
}

/// One action after some time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// How long nothing is done before, in milliseconds.
    pub pause_ms: u64,
    /// What is done then.
    #[serde(flatten)]
    pub action: Action,
}

/// What a network has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// Servers of a colour.
    pub servers: u16,
    /// Interfaces of the switch.
    pub links: u8,
    /// SYNs of a flood at most.
    pub syns: u32,
    /// When windows end at the latest, in milliseconds: mostly longer than any flow lives, or so short that it
    /// takes some of them.
    pub deadlines_ms: (u64, u64),
}

impl Extent {
    /// What the configuration says at first.
    #[must_use]
    pub fn layout(&self) -> Layout {
        Layout {
            absent: Vec::new(),
            weights: 0,
            deadline_ms: self.deadlines_ms.0,
        }
    }
}

/// An endless sequence of steps.
#[derive(Clone, Debug)]
pub struct Plan {
    chance: Chance,
    extent: Extent,
    /// What the last action makes likely.
    next: Vec<Action>,
}

impl Plan {
    /// The one of this seed.
    #[must_use]
    pub fn new(seed: u64, extent: Extent) -> Self {
        Self {
            chance: Chance::seeded(seed),
            extent,
            next: Vec::new(),
        }
    }

    fn below(&mut self, end: u64) -> u64 {
        self.chance.below(end)
    }

    fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.chance.below(to - from)
    }

    /// Mostly short, now and then long enough for a window to close.
    fn pause(&mut self) -> u64 {
        match self.below(20) {
            0 | 1 => 0,
            2..=15 => self.between(50, 900),
            16..=18 => self.between(900, 3_000),
            _ => self.between(5_000, 9_000),
        }
    }

    fn action(&mut self) -> Action {
        // Half of what would follow does: the rest is surprised by something else.
        if self.below(2) == 0
            && let Some(next) = self.next.pop()
        {
            return next;
        }
        self.next.clear();
        match self.below(100) {
            0..=19 => Action::Flip,
            20..=27 => Action::Rollback { hard: false },
            28..=30 => Action::Rollback { hard: true },
            31..=38 => self.canary(),
            39..=44 => self.flip_to_confirm(),
            45..=48 => self.flip_at(),
            49..=52 => self.paused(),
            53..=60 => self.apply(),
            61..=62 => Action::Reload,
            63 => Action::Freeze {
                for_ms: self.between(100, 2_000),
            },
            64..=65 => Action::Stage,
            66..=69 => Action::Unhealthy {
                live: self.below(2) == 0,
                number: 1 + self.below(u64::from(self.extent.servers)) as u16,
                for_ms: self.between(300, 3_000),
            },
            70..=72 => Action::Read,
            73..=74 => Action::Trace {
                for_ms: self.between(100, 1_000),
            },
            75..=79 => Action::Kill {
                for_ms: self.between(0, 1_500),
            },
            80..=81 => Action::Stop {
                for_ms: self.between(0, 1_000),
            },
            82..=83 => Action::Upgrade,
            84..=87 => Action::KillInFlip {
                after_ms: self.between(0, 120),
            },
            88..=89 => Action::Emergency,
            90..=92 => Action::LinkDown {
                link: self.below(u64::from(self.extent.links)) as u8,
                for_ms: self.between(50, 1_200),
            },
            93..=95 => Action::Flood {
                syns: self.between(500, u64::from(self.extent.syns)) as u32,
            },
            _ => Action::Junk {
                frames: self.between(100, 3_000) as u32,
                seed: self.below(u64::MAX),
            },
        }
    }

    fn canary(&mut self) -> Action {
        let percent = |plan: &mut Self| Action::Canary {
            percent: plan.between(1, 100) as u8,
        };
        let end = match self.below(3) {
            0 => Action::Flip,
            1 => Action::Abort,
            _ => Action::Rollback { hard: false },
        };
        self.next.push(end);
        for _ in 0..self.below(3) {
            let step = percent(self);
            self.next.push(step);
        }
        percent(self)
    }

    fn flip_to_confirm(&mut self) -> Action {
        let end = match self.below(6) {
            0..=2 => Action::Confirm,
            3 => Action::Abort,
            4 => Action::Rollback { hard: true },
            _ => Action::Kill {
                for_ms: self.between(500, 2_500),
            },
        };
        self.next.push(end);
        if self.below(3) == 0 {
            let by_ms = self.between(100, 2_000);
            self.next.push(Action::Extend { by_ms });
        }
        Action::FlipToConfirm {
            within_ms: self.between(500, 4_000),
        }
    }

    fn flip_at(&mut self) -> Action {
        match self.below(4) {
            0 => self.next.push(Action::Abort),
            1 => {
                let for_ms = self.between(500, 2_500);
                self.next.push(Action::Kill { for_ms });
            }
            _ => {}
        }
        let within_ms = (self.below(3) == 0).then(|| self.between(500, 2_000));
        Action::FlipAt {
            in_ms: self.between(300, 2_500),
            within_ms,
        }
    }

    fn paused(&mut self) -> Action {
        if self.below(2) == 0 {
            self.next.push(Action::Resume);
        }
        match self.below(4) {
            0 | 1 => self.next.push(Action::Flip),
            2 => {
                let for_ms = self.between(100, 1_500);
                self.next.push(Action::Kill { for_ms });
            }
            _ => {}
        }
        Action::Pause {
            for_ms: self.between(200, 2_500),
        }
    }

    fn apply(&mut self) -> Action {
        let mut absent = Vec::new();
        for colour in 0..2 {
            let kept = 1 + self.below(u64::from(self.extent.servers)) as u16;
            for number in 1..=self.extent.servers {
                if number != kept && self.below(3) == 0 {
                    absent.push((colour, number));
                }
            }
        }
        let (long, short) = self.extent.deadlines_ms;
        Action::Apply {
            layout: Layout {
                absent,
                weights: self.below(WEIGHTS.len() as u64) as usize,
                deadline_ms: if self.below(8) == 0 { short } else { long },
            },
            when_idle: self.below(4) != 0,
        }
    }
}

impl Iterator for Plan {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        let pause_ms = self.pause();
        Some(Step {
            pause_ms,
            action: self.action(),
        })
    }
}

/// Steps of a file, one a line.
///
/// # Errors
/// When it can't be read.
pub fn read(path: &Path) -> Result<Vec<Step>> {
    let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let lines = BufReader::new(file).lines();
    lines
        .map(|line| {
            let line = line?;
            serde_json::from_str(&line).with_context(|| format!("{line} is no step"))
        })
        .collect()
}

/// Adds a step to a file, so that a run that ends early can be repeated, too.
///
/// # Errors
/// When it can't be written.
pub fn write(file: &mut File, step: &Step) -> Result<()> {
    let mut line = serde_json::to_string(step)?;
    line.push('\n');
    file.write_all(line.as_bytes()).context("writing the plan")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const EXTENT: Extent = Extent {
        servers: 3,
        links: 3,
        syns: 3_000,
        deadlines_ms: (12_000, 5_000),
    };

    #[test]
    fn a_seed_is_a_sequence() {
        let steps = |seed| Plan::new(seed, EXTENT).take(500).collect::<Vec<_>>();
        assert_eq!(steps(7), steps(7));
        assert_ne!(steps(7), steps(8));
    }

    #[test]
    fn everything_comes_up() {
        let steps = Plan::new(1, EXTENT).take(2_000);
        let names: BTreeSet<_> = steps.map(|step| step.action.name()).collect();
        assert_eq!(names.len(), 26, "{names:?}");
    }

    #[test]
    fn a_colour_keeps_a_server() {
        for step in Plan::new(3, EXTENT).take(2_000) {
            if let Action::Apply { layout, .. } = step.action {
                for colour in 0..2 {
                    let gone = layout.absent.iter().filter(|it| it.0 == colour);
                    assert!(gone.count() < usize::from(EXTENT.servers), "{layout:?}");
                }
            }
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let directory = std::env::temp_dir().join(format!("torture-plan-{}", std::process::id()));
        let mut file = File::create(&directory).expect("a file");
        let steps: Vec<_> = Plan::new(5, EXTENT).take(300).collect();
        for step in &steps {
            write(&mut file, step).expect("writing");
        }
        assert_eq!(read(&directory).expect("reading"), steps);
        std::fs::remove_file(&directory).expect("removing it");
    }
}
