//! Every order that there is, what has to come first, and what whoever was answered may believe.

use serde_json::Value;
use switcher_harness::config::GROUP;

use super::killer::{BPF, COMMIT};

/// Something to order.
pub(super) struct Order {
    /// What comes first, so that it can be.
    pub(super) before: &'static [&'static str],
    /// Its words. `OTHER` is the colour that is not live at first, `NEXT` the next version of the database,
    /// `FRESH` a release that there never was.
    pub(super) words: &'static [&'static str],
    /// How often an agent is killed over it.
    pub(super) times: u32,
    /// Calls of which it is killed at one.
    pub(super) calls: &'static [i64],
    /// What it ends with if nobody is killed.
    pub(super) code: i32,
    /// Whether the group is as whoever was answered with 0 believes it to be.
    pub(super) holds: fn(&Seen) -> bool,
    /// What comes of it by itself, wherever an agent was killed.
    pub(super) ends: fn(&Seen) -> bool,
    /// What else is special.
    pub(super) given: Given,
}

/// Circumstances of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Given {
    Nothing,
    /// New connections wait meanwhile, so one that exists has to be answered.
    Paused,
    /// The file has changed.
    File,
    /// The hook after a switch fails.
    FailingHook,
    /// A connection keeps its colour from having drained, until the order is given.
    Connection,
}

/// What an order has come to.
pub(super) struct Seen {
    /// The group before the order, and now.
    pub(super) before: Value,
    pub(super) group: Value,
    /// Its newest cut-over before the order, and now.
    pub(super) last: Value,
    pub(super) newest: Value,
    /// The colour that was not live at first.
    pub(super) other: &'static str,
    /// The release and the version of the database that were ordered.
    pub(super) fresh: String,
    pub(super) next: u64,
    /// Weights in the file.
    pub(super) weights: &'static [u16],
}

impl Seen {
    /// An order's words as they are said this time.
    pub(super) fn words(&self, words: &[&str]) -> Vec<String> {
        let word = |word: &&str| match *word {
            "OTHER" => self.other.to_owned(),
            "NEXT" => self.next.to_string(),
            "FRESH" => self.fresh.clone(),
            word => word.to_owned(),
        };
        words.iter().map(word).collect()
    }
}

const PLAIN: Order = Order {
    before: &[],
    words: &[],
    times: 2,
    calls: &[COMMIT[0], COMMIT[1], BPF],
    code: 0,
    holds: |_| false,
    ends: |_| true,
    given: Given::Nothing,
};

