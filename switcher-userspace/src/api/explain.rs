//! Where a packet would go, and why.

use axum::Json;
use axum::extract::State;

use super::Api;
use super::model::ExplainRequest;
use super::problem::{Body, Refused, full};
use crate::cli::MadeUpPacket;
use crate::datapath::pinned::Pinned;
use crate::exit::{Exit, Failure};
use crate::explain::{self, Explanation};

/// `POST /v1/explain`.
pub(super) async fn explain(
    State(api): State<Api>,
    bytes: Body,
) -> Result<Json<Explanation>, Refused> {
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
    let bpffs = api.agent.ask(|runner| runner.bpffs().to_owned()).await?;
    // Copying the maps takes a while with many flows; the runner has better things to do.
    let explained = tokio::task::spawn_blocking(move || {
        let pinned = Pinned::open(&bpffs)?;
        explain::explain(&pinned, group.as_deref(), &packet)
    });
    let died = |error| Failure::new(Exit::Unexpected, "explain", format!("{error}"));
    Ok(Json(explained.await.map_err(died)??))
}
