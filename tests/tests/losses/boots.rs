//! The host boots in the middle of something: pins are gone, the record is there. What was under way is over, and is
//! told how it came out.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use switcher_harness::agent::binary;
use switcher_harness::config::GROUP;
use switcher_harness::load::Connection;
use switcher_harness::{Mode, Stand};

use super::{boot, other, reached, settings, until};

/// Something that is under way when the host goes down.
struct Midst {
    /// Begins it.
    words: &'static [&'static str],
    /// The moment whose hook does not end.
    hook: Option<&'static str>,
    /// What `status` calls it.
    phase: &'static str,
    /// The colour that is live afterwards.
    live: &'static str,
    /// What kinds of cut-overs there were and how they came out, the newest first; [`ANYHOW`] is not asked.
    history: &'static [(&'static str, &'static str)],
}

const ANYHOW: &str = "";

const PLAIN: Midst = Midst {
    words: &["flip", GROUP],
    hook: None,
    phase: "",
    live: "blue",
    history: &[],
};

const MIDSTS: &[Midst] = &[
    // Nobody has confirmed it, and nobody could know of whether it does well.
    Midst {
        words: &["flip", GROUP, "--confirm-within", "10m", "--no-bake"],
        phase: "confirming",
        history: &[("rollback", "succeeded"), ("flip", "rolled-back")],
        ..PLAIN
    },
    Midst {
        words: &["flip", GROUP, "--no-bake"],
        phase: "draining",
        live: "green",
        history: &[("flip", "succeeded")],
        ..PLAIN
    },
    // Its table was the kernel's, and only there.
    Midst {
        words: &["canary", GROUP, "green", "30"],
        phase: "holding",
        history: &[("canary", "rolled-back")],
        ..PLAIN
    },
    Midst {
        words: &["flip", GROUP, "--at", "+10m", "--wait", "scheduled"],
        phase: "preparing",
        history: &[("flip", "aborted")],
        ..PLAIN
    },
    Midst {
        phase: "baking",
        live: "green",
        history: &[("flip", "succeeded")],
        ..PLAIN
    },
    Midst {
        words: &["pause", GROUP, "--for", "10m"],
        phase: "paused",
        ..PLAIN
    },
    Midst {
        hook: Some("pre-flip"),
        phase: "preparing",
        history: &[("flip", "aborted")],
        ..PLAIN
    },
    Midst {
        hook: Some("post-flip"),
        phase: "baking",
        live: "green",
        history: &[("flip", "succeeded")],
        ..PLAIN
    },
];

/// Each on a host of its own.
pub(super) fn a_boot_in_the_middle_of_something_ends_it() -> Result<()> {
    for midst in MIDSTS {
        booted(midst)
            .with_context(|| format!("{} while {}", midst.words.join(" "), midst.phase))?;
    }
    Ok(())
}

fn booted(midst: &Midst) -> Result<()> {
    let mut stand = stand(midst.hook)?;
    let web = stand.topology.web();
    let mut kept = stand.topology.client.inside(|| Connection::open(web))??;
    kept.colour()?;
    let order = stand.agent.cli_in_background(midst.words);
    match midst.hook {
        Some(_) => until("the hook runs", || Ok(begun(&stand).exists()))?,
        None => until("it is ordered", || Ok(order.is_finished()))?,
    }
    stand.until(|group| group["phase"] == midst.phase)?;
    boot(&mut stand)?;
    let ordered = order.join().map_err(|_| anyhow::anyhow!("it panicked"))??;
    ordered.expect(if midst.hook.is_some() { 9 } else { 0 })?;

    stand.until(|group| group["phase"] == "idle")?;
    let group = stand.agent.status()?;
    ensure!(group["live"] == midst.live, "{group:#}");
    for over in ["canary", "cutover", "paused_until", "window"] {
        ensure!(group[over].is_null(), "{over}: {group:#}");
    }
    ensure!(group["degraded"] == json!([]), "{group:#}");
    reached(&stand, midst.live)?;
    let history = stand.agent.json(&["history", GROUP])?;
    ensure!(came_out(&history, midst.history), "{history:#}");
    stand.agent.cli(&["audit", "verify"])?.expect(0)?;
    if midst.phase == "paused" {
        tells_of_the_pause(&mut stand)?;
    }
    stand.agent.cli(&["drift"])?.expect(0)?;

    // Nothing of it is in the way of what comes next.
    fs::remove_file(held(&stand))?;
    let next = other(midst.live);
    let healthy = format!("healthy={next}");
    let healthy = ["wait", GROUP, "--for", &healthy, "--timeout", "20s"];
    stand.agent.cli(&healthy)?.expect(0)?;
    stand.agent.cli(&["flip", GROUP, next])?.expect(0)?;
    reached(&stand, next)
}

fn came_out(history: &Value, expected: &[(&str, &str)]) -> bool {
    let cutovers = history.as_array().into_iter().flatten();
    let found: Vec<_> = cutovers
        .filter_map(|it| it["kind"].as_str().zip(it["result"].as_str()))
        .collect();
    let is_so = |((kind, result), (its_kind, its_result)): (&(&str, &str), &(&str, &str))| {
        kind == its_kind && (result == its_result || *its_result == ANYHOW)
    };
    found.len() == expected.len() && found.iter().zip(expected).all(is_so)
}

/// Once, however often the agent starts: nobody else could have said that connections are let in before their time.
fn tells_of_the_pause(stand: &mut Stand) -> Result<()> {
    stand.agent.kill()?;
    stand.agent.start()?;
    let log = stand.agent.log();
    ensure!(log.matches("the pause is over").count() == 1, "{log}");
    let audit = stand.agent.json(&["audit", "--group", GROUP])?;
    let records = audit.as_array().into_iter().flatten();
    let told: Vec<_> = records
        .filter(|it| it["what"] == format!("end the pause of {GROUP}"))
        .collect();
    let why = told.first().and_then(|it| it["reason"].as_str());
    let says = why.is_some_and(|it| it.contains("let in again") && it.contains("boot"));
    ensure!(told.len() == 1 && says, "{audit:#}");
    Ok(())
}

/// As long as this is there, hooks don't end.
fn held(stand: &Stand) -> PathBuf {
    stand.agent.place().directory().join("held")
}

/// There once a hook has begun.
fn begun(stand: &Stand) -> PathBuf {
    stand.agent.place().directory().join("begun")
}

/// Flips are watched for long, and a hook may be called.
fn stand(hook: Option<&str>) -> Result<Stand> {
    let mut stand = Stand::without_agent(Mode::Local, true, settings(), &binary()?)?;
    fs::write(held(&stand), "")?;
    let initial = "initial = \"blue\"\n";
    let text = stand.settings.render(&stand.topology, stand.agent.place());
    let mut text = text.replacen(initial, &format!("{initial}bake = \"10m\"\n"), 1);
    if let Some(moment) = hook {
        let (begun, held) = (begun(&stand), held(&stand));
        let script = format!(
            "touch {}; while test -e {}; do sleep 0.1; done",
            begun.display(),
            held.display()
        );
        let exec = json!(["/bin/sh", "-c", script]);
        text += &format!(
            "[[groups.{GROUP}.hooks]]\non = \"{moment}\"\nexec = {exec}\ntimeout = \"10m\"\n"
        );
    }
    stand.agent.write_config(&text)?;
    stand.agent.start()?;
    let healthy = ["wait", GROUP, "--for", "healthy=green", "--timeout", "20s"];
    stand.agent.cli(&healthy)?.expect(0)?;
    Ok(stand)
}
