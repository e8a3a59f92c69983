//! `examples/kamal`: hooks, with the environment that Kamal gives them.

use anyhow::{Result, ensure};

use crate::site::{Site, examples, program};

pub(crate) fn run(site: &Site) -> Result<()> {
    let home = site.directory("kamal")?;
    let hook = |name: &str, version: &str, colour: &str, more: &[(&str, &str)]| {
        let mut variables = vec![
            ("SWITCHER_GROUP", "kamal"),
            ("KAMAL_RECORDED_AT", "2026-01-02T03:04:05Z"),
            ("KAMAL_PERFORMER", "Ann O'Brien <ann@example.net>"),
            ("KAMAL_VERSION", version),
            ("KAMAL_HOSTS", "10.0.0.1,10.0.0.2"),
            ("KAMAL_ROLES", "web"),
            ("KAMAL_DESTINATION", colour),
            ("KAMAL_COMMAND", "deploy"),
            ("KAMAL_SUBCOMMAND", ""),
            ("KAMAL_RUNTIME", "42"),
        ];
        variables.extend_from_slice(more);
        let path = examples().join("kamal").join(name);
        site.run(&home, &[&path.display().to_string()], &variables)
    };
    let onto_live = hook("pre-deploy", "v1", "blue", &[])?.expect(1)?;
    ensure!(
        onto_live.said.contains("blue is live"),
        "{}",
        onto_live.said
    );
    hook("pre-deploy", "v1", "green", &[])?.expect(0)?;
    hook("post-deploy", "v1", "green", &[])?.expect(0)?;
    site.expect_live("kamal", "green", "v1")?;

    // As sshd does it: the words become a line, which a shell reads.
    program(&home.join("ssh"), "#!/bin/sh\nshift\nexec sh -c \"$*\"\n")?;
    let far = [("EDGE", "edge1.example.net")];
    hook("pre-deploy", "v2", "blue", &far)?.expect(0)?;
    hook("post-deploy", "v2", "blue", &far)?.expect(0)?;
    site.expect_live("kamal", "blue", "v2")?;
    let by = |version| format!("{version}, by Ann O'Brien <ann@example.net> in 42 s");
    site.expect_history("kamal", &[("flip", &by("v2")), ("flip", &by("v1"))])
}
