//! One agent with a group for each recipe.

use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use switcher_harness::agent::binary;
use switcher_harness::config::Settings;
use switcher_harness::servers::{HttpServer, Identity};
use switcher_harness::topology::{COLOURS, VIP};
use switcher_harness::{Mode, Stand};

use crate::certificates::Certificates;
use crate::loadtester::LoadTester;

/// Seconds after which a program hangs.
const PATIENCE: &str = "400";
/// Where everybody may read.
pub(crate) const LISTEN: &str = "127.0.0.1:9464";

/// The directory with all recipes.
pub(crate) fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")
}

/// An agent, its groups, and what answers for them.
pub(crate) struct Site {
    pub(crate) stand: Stand,
    /// Receives Flagger's webhooks.
    pub(crate) loadtester: LoadTester,
    pub(crate) certificates: Certificates,
    groups: HashMap<&'static str, Group>,
    _servers: Vec<HttpServer>,
}

/// Where a recipe's group is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) service: SocketAddr,
    pub(crate) preview: SocketAddr,
    /// Blue's endpoint, and green's.
    pub(crate) endpoints: [SocketAddr; 2],
}

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Done {
    what: String,
    code: Option<i32>,
    pub(crate) said: String,
}

impl Done {
    /// That it ended with this code.
    pub(crate) fn expect(self, code: i32) -> Result<Self> {
        let Self {
            what,
            code: ended,
            said,
        } = &self;
        ensure!(
            *ended == Some(code),
            "{what}: {ended:?}, not {code}\n{said}"
        );
        Ok(self)
    }
}

impl Site {
    pub(crate) fn new(names: &[&'static str]) -> Result<Self> {
        let settings = Settings {
            agent: "listen = \"127.0.0.1:9464\"",
            ..Settings::default()
        };
        let mut stand = Stand::without_agent(Mode::Local, false, settings, &binary()?)?;
        let switch = &stand.topology.switch;
        let loadtester = LoadTester::start(switch)?;
        let groups = names.iter().copied().zip(0..).map(Group::new);
        let groups: HashMap<_, _> = groups.map(|group| (group.name, group)).collect();
        let mut text = stand.settings.render(&stand.topology, stand.agent.place());
        let certificates = Certificates::new(stand.agent.place().directory().join("tls"))?;
        text += &certificates.config();
        let mut servers = Vec::new();
        for group in groups.values() {
            text += &match group.name {
                "flagger" => crate::flagger::config(group, &loadtester.url(), &stand.agent)?,
                _ => group.config(),
            };
            // That recipe starts its own.
            if group.name == "systemd" {
                continue;
            }
            for (colour, address) in COLOURS.into_iter().zip(group.endpoints) {
                let identity = Identity {
                    colour: colour.to_owned(),
                    version: "v0".to_owned(),
                    host: group.name.to_owned(),
                };
                servers.push(HttpServer::start(switch, address, identity)?);
            }
        }
        stand.agent.write_config(&text)?;
        let bin = stand.agent.place().directory().join("bin");
        fs::create_dir(&bin)?;
        symlink(stand.agent.binary(), bin.join("switcher"))?;
        stand.agent.start()?;
        Ok(Self {
            stand,
            loadtester,
            certificates,
            groups,
            _servers: servers,
        })
    }

    /// A recipe's group.
    pub(crate) fn group(&self, name: &str) -> Result<Group> {
        self.groups.get(name).copied().context("a group")
    }

    /// A recipe's own directory.
    pub(crate) fn directory(&self, name: &str) -> Result<PathBuf> {
        let path = self.stand.agent.place().directory().join(name);
        fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// Runs a program on the switching host, as somebody who has `switcher` in the path.
    pub(crate) fn run(
        &self,
        directory: &Path,
        words: &[&str],
        variables: &[(&str, &str)],
    ) -> Result<Done> {
        let place = self.stand.agent.place();
        let path = std::env::var("PATH").unwrap_or_default();
        let bin = place.directory().join("bin");
        let path = format!("{}:{}:{path}", directory.display(), bin.display());
        let output = self
            .stand
            .topology
            .switch
            .command("timeout")
            .args(["--kill-after=5", PATIENCE])
            .args(words)
            .current_dir(directory)
            .env("PATH", path)
            .env("SWITCHER_SOCKET", place.socket())
            .env("NO_PROXY", "*")
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("starting {words:?}"))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Done {
            what: words.join(" "),
            code: output.status.code(),
            said: text(&output.stdout) + &text(&output.stderr),
        })
    }

