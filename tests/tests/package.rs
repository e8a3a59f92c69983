//! The Debian package, with the binary of development in it: made, installed in a root of its own, used, and removed.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use switcher_harness::privilege;

const CONFIG: &str = "etc/switcher/switcher.toml";

#[test]
fn package() {
    if !privilege::is_root("package") {
        return;
    }
    let run = || -> Result<()> {
        let package = make()?;
        let root = tempfile::tempdir()?;
        let root = root.path();
        is_complete(&package)?;
        install(root, &package)?;
        runs(root)?;
        comes_back_with_its_configuration(root, &package)?;
        scripts_are_shell(root)
    };
    run().unwrap_or_else(|error| panic!("{error:#}"));
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// By the task that people use.
fn make() -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["xtask", "deb", "--dev"])
        .current_dir(workspace());
    let said = output(&mut command)?;
    let path = said.lines().find_map(|line| line.strip_prefix("built "));
    let path = path.with_context(|| format!("no package: {said}"))?;
    Ok(workspace().join(path))
}

fn is_complete(package: &Path) -> Result<()> {
    let field = |name| {
        output(
            Command::new("dpkg-deb")
                .arg("--field")
                .arg(package)
                .arg(name),
        )
    };
    ensure!(field("Package")?.trim() == "switcher", "its name");
    ensure!(
        field("Version")?.starts_with(env!("CARGO_PKG_VERSION")),
        "its version"
    );
    let depends = field("Depends")?;
    ensure!(depends.contains("libc6 (>= "), "what it needs: {depends}");
    let listed = output(Command::new("dpkg-deb").arg("--contents").arg(package))?;
    for path in [
        "./usr/bin/switcher",
        "./usr/lib/systemd/system/switcher.service",
        "./etc/switcher/switcher.toml",
        "./usr/share/man/man1/switcher.1.gz",
        "./usr/share/man/man1/switcher-flip.1.gz",
        "./usr/share/bash-completion/completions/switcher",
        "./usr/share/zsh/vendor-completions/_switcher",
        "./usr/share/fish/vendor_completions.d/switcher.fish",
        "./usr/share/doc/switcher/copyright",
        "./usr/share/doc/switcher/README.md",
        "./usr/share/doc/switcher/examples/monitoring/alerts.yml",
    ] {
        let line = listed.lines().find(|line| line.ends_with(path));
        let line = line.with_context(|| format!("{path} is missing:\n{listed}"))?;
        ensure!(
            line.contains(" 0/0 ") || line.contains(" root/root "),
            "whose is it? {line}"
        );
    }
    Ok(())
}

/// dpkg with a data base of its own in `root`, which has no other packages.
fn dpkg(root: &Path) -> Command {
    let mut command = Command::new("dpkg");
    command
        .arg("--root")
        .arg(root)
        // The root has no libc package, and no shell: scripts run outside of it and know it by DPKG_ROOT.
        .args(["--force-depends", "--force-script-chrootless"]);
    command
}

fn install(root: &Path, package: &Path) -> Result<()> {
    let data = root.join("var/lib/dpkg");
    fs::create_dir_all(data.join("updates"))?;
    fs::create_dir_all(data.join("info"))?;
    fs::write(data.join("status"), "")?;
    fs::write(data.join("available"), "")?;
    let said = output(dpkg(root).arg("--install").arg(package))?;
    ensure!(
        said.contains("write /etc/switcher/switcher.toml by `switcher init`"),
        "{said}"
    );
    ensure!(status(root)? == "install ok installed", "{}", status(root)?);
    let config = fs::metadata(root.join(CONFIG))?;
    ensure!(
        config.permissions().mode() & 0o777 == 0o640,
        "who may read it?"
    );
    Ok(())
}

fn status(root: &Path) -> Result<String> {
    let mut command = Command::new("dpkg-query");
    command
        .arg(format!(
            "--admindir={}",
            root.join("var/lib/dpkg").display()
        ))
        .args(["--show", "--showformat=${Status}", "switcher"]);
    output(&mut command)
}

/// The binary, with the configuration that comes along: nothing is steered before somebody says what, and what is
/// commented out is good once it is not.
fn runs(root: &Path) -> Result<()> {
    let binary = root.join("usr/bin/switcher");
    let version = output(Command::new(&binary).arg("--version"))?;
    ensure!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
    let config = root.join(CONFIG);
    let untouched = Command::new(&binary).arg("check").arg(&config).output()?;
    ensure!(untouched.status.code() == Some(2), "{untouched:?}");
    let text = fs::read_to_string(&config)?;
    let meant = text.lines().map(|line| match line.strip_prefix('#') {
        Some(rest) if !rest.starts_with(' ') => rest,
        _ => line,
    });
    let meant: Vec<&str> = meant.collect();
    let example = root.join("example.toml");
    fs::write(&example, meant.join("\n"))?;
    output(Command::new(&binary).arg("check").arg(&example))?;
    let unit = fs::read_to_string(root.join("usr/lib/systemd/system/switcher.service"))?;
    for path in ["/usr/bin/switcher", "/etc/switcher/switcher.toml"] {
        ensure!(unit.contains(path), "the unit does not start {path}");
    }
    Ok(())
}

/// What somebody has written survives an upgrade and a removal; purged, nothing is left.
fn comes_back_with_its_configuration(root: &Path, package: &Path) -> Result<()> {
    let config = root.join(CONFIG);
    fs::write(&config, "# mine\n")?;
    let said = output(
        dpkg(root)
            .arg("--force-confold")
            .arg("--install")
            .arg(package),
    )?;
    ensure!(
        !said.contains("configure it"),
        "an upgrade has nothing to say: {said}"
    );
    ensure!(
        fs::read_to_string(&config)? == "# mine\n",
        "an upgrade overwrote it"
    );
    let state = root.join("var/lib/switcher");
    fs::create_dir_all(&state)?;
    fs::write(state.join("state.db"), "")?;
    output(dpkg(root).args(["--remove", "switcher"]))?;
    ensure!(
        !root.join("usr/bin/switcher").exists(),
        "the binary has gone"
    );
    ensure!(config.exists() && state.exists(), "what is known has not");
    output(dpkg(root).args(["--purge", "switcher"]))?;
    let left = [&config, &state].into_iter().filter(|it| it.exists());
    ensure!(left.count() == 0, "purged, it has");
    Ok(())
}

/// Scripts that only run elsewhere are at least read.
fn scripts_are_shell(_root: &Path) -> Result<()> {
    for script in ["postinst", "prerm", "postrm"] {
        let path = workspace().join("packaging/debian").join(script);
        output(Command::new("sh").arg("-n").arg(&path))?;
    }
    Ok(())
}

/// What a program says that ends with 0.
fn output(command: &mut Command) -> Result<String> {
    let ended = command.output().with_context(|| format!("{command:?}"))?;
    let (out, err) = (
        String::from_utf8_lossy(&ended.stdout),
        String::from_utf8_lossy(&ended.stderr),
    );
    ensure!(
        ended.status.success(),
        "{command:?}: {}\n{out}{err}",
        ended.status
    );
    Ok(out.into_owned())
}
