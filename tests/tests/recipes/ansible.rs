//! `examples/ansible/deploy.yml`, by ansible-playbook.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::site::{Done, Site, examples, program};

pub(crate) fn run(site: &Site) -> Result<()> {
    let home = site.directory("ansible")?;
    program(
        &home.join("deploy"),
        "#!/bin/sh\necho \"$2\" > \"${0%/*}/$1\"\n",
    )?;
    let group = site.group("ansible")?;
    let (service, preview) = group.urls();
    let python = switcher_harness::python::environment()?;
    let inventory = json!({ "edge": { "hosts": { "edge1": {
        "ansible_connection": "local",
        "ansible_python_interpreter": python.join("python"),
    } } } });
    std::fs::write(home.join("inventory.yml"), inventory.to_string())?;
    let playbook = |version: &str, service: &str| -> Result<Done> {
        let set = json!({
            "group": "ansible", "version": version, "service": service, "preview": preview,
            "deploy": format!("{}/deploy {{{{ idle }}}} {{{{ version }}}}", home.display()),
        });
        let words = [
            &python.join("ansible-playbook").display().to_string(),
            "-i",
            "inventory.yml",
            "-e",
            &set.to_string(),
            &examples().join("ansible/deploy.yml").display().to_string(),
        ];
        site.run(&home, &words, &environment(&home.display().to_string()))
    };
    let first = playbook("v1", &service)?.expect(0)?;
    ensure!(changed(&first)? == 3, "{}", first.said);
    site.expect_live("ansible", "green", "v1")?;
    ensure!(std::fs::read_to_string(home.join("green"))?.trim() == "v1");
    site.expect_history("ansible", &[("flip", "deploy v1")])?;
    let again = playbook("v1", &service)?.expect(0)?;
    ensure!(changed(&again)? == 0, "{}", again.said);

    // What clients get is not what was tested before.
    let failed = playbook("v2", &format!("{service}/nowhere"))?.expect(2)?;
    ensure!(failed.said.contains("v2 is not live: "), "{}", failed.said);
    site.expect_live("ansible", "green", "v1")?;
    let undone = [("rollback", "deploy v2 failed"), ("flip", "deploy v2")];
    site.expect_history("ansible", &undone)?;
    parses(&examples().join("ansible/inventory.yml"))
}

/// Nothing of Ansible's is written elsewhere.
fn environment(home: &str) -> [(&str, &str); 4] {
    [
        ("ANSIBLE_HOME", home),
        ("ANSIBLE_NOCOLOR", "1"),
        ("ANSIBLE_LOCALHOST_WARNING", "0"),
        ("LC_ALL", "C.UTF-8"),
    ]
}

/// How many tasks have changed something, by the recap.
fn changed(done: &Done) -> Result<u32> {
    let (_, rest) = done.said.split_once("changed=").context("a recap")?;
    let number: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Ok(number.parse()?)
}

fn parses(inventory: &Path) -> Result<()> {
    let path = inventory.display().to_string();
    let listed = crate::looks_at("ansible-inventory", &["-i", &path, "--list"])?;
    ensure!(listed.contains("edge1.example.net"), "{listed}");
    Ok(())
}
