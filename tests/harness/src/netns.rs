//! Network namespaces that go when their guard does.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result, ensure};
use nix::sched::{CloneFlags, setns};

use crate::unique;

const PREFIX: &str = "sw";
const DIRECTORY: &str = "/run/netns";

/// A network namespace of our own; removed on drop.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes a namespace `sw-<pid>-<n>-ROLE` with its loopback up.
    ///
    /// # Errors
    /// Without the privilege to make one.
    pub fn new(role: &str) -> Result<Self> {
        let name = format!("{}-{role}", unique::name(PREFIX));
        run("ip", &["netns", "add", &name])?;
        let namespace = Self { name };
        // Nobody else has its addresses, and to make sure of that takes IPv6 a second or two.
        let _kernel_without_v6 = namespace.sysctl("ipv6/conf/default/accept_dad", "0");
        run("ip", &["-n", &namespace.name, "link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// Its name, as `ip netns` shows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that keeps it alive.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        PathBuf::from(DIRECTORY).join(&self.name)
    }

    /// A command that will run inside, with the pid of `nsenter`, which becomes the program.
    ///
    /// Not `ip netns exec`: that mounts a new `/sys` and hides the bpf file system.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        command_in(&self.path(), program.as_ref())
    }

    /// Runs a program inside and returns what it printed.
    ///
    /// # Errors
    /// When it can't be started or fails; its standard error is in the message.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        output(self.command(program).args(arguments))
    }

    /// Runs `ip` for this namespace.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn ip(&self, arguments: &str) -> Result<String> {
        let mut all = vec!["-n", &self.name];
        all.extend(arguments.split_whitespace());
        run("ip", &all)
    }

    /// Runs `work` on a new thread inside; threads and sockets made there are inside too.
    ///
    /// # Errors
    /// When the namespace can't be opened or no thread be made.
    pub fn spawn<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<JoinHandle<T>> {
        let file = self.open()?;
        let thread = std::thread::Builder::new().name(name.to_owned());
        let body = move || {
            enter(&file);
            work()
        };
        thread.spawn(body).context("starting a thread")
    }

    /// Runs `work` inside and waits for it.
    ///
    /// # Errors
    /// When the namespace can't be opened.
    ///
    /// # Panics
    /// When `work` does.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let file = self.open()?;
        let result = std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                enter(&file);
                work()
            });
            thread.join()
        });
        Ok(result.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    }

    /// Sets `net.KEY`, dots as slashes: `ipv4/ip_forward`.
    ///
    /// # Errors
    /// When the kernel has no such key or refuses the value.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = format!("/proc/sys/net/{key}");
        self.inside(|| std::fs::write(&path, value))?
            .with_context(|| format!("writing {value} to {path} in {}", self.name))
    }

    fn open(&self) -> Result<File> {
        let path = self.path();
        File::open(&path).with_context(|| format!("opening {}", path.display()))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// Removes namespaces, pins and directories whose makers are dead, and ends what still runs in them.
pub fn sweep() {
    for name in entries(DIRECTORY).filter(|name| unique::is_orphan(PREFIX, name)) {
        end_processes(&name);
        remove(&name);
    }
    crate::agent::sweep();
}

/// See [`Namespace::command`].
pub(crate) fn command_in(namespace: &Path, program: &Path) -> Command {
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--net={}", namespace.display()))
        .arg(program);
    command
}

/// The file names in a directory; none if it is not there.
pub(crate) fn entries(directory: impl AsRef<Path>) -> impl Iterator<Item = String> {
    std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
}

/// Runs a program and returns what it printed.
///
/// # Errors
/// When it can't be started or fails.
pub fn run(program: &str, arguments: &[&str]) -> Result<String> {
    output(Command::new(program).args(arguments))
}

fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn enter(namespace: &File) {
    setns(namespace, CloneFlags::CLONE_NEWNET).expect("entering a network namespace that is open");
}

/// Only processes inside an orphaned namespace of ours: its maker started them.
fn end_processes(namespace: &str) {
    for pid in run("ip", &["netns", "pids", namespace])
        .unwrap_or_default()
        .split_whitespace()
    {
        if let Ok(pid) = pid.parse() {
            // Already gone is as good.
            let _ = nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(pid),
                nix::sys::signal::Signal::SIGKILL,
            );
        }
    }
}

fn remove(name: &str) {
    if let Err(error) = run("ip", &["netns", "delete", name]) {
        eprintln!("left behind: namespace {name}: {error:#}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::privilege;

    #[test]
    fn a_namespace_is_ours_alone_and_goes() {
        if !privilege::is_root("a_namespace_is_ours_alone_and_goes") {
            return;
        }
        let namespace = Namespace::new("alone").expect("making a namespace");
        let path = namespace.path();
        let links = namespace
            .run("ip", &["-brief", "link"])
            .expect("listing links");
        assert!(links.lines().all(|line| line.starts_with("lo ")), "{links}");
        namespace
            .sysctl("ipv4/ip_forward", "1")
            .expect("setting a sysctl");
        let forward = namespace
            .inside(|| std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward"))
            .expect("entering");
        assert_eq!(forward.expect("reading a sysctl").trim(), "1");
        assert!(path.exists());
        drop(namespace);
        assert!(!path.exists());
    }

    #[test]
    fn a_failing_command_says_why() {
        if !privilege::is_root("a_failing_command_says_why") {
            return;
        }
        let namespace = Namespace::new("failing").expect("making a namespace");
        let error = namespace
            .ip("link set nothing up")
            .expect_err("there is no such link");
        assert!(error.to_string().contains("nothing"), "{error}");
    }
}
