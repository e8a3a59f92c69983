//! `examples/nomad`: read by a parser of HCL, and its task run with the environment that Nomad gives it.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::site::{Site, examples};

pub(crate) fn run(site: &Site) -> Result<()> {
    let file = examples().join("nomad/shop.nomad.hcl");
    let json = crate::looks_at("hcl2tojson", &[&file.display().to_string()])?;
    let job: Value = serde_json::from_str(&json)?;
    let group = labelled(labelled(&job["job"], "shop")?, "group")
        .and_then(|group| labelled(group, "shop"))?;
    let task = labelled(&group["task"], "flip")?;
    ensure!(text(&task["driver"])? == "raw_exec", "{task}");
    ensure!(
        text(&task["lifecycle"][0]["hook"])? == "poststart",
        "{task}"
    );
    ensure!(task["lifecycle"][0]["sidecar"] == false, "{task}");
    let template = &task["template"][0];
    let home = site.directory("nomad")?;
    let destination = home.join(text(&template["destination"])?);
    std::fs::create_dir_all(destination.parent().context("a directory")?)?;
    std::fs::write(&destination, script(template["data"].as_str())?)?;

    let config = &task["config"][0];
    let mut words = vec![text(&config["command"])?];
    for word in config["args"].as_array().context("arguments")? {
        words.push(text(word)?);
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let flip = |colour: &str, version: &str, allocation: &str| {
        let given = |value: &Value| -> Result<String> {
            let value = text(value)?.replace("${var.colour}", colour);
            Ok(value.replace("${var.version}", version))
        };
        let mut variables = vec![("NOMAD_ALLOC_ID", allocation.to_owned())];
        for name in ["GROUP", "COLOUR", "VERSION"] {
            variables.push((name, given(&task["env"][0][name])?));
        }
        ensure!(variables[1].1 == "shop", "{variables:?}");
        "nomad".clone_into(&mut variables[1].1);
        let variables: Vec<_> = variables.iter().map(|(name, it)| (*name, &**it)).collect();
        site.run(&home, &words, &variables)
    };
    flip("green", "v1", "4f5e")?.expect(0)?;
    site.expect_live("nomad", "green", "v1")?;
    // A client that was restarted runs the task again.
    flip("green", "v1", "4f5e")?.expect(0)?;
    flip("blue", "v2", "9a8b")?.expect(0)?;
    site.expect_live("nomad", "blue", "v2")?;
    let history = [
        ("flip", "v2, allocation 9a8b"),
        ("flip", "v1, allocation 4f5e"),
    ];
    site.expect_history("nomad", &history)?;
    ensure!(site.history("nomad")?.len() == 2, "nothing was done twice");
    Ok(())
}

/// The block with a label, in what the parser makes of blocks: lists of objects by label.
fn labelled<'a>(blocks: &'a Value, label: &str) -> Result<&'a Value> {
    let direct = std::iter::once(blocks);
    let mut all = direct.chain(blocks.as_array().into_iter().flatten());
    let found = all.find_map(|block| {
        block
            .get(label)
            .or_else(|| block.get(format!("\"{label}\"")))
    });
    found.with_context(|| format!("{label} in {blocks}"))
}

/// A string, without the quotes that the parser may leave.
fn text(value: &Value) -> Result<String> {
    let text = value
        .as_str()
        .with_context(|| format!("no text: {value}"))?;
    Ok(text.trim_matches('"').to_owned())
}

/// What an indented heredoc holds: its lines without what all of them begin with.
fn script(data: Option<&str>) -> Result<String> {
    let data = data.context("a script")?.trim_matches('"');
    let (first, rest) = data.split_once('\n').context("lines")?;
    let end = first.strip_prefix("<<-").context("an indented heredoc")?;
    let body = rest.trim_end().strip_suffix(end).context("its end")?;
    let lines = body.lines().filter(|line| !line.trim().is_empty());
    let indent = |line: &str| line.len() - line.trim_start().len();
    let common = lines.clone().map(indent).min().unwrap_or_default();
    Ok(lines.map(|line| format!("{}\n", &line[common..])).collect())
}
