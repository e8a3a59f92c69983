//! `examples/github` and `examples/gitlab`: valid by their schemas, and run as their runners would.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::site::{Site, examples, program};
use crate::{example, yaml};

pub(crate) fn github(site: &Site) -> Result<()> {
    valid("vendor.github-workflows", "github/deploy.yml")?;
    let workflow = yaml(&example("github/deploy.yml")?)?;
    let job = &workflow["jobs"]["deploy"];
    let (service, preview) = site.group("github")?.urls();
    let home = site.directory("github")?;
    program(&home.join("deploy"), "#!/bin/sh\necho \"$2\" > \"$1\"\n")?;
    let run = |tag: &str, id: &str, service: &str| {
        let mut variables = texts(&job["env"]);
        for value in variables.values_mut() {
            *value = value.replace("${{ github.ref_name }}", tag);
        }
        let more = [
            ("GROUP", "github"),
            ("PREVIEW", &preview),
            ("SERVICE", service),
            ("GITHUB_RUN_ID", id),
            ("GITHUB_RUN_ATTEMPT", "1"),
            ("GITHUB_ACTOR", "anna"),
        ];
        variables.extend(more.map(|(key, value)| (key.to_owned(), value.to_owned())));
        steps(site, &home, job, variables)
    };
    let failed = run("v1", "7", &service)?;
    ensure!(failed.is_empty(), "{failed:?}");
    site.expect_live("github", "green", "v1")?;
    let flip = ("flip", "v1 by anna, run 7");
    site.expect_history("github", &[flip])?;

    let failed = run("v2", "8", &format!("{service}/nowhere"))?;
    ensure!(failed == ["Test it live"], "{failed:?}");
    site.expect_live("github", "green", "v1")?;
    let undone = [
        ("rollback", "run 8 failed"),
        ("flip", "v2 by anna, run 8"),
        flip,
    ];
    site.expect_history("github", &undone)?;

    // Before a flip there is nothing to go back from.
    program(&home.join("deploy"), "#!/bin/sh\nexit 1\n")?;
    let failed = run("v3", "9", &service)?;
    ensure!(failed == ["Put the release there"], "{failed:?}");
    site.expect_history("github", &undone)
}

/// Runs a job's steps as a runner does: each in a shell of its own, until one fails; then only those that are
/// for that. Which have failed.
fn steps(
    site: &Site,
    home: &Path,
    job: &Value,
    mut variables: BTreeMap<String, String>,
) -> Result<Vec<String>> {
    let file = home.join("github-env");
    let mut failed: Vec<String> = Vec::new();
    for step in job["steps"].as_array().context("steps")? {
        let (Some(name), Some(script)) = (step["name"].as_str(), step["run"].as_str()) else {
            ensure!(step["uses"].is_string(), "{step}");
            continue;
        };
        if !holds(step["if"].as_str(), &variables, !failed.is_empty())? {
            continue;
        }
        std::fs::write(home.join("step.sh"), script)?;
        std::fs::write(&file, "")?;
        let path = file.display().to_string();
        let mut all: Vec<(&str, &str)> = vec![("GITHUB_ENV", &path)];
        all.extend(variables.iter().map(|(key, value)| (&**key, &**value)));
        let done = site.run(home, &["bash", "-e", "step.sh"], &all)?;
        if done.expect(0).is_err() {
            failed.push(name.to_owned());
        }
        let written = std::fs::read_to_string(&file)?;
        let pairs = written.lines().filter_map(|line| line.split_once('='));
        variables.extend(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }
    Ok(failed)
}

/// Whether a step is run: expressions of the kind that is used here.
fn holds(
    condition: Option<&str>,
    variables: &BTreeMap<String, String>,
    failed: bool,
) -> Result<bool> {
    let Some(condition) = condition else {
        return Ok(!failed);
    };
    let mut all = true;
    for part in condition.split(" && ") {
        all &= match part.split_once(" == ") {
            None => {
                ensure!(part == "failure()", "{part}");
                failed
            }
            Some((left, right)) => {
                let key = left.strip_prefix("env.").context("env.")?;
                let value = variables.get(key).map_or("", String::as_str);
                value == right.trim_matches('\'')
            }
        };
    }
    Ok(all)
}

pub(crate) fn gitlab(site: &Site) -> Result<()> {
    valid("vendor.gitlab-ci", "gitlab/gitlab-ci.yml")?;
    let pipeline = yaml(&example("gitlab/gitlab-ci.yml")?)?;
    let (service, preview) = site.group("gitlab")?.urls();
    let home = site.directory("gitlab")?;
    program(&home.join("deploy"), "#!/bin/sh\necho \"$2\" > \"$1\"\n")?;
    let run = |job: &str, tag: &str, id: &str, service: &str| {
        let lines = pipeline[job]["script"].as_array().context("a script")?;
        let lines: Vec<&str> = lines.iter().filter_map(Value::as_str).collect();
        std::fs::write(home.join("job.sh"), lines.join("\n"))?;
        let variables = [
            ("GROUP", "gitlab"),
            ("PREVIEW", &preview),
            ("SERVICE", service),
            ("CI_COMMIT_TAG", tag),
            ("CI_JOB_ID", id),
            ("GITLAB_USER_LOGIN", "anna"),
        ];
        let shell = ["bash", "-e", "-o", "pipefail", "job.sh"];
        site.run(&home, &shell, &variables)
    };
    run("deploy", "v1", "7", &service)?.expect(0)?;
    site.expect_live("gitlab", "green", "v1")?;
    run("rollback", "v1", "8", &service)?.expect(0)?;
    ensure!(
        site.status("gitlab")?["live"] == "blue",
        "it was rolled back"
    );
    run("deploy", "v2", "9", &format!("{service}/nowhere"))?.expect(7)?;
    ensure!(site.status("gitlab")?["live"] == "blue", "v2 does not stay");
    let history = [
        ("rollback", "job 9 failed"),
        ("flip", "v2 by anna, job 9"),
        ("rollback", "asked for by anna, job 8"),
        ("flip", "v1 by anna, job 7"),
    ];
    site.expect_history("gitlab", &history)
}

fn valid(schema: &str, file: &str) -> Result<()> {
    let path = examples().join(file).display().to_string();
    crate::looks_at("check-jsonschema", &["--builtin-schema", schema, &path]).map(drop)
}

fn texts(value: &Value) -> BTreeMap<String, String> {
    let entries = value.as_object().into_iter().flatten();
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    entries
        .map(|(key, value)| (key.clone(), text(value)))
        .collect()
}
