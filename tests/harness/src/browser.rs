//! A browser without a window, driven by Chrome's DevTools protocol over a pipe.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::Namespace;
pub use passport::Passport;

mod passport;

/// The whole of it: the shell that has no windows at all can't show certificates.
const PROGRAM: &str = "chromium";
/// It reads commands from descriptor 3, and answers to 4. What it is told as a rule for this host is in a place of its own.
const SCRIPT: &str = "if [ -n \"$BROWSER_POLICY\" ]; then rules=/etc/chromium/policies/managed \\
    && mount -t tmpfs none /etc/chromium && mkdir -p $rules && cp \"$BROWSER_POLICY\" $rules; fi \\
    && exec \"$@\" 3<&0 4>&1 </dev/null >\"$BROWSER_LOG\" 2>&1";
/// Nothing that it does by itself, and nothing that it would need a privilege for.
const FLAGS: [&str; 12] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
    "--lang=en",
];
/// How long anything may take. The machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// One page of a browser of its own. Dropped, the browser ends with all its processes.
#[derive(Debug)]
pub struct Browser {
    child: Child,
    commands: ChildStdin,
    messages: Receiver<Value>,
    last: u64,
    session: String,
    complaints: Vec<String>,
    log: PathBuf,
}

impl Browser {
    /// Starts one in a namespace. What it writes is in `directory`, which must be empty.
    ///
    /// # Errors
    /// When there is none, or it does not start.
    pub fn start(namespace: &Namespace, directory: &Path) -> Result<Self> {
        Self::begin(namespace, directory, None)
    }

    /// The same for somebody who has a certificate, and shows it to whoever asks.
    ///
    /// # Errors
    /// When there is none, or it does not start.
    pub fn start_with(
        namespace: &Namespace,
        directory: &Path,
        passport: &Passport<'_>,
    ) -> Result<Self> {
        let policy = passport.lay_down(directory)?;
        Self::begin(namespace, directory, Some(&policy))
    }

