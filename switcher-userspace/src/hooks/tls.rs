//! Whose certificates are believed.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

/// How to speak TLS: with servers that an authority of the file vouches for, or one of the system's. Read
/// anew each time: certificates are replaced.
pub(super) fn client(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(file) => {
            let unreadable = |error| format!("ca_file {}: {error}", file.display());
            for certificate in CertificateDer::pem_file_iter(file).map_err(unreadable)? {
                let certificate = certificate.map_err(unreadable)?;
                let added = roots.add(certificate);
                added.map_err(|error| format!("ca_file {}: {error}", file.display()))?;
            }
        }
        None => {
            let system = rustls_native_certs::load_native_certs();
            // Some of hundreds are of a kind that nobody reads.
            roots.add_parsable_certificates(system.certs);
        }
    }
    if roots.is_empty() {
        return Err("no certificate authority is known: name one with `ca_file`".to_owned());
    }
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    let config = config
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS: {error}"))?;
    let config = config.with_root_certificates(roots).with_no_client_auth();
    Ok(Arc::new(config))
}
