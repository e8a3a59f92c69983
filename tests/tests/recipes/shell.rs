//! `examples/shell/deploy.sh`, with programs that put releases into files.

use anyhow::{Result, ensure};

use crate::site::{Site, examples, program};

pub(crate) fn run(site: &Site) -> Result<()> {
    let group = site.group("shell")?;
    let home = site.directory("shell")?;
    program(&home.join("deploy"), "#!/bin/sh\necho \"$2\" > \"$1\"\n")?;
    let (service, preview) = group.urls();
    let smoke = format!(
        "#!/bin/sh\nset -eu\ncase $1 in\n\
         preview) curl -sSf {preview}/healthz ;;\n\
         live) test ! -e broken; curl -sSf {service}/healthz ;;\nesac\n"
    );
    program(&home.join("smoke"), &smoke)?;
    let script = examples().join("shell/deploy.sh").display().to_string();
    let with = [("DEPLOY", "./deploy"), ("SMOKE", "./smoke")];
    let deploy = |version: &str| site.run(&home, &[&script, "shell", version], &with);
    deploy("v1")?.expect(0)?;
    site.expect_live("shell", "green", "v1")?;
    ensure!(std::fs::read_to_string(home.join("green"))?.trim() == "v1");
    site.expect_history("shell", &[("flip", "deploy v1")])?;

    std::fs::write(home.join("broken"), "")?;
    deploy("v2")?.expect(7)?;
    site.expect_live("shell", "green", "v1")?;
    let undone = [("rollback", "v2 failed its test"), ("flip", "deploy v2")];
    site.expect_history("shell", &undone)?;

    std::fs::remove_file(home.join("broken"))?;
    let freeze = ["switcher", "freeze", "shell", "--reason", "year-end"];
    site.run(&home, &freeze, &[])?.expect(0)?;
    let refused = deploy("v3")?.expect(5)?;
    ensure!(refused.said.contains("year-end"), "{}", refused.said);
    site.run(&home, &["switcher", "unfreeze", "shell"], &[])?
        .expect(0)?;
    // From elsewhere, as the page says.
    let page = include_str!("../../../docs/recipes/shell.md");
    let remote = site.certificates.variables();
    let mut far = with.to_vec();
    for (name, value) in &remote {
        ensure!(page.contains(&format!("{name}=")), "{name}");
        far.push((*name, value.as_str()));
    }
    far.push(("SWITCHER_SOCKET", "/nowhere"));
    site.run(&home, &[&script, "shell", "v3"], &far)?
        .expect(0)?;
    site.expect_live("shell", "blue", "v3")?;
    site.expect_actor("shell", "ci.internal")?;
    site.run(&home, &[&script, "shell"], &[])?.expect(2)?;
    Ok(())
}
