//! A certificate in a browser's own store (NSS), as its user would import it.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::json;

use crate::netns::run;

/// Whom a browser's user trusts, and who they are.
#[derive(Clone, Copy, Debug)]
pub struct Passport<'a> {
    /// The authority that vouches for servers (PEM).
    pub authority: &'a Path,
    /// Their own certificate (PEM),
    pub cert: &'a str,
    /// and its key.
    pub key: &'a str,
}

impl Passport<'_> {
    /// Puts it where a browser whose home is `directory` looks. What is returned is the rule that has it show the
    /// certificate without asking.
    pub(super) fn lay_down(&self, directory: &Path) -> Result<PathBuf> {
        let store = directory.join(".pki/nssdb");
        std::fs::create_dir_all(&store)?;
        let store = format!("sql:{}", store.display());
        run("certutil", &["-N", "-d", &store, "--empty-password"])?;
        let authority = self.authority.display().to_string();
        let trust = [
            "-A",
            "-d",
            &store,
            "-n",
            "authority",
            "-t",
            "C,,",
            "-i",
            &authority,
        ];
        run("certutil", &trust)?;
        let bundle = directory.join("own.p12").display().to_string();
        let (cert, key) = (self.cert, self.key);
        let export = [
            "pkcs12", "-export", "-in", cert, "-inkey", key, "-out", &bundle, "-passout", "pass:",
        ];
        run("openssl", &export)?;
        run("pk12util", &["-i", &bundle, "-d", &store, "-W", ""])?;
        let policy = directory.join("policy.json");
        let anywhere = json!({ "pattern": "*", "filter": {} }).to_string();
        let rule = json!({ "AutoSelectCertificateForUrls": [anywhere] });
        std::fs::write(&policy, rule.to_string())?;
        Ok(policy)
    }
}
