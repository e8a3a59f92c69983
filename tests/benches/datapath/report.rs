//! The figures, for people and for machines.

use std::fmt;

use serde_json::{Value, json};

/// Everything that was measured, in order.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Nanoseconds for one repetition of the empty program.
    pub(crate) empty: f64,
    /// What packets cost.
    pub(crate) packets: Vec<Packet>,
    /// Everything else.
    pub(crate) figures: Vec<Figure>,
}

/// What one kind of packet costs.
#[derive(Debug)]
pub(crate) struct Packet {
    pub(crate) name: &'static str,
    pub(crate) one: Cost,
    pub(crate) many: Cost,
    /// Most times the empty program's total, with one flow.
    pub(crate) goal: Option<f64>,
    /// Most times the cost of one flow, with many.
    pub(crate) goal_many: Option<f64>,
}

/// Nanoseconds for one packet: all of it, and times the empty program's total.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    pub(crate) total: f64,
    pub(crate) ratio: f64,
}

/// A figure with a unit.
#[derive(Debug)]
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    pub(crate) goal: Option<f64>,
}

impl Report {
    pub(crate) fn figure(
        &mut self,
        name: &'static str,
        value: f64,
        unit: &'static str,
        goal: Option<f64>,
    ) {
        self.figures.push(Figure {
            name,
            value,
            unit,
            goal,
        });
    }

    pub(crate) fn json(&self) -> Value {
        let packets = self.packets.iter().map(|packet| {
            json!({
                "name": packet.name,
                "one_flow_ns": packet.one.total,
                "one_flow_ratio": packet.one.ratio,
                "million_flows_ns": packet.many.total,
                "million_flows_ratio": packet.many.ratio,
                "goal_ratio": packet.goal,
                "goal_million_to_one": packet.goal_many,
            })
        });
        let figures = self.figures.iter().map(|figure| {
            json!({
                "name": figure.name,
                "value": figure.value,
                "unit": figure.unit,
                "goal": figure.goal,
            })
        });
        json!({
            "empty_ns": self.empty,
            "packets": packets.collect::<Vec<_>>(),
            "figures": figures.collect::<Vec<_>>(),
        })
    }
}

impl Report {
    fn figures(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.figures
            .iter()
            .try_for_each(|figure| writeln!(f, "{figure}"))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.packets.is_empty() {
            return self.figures(f);
        }
        writeln!(
            f,
            "ns per packet; x is the total over the empty program's\n"
        )?;
        writeln!(
            f,
            "{:<34}{:>9}{:>7}{:>7}{:>12}{:>7}{:>8}{:>7}",
            "", "1 flow", "x", "goal", "1 M flows", "x", "1M/1", "goal"
        )?;
        writeln!(f, "{:<34}{:>9.1}{:>7.2}", "empty program", self.empty, 1.0)?;
        for packet in &self.packets {
            writeln!(f, "{packet}")?;
        }
        writeln!(f)?;
        self.figures(f)
    }
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            one,
            many,
            goal,
            goal_many,
        } = self;
        let spread = many.total / one.total;
        write!(
            f,
            "{name:<34}{:>9.1}{:>7.2}{:>7}{:>12.1}{:>7.2}{spread:>8.2}{:>7}{}",
            one.total,
            one.ratio,
            limit(*goal),
            many.total,
            many.ratio,
            limit(*goal_many),
            verdict(&[(one.ratio, *goal), (spread, *goal_many)]),
        )
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            value,
            unit,
            goal,
        } = self;
        let goal_text = goal
            .map(|goal| format!("(goal {goal})"))
            .unwrap_or_default();
        let verdict = verdict(&[(*value, *goal)]);
        write!(f, "{name:<50}{value:>12.2} {unit:<5} {goal_text}{verdict}")
    }
}

fn limit(goal: Option<f64>) -> String {
    goal.map(|goal| format!("{goal:.1}")).unwrap_or_default()
}

fn verdict(pairs: &[(f64, Option<f64>)]) -> &'static str {
    let mut goals = pairs
        .iter()
        .filter_map(|(value, goal)| Some((value, (*goal)?)));
    match (
        goals.clone().next(),
        goals.all(|(value, goal)| *value <= goal),
    ) {
        (None, _) => "",
        (Some(_), true) => "  ok",
        (Some(_), false) => "  MISSED",
    }
}
