//! `cargo xtask demo`: live traffic moves from blue to green and back, and nothing is lost.

mod acts;
mod keep;
mod screen;
mod stage;
mod verdict;

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use switcher_harness::{Mode, interrupt, netns};

use screen::Screen;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Leave it running at the end, and print commands to try
    #[arg(long)]
    keep: bool,
    /// Seconds of traffic for each mode
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u16).range(8..=600))]
    seconds: u16,
    /// Where the servers are: on the switching host, or on hosts behind it
    #[arg(long, value_enum, default_value_t = Modes::Both)]
    mode: Modes,
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum Modes {
    Local,
    Routed,
    Both,
}

impl Modes {
    fn all(self) -> &'static [Mode] {
        match self {
            Self::Local => &[Mode::Local],
            Self::Routed => &[Mode::Routed],
            Self::Both => &[Mode::Local, Mode::Routed],
        }
    }
}

/// Runs the demo with a `switcher` binary that is there.
pub(crate) fn run(args: &Args, binary: &Path) -> Result<()> {
    interrupt::install()?;
    netns::sweep();
    let screen = Screen::new();
    let modes = args.mode.all();
    let mut kept = true;
    for (number, &mode) in modes.iter().enumerate() {
        let stand =
            stage::build(mode, binary).with_context(|| format!("preparing mode `{mode}`"))?;
        screen.scene(&stand);
        let played = acts::play(&stand, &screen, args.seconds)?;
        kept &= verdict::show(&screen, &played);
        if args.keep && number + 1 == modes.len() {
            keep::running(&stand, &screen)?;
        }
    }
    ensure!(kept, "a promise was broken");
    Ok(())
}
