//! What the figures were measured on, and how busy it is.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use jiff::Timestamp;

/// A program, where the shell would find it.
pub(crate) fn in_path(program: &str) -> Option<PathBuf> {
    path_of(|directory| directory.join(program))
}

/// A file that is beside programs: `../lib/...`.
pub(crate) fn beside_path(file: &str) -> Option<PathBuf> {
    path_of(|directory| directory.join(file))
}

fn path_of(place: impl Fn(PathBuf) -> PathBuf) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin".into(), "/sbin".into()];
    let mut places = std::env::split_paths(&path).chain(system).map(place);
    places.find(|it| it.is_file())
}

/// Date, kernel and processor, in one line.
pub(crate) fn described() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or("", |model| model.trim_start_matches([' ', '\t', ':']));
    let number = std::thread::available_parallelism().map_or(1, usize::from);
    format!(
        "{}, Linux {}, {number} x {model}",
        Timestamp::now().strftime("%Y-%m-%d"),
        read("/proc/sys/kernel/osrelease").trim()
    )
}

/// Seconds that all processors together have worked, interrupts included.
pub(crate) fn busy() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().context("/proc/stat is empty")?;
    let ticks: Vec<f64> = line
        .split_whitespace()
        .skip(1)
        .filter_map(|it| it.parse().ok())
        .collect();
    // user nice system idle iowait irq softirq steal
    let worked = [0, 1, 2, 5, 6].map(|place| ticks.get(place).copied().unwrap_or_default());
    // By `man 5 proc`, hundredths of a second on every architecture that Rust knows.
    Ok(worked.iter().sum::<f64>() / 100.0)
}
