//! `examples/kubernetes`: valid by Kubernetes' schemas, of one mind with the unit, and run as kubelet would.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::site::{Site, examples};
use crate::{example, yaml};

const UNIT: &str = include_str!("../../../packaging/switcher.service");

pub(crate) fn run(site: &Site) -> Result<()> {
    for file in ["agent.yaml", "flip.yaml", "flip-remote.yaml"] {
        let path = examples().join("kubernetes").join(file);
        let path = path.display().to_string();
        crate::looks_at("kubernetes-validate", &["--strict", &path])?;
    }
    agent(site)?;
    flip(site)?;
    from_elsewhere(site)
}

/// It gets what the unit gives, its configuration is one, and the probes ask what there is.
fn agent(site: &Site) -> Result<()> {
    let text = example("kubernetes/agent.yaml")?;
    let (map, daemon) = text.split_once("\n---\n").context("two documents")?;
    let (map, daemon) = (yaml(map)?, yaml(daemon)?);
    let pod = &daemon["spec"]["template"]["spec"];
    let agent = &pod["containers"][0];
    let unit = UNIT
        .lines()
        .find_map(|line| line.strip_prefix("CapabilityBoundingSet="));
    let unit = unit.context("capabilities")?.replace("CAP_", "");
    let mut unit: Vec<&str> = unit.split(' ').collect();
    let added = agent["securityContext"]["capabilities"]["add"].as_array();
    let added = added.context("capabilities")?.iter();
    let mut added: Vec<&str> = added.filter_map(Value::as_str).collect();
    unit.sort_unstable();
    added.sort_unstable();
    ensure!(unit == added, "{unit:?} {added:?}");

    let home = site.directory("kubernetes")?;
    let words = agent["command"].as_array().context("a command")?;
    let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
    let path = words.last().context("a file")?;
    let (directory, file) = path.rsplit_once('/').context("a path")?;
    let mounts = agent["volumeMounts"].as_array().context("mounts")?;
    ensure!(
        mounts.iter().any(|it| it["mountPath"] == directory),
        "{path} is not mounted"
    );
    let config = map["data"][file].as_str().context("the file")?;
    std::fs::write(home.join(file), config)?;
    site.run(&home, &["switcher", "check", file], &[])?
        .expect(0)?;
    ensure!(words[..3] == ["switcher", "agent", "--config"], "{words:?}");
    for probe in ["livenessProbe", "readinessProbe"] {
        let probe = &agent[probe]["httpGet"];
        let place = format!(
            "{}:{}",
            probe["host"].as_str().context("host")?,
            probe["port"]
        );
        ensure!(config.contains(&format!("listen = \"{place}\"")), "{probe}");
        let path = probe["path"].as_str().context("a path")?;
        let mut stream = site
            .stand
            .topology
            .switch
            .inside(|| TcpStream::connect(&place))??;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nhost: {place}\r\nconnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        ensure!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    }
    Ok(())
}

fn flip(site: &Site) -> Result<()> {
    let job = yaml(&example("kubernetes/flip.yaml")?)?;
    let container = &job["spec"]["template"]["spec"]["containers"][0];
    let (words, variables) = command(container)?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let variables = variables.iter().map(|(name, it)| (&**name, &**it));
    let mut variables: Vec<(&str, &str)> = variables.collect();
    ensure!(variables.contains(&("GROUP", "shop")), "{variables:?}");
    let home = site.directory("kubernetes")?;
    let run = |pod: &str| {
        let mut variables = variables.clone();
        variables.extend([("GROUP", "kubernetes"), ("HOSTNAME", pod)]);
        site.run(&home, &words, &variables)
    };
    run("shop-v42-x7k2p")?.expect(0)?;
    site.expect_live("kubernetes", "green", "v42")?;
    site.expect_history("kubernetes", &[("flip", "job shop-v42-x7k2p")])?;
    // A pod whose answer was lost is followed by another one.
    run("shop-v42-q9d4z")?.expect(0)?;
    ensure!(
        site.history("kubernetes")?.len() == 1,
        "nothing was done twice"
    );
    // What no other pod would get through ends the job.
    let rule = &job["spec"]["podFailurePolicy"]["rules"][0]["onExitCodes"];
    ensure!(
        rule["operator"] == "NotIn" && rule["values"] == serde_json::json!([8, 9]),
        "{rule}"
    );
    let freeze = ["switcher", "freeze", "kubernetes", "--reason", "audit"];
    site.run(&home, &freeze, &[])?.expect(0)?;
    variables.push(("COLOUR", "blue"));
    let mut blue = variables;
    blue.extend([("GROUP", "kubernetes"), ("HOSTNAME", "shop-v43-aaaaa")]);
    site.run(&home, &words, &blue)?.expect(5).map(drop)
}

/// The Job of another cluster, with the Secret mounted where it says.
fn from_elsewhere(site: &Site) -> Result<()> {
    let job = yaml(&example("kubernetes/flip-remote.yaml")?)?;
    let pod = &job["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let mount = container["volumeMounts"][0]["mountPath"].as_str();
    let mount = mount.context("a mount")?;
    let (words, mut variables) = command(container)?;
    let [(_, url), ..] = site.certificates.variables();
    for (name, value) in &mut variables {
        let there = site.certificates.path().display().to_string();
        *value = match name.as_str() {
            "SWITCHER_URL" => url.clone(),
            "GROUP" => "kubernetes".to_owned(),
            _ => value.replace(mount, &there),
        };
    }
    let mut all: Vec<(&str, &str)> = variables
        .iter()
        .map(|(name, it)| (&**name, &**it))
        .collect();
    all.extend([
        ("SWITCHER_SOCKET", "/nowhere"),
        ("HOSTNAME", "shop-v43-bbbbb"),
    ]);
    let home = site.directory("kubernetes")?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let unfreeze = ["switcher", "unfreeze", "kubernetes"];
    site.run(&home, &unfreeze, &[])?.expect(0)?;
    site.run(&home, &words, &all)?.expect(0)?;
    site.expect_live("kubernetes", "blue", "v43")?;
    site.expect_actor("kubernetes", "ci.internal")
}

/// Words of a command, and variables by name.
type Started = (Vec<String>, Vec<(String, String)>);

/// What a container runs, and with which variables.
fn command(container: &Value) -> Result<Started> {
    let words = ["command", "args"].map(|key| container[key].as_array());
    let words = words.into_iter().flatten().flatten();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let variables = container["env"].as_array().context("env")?.iter();
    Ok((
        words.map(text).collect(),
        variables
            .map(|it| (text(&it["name"]), text(&it["value"])))
            .collect(),
    ))
}
