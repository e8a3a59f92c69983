//! One event, with what the spans around it add.

use std::fmt::Debug;

use jiff::Timestamp;
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::journald::Journal;
use super::{json, text};

/// What an event comes to.
pub(super) struct Line {
    pub(super) at: Timestamp,
    pub(super) level: Level,
    /// The part of the program that says it.
    pub(super) target: String,
    pub(super) message: String,
    /// In the order in which they were met, each name once.
    pub(super) fields: Vec<(&'static str, Value)>,
}

/// How lines are written.
pub(super) enum Form {
    Text { colours: bool },
    Json,
    Journald(Journal),
}

/// Takes a line with its end.
type Write = Box<dyn Fn(&[u8]) + Send + Sync>;

/// Makes lines of events.
pub(super) struct Lines {
    form: Form,
    write: Write,
}

impl Lines {
    pub(super) fn new(form: Form, write: Write) -> Self {
        Self { form, write }
    }

    fn put(&self, line: &Line) {
        match &self.form {
            Form::Text { colours } => (self.write)(text::line(line, *colours).as_bytes()),
            Form::Json => (self.write)(json::line(line).as_bytes()),
            Form::Journald(journal) => {
                // What the journal does not take is not lost.
                if journal.send(line).is_err() {
                    (self.write)(text::line(line, false).as_bytes());
                }
            }
        }
    }
}

impl<S> Layer<S> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        let around = context.event_scope(event).into_iter();
        for span in around.flat_map(tracing_subscriber::registry::Scope::from_root) {
            if let Some(known) = span.extensions().get::<Fields>() {
                let known = known.known.iter().cloned();
                known.for_each(|(name, value)| fields.set(name, value));
            }
        }
        event.record(&mut fields);
        let Fields {
            message,
            target,
            known,
        } = fields;
        let metadata = event.metadata();
        self.put(&Line {
            at: Timestamp::now(),
            level: *metadata.level(),
            target: target.unwrap_or_else(|| metadata.target().to_owned()),
            message,
            fields: known,
        });
    }
}

/// What has been said with an event or a span.
#[derive(Default)]
struct Fields {
    message: String,
    /// Of events that other crates say by `log`.
    target: Option<String>,
    known: Vec<(&'static str, Value)>,
}

impl Fields {
    fn set(&mut self, name: &'static str, value: Value) {
        match self.known.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = value,
            None => self.known.push((name, value)),
        }
    }

    fn take(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            ("log.target", Value::String(text)) => self.target = Some(text),
            // Where in its source: of use to nobody here.
            (name, _) if name.starts_with("log.") => {}
            (name, value) => self.set(name, value),
        }
    }
}

impl Visit for Fields {
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.take(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.take(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.take(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.take(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.take(field, format!("{value:?}").into());
    }
}