    fn begin(namespace: &Namespace, directory: &Path, policy: Option<&Path>) -> Result<Self> {
        ensure!(
            is_there(PROGRAM),
            "no {PROGRAM} is here: run `cargo xtask setup`"
        );
        let log = directory.join("browser.log");
        let mut child = namespace
            .command("unshare")
            .args(["--mount", "sh", "-c", SCRIPT, "browser", PROGRAM])
            .args(FLAGS)
            .arg(format!(
                "--user-data-dir={}",
                directory.join("profile").display()
            ))
            .arg("about:blank")
            .env("BROWSER_LOG", &log)
            .env("BROWSER_POLICY", policy.unwrap_or(Path::new("")))
            .env("HOME", directory)
            .env_remove("DBUS_SESSION_BUS_ADDRESS")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {PROGRAM}"))?;
        let commands = child.stdin.take().context("it is piped")?;
        let answers = child.stdout.take().context("it is piped")?;
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            let answers = BufReader::new(answers).split(0);
            for message in answers.map_while(std::io::Result::ok) {
                let Ok(message) = serde_json::from_slice(&message) else {
                    return;
                };
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let mut browser = Self {
            child,
            commands,
            messages,
            last: 0,
            session: String::new(),
            complaints: Vec::new(),
            log,
        };
        let target = browser.call("Target.createTarget", &json!({ "url": "about:blank" }))?;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let session = browser.call("Target.attachToTarget", &attach)?;
        let session = session["sessionId"].as_str().context("it has a session")?;
        session.clone_into(&mut browser.session);
        for domain in ["Page", "Runtime", "Log"] {
            browser.call(&format!("{domain}.enable"), &json!({}))?;
        }
        Ok(browser)
    }

    /// Opens a page and waits until it has loaded.
    ///
    /// # Errors
    /// When it can't be loaded.
    pub fn open(&mut self, url: &str) -> Result<()> {
        let opened = self.call("Page.navigate", &json!({ "url": url }))?;
        ensure!(opened.get("errorText").is_none(), "{url}: {opened}");
        self.until("document.readyState === 'complete' && location.protocol !== 'about:'")
    }

    /// What an expression is, once it is known.
    ///
    /// # Errors
    /// When it throws.
    pub fn evaluate(&mut self, expression: &str) -> Result<Value> {
        let asked =
            json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let answer = self.call("Runtime.evaluate", &asked)?;
        ensure!(
            answer.get("exceptionDetails").is_none(),
            "{expression}: {}",
            answer["exceptionDetails"]
        );
        Ok(answer["result"]["value"].clone())
    }

    /// What an expression is, as text.
    ///
    /// # Errors
    /// When it throws, or is no text.
    pub fn text(&mut self, expression: &str) -> Result<String> {
        let value = self.evaluate(expression)?;
        let text = value.as_str().map(ToOwned::to_owned);
        text.with_context(|| format!("{expression} is {value}"))
    }

    /// Waits until an expression is true.
    ///
    /// # Errors
    /// When it never is; with what the page says then.
    pub fn until(&mut self, expression: &str) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        // While a page is being left, there is nothing to ask.
        while !self.evaluate(expression).is_ok_and(|it| it == true) {
            if Instant::now() > deadline {
                let body = self.evaluate("document.body.innerText");
                bail!(
                    "never true: {expression}\nthe page: {body:?}\n{:?}",
                    self.complaints
                );
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Presses a key, where the focus is: `Tab`, `Enter`, `Escape`, or a letter.
    ///
    /// # Errors
    /// When the browser does not answer.
    pub fn press(&mut self, key: &str) -> Result<()> {
        let (code, text) = match key {
            "Tab" => (9, ""),
            "Enter" => (13, "\r"),
            "Escape" => (27, ""),
            letter => (0, letter),
        };
        let kind = if text.is_empty() {
            "rawKeyDown"
        } else {
            "keyDown"
        };
        let event = json!({
            "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, "text": text
        });
        self.call("Input.dispatchKeyEvent", &event)?;
        let event =
            json!({ "type": "keyUp", "key": key, "code": key, "windowsVirtualKeyCode": code });
        self.call("Input.dispatchKeyEvent", &event).map(drop)
    }

    /// Clicks with the mouse at what an expression is: an element.
    ///
    /// # Errors
    /// When there is no such element.
    pub fn click(&mut self, element: &str) -> Result<()> {
        let place = format!(
            "(() => {{ const it = {element}; it.scrollIntoView({{ block: 'center' }}); \
             const at = it.getBoundingClientRect(); \
             return [at.x + at.width / 2, at.y + at.height / 2]; }})()"
        );
        let place = self.evaluate(&place)?;
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({
                "type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1
            });
            self.call("Input.dispatchMouseEvent", &event)?;
        }
        Ok(())
    }

    /// How wide and high its window is, and whether its user likes it dark.
    ///
    /// # Errors
    /// When the browser does not answer.
    pub fn look(&mut self, width: u32, height: u32, dark: bool) -> Result<()> {
        let metrics =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", &metrics)?;
        let scheme = if dark { "dark" } else { "light" };
        // What fades from one colour to another is neither for a moment.
        let media = json!({ "features": [
            { "name": "prefers-color-scheme", "value": scheme },
            { "name": "prefers-reduced-motion", "value": "reduce" },
        ] });
        self.call("Emulation.setEmulatedMedia", &media).map(drop)
    }

    /// The whole page as a PNG, in base64.
    ///
    /// # Errors
    /// When the browser does not answer.
    pub fn screenshot(&mut self) -> Result<String> {
        let whole = json!({ "format": "png", "captureBeyondViewport": true });
        let shot = self.call("Page.captureScreenshot", &whole)?;
        let data = shot["data"].as_str().map(ToOwned::to_owned);
        data.context("there is a picture")
    }

    /// What went wrong on its pages: exceptions, and what their policies forbid.
    #[must_use]
    pub fn complaints(&self) -> &[String] {
        &self.complaints
    }

    fn call(&mut self, method: &str, params: &Value) -> Result<Value> {
        self.last += 1;
        let mut command = json!({ "id": self.last, "method": method, "params": params });
        if !self.session.is_empty() {
            command["sessionId"] = json!(self.session);
        }
        let mut command = serde_json::to_vec(&command)?;
        command.push(0);
        let sent = self.commands.write_all(&command);
        sent.with_context(|| self.gone(method))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let message = self.messages.recv_timeout(left);
            let message = message.with_context(|| self.gone(method))?;
            self.hear(&message);
            if message["id"] == self.last {
                let error = message.get("error");
                ensure!(error.is_none(), "{method} {params}: {error:?}");
                return Ok(message["result"].clone());
            }
        }
    }

    fn hear(&mut self, message: &Value) {
        let params = &message["params"];
        match message["method"].as_str() {
            Some("Runtime.exceptionThrown") => self.complaints.push(params.to_string()),
            // That something was refused, it logs as an error of the network.
            Some("Log.entryAdded")
                if params["entry"]["level"] == "error"
                    && params["entry"]["source"] != "network" =>
            {
                self.complaints.push(params["entry"].to_string());
            }
            _ => {}
        }
    }

    fn gone(&self, method: &str) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        format!("{method}: the browser does not answer\n{log}")
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if let Ok(group) = i32::try_from(self.child.id()) {
            let _gone = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
        let _reaped = self.child.wait();
    }
}

fn is_there(program: &str) -> bool {
    let asked = Command::new("sh")
        .args(["-c", "command -v \"$0\"", program])
        .stdout(Stdio::null())
        .status();
    asked.is_ok_and(|it| it.success())
}
