//! `switcher apply [FILE]`.

use super::plan;
use crate::api::model::{ConfigAnswer, ConfigRequest, PlanRequest};
use crate::cli::{ApplyArgs, ChangeArgs, Globals};
use crate::client::{Client, converse};
use crate::exit::{Exit, Failure};
use crate::output::Output;

pub(super) fn run(globals: &Globals, output: &Output, args: ApplyArgs) -> Result<Exit, Failure> {
    let ApplyArgs {
        file,
        source,
        change,
    } = args;
    let ChangeArgs {
        reason,
        dry_run,
        if_revision,
        if_live,
        idempotency_key,
    } = change;
    if if_live.is_some() {
        let why = "--if-live is about one group, and a configuration is about all of them";
        return Err(Failure::new(Exit::Usage, "apply", why).advise("use --if-revision"));
    }
    let PlanRequest { text, name } = plan::request(file.as_deref(), "apply")?;
    let request = ConfigRequest {
        text,
        name,
        source,
        reason,
        dry_run,
        if_revision,
        idempotency_key,
    };
    let client = Client::new(globals)?;
    let answer: ConfigAnswer = converse(client.post("/v1/apply", &request))?;
    output.print(&answer, |_| plan::describe(&answer))?;
    Ok(Exit::Done)
}
