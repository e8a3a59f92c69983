//! Where a packet would go, and why.

use axum::extract::State;
use axum::response::Response;

use super::Api;
use super::model::ExplainRequest;
use super::problem::{Body, Refused, full};
use super::reads::tagged;
use crate::cli::MadeUpPacket;
use crate::datapath::pinned::Pinned;
use crate::exit::{Exit, Failure};
use crate::explain;

/// `POST /v1/explain`.
pub(super) async fn explain(State(api): State<Api>, bytes: Body) -> Result<Response, Refused> {
    let question: ExplainRequest = full(&bytes)?;
    let ExplainRequest {
        group,
        protocol,
        source,
        destination,
        syn,
    } = question;
    let packet = MadeUpPacket {
        protocol,
        source,
        destination,
        syn,
    };
    let about = group.clone();
    let asked = api.agent.ask(move |runner| {
        let revision = runner.revision(about.as_deref());
        (revision, runner.bpffs().to_owned())
    });
    let (revision, bpffs) = asked.await?;
    // Copying the maps takes a while with many flows; the runner has better things to do.
    let explained = tokio::task::spawn_blocking(move || {
        let pinned = Pinned::open(&bpffs)?;
        explain::explain(&pinned, group.as_deref(), &packet)
    });
    let died = |error| Failure::new(Exit::Unexpected, "explain", format!("{error}"));
    let explained = explained.await.map_err(died)??;
    Ok(tagged((revision, explained)))
}
