//! Who may ask what, and how often.

use axum::Extension;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::HeaderValue;
use axum::http::header::CONNECTION;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::origin;
use super::problem::Refused;
use super::serve::Way;
use super::{Api, Peer};
use crate::config::Role;
use crate::exit::{Exit, Failure};

/// What a route asks of whoever asks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Needs {
    pub(super) role: Role,
    /// For people: `flip`, `look`.
    pub(super) what: &'static str,
    /// It takes long, so they take turns.
    pub(super) heavy: bool,
    /// Bytes of the largest body.
    pub(super) body_max: usize,
}

/// Before anything of a request is looked at, whatever it asks for.
pub(super) async fn admit(
    State(api): State<Api>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Extension(way): Extension<Way>,
    request: Request,
    next: Next,
) -> Response {
    if way.local && !origin::at_home(request.headers()) {
        let why = "this is not the host that is asked for: ask by address, or localhost";
        return Refused::from(Failure::new(Exit::NotPermitted, "", why)).into_response();
    }
    if way.full {
        let why = "there are too many connections";
        let mut refused = Refused::later(503, why, 1).into_response();
        let close = HeaderValue::from_static("close");
        refused.headers_mut().insert(CONNECTION, close);
        return refused;
    }
    if let Err(refused) = permit(&api, &peer, &request) {
        return refused.into_response();
    }
    next.run(request).await
}

fn permit(api: &Api, peer: &Peer, request: &Request) -> Result<(), Refused> {
    if !peer.is_own(api.own_uid)
        && let Err(wait) = api.bounds.take(&peer.key())
    {
        let rate = api.bounds.limits.rate;
        let why = format!(
            "there are more than {rate} requests a second of {}",
            peer.actor()
        );
        return Err(Refused::later(429, &why, wait.as_secs() + 1));
    }
    let (method, headers) = (request.method(), request.headers());
    origin::check(method, headers).map_err(|why| Failure::new(Exit::NotPermitted, "", why))?;
    api.may(peer, Role::Viewer, "look")?;
    Ok(())
}

/// Before what only some may do.
pub(super) async fn need(
    State((api, needs)): State<(Api, Needs)>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    request.extensions_mut().insert(needs);
    if let Err(failure) = api.may(&peer, needs.role, needs.what) {
        return Refused::from(failure).into_response();
    }
    let _turn = match needs.heavy {
        true => api.bounds.heavy.acquire().await.ok(),
        false => None,
    };
    next.run(request).await
}

impl Api {
    /// What somebody may do, as the configuration says now; nothing if none.
    pub(super) fn role(&self, peer: &Peer) -> Option<Role> {
        peer.role(self.taken.borrow().roles.as_ref(), self.own_uid)
    }

    /// That somebody may do something, as the configuration says now.
    pub(super) fn may(&self, peer: &Peer, needs: Role, what: &str) -> Result<(), Failure> {
        let taken = self.taken.borrow();
        peer.may((taken.roles.as_ref(), self.own_uid), needs, what)
    }
}
