//! The recipes under `examples/`: what they have to do with Switcher is run against an agent, with the programs that
//! would run it or what stands for these, and the rest is held against their schemas.

#[path = "recipes/ansible.rs"]
mod ansible;
#[path = "recipes/certificates.rs"]
mod certificates;
#[path = "recipes/ci.rs"]
mod ci;
#[path = "recipes/flagger.rs"]
mod flagger;
#[path = "recipes/kamal.rs"]
mod kamal;
#[path = "recipes/kubernetes.rs"]
mod kubernetes;
#[path = "recipes/loadtester.rs"]
mod loadtester;
#[path = "recipes/nomad.rs"]
mod nomad;
#[path = "recipes/shell.rs"]
mod shell;
#[path = "recipes/site.rs"]
mod site;
#[path = "recipes/systemd.rs"]
mod systemd;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use switcher_harness::{netns, privilege};

use site::Site;

/// What runs a recipe.
type Part = fn(&Site) -> Result<()>;

/// Each has a group of its own, so all of them run at the same time, on one agent.
const PARTS: [(&str, Part); 9] = [
    ("ansible", ansible::run),
    ("flagger", flagger::run),
    ("github", ci::github),
    ("gitlab", ci::gitlab),
    ("kamal", kamal::run),
    ("kubernetes", kubernetes::run),
    ("nomad", nomad::run),
    ("shell", shell::run),
    ("systemd", systemd::run),
];

#[test]
fn recipes() {
    if !privilege::is_root("recipes") {
        return;
    }
    netns::sweep();
    let site = Site::new(&PARTS.map(|(name, _)| name)).unwrap_or_else(|error| panic!("{error:#}"));
    let failed: Vec<String> = std::thread::scope(|scope| {
        let start = |(name, part): (&'static str, Part)| {
            let site = &site;
            (name, scope.spawn(move || part(site)))
        };
        let running = PARTS.map(start);
        let came_out = running.map(|(name, thread)| (name, thread.join().expect("no panic")));
        let failed = came_out.into_iter().filter_map(|(name, came_out)| {
            let error = came_out.err()?;
            Some(format!("{name}: {error:#}"))
        });
        failed.collect()
    });
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

/// A file below `examples/`.
fn example(name: &str) -> Result<String> {
    let path = site::examples().join(name);
    std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
}

fn yaml(text: &str) -> Result<Value> {
    serde_yaml_ng::from_str(text).context("YAML")
}

/// Runs a program of the Python environment that looks at files and ends with 0 if all is well.
fn looks_at(program: &str, arguments: &[&str]) -> Result<String> {
    let path = switcher_harness::python::environment()?.join(program);
    let output = std::process::Command::new(&path)
        .args(arguments)
        .output()
        .with_context(|| format!("starting {}", path.display()))?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "{program} {}: {said}{}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(said.into_owned())
}
