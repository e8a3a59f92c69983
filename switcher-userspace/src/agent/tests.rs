//! The runner on a kernel in memory.

mod audit;
mod bake;
mod canary;
mod drift;
mod drill;
mod gates;
mod growth;
mod health;
mod hooks;
mod life;
mod receiver;
mod settling;
mod staging;
pub(crate) mod stand;
mod timed;

pub(crate) use stand::{Stand, config};

use crate::api::model::{ConfigAnswer, ConfigRequest};
use crate::exit::Failure;
use crate::journal::Who;

/// Applies a configuration and waits for what it switches.
async fn apply(stand: &Stand, text: &str) -> Result<ConfigAnswer, Failure> {
    let request = ConfigRequest {
        text: Some(text.into()),
        ..ConfigRequest::default()
    };
    let who = Who {
        actor: "tester".into(),
        reason: None,
    };
    let applied = stand
        .agent
        .ask(move |runner| runner.apply(&request, &who))
        .await?;
    let (answer, switches) = applied?;
    for switch in switches {
        switch.await.expect("is answered")?;
    }
    Ok(answer)
}
