//! By which way the agent is reached.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use hyper::Uri;
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, ClientConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use crate::cli::Globals;
use crate::exit::{Exit, Failure};
use crate::tls::{self, Named};

/// The port of the API over TCP where a URL names none.
const PORT: u16 = 9465;

/// A way to the agent.
#[derive(Clone, Debug)]
pub(super) enum Way {
    /// On this host.
    Socket(PathBuf),
    /// By mutual TLS.
    Tls {
        url: String,
        host: String,
        port: u16,
        authority: String,
        name: ServerName<'static>,
        config: Arc<ClientConfig>,
    },
}

/// Bytes both ways.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send {}

impl<T: AsyncRead + AsyncWrite + Send> Stream for T {}

impl Way {
    pub(super) fn new(globals: &Globals) -> Result<Self, Failure> {
        let Globals {
            socket,
            url,
            cert,
            key,
            ca,
            ..
        } = globals;
        match (url, cert, key) {
            (Some(url), Some(cert), Some(key)) => tls(url, (cert, key), ca.as_deref()),
            _ => Ok(Self::Socket(socket.clone())),
        }
    }

    /// For the `Host` of requests.
    pub(super) fn host(&self) -> &str {
        match self {
            Self::Socket(_) => "switcher",
            Self::Tls { authority, .. } => authority,
        }
    }

    pub(super) async fn connect(&self) -> Result<Pin<Box<dyn Stream>>, Failure> {
        match self {
            Self::Socket(socket) => {
                let stream = UnixStream::connect(socket).await;
                Ok(Box::pin(stream.map_err(|error| away(socket, &error))?))
            }
            Self::Tls {
                url,
                host,
                port,
                name,
                config,
                ..
            } => {
                let far = |error: io::Error| far(url, &error);
                let stream = TcpStream::connect((host.as_str(), *port)).await;
                let stream = stream.map_err(far)?;
                let _only_slower = stream.set_nodelay(true);
                let connector = TlsConnector::from(Arc::clone(config));
                let stream = connector.connect(name.clone(), stream).await;
                Ok(Box::pin(stream.map_err(far)?))
            }
        }
    }
}

fn tls(url: &str, (cert, key): (&Path, &Path), ca: Option<&Path>) -> Result<Way, Failure> {
    let wrong = |why: String| {
        Failure::new(Exit::Usage, "reach the agent", why).advise(
            "such as --url https://switch.internal:9465 --cert ME.crt --key ME.key --ca CA.crt",
        )
    };
    let uri: Uri = url
        .parse()
        .map_err(|error| wrong(format!("{url}: {error}")))?;
    let authority = uri.authority().map(ToString::to_string);
    let (Some("https"), Some(host), Some(authority), "" | "/") =
        (uri.scheme_str(), uri.host(), authority, uri.path())
    else {
        return Err(wrong(format!(
            "{url} is not https:// with a host, and nothing behind it"
        )));
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(host.to_owned());
    let name = name.map_err(|error| wrong(format!("{host}: {error}")))?;
    let own = (Named("--cert", cert), Named("--key", key));
    let config = tls::client(ca.map(|file| Named("--ca", file)), Some(own)).map_err(wrong)?;
    Ok(Way::Tls {
        url: url.to_owned(),
        host: host.to_owned(),
        port: uri.port_u16().unwrap_or(PORT),
        authority,
        name,
        config,
    })
}

/// Why a socket doesn't answer.
fn away(socket: &Path, error: &io::Error) -> Failure {
    let socket = socket.display();
    let (exit, why, advice) = match error.kind() {
        ErrorKind::PermissionDenied => (
            Exit::NotPermitted,
            format!("{socket} does not let you in"),
            "ask as root, for example with sudo".to_owned(),
        ),
        ErrorKind::NotFound => (
            Exit::Unreachable,
            format!("there is no socket at {socket}"),
            START.to_owned(),
        ),
        ErrorKind::ConnectionRefused => (
            Exit::Unreachable,
            format!("nobody listens at {socket}: the agent was killed, or is starting"),
            START.to_owned(),
        ),
        _ => (
            Exit::Unreachable,
            format!("{socket}: {error}"),
            START.to_owned(),
        ),
    };
    Failure::new(exit, "reach the agent", why).advise(advice)
}

const START: &str = "start it with `switcher agent --config FILE` (or `systemctl start switcher`), or name \
                     its socket with --socket; without an agent traffic goes on, and `switcher emergency` \
                     can switch it";

/// Why a host doesn't answer, or not as the agent it should be.
fn far(url: &str, error: &io::Error) -> Failure {
    if let Some(refused) = refused_certificate(error) {
        return refused;
    }
    let inner = error.get_ref();
    let tls = inner.and_then(|it| it.downcast_ref::<rustls::Error>());
    let advice = match tls.is_some() {
        true => {
            "is this the agent? --ca names the authority that vouches for it, and the URL one of its names"
        }
        false => "does the agent run, with [agent.api], and do packets get there?",
    };
    let why = format!("{url}: {error}");
    Failure::new(Exit::Unreachable, "reach the agent", why).advise(advice)
}

/// What the other side says when it doesn't want the certificate that it was shown. With TLS 1.3 that comes when
/// this side has begun to ask already.
pub(super) fn refused_certificate(error: &(dyn Error + 'static)) -> Option<Failure> {
    use AlertDescription as Alert;

    let alert = causes(error).find_map(|cause| {
        let inner = cause
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        match inner.and_then(|it| it.downcast_ref()) {
            Some(rustls::Error::AlertReceived(alert)) => Some(*alert),
            _ => None,
        }
    })?;
    let why = match alert {
        Alert::UnknownCA => "no authority that the agent knows has signed it",
        Alert::CertificateExpired => "it has expired, or is not valid yet",
        Alert::CertificateRevoked => "it was revoked",
        Alert::CertificateRequired => "none was shown",
        Alert::BadCertificate
        | Alert::UnsupportedCertificate
        | Alert::CertificateUnknown
        | Alert::AccessDenied
        | Alert::DecryptError => "it is not one for clients, or a bad one",
        _ => return None,
    };
    let why = format!("the agent does not accept the certificate: {why}");
    let failure = Failure::new(Exit::NotPermitted, "reach the agent", why);
    Some(failure.advise("get one from an authority in agent.api.client_ca"))
}

/// An error, and what it comes from.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}
