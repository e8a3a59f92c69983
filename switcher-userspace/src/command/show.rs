//! `switcher show ID`.

use jiff::Timestamp;

use super::change::micros_said;
use super::history::result;
use crate::cli::Globals;
use crate::client::{Client, converse, encode};
use crate::exit::{Exit, Failure};
use crate::journal::{
    BakeRecord, Called, ColourTraffic, CutoverRecord, DrillRecord, DrillVerdict, HookRecord, Loss,
    Totals, TrafficRecord,
};
use crate::output::{Cell, Output, Tint, human_count, table};
use crate::release::Verdict;

pub(super) fn run(globals: &Globals, output: &Output, id: &str) -> Result<Exit, Failure> {
    let path = format!("/v1/cutovers/{}", encode(id));
    let record: CutoverRecord = converse(Client::new(globals)?.get(&path))?;
    output.print(&record, |output| describe(output, &record))?;
    Ok(Exit::Done)
}

pub(super) fn describe(output: &Output, record: &CutoverRecord) -> String {
    let settled = record
        .store_to_settled_us
        .map(|it| format!(", {} after the store", micros_said(it)));
    let how = match (record.hard, record.forced) {
        (true, _) => ", hard: existing connections were moved",
        (_, true) => ", forced: health was not asked",
        (false, false) => "",
    };
    let share = record
        .percent
        .map_or_else(String::new, |it| format!(" {it} %"));
    let mut rows = vec![
        ("cut-over", record.id.clone().into()),
        ("group", record.group.clone().into()),
        ("kind", format!("{}{share}{how}", record.kind.name()).into()),
        ("from", Cell::new(record.from.clone(), Tint::Colour)),
        ("to", Cell::new(record.to.clone(), Tint::Colour)),
        ("result", result(record.result)),
        ("by", record.actor.clone().into()),
        (
            "reason",
            record
                .reason
                .clone()
                .unwrap_or_else(|| "-".to_owned())
                .into(),
        ),
        ("started", time(Some(record.started)).into()),
        ("stored", time(record.stored).into()),
        (
            "settled",
            format!("{}{}", time(record.settled), settled.unwrap_or_default()).into(),
        ),
        ("ended", time(record.ended).into()),
    ];
    let terms = [
        ("set for", record.at),
        ("confirm by", record.confirm_by),
        ("confirmed", record.confirmed),
    ];
    rows.extend(
        terms
            .into_iter()
            .filter_map(|(name, at)| Some((name, time(Some(at?)).into()))),
    );
    rows.extend(receipt(record));
    if record.leftovers > 0 {
        let left = match record.leftovers {
            1 => "1 connection was left at the deadline".to_owned(),
            left => format!("{left} connections were left at the deadline"),
        };
        rows.push(("leftovers", Cell::new(left, Tint::Warning)));
    }
    let rows = rows
        .into_iter()
        .map(|(name, cell)| vec![Cell::new(name, Tint::Faint), cell]);
    let text = table(output, &["", ""], rows);
    // The header is empty.
    text.split_once('\n')
        .map_or(text.clone(), |(_, rest)| rest.to_owned())
}

/// To the microsecond.
fn time(time: Option<Timestamp>) -> String {
    time.map_or_else(|| "-".to_owned(), |it| format!("{it:.6}"))
}

/// What else there is to know.
fn receipt(record: &CutoverRecord) -> Vec<(&'static str, Cell)> {
    let receipt = &record.receipt;
    let mut rows = Vec::new();
    if let (Some(before), Some(after)) = (&receipt.word_before, &receipt.word_after) {
        rows.push(("word", format!("{before} -> {after}").into()));
    }
    let trace = receipt.trace_id.iter();
    rows.extend(trace.map(|id| ("trace", id.clone().into())));
    let times = [
        ("drained", receipt.drained),
        ("first packet", receipt.first_packet_at),
        ("last to old", receipt.last_packet_to_old_at),
    ];
    let times = times.into_iter();
    rows.extend(times.filter_map(|(name, at)| Some((name, time(Some(at?)).into()))));
    rows.extend(receipt.gates.iter().map(|gate| {
        let (skipped, tint) = match gate.passed {
            true => ("", Tint::Plain),
            false => ("skipped: ", Tint::Warning),
        };
        let text = format!("{}: {skipped}{}", gate.what, gate.why);
        ("gate", Cell::new(text, tint))
    }));
    rows.extend(record.hooks.iter().map(|hook| ("hook", called(hook))));
    rows.extend(receipt.bake.iter().flat_map(watched));
    rows.extend(receipt.drill.iter().flat_map(drilled));
    // What is not over has no traffic yet.
    let over = receipt.traffic.iter().filter(|_| record.ended.is_some());
    rows.extend(over.map(|(colour, traffic)| ("traffic", so_much(colour, traffic).into())));
    rows
}

