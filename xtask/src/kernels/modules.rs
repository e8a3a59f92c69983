//! A kernel's modules: which files, in which order.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

/// Loaded at the start, those that are not built in: nothing loads modules by itself in a machine.
pub(crate) const WANTED: [&str; 20] = [
    "virtio_pci",
    "virtio_net",
    "veth",
    "8021q",
    "dummy",
    "macvlan",
    "bridge",
    "tun",
    "sch_ingress",
    "cls_bpf",
    "sch_netem",
    "inet_diag",
    "tcp_diag",
    "udp_diag",
    "ipip",
    "sit",
    "ip6_tunnel",
    "ip6_udp_tunnel",
    "act_mirred",
    "sch_fq",
];

/// The same for what Switcher is compared with.
pub(crate) const COMPARED: [&str; 8] = [
    // Asked for by its algorithm, so that nothing says that it is needed.
    "crc32c_generic",
    "nf_tables",
    "nft_chain_nat",
    "nft_nat",
    "nft_masq",
    "nft_ct",
    "ip_vs",
    "ip_vs_wlc",
];

/// A module, ready to be loaded.
#[derive(Debug)]
pub(crate) struct Module {
    /// `veth.ko`.
    pub(crate) name: String,
    /// Not compressed.
    pub(crate) bytes: Vec<u8>,
}

/// Modules of an unpacked kernel with what they depend on, in the order of loading.
pub(crate) fn find(directory: &Path, wanted: &[&str]) -> anyhow::Result<Vec<Module>> {
    let mut files = BTreeMap::new();
    index(directory, &mut files)?;
    let mut found = Vec::new();
    for name in wanted {
        add(name, &files, &mut found)?;
    }
    Ok(found)
}

/// Adds a module after those that it needs; one that is no file is built in.
fn add(
    name: &str,
    files: &BTreeMap<String, PathBuf>,
    found: &mut Vec<Module>,
) -> anyhow::Result<()> {
    let file_name = format!("{name}.ko");
    let Some(path) = files.get(name) else {
        return Ok(());
    };
    if found.iter().any(|module| module.name == file_name) {
        return Ok(());
    }
    let bytes = read(path)?;
    for needed in depends(&bytes) {
        add(&needed, files, found)?;
    }
    found.push(Module {
        name: file_name,
        bytes,
    });
    Ok(())
}

fn index(directory: &Path, files: &mut BTreeMap<String, PathBuf>) -> anyhow::Result<()> {
    for entry in
        std::fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))?
    {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            index(&entry.path(), files)?;
        } else if let Some((name, _compressed)) =
            entry.file_name().to_string_lossy().split_once(".ko")
        {
            files.insert(name.replace('-', "_"), entry.path());
        }
    }
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    if path.extension().is_none_or(|it| it != "xz") {
        return std::fs::read(path).with_context(|| format!("reading {}", path.display()));
    }
    let output = Command::new("xz")
        .arg("-dc")
        .arg(path)
        .output()
        .context("starting xz")?;
    ensure!(
        output.status.success(),
        "{} can't be unpacked",
        path.display()
    );
    Ok(output.stdout)
}

/// What the module's own description says: `depends=virtio,virtio_ring`.
fn depends(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let at = module.windows(KEY.len()).position(|window| window == KEY);
    let Some(rest) = at.and_then(|at| module.get(at + KEY.len()..)) else {
        return Vec::new();
    };
    let text = rest.split(|byte| *byte == 0).next().unwrap_or_default();
    let text = String::from_utf8_lossy(text);
    text.split(',')
        .filter(|name| !name.is_empty())
        .map(|name| name.replace('-', "_"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_says_what_it_needs() {
        assert_eq!(
            depends(b"ELF\0license=GPL\0depends=virtio,virtio-ring\0x"),
            ["virtio", "virtio_ring"]
        );
        assert_eq!(depends(b"ELF\0depends=\0"), Vec::<String>::new());
        assert_eq!(depends(b"ELF"), Vec::<String>::new());
    }
}
