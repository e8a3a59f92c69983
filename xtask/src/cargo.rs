//! Calling cargo from a task.

use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

/// Every package but the kernel's: those only build for BPF, which `build.rs` of their users does.
pub(crate) const HOST_PACKAGES: [&str; 5] = [
    "--workspace",
    "--exclude",
    "switcher-ebpf",
    "--exclude",
    "switcher-tests-ebpf",
];

/// The cargo that runs this task, with `args`.
pub(crate) fn cargo<'a>(args: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args);
    command
}

/// Runs `command` with this task's terminal.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    let line = line(command);
    let status = command
        .status()
        .with_context(|| format!("starting `{line}`"))?;
    if !status.success() {
        bail!("`{line}` failed ({status})");
    }
    Ok(())
}

/// What `command` prints; its errors go to the terminal.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let line = line(command);
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("starting `{line}`"))?;
    if !output.status.success() {
        bail!("`{line}` failed ({})", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// `command` as one would type it.
pub(crate) fn line(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program());
    std::iter::once(program.file_name().unwrap_or(program.as_os_str()))
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_leaves_out_where_the_program_lives() {
        assert_eq!(
            line(Command::new("/opt/cargo").args(["fmt", "--all"])),
            "cargo fmt --all"
        );
    }
}
