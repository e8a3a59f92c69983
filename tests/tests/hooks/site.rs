//! Agents with hooks, and what their programs leave behind.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;
use switcher_harness::agent::binary;
use switcher_harness::config::{GROUP, Settings};
use switcher_harness::{Mode, Stand};
use switcher_tests::hooks::Hooks;

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);
/// What events are signed with.
pub(crate) const SECRET: &str = "s3cret";

/// An agent whose hooks do as files say.
pub(crate) struct Site {
    /// Takes events.
    pub(crate) events: Hooks,
    /// Decides before flips.
    pub(crate) decision: Hooks,
    pub(crate) stand: Stand,
}

impl Site {
    pub(crate) fn new() -> Result<Self> {
        let settings = Settings {
            deadline: Duration::from_secs(60),
            ..Settings::default()
        };
        let mut stand = Stand::without_agent(Mode::Local, false, settings, &binary()?)?;
        let events = Hooks::listen(&stand.topology.switch, 503)?;
        let decision = Hooks::listen(&stand.topology.switch, 200)?;
        let place = stand.agent.place();
        let home = place.directory().to_owned();
        std::fs::write(home.join("key"), SECRET)?;
        let web = stand.topology.web();
        let text = stand.settings.render(&stand.topology, place)
            + &hooks_of(&home, &events, &decision)
            + &format!(
                "\n[groups.zoo]\ninitial = \"blue\"\nhealth = {{ kind = \"none\" }}\n\
                 [groups.zoo.services.web]\nvip = \"{0}:81/tcp\"\nforward = \"local\"\n\
                 endpoints.blue = [\"{0}:8101\"]\nendpoints.green = [\"{0}:8102\"]\n",
                web.ip()
            );
        stand.agent.write_config(&text)?;
        for moment in ["pre-flip", "post-flip"] {
            std::fs::write(home.join(moment), "pass")?;
        }
        stand.agent.start()?;
        Ok(Self {
            events,
            decision,
            stand,
        })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.stand.agent.place().directory().join(name)
    }

    /// What the program does at a moment from now on.
    pub(crate) fn set(&self, moment: &str, what: &str) -> Result<()> {
        Ok(std::fs::write(self.file(moment), what)?)
    }

    /// The line that a program has written, or will write; it is taken away.
    pub(crate) fn line(&self, name: &str) -> Result<String> {
        line_of(&self.file(name))
    }

    pub(crate) fn cli(&self, words: &[&str], code: i32) -> Result<()> {
        self.stand.agent.cli(words)?.expect(code).map(drop)
    }

    pub(crate) fn idle(&self) -> Result<()> {
        self.cli(&["wait", GROUP, "--for", "idle", "--timeout", "50s"], 0)
    }
}

/// Programs do as files say.
fn hooks_of(home: &Path, events: &Hooks, decision: &Hooks) -> String {
    let script = format!(
        "cd {}; case $(cat $SWITCHER_EVENT) in \
         fail) echo not well; exit 1;; \
         hang) sleep 600 & echo $! > hanging; wait;; esac",
        home.display()
    );
    let told = format!("echo $SWITCHER_FROM > {}/$SWITCHER_EVENT", home.display());
    let key = home.join("key");
    [
        hook("pre-flip", exec(&script) + "\nname = \"smoke\""),
        hook("pre-flip", web(&decision.url()) + "\ntimeout = \"10m\""),
        hook("post-flip", exec(&script) + "\ntimeout = \"10m\""),
        hook("rolled-back", exec(&told)),
        hook("drained", exec(&told)),
        hook(
            "event",
            format!(
                "{}\nformat = \"cloudevents\"\nsecret_file = {key:?}",
                web(&events.url())
            ),
        ),
        // Nobody listens there, and nobody cares.
        hook("event", web("http://127.0.0.1:1/")),
    ]
    .concat()
}

pub(crate) fn lives(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z")
}

pub(crate) fn until(what: &str, mut met: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !met()? {
        ensure!(Instant::now() < deadline, "{what}: waited in vain");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// A line that a program has written into a file of its own, or will write; the file is taken away.
pub(crate) fn line_of(file: &Path) -> Result<String> {
    let mut line = String::new();
    until(&format!("a line in {}", file.display()), || {
        line = std::fs::read_to_string(file).unwrap_or_default();
        Ok(line.ends_with('\n'))
    })?;
    std::fs::remove_file(file)?;
    Ok(line.trim().to_owned())
}

/// An agent with the hooks that are made for its directory and its namespace. It is idle; both colours are well.
pub(crate) fn hooked(hooks: impl FnOnce(&Stand) -> Result<String>) -> Result<Stand> {
    let settings = Settings {
        deadline: Duration::from_secs(60),
        ..Settings::default()
    };
    let mut stand = Stand::without_agent(Mode::Local, false, settings, &binary()?)?;
    let place = stand.agent.place();
    let text = stand.settings.render(&stand.topology, place) + &hooks(&stand)?;
    stand.agent.write_config(&text)?;
    stand.agent.start()?;
    for colour in ["blue", "green"] {
        stand.until(|it| it["colours"][colour]["healthy"] == true)?;
    }
    Ok(stand)
}

/// A hook of the group.
pub(crate) fn hook(on: &str, what: impl AsRef<str>) -> String {
    let what = what.as_ref();
    format!("\n[[groups.{GROUP}.hooks]]\non = \"{on}\"\n{what}\n")
}

/// That it is a shell's.
pub(crate) fn exec(script: &str) -> String {
    format!("exec = {}", json!(["/bin/sh", "-c", script]))
}

/// That it is a receiver's.
pub(crate) fn web(url: &str) -> String {
    format!("url = \"{url}\"")
}
