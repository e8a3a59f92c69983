//! Load by `wrk`.

use std::net::SocketAddr;
use std::process::{Child, Stdio};

use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::site::Site;

/// Prints what is wanted as JSON.
const SCRIPT: &str = r#"done = function(all, latency)
  local e = all.errors
  io.stderr:write(string.format('{"requests":%d,"us":%d,"errors":%d,"p50":%d,"p99":%d,"p999":%d}',
    all.requests, all.duration, e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
"#;

/// What clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// One request after the other.
    KeepAlive,
    /// A connection for each.
    New,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Done {
    pub(crate) requests: f64,
    pub(crate) seconds: f64,
    pub(crate) errors: f64,
    /// Microseconds: of a half, of 99 and of 99.9 % of all answers.
    pub(crate) latency: [f64; 3],
}

/// Clients that go on until they are stopped, or their time is over.
pub(crate) struct Load(Child);

impl Load {
    pub(crate) fn start(site: &Site, at: SocketAddr, work: Work, seconds: u32) -> Result<Self> {
        let script = site.file("wrk.lua");
        std::fs::write(&script, SCRIPT)?;
        let mut command = site.topology.client.command("wrk");
        command.args(["-t1", "-c32", &format!("-d{seconds}s"), "-s", &script]);
        if work == Work::New {
            command.args(["-H", "Connection: close"]);
        }
        command.arg(format!("http://{at}/"));
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = quiet.stderr(Stdio::piped()).spawn();
        Ok(Self(child.context("starting wrk")?))
    }

    /// Waits for its end.
    pub(crate) fn finish(self) -> Result<Done> {
        let output = self.0.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        let value: Value =
            serde_json::from_str(&said).with_context(|| format!("wrk said {said:?}"))?;
        let number = |key: &str| {
            let number = value[key].as_f64();
            number.with_context(|| format!("wrk did not say {key}: {said}"))
        };
        Ok(Done {
            requests: number("requests")?,
            seconds: number("us")? / 1e6,
            errors: number("errors")?,
            latency: [number("p50")?, number("p99")?, number("p999")?],
        })
    }

    /// Ends it now.
    pub(crate) fn stop(self) -> Result<Done> {
        kill(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGINT)?;
        self.finish()
    }
}