    /// What `status` says of a group.
    pub(crate) fn status(&self, group: &str) -> Result<Value> {
        let status = self.stand.agent.json(&["status", group])?;
        Ok(status["groups"][0].clone())
    }

    /// That a colour is live, with a version on it.
    pub(crate) fn expect_live(&self, group: &str, colour: &str, version: &str) -> Result<()> {
        let status = self.status(group)?;
        let on_it = &status["colours"][colour]["version"];
        ensure!(
            status["live"] == colour && on_it == version,
            "{group}: {} with {on_it} instead of {colour} with {version}",
            status["live"]
        );
        Ok(())
    }

    /// That somebody has made a group's newest cut-over.
    pub(crate) fn expect_actor(&self, group: &str, actor: &str) -> Result<()> {
        let history = self.stand.agent.json(&["history", group])?;
        let found = history[0]["actor"].as_str().unwrap_or_default();
        ensure!(found.contains(actor), "{group}: {found}, not {actor}");
        Ok(())
    }

    /// A group's cut-overs, the newest first: kind and reason of each.
    pub(crate) fn history(&self, group: &str) -> Result<Vec<(String, String)>> {
        let history = self.stand.agent.json(&["history", group])?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let all = history.as_array().context("a list")?.iter();
        Ok(all
            .map(|it| (text(&it["kind"]), text(&it["reason"])))
            .collect())
    }

    /// That a group's newest cut-overs are of these kinds, for these reasons.
    pub(crate) fn expect_history(&self, group: &str, expected: &[(&str, &str)]) -> Result<()> {
        let history = self.history(group)?;
        let newest = history.iter().map(|(kind, reason)| (&**kind, &**reason));
        let newest: Vec<_> = newest.take(expected.len()).collect();
        ensure!(newest == expected, "{group}: {history:?}");
        Ok(())
    }
}

impl Group {
    fn new((name, index): (&'static str, u16)) -> Self {
        let at = |port| SocketAddr::from((VIP, port));
        Self {
            name,
            service: at(9000 + index),
            preview: at(9100 + index),
            endpoints: [0, 1].map(|colour| at(9200 + 2 * index + colour)),
        }
    }

    fn config(&self) -> String {
        let Self {
            name,
            service,
            preview,
            endpoints: [blue, green],
        } = self;
        format!(
            "\n[groups.{name}]\ninitial = \"blue\"\ndrain = {DRAIN}\nhealth = {HEALTH}\n\
             [groups.{name}.services.web]\nvip = \"{service}/tcp\"\npreview = \"{preview}\"\n\
             forward = \"local\"\nendpoints.blue = [\"{blue}\"]\nendpoints.green = [\"{green}\"]\n"
        )
    }

    /// Where clients are answered, and where only testers are.
    pub(crate) fn urls(&self) -> (String, String) {
        let url = |address| format!("http://{address}");
        (url(self.service), url(self.preview))
    }
}

const DRAIN: &str = "{ arm = \"20ms\", learn = \"200ms\", deadline = \"60s\" }";
/// Quick to find out.
pub(crate) const HEALTH: &str = "{ kind = \"http\", path = \"/healthz\", interval = \"100ms\", timeout = \"10s\", \
                                 rise = 1, fall = 5 }";

/// Writes a program.
pub(crate) fn program(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// Waits for what is to happen by itself.
pub(crate) fn until(what: &str, mut met: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = std::time::Instant::now() + Duration::from_secs(120);
    while !met()? {
        ensure!(
            std::time::Instant::now() < deadline,
            "{what}: waited in vain"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
