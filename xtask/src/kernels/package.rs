//! A kernel's Debian package: found, downloaded, unpacked; not installed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

use super::step;
use crate::setup;

/// What is unpacked: the kernel, and modules that a network may need.
const WANTED: [&str; 12] = [
    "*/vmlinuz-*",
    "*/modules/*/kernel/net/*",
    "*/modules/*/kernel/lib/*",
    "*/modules/*/kernel/crypto/*",
    "*/modules/*/kernel/arch/x86/crypto/*",
    "*/modules/*/kernel/drivers/virtio/*",
    "*/modules/*/kernel/drivers/net/dummy.ko*",
    "*/modules/*/kernel/drivers/net/macvlan.ko*",
    "*/modules/*/kernel/drivers/net/net_failover.ko*",
    "*/modules/*/kernel/drivers/net/tun.ko*",
    "*/modules/*/kernel/drivers/net/veth.ko*",
    "*/modules/*/kernel/drivers/net/virtio_net.ko*",
];

/// An unpacked kernel.
#[derive(Clone, Debug)]
pub(crate) struct Package {
    /// As it calls itself: `6.1.0-56-amd64`.
    pub(crate) release: String,
    /// What is booted.
    pub(crate) kernel: PathBuf,
    /// Everything else.
    pub(crate) directory: PathBuf,
}

impl Package {
    /// The newest kernel of a series; downloaded unless it is here already.
    ///
    /// # Errors
    /// When apt offers none or can't download it.
    pub(crate) fn fetch(series: &str, kernels: &Path) -> anyhow::Result<Self> {
        let name = match offered(series) {
            Some(name) => name,
            None if setup::is_root() => {
                // Lists may never have been fetched here.
                step("fetching package lists", "apt-get", &["update"], kernels)?;
                offered(series).with_context(|| nothing(series))?
            }
            None => bail!("{}", nothing(series)),
        };
        let directory = kernels.join(&name);
        if let Some(package) = Self::unpacked(&directory)? {
            return Ok(package);
        }
        let begun = kernels.join(format!("{name}.part"));
        if begun.exists() {
            std::fs::remove_dir_all(&begun)?;
        }
        std::fs::create_dir_all(&begun)?;
        let download = || {
            step(
                &format!("downloading {name}"),
                "apt-get",
                &["download", &name],
                &begun,
            )
        };
        if download().is_err() && setup::is_root() {
            // What old lists name may be gone from the mirror.
            step("fetching package lists", "apt-get", &["update"], kernels)?;
            download().with_context(|| format!("{name} can't be downloaded"))?;
        }
        unpack(&begun)?;
        std::fs::rename(&begun, &directory)?;
        Self::unpacked(&directory)?.with_context(|| format!("{name} has no kernel in it"))
    }

    fn unpacked(directory: &Path) -> anyhow::Result<Option<Self>> {
        let Ok(entries) = std::fs::read_dir(directory.join("boot")) else {
            return Ok(None);
        };
        for entry in entries {
            let entry = entry?;
            if let Some(release) = entry.file_name().to_string_lossy().strip_prefix("vmlinuz-") {
                return Ok(Some(Self {
                    release: release.to_owned(),
                    kernel: entry.path(),
                    directory: directory.to_owned(),
                }));
            }
        }
        Ok(None)
    }
}

fn nothing(series: &str) -> String {
    format!(
        "apt offers no package linux-image-{series}.*-amd64 (Debian 12 with its security suite does)"
    )
}

/// The newest package of a series that apt could install.
fn offered(series: &str) -> Option<String> {
    let prefix = format!("linux-image-{series}.");
    let names = said(Command::new("apt-cache").args(["pkgnames", &prefix]));
    let stock: Vec<&str> = names
        .lines()
        .filter(|name| is_stock(name, &prefix))
        .collect();
    if stock.is_empty() {
        return None;
    }
    let policy = said(Command::new("apt-cache").arg("policy").args(&stock));
    let candidates = setup::candidates(&policy);
    candidates.into_iter().max_by_key(|name| numbers(name))
}

/// `linux-image-6.1.0-56-amd64`, and none of the flavours or the parts beside it.
fn is_stock(name: &str, prefix: &str) -> bool {
    let version = name
        .strip_prefix(prefix)
        .and_then(|rest| rest.strip_suffix("-amd64"));
    version.is_some_and(|version| {
        let numbers = version.strip_suffix("+deb12").unwrap_or(version);
        let numbers = numbers.strip_suffix("+deb13").unwrap_or(numbers);
        numbers
            .chars()
            .all(|c| c.is_ascii_digit() || c == '.' || c == '-')
    })
}

fn numbers(name: &str) -> Vec<u32> {
    let parts = name.split(|c: char| !c.is_ascii_digit());
    parts.filter_map(|part| part.parse().ok()).collect()
}

fn said(command: &mut Command) -> String {
    let output = command.env("LC_ALL", "C").stderr(Stdio::null()).output();
    output
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default()
}

/// Unpacks the package in a directory, and removes it.
fn unpack(directory: &Path) -> anyhow::Result<()> {
    let mut entries = std::fs::read_dir(directory)?.filter_map(|entry| Some(entry.ok()?.path()));
    let package = entries
        .find(|path| path.extension().is_some_and(|it| it == "deb"))
        .context("apt-get has downloaded nothing")?;
    let mut archive = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(&package)
        .stdout(Stdio::piped())
        .spawn()
        .context("starting dpkg-deb")?;
    let pipe = archive
        .stdout
        .take()
        .context("dpkg-deb's output is piped")?;
    let mut tar = Command::new("tar");
    tar.arg("-x")
        .arg("--wildcards")
        .args(WANTED)
        .current_dir(directory)
        .stdin(pipe);
    // tar complains of patterns that match nothing, such as modules that are built in.
    let _some = tar.stderr(Stdio::null()).status().context("starting tar")?;
    let status = archive.wait()?;
    anyhow::ensure!(
        status.success(),
        "{} can't be unpacked ({status})",
        package.display()
    );
    std::fs::remove_file(package)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_stock_kernels_of_the_series() {
        let names = [
            "linux-image-6.1.0-9-amd64",
            "linux-image-6.1.0-56-amd64",
            "linux-image-6.1.0-56-cloud-amd64",
            "linux-image-6.1.0-56-amd64-unsigned",
            "linux-image-6.1.0-56-rt-amd64",
            "linux-image-6.12.117+deb12-amd64",
        ];
        let of = |prefix: &str| {
            let stock = names.iter().filter(|name| is_stock(name, prefix));
            stock.max_by_key(|name| numbers(name)).copied()
        };
        assert_eq!(of("linux-image-6.1."), Some("linux-image-6.1.0-56-amd64"));
        assert_eq!(
            of("linux-image-6.12."),
            Some("linux-image-6.12.117+deb12-amd64")
        );
        assert_eq!(of("linux-image-6.6."), None);
    }
}
