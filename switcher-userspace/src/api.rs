//! JSON over HTTP/1.1, on a Unix socket and, by mutual TLS, over TCP; and a page that shows it.
//!
//! Who may ask what is said by `[agent.roles]`. Without it, root and the agent's own user do everything, and whomever
//! the socket's mode lets in may look. Failures are RFC 9457 problems that carry the exit code of the command line.

mod admit;
mod changes;
mod events;
mod explain;
mod flagger;
mod limits;
pub mod model;
mod once;
pub mod openapi;
mod origin;
mod page;
mod peer;
mod problem;
mod reads;
mod routes;
mod serve;
mod socket;
#[cfg(test)]
mod tests;
mod trace;
mod wait;

use std::ops::Deref;
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRef};
use axum::middleware::from_fn_with_state;
use tokio::sync::watch;

pub(crate) use page::files as page_files;
pub use peer::Peer;
pub(crate) use peer::misleads;
pub use serve::{Identity, listen, serve, serve_tls};
pub use socket::bind;

use crate::agent::Handle;
use crate::config::{AgentConfig, FILE_MAX};
use crate::exit::{Exit, Failure};
use crate::listen::polls;
use limits::{Bounds, Limits};
use problem::Refused;
use routes::Route;

/// Bytes of a body with a configuration. As JSON that is longer than its file, by its quotes and line ends.
const BODY_MAX: usize = 2 * FILE_MAX as usize;
/// Bytes of any other body.
const SMALL_BODY_MAX: usize = 64 << 10;

/// What every request can reach. There is one of it, whoever has it: each layer of a route does, and each request
/// has layers of its own.
#[derive(Clone)]
pub struct Api(Arc<Reached>);

/// What requests share.
pub struct Reached {
    agent: Handle,
    /// The agent's user.
    own_uid: u32,
    bounds: Bounds,
    /// What the configuration says, now.
    taken: watch::Receiver<Arc<AgentConfig>>,
}

impl FromRef<Api> for Handle {
    fn from_ref(api: &Api) -> Self {
        api.agent.clone()
    }
}

impl Api {
    /// Of an agent that runs as this user.
    #[must_use]
    pub fn new(agent: Handle, own_uid: u32) -> Self {
        Self::bounded(agent, own_uid, Limits::default())
    }

    fn bounded(agent: Handle, own_uid: u32, limits: Limits) -> Self {
        Self(Arc::new(Reached {
            taken: agent.taken(),
            agent,
            own_uid,
            bounds: Bounds::new(limits),
        }))
    }
}

impl Deref for Api {
    type Target = Reached;

    fn deref(&self) -> &Reached {
        &self.0
    }
}

fn router(api: Api) -> Router {
    let mut router = Router::new();
    for route in routes::routes() {
        let Route {
            path,
            needs,
            answered,
            ..
        } = route;
        let need = from_fn_with_state((api.clone(), needs), admit::need);
        let answered = answered.layer(DefaultBodyLimit::max(needs.body_max));
        router = router.route(&path, answered.route_layer(need));
    }
    router
        .merge(polls::routes())
        .merge(page::files())
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(from_fn_with_state(api.clone(), admit::admit))
        .with_state(api)
}

async fn no_such_path(uri: axum::http::Uri) -> Refused {
    let why = format!("there is nothing at {}", uri.path());
    Refused::from(Failure::new(Exit::NotFound, "", why))
}

async fn no_such_method(method: axum::http::Method, uri: axum::http::Uri) -> Refused {
    let why = format!("{} does not take {method}", uri.path());
    Refused::with_status(&Failure::new(Exit::Usage, "", why), 405)
}
