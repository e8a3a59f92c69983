//! What a machine's file system has.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

use super::archive::Archive;
use super::package::Package;
use super::{Binaries, modules};
use crate::setup::{self, in_path};

/// Programs of this host that tests start; those that are missing are missed by the test that needs them.
pub(crate) const PROGRAMS: [&str; 18] = [
    "bash", "timeout", "ip", "tc", "ethtool", "nsenter", "unshare", "setpriv", "sh", "sleep",
    "cat", "kill", "mount", "umount", "ping", "sysctl", "true", "tcpdump",
];
/// Where the guest looks for them: the kernel's own `PATH` for its first process.
const BIN: &str = "bin";
const DIRECTORIES: [&str; 8] = ["proc", "sys", "dev", "run", "tmp", "root", "etc", "var/tmp"];

/// Everything but a kernel's own: our executables, other programs, their libraries, the guest. What is not installed
/// lies below `unpacked`, if anything does.
pub(crate) fn base(
    binaries: &Binaries,
    programs: &[&str],
    unpacked: Option<&Path>,
) -> anyhow::Result<Archive> {
    let mut archive = probe(&binaries.guest)?;
    let mut libraries = BTreeSet::new();
    let tests = binaries
        .tests
        .iter()
        .map(|(name, path)| (format!("guest/{name}"), path));
    let agent = ("guest/switcher".to_owned(), &binaries.agent);
    for (name, path) in tests.chain([agent]) {
        archive.file(&name, 0o755, &stripped(path)?);
        libraries.extend(libraries_of(path, None));
    }
    let beside = |program: &&str| {
        let places = ["usr/sbin", "sbin", "usr/bin"].into_iter();
        let mut paths = places.map(|place| Some(unpacked?.join(place).join(program)));
        paths.find_map(|path| path.filter(|it| it.is_file()))
    };
    let found = programs
        .iter()
        .filter_map(|it| beside(it).or_else(|| in_path(it)));
    for path in found {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        archive.file(&format!("{BIN}/{name}"), 0o755, &read(&path)?);
        libraries.extend(libraries_of(&path, unpacked));
    }
    let known = libraries_of(&binaries.guest, None);
    for library in libraries.difference(&known) {
        // Installed, it would be there.
        let installed = unpacked.and_then(|it| library.strip_prefix(it).ok());
        let name = installed.unwrap_or(library).to_string_lossy();
        archive.file(name.trim_start_matches('/'), 0o755, &read(library)?);
    }
    archive.file(
        "etc/passwd",
        0o644,
        b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n",
    );
    archive.file("etc/group", 0o644, b"root:x:0:\nnogroup:x:65534:\n");
    Ok(archive)
}

/// The guest alone: enough to see a kernel come up.
pub(crate) fn probe(guest: &Path) -> anyhow::Result<Archive> {
    let mut archive = Archive::default();
    for directory in DIRECTORIES {
        archive.directory(directory);
    }
    archive.file("init", 0o755, &stripped(guest)?);
    for library in libraries_of(guest, None) {
        add(&mut archive, &library)?;
    }
    if let Some(ip) = in_path("ip") {
        archive.file(&format!("{BIN}/ip"), 0o755, &read(&ip)?);
        for library in libraries_of(&ip, None).difference(&libraries_of(guest, None)) {
            add(&mut archive, library)?;
        }
    }
    Ok(archive)
}

/// A kernel's modules.
pub(crate) fn modules(package: &Package, wanted: &[&str]) -> anyhow::Result<Archive> {
    let mut archive = Archive::default();
    let mut order = String::new();
    for module in modules::find(&package.directory, wanted)? {
        let path = format!("guest/modules.d/{}", module.name);
        archive.file(&path, 0o644, &module.bytes);
        order += &format!("/{path}\n");
    }
    archive.file("guest/modules", 0o644, order.as_bytes());
    Ok(archive)
}

fn add(archive: &mut Archive, path: &Path) -> anyhow::Result<()> {
    let name = path.to_string_lossy();
    archive.file(name.trim_start_matches('/'), 0o755, &read(path)?);
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("reading {}", path.display()))
}

/// Without debug information, which is most of it.
fn stripped(path: &Path) -> anyhow::Result<Vec<u8>> {
    let small = std::env::temp_dir().join(format!("switcher-stripped-{}", std::process::id()));
    let status = Command::new("strip")
        .arg("-o")
        .arg(&small)
        .arg(path)
        .status()
        .context("starting strip")?;
    ensure!(status.success(), "{} can't be stripped", path.display());
    let bytes = read(&small);
    std::fs::remove_file(&small)?;
    bytes
}

/// The libraries that a program is linked with, its loader among them; none if it needs none.
fn libraries_of(program: &Path, unpacked: Option<&Path>) -> BTreeSet<PathBuf> {
    let mut ldd = Command::new("ldd");
    if let Some(unpacked) = unpacked {
        ldd.env("LD_LIBRARY_PATH", setup::libraries(unpacked));
    }
    let output = ldd.arg(program).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    paths(&text.unwrap_or_default())
}

/// From `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x7f)` and `/lib64/ld-linux-x86-64.so.2 (0x7f)`.
fn paths(ldd: &str) -> BTreeSet<PathBuf> {
    let words = ldd
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    words.map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_what_ldd_says() {
        let text = "\tlinux-vdso.so.1 (0x7ff)\n\tlibc.so.6 => /lib/x/libc.so.6 (0x7f)\n\t/lib64/ld.so.2 (0x7f)\n";
        assert_eq!(
            paths(text),
            ["/lib/x/libc.so.6", "/lib64/ld.so.2"]
                .map(PathBuf::from)
                .into()
        );
        assert!(paths("\tnot a dynamic executable\n").is_empty());
    }
}