/// How a drill came out, and what it cost.
fn drilled(drill: &DrillRecord) -> Vec<(&'static str, Cell)> {
    let time = humantime::format_duration(std::time::Duration::from_millis(drill.for_ms));
    let tint = match drill.verdict {
        DrillVerdict::Passed => Tint::Good,
        DrillVerdict::UnderWay | DrillVerdict::Kept => Tint::Warning,
        DrillVerdict::Failed => Tint::Bad,
    };
    let interrupted = if drill.interrupted {
        ", the agent was started anew meanwhile"
    } else {
        ""
    };
    let text = format!("{time}: {}{interrupted}", drill.verdict.name());
    let Loss {
        connections,
        resets,
        failed,
        dropped,
    } = &drill.lost;
    let dropped: u64 = dropped.values().sum();
    let lost = format!(
        "{dropped} packets dropped, {resets} resets, {failed} handshakes not answered; {connections} \
         connections begun"
    );
    let mut rows = vec![("drill", Cell::new(text, tint)), ("  lost", lost.into())];
    let why = drill.why.iter();
    rows.extend(why.map(|why| ("  why", Cell::new(why.clone(), Tint::Bad))));
    rows
}

/// `pre-flip smoke-test: passed in 1s 200ms`
fn called(hook: &HookRecord) -> Cell {
    let HookRecord { name, moment, .. } = hook;
    let (how, tint) = match hook.outcome {
        None => ("running", Tint::Plain),
        Some(Called::Passed) => ("passed", Tint::Good),
        Some(Called::Failed) => ("failed", Tint::Bad),
        Some(Called::Stopped) => ("stopped", Tint::Warning),
        Some(Called::Interrupted) => ("interrupted", Tint::Warning),
    };
    let took = hook.ended.map(|ended| ended.duration_since(hook.started));
    let took = took.and_then(|it| u64::try_from(it.as_millis()).ok());
    let took = took.map(|millis| {
        let took = std::time::Duration::from_millis(millis);
        format!(" in {}", humantime::format_duration(took))
    });
    let attempts = match hook.attempts {
        0 | 1 => String::new(),
        more => format!(", {more} attempts"),
    };
    let why = hook.why.iter().map(|why| format!(": {why}"));
    let text = format!(
        "{moment} {name}: {how}{}{attempts}{}",
        took.unwrap_or_default(),
        why.collect::<String>()
    );
    Cell::new(text, tint)
}

fn so_much(colour: &str, traffic: &ColourTraffic) -> String {
    let ColourTraffic { before, after } = traffic;
    let more = |of: fn(&Totals) -> u64| human_count(of(after).saturating_sub(of(before)));
    format!(
        "{colour}: {} packets, {} connections, {} resets meanwhile; {} packets before",
        more(|it| it.packets),
        more(|it| it.connections),
        more(|it| it.resets),
        human_count(before.packets)
    )
}

/// How the new colour was watched, and what was seen.
fn watched(bake: &BakeRecord) -> Vec<(&'static str, Cell)> {
    let time = humantime::format_duration(std::time::Duration::from_millis(bake.for_ms));
    let tint = match bake.verdict {
        Verdict::Passed => Tint::Good,
        Verdict::Watching | Verdict::Ended => Tint::Plain,
        Verdict::RolledBack | Verdict::Degraded => Tint::Bad,
    };
    let traffic = |of: &TrafficRecord| {
        let TrafficRecord {
            connections,
            resets,
            failed,
        } = of;
        format!("{connections} connections, {resets} resets, {failed} not answered")
    };
    let mut rows = vec![
        (
            "watched",
            Cell::new(format!("{time}: {}", bake.verdict.name()), tint),
        ),
        ("  before", traffic(&bake.before).into()),
        ("  since", traffic(&bake.seen).into()),
    ];
    let why = bake.why.iter();
    rows.extend(why.map(|why| ("  why", Cell::new(why.clone(), Tint::Bad))));
    rows
}