pub(super) const ORDERS: &[Order] = &[
    Order {
        words: &["flip", GROUP, "--wait", "baked"],
        times: 4,
        holds: is_live,
        ..PLAIN
    },
    Order {
        before: &["gate", GROUP, "qa", "close"],
        words: &["flip", GROUP, "--force"],
        times: 3,
        holds: is_live,
        ..PLAIN
    },
    Order {
        words: &["flip", GROUP],
        times: 4,
        code: 7,
        ends: |it| !is_live(it) && !is_kept(&it.newest),
        given: Given::FailingHook,
        ..PLAIN
    },
    Order {
        before: &["flip", GROUP, "--no-bake"],
        words: &["wait", GROUP, "--for", "drained"],
        times: 4,
        calls: &COMMIT,
        holds: has_drained,
        ends: has_drained,
        given: Given::Connection,
        ..PLAIN
    },
    Order {
        words: &["canary", GROUP, "OTHER", "30"],
        times: 3,
        holds: |it| it.group["canary"]["percent"] == 30,
        ..PLAIN
    },
    Order {
        before: &["canary", GROUP, "OTHER", "30"],
        words: &["canary", GROUP, "OTHER", "60"],
        holds: |it| it.group["canary"]["percent"] == 60,
        ..PLAIN
    },
    Order {
        before: &["canary", GROUP, "OTHER", "30"],
        words: &["abort", GROUP],
        holds: |it| it.group["canary"].is_null() && !is_live(it),
        ..PLAIN
    },
    Order {
        words: &["canary", GROUP, "OTHER", "--policy", "--wait", "baked"],
        times: 4,
        holds: is_live,
        ..PLAIN
    },
    Order {
        before: &["flip", GROUP, "--confirm-within", "60s"],
        words: &["confirm", GROUP],
        times: 3,
        holds: |it| is_live(it) && confirm_by(&it.group).is_none(),
        ..PLAIN
    },
    Order {
        before: &["flip", GROUP, "--confirm-within", "60s"],
        words: &["extend", GROUP, "5s"],
        holds: |it| is_live(it) && confirm_by(&it.group) > confirm_by(&it.before),
        ..PLAIN
    },
    Order {
        before: &["flip", GROUP, "--confirm-within", "60s"],
        words: &["rollback", GROUP],
        holds: |it| !is_live(it),
        ..PLAIN
    },
    Order {
        words: &["flip", GROUP, "--at", "+400ms"],
        times: 3,
        holds: is_live,
        ..PLAIN
    },
    Order {
        words: &["drill", GROUP, "--for", "300ms"],
        times: 3,
        holds: |it| !is_live(it) && it.newest["kind"] == "rollback" && is_newer(it),
        ends: |it| !is_live(it),
        ..PLAIN
    },
    Order {
        words: &["pause", GROUP, "--for", "20s"],
        holds: |it| it.group["phase"] == "paused" && it.group["paused_until"].is_string(),
        given: Given::Paused,
        ..PLAIN
    },
    Order {
        before: &["pause", GROUP, "--for", "20s"],
        words: &["resume", GROUP],
        holds: |it| it.group["paused_until"].is_null(),
        given: Given::Paused,
        ..PLAIN
    },
    Order {
        words: &["stage", GROUP, "OTHER", "--version", "FRESH"],
        holds: |it| it.group["colours"][it.other]["version"] == it.fresh,
        ..PLAIN
    },
    Order {
        words: &["schema", GROUP, "--applied", "NEXT"],
        holds: |it| it.group["schema"] == it.next,
        ..PLAIN
    },
    Order {
        words: &["freeze", GROUP, "--reason", "test"],
        holds: |it| it.group["frozen"]["reason"] == "test",
        ..PLAIN
    },
    Order {
        before: &["freeze", GROUP, "--reason", "test"],
        words: &["unfreeze", GROUP],
        holds: |it| it.group["frozen"].is_null(),
        ..PLAIN
    },
    Order {
        words: &["gate", GROUP, "qa", "close"],
        holds: |it| it.group["gates"]["qa"]["open"] == false,
        ..PLAIN
    },
    Order {
        words: &["apply"],
        times: 5,
        holds: is_as_the_file_says,
        ends: is_as_the_file_says,
        given: Given::File,
        ..PLAIN
    },
];

/// What takes their connections from clients.
pub(super) const HARD: &[Order] = &[Order {
    before: &["flip", GROUP, "--no-bake"],
    words: &["rollback", GROUP, "--hard"],
    times: 5,
    holds: |it| !is_live(it) && it.group["window"].is_null(),
    ..PLAIN
}];

fn is_live(seen: &Seen) -> bool {
    seen.group["live"] == seen.other
}

/// Whether there was a cut-over since.
fn is_newer(seen: &Seen) -> bool {
    seen.newest["id"] != seen.last["id"]
}

/// Whether a cut-over is a switch that stays.
fn is_kept(cutover: &Value) -> bool {
    cutover["kind"] == "flip" && cutover["result"] != "aborted"
}

fn has_drained(seen: &Seen) -> bool {
    is_live(seen) && seen.group["window"].is_null() && seen.newest["result"] == "succeeded"
}

fn confirm_by(group: &Value) -> Option<jiff::Timestamp> {
    group["cutover"]["confirm_by"].as_str()?.parse().ok()
}

fn is_as_the_file_says(seen: &Seen) -> bool {
    let of_web = |it: &&Value| it["service"] == "web";
    let endpoints = seen.group["colours"][seen.other]["endpoints"].as_array();
    let endpoints = endpoints.into_iter().flatten().filter(of_web);
    endpoints
        .map(|it| &it["weight"])
        .eq(seen.weights.iter().copied())
}
