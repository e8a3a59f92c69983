//! A first configuration, from what a host is and what somebody wants of it.
//!
//! ```text
//! options ─┐
//! answers ─┼─> Wish ── complete, with what Host knows ──> Draft ── render ──> text
//! Host ────┘
//! ```

mod ask;
mod draft;
mod host;
mod render;

pub use ask::Questions;
pub use draft::{Draft, Steered};
pub use host::{Host, Link};
pub use render::render;

use std::net::IpAddr;

use crate::cli::InitArgs;
use crate::config::{self, Config, ConfigErrors, Forward};
use crate::exit::{Exit, Failure};
use crate::reconcile::Want;

/// A configuration that is ready to be written.
#[derive(Debug)]
pub struct Ready {
    /// The file.
    pub text: String,
    /// What it means.
    pub config: Config,
}

/// Renders a draft, and makes sure of what comes of it: valid, and its servers reachable as it says.
///
/// # Errors
/// When what was asked for makes no configuration.
pub fn prepare(draft: &mut Draft, host: &Host) -> Result<Ready, Failure> {
    let is_own = |address: IpAddr| host.own.contains(address);
    if draft.forward == Forward::Auto {
        let config = parse(&render(draft, host))?;
        let mut services = config.groups.values().flat_map(|it| it.services.values());
        let resolved = services.next().map(|it| config::resolve(it, is_own));
        let resolved = resolved.unwrap_or(Ok(Forward::Local));
        draft.forward = resolved.map_err(|error| refused(error.to_string()))?;
    }
    draft.steer(host);
    let text = render(draft, host);
    let config = parse(&text)?;
    Want::new(&config, is_own).map_err(|refusal| refused(refusal.to_string()))?;
    Ok(Ready { text, config })
}

/// What options say, completed by answers if there is somebody to ask.
///
/// # Errors
/// When something is missing and nobody can be asked, or what was said can't be understood.
pub fn draft(
    args: &InitArgs,
    host: &Host,
    asked: Option<&mut Questions<'_>>,
) -> Result<Draft, Failure> {
    let mut args = args.clone();
    if let Some(questions) = asked {
        questions.complete(&mut args, host)?;
    }
    Draft::new(&args, host)
}

fn parse(text: &str) -> Result<Config, Failure> {
    config::parse("init", text.as_bytes()).map_err(|errors| invalid(&errors))
}

/// The reader has no file to look at: keys say enough.
fn invalid(errors: &ConfigErrors) -> Failure {
    let said = errors.0.iter().map(|error| {
        let advice = match error.advice.is_empty() {
            true => String::new(),
            false => format!(" ({})", error.advice),
        };
        format!("{}: {}{advice}", error.key, error.message)
    });
    refused("what was asked for is no valid configuration").blocked_by(said)
}

fn refused(why: impl Into<String>) -> Failure {
    Failure::new(Exit::Usage, TRIED, why)
        .advise("nothing was written; `switcher init --help` tells the options")
}

const TRIED: &str = "write a configuration";

#[cfg(test)]
mod tests;
