//! An authority, and certificates for the agent and for a CI job.

use std::path::{Path, PathBuf};

use anyhow::Result;
use switcher_tests::authority::Authority;

/// Where the agent's API is.
const ADDRESS: &str = "127.0.0.1:9465";

/// A directory with `agent.crt`, `ci.crt`, their keys, and `agent-ca.crt`, which vouches for both.
pub(crate) struct Certificates(PathBuf);

impl Certificates {
    pub(crate) fn new(directory: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&directory)?;
        let authority = Authority::new(&directory, "agent-ca")?;
        for (file, name) in [("agent", "127.0.0.1"), ("ci", "ci.internal")] {
            authority.sign(file, name, &[name], 2100)?;
        }
        Ok(Self(directory))
    }

    /// The agent's part of it: CI may flip.
    pub(crate) fn config(&self) -> String {
        let [cert, key, authority] = self.files("agent");
        format!(
            "\n[agent.api]\nlisten = \"{ADDRESS}\"\ncert = {cert:?}\nkey = {key:?}\nclient_ca = {authority:?}\n\
             [agent.roles]\noperator = [\"cert:ci.internal\"]\n"
        )
    }

    /// What a CI job is told: where the agent is, and how to show who asks.
    pub(crate) fn variables(&self) -> [(&'static str, String); 4] {
        let [cert, key, authority] = self.files("ci").map(|path| path.display().to_string());
        [
            ("SWITCHER_URL", format!("https://{ADDRESS}")),
            ("SWITCHER_CERT", cert),
            ("SWITCHER_KEY", key),
            ("SWITCHER_CA", authority),
        ]
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    fn files(&self, name: &str) -> [PathBuf; 3] {
        [
            self.0.join(format!("{name}.crt")),
            self.0.join(format!("{name}.key")),
            self.0.join("agent-ca.crt"),
        ]
    }
}
