//! What a configuration changes beside the kernel: durations, checks, limits.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::{Api, Config, Drain, GroupConfig, Health, HealthKind, Hook, Program};
use crate::release::{Bake, FlapBudget, GateRule, Hold};

/// What changes from one configuration to the next, in sentences. Groups that come or go are the
/// planner's to tell.
pub(super) fn differences(from: &Config, to: &Config) -> Vec<String> {
    let mut all = Vec::new();
    say(
        &mut all,
        "agent",
        "flows",
        &from.agent.flows,
        &to.agent.flows,
    );
    let (before, after) = (&from.agent.repair, &to.agent.repair);
    say(&mut all, "agent", "repair", before, after);
    let roles = |it: &Config| {
        let roles = it.agent.roles.as_ref();
        roles.map_or_else(|| "by default".to_owned(), ToString::to_string)
    };
    say(&mut all, "agent", "roles", &roles(from), &roles(to));
    let api = |it: &Config| it.agent.api.as_ref().map(files);
    let (before, after) = (api(from), api(to));
    if let (Some(before), Some(after)) = (before, after) {
        say(&mut all, "agent", "api", &before, &after);
    }
    for (name, to) in &to.groups {
        if let Some(from) = from.groups.get(name) {
            all.extend(of_group(name, from, to));
        }
    }
    all
}

fn files(api: &Api) -> String {
    let Api {
        listen: _,
        cert,
        key,
        client_ca,
    } = api;
    let [cert, key, ca] = [cert, key, client_ca].map(|it| it.display());
    format!("cert {cert}, key {key}, client_ca {ca}")
}

fn of_group(name: &str, from: &GroupConfig, to: &GroupConfig) -> Vec<String> {
    let mut all = Vec::new();
    let group = format!("group {name}");
    let mut changed = |what, from: String, to: String| say(&mut all, &group, what, &from, &to);
    changed("initial", from.initial.clone(), to.initial.clone());
    let confirm = |it: Option<Duration>| it.map_or_else(|| "never".to_owned(), said);
    let before = confirm(from.confirm_within);
    changed("confirm_within", before, confirm(to.confirm_within));
    changed("bake", bake(from.bake), bake(to.bake));
    changed("canary", canary(&from.canary), canary(&to.canary));
    let Drain {
        arm,
        learn,
        deadline,
    } = from.drain;
    changed("drain.arm", said(arm), said(to.drain.arm));
    changed("drain.learn", said(learn), said(to.drain.learn));
    changed("drain.deadline", said(deadline), said(to.drain.deadline));
    let Health {
        kind,
        interval,
        timeout,
        rise,
        fall,
        min_healthy,
    } = &from.health;
    changed("health", check(kind), check(&to.health.kind));
    changed("health.interval", said(*interval), said(to.health.interval));
    changed("health.timeout", said(*timeout), said(to.health.timeout));
    changed("health.rise", rise.to_string(), to.health.rise.to_string());
    changed("health.fall", fall.to_string(), to.health.fall.to_string());
    let to_least = said(to.health.min_healthy);
    changed("health.min_healthy", said(*min_healthy), to_least);
    let after = confirm(from.automatic_after);
    changed("automatic_after", after, confirm(to.automatic_after));
    let before = budget(from.flap_budget);
    changed("flap_budget", before, budget(to.flap_budget));
    let freeze = |it: &Option<String>| it.clone().unwrap_or_else(|| "none".to_owned());
    changed("freeze", freeze(&from.freeze), freeze(&to.freeze));
    let before = hooks(&from.hooks, &to.hooks);
    changed("hooks", before, hooks(&to.hooks, &[]));
    let before = gates(&from.gates);
    changed("gates", before, gates(&to.gates));
    all
}

fn say<T: PartialEq + std::fmt::Display>(
    all: &mut Vec<String>,
    of: &str,
    what: &str,
    from: &T,
    to: &T,
) {
    if from != to {
        all.push(format!("{of}: {what} {from} -> {to}"));
    }
}

fn said(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

fn check(kind: &HealthKind) -> String {
    match kind {
        HealthKind::None => "none".to_owned(),
        HealthKind::Tcp => "tcp".to_owned(),
        HealthKind::Http { path } => format!("http {path}"),
        HealthKind::Exec(check) => format!("exec {}", program(check)),
    }
}

fn program(program: &Program) -> String {
    let words = program.argv.join(" ");
    let user = program.user.as_ref();
    user.map_or_else(|| words.clone(), |user| format!("{words} (as {user})"))
}

fn bake(bake: Option<Bake>) -> String {
    let limits = |it: Bake| {
        let Bake {
            time,
            resets,
            failed,
            sample,
        } = it;
        let time = said(time);
        format!("{time} (resets {resets} %, failed {failed} %, of {sample})")
    };
    bake.map_or_else(|| "none".to_owned(), limits)
}

fn canary(holds: &[Hold]) -> String {
    let one = |hold: &Hold| format!("{} % for {}", hold.percent, said(hold.time));
    match holds {
        [] => "by hand".to_owned(),
        holds => holds.iter().map(one).collect::<Vec<_>>().join(", "),
    }
}

/// By name; those that are others `then` say so.
fn hooks(hooks: &[Hook], then: &[Hook]) -> String {
    let one = |hook: &Hook| {
        let other = then.iter().any(|it| it.name == hook.name && it != hook);
        format!("{}{}", hook.name, if other { " (changed)" } else { "" })
    };
    match hooks.is_empty() {
        true => "none".to_owned(),
        false => hooks.iter().map(one).collect::<Vec<_>>().join(", "),
    }
}

fn budget(budget: Option<FlapBudget>) -> String {
    let said = |it: FlapBudget| format!("{} within {}", it.switches, said(it.within));
    budget.map_or_else(|| "none".to_owned(), said)
}

fn gates(gates: &BTreeMap<String, GateRule>) -> String {
    let one = |(name, rule): (&String, &GateRule)| {
        let default = if rule.open { "open" } else { "closed" };
        let expires = rule.expires.map(|it| format!(" for {}", said(it)));
        format!("{name} ({default}{})", expires.unwrap_or_default())
    };
    match gates.is_empty() {
        true => "none".to_owned(),
        false => gates.iter().map(one).collect::<Vec<_>>().join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::tests::config;

    #[test]
    fn what_changes_is_said_and_what_stays_is_not() {
        let text = config(&[8001], &[8002]);
        let parse = |text: &str| crate::config::parse("test.toml", text.as_bytes()).expect("good");
        let from = parse(&text);
        assert_eq!(
            differences(&from, &parse(&format!("{text}# a comment"))),
            [""; 0]
        );
        let to = text
            .replace("200ms", "300ms")
            .replace("\"none\"", "\"tcp\"");
        let said = differences(&from, &parse(&to));
        assert_eq!(
            said,
            [
                "group shop: drain.learn 200ms -> 300ms",
                "group shop: health none -> tcp"
            ]
        );
    }
}
