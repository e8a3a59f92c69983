//! Authorities, and certificates that they have signed.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
    date_time_ymd,
};
use switcher_harness::agent::binary;
use switcher_harness::config::Settings;
use switcher_harness::{Mode, Stand};

/// Signs certificates.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: PathBuf,
    own: PathBuf,
}

/// A certificate and its key, as files.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The certificate.
    pub cert: String,
    /// Its key.
    pub key: String,
}

impl Authority {
    /// One whose own certificate is `NAME.crt` in a directory.
    ///
    /// # Errors
    /// When that can't be written.
    pub fn new(directory: &Path, name: &str) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let own = directory.join(format!("{name}.crt"));
        std::fs::write(&own, issuer.pem())?;
        Ok(Self {
            issuer,
            directory: directory.to_owned(),
            own,
        })
    }

    /// The sections of a configuration that let an agent listen at an address; `roles` says who may do what, line by line.
    ///
    /// # Errors
    /// When its certificate can't be written.
    pub fn listening(&self, address: SocketAddr, roles: &str) -> Result<String> {
        let own = self.sign("agent", "agent", &[&address.ip().to_string()], 2100)?;
        Ok(format!(
            "[agent.api]\nlisten = \"{address}\"\ncert = {:?}\nkey = {:?}\nclient_ca = {:?}\n\n\
             [agent.roles]\n{roles}\n\n",
            own.cert, own.key, self.own
        ))
    }

    /// A stand whose agent listens so, and the authority. The agent is running.
    ///
    /// # Errors
    /// When a part of it can't be had.
    pub fn stand(address: SocketAddr, roles: &str) -> Result<(Stand, Self)> {
        let settings = Settings::default();
        let mut stand = Stand::without_agent(Mode::Local, true, settings, &binary()?)?;
        let authority = Self::new(stand.agent.place().directory(), "authority")?;
        let sections = authority.listening(address, roles)?;
        let rendered = stand.settings.render(&stand.topology, stand.agent.place());
        let config = rendered.replacen("[groups.", &format!("{sections}[groups."), 1);
        stand.agent.write_config(&config)?;
        stand.agent.start()?;
        Ok((stand, authority))
    }

    /// Its own certificate's file.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.own
    }

    /// A certificate of a name, and of addresses if it is a server's, good until the year begins; as `FILE.crt` and
    /// `FILE.key`.
    ///
    /// # Errors
    /// When these can't be written.
    pub fn sign(&self, file: &str, name: &str, addresses: &[&str], year: i32) -> Result<Pair> {
        let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(addresses)?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_after = date_time_ymd(year, 1, 1);
        let key = KeyPair::generate()?;
        let cert = params.signed_by(&key, &self.issuer)?;
        let path = |kind: &str| {
            let path = self.directory.join(format!("{file}.{kind}"));
            path.into_os_string()
                .into_string()
                .ok()
                .context("a path of text")
        };
        let pair = Pair {
            cert: path("crt")?,
            key: path("key")?,
        };
        std::fs::write(&pair.cert, cert.pem())?;
        std::fs::write(&pair.key, key.serialize_pem())?;
        Ok(pair)
    }
}
