//! Authorities, certificates, and a server that asks for them.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use tempfile::TempDir;

use super::super::*;
use crate::agent::tests::{Stand, config};
use crate::cli::Globals;
use crate::client::Client;
use crate::output::Format;

/// Signs certificates.
pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// Who has a certificate and its key, as files.
#[derive(Clone)]
pub(super) struct Pair {
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
}

impl Authority {
    pub(super) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("signs itself"))
    }

    pub(super) fn pem(&self) -> String {
        self.0.pem()
    }

    /// With these DNS names (or addresses), a common name, and an end.
    pub(super) fn sign(&self, directory: &Path, names: &[&str], common: &str, ends: i32) -> Pair {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common);
        params.not_after = date_time_ymd(ends, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.0).expect("signs");
        let pair = Pair {
            cert: directory.join(format!("{common}.crt")),
            key: directory.join(format!("{common}.key")),
        };
        std::fs::write(&pair.cert, cert.pem()).expect("writes");
        std::fs::write(&pair.key, key.serialize_pem()).expect("writes");
        pair
    }
}

/// An agent on a kernel in memory that listens at a port of 127.0.0.1.
pub(super) struct Town {
    pub(super) stand: Stand,
    pub(super) address: SocketAddr,
    pub(super) directory: TempDir,
    pub(super) authority: Authority,
    pub(super) agent: Pair,
    roles: &'static str,
}

pub(super) const ROLES: &str = "viewer = [\"cert:grafana\"]\noperator = [\"cert:ci.internal\"]\n\
                                admin = [\"cert:Chief of the shop\"]";

impl Town {
    pub(super) async fn new(roles: &'static str, limits: Limits) -> Self {
        let directory = TempDir::new().expect("a directory");
        let authority = Authority::new("clients");
        let agent = authority.sign(directory.path(), &["127.0.0.1"], "agent", 2100);
        std::fs::write(directory.path().join("ca.crt"), authority.pem()).expect("writes");
        let listener = listen((Ipv4Addr::LOCALHOST, 0).into())
            .await
            .expect("listens");
        let address = listener.local_addr().expect("has an address");
        let text = text(directory.path(), address, roles);
        let stand = Stand::new(&text);
        let identity = stand.agent.taken().borrow().api.clone().expect("has one");
        let identity = Identity::read(&identity).expect("reads");
        // Whoever runs the tests is nobody here.
        let api = Api::bounded(stand.agent.clone(), u32::MAX, limits);
        tokio::spawn(serve_tls(listener, identity, api));
        Self {
            stand,
            address,
            directory,
            authority,
            agent,
            roles,
        }
    }

    /// The configuration.
    pub(super) fn text(&self) -> String {
        text(self.directory.path(), self.address, self.roles)
    }

    pub(super) fn signed(&self, name: &str) -> Pair {
        self.authority.sign(self.directory.path(), &[], name, 2100)
    }

    pub(super) fn client(&self, pair: &Pair) -> Client {
        let globals = self.globals(pair);
        Client::new(&globals).expect("the files are good")
    }

    pub(super) fn globals(&self, pair: &Pair) -> Globals {
        Globals {
            socket: "/nowhere".into(),
            url: Some(format!("https://{}", self.address)),
            cert: Some(pair.cert.clone()),
            key: Some(pair.key.clone()),
            ca: Some(self.directory.path().join("ca.crt")),
            output: Format::Json,
            json: true,
            quiet: false,
            no_color: true,
        }
    }
}

fn text(directory: &Path, address: SocketAddr, roles: &str) -> String {
    let file = |name: &str| directory.join(name);
    let (cert, key, ca) = (file("agent.crt"), file("agent.key"), file("ca.crt"));
    let section = format!(
        "[agent.api]\nlisten = \"{address}\"\ncert = {cert:?}\nkey = {key:?}\nclient_ca = {ca:?}\n\
         [agent.roles]\n{roles}\n[groups.shop]"
    );
    config(&[8001], &[8002]).replacen("[groups.shop]", &section, 1)
}
