//! Every key of a configuration: which there are and what they take is what the reader asked for while it read
//! one with all of them; defaults are tried.

use std::collections::{BTreeMap, BTreeSet};

use super::{cell, head, keep, schema};
use crate::config::learn::{Shape, during};
use crate::config::{self, Config};

/// A configuration that has every key.
const FULL: &str = include_str!("../config/tests/full.toml");

/// What a key is when it is not there.
pub(super) enum Default {
    /// It has to be there, or is nothing.
    None,
    /// As if this were written.
    Is(&'static str),
    /// What can't be written.
    Said(&'static str),
}

use Default::{Is, None as Nothing, Said};

/// A key, its default and its meaning.
type Key = (&'static str, Default, &'static str);

/// In the order of the page.
#[rustfmt::skip]
pub(super) const KEYS: &[Key] = &[
    ("agent.interfaces", Nothing, "interfaces that clients come in by; for `routed` and `masquerade` also those that answers come in by"),
    ("agent.interfaces[]", Nothing, "a name, or a table of name and mode"),
    ("agent.interfaces[].name", Nothing, "the interface"),
    ("agent.interfaces[].xdp", Said("`xdp` under `[agent]`"), "where its packets are met"),
    ("agent.xdp", Is("\"native\""), "where packets are met, for interfaces that don't say; never changed by itself"),
    ("agent.socket", Is("\"/run/switcher/switcher.sock\""), "where commands reach the agent"),
    ("agent.state_dir", Is("\"/var/lib/switcher\""), "history, audit, releases, gates"),
    ("agent.bpffs", Is("\"/sys/fs/bpf/switcher\""), "where programs and maps are pinned"),
    ("agent.flows", Is("1048576"), "connections that a group's window can remember"),
    ("agent.listen", Nothing, "where metrics and health can be read, by everybody; nowhere if not set"),
    ("agent.page", Is("false"), "a page with all of it is served there, too, to look at; it needs `listen`"),
    ("agent.log", Said("`journald` where standard error is systemd's journal, else `human`"), "how the log looks"),
    ("agent.traces", Nothing, "where traces of cut-overs go: a collector for OpenTelemetry"),
    ("agent.local_clients", Is("true"), "clients on this host are steered, too"),
    ("agent.repair", Is("true"), "what somebody else has changed is repaired, three times an hour at most"),
    ("agent.cgroup", Said("the root of the hierarchy"), "the cgroup (version 2) whose processes are steered as clients of this host"),
    ("agent.masquerade.addresses", Said("what this host would use"), "this host's addresses towards endpoints"),
    ("agent.masquerade.addresses[]", Nothing, "one of them"),
    ("agent.masquerade.ports", Is("\"16384-32767\""), "ports of each address, for each endpoint; keep them apart from `ip_local_port_range`"),
    ("agent.masquerade.flows", Is("262144"), "connections and UDP flows that can be remembered; takes effect when nothing is pinned"),
    ("agent.masquerade.established", Is("\"2h\""), "silence that ends a TCP connection"),
    ("agent.masquerade.opening", Is("\"30s\""), "silence that ends an attempt at one"),
    ("agent.masquerade.closing", Is("\"30s\""), "silence that ends one that was closed or reset; a second or two where no other port is free"),
    ("agent.masquerade.udp", Is("\"60s\""), "silence that ends a UDP flow"),
    ("agent.api.listen", Nothing, "where the whole API is served, by mutual TLS only; TCP serves none of it if there is no `[agent.api]`"),
    ("agent.api.cert", Nothing, "the agent's certificate, with what leads to its authority (PEM)"),
    ("agent.api.key", Nothing, "its key (PEM)"),
    ("agent.api.client_ca", Nothing, "who vouches for clients (PEM)"),
    ("agent.roles.viewer", Nothing, "who looks: `uid:`, `gid:` of this host, `cert:` with a certificate's name"),
    ("agent.roles.viewer[]", Nothing, "one of them"),
    ("agent.roles.operator", Nothing, "who also flips, rolls back, opens gates"),
    ("agent.roles.operator[]", Nothing, "one of them"),
    ("agent.roles.admin", Nothing, "who also applies, forces, closes the rollback; root and the agent's user always are"),
    ("agent.roles.admin[]", Nothing, "one of them"),
    ("groups.NAME", Nothing, "services that are switched together, always"),
    ("groups.NAME.initial", Nothing, "the colour that is live the very first time"),
    ("groups.NAME.colours", Said("those that have endpoints"), "the group's colours, up to eight"),
    ("groups.NAME.colours[]", Nothing, "one of them"),
    ("groups.NAME.confirm_within", Nothing, "a flip goes back by itself after so long unless it is confirmed"),
    ("groups.NAME.freeze", Nothing, "why nobody flips, as long as it says so"),
    ("groups.NAME.bake", Nothing, "for how long a new colour is watched, alone or with limits; it goes back if it does badly"),
    ("groups.NAME.bake.for", Nothing, "for how long"),
    ("groups.NAME.bake.resets", Is("10"), "of a hundred connections more than so many above what was usual are reset: badly"),
    ("groups.NAME.bake.failed", Is("10"), "the same for SYNs that are not answered"),
    ("groups.NAME.bake.sample", Is("50"), "connections below which nothing is judged"),
    ("groups.NAME.canary.steps", Nothing, "shares that `canary --policy` gives, one after the other"),
    ("groups.NAME.canary.steps[]", Nothing, "one of them"),
    ("groups.NAME.canary.steps[].percent", Nothing, "the share of new connections; each larger than the one before"),
    ("groups.NAME.canary.steps[].hold", Nothing, "for how long"),
    ("groups.NAME.gates.NAME", Nothing, "a manual gate; an opened one is good for one switch"),
    ("groups.NAME.gates.NAME.default", Is("\"closed\""), "what it is while nobody has decided"),
    ("groups.NAME.gates.NAME.expires", Said("with the next switch"), "how long a decision holds"),
    ("groups.NAME.flap_budget", Said("any number"), "how often the live colour may change"),
    ("groups.NAME.flap_budget.switches", Nothing, "so many times"),
    ("groups.NAME.flap_budget.within", Nothing, "in so long"),
    ("groups.NAME.automatic_after", Said("never"), "a staged release goes live by itself when its checks have passed for so long"),
    ("groups.NAME.services", Nothing, "the group's services"),
    ("groups.NAME.drain.arm", Is("\"3s\""), "before a switch: how long SYNs are noted, where that is needed"),
    ("groups.NAME.drain.learn", Is("\"2m\""), "after it: how long flows without a note count as old ones"),
    ("groups.NAME.drain.deadline", Is("\"1h\""), "connections that are left on the old colour then are reset"),
    ("groups.NAME.health.kind", Said("`tcp`; `none` where every service is UDP"), "what is asked of an endpoint"),
    ("groups.NAME.health.path", Said("`/`"), "for `http`: what to GET; 2xx and 3xx are well"),
    ("groups.NAME.health.exec", Nothing, "for `exec`: a program by its absolute path and its arguments; 0 is well"),
    ("groups.NAME.health.exec[]", Nothing, "the program, then its arguments"),
    ("groups.NAME.health.user", Said("the agent's user"), "for `exec`: whom it runs as"),
    ("groups.NAME.health.interval", Is("\"1s\""), "from the start of one check to that of the next"),
    ("groups.NAME.health.timeout", Is("\"1s\""), "a check that takes longer has failed"),
    ("groups.NAME.health.rise", Is("2"), "passed checks in a row that make an endpoint healthy"),
    ("groups.NAME.health.fall", Is("3"), "failed checks in a row that make it unhealthy"),
    ("groups.NAME.health.min_healthy", Is("\"0s\""), "how long endpoints have to have been healthy before a flip"),
    ("groups.NAME.hooks", Nothing, "what is called, in this order: `[[groups.NAME.hooks]]`"),
    ("groups.NAME.hooks[]", Nothing, "a program or a receiver of requests"),
    ("groups.NAME.hooks[].name", Said("its place in the list"), "what it is called in `show` and in logs"),
    ("groups.NAME.hooks[].on", Nothing, "when; the words from `confirm-rollout` on are Flagger's, for its format"),
    ("groups.NAME.hooks[].exec", Nothing, "a program by its absolute path and its arguments; or `url`"),
    ("groups.NAME.hooks[].exec[]", Nothing, "the program, then its arguments"),
    ("groups.NAME.hooks[].user", Said("the agent's user"), "whom the program runs as"),
    ("groups.NAME.hooks[].url", Nothing, "a receiver of POSTs; or `exec`"),
    ("groups.NAME.hooks[].format", Is("\"plain\""), "what requests say"),
    ("groups.NAME.hooks[].secret_file", Nothing, "the key that requests are signed with"),
    ("groups.NAME.hooks[].ca_file", Said("the system's choice"), "whose certificates count"),
    ("groups.NAME.hooks[].metadata", Nothing, "for `flagger`: words that are sent along"),
    ("groups.NAME.hooks[].metadata.WORD", Nothing, "one of them"),
    ("groups.NAME.hooks[].timeout", Is("\"30s\""), "of each attempt"),
    ("groups.NAME.hooks[].retries", Is("0"), "how often it is called again when it has failed"),
    ("groups.NAME.hooks[].on_failure", Is("\"abort\""), "whether its failure calls the flip off, or undoes it"),
    ("groups.NAME.services.NAME", Nothing, "an address, port and protocol that clients use"),
    ("groups.NAME.services.NAME.vip", Nothing, "what clients connect to"),
    ("groups.NAME.services.NAME.forward", Is("\"auto\""), "how packets get to endpoints; `auto` is `local` where all are this host's addresses, else `masquerade`"),
    ("groups.NAME.services.NAME.hash", Is("\"flow\""), "what a client's endpoint follows from: its address and port, or its address alone"),
    ("groups.NAME.services.NAME.tunnel_source", Said("this host's address on the way"), "for `ipip`: where outer headers say to come from, by flow"),
    ("groups.NAME.services.NAME.udp", Is("\"flow\""), "for UDP: which datagrams stay together"),
    ("groups.NAME.services.NAME.preview", Nothing, "an address that always reaches the idle colour"),
    ("groups.NAME.services.NAME.endpoints", Nothing, "servers by colour"),
    ("groups.NAME.services.NAME.endpoints.COLOUR", Nothing, "a colour's servers"),
    ("groups.NAME.services.NAME.endpoints.COLOUR[]", Nothing, "an address, or a table of address and weight"),
    ("groups.NAME.services.NAME.endpoints.COLOUR[].address", Nothing, "where it listens; the VIP itself: packets pass as they are"),
    ("groups.NAME.services.NAME.endpoints.COLOUR[].weight", Is("1"), "its share of new connections, relative to the others of its colour"),
];

#[test]
fn the_page_of_keys_and_the_schema_are_up_to_date() {
    let seen = seen();
    let known: BTreeSet<&str> = KEYS.iter().map(|(key, ..)| *key).collect();
    let tables = |key: &&str| !is_plain_table(&seen[*key]);
    let asked: BTreeSet<&str> = seen.keys().map(String::as_str).filter(tables).collect();
    let where_to = "a key needs its line in KEYS (switcher-userspace/src/reference/config.rs), and a place in \
                    config/tests/full.toml; then `cargo xtask docs`";
    let missing: Vec<_> = asked.difference(&known).collect();
    assert!(missing.is_empty(), "{missing:?} have no line: {where_to}");
    let gone: Vec<_> = known.iter().filter(|it| !seen.contains_key(**it)).collect();
    assert!(gone.is_empty(), "nobody asks for {gone:?}: {where_to}");
    for (key, shapes) in &seen {
        let has_value = shapes
            .iter()
            .any(|it| !matches!(it, Shape::Asked | Shape::Required));
        assert!(has_value, "config/tests/full.toml has no {key}: {where_to}");
    }
    keep("config.md", &page(&seen));
    let schema = schema::of(&seen);
    let text = serde_json::to_string_pretty(&schema).expect("is JSON") + "\n";
    keep("config.schema.json", &text);
}

/// What was asked for while the full configuration was read.
pub(super) fn seen() -> BTreeMap<String, Vec<Shape>> {
    during(|| {
        config::parse("full.toml", FULL.as_bytes()).expect("it is valid");
        // A duration alone.
        let bake = FULL.replace(
            "bake = { for = \"5m\", resets = 7, failed = 3, sample = 20 }",
            "bake = \"5m\"",
        );
        assert_ne!(bake, FULL);
        config::parse("full.toml", bake.as_bytes()).expect("it is valid");
    })
}

/// A section that says nothing itself: its keys have their lines.
fn is_plain_table(shapes: &[Shape]) -> bool {
    let says = |it: &Shape| !matches!(it, Shape::Asked | Shape::Required | Shape::Table);
    !shapes.iter().any(says)
}

fn page(seen: &BTreeMap<String, Vec<Shape>>) -> String {
    let mut text = head(
        "Configuration",
        "Every key of the file, in TOML. A key that is not here is an error. `NAME`, `COLOUR` and `WORD` are names of \
         your choice: a-z, 0-9, `-`, `_` and `.`, 31 at most. Durations are a number with its unit: `300ms`, `5s`, `2m`, \
         `1h`. Editors understand [the schema](config.schema.json): `#:schema config.schema.json` in the first line.",
    );
    let mut section = "";
    for (key, default, meaning) in KEYS {
        let shapes = &seen[*key];
        let (of, _) = key.split_at(section_end(key));
        if of != section {
            section = of;
            text += &format!("\n## {}\n\n", heading(section));
            text += "| key | value | default | meaning |\n|---|---|---|---|\n";
        }
        // Items of lists of strings say nothing that their list does not.
        if key.ends_with("[]") && shapes.iter().all(|it| !matches!(it, Shape::Table)) {
            continue;
        }
        let required = shapes.contains(&Shape::Required);
        let default = match default {
            _ if required => "required".to_owned(),
            Nothing => String::new(),
            Is(value) => format!("`{value}`"),
            Said(said) => (*said).to_owned(),
        };
        let name = key
            .get(section.len()..)
            .unwrap_or(key)
            .trim_start_matches('.');
        let name = if name.is_empty() { key } else { name };
        text += &format!(
            "| `{name}` | {} | {default} | {} |\n",
            cell(&takes(shapes)),
            cell(meaning)
        );
    }
    text
}

/// Where the section's name ends in a key.
fn section_end(key: &str) -> usize {
    let sections = [
        "agent.masquerade",
        "agent.api",
        "agent.roles",
        "agent",
        "groups.NAME.drain",
        "groups.NAME.health",
        "groups.NAME.hooks",
        "groups.NAME.services.NAME",
        "groups.NAME.services",
        "groups.NAME",
    ];
    let found = sections.iter().find(|it| key.starts_with(**it));
    found.map_or(0, |it| it.trim_end_matches(".services").len())
}

fn heading(section: &str) -> String {
    match section {
        "groups.NAME.hooks" => format!("[[{section}]]"),
        section => format!("[{section}]"),
    }
}

/// What may be written.
fn takes(shapes: &[Shape]) -> String {
    let mut said = Vec::new();
    let words = shapes.iter().any(|it| matches!(it, Shape::Words(_)));
    for shape in shapes {
        match shape {
            Shape::Asked | Shape::Required | Shape::Named => {}
            Shape::Words(words) => {
                let words: Vec<_> = words.iter().map(|it| format!("`{it}`")).collect();
                said.push(words.join(", "));
            }
            Shape::Range(from, to) => said.push(format!("{from} to {to}")),
            Shape::Truth => said.push("`true`, `false`".to_owned()),
            Shape::Text(_) if words => {}
            Shape::Text(advice) if advice.contains("300ms") => said.push("duration".to_owned()),
            Shape::Text(advice) => said.push(match advice.strip_prefix("write ") {
                Some(how) if how.len() < 60 => format!("string: {how}"),
                _ => "string".to_owned(),
            }),
            Shape::List => said.push("list".to_owned()),
            Shape::Table => said.push("table".to_owned()),
        }
    }
    said.dedup();
    said.join(" or ")
}

/// A default that is written changes nothing.
#[test]
fn defaults_are_as_the_page_says() {
    for (key, default, _) in KEYS {
        let Is(value) = default else { continue };
        let (plain, written) = (with(key, None), with(key, Some(value)));
        let mean = |text: &str| match config::parse("a.toml", text.as_bytes()) {
            Ok(config) => Config {
                digest: String::new(),
                ..config
            },
            Err(errors) => panic!("{key}: {errors}\n{text}"),
        };
        assert_eq!(
            mean(&plain),
            mean(&written),
            "{key} = {value} is not its default"
        );
        let other = with(key, Some(other(value)));
        if let Ok(other) = config::parse("a.toml", other.as_bytes()) {
            let other = Config {
                digest: String::new(),
                ..other
            };
            assert_ne!(
                mean(&plain),
                other,
                "{key} changes nothing:\n{}",
                with(key, Some(value))
            );
        }
    }
}

/// Some value that is not this one.
fn other(value: &str) -> &'static str {
    match value {
        "true" => "false",
        text if text.starts_with("\"/") => "\"/elsewhere\"",
        text if text.ends_with("s\"") || text.ends_with("h\"") || text.ends_with("m\"") => {
            "\"77s\""
        }
        "\"closed\"" => "\"open\"",
        "\"abort\"" => "\"ignore\"",
        "\"native\"" => "\"tc\"",
        "\"auto\"" => "\"dsr\"",
        "\"plain\"" => "\"cloudevents\"",
        "\"16384-32767\"" => "\"100-200\"",
        number if number.parse::<u64>().is_ok() => "7",
        _ => "\"source\"",
    }
}

/// A small configuration, with a key as it is said.
fn with(key: &str, value: Option<&str>) -> String {
    let given = |name: &str| match value {
        Some(value) if key.ends_with(name) => format!(", {} = {value}", last(key)),
        _ => String::new(),
    };
    let line = |path: &str| match value {
        Some(value) => format!("{path} = {value}\n"),
        None => String::new(),
    };
    let base = "agent.interfaces = [\"eth0\"]\ngroups.g.initial = \"blue\"\n\
                groups.g.services.s.endpoints.green = [\"192.0.2.2:1\"]\n";
    let protocol = if key.ends_with(".udp") && key.contains("services") {
        "udp"
    } else {
        "tcp"
    };
    let mut text = format!("{base}groups.g.services.s.vip = \"192.0.2.1:1/{protocol}\"\n");
    text += &match key.split_once("COLOUR[]") {
        Some(_) => format!(
            "groups.g.services.s.endpoints.blue = [{{ address = \"192.0.2.3:1\"{} }}]\n",
            given("weight")
        ),
        None => "groups.g.services.s.endpoints.blue = [\"192.0.2.3:1\"]\n".to_owned(),
    };
    text + &match key {
        key if key.contains("hooks[]") && key.ends_with("format") => {
            format!(
                "groups.g.hooks = [{{ on = \"stage\", url = \"http://192.0.2.9/\"{} }}]\n",
                given("format")
            )
        }
        key if key.contains("hooks[]") => {
            format!(
                "groups.g.hooks = [{{ on = \"pre-flip\", exec = [\"/bin/true\"]{} }}]\n",
                given(last(key))
            )
        }
        key if key.contains("bake.") => {
            format!("groups.g.bake = {{ for = \"5m\"{} }}\n", given(last(key)))
        }
        key if key.contains("gates") => {
            format!(
                "groups.g.gates.qa = {{ expires = \"1h\"{} }}\n",
                given("default")
            )
        }
        key if key.contains("weight") => String::new(),
        key => line(&key.replacen("NAME", "g", 1).replacen("NAME", "s", 1)),
    }
}

fn last(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}
