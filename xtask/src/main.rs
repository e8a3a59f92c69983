//! The project's tasks. Each is one file; CI runs nothing that is not here.

mod bench;
mod build;
mod cargo;
mod check;
mod deb;
mod demo;
mod docs;
mod fuzz;
mod inspect;
mod kernels;
mod progress;
mod setup;
mod test;
mod torture;

use std::process::ExitCode;

use clap::Parser;

/// The project's tasks; from a fresh clone, any of them installs what it needs first.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Task {
    /// Find or install what building and testing need; does nothing if all is there
    Setup,
    /// Build the release binary
    Build(build::Args),
    /// Build the Debian package
    Deb(deb::Args),
    /// Watch live traffic move from blue to green and back, in network namespaces; needs root
    Demo(demo::Args),
    /// Check format, lints, documentation and dependencies
    Check,
    /// Write the reference anew, which is made of the code
    Docs,
    /// Run every test; as root also those that need network namespaces and BPF
    Test(test::Args),
    /// Show how many instructions each kernel program has, as compiled and as verified
    Inspect(inspect::Args),
    /// Feed the core with frames that nobody thought of
    Fuzz(fuzz::Args),
    /// Measure the data path
    Bench(bench::Args),
    /// Do everything that may happen in random order, and check every promise to clients; needs root
    Torture(torture::Args),
}

fn main() -> ExitCode {
    let done = match Task::parse() {
        Task::Setup => setup::run(),
        Task::Build(args) => build::run(&args),
        Task::Deb(args) => deb::run(&args),
        Task::Demo(args) => demo::run(&args),
        Task::Check => check::run(),
        Task::Docs => docs::run(),
        Task::Test(args) => test::run(&args),
        Task::Inspect(args) => inspect::run(&args),
        Task::Fuzz(args) => fuzz::run(&args),
        Task::Bench(args) => bench::run(&args),
        Task::Torture(args) => torture::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
