//! What happens, as it happens: server-sent events (WHATWG HTML, 9.2).

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, State};
use axum::http::HeaderMap;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse as _, Response};
use http_body_util::channel::{Channel, Sender};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::limits::Place;
use super::model::Missed;
use super::problem::{Asking, Refused};
use super::{Api, Peer};
use crate::config::Role;
use crate::events::{Left, Told};

/// Whoever has gone is noticed by a line that can't be sent.
const BEATS: Duration = Duration::from_secs(10);
/// Milliseconds after which a browser comes again.
const AGAIN: &[u8] = b"retry: 2000\n\n";
/// As many records of the audit as are told of what was missed.
const RECORDS: usize = 100;

/// Of which group; of all if none.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    group: Option<String>,
}

/// `GET /v1/events`.
pub(super) async fn events(
    State(api): State<Api>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Asking(Wanted { group }): Asking<Wanted>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let place = match peer.is_own(api.own_uid) {
        true => None,
        false => {
            let place = api.bounds.subscribers.take(&peer.key());
            let full = || Refused::later(503, "too many listen to events", 10);
            Some(place.ok_or_else(full)?)
        }
    };
    if let Some(group) = group.clone() {
        let known = api.agent.ask(move |runner| runner.states(Some(&group)));
        known.await??;
    }
    let left = headers.get("last-event-id").filter(|it| !it.is_empty());
    let left = left.map(|id| api.agent.events().left(id.to_str().unwrap_or_default()));
    let (sender, channel) = Channel::<Bytes>::new(16);
    let listener = Listener {
        api,
        peer,
        group,
        sender,
        told: 0,
        at: None,
        _place: place,
    };
    tokio::spawn(async move {
        let Gone = listener.listen(left).await;
        tracing::debug!("a listener has gone");
    });
    let kind = [
        (CONTENT_TYPE, "text/event-stream"),
        (CACHE_CONTROL, "no-store"),
    ];
    Ok((kind, Body::new(channel)).into_response())
}

/// Nobody is there any more, or may be.
struct Gone;

struct Listener {
    api: Api,
    peer: Peer,
    group: Option<String>,
    sender: Sender<Bytes>,
    /// The number of the event that was told last, or would have been if it were of this group.
    told: u64,
    /// When that was.
    at: Option<Timestamp>,
    _place: Option<Place>,
}

impl Listener {
    async fn listen(mut self, left: Option<Left>) -> Gone {
        let Err(gone) = self.tell_all(left).await;
        gone
    }

    async fn tell_all(&mut self, left: Option<Left>) -> Result<Infallible, Gone> {
        self.send(Bytes::from_static(AGAIN)).await?;
        match left {
            None => self.tell_what_is().await?,
            Some(Left::Here(number, at)) => (self.told, self.at) = (number, Some(at)),
            Some(Left::Before(at)) => {
                self.at = Some(at);
                self.tell_of_a_gap("the agent was started anew").await?;
            }
            Some(Left::Nowhere) => self.tell_of_a_gap("no event is called so").await?,
        }
        let mut newest = self.api.agent.events().newest();
        loop {
            newest.mark_unchanged();
            match self.api.agent.events().after(self.told) {
                Some(events) => self.tell(events).await?,
                None => self.tell_of_a_gap("too much has happened since").await?,
            }
            match timeout(BEATS, newest.changed()).await {
                Ok(Ok(())) => {}
                // The agent ends.
                Ok(Err(_)) => return Err(Gone),
                Err(_) => self.beat().await?,
            }
            let may = self.api.may(&self.peer, Role::Viewer, "look");
            may.map_err(|_| Gone)?;
        }
    }

    async fn tell(&mut self, events: Vec<Arc<Told>>) -> Result<(), Gone> {
        for event in events {
            (self.told, self.at) = (event.number, Some(event.at));
            let concerned = match (&self.group, &event.group) {
                (Some(wanted), Some(group)) => wanted == group,
                (None, _) | (_, None) => true,
            };
            if concerned {
                let id = self.api.agent.events().id(event.number, event.at);
                self.send(block(&id, &event.event, &event.data)).await?;
            }
        }
        Ok(())
    }

    /// Says that something was missed, and what holds now.
    async fn tell_of_a_gap(&mut self, why: &str) -> Result<(), Gone> {
        let missed = Missed {
            why: why.to_owned(),
            ..self.recorded().await?
        };
        self.send(block(&self.now(), "missed", &json(&missed)))
            .await?;
        self.tell_what_is().await
    }

    /// What the audit has about the time since.
    async fn recorded(&self) -> Result<Missed, Gone> {
        let mut missed = Missed {
            why: String::new(),
            since: self.at,
            records: Vec::new(),
            more: false,
        };
        let Some(since) = self.at else {
            return Ok(missed);
        };
        let (group, most) = (self.group.clone(), RECORDS as u32 + 1);
        let agent = &self.api.agent;
        let audited = agent.ask(move |runner| runner.audited(group.as_deref(), most));
        let audited = audited.await.map_err(|_| Gone)?.unwrap_or_default();
        missed.records = audited.into_iter().filter(|it| it.at > since).collect();
        missed.more = missed.records.len() > RECORDS;
        missed.records.truncate(RECORDS);
        missed.records.reverse();
        Ok(missed)
    }

    async fn tell_what_is(&mut self) -> Result<(), Gone> {
        let group = self.group.clone();
        let states = self
            .api
            .agent
            .ask(move |runner| runner.states(group.as_deref()));
        // The group may have gone meanwhile.
        let (newest, agent, groups) = states.await.map_err(|_| Gone)?.map_err(|_| Gone)?;
        (self.told, self.at) = (newest, Some(Timestamp::now()));
        let id = self.now();
        self.send(block(&id, "agent", &json(&agent))).await?;
        for group in groups {
            self.send(block(&id, "state", &json(&group))).await?;
        }
        Ok(())
    }

    /// It also says how far this listener is, whatever it wants to hear.
    async fn beat(&mut self) -> Result<(), Gone> {
        let beat = format!(": all is quiet\nid: {}\n\n", self.now());
        self.send(beat.into()).await
    }

    fn now(&self) -> String {
        self.api.agent.events().id(self.told, Timestamp::now())
    }

    async fn send(&mut self, block: Bytes) -> Result<(), Gone> {
        self.sender.send_data(block).await.map_err(|_| Gone)
    }
}

fn block(id: &str, event: &str, data: &str) -> Bytes {
    format!("id: {id}\nevent: {event}\ndata: {data}\n\n").into()
}

/// On one line.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "{}".to_owned())
}
