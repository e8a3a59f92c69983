//! Names of traces and spans: a digest of what they are about, which nobody has to remember.

use std::fmt::{self, Display, Formatter};

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

/// A trace, as W3C Trace Context has it: sixteen bytes, not all zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TraceId([u8; 16]);

/// A span: eight bytes, not all zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SpanId([u8; 8]);

impl TraceId {
    /// Of a host's cut-over.
    pub(super) fn of(host: &str, cutover: &str) -> Self {
        Self(digest(&[b"trace", host.as_bytes(), cutover.as_bytes()]))
    }
}

impl SpanId {
    /// All of a cut-over.
    pub(super) fn root(host: &str, cutover: &str) -> Self {
        Self(digest(&[b"cutover", host.as_bytes(), cutover.as_bytes()]))
    }

    /// Part of it.
    pub(super) fn child(self, name: &str, start: Timestamp) -> Self {
        let start = start.as_nanosecond().to_le_bytes();
        Self(digest(&[&self.0, name.as_bytes(), &start]))
    }
}

fn digest<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    let digest = digest.finalize();
    let mut id = [0; N];
    id.copy_from_slice(&digest[..N]);
    // The one id that means none.
    id[N - 1] |= u8::from(id == [0; N]);
    id
}

impl Display for TraceId {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Display for SpanId {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
