//! JSON over HTTP/1.1 on a Unix socket.
//!
//! Reads are for everybody whom the socket's mode lets in; changes are for root and the agent's own user.
//! Failures are RFC 9457 problems that carry the exit code of the command line.

mod changes;
mod explain;
mod flagger;
pub mod model;
mod once;
mod peer;
mod problem;
mod reads;
mod socket;
#[cfg(test)]
mod tests;
mod trace;
mod wait;

use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRef};
use axum::routing::{get, post};
use tokio::net::UnixListener;

pub use peer::Peer;
pub(crate) use peer::misleads;
pub use socket::bind;

use crate::agent::Handle;
use crate::config::FILE_MAX;
use crate::exit::{Exit, Failure};
use crate::listen::polls;
use problem::Refused;

/// Bytes of a request's body. As JSON a configuration is longer than its file, by its quotes and line ends.
const BODY_MAX: usize = 2 * FILE_MAX as usize;

/// What every request can reach.
#[derive(Clone)]
pub struct Api {
    /// The agent.
    pub agent: Handle,
    /// Its user, who may change things beside root.
    pub own_uid: u32,
}

impl FromRef<Api> for Handle {
    fn from_ref(api: &Api) -> Self {
        api.agent.clone()
    }
}

/// Answers requests until the listener fails. Dropped, it leaves everything that was begun to the agent.
///
/// # Errors
/// When the listener fails.
pub async fn serve(listener: UnixListener, api: Api) -> std::io::Result<()> {
    let service = router(api).into_make_service_with_connect_info::<Peer>();
    axum::serve(listener, service).await
}

fn router(api: Api) -> Router {
    Router::new()
        .route("/v1/status", get(reads::status))
        .route("/v1/groups/{group}", get(reads::group))
        .route("/v1/groups/{group}/flip", post(changes::flip))
        .route("/v1/groups/{group}/rollback", post(changes::rollback))
        .route("/v1/groups/{group}/canary", post(changes::canary))
        .route("/v1/groups/{group}/drill", post(changes::drill))
        .route("/v1/groups/{group}/abort", post(changes::abort))
        .route("/v1/groups/{group}/confirm", post(changes::confirm))
        .route("/v1/groups/{group}/extend", post(changes::extend))
        .route("/v1/groups/{group}/pause", post(changes::pause))
        .route("/v1/groups/{group}/resume", post(changes::resume))
        .route("/v1/groups/{group}/stage", post(changes::stage))
        .route("/v1/groups/{group}/schema", post(changes::schema))
        .route("/v1/groups/{group}/freeze", post(changes::freeze))
        .route("/v1/groups/{group}/unfreeze", post(changes::unfreeze))
        .route("/v1/groups/{group}/gate", post(changes::gate))
        .route("/v1/groups/{group}/wait", get(wait::wait))
        .route("/v1/history", get(reads::history))
        .route("/v1/audit", get(reads::audit))
        .route("/v1/drift", get(reads::drift))
        .route("/v1/audit/verify", get(reads::verify))
        .route("/v1/cutovers/{id}", get(reads::cutover))
        .route("/v1/plan", post(reads::plan))
        .route("/v1/apply", post(changes::apply))
        .route("/v1/explain", post(explain::explain))
        .route("/v1/trace", post(trace::trace))
        .route("/gate/open", post(flagger::open_gate))
        .route("/gate/close", post(flagger::close_gate))
        .route("/rollback/open", post(flagger::open_rollback))
        .route("/rollback/close", post(flagger::close_rollback))
        .merge(polls::routes())
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(DefaultBodyLimit::max(BODY_MAX))
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
