//! A draft as a file that explains itself. A comment that begins with a blank is for people; one that does
//! not is a setting that may be switched on.

use std::fmt::Write as _;

use super::draft::{Draft, Steered};
use super::host::Host;
use crate::config::{Forward, XdpMode};

/// The file.
#[must_use]
pub fn render(draft: &Draft, host: &Host) -> String {
    let mut text = String::new();
    // Writing to a string can't fail.
    let _ = write(&mut text, draft, host);
    text
}

fn write(to: &mut String, draft: &Draft, host: &Host) -> std::fmt::Result {
    let Draft {
        interfaces,
        xdp: _,
        group,
        service,
        vip,
        colours,
        preview,
        forward,
        health,
        listen,
    } = draft;
    writeln!(
        to,
        "# Switcher on {}, written by `switcher init` {}.\n\
         # All keys: docs/reference/config.md. After a change: `switcher check`, `plan` and `apply` with this file.\n\n\
         [agent]",
        one_line(&host.name),
        env!("CARGO_PKG_VERSION")
    )?;
    for Steered { name, xdp, why } in interfaces {
        if !why.is_empty() {
            writeln!(to, "# {}: {xdp}; {}", one_line(name), one_line(why))?;
        }
    }
    let listed: Vec<_> = interfaces.iter().map(listed).collect();
    writeln!(to, "interfaces = [{}]", listed.join(", "))?;
    setting(
        to,
        "listen",
        listen.as_deref(),
        "127.0.0.1:9464",
        "metrics and health, to read only",
    )?;
    let (group, is_udp) = (key(group), vip.ends_with("/udp"));
    writeln!(
        to,
        "\n# Services that are switched together.\n[groups.{group}]"
    )?;
    let initial = format!("initial = \"{}\"", colours[0].0);
    line(
        to,
        &initial,
        "live the very first time; afterwards the kernel knows",
    )?;
    if !is_udp {
        line(
            to,
            "#bake = \"5m\"",
            "watch a new colour after a flip; back if it does badly",
        )?;
    }
    let confirm = format!("a flip goes back by itself unless `switcher confirm {group}`");
    line(to, "#confirm_within = \"5m\"", &confirm)?;
    let gate = format!("nobody flips before `switcher gate {group} qa open`");
    line(to, "#gates.qa = { expires = \"8h\" }", &gate)?;
    line(
        to,
        "#flap_budget = { switches = 4, within = \"1h\" }",
        "at most",
    )?;
    writeln!(
        to,
        "\n# When a server counts as well.\n[groups.{group}.health]"
    )?;
    match (health, is_udp) {
        (Some(path), _) => writeln!(to, "kind = \"http\"\npath = {}", string(path))?,
        (None, false) => line(
            to,
            "kind = \"tcp\"",
            "or \"http\" with a `path`, \"exec\" with a program",
        )?,
        (None, true) => line(
            to,
            "kind = \"none\"",
            "or \"exec\": exec = [\"/usr/local/bin/check\"]",
        )?,
    }
    writeln!(
        to,
        "#interval = \"1s\"\n#timeout = \"1s\"\n\n\
         # Connections stay where they began until they end, or until the deadline.\n\
         [groups.{group}.drain]\n#deadline = \"1h\""
    )?;
    let service = key(service);
    writeln!(
        to,
        "\n[groups.{group}.services.{service}]\nvip = {}",
        string(vip)
    )?;
    line(to, &format!("forward = \"{forward}\""), meaning(*forward))?;
    let idle = preview_example(vip);
    setting(
        to,
        "preview",
        preview.as_deref(),
        &idle,
        "always reaches the idle colour",
    )?;
    writeln!(to, "\n[groups.{group}.services.{service}.endpoints]")?;
    for (colour, endpoints) in colours {
        let endpoints: Vec<_> = endpoints.iter().map(|it| string(it)).collect();
        let same = vip.strip_suffix("/tcp").or(vip.strip_suffix("/udp"));
        let servers = format!("{colour} = [{}]", endpoints.join(", "));
        match endpoints.as_slice() {
            [only] if Some(only.trim_matches('"')) == same => {
                line(to, &servers, "the VIP itself: packets pass as they are")?;
            }
            _ => writeln!(to, "{servers}")?,
        }
    }
    Ok(())
}

/// A setting, or what it could be.
fn setting(
    to: &mut String,
    name: &str,
    value: Option<&str>,
    example: &str,
    meaning: &str,
) -> std::fmt::Result {
    let off = if value.is_some() { "" } else { "#" };
    let setting = format!("{off}{name} = {}", string(value.unwrap_or(example)));
    line(to, &setting, meaning)
}

/// A setting, and what it means at one place for all.
fn line(to: &mut String, setting: &str, meaning: &str) -> std::fmt::Result {
    writeln!(to, "{setting:<43} # {meaning}")
}

fn listed(Steered { name, xdp, .. }: &Steered) -> String {
    match xdp {
        XdpMode::Native => string(name),
        _ => format!("{{ name = {}, xdp = \"{xdp}\" }}", string(name)),
    }
}

const fn meaning(forward: Forward) -> &'static str {
    match forward {
        Forward::Auto => "",
        Forward::Local => "servers are on this host, or in containers of it",
        Forward::Routed => "servers' way back leads through this host",
        Forward::Masquerade => "servers see this host as their client",
        Forward::Dsr => "servers on this link have the VIP and answer clients themselves",
        Forward::Ipip => "servers anywhere have the VIP and answer clients themselves",
    }
}

/// A port of the VIP's address that is likely free.
fn preview_example(vip: &str) -> String {
    let at = vip.split('/').next().unwrap_or_default();
    match at.parse::<std::net::SocketAddr>() {
        Ok(mut at) => {
            at.set_port(if at.port() == 19_443 { 19_444 } else { 19_443 });
            at.to_string()
        }
        Err(_) => "203.0.113.10:19443".to_owned(),
    }
}

/// As TOML writes a string.
fn string(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// As TOML writes a key.
fn key(text: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    match !text.is_empty() && text.chars().all(bare) {
        true => text.to_owned(),
        false => string(text),
    }
}

fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}
