//! What the kernel of a namespace counted: the judge above clients and servers.

use anyhow::{Context as _, Result};

use crate::Namespace;

/// TCP and UDP counters of a namespace since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Segments sent again.
    pub retransmits: u64,
    /// Connections that failed while opening.
    pub failed_opens: u64,
    /// Established connections that were reset.
    pub resets: u64,
    /// Resets sent.
    pub resets_sent: u64,
    /// TCP segments and UDP datagrams dropped for a wrong checksum.
    pub bad_checksums: u64,
}

impl Counters {
    /// Reads them.
    ///
    /// # Errors
    /// When the kernel shows no `/proc/net/snmp`.
    pub fn read(namespace: &Namespace) -> Result<Self> {
        let text = namespace
            .inside(|| std::fs::read_to_string("/proc/thread-self/net/snmp"))?
            .context("reading /proc/net/snmp")?;
        let value = |protocol, name| {
            field(&text, protocol, name)
                .with_context(|| format!("/proc/net/snmp has no {protocol} {name}"))
        };
        Ok(Self {
            retransmits: value("Tcp:", "RetransSegs")?,
            failed_opens: value("Tcp:", "AttemptFails")?,
            resets: value("Tcp:", "EstabResets")?,
            resets_sent: value("Tcp:", "OutRsts")?,
            bad_checksums: value("Tcp:", "InCsumErrors")? + value("Udp:", "InCsumErrors")?,
        })
    }

    /// What was added after `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            retransmits: self.retransmits - earlier.retransmits,
            failed_opens: self.failed_opens - earlier.failed_opens,
            resets: self.resets - earlier.resets,
            resets_sent: self.resets_sent - earlier.resets_sent,
            bad_checksums: self.bad_checksums - earlier.bad_checksums,
        }
    }
}

/// The file has two lines a protocol: names, then values.
fn field(text: &str, protocol: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter(|line| line.starts_with(protocol));
    let (names, values) = (lines.next()?, lines.next()?);
    let (_, value) = names
        .split_whitespace()
        .zip(values.split_whitespace())
        .find(|(key, _)| *key == name)?;
    value.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::field;

    #[test]
    fn fields_are_found_by_name() {
        let text = "Ip: A B\nIp: 1 2\nTcp: InSegs RetransSegs\nTcp: 11 12\n";
        assert_eq!(field(text, "Tcp:", "RetransSegs"), Some(12));
        assert_eq!(field(text, "Ip:", "A"), Some(1));
        assert_eq!(field(text, "Udp:", "A"), None);
    }
}
