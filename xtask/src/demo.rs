//! `cargo xtask demo`: live traffic moves from blue to green and back, and nothing is lost.

mod acts;
mod keep;
mod screen;
mod stage;
mod verdict;

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use switcher_harness::{Mode, interrupt, netns};

use crate::build;
use crate::setup::{self, Need};
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

/// Builds what it shows, and shows it.
pub(crate) fn run(args: &Args) -> Result<()> {
    ensure!(
        setup::is_root(),
        "the demo makes network namespaces and loads programs: run it as root"
    );
    setup::ensure(Need::Run)?;
    let binary = binary()?;
    interrupt::install()?;
    netns::sweep();
    let screen = Screen::new();
    let modes = args.mode.all();
    let mut kept = true;
    for (number, &mode) in modes.iter().enumerate() {
        let stand =
            stage::build(mode, &binary).with_context(|| format!("preparing mode `{mode}`"))?;
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

/// The binary that `SWITCHER_BIN` names, else the release build.
fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("SWITCHER_BIN") {
        return Ok(path.into());
    }
    build::run(&build::Args::default())?;
    let own = std::env::current_exe().context("finding the target directory")?;
    let target = own
        .ancestors()
        .nth(2)
        .context("this task's binary is in no target directory")?;
    Ok(target.join("release/switcher"))
}
