//! `examples/systemd`: verified by systemd, and its lines run as systemd would.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::example;
use crate::site::{Site, program};

/// The app: a server that says its version.
const APP: &str = r#"#!/usr/bin/env python3
import http.server, pathlib, sys

class Shop(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = pathlib.Path(__file__).resolve().parts[-3].encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

host, port = sys.argv[sys.argv.index("--listen") + 1].rsplit(":", 1)
http.server.ThreadingHTTPServer((host, int(port)), Shop).serve_forever()
"#;

pub(crate) fn run(site: &Site) -> Result<()> {
    let home = site.directory("systemd")?;
    let root = Root(home.join("root"));
    let group = site.group("systemd")?;
    for directory in ["etc/systemd/system", "etc/shop", "usr/bin", "opt/shop"] {
        fs::create_dir_all(root.0.join(directory))?;
    }
    for version in ["v1", "v2"] {
        let bin = root.0.join("opt/shop/releases").join(version).join("bin");
        fs::create_dir_all(&bin)?;
        program(&bin.join("shop"), APP)?;
    }
    for (colour, address) in ["blue", "green"].into_iter().zip(group.endpoints) {
        let text = example(&format!("systemd/{colour}.env"))?;
        let (name, _) = text.split_once('=').context("a variable")?;
        let file = format!("etc/shop/{colour}.env");
        fs::write(root.0.join(file), format!("{name}={address}\n"))?;
    }
    let unit = example("systemd/shop@.service")?;
    verify(&root, &unit)?;

    program(&home.join("systemctl"), &systemctl(&root, &unit)?)?;
    let release = example("systemd/release")?.replace(" shop ", " systemd ");
    program(&home.join("release"), &release)?;
    let root_path = root.0.display().to_string();
    let release = |version: &str| {
        let with = [("ROOT", root_path.as_str())];
        site.run(&home, &["./release", version], &with)
    };
    std::os::unix::fs::symlink(
        root.0.join("opt/shop/releases/v1"),
        root.0.join("opt/shop/blue"),
    )?;
    site.run(&home, &["systemctl", "restart", "shop@blue"], &[])?
        .expect(0)?;
    let (service, _) = group.urls();
    let answer = || site.run(&home, &["curl", "--silent", "--show-error", &service], &[]);
    ensure!(answer()?.expect(0)?.said == "v1", "blue answers");
    release("v2")?.expect(0)?;
    ensure!(answer()?.expect(0)?.said == "v2", "green answers");
    site.expect_live("systemd", "green", "v2")?;
    site.expect_history("systemd", &[("flip", "release v2")])?;
    // The old colour runs on.
    let rollback = ["switcher", "rollback", "systemd"];
    site.run(&home, &rollback, &[])?.expect(0)?;
    ensure!(answer()?.expect(0)?.said == "v1", "blue answers again");
    Ok(())
}

/// Both instances, in a root where what they start is there.
fn verify(root: &Root, unit: &str) -> Result<()> {
    fs::write(root.0.join("etc/systemd/system/shop@.service"), unit)?;
    program(&root.0.join("usr/bin/switcher"), "#!/bin/sh\n")?;
    for colour in ["blue", "green"] {
        let link = root.0.join("opt/shop").join(colour);
        std::os::unix::fs::symlink("releases/v1", &link)?;
        let root_option = format!("--root={}", root.0.display());
        let instance = format!("shop@{colour}.service");
        let output = Command::new("systemd-analyze")
            .args(["verify", "--man=no", "--recursive-errors=no", &root_option])
            .arg(&instance)
            .output()
            .context("starting systemd-analyze")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success() && said.is_empty(),
            "{instance}: {said}"
        );
        fs::remove_file(link)?;
    }
    Ok(())
}

/// A stand-in for systemctl that does with an instance what the unit says: variables from its file, and what is
/// to be started, in order.
fn systemctl(root: &Root, unit: &str) -> Result<String> {
    let value = |key: &str| {
        let line = unit.lines().find_map(|line| line.strip_prefix(key));
        let line = line.with_context(|| format!("{key} in the unit"))?;
        anyhow::Ok(line.trim_start_matches('+').replace("%i", "$colour"))
    };
    let root = root.0.display();
    let after = value("ExecStartPost=")?.replace("/usr/bin/", "");
    Ok(format!(
        "#!/bin/sh\nset -eu\n[ \"$1\" = restart ]\ncolour=${{2#shop@}}\n\
         set -a; . {root}{}; set +a\n\
         pid={root}/$colour.pid\n[ ! -e $pid ] || kill $(cat $pid)\n\
         {root}{} </dev/null >/dev/null 2>&1 &\necho $! > $pid\n{}\n",
        value("EnvironmentFile=")?,
        value("ExecStart=")?,
        after.replace(" shop ", " systemd "),
    ))
}

/// A root directory; what was started in it ends with it.
struct Root(PathBuf);

impl Drop for Root {
    fn drop(&mut self) {
        for colour in ["blue", "green"] {
            let pid = fs::read_to_string(Path::join(&self.0, format!("{colour}.pid")));
            let pid = pid.ok().and_then(|pid| pid.trim().parse().ok());
            if let Some(pid) = pid {
                let _gone = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }
}
