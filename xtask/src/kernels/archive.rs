//! The kernel's initial file system: a cpio archive of the "newc" kind.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;

/// An archive in the making, without its end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    directories: BTreeSet<String>,
    entries: u32,
}

impl Archive {
    /// Adds a file and the directories above it. Paths do not begin with a slash.
    pub(crate) fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        if let Some((above, _name)) = path.rsplit_once('/') {
            self.directory(above);
        }
        self.entry(path, REGULAR | mode, content);
    }

    /// Adds a directory and those above it.
    pub(crate) fn directory(&mut self, path: &str) {
        if !self.directories.insert(path.to_owned()) {
            return;
        }
        if let Some((above, _name)) = path.rsplit_once('/') {
            self.directory(above);
        }
        self.entry(path, DIRECTORY | 0o755, &[]);
    }

    /// Writes this archive and the others as one: the kernel unpacks one after the other.
    pub(crate) fn write(&self, others: &[&Self], path: &Path) -> anyhow::Result<()> {
        let mut file = File::create(path).with_context(|| format!("making {}", path.display()))?;
        for archive in [self].iter().chain(others) {
            let mut whole = (*archive).clone();
            whole.entry("TRAILER!!!", 0, &[]);
            file.write_all(&whole.bytes)
                .with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(())
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let links = 1;
        // Magic, then inode, mode, uid, gid, links, time, size, device, device node, name size, checksum.
        let header = format!(
            "070701{:08X}{mode:08X}{:08X}{:08X}{links:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}",
            self.entries,
            0,
            0,
            0,
            content.len(),
            0,
            0,
            0,
            0,
            path.len() + 1,
            0
        );
        self.bytes.extend(header.bytes());
        self.bytes.extend(path.bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_after_their_directories() {
        let mut archive = Archive::default();
        archive.file("a/b/c", 0o755, b"12345");
        archive.file("a/b/d", 0o644, b"");
        let text = String::from_utf8_lossy(&archive.bytes);
        let at = |name: &str| text.find(name).expect("it is there");
        assert!(
            at("a\0") < at("a/b\0") && at("a/b\0") < at("a/b/c\0"),
            "{text}"
        );
        assert_eq!(archive.entries, 4);
        assert_eq!(archive.bytes.len() % 4, 0);
        // 110 bytes of header, as every entry has.
        assert_eq!(&text[..6], "070701");
        assert_eq!(at("a\0"), 110);
    }
}
