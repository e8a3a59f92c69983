//! Whose certificates are believed, and how this side shows who it is.

use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::config::Api;

/// A file, and the key or option that names it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Named<'a>(pub(crate) &'a str, pub(crate) &'a Path);

/// How to speak TLS with servers that an authority of the file vouches for, or one of the system's; with what
/// this side has to show, certificate and key, if it is to show anything. Read anew each time: certificates
/// are replaced.
pub(crate) fn client(
    ca: Option<Named<'_>>,
    own: Option<(Named<'_>, Named<'_>)>,
) -> Result<Arc<ClientConfig>, String> {
    let roots = match ca {
        Some(file) => authorities(file)?,
        None => {
            let mut roots = RootCertStore::empty();
            let system = rustls_native_certs::load_native_certs();
            // Some of hundreds are of a kind that nobody reads.
            roots.add_parsable_certificates(system.certs);
            roots
        }
    };
    if roots.is_empty() {
        return Err("no certificate authority is known: name one".to_owned());
    }
    let config = ClientConfig::builder_with_provider(provider());
    let config = config
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS: {error}"))?
        .with_root_certificates(roots);
    let config = match own {
        Some((cert, key)) => config
            .with_client_auth_cert(chain(cert)?, secret(key)?)
            .map_err(|error| cert.wrong(&error))?,
        None => config.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

/// How the agent speaks TLS with its clients.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    /// For each connection.
    pub(crate) config: Arc<ServerConfig>,
    /// When its certificate expires.
    pub(crate) expires: Timestamp,
}

/// Only with clients that an authority of `client_ca` vouches for.
pub(crate) fn server(api: &Api) -> Result<Served, String> {
    let Api {
        listen: _,
        cert,
        key,
        client_ca,
    } = api;
    let client_ca = Named("client_ca", client_ca);
    let roots = Arc::new(authorities(client_ca)?);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).build();
    let cert = Named("cert", cert);
    let chain = chain(cert)?;
    let expires = chain.first().and_then(expires);
    let config = ServerConfig::builder_with_provider(provider());
    let config = config
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS: {error}"))?
        .with_client_cert_verifier(verifier.map_err(|error| client_ca.wrong(&error))?);
    let mut config = config
        .with_single_cert(chain, secret(Named("key", key))?)
        .map_err(|error| cert.wrong(&error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Who comes again is looked at again: its certificate may have expired, its authority may have gone.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Served {
        config: Arc::new(config),
        expires: expires.ok_or_else(|| cert.wrong(&"is no certificate that can be read"))?,
    })
}

/// Until when a certificate is good.
pub(crate) fn expires(certificate: &CertificateDer<'_>) -> Option<Timestamp> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()
}

/// The names in a certificate: its DNS names, then its common name.
pub(crate) fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    use x509_parser::extensions::GeneralName;

    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else {
        return Vec::new();
    };
    let others = certificate.subject_alternative_name().ok().flatten();
    let others = others.into_iter().flat_map(|it| &it.value.general_names);
    let others = others.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    });
    let common = certificate.subject().iter_common_name();
    let common = common.filter_map(|name| Some(name.as_str().ok()?.to_owned()));
    others.chain(common).collect()
}

fn authorities(file: Named<'_>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in chain(file)? {
        roots.add(certificate).map_err(|error| file.wrong(&error))?;
    }
    Ok(roots)
}

fn chain(file: Named<'_>) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(file.1).map_err(|error| file.wrong(&error))?;
    let all: Result<Vec<_>, _> = read.collect();
    let all = all.map_err(|error| file.wrong(&error))?;
    match all.is_empty() {
        true => Err(file.wrong(&"there is no certificate in it")),
        false => Ok(all),
    }
}

fn secret(file: Named<'_>) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_file(file.1).map_err(|error| file.wrong(&error))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(default_provider())
}

impl Named<'_> {
    fn wrong(&self, why: &dyn Display) -> String {
        format!("{} {}: {why}", self.0, self.1.display())
    }
}
