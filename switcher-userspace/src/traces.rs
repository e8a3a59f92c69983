//! Traces of cut-overs for OpenTelemetry: one trace each, with a span for each stage, hook and store.
//!
//! They are sent as OTLP, in JSON over HTTP. Ids follow from the cut-over's name: agents that follow each other
//! work on one trace, and a receipt can name it. Nobody waits for whoever receives them: what is not taken
//! in time is dropped, and the log says so.

mod export;
mod ids;
mod otlp;
mod part;
mod settings;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::runtime::Handle;

pub use export::Exporting;
use export::Sender;
use ids::{SpanId, TraceId};
pub(crate) use part::Part;
use settings::Settings;

use crate::hooks;
use crate::journal::CutoverRecord;
use crate::release::{End, Kind};

/// Cut-overs whose beginning is remembered at most: some come to nothing, and nobody says so.
const REMEMBERED: usize = 1024;

/// The traces of one agent's cut-overs.
#[derive(Default)]
pub struct Traces {
    /// None if nobody wants them.
    sender: Option<Sender>,
    host: String,
    /// The stages that groups are in.
    stages: BTreeMap<String, InStage>,
    /// When cut-overs entered their first.
    begun: BTreeMap<String, Timestamp>,
}

struct InStage {
    cutover: String,
    name: &'static str,
    since: Timestamp,
}

/// What was done, and when.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    trace: TraceId,
    id: SpanId,
    parent: Option<SpanId>,
    name: String,
    start: Timestamp,
    end: Timestamp,
    attributes: Vec<(&'static str, Value)>,
    /// A trace that has to do with it.
    link: Option<(TraceId, SpanId)>,
    /// What went wrong.
    error: Option<String>,
}

/// Traces go where the configuration says, or where the environment says as OpenTelemetry has it; nowhere if
/// neither does.
///
/// # Errors
/// When either asks for what this version can't do; says what.
pub fn start(url: Option<&str>, runtime: &Handle) -> Result<(Traces, Exporting), String> {
    let host = hooks::host();
    let environment = |name: &str| std::env::var(name).ok().filter(|it| !it.is_empty());
    let Some(settings) = Settings::read(url, &host, environment)? else {
        return Ok((Traces::default(), Exporting::nothing()));
    };
    tracing::info!(to = %settings.url, "cut-overs are traced");
    let (sender, exporting) = export::start(settings, runtime);
    let traces = Traces {
        sender: Some(sender),
        host,
        ..Traces::default()
    };
    Ok((traces, exporting))
}

impl Traces {
    /// The trace of a cut-over, in hexadecimal; none if nobody wants traces.
    pub(crate) fn id(&self, cutover: &str) -> Option<String> {
        let wanted = self.sender.is_some() && !cutover.is_empty();
        wanted.then(|| TraceId::of(&self.host, cutover).to_string())
    }

    /// A group's cut-over is in a stage, or there is none.
    pub(crate) fn follow(&mut self, group: &str, stage: Option<(&str, &'static str)>) {
        if self.sender.is_none() {
            return;
        }
        let before = self.stages.get(group);
        if before.map(|it| (it.cutover.as_str(), it.name)) == stage {
            return;
        }
        let before = self.stages.remove(group);
        if let Some((cutover, name)) = stage {
            if !self.begun.contains_key(cutover) {
                self.begun.insert(cutover.to_owned(), Timestamp::now());
            }
            if self.begun.len() > REMEMBERED {
                self.begun.pop_first();
            }
            let in_stage = InStage {
                cutover: cutover.to_owned(),
                name,
                since: Timestamp::now(),
            };
            self.stages.insert(group.to_owned(), in_stage);
        }
        if let Some(before) = before {
            self.did(Part {
                cutover: &before.cutover,
                name: before.name,
                start: before.since,
                attributes: Vec::new(),
                error: None,
            });
        }
    }

    /// Part of a cut-over is done.
    pub(crate) fn did(&self, part: Part<'_>) {
        let Part {
            cutover,
            name,
            start,
            attributes,
            error,
        } = part;
        if cutover.is_empty() {
            return;
        }
        let root = SpanId::root(&self.host, cutover);
        self.send(Span {
            trace: TraceId::of(&self.host, cutover),
            id: root.child(name, start),
            parent: Some(root),
            name: name.to_owned(),
            start,
            end: Timestamp::now(),
            attributes,
            link: None,
            error,
        });
    }

    /// A cut-over is over.
    pub(crate) fn ended(&mut self, record: &CutoverRecord, end: End) {
        if self.sender.is_none() {
            return;
        }
        let CutoverRecord { id, kind, .. } = record;
        let optional = [
            ("switcher.reason", record.reason.clone().map(Value::from)),
            ("switcher.percent", record.percent.map(Value::from)),
            (
                "switcher.store_to_settled_us",
                record.store_to_settled_us.map(Value::from),
            ),
        ];
        let mut attributes = vec![
            ("switcher.cutover", json!(id)),
            ("switcher.group", json!(record.group)),
            ("switcher.from", json!(record.from)),
            ("switcher.to", json!(record.to)),
            ("switcher.actor", json!(record.actor)),
            ("switcher.result", json!(end.name())),
            ("switcher.forced", json!(record.forced)),
        ];
        let known = optional
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)));
        attributes.extend(known);
        // Its first stage began before its record.
        let begun = self.begun.remove(id);
        let start = begun.map_or(record.started, |begun| begun.min(record.started));
        // What undoes another one has its name.
        let undone = id.strip_suffix("-back").filter(|_| *kind == Kind::Rollback);
        self.send(Span {
            trace: TraceId::of(&self.host, id),
            id: SpanId::root(&self.host, id),
            parent: None,
            name: kind.name().to_owned(),
            start,
            end: Timestamp::now(),
            attributes,
            link: undone.map(|it| (TraceId::of(&self.host, it), SpanId::root(&self.host, it))),
            error: (end == End::Failed).then(|| "it could not be carried out".to_owned()),
        });
    }

    fn send(&self, span: Span) {
        if let Some(sender) = &self.sender {
            sender.send(span);
        }
    }
}

#[cfg(test)]
mod tests;
