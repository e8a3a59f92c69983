//! What is counted as it happens, from the agent's start on.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::journal::CutoverRecord;
use crate::release::{End, Kind};

/// Cut-overs that have ended, and how long they took. Clones count together.
#[derive(Clone, Debug)]
pub struct Meters {
    cutovers: Family<Ended, Counter>,
    durations: Family<OfKind, Histogram>,
    settled: Histogram,
    hooks: Family<Called, Counter>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Called {
    group: String,
    hook: String,
    moment: String,
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Ended {
    group: String,
    kind: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfKind {
    group: String,
    kind: &'static str,
}

impl Default for Meters {
    fn default() -> Self {
        Self {
            cutovers: Family::default(),
            // Windows last from a tenth of a second to hours.
            durations: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(0.1, 4.0, 9))
            }),
            settled: Histogram::new(exponential_buckets(0.000_25, 2.0, 12)),
            hooks: Family::default(),
        }
    }
}

impl Meters {
    /// A word was stored, and after this long no CPU could act on the one before.
    pub fn settled(&self, took: Duration) {
        self.settled.observe(took.as_secs_f64());
    }

    /// A hook has ended, or an event arrived or not.
    pub fn hook(&self, group: &str, hook: &str, moment: &str, result: &'static str) {
        let labels = Called {
            group: group.to_owned(),
            hook: hook.to_owned(),
            moment: moment.to_owned(),
            result,
        };
        self.hooks.get_or_create(&labels).inc();
    }

    /// A cut-over is over.
    pub fn ended(&self, record: &CutoverRecord) {
        let kind = Kind::name(record.kind);
        let group = record.group.clone();
        let labels = Ended {
            group: group.clone(),
            kind,
            result: record.result.map_or("none", End::name),
        };
        self.cutovers.get_or_create(&labels).inc();
        if let Some(ended) = record.ended {
            let took = ended.duration_since(record.started).as_secs_f64();
            let durations = self.durations.get_or_create(&OfKind { group, kind });
            durations.observe(took.max(0.0));
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "Cut-overs that have ended since the agent was started";
        registry.register("cutovers", help, self.cutovers.clone());
        let help =
            "Calls of hooks, and deliveries of events, that have ended since the agent was started";
        registry.register("hooks", help, self.hooks.clone());
        let help = "From a cut-over's begin to the end of its window";
        let (unit, durations) = (Unit::Seconds, self.durations.clone());
        registry.register_with_unit("cutover_duration", help, unit, durations);
        let help = "From the store of a word until no CPU acts on the one before";
        let settled = self.settled.clone();
        registry.register_with_unit("store_to_settled", help, Unit::Seconds, settled);
    }
}
